"""Penalties on weights, and projection into their bounds."""

import numpy as np
from numba import prange

from nbbp.kernels.arguments import positive
from nbbp.kernels.jit import kernel
from nbbp.kernels.sums import sum_of_sizes, sum_of_squares
from nbbp.kernels.threads import PIECE, pieces
from nbbp.kernels.vector_math import ONE, TWO, ZERO

PANEL = 32  # columns that one thread takes at a time


def penalize_reference(total, g, w, sums, numbers):
    l1, l2 = numbers
    g += l1 * np.sign(w) + 2 * l2 * w
    sums[:] = np.add.reduceat(l1 * np.abs(w) + l2 * np.square(w), np.arange(0, len(w), PIECE))
    total += sums.sum()


@kernel(penalize_reference, "(1) (n) (n) (P) (2)", cycles=0.6, lengths={"P": pieces})
def penalize(total, g, w, sums, numbers):
    """total += l1 sum |w| + l2 sum w^2, and g += its derivative; sums is scratch."""
    n, l1, l2 = w.shape[0], numbers[0], numbers[1]
    for q in prange(sums.shape[0]):
        g_part, w_part = g[q * PIECE : min(n, (q + 1) * PIECE)], w[q * PIECE : min(n, (q + 1) * PIECE)]
        sums[q] = l2 * sum_of_squares(w_part)
        for i in range(w_part.shape[0]):
            g_part[i] += TWO(l2) * l2 * w_part[i]
        if l1 != ZERO(l1):
            sums[q] += l1 * sum_of_sizes(w_part)
            for i in range(w_part.shape[0]):
                sign = ONE(l1) if w_part[i] > ZERO(l1) else (-ONE(l1) if w_part[i] < ZERO(l1) else ZERO(l1))
                g_part[i] += l1 * sign
    for q in range(sums.shape[0]):
        total[0] += sums[q]


def limit_norms_reference(w, norms, limit):
    norms[:] = np.sqrt(np.square(w).sum(axis=0))
    w *= limit / np.maximum(norms, limit)


@kernel(limit_norms_reference, "(m,n) (n) (1)", cycles=0.5, values={"limit": positive})
def limit_norms(w, norms, limit):
    """Scale columns of w, each the weights into one unit, down to the norm `limit` if theirs is larger."""
    m, n = w.shape
    for q in prange((n + PANEL - 1) // PANEL):
        begin, end = q * PANEL, min(n, (q + 1) * PANEL)
        scale = norms[begin:end]
        # 1. The norms of some columns.
        for j in range(scale.shape[0]):
            scale[j] = ZERO(scale[j])
        for i in range(m):
            row = w[i][begin:end]
            for j in range(scale.shape[0]):
                scale[j] += row[j] * row[j]
        for j in range(scale.shape[0]):
            scale[j] = np.sqrt(scale[j])
        # 2. These columns, scaled.
        for i in range(m):
            row = w[i][begin:end]
            for j in range(scale.shape[0]):
                row[j] *= limit[0] / max(scale[j], limit[0])


def mask_reference(p, kept):
    p *= kept


@kernel(mask_reference, "(n) (n)", cycles=0.2, elementwise=True)
def mask(p, kept):
    """p *= kept, which is 1 or 0."""
    for i in range(p.shape[0]):
        p[i] *= kept[i]
