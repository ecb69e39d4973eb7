"""Sums over long rows: eight running sums, which fill a vector, then their sum; the bits do not depend on its width."""

import numpy as np

from nbbp.kernels.jit import device
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
