"""The time of each call of a training step: within the running step, and repeated by itself.

The step's loop reads the processor's counter after each call. The counts of a run share its seconds among the calls, so
that their sum is the time of a step.
"""

import dataclasses
import math
import time
from collections.abc import Callable, Iterator, Sequence

import numpy as np
from numba import prange, types
from numba.extending import intrinsic

from nbbp.bench.peers import nbbp
from nbbp.bench.trained import Trained
from nbbp.engine.program import Call, Shards
from nbbp.engine.runner import Runner
from nbbp.kernels import llvm, threads
from nbbp.kernels.calls import call, padded_block
from nbbp.kernels.jit import address, compiled, device
from nbbp.training.trainer import Trainer

SECONDS = 0.05  # of each measurement, at least, and two epochs
REPEATS = 8  # of a call by itself; more often, one that overwrites its input would get to subnormal numbers


@intrinsic
def _count(typing_context):
    """The processor's counter: cycles at a constant rate, or ticks of a clock."""
    return types.int64(), lambda context, builder, signature, args: llvm.call(builder, "readcyclecounter", llvm.I64)


def _run_counted(calls, rows, clock, counts):
    """The loop of `nbbp.engine.runner` until the clock's end; adds to each call's count in counts (calls)."""
    before = _count()
    while clock[0].step < clock[0].end and not clock[0].stop:
        for k in range(len(calls)):
            call(calls[k, 0], calls[k, 1], calls[k, 2])
            now = _count()
            counts[k] += now - before
            before = now
        clock[0].row += rows
        clock[0].batch = (clock[0].batch + 1) % clock[0].batches
        clock[0].step += 1


@device
def _run_shard(calls, counts):
    before = _count()
    for k in range(len(calls)):
        call(calls[k, 0], calls[k, 1], calls[k, 2])
        now = _count()
        counts[k] += now - before
        before = now


def _run_shards_counted(codes, edges, counts):
    """The loop of `nbbp.engine.program.Shards`; adds to counts (shard, call)."""
    for lane in prange(edges.shape[0] - 1):
        for shard in range(edges[lane], edges[lane + 1]):
            _run_shard(codes[shard], counts[shard])


_run_counted_compiled = compiled(_run_counted, "run_counted")
_run_shards_counted_serial = compiled(_run_shards_counted, "run_shards_counted_serial")
_run_shards_counted_parallel = compiled(_run_shards_counted, "run_shards_counted_parallel", parallel=True)


class _CountedShards:
    """Shards whose calls are counted: codes (shard, call, 3), counts (shard, call), and their row in a step's code."""

    def __init__(self, codes: np.ndarray, edges: np.ndarray, shared: bool) -> None:
        self.codes, self.counts = codes, np.zeros(codes.shape[:2], np.int64)
        self._edges, self._shared = edges, shared
        self._threads = min(threads.count(), len(edges) - 1) if shared else 1
        arguments = [self.codes, self._edges, self.counts]
        self._block = padded_block(arguments)
        run = _run_shards_counted_parallel if shared else _run_shards_counted_serial
        self.row = address(run, arguments), self._block.ctypes.data, len(self._block)

    def each(self) -> np.ndarray:
        """The count of each call, the mean of the threads."""
        return self.counts.sum(axis=0) / self._threads

    def repeated(self, call: int) -> "_CountedShards":
        """The same shards with one of their calls, again and again."""
        return _CountedShards(np.repeat(self.codes[:, call : call + 1], REPEATS, axis=1), self._edges, self._shared)


class _Step:
    """A training step on all threads, or on one if `alone`.

    Attributes
    ----------
    names : list of str
        Of the calls; those within shards are followed by an entry for the rest of the shards' time.
    """

    def __init__(self, trainer: Trainer, alone: bool) -> None:
        self._trainer, self._alone = trainer, alone
        self._runner = Runner(trainer.runner.program, alone=alone)
        self._code, self._shards = self._runner.code(alone)[0].copy(), {}
        self.names: list[str] = []
        program = self._runner.program
        for k, bound in enumerate((*program.once, *program.calls)):
            if isinstance(bound, Shards):
                codes = bound.table
                self._shards[k] = _CountedShards(codes, bound.edges, bound.shared(parallel=not alone))
                self._code[k] = self._shards[k].row
                longest = max(bound.programs, key=lambda program: len(program.calls))
                self.names += [f"{len(codes)} shards: {_name(inner)}" for inner in longest.calls]
            self.names.append(_name(bound))

    def seconds(self) -> float:
        """The seconds of a step without counts, in the best epoch."""
        return min(self._epochs(self._runner.run))

    def running(self) -> list[float]:
        """The seconds of each call within the running step."""
        return self._counted(self._code, self._shards)

    def repeated(self) -> list[float]:
        """The seconds of each call by itself: repeated after the step, the first time apart, which fills the caches."""
        seconds = []
        for k, row in enumerate(self._code):
            if k in self._shards:
                for i in range(self._shards[k].codes.shape[1]):
                    shards = self._shards[k].repeated(i)
                    counted = self._counted([*self._code, shards.row], self._shards | {len(self._code): shards})
                    seconds.append(float(np.mean(counted[-REPEATS:-1])))  # without the first and the rest
                seconds.append(math.nan)
            else:
                counted = self._counted([*self._code, *[row] * REPEATS], self._shards)
                seconds.append(float(np.mean(counted[-REPEATS + 1 :])))
        return seconds

    def _counted(self, rows: Sequence | np.ndarray, shards: dict[int, _CountedShards]) -> list[float]:
        """The seconds of each call of the rows of code, in the best epoch."""
        code, counts, best = np.array(rows, np.int64), np.zeros(len(rows), np.int64), math.inf
        seconds: list[float] = []
        program, record = self._runner.program, self._trainer.clock.record

        def run() -> None:
            for some in (counts, *(each.counts for each in shards.values())):
                some[:] = 0
            with threads.guard(self._alone):
                _run_counted_compiled(code, program.rows, record, counts)

        for took in self._epochs(run):
            if took < best:
                best, seconds = took, []
                for k, count in enumerate(counts):
                    inner = shards[k].each() if k in shards else np.zeros(0)
                    seconds += [float(part) * took / counts.sum() for part in (*inner, count - inner.sum())]
        return seconds

    def _epochs(self, run: Callable[[], None]) -> Iterator[float]:
        """The seconds per step of epochs, each of which `run` trains."""
        trainer, begin, number = self._trainer, time.perf_counter(), 0
        while number < 2 or time.perf_counter() - begin < SECONDS:
            trainer.begin(1, trainer.next_epoch)
            trainer.allow(trainer.steps_per_epoch)
            start = time.perf_counter()
            run()
            took = time.perf_counter() - start
            trainer.count()
            number += 1
            yield took / trainer.steps_per_epoch


def _name(bound: Call | Shards) -> str:
    """The kernel and its arrays' shapes."""
    return f"{len(bound.programs)} shards: start, and wait for the last" if isinstance(bound, Shards) else repr(bound)


@dataclasses.dataclass(frozen=True)
class Row:
    """Seconds of a call: in the step on all threads, on all threads by itself, and in the step on one thread."""

    name: str
    running: float
    repeated: float
    one_thread: float


@dataclasses.dataclass(frozen=True)
class Profile:
    """The calls of a workload's step, and the seconds of a step without counts on all threads and on one."""

    workload: str
    rows: list[Row]
    step: float
    step_on_one_thread: float


def measure(workload: Trained) -> Profile:
    """Profile nbbp's training step."""
    trainer = nbbp.trainer(workload)
    every, one = _Step(trainer, alone=False), _Step(trainer, alone=True)
    rows = [
        Row(*values)
        for values in zip(every.names, every.running(), every.repeated(), one.running(), strict=True)
    ]  # fmt: skip
    return Profile(workload.name, rows, every.seconds(), one.seconds())
