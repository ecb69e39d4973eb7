"""GRU: gated recurrent units."""

import dataclasses

import numpy as np
from numba import prange

from nbbp import checks
from nbbp.engine.layer import Parameter
from nbbp.initializers import zeros
from nbbp.kernels.arguments import Derived, flags
from nbbp.kernels.batches import copy
from nbbp.kernels.jit import device
from nbbp.kernels.panels import pack_columns, panels
from nbbp.kernels.pointers import at
from nbbp.kernels.recurrent import (
    bounds_of_groups,
    clear_step,
    contracting,
    either,
    group_rows,
    multiply_rows,
    offsets,
    rows_there,
    sigmoid_reference,
    some_groups,
    unpacked,
    where_there,
)
from nbbp.kernels.rounded_recurrent import kernels_of_steps, product_of_rows, rows_from, rows_until
from nbbp.kernels.scalars import fma
from nbbp.kernels.tiles import FROM_ZERO
from nbbp.kernels.vector_math import ONE, sigmoid, tanh
from nbbp.layers.recurrent import Recurrent, counted, integers

# A row of sums has four parts: z, r, what the reset gate acts on, and the sum of the candidate.


def gru_steps_reference(x, s, gates, of_x, of_h, b, c, there, groups, ks, after):
    steps, n = len(s), s.shape[2] // 4
    f = x.shape[2] - 2 * n
    gates, of_x, of_h = unpacked(gates, 2 * n), unpacked(of_x, n), unpacked(of_h, n)
    for t in range(steps):
        h = x[t, :, f : f + n]
        zr = sigmoid_reference(product_of_rows(x[t, :, : f + n], gates) + b[: 2 * n])
        z, r = zr[:, :n], zr[:, n:]
        acted_on = product_of_rows(h, of_h) + c if after[0] else r * h
        of_state = r * acted_on if after[0] else product_of_rows(acted_on, of_h)
        candidate = np.tanh(product_of_rows(x[t, :, :f], of_x) + b[2 * n :] + of_state)
        s[t] = where_there(there, t, np.concatenate([z, r, acted_on, candidate], axis=1), s[t])
        x[t + 1, :, f : f + n] = where_there(there, t, candidate + z * (h - candidate), h)
        if not after[0]:
            x[t, :, f + n : f + 2 * n] = where_there(there, t, acted_on, x[t, :, f + n : f + 2 * n])


_VALUES = {"there": flags, "groups": some_groups, "ks": offsets}
_LENGTHS: dict[str, Derived] = {
    "U": lambda t: t + 1, "G": lambda h: 4 * h, "D": lambda h: 3 * h, "S": lambda t: (1, t),
    "N": bounds_of_groups,
    "P": lambda h, itemsize: panels(h, itemsize)[0], "C": lambda h, itemsize: panels(h, itemsize)[1],
}  # fmt: skip


@device
def _update_and_reset(s):
    """z and r from their sums."""
    for k in range(s.shape[0]):
        s[k] = sigmoid(s[k])


@device
def _reset(acted_on, r, h):
    """r h."""
    for k in range(h.shape[0]):
        acted_on[k] = r[k] * h[k]


@device
def _candidate_after(h, before, z, r, acted_on, s):
    """The candidate and the output, where the reset gate acts on a product."""
    for k in range(h.shape[0]):
        s[k] = tanh(fma(r[k], acted_on[k], s[k]))
        h[k] = fma(z[k], before[k] - s[k], s[k])


@device
def _candidate(h, before, z, s):
    """The candidate and the output, from the candidate's sum."""
    for k in range(h.shape[0]):
        s[k] = tanh(s[k])
        h[k] = fma(z[k], before[k] - s[k], s[k])


@kernels_of_steps(
    gru_steps_reference, "(U,b,V) (t,b,G) (Q,I,R) (P,J,C) (P,K,C) (D) (h) (S,b) (N) (V) (1)", cycles=4.0,
    values=_VALUES | {"after": either}, weights={"gates": contracting, "of_x": contracting, "of_h": contracting},
    rows={"I": lambda V, h: V - h, "J": lambda V, h: V - 2 * h, "K": lambda h: h},
    lengths=_LENGTHS
    | {
        "V": lambda h: range(2 * h + 1, 2**31), "Q": lambda h, itemsize: panels(2 * h, itemsize)[0],
        "R": lambda h, itemsize: panels(2 * h, itemsize)[1],
    },
)  # fmt: skip
def gru_steps(x, s, gates, of_x, of_h, b, c, there, groups, ks, after):
    """All steps: from x[t] = (input, h) the parts of s[t], and h in x[t + 1].

    If not `after`, x[t] = (input, h, r h). The bias c of the state's product is added after it.
    """
    steps, rows, width = s.shape
    n, length = width // 4, x.shape[2]
    f = length - 2 * n
    for q in prange(groups.shape[0] - 1):
        first, last = groups[q], groups[q + 1]
        m, chosen = last - first, group_rows(ks)
        for t in range(steps):
            count = rows_there(chosen, there, t, first, last)
            if count < m:
                for i in range(first, last):
                    x[t + 1, i, f : f + n] = x[t, i, f : f + n]
            if count == 0:
                continue
            x_t, s_t = at(x, t * rows * length), at(s, t * rows * width)
            multiply_rows(chosen, count, m, f + n, x_t, length, ks, gates, 0, 2 * n, s_t, width, at(b, 0), 0)
            multiply_rows(chosen, count, m, f, x_t, length, ks, of_x, 0, n, at(s_t, 3 * n), width, at(b, 2 * n), 0)
            if after[0]:
                acted_on = at(s_t, 2 * n)
                multiply_rows(chosen, count, m, n, at(x_t, f), length, ks, of_h, 0, n, acted_on, width, at(c, 0), 0)
            for k in range(count):
                i = chosen[k]
                sums = s[t, i]
                _update_and_reset(sums[: 2 * n])
                if not after[0]:
                    _reset(x[t, i, f + n :], sums[n : 2 * n], x[t, i, f : f + n])
            if not after[0]:
                candidate = at(s_t, 3 * n)
                multiply_rows(
                    chosen, count, m, n, at(x_t, f + n), length, ks, of_h, 0, n, candidate, width, candidate, width
                )  # fmt: skip
            for k in range(count):
                i = chosen[k]
                h, before, sums = x[t + 1, i, f : f + n], x[t, i, f : f + n], s[t, i]
                z, r, acted_on, candidate = sums[:n], sums[n : 2 * n], sums[2 * n : 3 * n], sums[3 * n :]
                if after[0]:
                    _candidate_after(h, before, z, r, acted_on, candidate)
                else:
                    acted_on[:] = x[t, i, f + n :]
                    _candidate(h, before, z, candidate)


def gru_steps_backward_reference(d, dx, dh, dy, x, s, of_x, of_h, there, groups, ks, wanted):
    n, steps = dh.shape[1], len(s)
    f, after = dx.shape[2], wanted[2]
    of_x, of_h = unpacked(of_x, f), unpacked(of_h, n)
    for t in range(steps - 1, -1, -1):
        h = x[t, :, f : f + n]
        z, r, acted_on, candidate = (s[t][:, k * n : (k + 1) * n] for k in range(4))
        a = dh + dy[t if len(dy) > 1 else 0]
        dz, dc = a * (h - candidate) * z * (1 - z), a * (1 - z) * (1 - candidate**2)
        of_acted_on = dc * r if after else product_of_rows(dc, rows_from(of_h, 2 * n))
        dr = of_acted_on * h * r * (1 - r) if not after else dc * acted_on * r * (1 - r)
        d[t] = where_there(there, t, np.concatenate([dz, dr, of_acted_on, dc], axis=1), 0)
        if after:
            before = a * z + product_of_rows(np.concatenate([dz, dr, of_acted_on], axis=1), of_h)
        else:
            before = a * z + of_acted_on * r
            before += product_of_rows(np.concatenate([dz, dr], axis=1), rows_until(of_h, 2 * n))
        dh[:] = where_there(there, t, before, dh)
        if wanted[0]:
            place = steps - 1 - t if wanted[1] else t
            dx[:, place] = product_of_rows(d[t][:, : 2 * n], rows_until(of_x, 2 * n))
            dx[:, place] += product_of_rows(d[t][:, 3 * n :], rows_from(of_x, 2 * n))


@device
def _back_after(d, dh, dy, before, s):
    """The gradients of a row's parts, and z times that of its output."""
    n = dh.shape[0]
    z, r, acted_on, candidate = s[:n], s[n : 2 * n], s[2 * n : 3 * n], s[3 * n :]
    dz, dr, da, dc = d[:n], d[n : 2 * n], d[2 * n : 3 * n], d[3 * n :]
    for k in range(n):
        a = dh[k] + dy[k]
        c = a * (ONE(a) - z[k]) * (ONE(a) - candidate[k] * candidate[k])
        dz[k] = a * (before[k] - candidate[k]) * z[k] * (ONE(a) - z[k])
        dr[k] = c * acted_on[k] * r[k] * (ONE(a) - r[k])
        da[k], dc[k] = c * r[k], c
        dh[k] = a * z[k]


@device
def _back_to_candidate(d, dh, dy, before, s):
    """The gradients of z and of the candidate's sum, and z times that of the output."""
    n = dh.shape[0]
    z, candidate, dz, dc = s[:n], s[3 * n :], d[:n], d[3 * n :]
    for k in range(n):
        a = dh[k] + dy[k]
        dz[k] = a * (before[k] - candidate[k]) * z[k] * (ONE(a) - z[k])
        dc[k] = a * (ONE(a) - z[k]) * (ONE(a) - candidate[k] * candidate[k])
        dh[k] = a * z[k]


@device
def _back_to_reset(d, dh, before, s):
    """The gradient of r's sum, and its part of that of the state before."""
    n = dh.shape[0]
    r, dr, da = s[n : 2 * n], d[n : 2 * n], d[2 * n : 3 * n]
    for k in range(n):
        dr[k] = da[k] * before[k] * r[k] * (ONE(r[k]) - r[k])
        dh[k] = fma(da[k], r[k], dh[k])


@kernels_of_steps(
    gru_steps_backward_reference,
    "(t,b,G) (b,t,f) (b,h) (T,b,h) (U,b,V) (t,b,G) (I,K,J) (P,K,C) (S,b) (N) (D) (3)", cycles=4.0,
    values=_VALUES | {"wanted": either}, weights={"of_x": contracting, "of_h": contracting},
    rows={"K": lambda h: 3 * h},
    lengths=_LENGTHS
    | {
        "V": lambda f, h: f + 2 * h,
        "I": lambda f, itemsize: panels(f, itemsize)[0], "J": lambda f, itemsize: panels(f, itemsize)[1],
        "T": lambda t: (1, t),
    },
)  # fmt: skip
def gru_steps_backward(d, dx, dh, dy, x, s, of_x, of_h, there, groups, ks, wanted):
    """All steps back: d, from the parts s and dy; dh, that of the last state, becomes that of the first.

    wanted[0] says whether dx is computed, wanted[1] whether it begins with the last step, wanted[2] whether the reset
    gate acts on a product.
    """
    steps, rows, width = s.shape
    n, f = dh.shape[1], dx.shape[2]
    for q in prange(groups.shape[0] - 1):
        first, last = groups[q], groups[q + 1]
        m, chosen = last - first, group_rows(ks)
        for t in range(steps - 1, -1, -1):
            place = steps - 1 - t if wanted[1] else t
            count = rows_there(chosen, there, t, first, last)
            if count < m:
                clear_step(d, dx, t, place, first, last, wanted[0])
            if count == 0:
                continue
            of_y, d_t, dh_0 = dy[t if dy.shape[0] > 1 else 0], at(d, t * rows * width), at(dh, 0)
            for k in range(count):
                i = chosen[k]
                if wanted[2]:
                    _back_after(d[t, i], dh[i], of_y[i], x[t, i, f : f + n], s[t, i])
                else:
                    _back_to_candidate(d[t, i], dh[i], of_y[i], x[t, i, f : f + n], s[t, i])
            if wanted[2]:
                multiply_rows(chosen, count, m, 3 * n, d_t, width, ks, of_h, 0, n, dh_0, n, dh_0, n)
            else:
                acted_on = at(d_t, 2 * n)
                multiply_rows(
                    chosen, count, m, n, at(d_t, 3 * n), width, ks, of_h, 2 * n, n, acted_on, width, acted_on, FROM_ZERO
                )  # fmt: skip
                for k in range(count):
                    i = chosen[k]
                    _back_to_reset(d[t, i], dh[i], x[t, i, f : f + n], s[t, i])
                multiply_rows(chosen, count, m, 2 * n, d_t, width, ks, of_h, 0, n, dh_0, n, dh_0, n)
            if wanted[0]:
                dx_t, row = at(dx, place * f), steps * f
                multiply_rows(chosen, count, m, 2 * n, d_t, width, ks, of_x, 0, f, dx_t, row, dx_t, FROM_ZERO)
                multiply_rows(chosen, count, m, n, at(d_t, 3 * n), width, ks, of_x, 2 * n, f, dx_t, row, dx_t, row)


@dataclasses.dataclass(frozen=True)
class GRU(Recurrent):
    """Gated recurrent units: the state moves toward a candidate as far as the update gate z allows.

    With z, r = sigmoid(x_t . w + h_(t-1) . u + b) for the columns of each, h_t = z h_(t-1) + (1 - z) n, where n =
    tanh(x_t . w + b + r (h_(t-1) . u + c)), and with ``reset_after=False``, as published, n = tanh(x_t . w + b +
    (r h_(t-1)) . u). Cho et al., "Learning phrase representations using RNN encoder-decoder", 2014. The order of
    columns, z, r and n, is that of Keras; PyTorch has r first, and resets after.

    Parameters
    ----------
    units : int
        The number of units.
    return_sequences : bool
        Whether the output is that of all steps, (time, units), or of the last, (units,).
    return_state : bool
        Whether the last state, (units,), is an output too, such as that from which another layer starts.
    stateful : bool
        Whether each row starts with the state in which the same row of the mini-batch before ended: backpropagation
        through time that is truncated to the steps of a mini-batch. `fit` then takes ``shuffle=False``.
    backwards : bool
        Whether it starts at the last step; the output is in the order of the input.
    use_bias : bool
    initializer, recurrent_initializer : str or callable
        The initial values of w (features, 3 units) and u (units, 3 units), see `nbbp.INITIALIZERS`.
    reset_after : bool
        Whether the reset gate acts on the product with u, or on the state before it.
    """

    reset_after: bool = True

    gates = 3

    def __post_init__(self) -> None:
        super().__post_init__()
        checks.boolean("GRU: reset_after", self.reset_after)

    def parameters(self, features):
        after = {"c": Parameter((self.units,), zeros)} if self.use_bias and self.reset_after else {}
        return super().parameters(features) | after

    def elements(self, features):
        return features + 2 * self.units

    def bind_steps(self, b):
        n = self.units
        b.sums = b.buffer(b.steps, b.rows, 4 * n)
        count, width = panels(n, b.p.w.itemsize)
        of_x = self.paired(b, b.derived(pack_columns, (count, b.features, width), b.p.w, integers(2 * n)))
        of_h = self.paired(b, b.derived(pack_columns, (count, n, width), b.p.u, integers(2 * n)))
        c = b.p.c if hasattr(b.p, "c") else b.buffer(n)
        b.call(
            gru_steps[b.rounds], b.sequence, b.sums, self.stacked(b, 2 * n), of_x, of_h, b.bias, c, b.there, b.groups,
            counted(b.sequence.shape[2]), integers(int(self.reset_after)),
        )  # fmt: skip

    def bind_steps_back(self, b, dx, gradients, dy):
        n, f, d = self.units, b.features, b.buffer(*b.sums.shape)
        weights = self.transposed(b, b.p.w), self.transposed(b, b.p.u)
        how = integers(*self.how_back(b), int(self.reset_after))
        b.call(
            gru_steps_backward[b.rounds], d, dx, *gradients, dy, b.sequence, b.sums, *weights, b.there, b.groups,
            counted(3 * n), how,
        )  # fmt: skip
        acted_on = (f, f + n, f, 2 * n, 2 * n, n) if self.reset_after else (f, f + n, f + n, 3 * n, 2 * n, n)
        self.bind_weights(b, d, (0, f + n, 0, 0, 0, 2 * n), (0, f, 0, 3 * n, 2 * n, n), acted_on)
        if self.use_bias:
            total = b.buffer(4 * n)
            b.sum_rows(total, d.reshape(-1, 4 * n))
            b.call(copy, b.g.b[: 2 * n], total[: 2 * n])
            b.call(copy, b.g.b[2 * n :], total[3 * n :])
            if self.reset_after:
                b.call(copy, b.g.c, total[2 * n : 3 * n])
