"""Adadelta: RMSprop with a step size that follows from previous steps."""

import dataclasses

import numpy as np

from nbbp.kernels.arguments import positive
from nbbp.kernels.denormals import flushed
from nbbp.kernels.jit import Kernel, kernel
from nbbp.kernels.scalars import fma
from nbbp.kernels.vector_math import SPECK
from nbbp.optimizers.base import BELOW_1, POSITIVE, RATE, Optimizer, at, columns
from nbbp.schedules import Schedule


def adadelta_reference(p, g, s, u, numbers):
    rate, rho, rest, epsilon = numbers
    s[:] = rho * s + rest * g * g
    d = np.sqrt((u + epsilon) / (s + epsilon)) * g
    u[:] = rho * u + rest * d * d
    p -= rate * d


@kernel(
    adadelta_reference,
    "(n) (n) (n) (n) (4)",
    cycles=1.0,
    elementwise=True,
    values={"s": positive, "u": positive, "numbers": positive},
)
def adadelta(p, g, s, u, numbers):
    """s = rho s + (1 - rho) g^2; d = sqrt((u + eps) / (s + eps)) g; u = rho u + (1 - rho) d^2; p -= rate d."""
    rate, rho, rest, epsilon = numbers[0], numbers[1], numbers[2], numbers[3]
    for i in range(p.shape[0]):
        s[i] = fma(rest * g[i], g[i], fma(rho, s[i], SPECK(rate)))
        d = np.sqrt((u[i] + epsilon) / (s[i] + epsilon)) * g[i]
        p[i] = flushed(fma(-rate, d, p[i]))
        u[i] = fma(rest * d, d, fma(rho, u[i], SPECK(rate)))


@dataclasses.dataclass(frozen=True)
class Adadelta(Optimizer):
    """s = rho s + (1 - rho) g^2;  d = sqrt((u + eps) / (s + eps)) g;  u = rho u + (1 - rho) d^2;  p -= rate d.

    Zeiler, "Adadelta: an adaptive learning rate method", 2012. As in PyTorch; Keras's differs in its defaults
    (learning_rate 0.001, rho 0.95, epsilon 1e-7).

    Parameters
    ----------
    learning_rate : float or Schedule
        The factor of the step d, which already has the units of the parameters: 1 in the paper.
    rho : float in [0, 1)
        The share of s and u that each step retains: the averages reach back about 1 / (1 - rho) steps.
    epsilon : float
        Added under both roots: it sets the size of the first steps, when u is 0.
    """

    learning_rate: float | Schedule = dataclasses.field(default=1.0, metadata=RATE)
    rho: float = dataclasses.field(default=0.9, metadata=BELOW_1)
    epsilon: float = dataclasses.field(default=1e-6, metadata=POSITIVE)

    moments = 2

    @property
    def kernel(self) -> Kernel:
        return adadelta

    def numbers(self, steps):
        return columns(steps, at(self.learning_rate, steps), self.rho, 1 - self.rho, self.epsilon)
