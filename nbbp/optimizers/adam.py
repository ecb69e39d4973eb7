"""Adam and AdamW: moving averages of gradients and of their squares."""

import dataclasses

import numpy as np

from nbbp.kernels.arguments import positive
from nbbp.kernels.denormals import flushed
from nbbp.kernels.jit import Kernel, kernel
from nbbp.kernels.scalars import fma
from nbbp.kernels.vector_math import ONE, SPECK
from nbbp.optimizers.base import BELOW_1, DECAY, FLAG, POSITIVE, RATE, Optimizer, at, columns, powers
from nbbp.schedules import Schedule


def adam_reference(p, g, m, v, numbers):
    rate, beta1, rest1, beta2, rest2, correction, epsilon, decay = numbers
    m[:] = beta1 * m + rest1 * g
    v[:] = beta2 * v + rest2 * g * g
    p *= 1 - decay
    p -= rate * m / (np.sqrt(v * correction) + epsilon)


@kernel(
    adam_reference,
    "(n) (n) (n) (n) (8)",
    cycles=0.6,
    elementwise=True,
    values={"v": positive, "numbers": positive},
)
def adam(p, g, m, v, numbers):
    """m = beta1 m + (1 - beta1) g; v = beta2 v + (1 - beta2) g^2; p = (1 - decay) p - rate m / (sqrt(c v) + eps)."""
    rate, beta1, rest1, beta2, rest2 = numbers[0], numbers[1], numbers[2], numbers[3], numbers[4]
    correction, epsilon, keep = numbers[5], numbers[6], ONE(numbers[7]) - numbers[7]
    for i in range(p.shape[0]):
        m[i] = flushed(fma(beta1, m[i], rest1 * g[i]))
        v[i] = fma(rest2 * g[i], g[i], fma(beta2, v[i], SPECK(rate)))
        p[i] = flushed(fma(keep, p[i], -(rate * m[i] / (np.sqrt(v[i] * correction) + epsilon))))


@dataclasses.dataclass(frozen=True)
class Adam(Optimizer):
    """m = beta1 m + (1 - beta1) g;  v = beta2 v + (1 - beta2) g^2;  p -= rate m' / (sqrt(v') + epsilon).

    m' = m / (1 - beta1^t) and v' = v / (1 - beta2^t) at step t = 1, 2, ... Kingma and Ba, "Adam", 2015. As in PyTorch;
    Keras's adds epsilon before v is corrected.

    Parameters
    ----------
    learning_rate : float or Schedule
        The step size: about how far a parameter moves in one step while its gradients agree.
    beta1, beta2 : float in [0, 1)
        The shares of m and v that each step retains: the averages reach back about 1 / (1 - beta) steps.
    epsilon : float
        Keeps the divisor from 0 where gradients have been 0.
    """

    learning_rate: float | Schedule = dataclasses.field(default=0.001, metadata=RATE)
    beta1: float = dataclasses.field(default=0.9, metadata=BELOW_1)
    beta2: float = dataclasses.field(default=0.999, metadata=BELOW_1)
    epsilon: float = dataclasses.field(default=1e-8, metadata=POSITIVE)

    moments = 2

    @property
    def kernel(self) -> Kernel:
        return adam

    def numbers(self, steps):
        rate = at(self.learning_rate, steps) / (1 - powers(self.beta1, steps))
        correction = 1 / (1 - powers(self.beta2, steps))
        betas = self.beta1, 1 - self.beta1, self.beta2, 1 - self.beta2
        return columns(steps, rate, *betas, correction, self.epsilon, self._decay(steps))

    def _decay(self, steps: np.ndarray) -> float | np.ndarray:
        return 0.0


@dataclasses.dataclass(frozen=True)
class AdamW(Adam):
    """Adam, and p -= rate weight_decay p: weight decay that does not enter the moments.

    Loshchilov and Hutter, "Decoupled weight decay regularization", 2019. As PyTorch's AdamW, and as Keras's except
    for Adam's epsilon.

    Parameters
    ----------
    learning_rate, beta1, beta2, epsilon
        As for `Adam`.
    weight_decay : float or Schedule
        The share of themselves that parameters lose at each step, times the learning rate.
    decay_vectors : bool
        Whether vectors decay too, such as biases and the factors of normalizations, which GPT-2's recipe leaves out.
    """

    weight_decay: float | Schedule = dataclasses.field(default=0.01, metadata=DECAY)
    decay_vectors: bool = dataclasses.field(default=True, kw_only=True, metadata=FLAG)

    def _decay(self, steps):
        return at(self.learning_rate, steps) * at(self.weight_decay, steps)
