"""The threading layer: which one is loaded, the number of threads, and when they are worth a fork.

OpenMP comes first: between two kernels its threads spin for about 10 us, whereas TBB's fall asleep and take longer
to wake than a small kernel runs (a step of a 2-64-64-64-1 network: 62 us against 91). GNU OpenMP would spin for much
longer by default, and take the processor from a busy neighbour.
"""

import contextlib
import functools
import math
import os
import threading
import time
from collections.abc import Callable

import numba
from numba.core.compiler_lock import global_compiler_lock

from nbbp.kernels import forks

os.environ.setdefault("GOMP_SPINCOUNT", "3000")  # read when the library is loaded
if "NUMBA_THREADING_LAYER_PRIORITY" not in os.environ:
    numba.config.THREADING_LAYER_PRIORITY = ["omp", "tbb", "workqueue"]  # type: ignore[attr-defined]

PIECE = 4096  # elements of a flat array that one thread takes at a time


def pieces(n: int) -> int:
    """The number of pieces of a flat array of n elements, the last of which may be shorter."""
    return -(-n // PIECE)


@functools.cache
def layer() -> str:
    """The name of the threading layer in use: omp, tbb or workqueue."""
    try:
        return numba.threading_layer()
    except ValueError:  # not started yet; a fork waits until it is
        with global_compiler_lock:
            numba.get_num_threads()
        return numba.threading_layer()


def alone() -> bool:
    """Whether kernels have only the calling thread.

    This is so in a forked child, and in a thread of Numba's workqueue, whose parallel regions abort the process when
    they are nested.
    """
    if forks.lost_threads:
        return True
    return layer() == "workqueue" and isinstance(threading.current_thread(), threading._DummyThread)


def count() -> int:
    """The number of threads that a parallel kernel may use."""
    return 1 if alone() else numba.get_num_threads()


def most() -> int:
    """The maximum number of threads in this process."""
    return numba.config.NUMBA_NUM_THREADS  # type: ignore[attr-defined]


_decided: bool | None = None


@contextlib.contextmanager
def deciding(shared: bool):
    """Treat all work as worth sharing among threads, or none, within this context."""
    global _decided
    _decided = shared
    try:
        yield
    finally:
        _decided = None


def worthwhile(cycles: float) -> bool:
    """Whether work of this many processor cycles gains from being shared among threads.

    A fork and join takes about 5,000 cycles, and 400,000 in Numba's workqueue; beside a busy process it takes far more
    than short kernels would gain.
    """
    if _decided is not None:
        return _decided
    return count() > 1 and cycles > (1_000_000 if layer() == "workqueue" else 40_000)


_one_at_a_time, _freely = forks.lock(), contextlib.nullcontext()


def guard(alone: bool) -> contextlib.AbstractContextManager:
    """A lock while kernels run: Numba's workqueue aborts the process if two Python threads enter it at once."""
    return _one_at_a_time if not alone and layer() == "workqueue" else _freely


@contextlib.contextmanager
def _on(threads: int):
    """Let parallel kernels that this thread calls use this many threads."""
    before = numba.get_num_threads()
    numba.set_num_threads(threads)
    try:
        yield
    finally:
        numba.set_num_threads(before)


class Pace:
    """The number of steps per run, and whether they use all threads or one.

    When another process keeps a core busy, threads that wait for each other at every kernel can be several times
    slower than one alone. The bits are the same, so from time to time the other way is tried, and the faster one used.

    Parameters
    ----------
    seconds : float
        The time that a run should take.
    """

    def __init__(self, seconds: float) -> None:
        self._run_seconds = seconds
        self._begin_anew()

    def _begin_anew(self) -> None:
        """Forget all measurements and use the current number of threads."""
        seconds, self._steps = self._run_seconds, 1
        self._threads = self._all = count()
        self._step_seconds = self._least = math.inf  # of late, and ever, on the chosen number of threads
        self._next_trial, self._trial_seconds = math.inf, seconds / 8

    def run(self, function: Callable[[int], int]) -> None:
        """Call ``function(steps)``, which returns the steps that it took, on the chosen number of threads."""
        if count() != self._all:
            self._begin_anew()
        if self._all > 1 and time.perf_counter() > self._next_trial:
            self._try_other(function)
            return
        took, done, now = self._timed(function, self._threads, self._steps)
        if self._step_seconds == math.inf:
            self._next_trial = now + 2 * self._run_seconds
        self._step_seconds = took if self._step_seconds == math.inf else (self._step_seconds + took) / 2
        self._least = min(self._least, took)
        self._steps = max(1, min(int(self._run_seconds / took), 4 * done))
        if took > 1.3 * self._least:
            self._next_trial = min(self._next_trial, now + 4 * self._trial_seconds)

    def _try_other(self, function: Callable[[int], int]) -> None:
        other = 1 if self._threads > 1 else self._all
        took, done, now = self._timed(function, other, max(1, self._steps // 8))
        if took < 0.9 * self._step_seconds:
            self._threads, self._step_seconds, self._least = other, took, took
        self._trial_seconds = took * done
        self._next_trial = now + (200 if self._threads > 1 else 10) * self._trial_seconds

    def _timed(self, function: Callable[[int], int], threads: int, steps: int) -> tuple[float, int, float]:
        """Seconds per step, steps done, and the time afterwards."""
        begin = time.perf_counter()
        with _on(threads) if threads != self._all else _freely:
            done = max(1, function(steps))
        now = time.perf_counter()
        return max(now - begin, 1e-9) / done, done, now
