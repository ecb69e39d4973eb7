"""Rescale: features times a factor, plus an offset; bytes such as pixels become floats."""

import dataclasses
import math

import numpy as np
from numba import prange

from nbbp import checks
from nbbp.engine.layer import Layer
from nbbp.kernels.arguments import below
from nbbp.kernels.arrays import LINE
from nbbp.kernels.jit import kernel
from nbbp.kernels.pointers import at, prefetch


def rescale_reference(y, x, numbers):
    y[:] = x.astype(y.dtype) * numbers[0] + numbers[1]


@kernel(rescale_reference, "(n) (n) (2)", cycles=0.2, elementwise=True)
def rescale(y, x, numbers):
    """y = numbers[0] x + numbers[1], where x may be integers."""
    scale, offset = numbers[0], numbers[1]
    for i in range(y.shape[0]):
        y[i] = type(scale)(x[i]) * scale + offset


def gather_rescaled_reference(y, data, numbers, order, clock):
    rows = data[order[clock["row"][0] : clock["row"][0] + len(y)]]
    y[:] = rows.astype(y.dtype) * numbers[0] + numbers[1]


@kernel(gather_rescaled_reference, "(b,n) (R,n) (2) (S) (1)", cycles=1.0, values={"order": below("R")})
def gather_rescaled(y, data, numbers, order, clock):
    """The mini-batch's rows of `data`, rescaled: see `gather_rows`."""
    last, scale, offset = y.shape[0] - 1, numbers[0], numbers[1]
    for i in prange(y.shape[0]):
        ahead = order[clock[0].row + min(i + 2, last)]
        for j in range(0, data.shape[1], LINE):
            prefetch(at(data, ahead * data.shape[1] + j))
        row, source = y[i], data[order[clock[0].row + i]]
        for j in range(row.shape[0]):
            row[j] = type(scale)(source[j]) * scale + offset


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
    gathers = True

    def __post_init__(self) -> None:
        for name in ("scale", "offset"):
            checks.number(f"Rescale: {name}", getattr(self, name), low=-math.inf)

    @classmethod
    def example(cls, x):
        return cls(0.5, -1.0)(x)

    def input_dtype(self, dtype):
        return "uint8" if dtype == np.uint8 else None

    def forward(self, b):
        b.call(rescale, b.y.reshape(-1), b.x.reshape(-1), b.constant(self.scale, self.offset))

    def gather(self, b, bind):
        bind(gather_rescaled, b.y.reshape(b.rows, -1), b.constant(self.scale, self.offset))

    def backward(self, b):
        b.call(rescale, b.dx.reshape(-1), b.dy.reshape(-1), b.constant(self.scale, 0.0))
