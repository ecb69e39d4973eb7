"""Limits of this machine besides the FMA peak: read bandwidth by level of the caches, and latency from core to core."""

import concurrent.futures
import dataclasses
import math
import os
import pathlib
import time

import numpy as np
from numba import prange, types
from numba.extending import intrinsic

from nbbp.bench.peak import best_seconds, fma_peak
from nbbp.kernels import arrays, threads
from nbbp.kernels.jit import compiled, device

CACHES = pathlib.Path("/sys/devices/system/cpu/cpu0/cache")
MEBIBYTE = 1 << 20
MOST_MEMORY = 512 * MEBIBYTE
READ_BYTES = 128 * MEBIBYTE  # by each thread in each repeat: some milliseconds
TURNS, BURSTS = 1_000, 40  # turns of a burst
SPINS = 100_000_000  # about a tenth of a second


@dataclasses.dataclass(frozen=True)
class Cache:
    """A level of cache: the bytes of one such cache, and how many processors share it."""

    name: str
    size: int
    processors: int

    def share(self, threads: int) -> int:
        """The bytes for each of `threads` threads, one on each processor."""
        return self.size // min(threads, self.processors)


def caches() -> list[Cache]:
    """The second and later levels of cache as Linux shows them; elsewhere 1 MiB for each core and 32 MiB for all."""
    found = []
    for folder in sorted(CACHES.glob("index*")):
        try:
            level, size, mask = ((folder / name).read_text().strip() for name in ("level", "size", "shared_cpu_map"))
        except OSError:  # containers may show the folder alone
            continue
        if int(level) > 1:
            kibibytes, processors = int(size.rstrip("K")), int(mask.replace(",", ""), 16).bit_count()
            found.append(Cache(f"L{level}", 1024 * kibibytes, processors))
    return found or [Cache("L2", MEBIBYTE, 1), Cache("L3", 32 * MEBIBYTE, os.cpu_count() or 1)]


def sizes(threads: int) -> dict[str, int]:
    """The bytes that each thread reads to measure a level.

    Half of its share of a cache, or twice what the level before holds if that is more; four times the last share for
    memory.
    """
    found, held = {}, 0
    for cache in caches():
        share = cache.share(threads)
        found[cache.name] = max(share // 2, 2 * held)
        held = share
    return found | {"memory": min(4 * held, MOST_MEMORY // threads)}


@device
def _sum(x, passes):
    """The sum of integers, which the compiler may reorder: it loads vectors and has several accumulators."""
    total = 0
    for _ in range(passes):
        for i in range(x.shape[0]):
            total += x[i]
    return total


def _read(sums, x, passes):
    """Each thread reads a row of its own, `passes` times."""
    for t in prange(x.shape[0]):
        sums[t] = _sum(x[t], passes[0])


_read_parallel = compiled(_read, "read_parallel", parallel=True)


def bandwidth(size: int, threads: int) -> float:
    """Bytes per second that `threads` threads read together, each the same `size` bytes of its own again and again."""
    x, sums = arrays.zeros((threads, size // 8), np.int64), np.zeros(threads, np.int64)
    x[:] = 1  # otherwise all pages are one page of zeros
    passes = np.array([max(1, READ_BYTES // size)])
    seconds = best_seconds(lambda: _read_parallel(sums, x, passes), threads)
    return x.nbytes * int(passes[0]) / seconds


def bandwidths(threads: int) -> dict[str, float]:
    """The read bandwidth of `threads` threads together by level, in bytes per second."""
    return {level: bandwidth(size, threads) for level, size in sizes(threads).items()}


@intrinsic
def _load(typing_context, line):
    """The first integer of an array, read anew by each call."""

    def generate(context, builder, signature, args):
        pointer = context.make_array(signature.args[0])(context, builder, args[0]).data
        return builder.load_atomic(pointer, "acquire", 8)

    return types.int64(line), generate


@intrinsic
def _store(typing_context, line, value):
    """Write the first integer of an array, at once visible to other threads."""

    def generate(context, builder, signature, args):
        pointer = context.make_array(signature.args[0])(context, builder, args[0]).data
        builder.store_atomic(args[1], pointer, "release", 8)
        return context.get_dummy_value()

    return types.void(line, types.int64), generate


def _take_turns(line, first, end, spins):
    """Wait for every other turn from `first` and write the next one; returns False if all spins were in vain."""
    for turn in range(first, end, 2):
        while _load(line) != turn:
            spins -= 1
            if spins <= 0:
                return False
        _store(line, turn + 1)
    return True


_take_turns_compiled = compiled(_take_turns, "take_turns")


def _processors() -> list[int]:
    """The numbers of the processors that this process may run on."""
    return sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else list(range(os.cpu_count() or 1))


def _stay_on(processor: int) -> None:
    """Keep the calling thread on a processor, if the system can; two threads that wait might share one for long."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {processor})


def _answer(line: np.ndarray, processor: int) -> None:
    _stay_on(processor)
    _take_turns_compiled(line, 1, TURNS * BURSTS, SPINS)


def _best_burst(line: np.ndarray, processor: int) -> float:
    """Seconds per turn; nan if the other thread does not answer."""
    _stay_on(processor)
    best = math.nan
    for first in range(0, TURNS * BURSTS, TURNS):
        begin = time.perf_counter()
        if not _take_turns_compiled(line, first, first + TURNS, SPINS):
            break
        best = np.fmin(best, (time.perf_counter() - begin) / TURNS)
    return float(best)


def core_to_core() -> float:
    """Seconds until one core sees what another wrote; nan on one core, or if the other thread does not run.

    Two threads take turns at writing to a cache line, which goes back and forth between the first processor and the
    last. The best of some bursts counts, as either may have to wait for other processes.
    """
    processors = _processors()
    if len(processors) < 2:
        return math.nan
    line = arrays.zeros(arrays.LINE // 8, np.int64)
    _take_turns_compiled(line, 0, 0, 0)  # compiles
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        pool.submit(_answer, line, processors[-1])
        return pool.submit(_best_burst, line, processors[0]).result()


@dataclasses.dataclass(frozen=True)
class Limits:
    """What the machine allows now; a virtual machine may move while it runs.

    Attributes
    ----------
    fma_peak : float
        Of all threads, in operations per second.
    core_to_core : float
        Latency in seconds.
    one_thread, all_threads : dict of str to float
        Read bandwidths by level, in bytes per second.
    """

    fma_peak: float
    core_to_core: float
    one_thread: dict[str, float]
    all_threads: dict[str, float]

    def or_better(self, other: "Limits") -> "Limits":
        """The higher speeds and the lower latency of both."""
        one, every = (
            {level: max(speed, second[level]) for level, speed in first.items()}
            for first, second in ((self.one_thread, other.one_thread), (self.all_threads, other.all_threads))
        )
        latency = float(np.fmin(self.core_to_core, other.core_to_core))
        return Limits(max(self.fma_peak, other.fma_peak), latency, one, every)


def measure() -> Limits:
    """The limits now."""
    count = threads.count()
    return Limits(fma_peak(count), core_to_core(), bandwidths(1), bandwidths(count))
