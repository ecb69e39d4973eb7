"""Copies of matrices, panel by panel: the columns of a panel are contiguous, as register tiles read them."""

import numpy as np
from numba import prange

from nbbp.kernels.arguments import below, fitting, scratch
from nbbp.kernels.gemm import transpose_block
from nbbp.kernels.jit import device, kernel
from nbbp.kernels.pointers import at
from nbbp.kernels.tiles import VECTOR_BYTES, VECTORS, columns
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


@device
def pack_transposed_panel(panel, w, w_row, n):
    """panel[k, j] = W[j, k] for n rows of W."""
    length, width = panel.shape
    vector = columns(w) // VECTORS
    whole = length - length % vector
    for j in range(0, n, vector):
        square = whole if j + vector <= n else 0  # k that go in square blocks
        for k in range(0, square, vector):
            transpose_block(at(panel, k * width + j), width, at(w, j * w_row + k), w_row)
        for i in range(j, min(j + vector, n)):
            for k in range(square, length):
                panel[k, i] = w[i * w_row + k]


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
    width = packed.shape[2]
    for t in prange(packed.shape[0]):
        n = min(width, w.shape[0] - t * width)
        pack_transposed_panel(packed[t], at(w, t * width * w.shape[1]), w.shape[1], n)
