"""Rescale: features times a factor, plus an offset; bytes such as pixels become floats."""

import dataclasses
import math

import numpy as np

from nbbp import checks
from nbbp.engine.layer import Layer
from nbbp.kernels.jit import kernel


def rescale_reference(y, x, numbers):
    y[:] = x.astype(y.dtype) * numbers[0] + numbers[1]


@kernel(rescale_reference, "(n) (n) (2)", cycles=0.2, elementwise=True)
def rescale(y, x, numbers):
    """y = numbers[0] x + numbers[1], where x may be integers."""
    scale, offset = numbers[0], numbers[1]
    for i in range(y.shape[0]):
        y[i] = type(scale)(x[i]) * scale + offset


@dataclasses.dataclass(frozen=True)
class Rescale(Layer):
    """y = x scale + offset, as in Keras's Rescaling; the first layer of a network that takes pixels as bytes.

    A network that begins with it keeps pixels as bytes in memory, and makes floats of one mini-batch at a time: a
    `Sequential` whose first data are of uint8, or ``nbbp.Input((28, 28, 1), dtype="uint8")``. From then on, its data
    are integers from 0 to 255, and anything else is an error.

    Parameters
    ----------
    scale, offset : float
        1 / 255 turns bytes into numbers from 0 to 1; 1 / 127.5 and -1 into numbers from -1 to 1.
    """

    scale: float
    offset: float = 0.0

    reads = ()
    takes_integers = True
    keeps_bytes = True

    def __post_init__(self) -> None:
        for name in ("scale", "offset"):
            checks.number(f"Rescale: {name}", getattr(self, name), low=-math.inf)

    @classmethod
    def example(cls, x):
        return cls(0.5, -1.0)(x)

    def forward(self, b):
        b.call(rescale, b.y.reshape(-1), b.x.reshape(-1), b.constant(self.scale, self.offset))

    def backward(self, b):
        b.call(rescale, b.dx.reshape(-1), b.dy.reshape(-1), b.constant(self.scale, 0.0))
