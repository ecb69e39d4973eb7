"""BatchNorm: every feature with mean 0 and standard deviation 1 over the mini-batch."""

import dataclasses

import numpy as np
from numba import prange, types

from nbbp import checks
from nbbp.engine.layer import Layer, Parameter, Spec
from nbbp.initializers import ones, zeros
from nbbp.kernels.arguments import positive
from nbbp.kernels.gemm import ADDED_ROWS
from nbbp.kernels.jit import device, kernel
from nbbp.kernels.pointers import on_stack
from nbbp.kernels.vector_math import ONE, ZERO

PANEL = 64  # features that one thread takes at a time


def batch_norm_reference(y, mean, inverse, running_mean, running_variance, x, gamma, beta, numbers):
    rest, epsilon, unbiased = numbers
    mean[:] = x.mean(axis=0, dtype=np.float64)
    variance = np.square(x - mean).mean(axis=0, dtype=np.float64).astype(x.dtype)
    inverse[:] = 1 / np.sqrt(variance + epsilon)
    running_mean += rest * (mean - running_mean)
    running_variance += rest * (unbiased * variance - running_variance)
    y[:] = (x - mean) * (inverse * gamma) + beta


_sums_of_panel, _totals_of_panel = on_stack(PANEL), on_stack(PANEL, types.float64)


def _summed(term):
    """A function that sums a term of a_ij, b_ij and mean_j over all rows, ADDED_ROWS at a time."""

    @device
    def add(sums, a, b, mean, begin):
        rows, n = a.shape[0], sums.shape[0]
        some, totals = _sums_of_panel(sums), _totals_of_panel(sums)
        for j in range(n):
            totals[j] = 0.0
        for first in range(0, rows, ADDED_ROWS):
            for j in range(n):
                some[j] = ZERO(sums[j])
            for i in range(first, min(rows, first + ADDED_ROWS)):
                a_row, b_row = a[i][begin : begin + n], b[i][begin : begin + n]
                for j in range(n):
                    some[j] += term(a_row[j], b_row[j], mean[j])
            for j in range(n):
                totals[j] += some[j]
        for j in range(n):
            sums[j] = totals[j]

    return add


_add_rows = _summed(device(lambda a, b, mean: a, inline=True))
_add_products = _summed(device(lambda a, b, mean: a * (b - mean), inline=True))
_add_squares = _summed(device(lambda a, b, mean: (a - mean) * (b - mean), inline=True))


@kernel(
    batch_norm_reference,
    "(b,n) (n) (n) (n) (n) (b,n) (n) (n) (3)",
    cycles=1.2,
    values={"numbers": positive},
)
def batch_norm(y, mean, inverse, running_mean, running_variance, x, gamma, beta, numbers):
    """y = gamma (x - mean) inverse + beta, where inverse = 1 / sqrt(variance + epsilon), over the rows of x.

    numbers: share of the mini-batch in the running statistics, epsilon, b / (b - 1).
    """
    rows, n = x.shape
    rest, epsilon, unbiased = numbers[0], numbers[1], numbers[2]
    share = ONE(rest) / type(rest)(rows)
    for q in prange((n + PANEL - 1) // PANEL):
        begin, end = q * PANEL, min(n, (q + 1) * PANEL)
        m, v, g, b = mean[begin:end], inverse[begin:end], gamma[begin:end], beta[begin:end]
        # 1. The mean over rows.
        _add_rows(m, x, x, m, begin)
        for j in range(m.shape[0]):
            m[j] *= share
        # 2. The variance, and the running averages of both.
        _add_squares(v, x, x, m, begin)
        for j in range(begin, end):
            variance = inverse[j] * share
            inverse[j] = ONE(rest) / np.sqrt(variance + epsilon)
            running_mean[j] += rest * (mean[j] - running_mean[j])
            running_variance[j] += rest * (unbiased * variance - running_variance[j])
        # 3. The output.
        for i in range(rows):
            x_row, y_row = x[i][begin:end], y[i][begin:end]
            for j in range(m.shape[0]):
                y_row[j] = (x_row[j] - m[j]) * (v[j] * g[j]) + b[j]


def batch_norm_backward_reference(dx, dgamma, dbeta, dy, x, gamma, mean, inverse):
    normal = (x - mean) * inverse
    dgamma[:], dbeta[:] = (dy * normal).sum(axis=0, dtype=np.float64), dy.sum(axis=0, dtype=np.float64)
    dx[:] = gamma * inverse * (dy - dbeta / len(x) - normal * (dgamma / len(x)))


@device
def _fill_dx(dx, dy, x, mean, inverse, gamma, dgamma, dbeta, begin, end):
    share = ONE(gamma[0]) / type(gamma[0])(x.shape[0])
    for i in range(x.shape[0]):
        x_row, dy_row, dx_row = x[i][begin:end], dy[i][begin:end], dx[i][begin:end]
        m, v, dg, db, g = mean[begin:end], inverse[begin:end], dgamma[begin:end], dbeta[begin:end], gamma[begin:end]
        for j in range(x_row.shape[0]):
            dx_row[j] = g[j] * v[j] * (dy_row[j] - db[j] * share - (x_row[j] - m[j]) * v[j] * (dg[j] * share))


@kernel(batch_norm_backward_reference, "(b,n) (n) (n) (b,n) (b,n) (n) (n) (n)", cycles=1.5)
def batch_norm_backward(dx, dgamma, dbeta, dy, x, gamma, mean, inverse):
    """dx = gamma inverse (dy - mean(dy) - h mean(dy h)), h = (x - mean) inverse; dgamma = sum dy h, dbeta = sum dy."""
    n = x.shape[1]
    for q in prange((n + PANEL - 1) // PANEL):
        begin, end = q * PANEL, min(n, (q + 1) * PANEL)
        # 1. The gradients of beta and gamma.
        _add_rows(dbeta[begin:end], dy, dy, mean[begin:end], begin)
        _add_products(dgamma[begin:end], dy, x, mean[begin:end], begin)
        for j in range(begin, end):
            dgamma[j] *= inverse[j]
        # 2. The gradient of x, which depends on both.
        _fill_dx(dx, dy, x, mean, inverse, gamma, dgamma, dbeta, begin, end)


def normalize_reference(y, x, gamma, beta, mean, variance, epsilon):
    y[:] = (x - mean) * (gamma / np.sqrt(variance + epsilon)) + beta


_SQUARES = {"variance": positive, "epsilon": positive}


@kernel(normalize_reference, "(b,n) (b,n) (n) (n) (n) (n) (1)", cycles=0.5, values=_SQUARES)
def normalize(y, x, gamma, beta, mean, variance, epsilon):
    """y = gamma (x - mean) / sqrt(variance + epsilon) + beta."""
    for i in prange(x.shape[0]):
        x_row, y_row = x[i], y[i]
        for j in range(x_row.shape[0]):
            y_row[j] = (x_row[j] - mean[j]) * (gamma[j] / np.sqrt(variance[j] + epsilon[0])) + beta[j]


def normalize_backward_reference(dx, dgamma, dbeta, dy, x, gamma, mean, variance, epsilon):
    inverse = 1 / np.sqrt(variance + epsilon)
    dgamma[:], dbeta[:] = (dy * (x - mean) * inverse).sum(axis=0), dy.sum(axis=0)
    dx[:] = dy * (gamma * inverse)


@kernel(normalize_backward_reference, "(b,n) (n) (n) (b,n) (b,n) (n) (n) (n) (1)", cycles=1.5, values=_SQUARES)
def normalize_backward(dx, dgamma, dbeta, dy, x, gamma, mean, variance, epsilon):
    """dx = gamma dy / sqrt(variance + epsilon), dgamma = sum dy h, dbeta = sum dy, with h as in `normalize`."""
    for j in range(x.shape[1]):
        inverse, of_gamma, of_beta = ONE(epsilon[0]) / np.sqrt(variance[j] + epsilon[0]), ZERO(dy[0, 0]), ZERO(dy[0, 0])
        for i in range(x.shape[0]):
            of_gamma += dy[i, j] * (x[i, j] - mean[j]) * inverse
            of_beta += dy[i, j]
            dx[i, j] = dy[i, j] * (gamma[j] * inverse)
        dgamma[j], dbeta[j] = of_gamma, of_beta


@dataclasses.dataclass(frozen=True)
class BatchNorm(Layer):
    """y = gamma (x - mean) / sqrt(variance + epsilon) + beta, feature by feature.

    In training, mean and variance are those of the mini-batch, and gradients go through them; prediction uses running
    averages: running += (1 - momentum) (batch - running), with the unbiased variance, as in PyTorch,
    whose momentum is 1 minus this one; Keras averages the biased variance. A single row, such as an
    epoch's last mini-batch may be, has no standard deviation: it is normalized with the running averages, which it
    leaves unchanged; PyTorch raises. A fit in which every mini-batch has one row is an error.

    Ioffe and Szegedy, "Batch normalization", 2015.

    Parameters
    ----------
    momentum : float in [0, 1)
        The share of the running averages that each mini-batch retains.
    epsilon : float
        Added to the variance, so that a feature which does not vary is divided by more than 0.
    """

    momentum: float = 0.9
    epsilon: float = 1e-5

    reads = ("x",)

    def __post_init__(self) -> None:
        checks.number("BatchNorm: momentum", self.momentum, high=1.0)
        checks.number("BatchNorm: epsilon", self.epsilon, open_low=True)

    @classmethod
    def example(cls, x):
        return cls(0.8)(x)

    def spec(self, shape):
        parameters = {"gamma": Parameter(shape[-1:], ones), "beta": Parameter(shape[-1:], zeros)}
        running = {"mean": Parameter(shape[-1:], zeros), "variance": Parameter(shape[-1:], ones)}
        return Spec(shape, parameters, running, couples_rows=True)

    def forward(self, b):
        if b.inputs[0].mask is not None:
            raise ValueError(f"{b.name}: BatchNorm takes no mask, since what is masked would count; use LayerNorm")
        x, y = (array.reshape(-1, array.shape[-1]) for array in (b.x, b.y))
        b.statistics = None  # of the mini-batch
        if not b.training or len(x) == 1:
            b.call(normalize, y, x, b.p.gamma, b.p.beta, b.p.mean, b.p.variance, b.constant(self.epsilon))
            return
        rows, n = x.shape
        b.statistics = mean, inverse = b.buffer(n), b.buffer(n)
        numbers = b.constant(1 - self.momentum, self.epsilon, rows / (rows - 1))
        b.call(batch_norm, y, mean, inverse, b.p.mean, b.p.variance, x, b.p.gamma, b.p.beta, numbers)

    def backward(self, b):
        dx = b.buffer(*b.x.shape) if b.dx is None else b.dx
        dx, dy, x = (array.reshape(-1, array.shape[-1]) for array in (dx, b.dy, b.x))
        if b.statistics is None:
            running = b.p.mean, b.p.variance, b.constant(self.epsilon)
            b.call(normalize_backward, dx, b.g.gamma, b.g.beta, dy, x, b.p.gamma, *running)
        else:
            b.call(batch_norm_backward, dx, b.g.gamma, b.g.beta, dy, x, b.p.gamma, *b.statistics)
