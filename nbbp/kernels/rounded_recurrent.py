"""The products of recurrent steps with operands rounded to bfloat16, and the kernels that have them."""

import functools
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numba import types

from nbbp.kernels.arguments import Derived, Values
from nbbp.kernels.bfloat16 import PAIR, as_pairs, pairs_of, product
from nbbp.kernels.jit import Kernel, device, kernel
from nbbp.kernels.pointers import at, on_stack
from nbbp.kernels.recurrent import GROUP
from nbbp.kernels.rounded_gemm import STEPS, round_row
from nbbp.kernels.tiles import FROM_ZERO, multiply_at_offsets

_rows_in_pairs = on_stack(GROUP * STEPS, PAIR)
_offsets_of_a, _offsets_of_c = on_stack(GROUP, types.int32), on_stack(GROUP, types.int32)


@device
def multiply_rows_rounded(chosen, count, m, k, a, a_row, ks, packed, above, n, c, c_row, start, start_row):
    """The product of `multiply_rows` with A rounded and B packed in pairs of rows; those above are even in number."""
    size, width = packed.shape[1] * packed.shape[2], packed.shape[2]
    rows, rows_of_a, rows_of_c = _rows_in_pairs(ks), _offsets_of_a(ks), _offsets_of_c(ks)
    for i in range(count):
        rows_of_a[i], rows_of_c[i] = i * STEPS, chosen[i] * c_row
    start_row = start_row if start_row == FROM_ZERO else min(start_row, 1)
    for s in range(0, k, 2 * STEPS):
        some = min(2 * STEPS, k - s)
        for i in range(count):
            round_row(at(rows, i * STEPS), at(a, chosen[i] * a_row + s), some)
        for p in range((n + width - 1) // width):
            j = p * width
            b, w, c_j = at(packed, p * size + (above + s) // 2 * width), min(width, n - j), at(c, j)
            start_j, start_here = (c_j, 1) if s else (at(start, j), start_row)
            multiply_at_offsets(
                count, w, (some + 1) // 2, rows, rows_of_a, at(ks, 0), b, width, c_j, rows_of_c, start_j, start_here
            )  # fmt: skip


def product_of_rows(x: np.ndarray, w: np.ndarray) -> np.ndarray:
    """x . w, where x is rounded if w is in pairs."""
    return product(as_pairs(x, axis=1), w) if w.dtype == np.uint32 else x @ w


def rows_from(w: np.ndarray, first: int) -> np.ndarray:
    """The rows of w from an even one on; w may be in pairs."""
    return w[first // 2 :] if w.dtype == np.uint32 else w[first:]


def rows_until(w: np.ndarray, last: int) -> np.ndarray:
    """The rows of w before an even one; w may be in pairs."""
    return w[: last // 2] if w.dtype == np.uint32 else w[:last]


def _in_pairs(values: Values) -> Values:
    def drawn(rng, shape, dtype, lengths):
        return as_pairs(values(rng, (shape[0], 2 * shape[1], *shape[2:]), np.dtype(np.float32), lengths), axis=1)

    return drawn


def _pairs_of(length: Derived) -> Derived:
    @functools.wraps(length)
    def derived(*lengths):
        return pairs_of(length(*lengths))

    return derived


def kernels_of_steps(
    reference: Callable, shapes: str, *, weights: Mapping[str, Values], rows: Mapping[str, Derived],
    values: Mapping[str, Values], lengths: Mapping[str, Derived], cycles: float,
) -> Callable[[Callable], tuple[Kernel, Kernel]]:  # fmt: skip
    """Declare a kernel of steps twice: with full products by `multiply_rows`, and with rounded ones.

    Parameters
    ----------
    weights
        The packed weights, and their values.
    rows
        By letter, the lengths of the weights' rows, which are pairs in the second kernel.
    """

    def declare(function: Callable) -> tuple[Kernel, Kernel]:
        common: dict[str, Any] = {"cycles": cycles}
        full = kernel(reference, shapes, values={**values, **weights}, lengths={**lengths, **rows}, **common)(function)
        rounded = kernel(
            reference, shapes, name=f"{function.__name__}_rounded", dtypes=("float32",),
            values={**values, **{name: _in_pairs(drawn) for name, drawn in weights.items()}},
            lengths={**lengths, **{letter: _pairs_of(length) for letter, length in rows.items()}},
            multiply_rows=multiply_rows_rounded, **common,
        )(function)  # fmt: skip
        return full, rounded

    return declare
