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
from numba.np.ufunc import parallel

from nbbp.kernels import cores, forks

os.environ.setdefault("GOMP_SPINCOUNT", "3000")  # read when the library is loaded
if "NUMBA_THREADING_LAYER_PRIORITY" not in os.environ:
    numba.config.THREADING_LAYER_PRIORITY = ["omp", "tbb", "workqueue"]  # type: ignore[attr-defined]

_given = "NUMBA_NUM_THREADS" in os.environ or (  # or in the file of Numba's settings
    parallel.NUM_THREADS != numba.config.NUMBA_DEFAULT_NUM_THREADS  # type: ignore[attr-defined]
)

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

    This is so in a forked child; and in a thread of Numba's workqueue, whose parallel regions abort the process when
    they are nested, and where they take 90 us even on one thread.
    """
    if forks.lost_threads:
        return True
    if layer() != "workqueue":
        return False
    return numba.get_num_threads() == 1 or isinstance(threading.current_thread(), threading._DummyThread)


def most() -> int:
    """The number of threads that Numba starts: what `get_thread_id` returns is below it.

    ``numba.config.NUMBA_NUM_THREADS`` follows the environment when that changes later, the threads do not.
    """
    return parallel.NUM_THREADS


def processors() -> int:
    """The number of logical CPUs that this process may run on: more threads would take turns."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def binding() -> str:
    """The logical CPUs that this process may run on, as text; `mpiexec` and `taskset` bind a process to some."""
    if not hasattr(os, "sched_getaffinity"):
        return "no CPU"
    cpus = sorted(os.sched_getaffinity(0))
    everywhere = len(cpus) == os.cpu_count()
    return f"all {len(cpus)} CPUs" if everywhere else f"CPU {', '.join(map(str, cpus))} of {os.cpu_count()}"


@functools.cache
def default() -> tuple[int, str]:
    """The number of threads that kernels use unless ``numba.set_num_threads`` allows fewer than all, and why."""
    if _given:
        return most(), "NUMBA_NUM_THREADS"
    shared = os.environ.get("OMP_NUM_THREADS", "").split(",")[0]  # Dask and Ray divide the cores among workers by it
    if shared.isdecimal() and 0 < int(shared) < most():
        return int(shared), "OMP_NUM_THREADS"
    if not hasattr(os, "sched_getaffinity"):
        return most(), "one a logical CPU"
    number, reason = cores.default(os.sched_getaffinity(0))
    return min(number, most()), reason


def count() -> int:
    """The number of threads that a parallel kernel uses.

    Numba knows no difference between a Python thread that allows all threads and one that has said nothing, and code
    that sets a number for a while puts back what it found: all is no limit, any other number is the user's.
    """
    if _assumed is not None:
        return _assumed
    if alone():
        return 1
    allowed = numba.get_num_threads()
    return default()[0] if allowed == most() else allowed


_assumed: int | None = None


@contextlib.contextmanager
def assuming(threads: int):
    """Plan as if there were so many threads, within this context."""
    global _assumed
    _assumed = threads
    try:
        yield
    finally:
        _assumed = None


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


WAKING_CYCLES = 400_000  # of work by itself, without other work just before: threads that sleep wake in 50 us


def worthwhile(cycles: float) -> bool:
    """Whether work of this many processor cycles gains from being shared among threads.

    A fork and join takes about 5,000 cycles, and 400,000 in Numba's workqueue; beside a busy process it takes far more
    than short kernels would gain.
    """
    if _decided is not None:
        return _decided
    return count() > 1 and is_long(cycles)


def is_long(cycles: float) -> bool:
    """Whether work takes so much longer than a fork and join that these do not matter."""
    return cycles > (1_000_000 if layer() == "workqueue" else 40_000)


_one_at_a_time, _freely = forks.lock(), contextlib.nullcontext()


@contextlib.contextmanager
def limited(threads: int, lock: contextlib.AbstractContextManager = _freely):
    """Let parallel kernels that this Python thread calls use this many threads."""
    with lock:
        before = numba.get_num_threads()
        numba.set_num_threads(threads)
        try:
            yield
        finally:
            numba.set_num_threads(before)


def guard(alone: bool) -> contextlib.AbstractContextManager:
    """What holds while kernels run: their number of threads, and a lock in Numba's workqueue.

    Each Python thread has a number of its own in Numba. It is set around kernels alone: the user's own compiled code
    keeps what it has. The workqueue aborts the process if two Python threads enter it at once.
    """
    if alone or (default()[0] == most() and layer() != "workqueue"):
        return _freely
    threads, lock = count(), _one_at_a_time if layer() == "workqueue" else _freely
    return lock if threads == numba.get_num_threads() else limited(threads, lock)


TRIAL_SECONDS = 0.002  # in which the other number of threads is tried, or one step
FIRST, TROUBLED, QUIET = 10, 8, 100  # times the length of a trial that pass until the next one


class Pace:
    """How many steps to run before returning to Python, and on how many threads.

    Where another process keeps a core busy, or the cores share no cache, threads that wait for each other at every
    kernel can be slower than fewer. Their bits are the same, so now and then half as many or twice as many are tried,
    and stay if they are faster. Trials cost a hundredth of the time, more only while steps take longer than they did.

    Parameters
    ----------
    seconds : float
        The length of a run.
    """

    def __init__(self, seconds: float) -> None:
        self._run_seconds = seconds
        self._begin_anew()

    def _begin_anew(self) -> None:
        """Know nothing, on as many threads as there are now."""
        self._steps, self._threads = 1, count()
        self._all = self._threads
        self._step_seconds = self._least = math.inf  # recently, and ever, on the chosen number of threads
        self._trial_seconds = self._since = 0.0  # of the last trial, or expected of the first; since then
        self._warm = self._tried = False
        self._fewer = True  # whether half as many threads are tried next, or twice as many
        self._other: int | None = None  # the number of threads that is being tried
        self._warm_ups = 0  # runs of the trial that do not count

    def start_with(self, threads: int) -> None:
        """Begin on this number of threads, if nothing is known yet."""
        if not self._warm:
            self._threads = min(threads, self._all, processors())

    def run(self, function: Callable[[int], int]) -> None:
        """Call ``function(steps)`` once, which returns how many it took, on the threads that are due."""
        if count() != self._all:
            self._begin_anew()
        if self._other is None and self._all > 1 and self._since > self._patience() * self._trial_seconds > 0:
            self._begin_trial()
        threads, steps = self._threads, self._steps
        if self._other is not None:
            threads, steps = self._other, max(1, int(TRIAL_SECONDS / self._step_seconds))
        begin = time.perf_counter()
        with limited(threads) if threads != self._all else _freely:
            done = function(steps)
        seconds = max(time.perf_counter() - begin, 1e-9)
        if done == 0:
            return
        if self._other is None:
            self._note(seconds, done)
        elif self._warm_ups:
            self._warm_ups, self._trial_seconds = 0, seconds
        else:
            self._end_trial(seconds, done)

    def _note(self, seconds: float, done: int) -> None:
        took = seconds / done
        if not self._warm:  # the first run loads what the next ones find in the cache
            self._warm = True
            return
        if not self._tried:
            self._trial_seconds = max(self._trial_seconds, took, min(seconds, TRIAL_SECONDS))
        self._step_seconds = took if self._step_seconds == math.inf else (self._step_seconds + took) / 2
        self._least, self._since = min(self._least, took), self._since + seconds
        self._steps = max(1, min(int(self._run_seconds / took), 4 * done))

    def _patience(self) -> int:
        """How many times the length of a trial passes until the next one."""
        if self._threads == 1 or self._step_seconds > 1.3 * self._least:
            return TROUBLED  # one thread has no sign that others have become worth it
        return QUIET if self._tried or self._step_seconds > TRIAL_SECONDS else FIRST

    def _begin_trial(self) -> None:
        self._fewer = self._threads > 1 and (self._fewer or self._threads == self._all)
        self._other = max(1, self._threads // 2) if self._fewer else min(2 * self._threads, self._all)
        # threads start or end first, and the system takes them to their cores
        self._warm_ups = int(self._step_seconds < 5 * TRIAL_SECONDS)
        self._trial_seconds = 0.0

    def _end_trial(self, seconds: float, done: int) -> None:
        assert self._other is not None
        took = seconds / done
        faster = took < 0.9 * self._step_seconds
        if faster:
            self._threads, self._step_seconds, self._least = self._other, took, took
        self._fewer, self._tried = self._fewer == faster, not faster  # what was right is soon tried again
        self._trial_seconds, self._since, self._other = self._trial_seconds + seconds, 0.0, None
