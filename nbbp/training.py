"""fit: epochs, mini-batches and validation around programs that run without Python.

A run of steps comes back to Python every few hundredths of a second, so that Ctrl-C, the progress bar and time limits
are served between mini-batches; several short epochs go in one run when nothing has to be seen after each.
"""

import time
from collections.abc import Callable

import numpy as np
from tqdm.auto import tqdm

from nbbp import program as prog
from nbbp.history import History
from nbbp.losses import Loss
from nbbp.network import Network
from nbbp.optimizers import Optimizer
from nbbp.program import Program, Runner

RUN_SECONDS = 0.05  # between two returns to Python
ROWS_PER_SPAN = 1 << 16  # epochs shorter than this go together in one span


class DivergenceError(ArithmeticError):
    """The loss is no longer finite.

    Attributes
    ----------
    epoch, step : int
        Where, both counted from 1; the step within the epoch.
    history : History
        All until then, the offending step's loss included.
    """

    def __init__(self, epoch: int, step: int, history: History) -> None:
        self.epoch, self.step, self.history = epoch, step, history
        super().__init__(
            f"the loss became {history.step_loss[-1]} in epoch {epoch}, step {step}: try a smaller learning rate, "
            f"or features scaled to mean 0 and deviation 1"
        )


def compiling(calls):
    """Progress over calls that may have to be compiled; silent when they come from the cache."""
    return tqdm(calls, desc="compiling kernels, once", unit="kernel", delay=0.5, leave=False)


class Trainer:
    """A network, its loss and optimizer, bound to training data.

    Parameters
    ----------
    x : ndarray (rows, *input_shape)
    target : ndarray (rows, columns)
        In the loss's form: see `nbbp.checks.targets`.
    moments : list of ndarray
        The optimizer's flat arrays.
    record_outputs : bool
        Whether the outputs of every step are kept, for metrics.
    """

    def __init__(
        self,
        network: Network,
        loss: Loss,
        optimizer: Optimizer,
        moments: list[np.ndarray],
        x: np.ndarray,
        target: np.ndarray,
        batch_size: int,
        backend: str,
        record_outputs: bool,
        progress: Callable = iter,
    ) -> None:
        self.network, self.loss, self.optimizer, self.moments = network, loss, optimizer, moments
        self.rows, self.batch_size = len(x), min(batch_size, len(x))
        self.x, self.target = x.reshape(len(x), -1), target
        self.steps_per_epoch = -(-self.rows // self.batch_size)
        self.epochs_per_span = max(1, ROWS_PER_SPAN // self.rows)
        steps, rows = self.epochs_per_span * self.steps_per_epoch, self.epochs_per_span * self.rows
        self.clock = prog.clock()
        self.order = np.zeros(rows, np.int64)
        self.numbers = np.zeros((steps, optimizer.numbers(np.ones(1, np.int64)).shape[1]), network.params.dtype)
        self.step_loss = np.zeros(steps)
        outputs = int(np.prod(network.layout.output_shape))
        self.outputs = np.zeros((rows, outputs), network.params.dtype) if record_outputs else None
        whole = self._bind(backend, self.batch_size)
        rest = self.rows % self.batch_size
        self.runner = Runner(whole, self.clock, self._bind(backend, rest, sharing=whole) if rest else None, progress)

    def _bind(self, backend: str, rows: int, sharing: Program | None = None) -> Program:
        """A training step of `rows` rows: gather, forward, loss, backward, update."""
        network = self.network
        program = Program(backend, network.params.dtype, rows, sharing=sharing)
        x, target = network.input(program), np.zeros((rows, self.target.shape[1]), self.target.dtype)
        program.call(prog.gather, x.reshape(rows, -1), self.x, self.order, self.clock)
        program.call(prog.gather, target, self.target, self.order, self.clock)
        bound = network.gradients(program, self.loss, x, target)
        if self.outputs is not None:
            program.call(prog.record_rows, self.outputs, bound.z, self.clock)
        program.call(prog.record_loss, self.step_loss, bound.row_loss, bound.scale, self.clock)
        numbers = np.zeros(self.numbers.shape[1], program.dtype)
        program.call(prog.take_row, numbers, self.numbers, self.clock)
        program.call(self.optimizer.kernel, network.params, network.grads, *self.moments, numbers)
        return program

    def train(self, order: np.ndarray, steps_done: int, after: Callable[[int], None]) -> int:
        """Train on the rows in `order`, whole epochs of them; returns the number of steps that were completed.

        Parameters
        ----------
        order : integer array (epochs * rows,)
        steps_done : int
            Steps that the optimizer has seen before.
        after
            Called with the number of steps done since it was last called; it may raise.
        """
        steps = len(order) // self.rows * self.steps_per_epoch
        self.order[: len(order)] = order
        self.numbers[:steps] = self.optimizer.numbers(np.arange(steps_done + 1, steps_done + steps + 1))
        clock, piece = self.clock, 1
        clock[:] = 0
        clock[prog.BATCHES] = self.steps_per_epoch
        while clock[prog.STEP] < steps and not clock[prog.STOP]:
            done, begin = int(clock[prog.STEP]), time.perf_counter()
            clock[prog.END] = min(steps, done + piece)
            self.runner.run()
            taken = max(time.perf_counter() - begin, 1e-9)
            done = int(clock[prog.STEP]) - done
            piece = max(1, min(int(done * RUN_SECONDS / taken), 4 * piece))
            after(done)
        return int(clock[prog.STEP])

    @property
    def diverged(self) -> bool:
        return bool(self.clock[prog.STOP])
