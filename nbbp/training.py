"""fit: epochs, mini-batches and validation around programs that run without Python.

A run of steps comes back to Python every few hundredths of a second, so that Ctrl-C, the progress bar and time limits
are served between mini-batches; several short epochs go in one run when nothing has to be seen after each.
"""

import dataclasses
import hashlib
import itertools
import math
from collections.abc import Callable

import numpy as np

from nbbp import program as prog
from nbbp.history import History
from nbbp.kernels import arrays, random, threads
from nbbp.kernels.gemm import column_sums
from nbbp.losses import Loss
from nbbp.network import Network
from nbbp.program import Program, Runner, accumulate
from nbbp.updating import Update

RUN_SECONDS = 0.05  # between two returns to Python
LANE_ROWS = 64  # in a lane at least
LANE_PARAMETERS = 32_768  # beyond, adding the lanes' gradients costs more than the forks
ROWS_TOGETHER = 1 << 16  # epochs shorter than this go together
SHUFFLING = 1  # the stream of random numbers that orders rows


class DivergenceError(ArithmeticError, ValueError):
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


@dataclasses.dataclass(frozen=True)
class Data:
    """Rows to train on or to measure.

    Attributes
    ----------
    x : ndarray (rows, *input_shape)
    target : ndarray (rows, columns)
        What the loss compares with, in its form: see `nbbp.checks.targets`.
    truth : ndarray (rows, columns)
        What metrics compare with: targets before labels were smoothed.
    weights : ndarray (rows,) or None
        How much each row counts; None for 1.
    """

    x: np.ndarray
    target: np.ndarray
    truth: np.ndarray
    weights: np.ndarray | None = None

    def part(self, rows) -> "Data":
        """Some of the rows: a slice, or their numbers."""
        weights = None if self.weights is None else self.weights[rows]
        return Data(self.x[rows], self.target[rows], self.truth[rows], weights)

    def digests(self) -> dict[str, str | None]:
        """Short digests of X, y and the weights in the form that kernels take; about a second for each GB."""
        named = {"X": self.x, "y": self.truth, "weights": self.weights}
        return {name: None if array is None else _digest(array) for name, array in named.items()}

    def overwrite(self, other: "Data") -> None:
        """Put other rows, as many or fewer, in the place of the first."""
        for field in dataclasses.fields(self):
            if (mine := getattr(self, field.name)) is not None:
                mine[: len(other.x)] = getattr(other, field.name)


def _digest(array: np.ndarray) -> str:
    digest = hashlib.sha256(f"{array.dtype.str} {array.shape}".encode())
    digest.update(np.ascontiguousarray(array).data)
    return f"SHA-256 {digest.hexdigest()[:16]}"


class Trainer:
    """A network, its loss and its update, bound to training data.

    Parameters
    ----------
    batch_size : int
        Rows of a mini-batch.
    parts : int
        How many pieces of `batch_size` rows go through the network one after the other before an update is made from
        all of them.
    shuffle : bool
        Whether every epoch has an order of its own, which the network's seed decides.
    epoch_by_epoch : bool
        Whether every epoch has to be seen; else short ones go together, to spare the way through Python.
    record_outputs : bool
        Whether the outputs of every step are kept, for metrics.
    rest_of_more : bool
        Whether these are the rows that are left of others, and may be too few for a whole mini-batch.
    mean_weight : float, optional
        Where it is given, the loss of a mini-batch is (sum w l + parts batch_size penalty) mean_weight / sum w, and 0
        where no row counts. Else it is sum w l / n + penalty, with n rows.
    clock : ndarray, optional
        Given where several trainers run side by side, each on one thread.
    """

    def __init__(
        self,
        network: Network,
        loss: Loss,
        update: Update,
        data: Data,
        batch_size: int,
        backend: str,
        *,
        parts: int = 1,
        shuffle: bool = True,
        epoch_by_epoch: bool = True,
        record_outputs: bool = False,
        rest_of_more: bool = False,
        mean_weight: float | None = None,
        clock: np.ndarray | None = None,
        progress: Callable = iter,
    ) -> None:
        self.network, self.loss, self.update, self.data = network, loss, update, data
        self.rows = len(data.x)
        self._part_rows = min(batch_size, self.rows)
        if self._part_rows == 1 and not rest_of_more and network.layout.couples_rows:
            raise ValueError(
                "BatchNorm takes mean and deviation over the rows of a mini-batch, and here each has one row: "
                "take batch_size=2 or more, or LayerNorm"
            )
        self.batch_size = min(parts * self._part_rows, self.rows)
        self.steps_per_epoch = -(-self.rows // self.batch_size)
        self.epochs_together = 1 if epoch_by_epoch else max(1, ROWS_TOGETHER // self.rows)
        steps, rows = self.epochs_together * self.steps_per_epoch, self.epochs_together * self.rows
        self.clock = prog.new_clock() if clock is None else clock
        self._shuffle, self._pace = shuffle, threads.Pace(RUN_SECONDS)
        self._stream = random.stream(network.seed, SHUFFLING)
        self._orders = arrays.copied(np.tile(np.arange(self.rows), (self.epochs_together, 1)))
        self._keys = arrays.zeros(self.epochs_together, np.uint64)
        self.order = self._orders.reshape(-1)
        shuffling = Program(backend, network.params.dtype, rows)
        shuffling.call(random.shuffle, self._orders, self._keys)
        self._shuffling = Runner(shuffling)
        self.numbers = arrays.zeros((steps, update.numbers(0, 1).shape[1]), network.params.dtype)
        self.step_loss = arrays.zeros(steps, np.float64)
        self._mean_weight, self._penalty_rows = mean_weight, parts * batch_size
        self._shares = arrays.zeros((steps, 1), network.params.dtype)  # of a row of weight 1 in each step's loss
        outputs = int(np.prod(network.layout.output_shape))
        self.outputs = arrays.zeros((rows, outputs), network.params.dtype) if record_outputs else None
        self._backend, self._alone = backend, clock is not None
        self._bind(progress)

    def _bind(self, progress: Callable = iter) -> None:
        """Bind the steps anew, with the network's mask as it is now."""
        self._mask, rest = self.network.mask, self.rows % self.batch_size
        self._strengths: list[tuple[np.ndarray, np.ndarray]] = []  # of a penalty: in each step, and as it was given
        last = self._bind_step(rest) if rest else None
        self.runner = Runner(self._bind_step(self.batch_size), last, progress, self._alone)

    def _bind_step(self, rows: int) -> Program:
        """A training step of `rows` rows: gather, forward, loss, backward, update."""
        network = self.network
        program = Program(self._backend, network.params.dtype, rows, clock=self.clock, seed=network.seed)
        row_loss, scale = program.buffer(rows), program.buffer(rows)
        scale[:] = 1 / rows
        share = scale[:1].copy()
        if self._mean_weight is not None:
            program.call(prog.take_row, share, self._shares, self.clock)
        if rows > self._part_rows:
            self._bind_parts(program, row_loss, scale, share)
        else:
            self._bind_lanes(program, row_loss, scale, share)
        penalty = program.buffer(1)
        self._bind_penalties(program, penalty)
        program.call(prog.record_loss, self.step_loss, row_loss, scale, penalty, self.clock)
        numbers = program.buffer(self.numbers.shape[1])
        program.call(prog.take_row, numbers, self.numbers, self.clock)
        self.update.bind(program, numbers)
        return program

    def _bind_penalties(self, program: Program, total: np.ndarray) -> None:
        """The layers' penalties, with the strengths of each step."""
        penalties = program.part(slice(0, program.rows))
        for numbers in self.network.penalize(penalties, total, self.network.grads):
            if self._mean_weight is not None:
                table = arrays.zeros((len(self._shares), len(numbers)), program.dtype)
                self._strengths.append((table, numbers.copy()))
                program.call(prog.take_row, numbers, table, self.clock)
        program.calls += penalties.calls

    def _bind_lanes(self, program: Program, row_loss: np.ndarray, scale: np.ndarray, share: np.ndarray) -> None:
        """The mini-batch in one piece, or in lanes side by side."""
        layout, grads = self.network.layout, self.network.grads
        lanes = [slice(0, program.rows)] if layout.couples_rows else row_lanes(program.rows, layout.size)
        if len(lanes) == 1:
            self._bind_rows(program, row_loss, scale, share, grads)
            return
        lane_grads = program.buffer(len(lanes), len(grads))
        programs = [program.part(lane) for lane in lanes]
        for part, lane, own in zip(programs, lanes, lane_grads, strict=True):
            self._bind_rows(part, row_loss[lane], scale[lane], share, own)
        program.call_lanes(programs)
        program.call(column_sums, grads, lane_grads)

    def _bind_parts(self, program: Program, row_loss: np.ndarray, scale: np.ndarray, share: np.ndarray) -> None:
        """The mini-batch in parts one after the other, in the same buffers; their gradients are added."""
        part_grads, part = program.buffer(len(self.network.grads)), None
        for begin in range(0, program.rows, self._part_rows):
            rows = slice(begin, min(begin + self._part_rows, program.rows))
            part = program.part(rows, after=part)
            self._bind_rows(part, row_loss[rows], scale[rows], share, part_grads if begin else self.network.grads)
            program.calls += part.calls
            if begin:
                program.call(accumulate, self.network.grads, part_grads)

    def _bind_rows(
        self, program: Program, row_loss: np.ndarray, scale: np.ndarray, share: np.ndarray, grads: np.ndarray
    ) -> None:
        """Gather, forward, loss and backward of the rows of a program."""
        x = self.network.input(program)
        target = arrays.zeros((program.rows, self.data.target.shape[1]), self.data.target.dtype)
        order = self.order[program.first_row :]
        flat, data_flat = x.reshape(program.rows, -1), self.data.x.reshape(self.rows, -1)
        program.call(prog.gather, flat, data_flat, target, self.data.target, order, self.clock)
        if self.data.weights is not None:
            program.call(prog.weigh, scale, self.data.weights, share, order, self.clock)
        z = self.network.gradients(program, self.loss, x, target, row_loss, scale, grads)
        if self.outputs is not None:
            program.call(prog.record_rows, self.outputs[program.first_row :], z, self.clock)

    def train(
        self,
        epochs: int,
        epochs_done: int,
        steps_done: int = 0,
        after: Callable[[int], None] = lambda steps: None,
        pause_in: Callable[[int], float] = lambda step: math.inf,
    ) -> int:
        """Train for some epochs; returns the number of steps that were completed.

        Parameters
        ----------
        epochs : int
            At most `epochs_together`.
        epochs_done : int
            Epochs that the data have seen before.
        steps_done : int
            Steps of the first epoch that were made before.
        after
            Called with the number of steps done since it was last called; it may raise. `update.steps` counts them. An
            epoch that goes on begins with a call.
        pause_in
            Given the model's steps, after how many more `after` is called at the latest.
        """
        clock = self.clock
        self.begin(epochs, epochs_done, steps_done)

        def run(most: int) -> int:
            done = int(clock[prog.STEP])
            if self.update.optimizer is not self._numbered:
                self._number()
            if self.network.mask is not self._mask:  # a callback has pruned
                self._bind()
                self._divide()
            self.allow(int(min(most, pause_in(self.update.steps))))
            try:
                self.runner.run()
            finally:
                self.count()
            return int(clock[prog.STEP]) - done

        if steps_done:
            after(0)
        while not self.finished:
            done = int(clock[prog.STEP])
            self._pace.run(run)
            after(int(clock[prog.STEP]) - done)
        return int(clock[prog.STEP])

    def begin(self, epochs: int, epochs_done: int, steps_done: int = 0) -> None:
        """Order the rows of some epochs and set the clock to their beginning, or to a step of the first."""
        self._steps = epochs * self.steps_per_epoch
        if self._shuffle:
            epoch = np.arange(epochs_done, epochs_done + len(self._keys), dtype=np.uint64)
            self._keys[:] = random.bits(self._stream, epoch)
            self._shuffling.once()
        before = self.update.steps - steps_done
        self.clock[:] = 0
        self.clock[prog.BATCHES], self.clock[prog.BEFORE] = self.steps_per_epoch, before
        self.clock[prog.STEP] = self.clock[prog.BATCH] = steps_done
        self.clock[prog.ROW] = steps_done * self.batch_size
        self._number()
        self._divide()

    def _number(self) -> None:
        """Note what each step's update needs to know of the optimizer as it is now."""
        self._numbered = self.update.optimizer
        self.numbers[: self._steps] = self.update.numbers(int(self.clock[prog.BEFORE]), self._steps)

    def _divide(self) -> None:
        """Note what each step's loss and penalties are multiplied by, now that the order of rows is there."""
        if self._mean_weight is None:
            return
        begins = np.arange(0, self.rows, self.batch_size)
        weights = np.ones(self.rows) if self.data.weights is None else self.data.weights.astype(np.float64)
        sums = np.add.reduceat(weights[self._orders], begins, axis=1).reshape(-1, 1)
        penalties = np.divide(self._penalty_rows * self._mean_weight, sums, out=np.zeros_like(sums), where=sums > 0)
        self._shares[:] = penalties / self._penalty_rows
        for table, given in self._strengths:
            table[:] = penalties * given

    def allow(self, steps: int) -> None:
        """Let the runner take so many more steps."""
        self.clock[prog.END] = min(self._steps, self.clock[prog.STEP] + steps)

    def count(self) -> None:
        """Add the steps that were taken to the model's."""
        self.update.steps = int(self.clock[prog.BEFORE] + self.clock[prog.STEP])

    @property
    def steps_done(self) -> int:
        """Of the epochs that were begun."""
        return int(self.clock[prog.STEP])

    @property
    def finished(self) -> bool:
        """Whether all steps of the epochs are done, or the loss is no longer finite."""
        return self.diverged or bool(self.clock[prog.STEP] >= self._steps)

    @property
    def diverged(self) -> bool:
        """Whether the loss is no longer finite."""
        return bool(self.clock[prog.STOP])

    def epoch_losses(self, epochs: int) -> list[float]:
        """Mean over the rows, for each of the first epochs."""
        steps = self.steps_per_epoch
        rows = np.minimum(self.batch_size, self.rows - np.arange(steps) * self.batch_size)
        return np.sum(self.step_loss[: epochs * steps].reshape(epochs, steps) * (rows / self.rows), axis=1).tolist()
