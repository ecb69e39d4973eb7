"""Layers and losses as a user writes them, each for one door of the interface that the built-in ones leave shut."""

import dataclasses

import numpy as np
from numba import prange

import nbbp
from nbbp.initializers import uniform
from nbbp.kernels.jit import KERNELS
from nbbp.kernels.vector_math import ONE, ZERO

_before = set(KERNELS)
small = uniform(0.4)


def toy_correlate_reference(y, x, w):
    size = round(len(w) ** 0.5)
    y[:] = 0
    for k in range(len(w)):
        r, s = divmod(k, size)
        y += x[:, r : r + y.shape[1], s : s + y.shape[2]] @ w[k]


@nbbp.kernel(toy_correlate_reference, "(b,i,j,f) (b,H,V,c) (K,c,f)", cycles=9.0)
def toy_correlate(y, x, w):
    size = round(w.shape[0] ** 0.5)
    for b in prange(y.shape[0]):
        for i in range(y.shape[1]):
            for j in range(y.shape[2]):
                for f in range(y.shape[3]):
                    total = ZERO(y[b, i, j, f])
                    for k in range(w.shape[0]):
                        for c in range(w.shape[1]):
                            total += x[b, i + k // size, j + k % size, c] * w[k, c, f]
                    y[b, i, j, f] = total


def toy_correlate_inputs_reference(dx, dy, turned):
    size = round(len(turned) ** 0.5)
    dx[:] = 0
    for k in range(len(turned)):
        r, s = divmod(k, size)
        dx[:, r : r + dy.shape[1], s : s + dy.shape[2]] += dy @ turned[k]


@nbbp.kernel(toy_correlate_inputs_reference, "(b,H,V,c) (b,i,j,f) (K,f,c)", cycles=9.0)
def toy_correlate_inputs(dx, dy, turned):
    size = round(turned.shape[0] ** 0.5)
    for b in prange(dy.shape[0]):
        row = dx[b]
        row[:] = 0
        for i in range(dy.shape[1]):
            for j in range(dy.shape[2]):
                for k in range(turned.shape[0]):
                    for c in range(turned.shape[2]):
                        for f in range(dy.shape[3]):
                            row[i + k // size, j + k % size, c] += dy[b, i, j, f] * turned[k, f, c]


def toy_correlate_weights_reference(dw, x, dy):
    size = round(len(dw) ** 0.5)
    for k in range(len(dw)):
        r, s = divmod(k, size)
        dw[k] = np.einsum("bijf,bijc->fc", dy, x[:, r : r + dy.shape[1], s : s + dy.shape[2]])


@nbbp.kernel(toy_correlate_weights_reference, "(K,f,c) (b,H,V,c) (b,i,j,f)", cycles=9.0)
def toy_correlate_weights(dw, x, dy):
    size = round(dw.shape[0] ** 0.5)
    for k in range(dw.shape[0]):
        for f in range(dw.shape[1]):
            for c in range(dw.shape[2]):
                total = ZERO(dw[k, f, c])
                for b in range(x.shape[0]):
                    for i in range(dy.shape[1]):
                        for j in range(dy.shape[2]):
                            total += x[b, i + k // size, j + k % size, c] * dy[b, i, j, f]
                dw[k, f, c] = total


turnings = [0]  # that the NumPy form of the next kernel has made


def toy_turn_reference(turned, w):
    turnings[0] += 1
    turned[:] = w.transpose(0, 2, 1)


@nbbp.kernel(toy_turn_reference, "(K,f,c) (K,c,f)")
def toy_turn(turned, w):
    for k in range(w.shape[0]):
        for c in range(w.shape[1]):
            for f in range(w.shape[2]):
                turned[k, f, c] = w[k, c, f]


@dataclasses.dataclass(frozen=True)
class ToyConvolution(nbbp.Layer):
    """(height, width, channels) to (height - size + 1, width - size + 1, filters)."""

    filters: int
    size: int = 3

    reads = ("x",)

    def spec(self, shape):
        height, width, channels = shape
        w = nbbp.Parameter((self.size**2, self.filters, channels), small)
        return nbbp.Spec((height - self.size + 1, width - self.size + 1, self.filters), {"w": w})

    def forward(self, b):
        turned = b.derived(toy_turn, (self.size**2, b.x.shape[-1], self.filters), b.p.w)
        b.call(toy_correlate, b.y, b.x, turned)

    def backward(self, b):
        b.call(toy_correlate_weights, b.g.w, b.x, b.dy)
        if b.dx is not None:
            b.call(toy_correlate_inputs, b.dx, b.dy, b.p.w)


def toy_recur_reference(y, before, state, x, w, u, mask):
    h = state.copy()
    for t in range(x.shape[1]):
        there = mask[:, t, None]
        before[:, t] = np.where(there, h, 0)
        h = np.where(there, np.tanh(x[:, t] @ w + h @ u), h)
        y[:, t] = np.where(there, h, 0)
    state[:] = h


@nbbp.kernel(toy_recur_reference, "(b,t,n) (b,t,n) (b,n) (b,t,I) (I,n) (n,n) (b,t)", cycles=30.0)
def toy_recur(y, before, state, x, w, u, mask):
    """h_t = tanh(x_t w + h_(t-1) u), h_(t-1) being `before`; the state is that of the last time that is there."""
    for i in prange(x.shape[0]):
        h = state[i]
        for t in range(x.shape[1]):
            if not mask[i, t]:
                y[i, t, :], before[i, t, :] = 0, 0
                continue
            before[i, t, :] = h
            for j in range(w.shape[1]):
                total = ZERO(h[j])
                for k in range(w.shape[0]):
                    total += x[i, t, k] * w[k, j]
                for k in range(u.shape[0]):
                    total += before[i, t, k] * u[k, j]
                h[j] = np.tanh(total)
            y[i, t, :] = h


def toy_recur_backward_reference(dx, dz, dy, y, w, u, mask):
    later = np.zeros((len(y), y.shape[2]), y.dtype)
    for t in reversed(range(y.shape[1])):
        there = mask[:, t, None]
        dz[:, t] = np.where(there, (dy[:, t] + later) * (1 - y[:, t] ** 2), 0)
        later = np.where(there, dz[:, t] @ u.T, later)
        dx[:, t] = dz[:, t] @ w.T


@nbbp.kernel(toy_recur_backward_reference, "(b,t,I) (b,t,n) (b,t,n) (b,t,n) (I,n) (n,n) (b,t)", cycles=30.0)
def toy_recur_backward(dx, dz, dy, y, w, u, mask):
    """dz_t, the gradient within tanh, and dx_t = dz_t w^T."""
    for i in prange(y.shape[0]):
        last = -1
        for t in range(y.shape[1] - 1, -1, -1):
            dz[i, t, :], dx[i, t, :] = 0, 0
            if not mask[i, t]:
                continue
            for j in range(y.shape[2]):
                total = dy[i, t, j]
                if last >= 0:
                    for k in range(u.shape[1]):
                        total += dz[i, last, k] * u[j, k]
                dz[i, t, j] = total * (ONE(total) - y[i, t, j] * y[i, t, j])
            for k in range(w.shape[0]):
                for j in range(w.shape[1]):
                    dx[i, t, k] += dz[i, t, j] * w[k, j]
            last = t


def toy_outer_sum_reference(dw, x, dz):
    dw[:] = x.T @ dz


@nbbp.kernel(toy_outer_sum_reference, "(i,n) (e,i) (e,n)")
def toy_outer_sum(dw, x, dz):
    dw[:] = 0
    for e in range(x.shape[0]):
        for i in range(dw.shape[0]):
            for j in range(dw.shape[1]):
                dw[i, j] += x[e, i] * dz[e, j]


@dataclasses.dataclass(frozen=True)
class ToyRecurrence(nbbp.Layer):
    """States (time, units) of h_t = tanh(x_t w + h_(t-1) u); the first goes on from the last of the step before."""

    units: int

    reads = ("x", "y")

    def spec(self, shape):
        time, features = shape
        parameters = {"w": nbbp.Parameter((features, self.units), small), "u": nbbp.Parameter((self.units,) * 2, small)}
        return nbbp.Spec((time, self.units), parameters)

    def forward(self, b):
        mask = b.inputs[0].mask
        b.there = np.ones(b.x.shape[:2], bool) if mask is None else mask
        b.before = b.buffer(*b.y.shape)
        b.call(toy_recur, b.y, b.before, b.carry("h", self.units), b.x, b.p.w, b.p.u, b.there)

    def backward(self, b):
        dx = b.buffer(*b.x.shape) if b.dx is None else b.dx
        dz = b.buffer(*b.y.shape)
        b.call(toy_recur_backward, dx, dz, b.dy, b.y, b.p.w, b.p.u, b.there)
        flat = dz.reshape(-1, self.units)
        b.call(toy_outer_sum, b.g.w, b.x.reshape(len(flat), -1), flat)
        b.call(toy_outer_sum, b.g.u, b.before.reshape(len(flat), -1), flat)


def toy_multiply_by_reference(y, x, factor):
    np.multiply(x, factor[0], out=y)


@nbbp.kernel(toy_multiply_by_reference, "(n) (n) (1)")
def toy_multiply_by(y, x, factor):
    for i in prange(x.shape[0]):
        y[i] = x[i] * factor[0]


@dataclasses.dataclass(frozen=True)
class Faded(nbbp.Layer):
    """y = rate x in training, y = x in prediction."""

    rate: float | nbbp.schedules.Schedule

    reads = ()

    def forward(self, b):
        rate = b.scheduled(self.rate) if b.training else b.constant(1)
        b.call(toy_multiply_by, b.y.reshape(-1), b.x.reshape(-1), rate)

    def backward(self, b):
        b.call(toy_multiply_by, b.dx.reshape(-1), b.dy.reshape(-1), b.scheduled(self.rate))


def toy_two_products_reference(y, a, b, u, v):
    y[:] = a @ u + b @ v


@nbbp.kernel(toy_two_products_reference, "(r,n) (r,A) (r,B) (A,n) (B,n)")
def toy_two_products(y, a, b, u, v):
    for i in prange(y.shape[0]):
        for j in range(y.shape[1]):
            total = ZERO(y[i, j])
            for k in range(a.shape[1]):
                total += a[i, k] * u[k, j]
            for k in range(b.shape[1]):
                total += b[i, k] * v[k, j]
            y[i, j] = total


def toy_through_transposed_reference(dx, dy, w):
    dx[:] = dy @ w.T


@nbbp.kernel(toy_through_transposed_reference, "(r,A) (r,n) (A,n)")
def toy_through_transposed(dx, dy, w):
    for i in prange(dx.shape[0]):
        for k in range(dx.shape[1]):
            total = ZERO(dx[i, k])
            for j in range(dy.shape[1]):
                total += dy[i, j] * w[k, j]
            dx[i, k] = total


@dataclasses.dataclass(frozen=True)
class Joined(nbbp.Layer):
    """y = a u + b v."""

    units: int

    reads = ("x",)

    def spec(self, a, b):
        shapes = {"u": (a[-1], self.units), "v": (b[-1], self.units)}
        return nbbp.Spec((self.units,), {name: nbbp.Parameter(shape, small) for name, shape in shapes.items()})

    def forward(self, b):
        b.call(toy_two_products, b.y, *(source.array for source in b.inputs), b.p.u, b.p.v)

    def backward(self, b):
        for source, w, dw in zip(b.inputs, (b.p.u, b.p.v), (b.g.u, b.g.v), strict=True):
            b.call(toy_outer_sum, dw, source.array, b.dy)
            if source.gradient is not None:
                b.call(toy_through_transposed, source.gradient, b.dy, w)


@dataclasses.dataclass(frozen=True)
class ToyReshape(nbbp.Layer):
    """The same numbers in another shape."""

    shape: tuple[int, ...]

    def spec(self, shape):
        return nbbp.Spec(tuple(self.shape), view=True)


def toy_combine_reference(y, a, b):
    y[:] = 2 * a - b


@nbbp.kernel(toy_combine_reference, "(n) (n) (n)")
def toy_combine(y, a, b):
    for i in prange(y.shape[0]):
        y[i] = a[i] + a[i] - b[i]


@dataclasses.dataclass(frozen=True)
class Both(nbbp.Layer):
    """Two outputs, 2 x and -x, of which the first may be the memory of x."""

    reads = ()

    def spec(self, shape):
        return nbbp.Spec((shape, shape), in_place=True)

    def forward(self, b):
        y, x, negative = (array.reshape(-1) for array in (b.y, b.x, b.outputs[1].array))
        b.call(toy_multiply_by, negative, x, b.constant(-1))
        b.call(toy_multiply_by, y, x, b.constant(2))

    def backward(self, b):
        b.call(toy_combine, b.dx.reshape(-1), b.dy.reshape(-1), b.outputs[1].gradient.reshape(-1))


@dataclasses.dataclass(frozen=True)
class ToyRescale(nbbp.Layer):
    """y = factor x, x being integers."""

    factor: float

    reads = ()
    takes_integers = True

    def forward(self, b):
        assert b.x.dtype in (np.uint8, np.int32)
        b.call(toy_multiply_by, b.y.reshape(-1), b.x.reshape(-1), b.constant(self.factor))

    def backward(self, b):
        raise AssertionError("integers have no gradient")


def toy_look_up_reference(y, x, table):
    y[:] = table[x]


@nbbp.kernel(toy_look_up_reference, "(e,d) (e) (N,d)")
def toy_look_up(y, x, table):
    for i in prange(x.shape[0]):
        for j in range(y.shape[1]):
            y[i, j] = table[x[i], j]


def toy_look_up_backward_reference(dtable, x, dy):
    dtable[:] = 0
    np.add.at(dtable, x, dy)


@nbbp.kernel(toy_look_up_backward_reference, "(N,d) (e) (e,d)")
def toy_look_up_backward(dtable, x, dy):
    dtable[:] = 0
    for i in range(x.shape[0]):
        for j in range(dy.shape[1]):
            dtable[x[i], j] += dy[i, j]


@dataclasses.dataclass(frozen=True)
class ToyTokens(nbbp.Layer):
    """Tokens (time,) as rows (time, dimension) of a table."""

    tokens: int
    dimension: int

    reads = ("x",)
    takes_integers = True

    def spec(self, shape):
        return nbbp.Spec((*shape, self.dimension), {"table": nbbp.Parameter((self.tokens, self.dimension), small)})

    def forward(self, b):
        b.call(toy_look_up, b.y.reshape(-1, self.dimension), b.x.reshape(-1), b.p.table)

    def backward(self, b):
        b.call(toy_look_up_backward, b.g.table, b.x.reshape(-1), b.dy.reshape(-1, self.dimension))


@dataclasses.dataclass(frozen=True)
class Tuned(nbbp.Dense):
    """Dense with factors for the rate and the decay of its weights, or with frozen weights."""

    rate: float = 1.0
    decay: float = 1.0
    trained: bool = True

    def spec(self, shape):
        made = super().spec(shape)
        w = dataclasses.replace(made.parameters["w"], rate=self.rate, decay=self.decay, trained=self.trained)
        return dataclasses.replace(made, parameters=made.parameters | {"w": w})


def toy_gaussian_nll_reference(row_loss, dz, z, target, scale):
    mean, log_variance = np.split(z, 2, axis=1)
    error, precision = mean - target, np.exp(-log_variance)
    row_loss[:] = (0.5 * (log_variance + error**2 * precision)).sum(axis=1)
    slopes = np.hstack([error * precision, 0.5 * (1 - error**2 * precision)])
    dz[:] = slopes * scale[:, None]


@nbbp.kernel(toy_gaussian_nll_reference, "(b) (b,O) (b,O) (b,c) (b)", cycles=10.0)
def toy_gaussian_nll(row_loss, dz, z, target, scale):
    c = target.shape[1]
    for i in prange(z.shape[0]):
        total = ZERO(scale[i])
        half = ONE(scale[i]) / (ONE(scale[i]) + ONE(scale[i]))
        for j in range(c):
            error, precision = z[i, j] - target[i, j], np.exp(-z[i, c + j])
            total += half * (z[i, c + j] + error * error * precision)
            dz[i, j] = error * precision * scale[i]
            dz[i, c + j] = half * (ONE(error) - error * error * precision) * scale[i]
        row_loss[i] = total


gaussian_nll = nbbp.losses.Loss(
    "toy_gaussian_nll",
    "sum (log v + (m - t)^2 / v) / 2 of outputs (m, log v): sum over targets, mean over the batch.",
    toy_gaussian_nll,
    target_columns=lambda outputs: outputs // 2,
)

for name in KERNELS.keys() - _before:  # tests that walk all kernels know nothing of these
    del KERNELS[name]
