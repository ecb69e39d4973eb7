"""Averages of the parameters over the steps of a fit, which often predict better than the last parameters.

After each update: average += weight (parameters - average), with a weight for each step.
"""

import dataclasses

import numpy as np

from nbbp import checks
from nbbp.kernels.jit import kernel


def average_reference(mean, p, weight):
    mean += weight * (p - mean)


@kernel(average_reference, "(n) (n) (1)", cycles=0.3, elementwise=True)
def average(mean, p, weight):
    """mean += weight (p - mean)."""
    share = weight[0]
    for i in range(p.shape[0]):
        mean[i] += share * (p[i] - mean[i])


class Averaging:
    """Base of all averages."""

    def weights(self, steps: np.ndarray) -> np.ndarray:
        """The weight of the newest parameters at each step; steps count from 1."""
        raise NotImplementedError


@dataclasses.dataclass(frozen=True)
class EMA(Averaging):
    """Exponential moving average: average = decay average + (1 - decay) parameters.

    At step t the decay is (1 + t) / (10 + t) while that is smaller, so that the first values are forgotten. Polyak and
    Juditsky, "Acceleration of stochastic approximation by averaging", 1992. Networks with `BatchNorm` use the running
    statistics of the last parameters, which suit the average once the parameters have settled.

    Parameters
    ----------
    decay : float in [0, 1)
        The share of the average that each step retains: it reaches back about 1 / (1 - decay) steps.
    """

    decay: float = 0.999

    def __post_init__(self) -> None:
        checks.number("EMA: decay", self.decay, high=1.0)

    def weights(self, steps):
        return 1 - np.minimum(self.decay, (1 + steps) / (10 + steps))


@dataclasses.dataclass(frozen=True)
class SWA(Averaging):
    """Stochastic weight averaging: the plain mean of the parameters at every `every`-th step from `begin` on.

    Izmailov et al., "Averaging weights leads to wider optima and better generalization", 2018. Networks with
    `BatchNorm` use the running statistics of the last parameters.

    Parameters
    ----------
    begin : int
        The first step, counted from 1.
    every : int
        The steps from one averaged step to the next, such as those of an epoch.
    """

    begin: int
    every: int = 1

    def __post_init__(self) -> None:
        checks.positive_integer("SWA: begin", self.begin)
        checks.positive_integer("SWA: every", self.every)

    def weights(self, steps):
        since = steps - self.begin
        counts = (since >= 0) & (since % self.every == 0)
        return np.where(counts, 1 / (1 + np.maximum(since, 0) // self.every), np.where(since < 0, 1.0, 0.0))
