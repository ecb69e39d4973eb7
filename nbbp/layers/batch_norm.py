"""BatchNorm: every feature with mean 0 and deviation 1 over the mini-batch."""

import dataclasses

import numpy as np
from numba import prange, types

from nbbp import checks
from nbbp.engine.layer import Layer, Parameter
from nbbp.initializers import ones, zeros
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
    """A function that sums a term of a_ij, b_ij and mean_j over all rows, ADDED_ROWS of them at a time."""

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


@kernel(batch_norm_reference, "(b,n) (n) (n) (n) (n) (b,n) (n) (n) (3)", cycles=1.2)
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
        _add_rows(m, x, x, m, begin)
        for j in range(m.shape[0]):
            m[j] *= share
        _add_squares(v, x, x, m, begin)
        for j in range(begin, end):
            variance = inverse[j] * share
            inverse[j] = ONE(rest) / np.sqrt(variance + epsilon)
            running_mean[j] += rest * (mean[j] - running_mean[j])
            running_variance[j] += rest * (unbiased * variance - running_variance[j])
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
        _add_rows(dbeta[begin:end], dy, dy, mean[begin:end], begin)
        _add_products(dgamma[begin:end], dy, x, mean[begin:end], begin)
        for j in range(begin, end):
            dgamma[j] *= inverse[j]
        _fill_dx(dx, dy, x, mean, inverse, gamma, dgamma, dbeta, begin, end)


def normalize_reference(y, x, gamma, beta, mean, variance, epsilon):
    y[:] = (x - mean) * (gamma / np.sqrt(variance + epsilon)) + beta


@kernel(normalize_reference, "(b,n) (b,n) (n) (n) (n) (n) (1)", cycles=0.5)
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


@kernel(normalize_backward_reference, "(b,n) (n) (n) (b,n) (b,n) (n) (n) (n) (1)", cycles=1.5)
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

    In training mean and variance are those of the mini-batch, and gradients go through them; running averages of them
    are kept for prediction: running += (1 - momentum) (batch - running), with the unbiased variance, as in PyTorch,
    whose momentum is 1 minus this one; Keras keeps the biased variance. A single row, such as an
    epoch's last mini-batch may be, has no deviation: it is normalized with the running averages, which it leaves as
    they are; PyTorch raises. A fit in which every mini-batch has one row is an error.

    Ioffe and Szegedy, "Batch normalization", 2015.

    Parameters
    ----------
    momentum : float in [0, 1)
    epsilon : float
    """

    momentum: float = 0.9
    epsilon: float = 1e-5

    needs_output = False
    couples_rows = True

    def __post_init__(self) -> None:
        checks.number("BatchNorm: momentum", self.momentum, high=1.0)
        checks.number("BatchNorm: epsilon", self.epsilon, open_low=True)

    def parameters(self, input_shape):
        return {"gamma": Parameter(input_shape[-1:], ones), "beta": Parameter(input_shape[-1:], zeros)}

    def state(self, input_shape):
        return {"mean": Parameter(input_shape[-1:], zeros), "variance": Parameter(input_shape[-1:], ones)}

    def forward(self, program, y, x, p):
        y, x = y.reshape(-1, y.shape[-1]), x.reshape(-1, x.shape[-1])
        if not program.training or len(x) == 1:
            epsilon = np.array([self.epsilon], y.dtype)
            program.call(normalize, y, x, p.gamma, p.beta, p.mean, p.variance, epsilon)
            return None
        rows, n = x.shape
        mean, inverse = program.buffer(n), program.buffer(n)
        numbers = np.array([1 - self.momentum, self.epsilon, rows / (rows - 1)], y.dtype)
        program.call(batch_norm, y, mean, inverse, p.mean, p.variance, x, p.gamma, p.beta, numbers)
        return mean, inverse

    def backward(self, program, dx, dy, x, y, p, g, kept):
        dx = program.buffer(*x.shape) if dx is None else dx
        dx, dy, x = (array.reshape(-1, array.shape[-1]) for array in (dx, dy, x))
        if kept is None:
            epsilon = np.array([self.epsilon], x.dtype)
            program.call(normalize_backward, dx, g.gamma, g.beta, dy, x, p.gamma, p.mean, p.variance, epsilon)
            return
        program.call(batch_norm_backward, dx, g.gamma, g.beta, dy, x, p.gamma, *kept)
