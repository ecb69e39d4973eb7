"""Products of matrices whose elements are rounded to bfloat16, with sums in float32.

The left matrix is rounded once, into memory that the caller gives. Blocks of a panel of the right one are rounded onto
the stack, where they stay in the first-level cache, and multiplied with all rows. Sums run over pairs of k in order, so
that their bits depend neither on blocks nor on threads.
"""

from typing import Any

import numpy as np
from numba import prange

from nbbp.kernels.arguments import scratch_of_pairs
from nbbp.kernels.bfloat16 import PAIR, as_bfloat16, pair, pairing, pairs_of
from nbbp.kernels.gemm import affine_reference
from nbbp.kernels.jit import device, kernel
from nbbp.kernels.panel_gemm import AHEAD, PANEL_BYTES, parts, place_of_part, row_blocks_of_parts
from nbbp.kernels.pointers import at, on_stack, prefetch
from nbbp.kernels.tiles import FROM_ZERO, ROWS, VECTOR_BYTES, VECTORS, columns, multiply_panel
from nbbp.kernels.transposes import transpose_rows

STEPS = 128  # pairs of a block of a panel: 24 KiB
LINE = 16  # pairs of a cache line
SIDE = LINE // ROWS  # slivers whose rows share cache lines

_block_of_panel, _turned_block = (on_stack(STEPS * PANEL_BYTES // 4, PAIR) for _ in range(2))
_pair_vectors, _pair_row_of_sliver = pairing(VECTOR_BYTES // 4), pairing(ROWS)


def row_length(k: int) -> int:
    """The pairs of a rounded row of k numbers, and a line more: rows at powers of two would share few cache sets."""
    return (pairs_of(k) + LINE - 1) // LINE * LINE + LINE


def slivers_of(m: int) -> int:
    """The number of slivers of ROWS rows."""
    return -(-m // ROWS)


_ROUNDED: dict[str, Any] = {
    "cycles": 1 / 40,
    "values": {"rounded_x": scratch_of_pairs},
    "lengths": {"K": row_length},
    "dtypes": ("float32",),
}


@device
def round_row(target, source, k):
    """target = a row of k numbers, in pairs."""
    for p in range(k // 2):
        target[p] = pair(source[2 * p], source[2 * p + 1])
    if k % 2:
        target[k // 2] = pair(source[k - 1], np.float32(0))


@device
def _round_panel(panel, b, b_k, k, n):
    """panel[p, j] = B[2 p, j] and B[2 p + 1, j] for k rows and n columns of B."""
    width = columns(b)
    lanes = width // VECTORS
    whole = n // lanes * lanes
    for p in range((k + 1) // 2):
        target, even = at(panel, p * width), at(b, 2 * p * b_k)
        if 2 * p + 1 == k:
            for j in range(n):
                target[j] = pair(even[j], np.float32(0))
            break
        odd, ahead = at(even, b_k), at(b, min(2 * p + AHEAD, k - 2) * b_k)
        for j in range(0, whole, lanes):
            prefetch(at(ahead, j))
            prefetch(at(ahead, b_k + j))
            _pair_vectors(at(target, j), at(even, j), at(odd, j))
        for j in range(whole, n):
            target[j] = pair(even[j], odd[j])


@device
def _round_panel_of_rows(panel, b, b_row, k, n):
    """panel[p, j] = B[j, 2 p] and B[j, 2 p + 1] for n rows and k columns of B."""
    turned = _turned_block(panel)
    for j in range(n):
        round_row(at(turned, j * STEPS), at(b, j * b_row), k)
    transpose_rows(panel, columns(b), turned, STEPS, n, (k + 1) // 2)


@device
def _multiply_rows(m, n, k, a, a_row, panel, c, c_row, start, start_row):
    """C = start + A . B for a block of a panel, in pairs."""
    multiply_panel(m, n, (k + 1) // 2, a, a_row, 1, panel, columns(c), c, c_row, start, start_row)


def affine_rounded_reference(y, x, w, b, rounded_x):
    affine_reference(y, as_bfloat16(x), as_bfloat16(w), b)


@kernel(affine_rounded_reference, "(m,n) (m,k) (k,n) (n) (m,K)", **_ROUNDED)
def affine_rounded(y, x, w, b, rounded_x):
    """y = x . w + b, overwritten; rounded_x is scratch."""
    m, k = x.shape
    n, length, rows = w.shape[1], rounded_x.shape[1], at(rounded_x, 0)
    for i in prange(m):
        round_row(at(rows, i * length), at(x, i * k), k)
    blocks = row_blocks_of_parts(m, n, at(y, 0))
    for t in prange(parts(n, blocks, at(y, 0))):
        i, j, end_row, end = place_of_part(t, blocks, m, n, at(y, 0))
        panel, c = _block_of_panel(at(y, 0)), at(y, i * n + j)
        for s in range(0, k, 2 * STEPS):
            some = min(2 * STEPS, k - s)
            _round_panel(panel, at(w, s * n + j), n, some, end - j)
            start, start_row = (c, n) if s else (at(b, j), 0)
            _multiply_rows(
                end_row - i, end - j, some, at(rows, i * length + s // 2), length, panel, c, n, start, start_row
            )  # fmt: skip


def product_with_transposed_rounded_reference(y, x, w, rounded_x):
    np.matmul(as_bfloat16(x), as_bfloat16(w).T, out=y)


@kernel(product_with_transposed_rounded_reference, "(m,n) (m,k) (n,k) (m,K)", **_ROUNDED)
def product_with_transposed_rounded(y, x, w, rounded_x):
    """y = x . w', overwritten; rounded_x is scratch."""
    m, k = x.shape
    n, length, rows = w.shape[0], rounded_x.shape[1], at(rounded_x, 0)
    for i in prange(m):
        round_row(at(rows, i * length), at(x, i * k), k)
    blocks = row_blocks_of_parts(m, n, at(y, 0))
    for t in prange(parts(n, blocks, at(y, 0))):
        i, j, end_row, end = place_of_part(t, blocks, m, n, at(y, 0))
        panel, c = _block_of_panel(at(y, 0)), at(y, i * n + j)
        for s in range(0, k, 2 * STEPS):
            some = min(2 * STEPS, k - s)
            _round_panel_of_rows(panel, at(w, j * k + s), k, some, end - j)
            _multiply_rows(
                end_row - i, end - j, some, at(rows, i * length + s // 2), length, panel, c, n, c, n if s else FROM_ZERO
            )  # fmt: skip


@device
def _round_columns(slivers, size, a, a_k, k, some):
    """slivers[t, p, r] = A[2 p, t ROWS + r] and A[2 p + 1, ...] for `some` columns of A, those of SIDE slivers."""
    for p in range((k + 1) // 2):
        even = at(a, 2 * p * a_k)
        odd, ahead = at(even, a_k), at(a, min(2 * p + AHEAD, k - 1) * a_k)
        prefetch(ahead)
        prefetch(at(ahead, a_k))
        for t in range((some + ROWS - 1) // ROWS):
            target, first = at(slivers, t * size + p * ROWS), t * ROWS
            here = min(ROWS, some - first)
            if 2 * p + 1 == k:
                for r in range(here):
                    target[r] = pair(even[first + r], np.float32(0))
            elif here == ROWS:
                _pair_row_of_sliver(target, at(even, first), at(odd, first))
            else:
                for r in range(here):
                    target[r] = pair(even[first + r], odd[first + r])


def product_of_transposed_rounded_reference(c, a, b, slivers):
    np.matmul(as_bfloat16(a).T, as_bfloat16(b), out=c)


@kernel(
    product_of_transposed_rounded_reference, "(m,n) (k,m) (k,n) (T,P,R)", cycles=1 / 40,
    values={"slivers": scratch_of_pairs}, dtypes=("float32",),
    lengths={"T": lambda m: slivers_of(m), "P": lambda k: pairs_of(k), "R": lambda: ROWS},
)  # fmt: skip
def product_of_transposed_rounded(c, a, b, slivers):
    """c = a' . b, overwritten; slivers are scratch."""
    k, m = a.shape
    n, tiles, size, own = b.shape[1], slivers.shape[0], slivers.shape[1] * ROWS, at(slivers, 0)
    for s in prange((tiles + SIDE - 1) // SIDE):
        t = s * SIDE
        _round_columns(at(own, t * size), size, at(a, t * ROWS), m, k, min(SIDE * ROWS, m - t * ROWS))
    blocks = row_blocks_of_parts(m, n, at(c, 0))
    for part in prange(parts(n, blocks, at(c, 0))):
        first, j, last, end = place_of_part(part, blocks, tiles, n, at(c, 0))
        panel = _block_of_panel(at(c, 0))
        for s in range(0, k, 2 * STEPS):
            some = min(2 * STEPS, k - s)
            _round_panel(panel, at(b, s * n + j), n, some, end - j)
            for t in range(first, last):
                tile = at(c, t * ROWS * n + j)
                multiply_panel(
                    min(ROWS, m - t * ROWS), end - j, (some + 1) // 2, at(own, t * size + s // 2 * ROWS), 1, ROWS,
                    panel, columns(tile), tile, n, tile, n if s else FROM_ZERO,
                )  # fmt: skip
