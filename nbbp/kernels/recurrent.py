"""What recurrent layers share: their order of time, products of the rows of one step, and gradients of weights.

Within a recurrent layer arrays are time-major, (time, rows, ...): the rows of one step are contiguous, each with the
input of the step and, behind it, the output of the step before, so that one product takes both. A group of rows goes
through all of time on one thread; no step waits for other threads. At a step where a row is masked nothing is computed
for it, and its state stays as it was.
"""

import math
from typing import Any

import numpy as np
from numba import get_thread_id, prange, types

from nbbp.kernels import threads
from nbbp.kernels.arguments import below, fitting, flags, scratch, scratch_of_doubles
from nbbp.kernels.gemm import MULTIPLIED_ROWS
from nbbp.kernels.jit import device, kernel
from nbbp.kernels.lanes import LANES, load, store
from nbbp.kernels.panels import panels
from nbbp.kernels.pointers import at, on_stack, prefetch
from nbbp.kernels.tiles import FROM_ZERO, ROWS, VECTOR_BYTES, multiply_at_offsets
from nbbp.kernels.vector_math import ZERO

GROUP = 32  # rows of a group, at most
AHEAD = 16  # rows by which the gradients of sums are fetched before they are copied: they are far apart


def groups(rows: int, cores: int) -> np.ndarray:
    """The bounds of groups of rows: equally many groups for each core, of a tile's rows at least."""
    least = -(-rows // GROUP)
    count = min(-(-least // cores) * cores, -(-rows // ROWS))
    return np.array([rows * k // count for k in range(count + 1)])


def shared_width(n: int, cores: int, itemsize: int) -> int:
    """The width of panels of n columns with which the core that has most of them has least: 3 vectors, or 2."""
    vector = VECTOR_BYTES // itemsize
    return min((3 * vector, 2 * vector), key=lambda width: math.ceil(math.ceil(n / width) / cores) * width)


def either(rng, shape, dtype, lengths):
    """0 or 1."""
    return rng.integers(0, 2, shape)


def offsets(rng, shape, dtype, lengths):
    """0, 1, 2 ..."""
    return np.arange(*shape, dtype=np.int32)


def some_groups(rng, shape, dtype, lengths):
    """The bounds of groups of rows, the last of which may be empty."""
    rows = lengths["b"]
    return np.minimum(np.arange(shape[0]) * -(-rows // (shape[0] - 1)), rows)


def bounds_of_groups(b: int) -> range:
    """The possible numbers of bounds for b rows."""
    return range(-(-b // GROUP) + 1, b + 2)


def contracting(rng, shape, dtype, lengths):
    """Weights with which a difference of states becomes smaller from step to step."""
    return (rng.standard_normal(shape) / (3 * shape[-2] ** 0.5)).astype(dtype)


def to_steps_reference(y, x, backwards):
    y[: len(x[0]), :, : x.shape[2]] = (x[:, ::-1] if backwards[0] else x).swapaxes(0, 1)


_STEPS = {"U": lambda t: t + 1, "V": lambda n: range(n, 2**31)}


@kernel(to_steps_reference, "(U,b,V) (b,t,n) (1)", cycles=0.3, values={"backwards": either}, lengths=_STEPS)
def to_steps(y, x, backwards):
    """The first elements of y (time + 1, rows, ..) = x (rows, time, ..), from the last step on if `backwards`."""
    steps = x.shape[1]
    for t in prange(steps):
        s = steps - 1 - np.int64(t) if backwards[0] else np.int64(t)
        for i in range(x.shape[0]):
            target, source = y[t, i], x[i, s]
            for j in range(source.shape[0]):
                target[j] = source[j]


def from_steps_reference(y, x, backwards, begin):
    h = x[1:, :, begin[0] : begin[0] + y.shape[2]]
    y[:] = (h[::-1] if backwards[0] else h).swapaxes(0, 1)


_WITHIN = {"begin": fitting("n", "V"), "backwards": either}


@kernel(from_steps_reference, "(b,t,n) (U,b,V) (1) (1)", cycles=0.3, values=_WITHIN, lengths=_STEPS)
def from_steps(y, x, backwards, begin):
    """y (rows, time, ..) = elements of x[1:], from `begin` on, where the first step is the last one if `backwards`."""
    steps = y.shape[1]
    for i in prange(y.shape[0]):
        for t in range(steps):
            target, source = y[i, t], x[steps - t if backwards[0] else t + 1, i][begin[0] :]
            for j in range(target.shape[0]):
                target[j] = source[j]


def put_state_reference(x, h, begin):
    x[:, begin[0] : begin[0] + h.shape[1]] = h


_ROWS: dict[str, Any] = {"values": {"begin": fitting("n", "V")}, "lengths": {"V": lambda n: range(n, 2**31)}}


@kernel(put_state_reference, "(b,V) (b,n) (1)", **_ROWS)
def put_state(x, h, begin):
    """The elements of x from `begin` on = h."""
    for i in range(x.shape[0]):
        target, source = x[i][begin[0] :], h[i]
        for j in range(source.shape[0]):
            target[j] = source[j]


def take_state_reference(h, x, begin):
    h[:] = x[:, begin[0] : begin[0] + h.shape[1]]


@kernel(take_state_reference, "(b,n) (b,V) (1)", **_ROWS)
def take_state(h, x, begin):
    """h = the elements of x from `begin` on."""
    for i in range(x.shape[0]):
        target, source = h[i], x[i][begin[0] :]
        for j in range(target.shape[0]):
            target[j] = source[j]


def mask_of_steps_reference(there, mask, backwards):
    there[:] = (mask[:, ::-1] if backwards[0] else mask).T


@kernel(mask_of_steps_reference, "(t,b) (b,t) (1)", values={"there": flags, "mask": flags, "backwards": either})
def mask_of_steps(there, mask, backwards):
    """there (time, rows) = mask (rows, time), from the last step to the first if `backwards`."""
    steps = there.shape[0]
    for t in range(steps):
        for i in range(there.shape[1]):
            there[t, i] = mask[i, steps - 1 - t if backwards[0] else t]


@device
def _copy_columns(target, source, n):
    """The first n elements of target = those of source."""
    done = 0
    while done + LANES <= n:
        store(at(target, done), load(at(source, done), LANES), LANES)
        done += LANES
    for j in range(done, n):
        target[j] = source[j]


def stack_columns_reference(packed, w, u, first):
    count, k, width = packed.shape
    own = np.concatenate([w, u])[:, first[0] : first[0] + count * width]
    whole = np.zeros((k, count * width), w.dtype)
    whole[:, : own.shape[1]] = own
    packed[:] = whole.reshape(k, count, width).swapaxes(0, 1)


@kernel(
    stack_columns_reference, "(T,K,C) (f,G) (h,G) (1)", cycles=20.0, values={"packed": scratch, "first": below("G")},
    lengths={"K": lambda f, h: f + h},
)  # fmt: skip
def stack_columns(packed, w, u, first):
    """packed = the columns of w above those of u, from `first` on, panel by panel; beyond the last, nothing."""
    length, width, columns = packed.shape[1], packed.shape[2], w.shape[1]
    for t in prange(packed.shape[0]):
        begin = first[0] + t * width
        whole = max(0, min(width, columns - begin))
        target = at(packed, t * length * width)
        for i in range(w.shape[0]):
            _copy_columns(at(target, i * width), at(w, i * columns + begin), whole)
        for i in range(w.shape[0], length):
            _copy_columns(at(target, i * width), at(u, (i - w.shape[0]) * columns + begin), whole)


def unpacked(packed, n):
    """The matrix (k, n) of which `packed` is a copy panel by panel."""
    return packed.swapaxes(0, 1).reshape(packed.shape[1], -1)[:, :n]


group_rows = on_stack(GROUP, types.int32)
_offsets_of_a, _offsets_of_c = on_stack(GROUP, types.int32), on_stack(GROUP, types.int32)


def sigmoid_reference(z):
    return np.exp(-np.logaddexp(0, -z))


def where_there(there, t, new, old):
    """`new` in the rows that are there in step t, `old` in the others."""
    return np.where(there[t if len(there) > 1 else 0][:, None], new, old)


@device
def rows_there(chosen, there, t, first, last):
    """Write which of the rows from first to last are there in step t, and return their number."""
    count, here = 0, there[t if there.shape[0] > 1 else 0]
    for i in range(first, last):
        if here[i]:
            chosen[count] = i
            count += 1
    return count


@device
def multiply_rows(chosen, count, m, k, a, a_row, ks, packed, above, n, c, c_row, start, start_row):
    """C = start + A . B for the chosen rows, `count` of m neighbours, and n columns of B, k rows after those `above`.

    B is packed in panels. a, c and start are pointers to row 0; start_row is c_row, 0 for one row for all, or
    FROM_ZERO.
    """
    size, width = packed.shape[1] * packed.shape[2], packed.shape[2]
    rows_of_a, rows_of_c = _offsets_of_a(ks), _offsets_of_c(ks)
    for i in range(count):
        rows_of_a[i], rows_of_c[i] = chosen[i] * a_row, chosen[i] * c_row
    start_row = start_row if start_row == FROM_ZERO else min(start_row, 1)
    for p in range((n + width - 1) // width):
        j = p * width
        b, w, c_j, start_j = at(packed, p * size + above * width), min(width, n - j), at(c, j), at(start, j)
        multiply_at_offsets(count, w, k, a, rows_of_a, at(ks, 0), b, width, c_j, rows_of_c, start_j, start_row)


@device
def _clear_row(row):
    """All elements become 0."""
    for k in range(row.shape[0]):
        row[k] = ZERO(row[k])


@device
def clear_step(d, dx, t, place, first, last, wanted):
    """The gradients of the rows from first to last in step t become 0, those of the inputs if they are wanted."""
    for i in range(first, last):
        _clear_row(d[t, i])
        if wanted:
            _clear_row(dx[i, place])


def product_of_steps_reference(dw, du, x, d, there, first, ks, totals, packed):
    begin, end, of_x, of_d, of_w, n = first
    both, own = np.concatenate([dw, du]), x[: len(d), :, of_x : of_x + end - begin]
    zeroed = np.where(np.broadcast_to(there, own.shape[:2])[..., None], own, 0).reshape(-1, end - begin)
    both[begin:end, of_w : of_w + n] = zeroed.T @ d[..., of_d : of_d + n].reshape(len(zeroed), n)
    dw[:], du[:] = both[: len(dw)], both[len(dw) :]


def _columns(rng, shape, dtype, lengths):
    rows, n = lengths["f"] + lengths["h"], min(lengths["G"], lengths["D"])
    begin = rng.integers(0, rows)
    end = rng.integers(begin + 1, rows + 1)
    return np.array([begin, end, lengths["V"] - (end - begin), lengths["D"] - n, lengths["G"] - n, n])


@kernel(
    product_of_steps_reference,
    "(f,G) (h,G) (U,b,V) (t,b,D) (S,b) (6) (V) (R,V,C) (R,Q,C)",
    cycles=4.0,
    values={
        "there": flags, "first": _columns, "ks": offsets, "packed": scratch, "totals": scratch_of_doubles,
    },
    lengths={
        "U": lambda t: t + 1, "V": lambda f, h: range(f + h, 2**31), "S": lambda t: (1, t), "R": threads.most,
        "Q": lambda: MULTIPLIED_ROWS, "C": lambda itemsize: tuple(n * VECTOR_BYTES // itemsize for n in (2, 3)),
    },
)  # fmt: skip
def product_of_steps(dw, du, x, d, there, first, ks, totals, packed):
    """(dw above du) = x' . d, summed over the rows of all steps; totals and packed are scratch.

    With first = (begin, end, i, j, k, n): the rows from begin to end, from the elements of x from the i-th on, and n of
    their columns, from the k-th on, from those of d from the j-th on. Sums of MULTIPLIED_ROWS rows, masked ones left
    out, are added in float64.
    """
    steps, rows, d_row = d.shape
    length, width, above, w_row = x.shape[2], packed.shape[2], dw.shape[0], dw.shape[1]
    begin, end, of_x, of_d, of_w, n = first
    elements, several = steps * rows, np.int64(there.shape[0] > 1)
    for p in prange((n + width - 1) // width):
        j = p * width
        w = min(width, n - j)
        own, sums, part = packed[get_thread_id()], totals[get_thread_id()], _part_of_tile(at(x, 0))
        chosen, places = _chosen_rows(at(x, 0)), _rows_of_part(at(x, 0))
        for i in range(ROWS):
            places[i] = i * w
        for i in range(begin, end):
            for q in range(w):
                sums[i, q] = 0.0
        for r in range(0, elements, MULTIPLIED_ROWS):
            most, count = min(MULTIPLIED_ROWS, elements - r), 0
            for e in range(r, r + most):
                for q in range(0, w, LANES):
                    prefetch(at(d, min(e + AHEAD, elements - 1) * d_row + of_d + j + q))
                if there[e // rows * several, e % rows]:
                    _copy_columns(at(own, count * width), at(d, e * d_row + of_d + j), w)
                    chosen[count] = (e - r) * length
                    count += 1
            if count == 0:
                continue
            for i in range(begin, end, ROWS):
                here, x_i = min(ROWS, end - i), at(x, r * length + of_x + i - begin)
                multiply_at_offsets(
                    here, w, count, x_i, at(ks, 0), chosen, at(own, 0), width, part, places, part, FROM_ZERO
                )  # fmt: skip
                for h in range(here):
                    total = sums[i + h]
                    for q in range(w):
                        total[q] += part[h * w + q]
        for i in range(begin, end):
            column = i * w_row + of_w + j
            target = at(dw, column) if i < above else at(du, column - above * w_row)
            for q in range(w):
                target[q] = sums[i, q]


_part_of_tile = on_stack(ROWS * panels(2**20, 4)[1])
_chosen_rows, _rows_of_part = on_stack(MULTIPLIED_ROWS, types.int32), on_stack(ROWS, types.int32)
