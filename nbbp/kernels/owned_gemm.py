"""Products of a block of columns that one core owns: of the weights into some outputs of a layer.

A block is contiguous, and what it is multiplied with, or into, is a range of columns of an array that has them all. The
sums are those of `gemm`, bit for bit.
"""

from nbbp.kernels.arguments import fitting
from nbbp.kernels.gemm import (
    MULTIPLIED_ROWS,
    affine_reference,
    multiply_many_rows,
    product_of_transposed_reference,
    sum_rows,
)
from nbbp.kernels.jit import kernel
from nbbp.kernels.panel_gemm import COPIES, multiply_from_copies, multiply_part_of_many_rows, parts, pays_off
from nbbp.kernels.pointers import at
from nbbp.kernels.tiles import FROM_ZERO, ROWS, multiply


def affine_columns_reference(y, x, w, b, first):
    columns = slice(first[0], first[0] + w.shape[1])
    affine_reference(y[:, columns], x, w, b[columns])


@kernel(affine_columns_reference, "(m,N) (m,k) (k,n) (N) (1)", cycles=1 / 10, values={"first": fitting("n", "N")})
def affine_columns(y, x, w, b, first):
    """Columns of y = x . w + b from `first` on, overwritten."""
    m, k = x.shape
    n, size = w.shape[1], y.shape[1]
    if COPIES and pays_off(m, n, at(y, 0)):
        own, bias = at(y, first[0]), at(b, first[0])
        multiply_from_copies(m, n, k, at(x, 0), k, 1, at(w, 0), n, own, size, bias, 0)
        return
    for i in range(0, m, ROWS):
        c = at(y, i * size + first[0])
        multiply(min(ROWS, m - i), n, k, at(x, i * k), k, 1, at(w, 0), n, c, size, at(b, first[0]), 0)


def product_with_columns_reference(c, sums, a, b, first):
    columns = slice(first[0], first[0] + c.shape[1])
    product_of_transposed_reference(c, sums[columns], a, b[:, columns])


@kernel(product_with_columns_reference, "(m,n) (N) (k,m) (k,N) (1)", cycles=1 / 10, values={"first": fitting("n", "N")})
def product_with_columns(c, sums, a, b, first):
    """c = a' . b for columns of b from `first` on, and their sums over the rows, overwritten."""
    k, m = a.shape
    n, size = c.shape[1], b.shape[1]
    own = at(b, first[0])
    sum_rows(at(sums, first[0]), own, k, n, size)
    if COPIES and pays_off(m, n, at(c, 0)):
        if k <= MULTIPLIED_ROWS:
            multiply_from_copies(m, n, k, at(a, 0), 1, m, own, size, at(c, 0), n, at(c, 0), FROM_ZERO)
            return
        for t in range(parts(n, 1, at(c, 0))):
            multiply_part_of_many_rows(t, 1, m, n, k, MULTIPLIED_ROWS, at(a, 0), m, own, size, at(c, 0))
        return
    for i in range(0, m, ROWS):
        rows, c_rows = min(ROWS, m - i), at(c, i * n)
        if k > MULTIPLIED_ROWS:
            multiply_many_rows(rows, n, k, at(a, i), m, own, size, c_rows)
        else:
            multiply(rows, n, k, at(a, i), 1, m, own, size, c_rows, n, at(c, 0), FROM_ZERO)
