"""Sums whose order shapes alone decide: over long rows, and over the gradients of shards.

A long row has eight running sums, which fill a vector, then their sum; the bits do not depend on the vector's width.
"""

import numpy as np

from nbbp.kernels.arguments import fitting
from nbbp.kernels.jit import device, kernel
from nbbp.kernels.pointers import at, copy, on_stack
from nbbp.kernels.vector_math import ZERO


def _summed(term):
    @device
    def sum_of_terms(x):
        a = b = c = d = e = f = g = h = ZERO(term(x[0]))
        whole = x.shape[0] - x.shape[0] % 8
        for j in range(0, whole, 8):
            a, b, c, d = a + term(x[j]), b + term(x[j + 1]), c + term(x[j + 2]), d + term(x[j + 3])
            e, f, g, h = e + term(x[j + 4]), f + term(x[j + 5]), g + term(x[j + 6]), h + term(x[j + 7])
        result = ((a + b) + (c + d)) + ((e + f) + (g + h))
        for j in range(whole, x.shape[0]):
            result += term(x[j])
        return result

    return sum_of_terms


total = _summed(device(lambda x: x, inline=True))
sum_of_sizes = _summed(device(lambda x: abs(x), inline=True))
sum_of_squares = _summed(device(lambda x: x * x, inline=True))
wide_sum_of_squares = _summed(device(lambda x: np.float64(x) * np.float64(x), inline=True))  # no float32 is too large


@device
def dot(x, w):
    """x . w, with eight running sums."""
    a = b = c = d = e = f = g = h = ZERO(x[0])
    whole = x.shape[0] - x.shape[0] % 8
    for j in range(0, whole, 8):
        a, b, c, d = a + x[j] * w[j], b + x[j + 1] * w[j + 1], c + x[j + 2] * w[j + 2], d + x[j + 3] * w[j + 3]
        e, f = e + x[j + 4] * w[j + 4], f + x[j + 5] * w[j + 5]
        g, h = g + x[j + 6] * w[j + 6], h + x[j + 7] * w[j + 7]
    result = ((a + b) + (c + d)) + ((e + f) + (g + h))
    for j in range(whole, x.shape[0]):
        result += x[j] * w[j]
    return result


BLOCK, LEVELS = 512, 14  # elements that are summed at a time, and levels of the tree above groups of four at most
_partial_sums = on_stack(BLOCK * LEVELS)


@device
def _add_two(y, a, b, n):
    """y = a + b for n numbers."""
    for k in range(n):
        y[k] = a[k] + b[k]


@device
def _add_four(y, x, row, n):
    """y = the sum of four rows of n numbers, pair by pair."""
    a, b, c, d = x, at(x, row), at(x, 2 * row), at(x, 3 * row)
    for k in range(n):
        y[k] = (a[k] + b[k]) + (c[k] + d[k])


def add_shards_reference(g, shards, first):
    x = shards[:, first[0] : first[0] + len(g)]
    while len(x) > 1:
        x = x[0::2] + x[1::2]
    g[:] = x[0]


@kernel(
    add_shards_reference,
    "(n) (S,N) (1)",
    cycles=0.4,
    values={"first": fitting("n", "N")},
    lengths={"S": lambda: (2, 4, 8, 16)},
)
def add_shards(g, shards, first):
    """g = shards summed as a balanced binary tree, from column `first` on; there are 2, 4, 8, ... of them."""
    count, size = shards.shape
    sums = _partial_sums(at(g, 0))  # block k is the sum of 2^k groups that waits for another
    group = min(4, count)
    for begin in range(0, g.shape[0], BLOCK):
        width = min(BLOCK, g.shape[0] - begin)
        total = at(g, begin)
        for t in range(count // group):
            own = at(shards, t * group * size + first[0] + begin)
            if group == 2:
                _add_two(total, own, at(own, size), width)
            else:
                _add_four(total, own, size, width)
            level, trees = 0, t
            while trees & 1:
                _add_two(total, total, at(sums, level * BLOCK), width)
                level, trees = level + 1, trees >> 1
            if t + 1 < count // group:
                copy(at(sums, level * BLOCK), total, width)
