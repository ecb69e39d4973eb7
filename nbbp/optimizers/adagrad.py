"""Adagrad: the step of each parameter divided by the root of its summed squared gradients."""

import dataclasses

import numpy as np

from nbbp.kernels.arguments import positive
from nbbp.kernels.denormals import flushed
from nbbp.kernels.jit import Kernel, kernel
from nbbp.kernels.scalars import fma
from nbbp.kernels.vector_math import SPECK
from nbbp.optimizers.base import POSITIVE, RATE, Optimizer, at, columns
from nbbp.schedules import Schedule


def adagrad_reference(p, g, s, numbers):
    rate, epsilon = numbers
    s += g * g
    p -= rate * g / (np.sqrt(s) + epsilon)


@kernel(adagrad_reference, "(n) (n) (n) (2)", cycles=0.6, elementwise=True, values={"s": positive, "numbers": positive})
def adagrad(p, g, s, numbers):
    """s += g^2; p -= rate g / (sqrt(s) + epsilon)."""
    rate, epsilon = numbers[0], numbers[1]
    for i in range(p.shape[0]):
        s[i] = fma(g[i], g[i], s[i] + SPECK(rate))
        p[i] = flushed(fma(-rate, g[i] / (np.sqrt(s[i]) + epsilon), p[i]))


@dataclasses.dataclass(frozen=True)
class Adagrad(Optimizer):
    """s += g^2;  p -= rate g / (sqrt(s) + epsilon).

    Duchi et al., "Adaptive subgradient methods", 2011. As in PyTorch without decay; Keras's begins with s = 0.1.

    Parameters
    ----------
    learning_rate : float or Schedule
        The step size before division: about how far a parameter moves in the first step.
    epsilon : float
        Keeps the divisor from 0 where gradients have been 0.
    """

    learning_rate: float | Schedule = dataclasses.field(default=0.01, metadata=RATE)
    epsilon: float = dataclasses.field(default=1e-10, metadata=POSITIVE)

    moments = 1

    @property
    def kernel(self) -> Kernel:
        return adagrad

    def numbers(self, steps):
        return columns(steps, at(self.learning_rate, steps), self.epsilon)
