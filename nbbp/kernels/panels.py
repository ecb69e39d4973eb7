"""Copies of matrices, panel by panel: the columns of a panel are contiguous, as register tiles read them."""

import numpy as np
from numba import prange

from nbbp.kernels.arguments import below, fitting, scratch
from nbbp.kernels.bfloat16 import as_pairs, pair, pairs_of
from nbbp.kernels.jit import kernel
from nbbp.kernels.pointers import at
from nbbp.kernels.tiles import VECTOR_BYTES, VECTORS
from nbbp.kernels.transposes import transpose_rows
from nbbp.kernels.vector_math import ZERO


def panels(n: int, itemsize: int) -> tuple[int, int]:
    """The number of panels of n columns, and the columns of each, whole vectors: all but the last are equally wide."""
    vector = VECTOR_BYTES // itemsize
    vectors = -(-n // vector)
    count = -(-vectors // VECTORS)
    return count, -(-vectors // count) * vector


def pack_columns_reference(packed, w, first):
    count, k, width = packed.shape
    own = w[:, first[0] : first[0] + count * width]
    whole = np.zeros((k, count * width), w.dtype)
    whole[:, : own.shape[1]] = own
    packed[:] = whole.reshape(k, count, width).swapaxes(0, 1)


@kernel(pack_columns_reference, "(T,k,C) (k,F) (1)", cycles=20.0, values={"first": below("F")})
def pack_columns(packed, w, first):
    """packed = the columns of w from `first` on, panel by panel; 0 beyond the last one."""
    count, k, width = packed.shape
    for t in range(count):
        begin = first[0] + t * width
        whole = max(0, min(width, w.shape[1] - begin))
        for i in range(k):
            target, source = packed[t, i], w[i][begin : begin + whole]
            for j in range(whole):
                target[j] = source[j]
            for j in range(whole, width):
                target[j] = ZERO(target[j])


def pack_turned_reference(packed, w, chosen, first):
    count, _, filters, width = packed.shape
    whole = np.zeros((len(chosen), filters, count * width), w.dtype)
    whole[:, :, : w.shape[1]] = w[chosen][:, :, first[0] : first[0] + filters].swapaxes(1, 2)
    packed[:] = whole.reshape(len(chosen), filters, count, width).transpose(2, 0, 1, 3)


@kernel(
    pack_turned_reference,
    "(T,s,f,C) (K,c,F) (s) (1)",
    cycles=20.0,
    values={"chosen": below("K"), "first": fitting("f", "F")},
    lengths={"T": lambda c, itemsize: panels(c, itemsize)[0], "C": lambda c, itemsize: panels(c, itemsize)[1]},
)
def pack_turned(packed, w, chosen, first):
    """packed[s, f, c] = w[chosen[s], c, first + f], panel by panel of c; 0 beyond the last one."""
    count, taps, filters, width = packed.shape
    channels = w.shape[1]
    for t in range(count):
        for s in range(taps):
            for f in range(filters):
                target = packed[t, s, f]
                whole = min(width, channels - t * width)
                for j in range(whole):
                    target[j] = w[chosen[s], t * width + j, first[0] + f]
                for j in range(whole, width):
                    target[j] = ZERO(target[j])


def pack_transposed_reference(packed, w):
    count, k, width = packed.shape
    whole = np.zeros((count * width, k), w.dtype)
    whole[: len(w)] = w
    packed[:] = whole.T.reshape(k, count, width).swapaxes(0, 1)


@kernel(
    pack_transposed_reference, "(T,k,C) (n,k)", values={"packed": scratch},
    lengths={"T": lambda n, itemsize: panels(n, itemsize)[0], "C": lambda n, itemsize: panels(n, itemsize)[1]},
)  # fmt: skip
def pack_transposed(packed, w):
    """packed = w', panel by panel; nothing is written beyond the last column."""
    length, width = packed.shape[1], packed.shape[2]
    for t in prange(packed.shape[0]):
        n, first = min(width, w.shape[0] - t * width), t * width * length
        transpose_rows(at(packed, first), width, at(w, first), length, n, length)


def _pairs(rng, shape, dtype, lengths):
    return np.zeros(shape, np.uint32)


def pair_rows_reference(paired, x):
    paired[:] = as_pairs(x, axis=1)


@kernel(
    pair_rows_reference, "(a,P,n) (a,m,n)", cycles=0.4, dtypes=("float32",), values={"paired": _pairs},
    lengths={"P": lambda m: pairs_of(m)},
)  # fmt: skip
def pair_rows(paired, x):
    """paired = the rows 2 i and 2 i + 1 of each matrix of x."""
    pairs, n, rows = paired.shape[1], paired.shape[2], x.shape[1]
    for t in prange(paired.shape[0] * pairs):
        matrix, i = t // pairs, t % pairs
        target, first = paired[matrix, i], x[matrix, 2 * i]
        if 2 * i + 1 < rows:
            second = x[matrix, 2 * i + 1]
            for j in range(n):
                target[j] = pair(first[j], second[j])
        else:
            for j in range(n):
                target[j] = pair(first[j], np.float32(0))
