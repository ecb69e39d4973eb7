"""SimpleRNN: a recurrent network without gates."""

import dataclasses

import numpy as np
from numba import prange

from nbbp import checks
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
    some_groups,
    unpacked,
    where_there,
)
from nbbp.kernels.rounded_recurrent import kernels_of_steps, product_of_rows
from nbbp.kernels.tiles import FROM_ZERO
from nbbp.kernels.vector_math import ONE, ZERO, tanh
from nbbp.layers.recurrent import Recurrent, counted, integers

ACTIVATIONS = {"tanh": 0, "relu": 1}


def rnn_steps_reference(x, z, w, b, there, groups, ks, relu):
    n = z.shape[2]
    weights = unpacked(w, n)
    for t in range(len(z)):
        sums = product_of_rows(x[t], weights) + b
        h = np.maximum(sums, 0) if relu[0] else np.tanh(sums)
        z[t] = where_there(there, t, h, z[t])
        x[t + 1, :, -n:] = where_there(there, t, h, x[t, :, -n:])


_VALUES = {"there": flags, "groups": some_groups, "ks": offsets}
_LENGTHS: dict[str, Derived] = {
    "S": lambda t: (1, t), "N": bounds_of_groups,
    "P": lambda h, itemsize: panels(h, itemsize)[0], "C": lambda h, itemsize: panels(h, itemsize)[1],
}  # fmt: skip


@device
def _activate(h, z, relu):
    for k in range(z.shape[0]):
        z[k] = max(z[k], ZERO(z[k])) if relu else tanh(z[k])
        h[k] = z[k]


@kernels_of_steps(
    rnn_steps_reference, "(U,b,V) (t,b,h) (P,K,C) (h) (S,b) (N) (V) (1)", cycles=8.0,
    values=_VALUES | {"relu": either}, weights={"w": contracting}, rows={"K": lambda V: V},
    lengths=_LENGTHS | {"U": lambda t: t + 1, "V": lambda h: range(h + 1, 2**31)},
)  # fmt: skip
def rnn_steps(x, z, w, b, there, groups, ks, relu):
    """All steps: from x[t] = (input, h) the output z[t], which is h in x[t + 1] too."""
    steps, rows, n = z.shape
    length = x.shape[2]
    for q in prange(groups.shape[0] - 1):
        first, last = groups[q], groups[q + 1]
        m, chosen = last - first, group_rows(ks)
        for t in range(steps):
            count = rows_there(chosen, there, t, first, last)
            if count < m:
                for i in range(first, last):
                    x[t + 1, i, length - n :] = x[t, i, length - n :]
            if count == 0:
                continue
            x_t, z_t = at(x, t * rows * length), at(z, t * rows * n)
            multiply_rows(chosen, count, m, length, x_t, length, ks, w, 0, n, z_t, n, at(b, 0), 0)
            for k in range(count):
                i = chosen[k]
                _activate(x[t + 1, i, length - n :], z[t, i], relu[0])


def rnn_steps_backward_reference(dz, dx, dh, dy, z, w, u, there, groups, ks, wanted):
    n, steps = dh.shape[1], len(z)
    of_x, of_h = unpacked(w, dx.shape[2]), unpacked(u, n)
    for t in range(steps - 1, -1, -1):
        slope = (z[t] > 0) if wanted[2] else 1 - z[t] ** 2
        dz[t] = where_there(there, t, (dh + dy[t if len(dy) > 1 else 0]) * slope, 0)
        dh[:] = where_there(there, t, product_of_rows(dz[t], of_h), dh)
        if wanted[0]:
            dx[:, steps - 1 - t if wanted[1] else t] = product_of_rows(dz[t], of_x)


@device
def _activate_back(dz, dh, dy, z, relu):
    for k in range(z.shape[0]):
        a = dh[k] + dy[k]
        dz[k] = (a if z[k] > ZERO(a) else ZERO(a)) if relu else a * (ONE(a) - z[k] * z[k])


@kernels_of_steps(
    rnn_steps_backward_reference, "(t,b,h) (b,t,F) (b,h) (T,b,h) (t,b,h) (I,K,J) (P,K,C) (S,b) (N) (h) (3)",
    cycles=8.0, values=_VALUES | {"wanted": either}, weights={"w": contracting, "u": contracting},
    rows={"K": lambda h: h},
    lengths=_LENGTHS
    | {
        "I": lambda F, itemsize: panels(F, itemsize)[0], "J": lambda F, itemsize: panels(F, itemsize)[1],
        "T": lambda t: (1, t),
    },
)  # fmt: skip
def rnn_steps_backward(dz, dx, dh, dy, z, w, u, there, groups, ks, wanted):
    """All steps back: dz, from the outputs z and dy; dh, that of the last state, becomes that of the first.

    wanted[0] says whether dx is computed, wanted[1] whether it begins with the last step, wanted[2] whether the
    activation is relu.
    """
    steps, rows, n = z.shape
    f = dx.shape[2]
    for q in prange(groups.shape[0] - 1):
        first, last = groups[q], groups[q + 1]
        m, chosen = last - first, group_rows(ks)
        for t in range(steps - 1, -1, -1):
            place = steps - 1 - t if wanted[1] else t
            count = rows_there(chosen, there, t, first, last)
            if count < m:
                clear_step(dz, dx, t, place, first, last, wanted[0])
            if count == 0:
                continue
            of_y, dz_t, dh_0 = dy[t if dy.shape[0] > 1 else 0], at(dz, t * rows * n), at(dh, 0)
            for k in range(count):
                i = chosen[k]
                _activate_back(dz[t, i], dh[i], of_y[i], z[t, i], wanted[2])
            multiply_rows(chosen, count, m, n, dz_t, n, ks, u, 0, n, dh_0, n, dh_0, FROM_ZERO)
            if wanted[0]:
                dx_t = at(dx, place * f)
                multiply_rows(chosen, count, m, n, dz_t, n, ks, w, 0, f, dx_t, steps * f, dx_t, FROM_ZERO)


@dataclasses.dataclass(frozen=True)
class SimpleRNN(Recurrent):
    """h_t = activation(x_t . w + h_(t-1) . u + b). Elman, "Finding structure in time", 1990.

    Its gradient goes through u once a step, and vanishes or explodes with the number of steps (Bengio, Simard and
    Frasconi, "Learning long-term dependencies with gradient descent is difficult", 1994); `LSTM` and `GRU` have gates
    against that.

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
        The initial values of w (features, units) and u (units, units), see `nbbp.INITIALIZERS`.
    activation : {"tanh", "relu"}
    """

    activation: str = "tanh"

    def __post_init__(self) -> None:
        super().__post_init__()
        checks.choose("SimpleRNN: activation", self.activation, ACTIVATIONS)

    def bind_steps(self, b):
        b.h = b.buffer(b.steps, b.rows, self.units)
        b.call(
            rnn_steps[b.rounds], b.sequence, b.h, self.stacked(b, self.units), b.bias, b.there, b.groups,
            counted(b.sequence.shape[2]), integers(ACTIVATIONS[self.activation]),
        )  # fmt: skip

    def bind_steps_back(self, b, dx, gradients, dy):
        n, d = self.units, b.buffer(*b.h.shape)
        weights = self.transposed(b, b.p.w), self.transposed(b, b.p.u)
        how = integers(*self.how_back(b), ACTIVATIONS[self.activation])
        b.call(rnn_steps_backward[b.rounds], d, dx, *gradients, dy, b.h, *weights, b.there, b.groups, counted(n), how)
        self.bind_weights(b, d, (0, b.features + n, 0, 0, 0, n))
        if self.use_bias:
            b.sum_rows(b.g.b, d.reshape(-1, n))
