"""Windows and weights in pairs of bfloat16, of which `nbbp.kernels.convolution` takes the products.

Products that sum over the channels of windows take pairs of channels; those that sum over windows take pairs of windows
that are beside each other. A number without a partner is beside a zero.
"""

from typing import Any

import numpy as np
from numba import prange

from nbbp.kernels.bfloat16 import PAIR, as_pairs, pair, pairs_of
from nbbp.kernels.jit import kernel
from nbbp.kernels.pointers import at
from nbbp.kernels.rounded_gemm import round_row


def _pairs(rng, shape, dtype, lengths):
    return rng.integers(0, 2**32, shape, np.uint32)


def _within(*lengths_of: str):
    """The first places at which some lengths fit into others."""

    def drawn(rng, shape, dtype, lengths):
        return np.array([rng.integers(0, lengths[whole] - lengths[part] + 1) for whole, part in lengths_of])

    return drawn


_DTYPES: dict[str, Any] = {"dtypes": ("float32",)}


def pad_rounded_reference(padded, x, before):
    top, left = before
    padded[:] = 0
    padded[:, top : top + x.shape[1], left : left + x.shape[2]] = as_pairs(x, axis=4)


@kernel(
    pad_rounded_reference, "(b,H,W,g,P) (b,i,j,g,c) (2)", cycles=0.3, **_DTYPES,
    values={"padded": _pairs, "before": _within("Hi", "Wj")},
    lengths={"H": lambda i: range(i, 2**31), "W": lambda j: range(j, 2**31), "P": lambda c: pairs_of(c)},
)  # fmt: skip
def pad_rounded(padded, x, before):
    """padded = pairs of the channels of each group of x, within zeros, from row before[0] and column before[1] on."""
    high, wide, groups, pairs = padded.shape[1:]
    height, width, channels = x.shape[1], x.shape[2], x.shape[4]
    size = groups * pairs
    for t in prange(padded.shape[0] * high):
        image, i = t // high, t % high - before[0]
        target = at(padded, t * wide * size)
        inside = 0 <= i < height
        begin = before[1] if inside else wide
        for j in range(begin * size):
            target[j] = PAIR(0)
        if inside:
            source, row = at(x, (image * height + i) * width * groups * channels), at(target, begin * size)
            if channels % 2 == 0:
                round_row(row, source, width * groups * channels)
            else:
                for g in range(width * groups):
                    round_row(at(row, g * pairs), at(source, g * channels), channels)
            for j in range((begin + width) * size, wide * size):
                target[j] = PAIR(0)


def pad_beside_reference(padded, x, before):
    top, left, distance = before
    whole = np.zeros((*padded.shape[:2], padded.shape[2] + distance), x.dtype)
    whole[:, top : top + x.shape[1], left : left + x.shape[2]] = x
    padded[:] = as_pairs(np.stack([whole[..., : padded.shape[2]], whole[..., distance:]], axis=3), axis=3)[..., 0]


def _beside(rng, shape, dtype, lengths):
    return np.array([*_within("Hi", "Mn")(rng, shape, dtype, lengths), rng.integers(1, lengths["n"] + 9)])


@kernel(
    pad_beside_reference, "(b,H,M) (b,i,n) (3)", cycles=0.4, **_DTYPES, values={"padded": _pairs, "before": _beside},
    lengths={"H": lambda i: range(i, 2**31), "M": lambda n: range(n, 2**31)},
)  # fmt: skip
def pad_beside(padded, x, before):
    """padded = x within zeros, from row before[0] and its element before[1] on, each beside that before[2] after it."""
    high, length = padded.shape[1:]
    height, n = x.shape[1:]
    left, distance = before[1], before[2]
    first, both = max(left - distance, 0), max(n - distance, 0)
    for t in prange(padded.shape[0] * high):
        image, i = t // high, t % high - before[0]
        target = padded[image, t % high]
        if not 0 <= i < height:
            for j in range(length):
                target[j] = PAIR(0)
            continue
        source, inside = x[image, i], target[left:]
        for j in range(left):
            target[j] = PAIR(0)
        for j in range(first, min(left, left - distance + n)):
            target[j] = pair(np.float32(0), source[j - left + distance])
        for j in range(both):
            inside[j] = pair(source[j], source[j + distance])
        for j in range(both, n):
            inside[j] = pair(source[j], np.float32(0))
        for j in range(n, inside.shape[0]):
            inside[j] = PAIR(0)
