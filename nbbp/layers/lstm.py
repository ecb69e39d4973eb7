"""LSTM: long short-term memory."""

import dataclasses

import numpy as np
from numba import prange

from nbbp.kernels.arguments import Derived, flags
from nbbp.kernels.jit import device
from nbbp.kernels.panels import panels
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
from nbbp.kernels.rounded_recurrent import kernels_of_steps, product_of_rows
from nbbp.kernels.scalars import fma
from nbbp.kernels.tiles import FROM_ZERO
from nbbp.kernels.vector_math import ONE, sigmoid, tanh
from nbbp.layers.recurrent import Recurrent, counted


def lstm_steps_reference(x, c, z, w, b, there, groups, ks):
    n = c.shape[2]
    weights = unpacked(w, 4 * n)
    for t in range(len(z)):
        sums = product_of_rows(x[t], weights) + b
        i, f, o = (sigmoid_reference(sums[:, k * n : (k + 1) * n]) for k in (0, 1, 3))
        g = np.tanh(sums[:, 2 * n : 3 * n])
        state = f * c[t] + i * g
        z[t] = where_there(there, t, np.concatenate([i, f, g, o], axis=1), z[t])
        c[t + 1] = where_there(there, t, state, c[t])
        x[t + 1, :, -n:] = where_there(there, t, o * np.tanh(state), x[t, :, -n:])


_VALUES = {"there": flags, "groups": some_groups, "ks": offsets}
_LENGTHS: dict[str, Derived] = {
    "U": lambda t: t + 1, "G": lambda h: 4 * h, "S": lambda t: (1, t),
    "N": bounds_of_groups,
}  # fmt: skip


@device
def _pass_gates(h, c, z, before):
    """The gates of a row, its state and its output, from the sums z."""
    n = h.shape[0]
    i, f, g, o = z[:n], z[n : 2 * n], z[2 * n : 3 * n], z[3 * n :]
    for k in range(n):
        i[k], f[k], g[k], o[k] = sigmoid(i[k]), sigmoid(f[k]), tanh(g[k]), sigmoid(o[k])
        c[k] = fma(f[k], before[k], i[k] * g[k])
        h[k] = o[k] * tanh(c[k])


@kernels_of_steps(
    lstm_steps_reference, "(U,b,V) (U,b,h) (t,b,G) (P,K,C) (G) (S,b) (N) (V)", cycles=40.0, values=_VALUES,
    weights={"w": contracting}, rows={"K": lambda V: V},
    lengths=_LENGTHS | {
        "P": lambda h, itemsize: panels(4 * h, itemsize)[0], "C": lambda h, itemsize: panels(4 * h, itemsize)[1],
        "V": lambda h: range(h + 1, 2**31),
    },
)  # fmt: skip
def lstm_steps(x, c, z, w, b, there, groups, ks):
    """All steps: from x[t] = (input, h) and c[t] the gates z[t] = (i, f, g, o), c[t + 1], and h in x[t + 1]."""
    steps, rows, width = z.shape
    n, length = c.shape[2], x.shape[2]
    for q in prange(groups.shape[0] - 1):
        first, last = groups[q], groups[q + 1]
        chosen = group_rows(ks)
        for t in range(steps):
            count = rows_there(chosen, there, t, first, last)
            if count < last - first:
                for i in range(first, last):
                    x[t + 1, i, length - n :], c[t + 1, i, :] = x[t, i, length - n :], c[t, i]
            if count == 0:
                continue
            multiply_rows(
                chosen, count, last - first, length, at(x, t * rows * length), length, ks, w, 0, width,
                at(z, t * rows * width), width, at(b, 0), 0,
            )  # fmt: skip
            for k in range(count):
                i = chosen[k]
                _pass_gates(x[t + 1, i, length - n :], c[t + 1, i], z[t, i], c[t, i])


def lstm_steps_backward_reference(dz, dx, dh, dc, dy, c, z, w, u, there, groups, ks, wanted):
    n, steps = dh.shape[1], len(z)
    of_x, of_h = unpacked(w, dx.shape[2]), unpacked(u, n)
    for t in range(steps - 1, -1, -1):
        i, f, g, o = (z[t][:, k * n : (k + 1) * n] for k in range(4))
        a = dh + dy[t if len(dy) > 1 else 0]
        squashed = np.tanh(c[t + 1])
        e = dc + a * o * (1 - squashed**2)
        d = [e * g * i * (1 - i), e * c[t] * f * (1 - f), e * i * (1 - g**2), a * squashed * o * (1 - o)]
        dz[t] = where_there(there, t, np.concatenate(d, axis=1), 0)
        dh[:] = where_there(there, t, product_of_rows(dz[t], of_h), dh)
        dc[:] = where_there(there, t, e * f, dc)
        if wanted[0]:
            dx[:, steps - 1 - t if wanted[1] else t] = product_of_rows(dz[t], of_x)


@device
def _pass_gates_back(dzs, dhs, dcs, dys, cs, zs, t, r):
    """The gradient of a row's sums, and that of the state before."""
    n = dhs.shape[1]
    dz, dh, dc, z = dzs[t, r], dhs[r], dcs[r], zs[t, r]
    dy, c, before = dys[t if dys.shape[0] > 1 else 0, r], cs[t + 1, r], cs[t, r]
    i, f, g, o = z[:n], z[n : 2 * n], z[2 * n : 3 * n], z[3 * n :]
    di, df, dg, do = dz[:n], dz[n : 2 * n], dz[2 * n : 3 * n], dz[3 * n :]
    for k in range(n):
        a, squashed = dh[k] + dy[k], tanh(c[k])
        of_output = a * o[k]
        e = fma(of_output, ONE(a) - squashed * squashed, dc[k])
        do[k] = of_output * squashed * (ONE(a) - o[k])
        di[k] = e * g[k] * i[k] * (ONE(a) - i[k])
        df[k] = e * before[k] * f[k] * (ONE(a) - f[k])
        dg[k] = e * i[k] * (ONE(a) - g[k] * g[k])
        dc[k] = e * f[k]


@kernels_of_steps(
    lstm_steps_backward_reference,
    "(t,b,G) (b,t,F) (b,h) (b,h) (T,b,h) (U,b,h) (t,b,G) (I,K,J) (P,K,C) (S,b) (N) (G) (2)",
    cycles=40.0, values=_VALUES | {"wanted": either}, weights={"w": contracting, "u": contracting},
    rows={"K": lambda h: 4 * h},
    lengths=_LENGTHS | {
        "P": lambda h, itemsize: panels(h, itemsize)[0], "C": lambda h, itemsize: panels(h, itemsize)[1],
        "I": lambda F, itemsize: panels(F, itemsize)[0], "J": lambda F, itemsize: panels(F, itemsize)[1],
        "T": lambda t: (1, t),
    },
)  # fmt: skip
def lstm_steps_backward(dz, dx, dh, dc, dy, c, z, w, u, there, groups, ks, wanted):
    """All steps back: dz, from the gates z and dy; dh and dc, those of the last state, become those of the first.

    wanted[0] says whether dx is computed, wanted[1] whether it begins with the last step.
    """
    steps, rows, width = z.shape
    n, length = dh.shape[1], dx.shape[2]
    for q in prange(groups.shape[0] - 1):
        first, last = groups[q], groups[q + 1]
        chosen = group_rows(ks)
        for t in range(steps - 1, -1, -1):
            s = steps - 1 - t if wanted[1] else t
            count = rows_there(chosen, there, t, first, last)
            if count < last - first:
                clear_step(dz, dx, t, s, first, last, wanted[0])
            if count == 0:
                continue
            dz_t = at(dz, t * rows * width)
            for k in range(count):
                i = chosen[k]
                _pass_gates_back(dz, dh, dc, dy, c, z, t, np.int64(i))
            multiply_rows(
                chosen, count, last - first, width, dz_t, width, ks, u, 0, n, at(dh, 0), n, at(dh, 0), FROM_ZERO
            )  # fmt: skip
            if wanted[0]:
                multiply_rows(
                    chosen, count, last - first, width, dz_t, width, ks, w, 0, length, at(dx, s * length),
                    steps * length, at(dx, 0), FROM_ZERO,
                )  # fmt: skip


@dataclasses.dataclass(frozen=True)
class LSTM(Recurrent):
    """Long short-term memory: a state c that gates write, forget and show.

    With (i, f, g, o) = x_t . w + h_(t-1) . u + b, c_t = sigmoid(f) c_(t-1) + sigmoid(i) tanh(g) and h_t = sigmoid(o)
    tanh(c_t). Hochreiter and Schmidhuber, "Long short-term memory", 1997; with the forget gate of Gers, Schmidhuber and
    Cummins, "Learning to forget", 2000, whose bias starts at 1 (Jozefowicz, Zaremba and Sutskever, 2015). The order of
    the gates is that of Keras and PyTorch.

    Parameters
    ----------
    units : int
        The number of units.
    return_sequences : bool
        Whether the output is that of all steps, (time, units), or of the last, (units,).
    return_state : bool
        Whether the last states, h and c of (units,), are outputs too, such as those from which another layer starts.
    stateful : bool
        Whether each row starts with the state in which the same row of the mini-batch before ended: backpropagation
        through time that is truncated to the steps of a mini-batch. `fit` then takes ``shuffle=False``.
    backwards : bool
        Whether it starts at the last step; the output is in the order of the input.
    use_bias : bool
    initializer, recurrent_initializer : str or callable
        The initial values of w (features, 4 units) and u (units, 4 units), see `nbbp.INITIALIZERS`.
    """

    gates = 4
    states = ("h", "c")

    def initial_bias(self, shape, rng):
        bias = np.zeros(shape)
        bias[self.units : 2 * self.units] = 1
        return bias

    def bind_steps(self, b):
        b.gates = b.buffer(b.steps, b.rows, 4 * self.units)
        ks = counted(b.sequence.shape[2])
        weights = self.stacked(b, 4 * self.units)
        b.call(lstm_steps[b.rounds], b.sequence, b.states[0], b.gates, weights, b.bias, b.there, b.groups, ks)

    def bind_steps_back(self, b, dx, gradients, dy):
        n, d = self.units, b.buffer(*b.gates.shape)
        weights = self.transposed(b, b.p.w), self.transposed(b, b.p.u)
        b.call(
            lstm_steps_backward[b.rounds], d, dx, *gradients, dy, b.states[0], b.gates, *weights, b.there, b.groups,
            counted(4 * n), self.how_back(b),
        )  # fmt: skip
        self.bind_weights(b, d, (0, b.features + n, 0, 0, 0, 4 * n))
        if self.use_bias:
            b.sum_rows(b.g.b, d.reshape(-1, 4 * n))
