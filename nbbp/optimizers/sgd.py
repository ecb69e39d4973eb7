"""SGD: stochastic gradient descent, with momentum or without."""

import dataclasses

import numpy as np

from nbbp.kernels.denormals import flushed
from nbbp.kernels.jit import Kernel, kernel
from nbbp.optimizers.base import FLAG, MOMENTUM, RATE, Optimizer, at, columns
from nbbp.schedules import Schedule


def sgd_reference(p, g, numbers):
    rate = numbers[0]
    p -= rate * g


@kernel(sgd_reference, "(n) (n) (1)", cycles=0.2, elementwise=True)
def sgd(p, g, numbers):
    """p -= rate g."""
    rate = numbers[0]
    for i in range(p.shape[0]):
        p[i] = flushed(p[i] - rate * g[i])


def momentum_reference(p, g, v, numbers):
    rate, mu = numbers
    v[:] = mu * v - rate * g
    p += v


@kernel(momentum_reference, "(n) (n) (n) (2)", cycles=0.25, elementwise=True)
def momentum(p, g, v, numbers):
    """v = mu v - rate g; p += v."""
    rate, mu = numbers[0], numbers[1]
    for i in range(p.shape[0]):
        v[i] = flushed(mu * v[i] - rate * g[i])
        p[i] = flushed(p[i] + v[i])


def nesterov_reference(p, g, v, numbers):
    rate, mu = numbers
    v[:] = mu * v - rate * g
    p += mu * v - rate * g


@kernel(nesterov_reference, "(n) (n) (n) (2)", cycles=0.3, elementwise=True)
def nesterov(p, g, v, numbers):
    """v = mu v - rate g; p += mu v - rate g."""
    rate, mu = numbers[0], numbers[1]
    for i in range(p.shape[0]):
        v[i] = flushed(mu * v[i] - rate * g[i])
        p[i] = flushed(p[i] + (mu * v[i] - rate * g[i]))


@dataclasses.dataclass(frozen=True)
class SGD(Optimizer):
    """Stochastic gradient descent on the full batch, mini-batches or single rows, according to `batch_size`.

    v = momentum v - rate g;  p += v, or with Nesterov's momentum  p += momentum v - rate g.

    Written as in Sutskever et al., "On the importance of initialization and momentum in deep learning", 2013, and in
    Keras and scikit-learn. PyTorch's v does not contain the rate: the path is the same while the rate is constant.

    Parameters
    ----------
    learning_rate : float or Schedule
        The step size: the factor of the gradient.
    momentum : float in [0, 1), or Schedule
        The share of v that each step retains; with 0 there is no v, and p -= rate g.
    nesterov : bool
        Whether to use Nesterov's momentum; momentum must be above 0.
    """

    learning_rate: float | Schedule = dataclasses.field(default=0.01, metadata=RATE)
    momentum: float | Schedule = dataclasses.field(default=0.0, metadata=MOMENTUM)
    nesterov: bool = dataclasses.field(default=False, metadata=FLAG)

    degree = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.nesterov and not self.momentum:
            raise ValueError("SGD: nesterov=True needs a momentum above 0")
        for power in range(20):  # finds a schedule that would fail in the middle of a fit
            self._momentum(np.array([1 + 2**power // 2]))

    @property
    def moments(self) -> int:  # type: ignore[override]
        return 1 if self.momentum else 0

    @property
    def kernel(self) -> Kernel:
        return (nesterov if self.nesterov else momentum) if self.momentum else sgd

    def _momentum(self, steps: np.ndarray) -> float | np.ndarray:
        """The momentum at these steps, which count from 1; ValueError if it is not below 1."""
        values = at(self.momentum, steps)
        wrong = ~((np.atleast_1d(values) >= 0) & (np.atleast_1d(values) < 1))
        if wrong.any():
            first = int(np.argmax(wrong))
            raise ValueError(
                f"SGD: momentum must be 0 or more and below 1; "
                f"at step {steps[first]} it is {np.atleast_1d(values)[first]:g}"
            )
        return values

    def numbers(self, steps):
        return columns(steps, at(self.learning_rate, steps), *([self._momentum(steps)] if self.momentum else []))
