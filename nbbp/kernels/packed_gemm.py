"""Products of large matrices, from packed copies.

In place, the rows that one tile reads would be kilobytes apart, at strides that map to few sets of the cache. Here
A is copied once into slivers of ROWS rows, and B panel by panel and block by block, each by the thread that multiplies
it, into a slot that stays in that thread's second-level cache, as does the block of A. The sums are those of `gemm`,
bit for bit.
"""

from typing import Any

import numpy as np
from numba import get_num_threads, get_thread_id, prange

from nbbp.kernels import arrays, threads
from nbbp.kernels.arguments import scratch as any_scratch
from nbbp.kernels.gemm import affine_reference, transpose_block
from nbbp.kernels.jit import device, kernel
from nbbp.kernels.pointers import at
from nbbp.kernels.tiles import FROM_ZERO, ROWS, VECTOR_BYTES, VECTORS, multiply_panel

LARGE = 1 << 20  # bytes of B beyond which packing pays off
MANY_ROWS = 128  # least rows of A for which it pays off
BLOCK_ROWS, BLOCK = 256, 512  # rows of A, and columns of A or rows of B, that are multiplied at a time


def worthwhile(m: int, n: int, k: int, dtype) -> bool:
    """Whether the product of (m, k) and (k, n) gains from packing."""
    return m >= MANY_ROWS and k * n * np.dtype(dtype).itemsize > LARGE


def _slivers(m: int) -> int:
    return -(-m // ROWS)


def _panel_columns(itemsize: int) -> int:
    return VECTORS * VECTOR_BYTES // itemsize


def scratch(m: int, k: int, dtype) -> tuple[np.ndarray, np.ndarray]:
    """Memory for slivers of A (m, k), and a slot for a panel of B for each thread."""
    slivers = arrays.zeros((_slivers(m), k, ROWS), dtype)
    return slivers, arrays.zeros((threads.most(), BLOCK, _panel_columns(np.dtype(dtype).itemsize)), dtype)


_PACKED: dict[str, Any] = {
    "values": {"slivers": any_scratch, "panels": any_scratch},
    "lengths": {"T": _slivers, "R": lambda: ROWS, "S": threads.most, "B": lambda: BLOCK, "C": _panel_columns},
}


@device
def _pack_sliver(sliver, a, a_row, a_k, rows):
    """sliver[k, r] = A[r, k]."""
    if a_k == 1:
        for r in range(rows):
            for k in range(sliver.shape[0]):
                sliver[k, r] = a[r * a_row + k]
    else:
        for k in range(sliver.shape[0]):
            for r in range(rows):
                sliver[k, r] = a[k * a_k + r]


@device
def _pack_panel(panel, b, b_row, first, rows, j, n):
    """panel[k, q] = B[first + k, j + q] for some rows and n columns of B."""
    for k in range(rows):
        row, source = panel[k], at(b, (first + k) * b_row + j)
        for q in range(n):
            row[q] = source[q]


@device
def _pack_transposed_panel(panel, w, w_row, first, columns, j, n):
    """panel[k, q] = W[j + q, first + k] for n rows of W and some columns."""
    width = panel.shape[1]
    vector = width // VECTORS
    whole = columns - columns % vector
    for i in range(0, n, vector):
        square = whole if i + vector <= n else 0  # k that go in square blocks
        for k in range(0, square, vector):
            transpose_block(at(panel, k * width + i), width, at(w, (j + i) * w_row + first + k), w_row)
        for q in range(i, min(i + vector, n)):
            for k in range(square, columns):
                panel[k, q] = w[(j + q) * w_row + first + k]


def _product(pack):
    @device
    def multiply_share(share, shares, c, slivers, panel, b, b_row, start, start_row):
        """A share of the panels of C = start + A . B.

        The block of A that is multiplied stays in the second-level cache for all of them; C is read again for the next
        block of k.
        """
        m, n = c.shape
        tiles, k, rows = slivers.shape
        width = panel.shape[1]
        count = (n + width - 1) // width
        for tile in range(0, tiles, BLOCK_ROWS // rows):
            for first in range(0, k, BLOCK):
                length = min(BLOCK, k - first)
                for p in range(count * share // shares, count * (share + 1) // shares):
                    j = p * width
                    wide = min(width, n - j)
                    pack(panel, b, b_row, first, length, j, wide)
                    for t in range(tile, min(tile + BLOCK_ROWS // rows, tiles)):
                        own = at(c, t * rows * n + j)
                        begin, begin_row = (own, n) if first else (at(start, j), start_row)
                        multiply_panel(
                            min(rows, m - t * rows), wide, length, at(slivers, (t * k + first) * rows), 1, rows,
                            at(panel, 0), width, own, n, begin, begin_row,
                        )  # fmt: skip

    return multiply_share


_multiply_share, _multiply_share_transposed = _product(_pack_panel), _product(_pack_transposed_panel)


def affine_packed_reference(y, x, w, b, slivers, panels):
    affine_reference(y, x, w, b)


@kernel(affine_packed_reference, "(m,n) (m,k) (k,n) (n) (T,k,R) (S,B,C)", cycles=1 / 24, **_PACKED)
def affine_packed(y, x, w, b, slivers, panels):
    """y = x . w + b, overwritten; slivers and panels are scratch."""
    m, k = x.shape
    for t in prange(slivers.shape[0]):
        _pack_sliver(slivers[t], at(x, t * ROWS * k), k, 1, min(ROWS, m - t * ROWS))
    shares = get_num_threads()
    for s in prange(shares):
        _multiply_share(s, shares, y, slivers, panels[get_thread_id()], at(w, 0), w.shape[1], at(b, 0), 0)


def product_with_transposed_packed_reference(y, x, w, slivers, panels):
    np.matmul(x, w.T, out=y)


@kernel(product_with_transposed_packed_reference, "(m,n) (m,k) (n,k) (T,k,R) (S,B,C)", cycles=1 / 24, **_PACKED)
def product_with_transposed_packed(y, x, w, slivers, panels):
    """y = x . w', overwritten; slivers and panels are scratch."""
    m, k = x.shape
    for t in prange(slivers.shape[0]):
        _pack_sliver(slivers[t], at(x, t * ROWS * k), k, 1, min(ROWS, m - t * ROWS))
    shares = get_num_threads()
    for s in prange(shares):
        panel = panels[get_thread_id()]
        _multiply_share_transposed(s, shares, y, slivers, panel, at(w, 0), k, at(y, 0), FROM_ZERO)


def product_of_transposed_packed_reference(c, a, b, slivers, panels):
    np.matmul(a.T, b, out=c)


@kernel(product_of_transposed_packed_reference, "(m,n) (k,m) (k,n) (T,k,R) (S,B,C)", cycles=1 / 24, **_PACKED)
def product_of_transposed_packed(c, a, b, slivers, panels):
    """c = a' . b, overwritten; slivers and panels are scratch."""
    m = c.shape[0]
    for t in prange(slivers.shape[0]):
        _pack_sliver(slivers[t], at(a, t * ROWS), 1, m, min(ROWS, m - t * ROWS))
    shares = get_num_threads()
    for s in prange(shares):
        _multiply_share(s, shares, c, slivers, panels[get_thread_id()], at(b, 0), b.shape[1], at(c, 0), FROM_ZERO)
