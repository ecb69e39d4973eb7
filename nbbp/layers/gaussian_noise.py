"""GaussianNoise: in training, normal random numbers are added."""

import dataclasses

import numpy as np
from numba import prange

from nbbp import checks
from nbbp.engine.layer import Layer, Spec
from nbbp.kernels.arguments import any_bits
from nbbp.kernels.batches import copy
from nbbp.kernels.jit import kernel
from nbbp.kernels.random import bits, normal, random_bits, random_normal


def gaussian_noise_reference(y, deviation, draw, clock):
    key = bits(draw[:1], np.array([clock["before"][0] + clock["step"][0]], np.uint64))
    y += deviation * normal(key, draw[1] + np.arange(len(y), dtype=np.uint64), y.dtype)


@kernel(gaussian_noise_reference, "(n) (1) (2) (1)", cycles=4.0, values={"draw": any_bits})
def gaussian_noise(y, deviation, draw, clock):
    """y_i += deviation times the normal random number of element draw[1] + i in this step; draw[0] is the key."""
    first, size = draw[1], deviation[0]
    key = random_bits(draw[0], np.uint64(clock[0].before + clock[0].step))
    for i in prange(y.shape[0]):
        y[i] += size * random_normal(key, first + np.uint64(i), size)


@dataclasses.dataclass(frozen=True)
class GaussianNoise(Layer):
    """y = x + deviation e in training, where e is standard normal; y = x in prediction.

    Bishop, "Training with noise is equivalent to Tikhonov regularization", 1995. e is a function of the model's seed,
    the layer, the step and the element, as in `Dropout`.

    Parameters
    ----------
    deviation : float
        The standard deviation of the noise, in the units of the inputs; 0 for none.
    """

    deviation: float

    reads = ()

    def __post_init__(self) -> None:
        checks.number("GaussianNoise: deviation", self.deviation)

    @classmethod
    def example(cls, x):
        return cls(0.1)(x)

    def spec(self, shape):
        return Spec(shape, in_place=True)

    def forward(self, b):
        if not b.in_place:
            b.call(copy, b.y.reshape(-1), b.x.reshape(-1))
        if b.training:
            first = b.first_row * (b.y.size // b.rows)
            draw = np.array([b.stream(), first], np.uint64)
            b.call(gaussian_noise, b.y.reshape(-1), b.constant(self.deviation), draw, b.clock)

    def backward(self, b):
        """dx = dy, in the same memory."""
