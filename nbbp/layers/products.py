"""The three products of a matrix of weights: with rows, with their gradients, and the weights' own gradient.

Large matrices are multiplied from packed copies, others in place; with bfloat16, all from rounded copies.
"""

import numpy as np

from nbbp.engine.layer import Binding
from nbbp.kernels import packed_gemm
from nbbp.kernels.bfloat16 import pairs_of
from nbbp.kernels.gemm import affine, column_sums, product_of_transposed, transpose
from nbbp.kernels.rounded_gemm import (
    affine_rounded,
    product_of_transposed_rounded,
    product_with_transposed_rounded,
    row_length,
    slivers_of,
)
from nbbp.kernels.tiles import ROWS


def product(b: Binding, y: np.ndarray, x: np.ndarray, w: np.ndarray, bias: np.ndarray) -> None:
    """Bind y = x . w + bias, for matrices x (rows, k), w (k, n)."""
    (rows, k), n = x.shape, w.shape[1]
    if b.rounds:
        b.call(affine_rounded, y, x, w, bias, b.workspace(rows, row_length(k), dtype=np.uint32))
    elif packed_gemm.worthwhile(rows, n, k, x.dtype):
        b.call(packed_gemm.affine_packed, y, x, w, bias, *packed_gemm.scratch(rows, k, x.dtype))
    else:
        b.call(affine, y, x, w, bias)


def product_with_transposed(b: Binding, y: np.ndarray, x: np.ndarray, w: np.ndarray) -> None:
    """Bind y = x . w', for matrices x (rows, k) and parameters w (n, k)."""
    (rows, k), n = x.shape, len(w)
    if b.rounds:
        b.call(product_with_transposed_rounded, y, x, w, b.workspace(rows, row_length(k), dtype=np.uint32))
    elif packed_gemm.worthwhile(rows, n, k, x.dtype):
        b.call(packed_gemm.product_with_transposed_packed, y, x, w, *packed_gemm.scratch(rows, k, x.dtype))
    else:
        b.call(affine, y, x, b.derived(transpose, (k, n), w), b.buffer(n))


def product_with_rows(b: Binding, dw: np.ndarray, db: np.ndarray, x: np.ndarray, dy: np.ndarray) -> None:
    """Bind dw = x' . dy and db = dy summed over its rows, for matrices x (rows, k), dy (rows, n)."""
    (rows, k), n = x.shape, dy.shape[1]
    if b.rounds:
        slivers = b.workspace(slivers_of(k), pairs_of(rows), ROWS, dtype=np.uint32)
        b.call(product_of_transposed_rounded, dw, x, dy, slivers)
        b.call(column_sums, db, dy)
    elif packed_gemm.worthwhile(k, n, rows, x.dtype):
        b.call(packed_gemm.product_of_transposed_packed, dw, x, dy, *packed_gemm.scratch(k, rows, x.dtype))
        b.call(column_sums, db, dy)
    else:
        b.call(product_of_transposed, dw, db, x, dy)
