"""fit: epochs, mini-batches and validation around programs that run without Python.

A run of steps comes back to Python every few hundredths of a second, so that Ctrl-C, the progress bar and time limits
are served between mini-batches; several short epochs go in one run when nothing has to be seen after each.
"""

import itertools
from collections.abc import Callable

import numpy as np
from tqdm.auto import tqdm

from nbbp import program as prog
from nbbp.history import History
from nbbp.kernels import random, threads
from nbbp.kernels.gemm import column_sums
from nbbp.losses import Loss
from nbbp.network import Network
from nbbp.optimizers import Optimizer
from nbbp.program import Program, Runner

RUN_SECONDS = 0.05  # between two returns to Python
LANE_ROWS = 64  # in a lane at least
LANE_PARAMETERS = 32_768  # beyond, adding the lanes' gradients costs more than the forks
ROWS_TOGETHER = 1 << 16  # epochs shorter than this go together
SHUFFLING = 1  # the stream of random numbers that orders rows


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


def row_lanes(rows: int, parameters: int) -> list[slice]:
    """How a mini-batch is cut into rows that go through the whole network by themselves, one thread to a lane.

    Where it is cut, a step has one fork and join instead of one for each kernel, and what a lane computes stays in its
    core's cache; but every lane has gradients of its own, which have to be added. The cut depends on shapes alone,
    never on threads: it decides the order in which gradients are summed, and so their bits.
    """
    lanes = 1
    while parameters <= LANE_PARAMETERS and lanes < 16 and rows >= 2 * lanes * LANE_ROWS:
        lanes *= 2
    edges = [rows * i // lanes for i in range(lanes + 1)]
    return [slice(a, b) for a, b in itertools.pairwise(edges)]


class Trainer:
    """A network, its loss and optimizer, bound to training data.

    Parameters
    ----------
    x : ndarray (rows, *input_shape)
    target : ndarray (rows, columns)
        In the loss's form: see `nbbp.checks.targets`.
    moments : list of ndarray
        The optimizer's flat arrays.
    seed : int or None
        Decides the order of rows in each epoch; None leaves them as they are.
    epoch_by_epoch : bool
        Whether every epoch has to be seen; else short ones go together, to spare the way through Python.
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
        seed: int | None,
        epoch_by_epoch: bool,
        record_outputs: bool,
        progress: Callable = iter,
    ) -> None:
        self.network, self.loss, self.optimizer, self.moments = network, loss, optimizer, moments
        self.rows, self.batch_size = len(x), min(batch_size, len(x))
        self.x, self.target = x.reshape(len(x), -1), target
        self.steps_per_epoch = -(-self.rows // self.batch_size)
        self.epochs_together = 1 if epoch_by_epoch else max(1, ROWS_TOGETHER // self.rows)
        steps, rows = self.epochs_together * self.steps_per_epoch, self.epochs_together * self.rows
        self.clock = prog.new_clock()
        self._seed, self._pace = seed, threads.Pace(RUN_SECONDS)
        self._orders = np.tile(np.arange(self.rows), (self.epochs_together, 1))
        self._keys = np.zeros(self.epochs_together, np.uint64)
        self.order = self._orders.reshape(-1)
        shuffling = Program(backend, network.params.dtype, rows)
        shuffling.call(random.shuffle, self._orders, self._keys)
        self._shuffling = Runner(shuffling)
        self.numbers = np.zeros((steps, optimizer.numbers(np.ones(1, np.int64)).shape[1]), network.params.dtype)
        self.step_loss = np.zeros(steps)
        outputs = int(np.prod(network.layout.output_shape))
        self.outputs = np.zeros((rows, outputs), network.params.dtype) if record_outputs else None
        rest = self.rows % self.batch_size
        last = self._bind(backend, rest) if rest else None
        self.runner = Runner(self._bind(backend, self.batch_size), self.clock, last, progress)

    def _bind(self, backend: str, rows: int) -> Program:
        """A training step of `rows` rows: gather, forward, loss, backward, update."""
        network = self.network
        program = Program(backend, network.params.dtype, rows)
        row_loss, scale = program.buffer(rows), np.full(rows, 1 / rows, program.dtype)
        lanes = row_lanes(rows, network.layout.size)
        if len(lanes) == 1:
            self._bind_rows(program, lanes[0], row_loss, scale, network.grads)
        else:
            grads = program.buffer(len(lanes), len(network.grads))
            programs = [Program(backend, program.dtype, lane.stop - lane.start) for lane in lanes]
            for part, lane, lane_grads in zip(programs, lanes, grads, strict=True):
                self._bind_rows(part, lane, row_loss[lane], scale[lane], lane_grads)
            program.call_lanes(programs)
            program.call(column_sums, network.grads, grads)
        program.call(prog.record_loss, self.step_loss, row_loss, scale, self.clock)
        numbers = np.zeros(self.numbers.shape[1], program.dtype)
        program.call(prog.take_row, numbers, self.numbers, self.clock)
        program.call(self.optimizer.kernel, network.params, network.grads, *self.moments, numbers)
        return program

    def _bind_rows(self, program: Program, lane: slice, row_loss: np.ndarray, scale: np.ndarray, grads) -> None:
        """Gather, forward, loss and backward of some rows of a mini-batch."""
        x, target = self.network.input(program), np.zeros((program.rows, self.target.shape[1]), self.target.dtype)
        order = self.order[lane.start :]
        program.call(prog.gather, x.reshape(program.rows, -1), self.x, target, self.target, order, self.clock)
        z = self.network.gradients(program, self.loss, x, target, row_loss, scale, grads)
        if self.outputs is not None:
            program.call(prog.record_rows, self.outputs[lane.start :], z, self.clock)

    def train(self, epochs: int, epochs_done: int, steps_done: int, after: Callable[[int], None]) -> int:
        """Train for some epochs; returns the number of steps that were completed.

        Parameters
        ----------
        epochs : int
            At most `epochs_together`.
        epochs_done, steps_done : int
            Epochs that the data, and steps that the optimizer have seen before.
        after
            Called with the number of steps done since it was last called; it may raise.
        """
        steps = epochs * self.steps_per_epoch
        if self._seed is not None:
            self._keys[:] = [random.stream(self._seed, SHUFFLING, epochs_done + e) for e in range(len(self._keys))]
            self._shuffling.once()
        self.numbers[:steps] = self.optimizer.numbers(np.arange(steps_done + 1, steps_done + steps + 1))
        clock = self.clock
        clock[:] = 0
        clock[prog.BATCHES] = self.steps_per_epoch

        def run(most: int) -> int:
            done = int(clock[prog.STEP])
            clock[prog.END] = min(steps, done + most)
            self.runner.run()
            return int(clock[prog.STEP]) - done

        while clock[prog.STEP] < steps and not clock[prog.STOP]:
            done = int(clock[prog.STEP])
            self._pace.run(run)
            after(int(clock[prog.STEP]) - done)
        return int(clock[prog.STEP])

    @property
    def diverged(self) -> bool:
        return bool(self.clock[prog.STOP])
