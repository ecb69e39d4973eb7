"""Programs: bound calls of kernels on arrays, in order, and their machine code."""

import contextlib
import dataclasses
import math
from collections.abc import Callable

import numpy as np
from numba import prange, types

from nbbp.kernels import arrays, random, threads
from nbbp.kernels.batches import clear, take_row
from nbbp.kernels.calls import address_places, call, padded_block
from nbbp.kernels.clock import Clock
from nbbp.kernels.forks import cached_property
from nbbp.kernels.jit import Code, Kernel, compiled, machine_code, signature

BACKENDS = ("numba", "numpy")


@dataclasses.dataclass(repr=False)
class Call:
    """A kernel and the arrays that it runs on."""

    kernel: Kernel
    arrays: tuple[np.ndarray, ...]
    _block: np.ndarray | None = None
    _shapes: list[tuple[int, ...]] | None = None

    def __repr__(self) -> str:
        return " ".join([self.kernel.name, *("x".join(map(str, a.shape)) for a in self.arrays)])

    def cycles(self) -> float:
        return self.kernel.cycles(self.arrays)

    def code(self, parallel: bool) -> Code:
        """The twin of the kernel that it calls; threads share the work if there is enough."""
        return self.kernel.code(self.arrays, parallel and threads.worthwhile(self.cycles()))

    def codes(self, parallel: bool) -> list[Code]:
        return [self.code(parallel)]

    def compile(self, parallel: bool) -> tuple[int, np.ndarray]:
        """The address of the machine code, and its arguments as integers."""
        return machine_code(*self.code(parallel)), self.block

    @property
    def block(self) -> np.ndarray:
        """The arguments as integers."""
        if self._block is None:
            self._block = padded_block(self.arrays)
        return self._block

    def rebind(self, *arrays: np.ndarray) -> None:
        """Bind to other arrays of the same dtypes and numbers of axes, compiled or not."""
        shapes, self.arrays = [a.shape for a in arrays], arrays
        if shapes == self._shapes and all(a.flags.c_contiguous for a in arrays):
            if self._block is not None:
                self._block[address_places(arrays)] = [a.ctypes.data for a in arrays]
            return
        self.kernel.lengths(arrays)
        self._shapes = shapes
        if self._block is not None:
            self._block[:] = padded_block(arrays)

    def release(self) -> None:
        """Keep no array alive until the call is bound to others."""
        self._shapes, self.arrays = [a.shape for a in self.arrays], ()

    def run_reference(self, clock: Clock) -> None:
        self.kernel.reference(*self.arrays)


@dataclasses.dataclass
class Shards:
    """Programs that run side by side in lanes, each on rows of its own, and one after the other within a lane."""

    programs: "tuple[Program, ...]"
    lanes: list[slice]
    awake: bool = False

    def cycles(self) -> float:
        return 2 * sum(program.cycles() for program in self.programs)  # narrow kernels do not fill their vectors

    def code(self, parallel: bool) -> Code:
        """The function that runs the programs."""
        return _run_shards_parallel if self.shared(parallel) else _run_shards_serial, _RUN_SHARDS

    def codes(self, parallel: bool) -> list[Code]:
        return [code for program in self.programs for code in program.codes(parallel=False)] + [self.code(parallel)]

    def compile(self, parallel: bool) -> tuple[int, np.ndarray]:
        return machine_code(*self.code(parallel)), self._block

    @cached_property
    def table(self) -> np.ndarray:
        """Machine code of the programs (program, call, 3); a call of no words, at the end, does nothing."""
        compiled = [program.compile(parallel=False) for program in self.programs]
        codes = np.zeros((len(compiled), max(map(len, compiled)), 3), np.int64)
        for own, code in zip(codes, compiled, strict=True):
            own[: len(code)] = code
        return codes

    @cached_property
    def edges(self) -> np.ndarray:
        """The first program of each lane, and the end of the last."""
        return np.array([*(lane.start for lane in self.lanes), len(self.programs)])

    @cached_property
    def _block(self) -> np.ndarray:
        return padded_block([self.table, self.edges])

    def shared(self, parallel: bool) -> bool:
        """Whether the lanes are distributed among threads."""
        return parallel and threads.worthwhile(math.inf if self.awake else self.cycles())

    def run_reference(self, clock: Clock) -> None:
        for program in self.programs:
            program.run_references()


def _run_shards(codes, edges):
    """Run the calls (shard, call, 3) of each shard in order; lanes of shards are distributed among threads."""
    for lane in prange(edges.shape[0] - 1):
        for shard in range(edges[lane], edges[lane + 1]):
            for k in range(codes.shape[1]):
                call(codes[shard, k, 0], codes[shard, k, 1], codes[shard, k, 2])


_run_shards_serial = compiled(_run_shards, "run_shards_serial")
_run_shards_parallel = compiled(_run_shards, "run_shards_parallel", parallel=True)
_RUN_SHARDS = types.int64[:, :, ::1], types.int64[::1]


class Tables:
    """Values that change from step to step and are known in advance: a row for each of the next steps.

    Parameters
    ----------
    steps : int
        The number of steps that are filled at once.
    dtype
    """

    def __init__(self, steps: int, dtype) -> None:
        self.steps, self._dtype = steps, np.dtype(dtype)
        self._filled: list[tuple[np.ndarray, Callable[[int, int], np.ndarray]]] = []
        self._before = self._count = 0

    def add(self, values: Callable[[int, int], np.ndarray]) -> np.ndarray:
        """A table (steps, k) of ``values(before, count)`` (count, k), for the steps after the first `before`."""
        table = arrays.zeros((self.steps, values(0, 1).shape[1]), self._dtype)
        if self._count:  # the others are filled already
            table[: self._count] = values(self._before, self._count)
        self._filled.append((table, values))
        return table

    def fill(self, before: int, count: int) -> None:
        """Fill all tables for `count` steps after the first `before`."""
        self._before, self._count = before, count
        for table, values in self._filled:
            table[:count] = values(before, count)


class Program:
    """A list of kernel calls on arrays at fixed addresses.

    Binding checks shapes and computes nothing. The program keeps the arrays alive.

    Parameters
    ----------
    backend : {"numba", "numpy"}
        Compiled kernels, or their NumPy references.
    dtype
        The dtype of the buffers.
    rows : int
        The rows of a mini-batch.
    training : bool
        Whether layers behave as in training.
    clock : Clock, optional
        The clock, shared with other programs of the same run.
    seed : int
        The seed of the random numbers that layers draw.
    tables : Tables, optional
        The run's tables, if values change from step to step.
    carried : dict of str to ndarray (rows, ...), optional
        The arrays that layers pass from one step to the next, shared with other programs of the same run. Without it,
        every run begins with 0.

    Attributes
    ----------
    calls : list of Call or Shards
    once : list of Call
        The calls before `calls`, once for all shards and micro-batches: they derive arrays from parameters.
    first_row : int
        The index in the mini-batch of the first row, if this program has only some of its rows.
    """

    def __init__(
        self, backend: str, dtype, rows: int, training: bool = True, clock: Clock | None = None, seed: int = 0,
        tables: Tables | None = None, carried: dict[str, np.ndarray] | None = None,
    ) -> None:  # fmt: skip
        self.backend, self.dtype, self.rows, self.training = backend, np.dtype(dtype), rows, training
        self.clock = Clock() if clock is None else clock
        self.seed, self.tables = seed, tables
        self.first_row, self._all_rows, self._streams = 0, rows, 0
        self.calls: list[Call | Shards] = []
        self.once: list[Call] = []
        self.carried = carried
        self._derived: dict[tuple, np.ndarray] = {}
        self._scratch: dict[tuple, np.ndarray] = {}
        self._workspace: dict[tuple, np.ndarray] = {}
        self._buffers: list[np.ndarray] = []
        self._used_before: list[np.ndarray] = []

    def part(self, rows: slice, after: "Program | None" = None) -> "Program":
        """An empty program for some rows of the same mini-batch.

        If `after` is given, a program of as many rows that runs before it on the same thread, the new one takes its
        buffers, in order, and its workspace: they are in that core's cache.
        """
        part = Program(
            self.backend, self.dtype, rows.stop - rows.start, self.training, self.clock, self.seed, self.tables,
            self.carried,
        )  # fmt: skip
        part.first_row, part._all_rows = self.first_row + rows.start, self._all_rows
        part.once, part._derived, part._scratch = self.once, self._derived, self._scratch
        if after is not None:
            part._used_before, part._workspace = list(after._buffers), after._workspace
        return part

    def stream(self) -> np.uint64:
        """The key of a stream of random numbers that no other call draws from; the same layer always gets the same."""
        self._streams += 1
        return random.stream(self.seed, random.IN_LAYERS, self._streams)

    def call(self, kernel: Kernel, *arrays: np.ndarray) -> Call:
        """Append a call of `kernel`."""
        bound = _checked(kernel, arrays)
        self.calls.append(bound)
        return bound

    def buffer(self, *shape: int, dtype=None) -> np.ndarray:
        """An array through which one call passes values to a later one."""
        kind = np.dtype(self.dtype if dtype is None else dtype)
        buffer = self._used_before.pop(0) if self._used_before else None
        if buffer is None or buffer.shape != shape or buffer.dtype != kind:  # a layer may ask for others in other rows
            buffer = arrays.zeros(shape, kind)
        self._buffers.append(buffer)
        return buffer

    def scratch(self, *shape: int, dtype=None) -> np.ndarray:
        """An array (threads, *shape) whose content has no meaning between calls, so that all of them share it."""
        key = shape, np.dtype(self.dtype if dtype is None else dtype)
        if key not in self._scratch:
            self._scratch[key] = arrays.zeros((threads.most(), *shape), key[1])
        return self._scratch[key]

    def workspace(self, *shape: int, dtype) -> np.ndarray:
        """An array without meaning between calls; those of this program, and of programs after it, share it."""
        key = shape, np.dtype(dtype)
        if key not in self._workspace:
            self._workspace[key] = arrays.zeros(*key)
        return self._workspace[key]

    @property
    def bytes(self) -> int:
        """The size of all buffers and of the workspace."""
        return sum(array.nbytes for array in (*self._buffers, *self._workspace.values()))

    def derived(self, kernel: Kernel, shape: tuple[int, ...], *sources: np.ndarray, dtype=None) -> np.ndarray:
        """An array of `shape` and dtype that ``kernel(array, *sources)`` fills once at the beginning of a step."""
        key = kernel.name, shape, *(source.ctypes.data for source in sources)
        if key not in self._derived:
            self._derived[key] = arrays.zeros(shape, self.dtype if dtype is None else dtype)
            self.once.append(_checked(kernel, (self._derived[key], *sources)))
        return self._derived[key]

    def carry(self, name: str, shape: tuple[int, ...]) -> np.ndarray:
        """This program's rows (rows, *shape) of an array that persists from step to step, 0 at first."""
        if self.carried is None:
            array = self.buffer(self.rows, *shape)
            self.call(clear, array.reshape(-1))
            return array
        if name not in self.carried:
            self.carried[name] = arrays.zeros((self._all_rows, *shape), self.dtype)
        return self.carried[name][self.first_row : self.first_row + self.rows]

    def scheduled(self, values: Callable[[int, int], np.ndarray]) -> np.ndarray:
        """An array (k,) that holds the step's row of ``values(before, count)``."""
        if self.tables is None:
            raise ValueError("nothing changes from step to step outside of training")
        table = self.tables.add(values)
        row = arrays.zeros(table.shape[1], self.dtype)
        self.once.append(_checked(take_row, (row, table, self.clock.record)))
        return row

    def call_shards(self, programs: "list[Program]", lanes: list[slice] | None = None, awake: bool = False) -> None:
        """Append programs that run side by side, each by itself from its first call to its last.

        If there is only one, its calls may use several threads. Programs of a lane run one after the other; by default
        each program has a lane of its own. Threads that are `awake` from the calls before share even little work: each
        has in its cache what it works on.
        """
        if len(programs) > 1:
            own = [slice(k, k + 1) for k in range(len(programs))]
            self.calls.append(Shards(tuple(programs), lanes or own, awake))
        else:
            self.calls += programs[0].calls

    def cycles(self) -> float:
        """The approximate number of processor cycles of one run on one thread."""
        return sum(bound.cycles() for bound in self.calls)

    def codes(self, parallel: bool) -> list[Code]:
        """What is to be compiled, each once: many calls have the same machine code."""
        return list(dict.fromkeys(code for bound in (*self.once, *self.calls) for code in bound.codes(parallel)))

    def compile(self, parallel: bool = True, once: bool = False) -> np.ndarray:
        """The machine code of the calls: a row (entry address, address of its arguments, their words) for each.

        Kernels with enough work share it among threads if `parallel` allows it. `once` compiles the calls before.
        """
        code = [bound.compile(parallel) for bound in (self.once if once else self.calls)]
        rows = [(address, block.ctypes.data, len(block)) for address, block in code]
        return np.array(rows, np.int64).reshape(len(rows), 3)

    def run_references(self, once: bool = False) -> None:
        """Run the NumPy references of all calls, until one of them stops the clock."""
        for bound in self.once if once else self.calls:
            bound.run_reference(self.clock)
            if self.clock.stop:
                return


_noted: dict[tuple[Kernel, tuple[types.Type, ...]], None] | None = None


@contextlib.contextmanager
def noting():
    """Note the kernels that programs bind within this context, compiled or not, and the types of their arguments."""
    global _noted
    _noted = {}
    try:
        yield _noted
    finally:
        _noted = None


def _checked(kernel: Kernel, arrays: tuple[np.ndarray, ...]) -> Call:
    kernel.lengths(arrays)
    if _noted is not None:
        _noted[kernel, signature(arrays)] = None
    if not kernel.trusted:
        kernel.check(*arrays)
    return Call(kernel, arrays)
