"""Convolutions of each channel by itself: the channels fill the vectors."""

import numpy as np
from numba import prange, types

from nbbp.kernels.arguments import below
from nbbp.kernels.convolution import POSITIONS, offsets_within, places_of_rows
from nbbp.kernels.jit import kernel
from nbbp.kernels.pointers import at, on_stack
from nbbp.kernels.scalars import fma
from nbbp.kernels.vector_math import ZERO


def convolve_each_reference(y, x, w, b, positions, taps, chosen, places):
    channels = np.arange(len(b))
    windows = x[positions[:, None, None] + taps[:, None] + channels]
    y[places[:, None] + channels] = (windows * w[chosen]).sum(axis=1) + b


_OFFSETS = {"positions": offsets_within("X", "c"), "taps": offsets_within("X", "c")}


@kernel(
    convolve_each_reference,
    "(Y) (X) (K,c) (c) (p) (s) (s) (p)",
    cycles=0.2,
    values={**_OFFSETS, "chosen": below("K"), "places": places_of_rows("c")},
    lengths={"Y": lambda p, c: range(p * c, 2**40)},
)
def convolve_each(y, x, w, b, positions, taps, chosen, places):
    """y[places[p] + c] = sum_s x[positions[p] + taps[s] + c] w[chosen[s], c] + b[c]."""
    windows = positions.shape[0]
    for t in prange((windows + POSITIONS - 1) // POSITIONS):
        for p in range(t * POSITIONS, min((t + 1) * POSITIONS, windows)):
            row = y[places[p] : places[p] + b.shape[0]]
            for c in range(row.shape[0]):
                row[c] = b[c]
            for s in range(taps.shape[0]):
                begin, own = positions[p] + taps[s], w[chosen[s]]
                window = x[begin : begin + b.shape[0]]
                for c in range(row.shape[0]):
                    row[c] = fma(window[c], own[c], row[c])


PANEL, ADDED_WINDOWS = 64, 128  # channels that a thread takes at a time; windows whose sums are added in float64

_sums_of_panel, _totals_of_panel = on_stack(PANEL), on_stack(PANEL, types.float64)


def convolve_each_weights_reference(dw, x, dy, positions, taps):
    windows = x[positions[:, None] + np.arange(dw.shape[1]) + taps[:, None, None]]
    dw[:] = (windows * dy).sum(axis=1, dtype=np.float64)


@kernel(convolve_each_weights_reference, "(k,c) (X) (p,c) (p) (k)", cycles=0.2, values=_OFFSETS)
def convolve_each_weights(dw, x, dy, positions, taps):
    """dw[k, c] = sum_p x[positions[p] + taps[k] + c] dy[p, c]."""
    k, channels = dw.shape
    count = (channels + PANEL - 1) // PANEL
    for t in prange(k * count):
        tap, begin = t // count, t % count * PANEL
        n = min(PANEL, channels - begin)
        some, totals = _sums_of_panel(at(dw, 0)), _totals_of_panel(at(dw, 0))
        for c in range(n):
            totals[c] = 0.0
        for first in range(0, dy.shape[0], ADDED_WINDOWS):
            for c in range(n):
                some[c] = ZERO(dw[0, 0])
            for p in range(first, min(first + ADDED_WINDOWS, dy.shape[0])):
                window, slope = at(x, positions[p] + taps[tap] + begin), at(dy, p * channels + begin)
                for c in range(n):
                    some[c] = fma(window[c], slope[c], some[c])
            for c in range(n):
                totals[c] += some[c]
        for c in range(n):
            dw[tap, begin + c] = totals[c]
