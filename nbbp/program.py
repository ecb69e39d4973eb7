"""Bound calls: which kernel runs on which arrays, and how a list of them runs without Python in between."""

import dataclasses

import numpy as np
from numba import prange

from nbbp.kernels import arrays, random, threads
from nbbp.kernels.jit import Kernel, address, call, compiled, device, kernel, padded_block
from nbbp.kernels.pointers import at, prefetch
from nbbp.kernels.threads import PIECE
from nbbp.kernels.vector_math import flushed

BACKENDS = ("numba", "numpy")

# A clock is eight integers that the calls of a program and its runner share.
STEP = 0  # of this run, counted from 0
END = 1  # the step before which the run stops
ROW = 2  # where in the order of rows the mini-batch begins
BATCH = 3  # mini-batches done in this epoch
BATCHES = 4  # mini-batches in an epoch
STOP = 5  # set by a kernel that wants the run to end at once
BEFORE = 6  # steps that the model had done before this run


IN_LAYERS = 2  # the streams of random numbers that layers draw from
IN_UPDATES = 3  # the stream of an optimizer's


def new_clock() -> np.ndarray:
    """A clock at step 0."""
    return arrays.zeros(8, np.int64)


Kernels = dict[tuple, tuple["Call", bool]]
"""By kernel, whether threads share its work, and kinds of arrays: a call that compiles it, and its `parallel`."""


@dataclasses.dataclass
class Call:
    """A kernel and the arrays that it runs on."""

    kernel: Kernel
    arrays: tuple[np.ndarray, ...]
    _block: np.ndarray | None = None

    def cycles(self) -> float:
        return self.kernel.cycles(self.arrays)

    def kernels(self, parallel: bool) -> Kernels:
        kinds = tuple((a.dtype, a.ndim) for a in self.arrays)
        return {(self.kernel, self._shared(parallel), kinds): (self, parallel)}

    def compile(self, parallel: bool) -> tuple[int, np.ndarray]:
        """Address of the machine code, and its arguments as integers."""
        if self._block is None:
            self._block = padded_block(self.arrays)
        return self.kernel.address(self.arrays, self._shared(parallel)), self._block

    def _shared(self, parallel: bool) -> bool:
        """Whether threads share the work."""
        return parallel and threads.worthwhile(self.cycles())

    def rebind(self, *arrays: np.ndarray) -> None:
        """Run on other arrays of the same dtypes and numbers of axes, compiled or not."""
        self.kernel.lengths(arrays)
        self.arrays = arrays
        if self._block is not None:
            self._block[:] = padded_block(arrays)

    def run_references(self, clock: np.ndarray) -> None:
        self.kernel.reference(*self.arrays)


@dataclasses.dataclass
class Lanes:
    """Programs that run side by side."""

    programs: "tuple[Program, ...]"
    _bound: tuple[np.ndarray, np.ndarray] | None = None

    def cycles(self) -> float:
        return 2 * sum(program.cycles() for program in self.programs)  # narrow kernels do not fill their vectors

    def kernels(self, parallel: bool) -> Kernels:
        return {code: first for program in self.programs for code, first in program.kernels(parallel=False).items()}

    def compile(self, parallel: bool) -> tuple[int, np.ndarray]:
        if self._bound is None:
            codes = np.stack([program.compile(parallel=False) for program in self.programs])
            self._bound = codes, padded_block([codes])
        codes, block = self._bound
        shared = parallel and threads.worthwhile(self.cycles())
        runner = _run_lanes_parallel if shared else _run_lanes_serial
        return address(runner, [codes]), block

    def run_references(self, clock: np.ndarray) -> None:
        for program in self.programs:
            program.run_references(clock)


def _run_lanes(codes):
    """Run the calls (lane, call, 3) of each lane in order; lanes are shared among threads."""
    for lane in prange(codes.shape[0]):
        for k in range(codes.shape[1]):
            call(codes[lane, k, 0], codes[lane, k, 1], codes[lane, k, 2])


_run_lanes_serial = compiled(_run_lanes, "run_lanes_serial")
_run_lanes_parallel = compiled(_run_lanes, "run_lanes_parallel", parallel=True)


class Program:
    """A list of kernel calls on arrays that stay where they are.

    Binding checks shapes and computes nothing. The arrays are kept alive here.

    Parameters
    ----------
    backend : {"numba", "numpy"}
        Compiled kernels, or their NumPy references.
    dtype
        Of the buffers.
    rows : int
        Rows of a mini-batch.
    training : bool
        Whether layers behave as in training.
    clock : ndarray, optional
        Shared with other programs of the same run.
    seed : int
        Of the random numbers that layers draw.
    first_row : int
        Of the mini-batch, where this program has a part of its rows.
    """

    def __init__(
        self, backend: str, dtype, rows: int, training: bool = True, clock: np.ndarray | None = None, seed: int = 0,
        first_row: int = 0,
    ) -> None:  # fmt: skip
        self.backend, self.dtype, self.rows, self.training = backend, np.dtype(dtype), rows, training
        self.clock = new_clock() if clock is None else clock
        self.first_row = first_row
        self.seed, self._streams = seed, 0
        self.calls: list[Call | Lanes] = []
        self._buffers: list[np.ndarray] = []
        self._used_before: list[np.ndarray] = []

    def part(self, rows: slice, after: "Program | None" = None) -> "Program":
        """An empty program for some rows of the same mini-batch.

        It takes the buffers of `after` again, one after another, where that is given: a part that has run before.
        """
        length, first = rows.stop - rows.start, self.first_row + rows.start
        part = Program(self.backend, self.dtype, length, self.training, self.clock, self.seed, first)
        if after is not None and after.rows == part.rows:
            part._used_before = list(after._buffers)
        return part

    def stream(self) -> np.uint64:
        """Key of a stream of random numbers that no other call has asked for; the same for the same layer each time."""
        self._streams += 1
        return random.stream(self.seed, IN_LAYERS, self._streams)

    def call(self, kernel: Kernel, *arrays: np.ndarray) -> Call:
        """Append a call of `kernel`."""
        kernel.lengths(arrays)
        if not kernel.trusted:
            kernel.check(*arrays)
        bound = Call(kernel, arrays)
        self.calls.append(bound)
        return bound

    def buffer(self, *shape: int) -> np.ndarray:
        """An array that holds what one call hands to a later one."""
        buffer = self._used_before.pop(0) if self._used_before else arrays.zeros(shape, self.dtype)
        self._buffers.append(buffer)
        return buffer

    def call_lanes(self, lanes: "list[Program]") -> None:
        """Append programs that run side by side, each by itself from its first call to its last.

        They have the same kernels, on arrays of their own.
        """
        self.calls.append(Lanes(tuple(lanes)))

    def cycles(self) -> float:
        """Roughly the processor cycles of one run on one thread."""
        return sum(bound.cycles() for bound in self.calls)

    def kernels(self, parallel: bool) -> Kernels:
        """What there is to compile, each once: many calls have the same machine code."""
        return {code: first for bound in self.calls for code, first in bound.kernels(parallel).items()}

    def compile(self, parallel: bool = True) -> np.ndarray:
        """Machine code of the calls: a row (entry address, address of its arguments, their words) for each.

        Kernels with enough work share it among threads where `parallel` allows it.
        """
        code = [bound.compile(parallel) for bound in self.calls]
        rows = [(address, block.ctypes.data, len(block)) for address, block in code]
        return np.array(rows, np.int64).reshape(len(rows), 3)

    def run_references(self, clock: np.ndarray) -> None:
        """Run the NumPy references of all calls, until one of them sets clock[STOP]."""
        for bound in self.calls:
            bound.run_references(clock)
            if clock[STOP]:
                return


def _run_steps(calls, rows, last_calls, last_rows, clock):
    """Run until clock[END] or clock[STOP]; returns 0, or which call failed, counted from 1.

    Every epoch has clock[BATCHES] steps, the last of them with `last_calls` on `last_rows` rows.
    """
    while clock[STEP] < clock[END] and not clock[STOP]:
        is_last = clock[BATCH] == clock[BATCHES] - 1
        due = last_calls if is_last else calls
        for k in range(len(due)):
            if call(due[k, 0], due[k, 1], due[k, 2]) != 0:
                return k + 1
            if clock[STOP]:
                return 0
        clock[ROW] += last_rows if is_last else rows
        clock[BATCH] = 0 if is_last else clock[BATCH] + 1
        clock[STEP] += 1
    return 0


def _run_once(calls):
    """Run the calls; returns 0, or which one failed, counted from 1."""
    for k in range(len(calls)):
        if call(calls[k, 0], calls[k, 1], calls[k, 2]) != 0:
            return k + 1
    return 0


_steps = device(_run_steps)


def _run_side_by_side(codes, sizes, clocks):
    """Run the steps of several programs, each on one thread: codes (programs, 2, calls, 3), sizes (programs, 2)."""
    for m in prange(codes.shape[0]):
        _steps(codes[m, 0], sizes[m, 0], codes[m, 1], sizes[m, 1], clocks[m, :8])


_run_steps_compiled = compiled(_run_steps, "run_steps")
_run_once_compiled = compiled(_run_once, "run_once")
_run_side_by_side_serial = compiled(_run_side_by_side, "run_side_by_side_serial")
_run_side_by_side_parallel = compiled(_run_side_by_side, "run_side_by_side_parallel", parallel=True)


class Runner:
    """Runs a program step after step; the last mini-batch of an epoch may have a program of its own.

    With `alone`, everything runs on the thread that calls; so it does where threads are lost, as in a forked child.
    """

    def __init__(self, program: Program, last: Program | None = None, progress=iter, alone: bool = False) -> None:
        self.program, self.last, self.clock = program, last or program, program.clock
        self._alone = alone
        self._codes: dict[bool, tuple[np.ndarray, np.ndarray]] = {}
        if program.backend == "numba":
            self.code(alone or threads.alone(), progress)

    def code(self, alone: bool, progress=iter) -> tuple[np.ndarray, np.ndarray]:
        """Machine code of both programs, for one thread or for all; compiled or loaded when it is not there yet."""
        bound = self._codes.get(alone)
        if bound is None:
            parallel = not alone
            kernels = self.program.kernels(parallel) | self.last.kernels(parallel)
            for first, shared in progress(list(kernels.values())):
                first.compile(shared)
            code = self.program.compile(parallel)
            last_code = code if self.last is self.program else self.last.compile(parallel)
            bound = self._codes[alone] = code, last_code
        return bound

    def run(self) -> None:
        """Run until clock[END] or clock[STOP]. Lets go of the GIL."""
        if self.program.backend == "numpy":
            self._run_references()
            return
        alone = self._alone or threads.alone()
        code, last_code = self.code(alone)
        with threads.guard(alone):
            failed = _run_steps_compiled(code, self.program.rows, last_code, self.last.rows, self.clock)
        if failed:
            raise RuntimeError(f"{self._due().calls[failed - 1]} failed")

    def _due(self) -> Program:
        """The program of the mini-batch that the clock stands at."""
        return self.last if self.clock[BATCH] == self.clock[BATCHES] - 1 else self.program

    def once(self) -> None:
        """Run the program's calls one time, whatever the clock says."""
        if self.program.backend == "numpy":
            with np.errstate(all="ignore"):
                self.program.run_references(self.clock)
            return
        alone = self._alone or threads.alone()
        code, _ = self.code(alone)
        with threads.guard(alone):
            failed = _run_once_compiled(code)
        if failed:
            raise RuntimeError(f"{self.program.calls[failed - 1]} failed")

    def _run_references(self) -> None:
        clock = self.clock
        while clock[STEP] < clock[END] and not clock[STOP]:
            program = self._due()
            with np.errstate(all="ignore"):  # as compiled code, which the loss then speaks for
                program.run_references(clock)
            if clock[STOP]:
                return
            clock[ROW] += program.rows
            clock[BATCH] = (clock[BATCH] + 1) % clock[BATCHES]
            clock[STEP] += 1


class SideBySide:
    """Runs programs at once, one thread to each, until their clocks (programs, 16) say."""

    def __init__(self, runners: "list[Runner]", clocks: np.ndarray) -> None:
        self._runners, self._clocks = runners, clocks
        if runners[0].program.backend == "numba":
            codes = [runner.code(alone=True) for runner in runners]
            self._codes = np.zeros((len(codes), 2, max(len(code) for pair in codes for code in pair), 3), np.int64)
            for m, pair in enumerate(codes):
                for k, code in enumerate(pair):
                    self._codes[m, k, : len(code)] = code  # a call of no words, at the end, does nothing
            self._sizes = np.array([[runner.program.rows, runner.last.rows] for runner in runners])

    def run(self) -> None:
        """Run each until its clock's END or STOP. Lets go of the GIL."""
        if self._runners[0].program.backend == "numpy":
            for runner in self._runners:
                runner.run()
            return
        alone = threads.alone()
        run = _run_side_by_side_serial if alone else _run_side_by_side_parallel
        with threads.guard(alone):
            run(self._codes, self._sizes, self._clocks)


def gather_reference(x, data, target, targets, order, clock):
    rows = order[clock[ROW] : clock[ROW] + len(x)]
    x[:], target[:] = data[rows], targets[rows]


@kernel(gather_reference, "(b,n) (R,n) (b,c) (R,c) (S) (8)", cycles=1.0)
def gather(x, data, target, targets, order, clock):
    """The mini-batch's rows of `data` and `targets`: those that `order` names from clock[ROW] on."""
    last = x.shape[0] - 1
    for i in prange(x.shape[0]):
        ahead, k = order[clock[ROW] + min(i + 16, last)], order[clock[ROW] + i]
        prefetch(at(data, ahead * data.shape[1]))
        prefetch(at(targets, ahead * targets.shape[1]))
        x_row, t_row, data_row, targets_row = x[i], target[i], data[k], targets[k]
        for j in range(x_row.shape[0]):
            x_row[j] = flushed(data_row[j])
        for j in range(t_row.shape[0]):
            t_row[j] = targets_row[j]


def weigh_reference(scale, weights, share, order, clock):
    scale[:] = weights[order[clock[ROW] : clock[ROW] + len(scale)]] * share[0]


@kernel(weigh_reference, "(b) (R) (1) (S) (8)", cycles=1.0)
def weigh(scale, weights, share, order, clock):
    """Each row's weight times `share`."""
    for i in range(scale.shape[0]):
        scale[i] = weights[order[clock[ROW] + i]] * share[0]


def copy_reference(y, x):
    y[:] = x


@kernel(copy_reference, "(n) (n)", cycles=0.2)
def copy(y, x):
    """y = x."""
    for q in prange((x.shape[0] + PIECE - 1) // PIECE):
        y_part, x_part = y[q * PIECE : (q + 1) * PIECE], x[q * PIECE : (q + 1) * PIECE]
        for i in range(x_part.shape[0]):
            y_part[i] = x_part[i]


def accumulate_reference(y, x):
    y += x


@kernel(accumulate_reference, "(n) (n)", cycles=0.2)
def accumulate(y, x):
    """y += x."""
    n = y.shape[0]
    for q in prange((n + PIECE - 1) // PIECE):
        y_part, x_part = y[q * PIECE : (q + 1) * PIECE], x[q * PIECE : (q + 1) * PIECE]
        for i in range(y_part.shape[0]):
            y_part[i] += x_part[i]


def read_rows_reference(batch, record, clock):
    batch[:] = record[clock[ROW] : clock[ROW] + len(batch)]


@kernel(read_rows_reference, "(b,n) (R,n) (8)", cycles=0.3)
def read_rows(batch, record, clock):
    """The rows of `record` from clock[ROW] on."""
    for i in prange(batch.shape[0]):
        row, source = batch[i], record[clock[ROW] + i]
        for j in range(row.shape[0]):
            row[j] = flushed(source[j])


def record_rows_reference(record, batch, clock):
    record[clock[ROW] : clock[ROW] + len(batch)] = batch


@kernel(record_rows_reference, "(R,n) (b,n) (8)", cycles=0.3)
def record_rows(record, batch, clock):
    """Keep the mini-batch's rows, in the order in which they were trained on."""
    for i in range(batch.shape[0]):
        row, source = record[clock[ROW] + i], batch[i]
        for j in range(row.shape[0]):
            row[j] = source[j]


def take_row_reference(row, table, clock):
    row[:] = table[clock[STEP]]


@kernel(take_row_reference, "(k) (S,k) (8)", cycles=0)
def take_row(row, table, clock):
    """This step's row of a table that has one for every step."""
    for j in range(row.shape[0]):
        row[j] = table[clock[STEP], j]


def record_loss_reference(step_loss, row_loss, scale, penalty, clock):
    step_loss[clock[STEP]] = np.sum(row_loss.astype(np.float64) * scale) + penalty[0]
    penalty[0] = 0
    if not np.isfinite(step_loss[clock[STEP]]):
        clock[STOP] = 1


@kernel(record_loss_reference, "(S) (b) (b) (1) (8)", cycles=0)
def record_loss(step_loss, row_loss, scale, penalty, clock):
    """The mini-batch's loss: rows times their scale, summed in float64, and the penalty, which is then set to 0.

    A loss that is not finite stops the run.
    """
    total = 0.0
    for i in range(row_loss.shape[0]):
        total += np.float64(row_loss[i]) * np.float64(scale[i])
    total += penalty[0]
    penalty[0] = 0
    step_loss[clock[STEP]] = total
    if not np.isfinite(total):
        clock[STOP] = 1
