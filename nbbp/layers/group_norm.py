"""GroupNorm: every group of a sample's channels with mean 0 and standard deviation 1 over its positions."""

import dataclasses

import numpy as np
from numba import prange, types

from nbbp import checks
from nbbp.engine.layer import Layer, Parameter, Spec
from nbbp.initializers import ones, zeros
from nbbp.kernels.arguments import positive, scratch
from nbbp.kernels.gemm import ADDED_ROWS
from nbbp.kernels.jit import device, kernel
from nbbp.kernels.pointers import on_stack
from nbbp.kernels.vector_math import ONE, ZERO
from nbbp.layers.flatten import Flatten
from nbbp.layers.reshape import Reshape, as_image

PANEL = 64  # channels that are added at a time

_sums_of_panel, _totals_of_panel = on_stack(PANEL), on_stack(PANEL, types.float64)


def _dividing(rng, shape, dtype, lengths) -> np.ndarray:
    """A number of channels that cuts n into groups."""
    return rng.choice([k for k in range(1, lengths["n"] + 1) if lengths["n"] % k == 0], shape)


def _means(values: np.ndarray, size: np.ndarray) -> np.ndarray:
    """The means (b, 1, n) of the groups of values (b, p, n), for each of their channels."""
    (rows, _, n), k = values.shape, int(size[0])
    means = values.mean(axis=1, dtype=np.float64).reshape(rows, n // k, k).mean(axis=2)
    return np.repeat(means, k, axis=1)[:, np.newaxis].astype(values.dtype)


def _summed(term):
    """A function that sums a term over the positions of a sample, channel by channel, ADDED_ROWS at a time."""

    @device
    def add(sums, a, b, mean):
        """sums (n,), a and b (p, n), mean (n,)."""
        some, totals = _sums_of_panel(sums), _totals_of_panel(sums)
        for begin in range(0, sums.shape[0], PANEL):
            m = mean[begin : begin + PANEL]
            n = m.shape[0]
            for j in range(n):
                totals[j] = 0.0
            for first in range(0, a.shape[0], ADDED_ROWS):
                for j in range(n):
                    some[j] = ZERO(m[j])
                for i in range(first, min(a.shape[0], first + ADDED_ROWS)):
                    a_row, b_row = a[i][begin : begin + n], b[i][begin : begin + n]
                    for j in range(n):
                        some[j] += term(a_row[j], b_row[j], m[j])
                for j in range(n):
                    totals[j] += some[j]
            for j in range(n):
                sums[begin + j] = totals[j]

    return add


_add_values = _summed(device(lambda a, b, mean: a, inline=True))
_add_squares = _summed(device(lambda a, b, mean: (a - mean) * (b - mean), inline=True))
_add_products = _summed(device(lambda a, b, mean: a * (b - mean), inline=True))


@device
def _average(sums, positions, size):
    """Turn the sums of channels (n,) into the mean of their group's elements."""
    share = ONE(sums[0]) / type(sums[0])(positions * size)
    for first in range(0, sums.shape[0], size):
        total = 0.0
        for j in range(first, first + size):
            total += sums[j]
        for j in range(first, first + size):
            sums[j] = type(share)(total) * share


def group_norm_reference(y, mean, inverse, x, gamma, beta, size, epsilon):
    center = _means(x, size)
    factor = 1 / np.sqrt(_means(np.square(x - center), size) + epsilon)
    mean[:], inverse[:] = center[:, 0], factor[:, 0]
    y[:] = (x - center) * factor * gamma + beta


_SIZES = {"size": _dividing}


@kernel(
    group_norm_reference, "(b,p,n) (b,n) (b,n) (b,p,n) (n) (n) (1) (1)", cycles=1.0,
    values={"epsilon": positive} | _SIZES,
)  # fmt: skip
def group_norm(y, mean, inverse, x, gamma, beta, size, epsilon):
    """y = gamma (x - mean) inverse + beta, inverse = 1 / sqrt(variance + epsilon), over groups of `size` channels.

    mean and inverse are those of each channel's group.
    """
    for i in prange(x.shape[0]):
        sample, m, v = x[i], mean[i], inverse[i]
        # 1. Mean and variance.
        _add_values(m, sample, sample, m)
        _average(m, sample.shape[0], size[0])
        _add_squares(v, sample, sample, m)
        _average(v, sample.shape[0], size[0])
        for j in range(v.shape[0]):
            v[j] = ONE(v[j]) / np.sqrt(v[j] + epsilon[0])
        # 2. The output.
        for p in range(sample.shape[0]):
            x_row, y_row = sample[p], y[i, p]
            for j in range(x_row.shape[0]):
                y_row[j] = (x_row[j] - m[j]) * v[j] * gamma[j] + beta[j]


def group_norm_backward_reference(dx, of_gamma, of_beta, mean_d, mean_dh, dy, x, gamma, mean, inverse, size):
    center, factor = mean[:, np.newaxis], inverse[:, np.newaxis]
    normal, d = (x - center) * factor, dy * gamma
    of_gamma[:], of_beta[:] = (values.sum(axis=1, dtype=np.float64) for values in (dy * normal, dy))
    dx[:] = factor * (d - _means(d, size) - normal * _means(d * normal, size))


@kernel(
    group_norm_backward_reference, "(b,p,n) (b,n) (b,n) (b,n) (b,n) (b,p,n) (b,p,n) (n) (b,n) (b,n) (1)", cycles=1.5,
    values={"mean_d": scratch, "mean_dh": scratch} | _SIZES,
)  # fmt: skip
def group_norm_backward(dx, of_gamma, of_beta, mean_d, mean_dh, dy, x, gamma, mean, inverse, size):
    """dx = inverse (d - mean(d) - h mean(d h)) with d = gamma dy, h = (x - mean) inverse.

    of_gamma and of_beta are the sums of dy h and of dy over the positions of each sample.
    """
    for i in prange(x.shape[0]):
        sample, slope, m, v = x[i], dy[i], mean[i], inverse[i]
        h_sums, sums, dh, d = of_gamma[i], of_beta[i], mean_dh[i], mean_d[i]
        # 1. The sums, and mean(d) and mean(d h), which follow from them.
        _add_products(h_sums, slope, sample, m)
        _add_values(sums, slope, slope, m)
        for j in range(m.shape[0]):
            h_sums[j] *= v[j]
            dh[j], d[j] = gamma[j] * h_sums[j], gamma[j] * sums[j]
        _average(dh, sample.shape[0], size[0])
        _average(d, sample.shape[0], size[0])
        # 2. The gradient of x.
        for p in range(sample.shape[0]):
            x_row, dy_row, dx_row = sample[p], slope[p], dx[i, p]
            for j in range(x_row.shape[0]):
                h = (x_row[j] - m[j]) * v[j]
                dx_row[j] = v[j] * (gamma[j] * dy_row[j] - d[j] - h * dh[j])


@dataclasses.dataclass(frozen=True)
class GroupNorm(Layer):
    """y = gamma (x - mean) / sqrt(variance + epsilon) + beta, with mean and variance of a sample's group of channels.

    A group is the same number of neighbouring channels, at all positions; gamma and beta are of channels. No sample
    depends on others, so that training and prediction are the same, for mini-batches of any size. With a group for each
    channel it is instance normalization; `LayerNorm` normalizes each position by itself. Wu and He, "Group
    normalization", 2018; as in Keras, and in PyTorch except for epsilon, which is 1e-5 there.

    Parameters
    ----------
    groups : int
        The number of groups, which divides the number of channels.
    epsilon : float
        Added to the variance, so that a group of equal numbers is divided by more than 0.
    """

    groups: int = 32
    epsilon: float = 1e-3

    reads = ("x",)

    def __post_init__(self) -> None:
        checks.positive_integer("GroupNorm: groups", self.groups)
        checks.number("GroupNorm: epsilon", self.epsilon, open_low=True)

    @classmethod
    def example(cls, x):
        image = as_image(x)
        return Flatten()(cls(1)(Reshape(image.shape[:2])(image)))

    def spec(self, shape):
        if shape[-1] % self.groups:
            raise ValueError(
                f"GroupNorm: {shape[-1]} channels make no {self.groups} groups of equal size; groups must divide them"
            )
        return Spec(shape, {"gamma": Parameter(shape[-1:], ones), "beta": Parameter(shape[-1:], zeros)})

    def forward(self, b):
        if b.inputs[0].mask is not None:
            raise ValueError(f"{b.name}: GroupNorm takes no mask, since what is masked would count; use LayerNorm")
        n = b.x.shape[-1]
        b.size = np.array([n // self.groups], np.int64)
        b.statistics = mean, inverse = b.buffer(b.rows, n), b.buffer(b.rows, n)
        x, y = (array.reshape(b.rows, -1, n) for array in (b.x, b.y))
        b.call(group_norm, y, mean, inverse, x, b.p.gamma, b.p.beta, b.size, b.constant(self.epsilon))

    def backward(self, b):
        n = b.x.shape[-1]
        dx = b.buffer(*b.x.shape) if b.dx is None else b.dx
        dx, dy, x = (array.reshape(b.rows, -1, n) for array in (dx, b.dy, b.x))
        sums = [b.buffer(b.rows, n) for _ in range(4)]
        b.call(group_norm_backward, dx, *sums, dy, x, b.p.gamma, *b.statistics, b.size)
        b.sum_rows(b.g.gamma, sums[0])
        b.sum_rows(b.g.beta, sums[1])
