"""Clamp: in prediction, outputs stay within a range."""

import dataclasses
import math

import numpy as np
from numba import prange

from nbbp import checks
from nbbp.engine.layer import Layer, Spec
from nbbp.kernels.batches import copy
from nbbp.kernels.jit import kernel


def clamp_reference(y, low, high):
    np.clip(y, low, high, out=y)


@kernel(clamp_reference, "(b,n) (n) (n)", cycles=0.5)
def clamp(y, low, high):
    """y, or the bound that it lies beyond."""
    for i in prange(y.shape[0]):
        row = y[i]
        for j in range(row.shape[0]):
            least = low[j] if row[j] < low[j] else row[j]  # nan stays nan
            row[j] = high[j] if least > high[j] else least


@dataclasses.dataclass(frozen=True)
class Clamp(Layer):
    """y = x in training; in prediction, min(max(x, low), high).

    As the last layer of a regression, whose predictions then do not leave the range of the targets seen in training:
    Holzmueller, Grinsztajn and Steinwart, "Better by default: strong pre-tuned MLPs and boosted trees on tabular data",
    2024. Derivatives of predictions, see `Model.jacobian`, leave the bounds out.

    Parameters
    ----------
    low, high : float, or sequence of float
        The bounds of all features, or of each.
    """

    low: float | tuple[float, ...]
    high: float | tuple[float, ...]

    reads = ()

    def __post_init__(self) -> None:
        for name in ("low", "high"):
            given = getattr(self, name)
            bounds = np.atleast_1d(np.asarray(given, np.float64)).tolist()
            for bound in bounds:
                checks.number(f"Clamp: {name}", bound, low=-math.inf)
            object.__setattr__(self, name, bounds[0] if np.ndim(given) == 0 else tuple(bounds))
        if np.any(np.asarray(self.low) > np.asarray(self.high)):
            raise ValueError(f"Clamp: low must not be above high, got {self.low} and {self.high}")

    @classmethod
    def example(cls, x):
        return cls(-0.5, 0.5)(x)

    def spec(self, shape):
        for name in ("low", "high"):
            if np.size(getattr(self, name)) not in (1, shape[-1]):
                raise ValueError(f"Clamp: {name} has {np.size(getattr(self, name))} bounds for {shape[-1]} features")
        return Spec(shape, in_place=True)

    def forward(self, b):
        if not b.in_place:
            b.call(copy, b.y.reshape(-1), b.x.reshape(-1))
        if not b.training:
            y = b.y.reshape(-1, b.y.shape[-1])
            bounds = (b.constant(*np.broadcast_to(given, y.shape[1])) for given in (self.low, self.high))
            b.call(clamp, y, *bounds)

    def backward(self, b):
        """dx shares the memory of dy, and is dy."""
