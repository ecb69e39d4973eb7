"""Noise and clipping of the flat gradient, before the optimizer uses it."""

import numpy as np
from numba import prange

from nbbp.kernels import random
from nbbp.kernels.arguments import any_bits, positive
from nbbp.kernels.jit import kernel
from nbbp.kernels.sums import sum_of_squares, wide_sum_of_squares
from nbbp.kernels.threads import PIECE, pieces


def noise_reference(g, size, key, clock):
    step = clock["before"][0] + clock["step"][0]
    deviation = np.sqrt(size / (1 + step) ** 0.55).astype(g.dtype)
    numbers = np.arange(len(g), dtype=np.uint64)
    g += deviation * random.normal(random.bits(key, np.array([step], np.uint64)), numbers, g.dtype)


@kernel(noise_reference, "(n) (1) (1) (1)", cycles=4.0, values={"size": positive, "key": any_bits})
def noise(g, size, key, clock):
    """g += normal numbers of variance size / (1 + t)^0.55."""
    step = clock[0].before + clock[0].step
    deviation = type(size[0])(np.sqrt(np.float64(size[0]) / (1.0 + step) ** 0.55))
    own_key = random.random_bits(key[0], np.uint64(step))
    for i in prange(g.shape[0]):
        g[i] += deviation * random.random_normal(own_key, np.uint64(i), deviation)


def clip_reference(g, limit):
    np.clip(g, -limit[0], limit[0], out=g)


@kernel(clip_reference, "(n) (1)", cycles=0.2, elementwise=True, values={"limit": positive})
def clip(g, limit):
    """g clipped to [-limit, limit]."""
    high = limit[0]
    for i in range(g.shape[0]):
        low = -high if g[i] < -high else g[i]
        g[i] = high if low > high else low


def clip_norm_reference(g, squares, limit):
    squares[:] = np.add.reduceat(np.square(g, dtype=np.float64), np.arange(0, len(g), PIECE))
    norm = np.sqrt(squares.sum())
    if norm > limit[0]:
        g[:] = g * np.float64(limit[0] / norm)


@kernel(clip_norm_reference, "(n) (P) (1)", cycles=0.6, values={"limit": positive}, lengths={"P": pieces})
def clip_norm(g, squares, limit):
    """g scaled to the norm `limit` if its own is larger; squares (float64) is scratch."""
    n = g.shape[0]
    # 1. The norm, from the sum of squares of each piece.
    for q in prange(squares.shape[0]):
        part = g[q * PIECE : (q + 1) * PIECE]
        squares[q] = sum_of_squares(part)
    total = squares.sum()
    if not np.isfinite(total):  # too large for float32
        for q in range(squares.shape[0]):
            squares[q] = wide_sum_of_squares(g[q * PIECE : (q + 1) * PIECE])
        total = squares.sum()
    norm = np.sqrt(total)
    # 2. The gradient, if the norm is too large.
    if norm > limit[0]:
        scale = limit[0] / np.float64(norm)
        for q in prange(squares.shape[0]):
            part = g[q * PIECE : min(n, (q + 1) * PIECE)]
            for i in range(part.shape[0]):
                part[i] *= scale
