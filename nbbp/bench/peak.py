"""The FMA peak: independent sums in registers, and nothing in the loop but fused multiply-adds."""

import time
from collections.abc import Callable

import numba
import numpy as np
from numba import prange, types
from numba.extending import intrinsic

from nbbp.kernels import llvm
from nbbp.kernels.jit import compiled
from nbbp.kernels.pointers import at
from nbbp.kernels.tiles import FMA, ROWS, VECTOR_BYTES, VECTORS

SUMS = ROWS * VECTORS  # vectors, as in a tile: they and two factors fit the registers


@intrinsic
def _add_products(typing_context, sums, factors, steps):
    """Add the product of two vectors at `factors` to each of SUMS vectors at `sums`, `steps` times."""

    def generate(context, builder, signature, args):
        sums, factors, steps = args
        width, integer = VECTOR_BYTES // llvm.item_bytes(sums.type.pointee), steps.type

        def place(base, i):
            return builder.gep(base, [integer(i * width)])

        x, y = (llvm.load(builder, place(factors, i), width) for i in range(2))
        started = [llvm.load(builder, place(sums, i), width) for i in range(SUMS)]
        before = builder.block
        loop, done = (builder.append_basic_block(name) for name in ("loop", "done"))
        builder.branch(loop)
        builder.position_at_end(loop)
        step, *running = (builder.phi(kind) for kind in (integer, *[x.type] * SUMS))
        added = [llvm.lanewise(builder, FMA, x, y, value) for value in running]
        following = builder.add(step, integer(1))
        for value, first, then in zip((step, *running), (integer(0), *started), (following, *added), strict=True):
            value.add_incoming(first, before)
            value.add_incoming(then, loop)
        builder.cbranch(builder.icmp_signed("<", following, steps), loop, done)
        builder.position_at_end(done)
        for i, value in enumerate(added):
            llvm.store(builder, value, place(sums, i))
        return context.get_dummy_value()

    return types.void(sums, factors, types.intp), generate


def _multiply_add(sums, factors, steps):
    """Each thread has a row of sums."""
    for t in prange(sums.shape[0]):
        _add_products(at(sums[t], 0), at(factors, 0), steps[0])


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
    width = VECTOR_BYTES // np.dtype(dtype).itemsize
    sums, factors = np.zeros((threads, SUMS * width), dtype), np.ones(2 * width, dtype)
    steps = np.array([100_000])  # some tenths of a millisecond: on a busy machine some of the repeats are undisturbed
    seconds = best_seconds(lambda: _multiply_add_parallel(sums, factors, steps), threads, repeats=50)
    return 2 * sums.size * int(steps[0]) / seconds
