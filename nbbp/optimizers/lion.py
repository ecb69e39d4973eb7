"""Lion: steps of one size, in the direction of a moving average."""

import dataclasses

import numpy as np

from nbbp.kernels.denormals import flushed
from nbbp.kernels.jit import Kernel, kernel
from nbbp.kernels.scalars import fma
from nbbp.kernels.vector_math import ONE, ZERO
from nbbp.optimizers.base import BELOW_1, DECAY, RATE, Optimizer, at, columns
from nbbp.schedules import Schedule


def lion_reference(p, g, m, numbers):
    rate, beta1, rest1, beta2, rest2, decay = numbers
    p *= 1 - decay
    p -= rate * np.sign(beta1 * m + rest1 * g)
    m[:] = beta2 * m + rest2 * g


@kernel(lion_reference, "(n) (n) (n) (6)", cycles=0.4, elementwise=True)
def lion(p, g, m, numbers):
    """p = (1 - decay) p - rate sign(beta1 m + (1 - beta1) g); m = beta2 m + (1 - beta2) g."""
    rate, beta1, rest1, beta2, rest2 = numbers[0], numbers[1], numbers[2], numbers[3], numbers[4]
    keep = ONE(numbers[5]) - numbers[5]
    for i in range(p.shape[0]):
        direction = fma(beta1, m[i], rest1 * g[i])
        move = rate if direction > ZERO(rate) else (-rate if direction < ZERO(rate) else ZERO(rate))
        p[i] = flushed(fma(keep, p[i], -move))
        m[i] = flushed(fma(beta2, m[i], rest2 * g[i]))


@dataclasses.dataclass(frozen=True)
class Lion(Optimizer):
    """p = (1 - rate weight_decay) p - rate sign(beta1 m + (1 - beta1) g);  m = beta2 m + (1 - beta2) g.

    Chen et al., "Symbolic discovery of optimization algorithms", 2023. Every parameter moves by the rate itself, so it
    needs a rate 3 to 10 times smaller than Adam's. As in Keras; PyTorch has none.

    Parameters
    ----------
    learning_rate : float or Schedule
        How far every parameter moves in one step.
    beta1 : float in [0, 1)
        The weight of m in the direction of a step; the gradient has the rest.
    beta2 : float in [0, 1)
        The share of m that each step retains: the average reaches back about 1 / (1 - beta2) steps.
    weight_decay : float or Schedule
        The share of themselves that parameters lose at each step, times the learning rate.
    """

    learning_rate: float | Schedule = dataclasses.field(default=0.0001, metadata=RATE)
    beta1: float = dataclasses.field(default=0.9, metadata=BELOW_1)
    beta2: float = dataclasses.field(default=0.99, metadata=BELOW_1)
    weight_decay: float | Schedule = dataclasses.field(default=0.0, metadata=DECAY)

    moments = 1

    @property
    def kernel(self) -> Kernel:
        return lion

    def numbers(self, steps):
        rate = at(self.learning_rate, steps)
        betas = self.beta1, 1 - self.beta1, self.beta2, 1 - self.beta2
        return columns(steps, rate, *betas, rate * at(self.weight_decay, steps))
