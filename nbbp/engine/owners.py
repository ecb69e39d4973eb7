"""Which core owns which parameters: it alone adds up their gradient and updates them.

A cache line that another core has written has to be fetched from there, and taken back before it is written again. So
each core has a contiguous range of the flat arrays, whose gradient, moments and values stay in its cache.
"""

import itertools

from nbbp.kernels import threads
from nbbp.kernels.arrays import LINE

LEAST_BYTES = 4096  # of parameters in a range: less is not worth a thread


def ranges(size: int, itemsize: int) -> list[slice]:
    """The ranges of flat arrays of some size, one for each thread that there is; they begin on cache lines."""
    count = max(1, min(threads.count(), size * itemsize // LEAST_BYTES))
    line = LINE // itemsize
    edges = [size * i // count // line * line for i in range(count)]
    return [slice(a, b) for a, b in itertools.pairwise([*edges, size])]


def common(a: slice, b: slice) -> slice:
    """The elements that lie in both ranges."""
    return slice(max(a.start, b.start), max(a.start, b.start, min(a.stop, b.stop)))
