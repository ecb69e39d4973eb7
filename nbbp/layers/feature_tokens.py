"""FeatureTokens: a vector for each feature of a table, for attention."""

import dataclasses
import math

import numpy as np
from numba import prange

from nbbp import checks
from nbbp.engine.layer import Layer, Parameter, Spec
from nbbp.initializers import uniform
from nbbp.kernels.jit import kernel
from nbbp.kernels.sums import total
from nbbp.kernels.vector_math import ZERO
from nbbp.layers.flatten import Flatten

LENGTHS = {"t": lambda f: f + 1}


def feature_tokens_reference(y, x, w, b):
    y[:] = b
    y[:, 1:] += x[:, :, np.newaxis] * w


@kernel(feature_tokens_reference, "(r,t,d) (r,f) (f,d) (t,d)", cycles=0.4, lengths=LENGTHS)
def feature_tokens(y, x, w, b):
    """y_0 = b_0 and y_(j + 1) = x_j w_j + b_(j + 1)."""
    for i in prange(x.shape[0]):
        y[i, 0, :] = b[0]
        for j in range(x.shape[1]):
            row, value, slope, offset = y[i, j + 1], x[i, j], w[j], b[j + 1]
            for k in range(row.shape[0]):
                row[k] = offset[k] + value * slope[k]


def feature_tokens_weights_reference(dw, dy, x):
    dw[:] = np.einsum("rfd,rf->fd", dy[:, 1:], x)


@kernel(feature_tokens_weights_reference, "(f,d) (r,t,d) (r,f)", cycles=0.4, lengths=LENGTHS)
def feature_tokens_weights(dw, dy, x):
    """dw_j = sum over the rows of x_j dy_(j + 1)."""
    for j in prange(dw.shape[0]):
        sums = dw[j]
        for k in range(sums.shape[0]):
            sums[k] = ZERO(sums[k])
        for i in range(x.shape[0]):
            value, row = x[i, j], dy[i, j + 1]
            for k in range(sums.shape[0]):
                sums[k] += value * row[k]


def feature_tokens_inputs_reference(dx, dy, w):
    dy[:, 1:] *= w
    dx[:] = dy[:, 1:].sum(axis=2)


@kernel(feature_tokens_inputs_reference, "(r,f) (r,t,d) (f,d)", cycles=0.5, lengths=LENGTHS)
def feature_tokens_inputs(dx, dy, w):
    """dx_j = dy_(j + 1) . w_j; dy is overwritten with the products."""
    for i in prange(dx.shape[0]):
        for j in range(dx.shape[1]):
            row, slope = dy[i, j + 1], w[j]
            for k in range(row.shape[0]):
                row[k] *= slope[k]
            dx[i, j] = total(row)


@dataclasses.dataclass(frozen=True)
class FeatureTokens(Layer):
    """A class token, then a token for each feature of a table: y_0 = b_0, y_(j + 1) = x_j w_j + b_(j + 1).

    x is (features,), y (features + 1, dimension). The feature tokenizer of Gorishniy et al., "Revisiting deep learning
    models for tabular data", 2021, with its class token, whose row `TakeFirst` takes out of the last block. All
    parameters begin uniform between -1 / sqrt(dimension) and 1 / sqrt(dimension), as there.

    Parameters
    ----------
    dimension : int
        The length of each token.
    """

    dimension: int

    reads = ("x",)

    def __post_init__(self) -> None:
        object.__setattr__(self, "dimension", checks.positive_integer("FeatureTokens: dimension", self.dimension))

    @classmethod
    def example(cls, x):
        return Flatten()(cls(3)(x))

    def spec(self, shape):
        if len(shape) != 1:
            raise ValueError(f"FeatureTokens takes samples (features,), got {shape}")
        (features,), initializer = shape, uniform(1 / math.sqrt(self.dimension))
        w, b = (Parameter((count, self.dimension), initializer) for count in (features, features + 1))
        return Spec((features + 1, self.dimension), {"w": w, "b": b})

    def forward(self, b):
        b.call(feature_tokens, b.y, b.x, b.p.w, b.p.b)

    def backward(self, b):
        b.call(feature_tokens_weights, b.g.w, b.dy, b.x)
        b.sum_rows(b.g.b.reshape(-1), b.dy.reshape(b.rows, -1))
        if b.dx is not None:
            b.call(feature_tokens_inputs, b.dx, b.dy, b.p.w)
