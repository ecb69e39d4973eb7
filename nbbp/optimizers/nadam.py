"""Nadam: Adam with Nesterov's momentum."""

import dataclasses

import numpy as np

from nbbp.kernels.arguments import positive
from nbbp.kernels.denormals import flushed
from nbbp.kernels.jit import Kernel, kernel
from nbbp.kernels.scalars import fma
from nbbp.kernels.vector_math import SPECK
from nbbp.optimizers.adam import Adam
from nbbp.optimizers.base import RATE, at, columns, powers
from nbbp.schedules import Schedule


def nadam_reference(p, g, m, v, numbers):
    a, beta1, rest1, beta2, rest2, correction, epsilon, b = numbers
    m[:] = beta1 * m + rest1 * g
    v[:] = beta2 * v + rest2 * g * g
    p -= (a * g + b * m) / (np.sqrt(v * correction) + epsilon)


@kernel(
    nadam_reference,
    "(n) (n) (n) (n) (8)",
    cycles=0.6,
    elementwise=True,
    values={"v": positive, "numbers": positive},
)
def nadam(p, g, m, v, numbers):
    """m = beta1 m + (1 - beta1) g; v = beta2 v + (1 - beta2) g^2; p -= (a g + b m) / (sqrt(c v) + eps)."""
    a, beta1, rest1, beta2, rest2 = numbers[0], numbers[1], numbers[2], numbers[3], numbers[4]
    correction, epsilon, b = numbers[5], numbers[6], numbers[7]
    for i in range(p.shape[0]):
        m[i] = flushed(fma(beta1, m[i], rest1 * g[i]))
        v[i] = fma(rest2 * g[i], g[i], fma(beta2, v[i], SPECK(a)))
        p[i] = flushed(p[i] - fma(a, g[i], b * m[i]) / (np.sqrt(v[i] * correction) + epsilon))


@dataclasses.dataclass(frozen=True)
class Nadam(Adam):
    """Adam with Nesterov's momentum: p -= (a g + b m) / (sqrt(v') + epsilon).

    a = rate (1 - u_t) / (1 - U_t) and b = rate u_t+1 / (1 - U_t+1), where u_t = beta1 (1 - 0.96^(t / 250) / 2) and U_t
    is their product up to t. Dozat, "Incorporating Nesterov momentum into Adam", 2016. As in PyTorch, including the
    defaults; in Keras, u_t has 0.96^t, the learning rate is 0.001 and epsilon 1e-7.

    Parameters
    ----------
    learning_rate, beta1, beta2, epsilon
        As for `Adam`; beta1 is also the limit of the momentum u_t.
    """

    learning_rate: float | Schedule = dataclasses.field(default=0.002, metadata=RATE)

    @property
    def kernel(self) -> Kernel:
        return nadam

    def numbers(self, steps):
        momentum = self.beta1 * (1 - 0.5 * np.float_power(0.96, np.arange(1, steps.max() + 2) / 250))
        product = np.cumprod(momentum)
        now, rate = steps - 1, at(self.learning_rate, steps)
        correction = 1 / (1 - powers(self.beta2, steps))
        of_gradient = rate * (1 - momentum[now]) / (1 - product[now])
        of_moment = rate * momentum[steps] / (1 - product[steps])
        betas = self.beta1, 1 - self.beta1, self.beta2, 1 - self.beta2
        return columns(steps, of_gradient, *betas, correction, self.epsilon, of_moment)
