"""Matrix products in place, sums over rows, and transposes."""

import numpy as np
from numba import prange, types

from nbbp.kernels.few_columns import (
    blocks_of_rows,
    blocks_side_by_side,
    few_columns,
    multiply_few_columns,
    rows_of_block,
    sum_block,
    sum_blocks,
    write_transposed,
)
from nbbp.kernels.few_steps import few_steps, multiply_few_steps
from nbbp.kernels.jit import device, kernel
from nbbp.kernels.panel_gemm import (
    COPIES,
    multiply_part,
    multiply_part_of_many_rows,
    parts,
    pays_off,
    row_blocks_of_parts,
)
from nbbp.kernels.pointers import at, on_stack
from nbbp.kernels.tiles import (
    BROAD,
    FROM_ZERO,
    ROWS,
    VECTOR_BYTES,
    VECTORS,
    columns,
    multiply,
    multiply_panel,
    panel_columns,
)
from nbbp.kernels.transposes import transpose_rows


def affine_reference(y, x, w, b):
    np.matmul(x, w, out=y)
    y += b


@kernel(affine_reference, "(m,n) (m,k) (k,n) (n)", cycles=1 / 10)
def affine(y, x, w, b):
    """y = x . w + b, overwritten."""
    m, k = x.shape
    n = w.shape[1]
    narrow, short = few_columns(m, n, k, at(y, 0)), few_steps(m, n, k, at(y, 0))
    if COPIES and pays_off(m, n, at(y, 0)) and not short:
        blocks = row_blocks_of_parts(m, n, at(y, 0))
        for t in prange(parts(n, blocks, at(y, 0))):
            multiply_part(t, blocks, m, n, k, at(x, 0), k, 1, at(w, 0), n, at(y, 0), n, at(b, 0), 0)
        return
    pieces = blocks_of_rows(m, at(y, 0)) if narrow or short else (m + ROWS - 1) // ROWS
    for t in prange(pieces):  # Numba runs a loop over a conditional expression itself on one thread
        i = t * ROWS
        if narrow:
            multiply_few_columns(t, m, n, k, at(x, 0), at(w, 0), at(b, 0), at(y, 0))
        elif short:
            i, rows = rows_of_block(t, m, at(y, 0))
            multiply_few_steps(rows, n, k, at(x, i * k), at(w, 0), at(y, i * n), at(b, 0))
        else:
            multiply(min(ROWS, m - i), n, k, at(x, i * k), k, 1, at(w, 0), n, at(y, i * n), n, at(b, 0), 0)


MULTIPLIED_ROWS = 256  # beyond this, products of this many rows are added in float64
TILE = ROWS * VECTORS * VECTOR_BYTES // 4

_part_of_tile, _totals_of_tile = on_stack(TILE), on_stack(TILE, types.float64)
_turned_tile = on_stack(VECTOR_BYTES // 4 * VECTORS * VECTOR_BYTES // 4)


@device
def multiply_many_rows(m, n, k, a, a_k, b, b_k, c):
    """C = A' . B for at most ROWS rows of C and k > MULTIPLIED_ROWS rows of A and B."""
    part, totals = _part_of_tile(c), _totals_of_tile(c)
    j = 0
    while j < n:
        w = panel_columns(n - j, c)
        for i in range(m * w):
            totals[i] = 0.0
        for r in range(0, k, MULTIPLIED_ROWS):
            rows = min(MULTIPLIED_ROWS, k - r)
            multiply_panel(m, w, rows, at(a, r * a_k), 1, a_k, at(b, r * b_k + j), b_k, part, w, part, FROM_ZERO)
            for i in range(m * w):
                totals[i] += part[i]
        for i in range(m):
            for q in range(w):
                c[i * n + j + q] = totals[i * w + q]
        j += w


@device
def _turns(m, n, like):
    """Whether C (m, n) has so few columns that its transpose fills vectors better."""
    return n <= columns(like) // VECTORS and m >= 2 * n


@device
def _multiply_turned(j, m, n, k, a, b, c):
    """Rows of C = A' . B from the j-th on, those of a panel, as columns of the transpose."""
    w, turned = min(columns(c), m - j), _turned_tile(c)
    for i in range(0, n, ROWS):
        rows, part = min(ROWS, n - i), at(turned, i * w)
        if k > MULTIPLIED_ROWS:
            multiply_many_rows(rows, w, k, at(b, i), n, at(a, j), m, part)
        else:
            multiply_panel(rows, w, k, at(b, i), 1, n, at(a, j), m, part, w, turned, FROM_ZERO)
    write_transposed(at(c, j * n), turned, n, w)


def product_of_transposed_reference(c, sums, a, b):
    np.matmul(a.T, b, out=c)
    sums[:] = b.sum(axis=0, dtype=np.float64)


@kernel(product_of_transposed_reference, "(m,n) (n) (k,m) (k,n)", cycles=1 / 10)
def product_of_transposed(c, sums, a, b):
    """c = a' . b and sums = b summed over its rows, overwritten: the gradients of weights and biases."""
    k, m = a.shape
    n = b.shape[1]
    sum_rows(at(sums, 0), at(b, 0), k, n, n)
    if COPIES and pays_off(m, n, at(c, 0)):
        blocks = row_blocks_of_parts(m, n, at(c, 0))
        for t in prange(parts(n, blocks, at(c, 0))):
            if k > MULTIPLIED_ROWS:
                multiply_part_of_many_rows(
                    t, blocks, m, n, k, MULTIPLIED_ROWS, at(a, 0), m, at(b, 0), n, at(c, 0)
                )  # fmt: skip
            else:
                multiply_part(t, blocks, m, n, k, at(a, 0), 1, m, at(b, 0), n, at(c, 0), n, at(c, 0), FROM_ZERO)
        return
    turned = _turns(m, n, at(c, 0))
    rows = columns(at(c, 0)) if turned else ROWS
    for t in prange((m + rows - 1) // rows):
        i = t * rows
        if turned:
            _multiply_turned(i, m, n, k, at(a, 0), at(b, 0), at(c, 0))
        elif k > MULTIPLIED_ROWS:
            multiply_many_rows(min(ROWS, m - i), n, k, at(a, i), m, at(b, 0), n, at(c, i * n))
        else:
            multiply(min(ROWS, m - i), n, k, at(a, i), 1, m, at(b, 0), n, at(c, i * n), n, at(c, 0), FROM_ZERO)


STRIP = BROAD * VECTOR_BYTES // 4  # columns that are summed at a time, at most
ADDED_ROWS = 128  # beyond this, the sums of this many rows are added in float64: float32 would lose digits

_sums_of_strip, _totals_of_strip = on_stack(STRIP), on_stack(STRIP, types.float64)


@device
def _add_strip(n, m, x, x_row, sums):
    """sums = x summed over its m rows in order, for at most STRIP columns."""
    if m <= ADDED_ROWS:
        sum_block(m, n, x, x_row, sums)
        return
    some, totals, done, blocks = _sums_of_strip(x), _totals_of_strip(x), 0, blocks_side_by_side(n)
    for j in range(n):
        totals[j] = 0.0
    while blocks > 1 and m - done >= blocks * ADDED_ROWS:
        sum_blocks(ADDED_ROWS, n, at(x, done * x_row), x_row, some, n)
        for q in range(blocks):
            for j in range(n):
                totals[j] += some[q * n + j]
        done += blocks * ADDED_ROWS
    for i in range(done, m, ADDED_ROWS):
        sum_block(min(ADDED_ROWS, m - i), n, at(x, i * x_row), x_row, some)
        for j in range(n):
            totals[j] += some[j]
    for j in range(n):
        sums[j] = totals[j]


@device
def sum_rows(sums, x, m, n, x_row):
    """sums = m rows of x, n columns each, summed."""
    strip = BROAD * (columns(x) // VECTORS)
    for j in range(0, n, strip):
        _add_strip(min(strip, n - j), m, at(x, j), x_row, at(sums, j))


def row_blocks(rows: int) -> int:
    """The number of blocks of ADDED_ROWS rows, the last of which may be shorter."""
    return -(-rows // ADDED_ROWS)


def sum_parts_reference(parts, x):
    for part, first in zip(parts, range(0, len(x), ADDED_ROWS), strict=True):
        part[:] = x[first : first + ADDED_ROWS].sum(axis=0)


@kernel(sum_parts_reference, "(P,n) (m,n)", cycles=0.2, lengths={"P": lambda m: row_blocks(m)})
def sum_parts(parts, x):
    """The sums of blocks of ADDED_ROWS rows of x, overwritten."""
    m, n = x.shape
    width = BROAD * (columns(at(x, 0)) // VECTORS)
    strips = (n + width - 1) // width
    for t in prange(parts.shape[0] * strips):
        i, j = t // strips * ADDED_ROWS, t % strips * width
        _add_strip(min(width, n - j), min(ADDED_ROWS, m - i), at(x, i * n + j), n, at(parts, t // strips * n + j))


@device
def _add_strip_of_parts(sums, parts, begin):
    """sums = the rows of `parts`, added in float64, in the columns of a strip."""
    width = min(STRIP, sums.shape[0] - begin)
    totals = _totals_of_strip(at(sums, 0))
    for j in range(width):
        totals[j] = 0.0
    for p in range(parts.shape[0]):
        part = parts[p][begin : begin + width]
        for j in range(width):
            totals[j] += part[j]
    for j in range(width):
        sums[begin + j] = totals[j]


@device
def add_parts(sums, parts):
    """sums = the rows of `parts`, added in float64."""
    for begin in range(0, sums.shape[0], STRIP):
        _add_strip_of_parts(sums, parts, begin)


def total_of_parts_reference(sums, parts):
    sums[:] = parts.sum(axis=0, dtype=np.float64)


@kernel(total_of_parts_reference, "(n) (P,n)", cycles=0.5)
def total_of_parts(sums, parts):
    """The sums over all rows, from those of blocks of rows, or of groups of windows."""
    for t in prange((sums.shape[0] + STRIP - 1) // STRIP):
        _add_strip_of_parts(sums, parts, t * STRIP)


def transpose_reference(y, x):
    y[:] = x.T


@kernel(transpose_reference, "(n,m) (m,n)", cycles=0.4)
def transpose(y, x):
    """y = x', overwritten."""
    m, n = x.shape
    width = columns(at(x, 0)) // VECTORS
    for p in prange((n + width - 1) // width):
        j = p * width
        transpose_rows(at(y, j * m), m, at(x, j), n, m, min(width, n - j))


def column_sums_reference(sums, x):
    sums[:] = x.sum(axis=0, dtype=np.float64)


@kernel(column_sums_reference, "(n) (m,n)", cycles=0.1)
def column_sums(sums, x):
    """sums = x summed over its rows, overwritten."""
    m, n = x.shape
    width = columns(at(x, 0))
    for p in prange((n + width - 1) // width):
        j = p * width
        _add_strip(min(width, n - j), m, at(x, j), n, at(sums, j))
