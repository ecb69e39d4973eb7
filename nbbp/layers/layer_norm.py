"""LayerNorm: every row with mean 0 and standard deviation 1 over its features."""

import dataclasses

import numpy as np
from numba import prange

from nbbp import checks
from nbbp.engine.layer import Layer, Parameter, Spec
from nbbp.initializers import ones, zeros
from nbbp.kernels.arguments import positive
from nbbp.kernels.jit import kernel
from nbbp.kernels.sums import total
from nbbp.kernels.vector_math import ONE


def layer_norm_reference(y, mean, inverse, x, gamma, beta, epsilon):
    mean[:] = x.mean(axis=1)
    inverse[:] = 1 / np.sqrt(x.var(axis=1) + epsilon)
    y[:] = (x - mean[:, None]) * inverse[:, None] * gamma + beta


@kernel(layer_norm_reference, "(b,n) (b) (b) (b,n) (n) (n) (1)", cycles=1.0, values={"epsilon": positive})
def layer_norm(y, mean, inverse, x, gamma, beta, epsilon):
    """y = gamma (x - mean) inverse + beta, where inverse = 1 / sqrt(variance + epsilon), over each row."""
    share = ONE(epsilon[0]) / type(epsilon[0])(x.shape[1])
    for i in prange(x.shape[0]):
        x_row, y_row = x[i], y[i]
        # 1. The row's mean and variance; y holds the squares for now.
        m = total(x_row) * share
        for j in range(x_row.shape[0]):
            y_row[j] = (x_row[j] - m) * (x_row[j] - m)
        v = ONE(m) / np.sqrt(total(y_row) * share + epsilon[0])
        # 2. The output.
        for j in range(x_row.shape[0]):
            y_row[j] = (x_row[j] - m) * v * gamma[j] + beta[j]
        mean[i], inverse[i] = m, v


def layer_norm_backward_reference(dx, slope, dy, x, gamma, mean, inverse):
    normal = (x - mean[:, None]) * inverse[:, None]
    slope[:] = dy * normal
    d = dy * gamma
    inner = (d * normal).mean(axis=1, keepdims=True)
    dx[:] = inverse[:, None] * (d - d.mean(axis=1, keepdims=True) - normal * inner)


@kernel(layer_norm_backward_reference, "(b,n) (b,n) (b,n) (b,n) (n) (b) (b)", cycles=1.5)
def layer_norm_backward(dx, slope, dy, x, gamma, mean, inverse):
    """dx = inverse (d - mean(d) - h mean(d h)) with d = gamma dy, h = (x - mean) inverse; slope = dy h."""
    share = ONE(gamma[0]) / type(gamma[0])(x.shape[1])
    for i in prange(x.shape[0]):
        x_row, d_row, slope_row, dx_row, m, v = x[i], dy[i], slope[i], dx[i], mean[i], inverse[i]
        # 1. mean(d); dx holds d for now.
        for j in range(x_row.shape[0]):
            dx_row[j] = d_row[j] * gamma[j]
        mean_d = total(dx_row) * share
        # 2. mean(d h); slope holds d h for now.
        for j in range(x_row.shape[0]):
            slope_row[j] = dx_row[j] * ((x_row[j] - m) * v)
        mean_dh = total(slope_row) * share
        # 3. The results.
        for j in range(x_row.shape[0]):
            h = (x_row[j] - m) * v
            dx_row[j] = v * (dx_row[j] - mean_d - h * mean_dh)
            slope_row[j] = d_row[j] * h


@dataclasses.dataclass(frozen=True)
class LayerNorm(Layer):
    """y = gamma (x - mean) / sqrt(variance + epsilon) + beta, with mean and variance of each row.

    Ba, Kiros and Hinton, "Layer normalization", 2016; as in PyTorch, and in Keras except for epsilon.

    Parameters
    ----------
    epsilon : float
        Added to the variance, so that a row of equal features is divided by more than 0.
    """

    epsilon: float = 1e-5

    reads = ("x",)

    def __post_init__(self) -> None:
        checks.number("LayerNorm: epsilon", self.epsilon, open_low=True)

    def spec(self, shape):
        return Spec(shape, {"gamma": Parameter(shape[-1:], ones), "beta": Parameter(shape[-1:], zeros)})

    def forward(self, b):
        x, y = (array.reshape(-1, array.shape[-1]) for array in (b.x, b.y))
        b.statistics = mean, inverse = b.buffer(len(x)), b.buffer(len(x))
        b.call(layer_norm, y, mean, inverse, x, b.p.gamma, b.p.beta, b.constant(self.epsilon))

    def backward(self, b):
        dx = b.buffer(*b.x.shape) if b.dx is None else b.dx
        dx, dy, x = (array.reshape(-1, array.shape[-1]) for array in (dx, b.dy, b.x))
        slope = b.buffer(*x.shape)
        b.call(layer_norm_backward, dx, slope, dy, x, b.p.gamma, *b.statistics)
        b.sum_rows(b.g.gamma, slope)
        b.sum_rows(b.g.beta, dy)
