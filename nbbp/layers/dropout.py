"""Dropout: in training, outputs are zeroed at random and the others scaled up."""

import dataclasses
import math

import numpy as np
from numba import prange

from nbbp import checks
from nbbp.engine.layer import Layer, Spec
from nbbp.kernels.arguments import any_bits, shares
from nbbp.kernels.batches import copy
from nbbp.kernels.jit import kernel
from nbbp.kernels.random import bits, random_bits, threshold_of
from nbbp.kernels.vector_math import ZERO
from nbbp.schedules import Schedule

ALL = 2.0**64 - 2.0**11  # the largest float64 below 2^64: random numbers below it are kept


def dropout_reference(y, scale, draw, clock):
    key = bits(draw[:1], np.array([clock["before"][0] + clock["step"][0]], np.uint64))
    numbers = bits(key, draw[2] + np.arange(len(y), dtype=np.uint64))
    y[:] = np.where(numbers < draw[1], y * scale, 0)


@kernel(dropout_reference, "(n) (1) (3) (1)", cycles=1.0, values={"draw": any_bits})
def dropout(y, scale, draw, clock):
    """y_i = scale y_i if the random number of element draw[2] + i in this step is below draw[1], else 0.

    draw: the key of the stream, the threshold of 64-bit numbers, the index of the first element in the mini-batch.
    """
    factor, threshold, first = scale[0], draw[1], draw[2]
    key = random_bits(draw[0], np.uint64(clock[0].before + clock[0].step))
    for i in prange(y.shape[0]):
        kept = random_bits(key, first + np.uint64(i)) < threshold
        y[i] = y[i] * factor if kept else ZERO(factor)


def dropout_numbers_reference(scale, draw, rate):
    keep = 1 - np.float64(rate[0])
    scale[0], draw[1] = 1 / keep, np.uint64(min(keep * 2.0**64, ALL))


@kernel(dropout_numbers_reference, "(1) (3) (1)", values={"draw": any_bits, "rate": shares})
def dropout_numbers(scale, draw, rate):
    """The scale and the threshold of `dropout` for a rate."""
    keep = 1.0 - np.float64(rate[0])
    scale[0] = type(scale[0])(1.0 / keep)
    draw[1] = np.uint64(min(keep * 2.0**64, ALL))


@dataclasses.dataclass(frozen=True)
class Dropout(Layer):
    """y = x m / (1 - rate) in training, with m = 0 with probability `rate` and otherwise 1; y = x in prediction.

    Srivastava et al., "Dropout: a simple way to prevent neural networks from overfitting", 2014, scaled in training
    ("inverted") as in PyTorch and Keras. m is a function of the model's seed, the layer, the step and the element, so
    that it is the same in both backends and at any number of threads, and is drawn again instead of stored.

    Parameters
    ----------
    rate : float in [0, 1), or Schedule
        The share of the inputs that is dropped.
    """

    rate: float | Schedule = 0.5

    reads = ()

    def __post_init__(self) -> None:
        name = f"{type(self).__name__}: rate"
        if not isinstance(self.rate, Schedule):
            checks.number(name, self.rate, high=1.0)
            return
        for power in range(20):  # finds a schedule that would fail in the middle of a fit
            checks.number(f"{name} at step {2**power // 2}", self.rate.value(2**power // 2), high=1.0)

    @classmethod
    def example(cls, x):
        return cls(0.3)(x)

    def spec(self, shape):
        return Spec(shape, in_place=True)

    def forward(self, b):
        if not b.in_place:
            b.call(copy, b.y.reshape(-1), b.x.reshape(-1))
        b.drawn = None
        if b.training and self.rate:
            keep = 1.0 if isinstance(self.rate, Schedule) else 1 - self.rate
            first = b.first_row * self.decisions(b.y.shape[1:])
            draw = np.array([b.stream(), threshold_of(keep), first], np.uint64)
            b.drawn = b.constant(1 / keep), draw, b.clock
            if isinstance(self.rate, Schedule):
                b.call(dropout_numbers, *b.drawn[:2], b.scheduled(self.rate))
            self.drop(b, b.y)

    def backward(self, b):
        """dx shares the memory of dy."""
        if b.drawn is not None:
            self.drop(b, b.dy)

    def decisions(self, shape) -> int:
        """The number of random decisions for a sample."""
        return math.prod(shape)

    def drop(self, b, y) -> None:
        """Drop from y what was drawn."""
        b.call(dropout, y.reshape(-1), *b.drawn)
