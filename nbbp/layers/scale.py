"""Scale: every feature times a trained factor."""

import dataclasses

import numpy as np
from numba import prange

from nbbp import checks
from nbbp.engine.layer import Layer, Parameter, Spec
from nbbp.initializers import ones
from nbbp.kernels.jit import kernel
from nbbp.kernels.vector_math import ZERO

STRIP = 64  # columns that one thread takes at a time


def scale_features_reference(y, x, factors):
    np.multiply(x, factors, out=y)


@kernel(scale_features_reference, "(b,n) (b,n) (n)", cycles=0.3)
def scale_features(y, x, factors):
    """y = x factors."""
    for i in prange(x.shape[0]):
        y_row, x_row = y[i], x[i]
        for j in range(x_row.shape[0]):
            y_row[j] = x_row[j] * factors[j]


def scale_gradient_reference(d, dy, x):
    d[:] = (dy * x).sum(axis=0)


@kernel(scale_gradient_reference, "(n) (b,n) (b,n)", cycles=0.3)
def scale_gradient(d, dy, x):
    """The gradient of the factors."""
    for p in prange((x.shape[1] + STRIP - 1) // STRIP):
        begin, end = p * STRIP, min(x.shape[1], (p + 1) * STRIP)
        sums = d[begin:end]
        for j in range(sums.shape[0]):
            sums[j] = ZERO(sums[j])
        for i in range(x.shape[0]):
            x_row, dy_row = x[i, begin:end], dy[i, begin:end]
            for j in range(sums.shape[0]):
                sums[j] += dy_row[j] * x_row[j]


@dataclasses.dataclass(frozen=True)
class Scale(Layer):
    """y = x s, with a trained factor s for each feature, which starts at 1.

    As the first layer and with a large rate, it learns which features matter: Holzmueller, Grinsztajn and Steinwart,
    "Better by default: strong pre-tuned MLPs and boosted trees on tabular data", 2024.

    Parameters
    ----------
    rate, decay : float
        Factors of the optimizer's learning rate and weight decay for s.
    """

    rate: float = 1.0
    decay: float = 1.0

    reads = ("x",)

    def __post_init__(self) -> None:
        checks.number("Scale: rate", self.rate)
        checks.number("Scale: decay", self.decay)

    @classmethod
    def example(cls, x):
        return cls(rate=2.0)(x)

    def spec(self, shape):
        return Spec(shape, {"s": Parameter(shape[-1:], ones, rate=self.rate, decay=self.decay)})

    def forward(self, b):
        x, y = (array.reshape(-1, array.shape[-1]) for array in (b.x, b.y))
        b.call(scale_features, y, x, b.p.s)

    def backward(self, b):
        x, dy = (array.reshape(-1, array.shape[-1]) for array in (b.x, b.dy))
        b.call(scale_gradient, b.g.s, dy, x)
        if b.dx is not None:
            b.call(scale_features, b.dx.reshape(x.shape), dy, b.p.s)
