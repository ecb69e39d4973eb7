"""RMSprop: the step of each parameter divided by the root of the moving average of its squared gradients."""

import dataclasses

import numpy as np

from nbbp.kernels.arguments import positive
from nbbp.kernels.denormals import flushed
from nbbp.kernels.jit import Kernel, kernel
from nbbp.kernels.scalars import fma
from nbbp.kernels.vector_math import SPECK
from nbbp.optimizers.base import BELOW_1, POSITIVE, RATE, Optimizer, at, columns
from nbbp.schedules import Schedule


def rmsprop_reference(p, g, s, numbers):
    rate, rho, rest, epsilon = numbers
    s[:] = rho * s + rest * g * g
    p -= rate * g / (np.sqrt(s) + epsilon)


@kernel(rmsprop_reference, "(n) (n) (n) (4)", cycles=0.6, elementwise=True, values={"s": positive, "numbers": positive})
def rmsprop(p, g, s, numbers):
    """s = rho s + (1 - rho) g^2; p -= rate g / (sqrt(s) + epsilon)."""
    rate, rho, rest, epsilon = numbers[0], numbers[1], numbers[2], numbers[3]
    for i in range(p.shape[0]):
        s[i] = fma(rest * g[i], g[i], fma(rho, s[i], SPECK(rate)))
        p[i] = flushed(fma(-rate, g[i] / (np.sqrt(s[i]) + epsilon), p[i]))


@dataclasses.dataclass(frozen=True)
class RMSprop(Optimizer):
    """s = rho s + (1 - rho) g^2;  p -= rate g / (sqrt(s) + epsilon).

    Tieleman and Hinton, "Lecture 6.5", 2012. As in PyTorch with alpha = rho (its default is 0.99); Keras's has epsilon
    under the root.

    Parameters
    ----------
    learning_rate : float or Schedule
        The step size before division: about how far a parameter moves in one step.
    rho : float in [0, 1)
        The share of s that each step retains: the average reaches back about 1 / (1 - rho) steps.
    epsilon : float
        Keeps the divisor from 0 where gradients have been 0.
    """

    learning_rate: float | Schedule = dataclasses.field(default=0.001, metadata=RATE)
    rho: float = dataclasses.field(default=0.9, metadata=BELOW_1)
    epsilon: float = dataclasses.field(default=1e-8, metadata=POSITIVE)

    moments = 1

    @property
    def kernel(self) -> Kernel:
        return rmsprop

    def numbers(self, steps):
        return columns(steps, at(self.learning_rate, steps), self.rho, 1 - self.rho, self.epsilon)
