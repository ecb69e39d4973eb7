"""BatchNorm: every feature with mean 0 and standard deviation 1 over the mini-batch."""

import dataclasses

import numpy as np
from numba import prange

from nbbp import checks
from nbbp.engine.layer import Layer, Parameter, Spec
from nbbp.initializers import ones, zeros
from nbbp.kernels.arguments import positive
from nbbp.kernels.gemm import ADDED_ROWS, add_parts, row_blocks, sum_parts
from nbbp.kernels.jit import kernel
from nbbp.kernels.pointers import on_stack
from nbbp.kernels.vector_math import ONE, ZERO

PANEL = 64  # features that one thread takes at a time
_BLOCKS = {"P": lambda b: row_blocks(b)}

_products_of_panel, _sums_of_panel = on_stack(PANEL), on_stack(PANEL)


def batch_mean_reference(mean, parts, share):
    mean[:] = parts.sum(axis=0, dtype=np.float64).astype(mean.dtype) * share


@kernel(batch_mean_reference, "(n) (P,n) (1)", cycles=0.5)
def batch_mean(mean, parts, share):
    """The mean over the rows, from the sums of blocks of rows; share is 1 / rows."""
    add_parts(mean, parts)
    for j in range(mean.shape[0]):
        mean[j] *= share[0]


def batch_squares_reference(parts, x, mean):
    squares = np.square(x - mean)
    for part, first in zip(parts, range(0, len(x), ADDED_ROWS), strict=True):
        part[:] = squares[first : first + ADDED_ROWS].sum(axis=0)


@kernel(batch_squares_reference, "(P,n) (b,n) (n)", cycles=0.3, lengths=_BLOCKS)
def batch_squares(parts, x, mean):
    """The sums of (x - mean)^2 over blocks of ADDED_ROWS rows."""
    panels = (x.shape[1] + PANEL - 1) // PANEL
    for t in prange(parts.shape[0] * panels):
        p, begin = t // panels, t % panels * PANEL
        part, m = parts[p][begin : begin + PANEL], mean[begin : begin + PANEL]
        sums = _sums_of_panel(part)
        for j in range(part.shape[0]):
            sums[j] = ZERO(part[j])
        for i in range(p * ADDED_ROWS, min(x.shape[0], (p + 1) * ADDED_ROWS)):
            row = x[i][begin : begin + PANEL]
            for j in range(part.shape[0]):
                sums[j] += (row[j] - m[j]) * (row[j] - m[j])
        for j in range(part.shape[0]):
            part[j] = sums[j]


def batch_variance_reference(inverse, running_mean, running_variance, parts, mean, numbers):
    share, rest, epsilon, unbiased = numbers
    variance = parts.sum(axis=0, dtype=np.float64).astype(mean.dtype) * share
    inverse[:] = 1 / np.sqrt(variance + epsilon)
    running_mean += rest * (mean - running_mean)
    running_variance += rest * (unbiased * variance - running_variance)


@kernel(
    batch_variance_reference, "(n) (n) (n) (P,n) (n) (4)", cycles=0.5, values={"parts": positive, "numbers": positive}
)
def batch_variance(inverse, running_mean, running_variance, parts, mean, numbers):
    """inverse = 1 / sqrt(variance + epsilon), from the squares of blocks of rows; and the running averages.

    numbers: 1 / rows, share of the mini-batch in the running averages, epsilon, rows / (rows - 1).
    """
    share, rest, epsilon, unbiased = numbers[0], numbers[1], numbers[2], numbers[3]
    add_parts(inverse, parts)
    for j in range(inverse.shape[0]):
        variance = inverse[j] * share
        inverse[j] = ONE(rest) / np.sqrt(variance + epsilon)
        running_mean[j] += rest * (mean[j] - running_mean[j])
        running_variance[j] += rest * (unbiased * variance - running_variance[j])


def batch_norm_reference(y, x, gamma, beta, mean, inverse):
    y[:] = (x - mean) * (inverse * gamma) + beta


@kernel(batch_norm_reference, "(b,n) (b,n) (n) (n) (n) (n)", cycles=0.4)
def batch_norm(y, x, gamma, beta, mean, inverse):
    """y = gamma (x - mean) inverse + beta."""
    for i in prange(x.shape[0]):
        x_row, y_row = x[i], y[i]
        for j in range(x_row.shape[0]):
            y_row[j] = (x_row[j] - mean[j]) * (inverse[j] * gamma[j]) + beta[j]


def batch_slopes_reference(of_gamma, of_beta, dy, x, mean):
    products = dy * (x - mean)
    for part, first in enumerate(range(0, len(x), ADDED_ROWS)):
        rows = slice(first, first + ADDED_ROWS)
        of_gamma[part], of_beta[part] = products[rows].sum(axis=0), dy[rows].sum(axis=0)


@kernel(batch_slopes_reference, "(P,n) (P,n) (b,n) (b,n) (n)", cycles=0.4, lengths=_BLOCKS)
def batch_slopes(of_gamma, of_beta, dy, x, mean):
    """The sums of dy (x - mean) and of dy over blocks of ADDED_ROWS rows."""
    panels = (x.shape[1] + PANEL - 1) // PANEL
    for t in prange(of_beta.shape[0] * panels):
        p, begin = t // panels, t % panels * PANEL
        part, m = of_beta[p][begin : begin + PANEL], mean[begin : begin + PANEL]
        products, sums = _products_of_panel(part), _sums_of_panel(part)
        for j in range(part.shape[0]):
            products[j] = sums[j] = ZERO(part[j])
        for i in range(p * ADDED_ROWS, min(x.shape[0], (p + 1) * ADDED_ROWS)):
            x_row, dy_row = x[i][begin : begin + PANEL], dy[i][begin : begin + PANEL]
            for j in range(part.shape[0]):
                products[j] += dy_row[j] * (x_row[j] - m[j])
                sums[j] += dy_row[j]
        for j in range(part.shape[0]):
            of_gamma[p, begin + j], part[j] = products[j], sums[j]


def batch_gradients_reference(dgamma, dbeta, of_gamma, of_beta, inverse):
    dgamma[:] = of_gamma.sum(axis=0, dtype=np.float64).astype(inverse.dtype) * inverse
    dbeta[:] = of_beta.sum(axis=0, dtype=np.float64)


@kernel(batch_gradients_reference, "(n) (n) (P,n) (P,n) (n)", cycles=0.5)
def batch_gradients(dgamma, dbeta, of_gamma, of_beta, inverse):
    """dgamma = sum dy (x - mean) inverse, dbeta = sum dy, from the sums of blocks of rows."""
    add_parts(dgamma, of_gamma)
    add_parts(dbeta, of_beta)
    for j in range(dgamma.shape[0]):
        dgamma[j] *= inverse[j]


def batch_norm_backward_reference(dx, dgamma, dbeta, dy, x, gamma, mean, inverse):
    normal = (x - mean) * inverse
    dx[:] = gamma * inverse * (dy - dbeta / len(x) - normal * (dgamma / len(x)))


@kernel(batch_norm_backward_reference, "(b,n) (n) (n) (b,n) (b,n) (n) (n) (n)", cycles=0.6)
def batch_norm_backward(dx, dgamma, dbeta, dy, x, gamma, mean, inverse):
    """dx = gamma inverse (dy - mean(dy) - h mean(dy h)), h = (x - mean) inverse; dgamma = sum dy h, dbeta = sum dy."""
    share = ONE(gamma[0]) / type(gamma[0])(x.shape[0])
    for i in prange(x.shape[0]):
        x_row, dy_row, dx_row = x[i], dy[i], dx[i]
        for j in range(x_row.shape[0]):
            h = (x_row[j] - mean[j]) * inverse[j]
            dx_row[j] = gamma[j] * inverse[j] * (dy_row[j] - dbeta[j] * share - h * (dgamma[j] * share))


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
    leaves unchanged; PyTorch raises. A fit in which every mini-batch has one row is an error. If a mini-batch is cut
    into shards, each of two rows at least, mean and variance are those of the shard, and the running averages the mean
    of theirs.

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
        parts = b.buffer(row_blocks(rows), n)
        b.statistics = mean, inverse = b.buffer(n), b.buffer(n)
        b.call(sum_parts, parts, x)
        b.call(batch_mean, mean, parts, b.constant(1 / rows))
        b.call(batch_squares, parts, x, mean)
        numbers = b.constant(1 / rows, 1 - self.momentum, self.epsilon, rows / (rows - 1))
        b.call(batch_variance, inverse, b.p.mean, b.p.variance, parts, mean, numbers)
        b.call(batch_norm, y, x, b.p.gamma, b.p.beta, mean, inverse)

    def backward(self, b):
        dy, x = (array.reshape(-1, array.shape[-1]) for array in (b.dy, b.x))
        if b.statistics is None:
            dx = b.buffer(*x.shape) if b.dx is None else b.dx
            running = b.p.mean, b.p.variance, b.constant(self.epsilon)
            b.call(normalize_backward, dx.reshape(x.shape), b.g.gamma, b.g.beta, dy, x, b.p.gamma, *running)
            return
        mean, inverse = b.statistics
        parts = [b.buffer(row_blocks(len(x)), len(mean)) for _ in range(2)]
        b.call(batch_slopes, *parts, dy, x, mean)
        b.call(batch_gradients, b.g.gamma, b.g.beta, *parts, inverse)
        if b.dx is not None:
            b.call(batch_norm_backward, b.dx.reshape(x.shape), b.g.gamma, b.g.beta, dy, x, b.p.gamma, mean, inverse)
