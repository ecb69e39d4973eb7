"""Products of large matrices, from packed copies.

In place, the rows that one tile reads would be kilobytes apart, at strides that map to few sets of the cache. Here
A is copied once into slivers of ROWS rows, and B panel by panel, each by the thread that multiplies it, into a slot
that stays in that thread's second-level cache. The sums are those of `gemm`, bit for bit.
"""

from typing import Any

import numpy as np
from numba import get_thread_id, prange

from nbbp.kernels import arrays, threads
from nbbp.kernels.arguments import scratch as any_scratch
from nbbp.kernels.gemm import affine_reference, transpose_rows
from nbbp.kernels.jit import device, kernel
from nbbp.kernels.pointers import at
from nbbp.kernels.tiles import FROM_ZERO, ROWS, VECTOR_BYTES, VECTORS, columns, multiply_panel

LARGE = 1 << 20  # bytes of B beyond which packing pays off
MANY_ROWS = 128  # least rows of A for which it pays off


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
    return slivers, arrays.zeros((threads.most(), k, _panel_columns(np.dtype(dtype).itemsize)), dtype)


_PACKED: dict[str, Any] = {
    "values": {"slivers": any_scratch, "panels": any_scratch},
    "lengths": {"T": _slivers, "R": lambda: ROWS, "S": threads.most, "C": _panel_columns},
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
def _pack_panel(panel, b, b_k, n):
    """panel[k, j] = B[k, j] for n columns."""
    for k in range(panel.shape[0]):
        row, source = panel[k], at(b, k * b_k)
        for j in range(n):
            row[j] = source[j]


@device
def _multiply_slivers(c, slivers, panel, m, n, c_row, start, start_row):
    """C = start + A . B for a panel of n columns."""
    tiles, k, rows = slivers.shape
    for t in range(tiles):
        i = t * rows
        multiply_panel(
            min(rows, m - i), n, k, at(slivers, i * k), 1, rows, at(panel, 0), panel.shape[1],
            at(c, i * c_row), c_row, start if start_row == 0 else at(start, i * start_row), start_row,
        )  # fmt: skip


def affine_packed_reference(y, x, w, b, slivers, panels):
    affine_reference(y, x, w, b)


@kernel(affine_packed_reference, "(m,n) (m,k) (k,n) (n) (T,k,R) (S,k,C)", cycles=1 / 24, **_PACKED)
def affine_packed(y, x, w, b, slivers, panels):
    """y = x . w + b, overwritten; slivers and panels are scratch."""
    m, k = x.shape
    n = w.shape[1]
    for t in prange(slivers.shape[0]):
        _pack_sliver(slivers[t], at(x, t * ROWS * k), k, 1, min(ROWS, m - t * ROWS))
    width = columns(at(w, 0))
    for p in prange((n + width - 1) // width):
        j = p * width
        panel = panels[get_thread_id()]
        _pack_panel(panel, at(w, j), n, min(width, n - j))
        _multiply_slivers(at(y, j), slivers, panel, m, min(width, n - j), n, at(b, j), 0)


def product_with_transposed_packed_reference(y, x, w, slivers, panels):
    np.matmul(x, w.T, out=y)


@kernel(product_with_transposed_packed_reference, "(m,n) (m,k) (n,k) (T,k,R) (S,k,C)", cycles=1 / 24, **_PACKED)
def product_with_transposed_packed(y, x, w, slivers, panels):
    """y = x . w', overwritten; slivers and panels are scratch."""
    m, k = x.shape
    n = w.shape[0]
    for t in prange(slivers.shape[0]):
        _pack_sliver(slivers[t], at(x, t * ROWS * k), k, 1, min(ROWS, m - t * ROWS))
    width = columns(at(w, 0))
    for p in prange((n + width - 1) // width):
        j = p * width
        panel = panels[get_thread_id()]
        transpose_rows(at(panel, 0), width, at(w, j * k), k, min(width, n - j), k)
        _multiply_slivers(at(y, j), slivers, panel, m, min(width, n - j), n, at(y, j), FROM_ZERO)


def product_of_transposed_packed_reference(c, a, b, slivers, panels):
    np.matmul(a.T, b, out=c)


@kernel(product_of_transposed_packed_reference, "(m,n) (k,m) (k,n) (T,k,R) (S,k,C)", cycles=1 / 24, **_PACKED)
def product_of_transposed_packed(c, a, b, slivers, panels):
    """c = a' . b, overwritten; slivers and panels are scratch."""
    m, n = c.shape
    for t in prange(slivers.shape[0]):
        _pack_sliver(slivers[t], at(a, t * ROWS), 1, m, min(ROWS, m - t * ROWS))
    width = columns(at(b, 0))
    for p in prange((n + width - 1) // width):
        j = p * width
        panel = panels[get_thread_id()]
        _pack_panel(panel, at(b, j), n, min(width, n - j))
        _multiply_slivers(at(c, j), slivers, panel, m, min(width, n - j), n, at(c, j), FROM_ZERO)
