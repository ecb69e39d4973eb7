"""The FMA peak: fused multiply-adds on registers, without a load that misses."""

import time
from collections.abc import Callable

import numba
import numpy as np
from numba import prange

from nbbp.kernels.jit import compiled
from nbbp.kernels.pointers import at
from nbbp.kernels.tiles import FROM_ZERO, ROWS, VECTOR_BYTES, VECTORS, columns, multiply_panel


def _multiply_add(a, b, c, length):
    """One tile of sums per thread over `length` steps, all of which read the same numbers."""
    for t in prange(c.shape[0]):
        width = columns(at(b, 0))
        tile = c[t]
        multiply_panel(
            ROWS, width, length[0], at(a, 0), 1, 0, at(b, 0), 0, at(tile, 0), width, at(tile, 0), FROM_ZERO
        )  # fmt: skip


_multiply_add_parallel = compiled(_multiply_add, "multiply_add_parallel", parallel=True)


def best_seconds(function: Callable, threads: int, repeats: int = 5) -> float:
    """The least seconds of some calls with `threads` threads, after one that compiles and fills the caches."""
    before = numba.get_num_threads()
    numba.set_num_threads(threads)
    try:
        function()
        best = np.inf
        for _ in range(repeats):
            begin = time.perf_counter()
            function()
            best = min(best, time.perf_counter() - begin)
    finally:
        numba.set_num_threads(before)
    return best


def fma_peak(threads: int, dtype: str = "float32") -> float:
    """Floating-point operations per second of `threads` threads together."""
    width = VECTORS * VECTOR_BYTES // np.dtype(dtype).itemsize
    a, b = np.ones(ROWS, dtype), np.ones(width, dtype)
    c, length = np.zeros((threads, ROWS, width), dtype), np.array([1_000_000])
    seconds = best_seconds(lambda: _multiply_add_parallel(a, b, c, length), threads)
    return 2 * threads * ROWS * width * int(length[0]) / seconds
