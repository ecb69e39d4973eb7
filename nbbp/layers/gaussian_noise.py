"""GaussianNoise: in training, normal random numbers are added."""

import dataclasses

import numpy as np
from numba import prange

from nbbp import checks
from nbbp.engine.layer import Layer
from nbbp.engine.program import BEFORE, STEP, copy
from nbbp.kernels.jit import kernel
from nbbp.kernels.random import bits, normal, random_bits, random_normal
from nbbp.kernels.threads import PIECE


def gaussian_noise_reference(y, deviation, draw, clock):
    key = bits(draw[:1], np.array([clock[BEFORE] + clock[STEP]], np.uint64))
    y += deviation * normal(key, draw[1] + np.arange(len(y), dtype=np.uint64), y.dtype)


@kernel(gaussian_noise_reference, "(n) (1) (2) (8)", cycles=4.0)
def gaussian_noise(y, deviation, draw, clock):
    """y_i += deviation times the normal random number of element draw[1] + i in this step; draw[0] is the key."""
    n, size = y.shape[0], deviation[0]
    key = random_bits(draw[0], np.uint64(clock[BEFORE] + clock[STEP]))
    for q in prange((n + PIECE - 1) // PIECE):
        part, first = y[q * PIECE : (q + 1) * PIECE], draw[1] + np.uint64(q * PIECE)
        for i in range(part.shape[0]):
            part[i] += size * random_normal(key, first + np.uint64(i), size)


@dataclasses.dataclass(frozen=True)
class GaussianNoise(Layer):
    """y = x + deviation e in training, e being standard normal; y = x in prediction.

    Bishop, "Training with noise is equivalent to Tikhonov regularization", 1995. e is a function of the model's seed,
    the layer, the step and the element, as in `Dropout`.

    Parameters
    ----------
    deviation : float
    """

    deviation: float

    needs_input = needs_output = False
    in_place = True

    def __post_init__(self) -> None:
        checks.number("GaussianNoise: deviation", self.deviation)

    def forward(self, program, y, x, p):
        if y is not x:
            program.call(copy, y.reshape(-1), x.reshape(-1))
        if program.training:
            first = program.first_row * (y.size // program.rows)
            draw = np.array([program.stream(), first], np.uint64)
            program.call(gaussian_noise, y.reshape(-1), np.array([self.deviation], y.dtype), draw, program.clock)

    def backward(self, program, dx, dy, x, y, p, g, kept):
        """dx = dy."""
