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
from nbbp.kernels.arrays import LINE
from nbbp.kernels.gemm import affine_reference
from nbbp.kernels.jit import device, kernel
from nbbp.kernels.panel_gemm import AHEAD, PANEL_BYTES, copy_panel
from nbbp.kernels.pointers import at, copy, prefetch
from nbbp.kernels.tiles import FROM_ZERO, ROWS, columns, multiply_panel
from nbbp.kernels.transposes import transpose_rows

LARGE = 1 << 20  # bytes of B beyond which packing pays off
MANY_ROWS = 128  # least rows of A for which it pays off
SIDE = max(1, LINE // (4 * ROWS))  # slivers whose rows share cache lines


def worthwhile(m: int, n: int, k: int, dtype) -> bool:
    """Whether the product of (m, k) and (k, n) gains from packing."""
    return m >= MANY_ROWS and k * n * np.dtype(dtype).itemsize > LARGE


def _slivers(m: int) -> int:
    return -(-m // ROWS)


def _panel_columns(itemsize: int) -> int:
    return PANEL_BYTES // itemsize


def scratch(m: int, k: int, dtype) -> tuple[np.ndarray, np.ndarray]:
    """Memory for slivers of A (m, k), and a slot for a panel of B for each thread."""
    slivers = arrays.zeros((_slivers(m), k, ROWS), dtype)
    return slivers, arrays.zeros((threads.most(), k, _panel_columns(np.dtype(dtype).itemsize)), dtype)


_PACKED: dict[str, Any] = {
    "values": {"slivers": any_scratch, "panels": any_scratch},
    "lengths": {"T": _slivers, "R": lambda: ROWS, "S": threads.most, "C": _panel_columns},
}


@device
def _pack_rows(sliver, a, a_row, rows):
    """sliver[k, r] = A[r, k]."""
    for r in range(rows):
        for k in range(sliver.shape[0]):
            sliver[k, r] = a[r * a_row + k]


@device
def _pack_columns(slivers, a, a_k, columns):
    """slivers[t, k, r] = A[k, t ROWS + r] for some columns of A, at most those of SIDE slivers."""
    length = slivers.shape[1]
    if columns == SIDE * ROWS:
        for k in range(length):
            row = at(a, k * a_k)
            prefetch(at(a, min(k + AHEAD, length - 1) * a_k))
            for t in range(SIDE):
                copy(at(slivers, (t * length + k) * ROWS), at(row, t * ROWS), ROWS)
        return
    for t in range(slivers.shape[0]):
        for k in range(length):
            for r in range(min(ROWS, columns - t * ROWS)):
                slivers[t, k, r] = a[k * a_k + t * ROWS + r]


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
        _pack_rows(slivers[t], at(x, t * ROWS * k), k, min(ROWS, m - t * ROWS))
    width = columns(at(w, 0))
    for p in prange((n + width - 1) // width):
        j = p * width
        panel = panels[get_thread_id()]
        copy_panel(at(panel, 0), at(w, j), n, k, min(width, n - j))
        _multiply_slivers(at(y, j), slivers, panel, m, min(width, n - j), n, at(b, j), 0)


def product_with_transposed_packed_reference(y, x, w, slivers, panels):
    np.matmul(x, w.T, out=y)


@kernel(product_with_transposed_packed_reference, "(m,n) (m,k) (n,k) (T,k,R) (S,k,C)", cycles=1 / 24, **_PACKED)
def product_with_transposed_packed(y, x, w, slivers, panels):
    """y = x . w', overwritten; slivers and panels are scratch."""
    m, k = x.shape
    n = w.shape[0]
    for t in prange(slivers.shape[0]):
        _pack_rows(slivers[t], at(x, t * ROWS * k), k, min(ROWS, m - t * ROWS))
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
    for s in prange((slivers.shape[0] + SIDE - 1) // SIDE):
        t = s * SIDE
        _pack_columns(slivers[t : t + SIDE], at(a, t * ROWS), m, min(SIDE * ROWS, m - t * ROWS))
    width = columns(at(b, 0))
    for p in prange((n + width - 1) // width):
        j = p * width
        panel = panels[get_thread_id()]
        copy_panel(at(panel, 0), at(b, j), n, panel.shape[0], min(width, n - j))
        _multiply_slivers(at(c, j), slivers, panel, m, min(width, n - j), n, at(c, j), FROM_ZERO)
