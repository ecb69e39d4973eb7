"""Schedules: a hyperparameter as a function of the step.

``schedule(steps)`` takes an array of step numbers, 0 being the first update, and returns float64 values. A fit computes
them some tens of thousands of steps ahead, so that a schedule costs the compiled loop nothing.

To add one, write a dataclass with `value`, a function of one step number t.
"""

import dataclasses
import math

import numpy as np

from nbbp import checks


@dataclasses.dataclass(frozen=True)
class Schedule:
    """Base of all schedules.

    Examples
    --------
    >>> import nbbp
    >>> nbbp.schedules.Step(0.4, every=100, factor=0.5)([0, 99, 100, 200])
    array([0.4, 0.4, 0.2, 0.1])
    >>> optimizer = nbbp.Adam(nbbp.schedules.WarmUp(nbbp.schedules.Cosine(0.001, steps=1000), steps=100))
    """

    def __post_init__(self) -> None:
        checks.fields(self)

    def __call__(self, steps) -> np.ndarray:
        """Values at these steps (float64)."""
        return np.array([self.value(int(step)) for step in np.ravel(steps)]).reshape(np.shape(steps))

    def value(self, step: int) -> float:
        """The value at a step, 0 being the first."""
        raise NotImplementedError


def _schedule(name: str, value) -> None:
    if not isinstance(value, Schedule):
        raise TypeError(f"{name} must be a schedule, such as Constant(0.01); got {value!r}")


NUMBER = checks.rule(checks.number)
BELOW_1 = checks.rule(checks.number, high=1.0)
COUNT = checks.rule(checks.positive_integer)
FLAG = checks.rule(checks.boolean)
SCHEDULE = checks.rule(_schedule)


@dataclasses.dataclass(frozen=True)
class Constant(Schedule):
    """The same at every step.

    Parameters
    ----------
    initial : float
        The value.
    """

    initial: float = dataclasses.field(metadata=NUMBER)

    def value(self, step: int) -> float:
        return self.initial


@dataclasses.dataclass(frozen=True)
class Scaled(Schedule):
    """Another schedule times a factor.

    Parameters
    ----------
    schedule : Schedule
        The schedule that is scaled.
    factor : float
        The factor of its values.
    """

    schedule: Schedule = dataclasses.field(metadata=SCHEDULE)
    factor: float = dataclasses.field(metadata=NUMBER)

    def value(self, step):
        return self.factor * self.schedule.value(step)


@dataclasses.dataclass(frozen=True)
class Step(Schedule):
    """initial factor^floor(t / every).

    Parameters
    ----------
    initial : float
        The value of the first `every` steps.
    every : int
        Steps from one change to the next.
    factor : float
        The factor of each change.
    """

    initial: float = dataclasses.field(metadata=NUMBER)
    every: int = dataclasses.field(metadata=COUNT)
    factor: float = dataclasses.field(default=0.1, metadata=NUMBER)

    def value(self, step: int) -> float:
        return self.initial * self.factor ** (step // self.every)


@dataclasses.dataclass(frozen=True)
class Exponential(Schedule):
    """initial factor^(t / steps).

    Parameters
    ----------
    initial : float
        The value of the first step.
    steps : int
        Steps in which the value changes by the factor.
    factor : float
        The factor by which the value changes over these steps, a little at each.
    """

    initial: float = dataclasses.field(metadata=NUMBER)
    steps: int = dataclasses.field(metadata=COUNT)
    factor: float = dataclasses.field(default=0.1, metadata=NUMBER)

    def value(self, step: int) -> float:
        return self.initial * self.factor ** (step / self.steps)


@dataclasses.dataclass(frozen=True)
class InverseTime(Schedule):
    """initial / (1 + rate t / steps): Robbins and Monro's condition holds, 1951.

    Parameters
    ----------
    initial : float
        The value of the first step.
    steps : int
        Steps after which the divisor has grown by `rate`.
    rate : float
        The growth of the divisor: with 1, the value is a half after `steps`, a third after twice as many.
    """

    initial: float = dataclasses.field(metadata=NUMBER)
    steps: int = dataclasses.field(metadata=COUNT)
    rate: float = dataclasses.field(default=1.0, metadata=NUMBER)

    def value(self, step: int) -> float:
        return self.initial / (1 + self.rate * step / self.steps)


@dataclasses.dataclass(frozen=True)
class Polynomial(Schedule):
    """final + (initial - final) (1 - t / steps)^power, and final from `steps` on.

    Parameters
    ----------
    initial : float
        The value of the first step.
    steps : int
        Steps until `final` is reached.
    final : float
        The value from then on.
    power : float
        The exponent: with 1 the value falls linearly, with more it falls faster at first.
    """

    initial: float = dataclasses.field(metadata=NUMBER)
    steps: int = dataclasses.field(metadata=COUNT)
    final: float = dataclasses.field(default=0.0, metadata=NUMBER)
    power: float = dataclasses.field(default=1.0, metadata=NUMBER)

    def value(self, step: int) -> float:
        rest = 1 - min(step, self.steps) / self.steps
        return self.final + (self.initial - self.final) * rest**self.power


@dataclasses.dataclass(frozen=True)
class Cosine(Schedule):
    """final + (initial - final) (1 + cos(pi t / steps)) / 2, and final from `steps` on.

    Loshchilov and Hutter, "SGDR: stochastic gradient descent with warm restarts", 2017.

    Parameters
    ----------
    initial : float
        The value of the first step.
    steps : int
        Steps until `final` is reached, or, with `restarts`, the steps of the first cycle.
    final : float
        The value at the end.
    restarts : bool
        Whether t begins again at 0 after each cycle.
    growth : int
        The length of each cycle relative to the one before.

    Examples
    --------
    >>> import nbbp
    >>> nbbp.schedules.Cosine(1.0, steps=4, restarts=True, growth=2)([0, 2, 4, 8, 12]).round(3)
    array([1. , 0.5, 1. , 0.5, 1. ])
    """

    initial: float = dataclasses.field(metadata=NUMBER)
    steps: int = dataclasses.field(metadata=COUNT)
    final: float = dataclasses.field(default=0.0, metadata=NUMBER)
    restarts: bool = dataclasses.field(default=False, metadata=FLAG)
    growth: int = dataclasses.field(default=1, metadata=COUNT)

    def value(self, step: int) -> float:
        length = self.steps
        if self.restarts and self.growth == 1:
            step %= length
        while self.restarts and step >= length:
            step -= length
            length *= self.growth
        share = min(step / length, 1.0)
        return self.final + (self.initial - self.final) * (1 + math.cos(math.pi * share)) / 2


@dataclasses.dataclass(frozen=True)
class FlatCosine(Schedule):
    """initial for the first share of the steps, then along half a cosine to final, and final from `steps` on.

    Parameters
    ----------
    initial : float
        The value until the cosine begins.
    steps : int
        Steps until `final` is reached.
    final : float
        The value at the end.
    flat : float in [0, 1)
        The share of the steps before the cosine.

    Examples
    --------
    >>> import nbbp
    >>> nbbp.schedules.FlatCosine(0.2, steps=8)([0, 4, 6, 8]).round(3)
    array([0.2, 0.2, 0.1, 0. ])
    """

    initial: float = dataclasses.field(metadata=NUMBER)
    steps: int = dataclasses.field(metadata=COUNT)
    final: float = dataclasses.field(default=0.0, metadata=NUMBER)
    flat: float = dataclasses.field(default=0.5, metadata=BELOW_1)

    def value(self, step: int) -> float:
        share = max(0.0, min(step / self.steps, 1.0) - self.flat) / (1 - self.flat)
        return self.final + (self.initial - self.final) * (1 + math.cos(math.pi * share)) / 2


@dataclasses.dataclass(frozen=True)
class CosLog(Schedule):
    """maximum (1 - cos(2 pi log2(1 + (2^cycles - 1) t / steps))) / 2: cycles, each twice as long as the one before.

    The schedule of RealMLP, which calls it coslog4 for its 4 cycles: Holzmueller, Grinsztajn and Steinwart, "Better by
    default: strong pre-tuned MLPs and boosted trees on tabular data", 2024. It is 0 at the first step and from `steps`
    on.

    Parameters
    ----------
    maximum : float
        The value in the middle of each cycle.
    steps : int
        Steps in all cycles together.
    cycles : int
        The number of cycles.

    Examples
    --------
    >>> import nbbp
    >>> nbbp.schedules.CosLog(0.04, steps=15)([0, 1, 3, 7, 15]).round(3)  # each cycle ends where the next begins
    array([0., 0., 0., 0., 0.])
    """

    maximum: float = dataclasses.field(metadata=NUMBER)
    steps: int = dataclasses.field(metadata=COUNT)
    cycles: int = dataclasses.field(default=4, metadata=COUNT)

    def value(self, step: int) -> float:
        turns = math.log2(1 + (2**self.cycles - 1) * min(step / self.steps, 1.0))
        return self.maximum * (1 - math.cos(2 * math.pi * turns)) / 2


@dataclasses.dataclass(frozen=True)
class WarmUp(Schedule):
    """Linear from `schedule`'s first value / steps up to it over `steps`, then `schedule` from its beginning.

    Goyal et al., "Accurate, large minibatch SGD", 2017.

    Parameters
    ----------
    schedule : Schedule
        The schedule that follows.
    steps : int
        Steps in which the value rises.
    """

    schedule: Schedule = dataclasses.field(metadata=SCHEDULE)
    steps: int = dataclasses.field(metadata=COUNT)

    def value(self, step: int) -> float:
        if step < self.steps:
            return self.schedule.value(0) * (step + 1) / self.steps
        return self.schedule.value(step - self.steps)


@dataclasses.dataclass(frozen=True)
class OneCycle(Schedule):
    """Up to `maximum` over the first `rise` of all steps, then down to a tiny value, both along half a cosine.

    It begins at maximum / 25 and ends at maximum / 250,000, the settings of Smith and Topin, "Super-convergence", 2018,
    as in PyTorch's OneCycleLR, but without its cycled momentum.

    Parameters
    ----------
    maximum : float
        The largest value.
    steps : int
        The number of steps in the cycle, rise and fall.
    rise : float in [0, 1)
        The share of steps in which the value rises.
    """

    maximum: float = dataclasses.field(metadata=NUMBER)
    steps: int = dataclasses.field(metadata=COUNT)
    rise: float = dataclasses.field(default=0.3, metadata=BELOW_1)

    def value(self, step: int) -> float:
        top = max(1.0, self.rise * self.steps - 1)
        last = max(top + 1, self.steps - 1.0)
        if step <= top:
            return self._between(self.maximum / 25, self.maximum, step / top)
        return self._between(self.maximum, self.maximum / 250_000, (min(step, last) - top) / (last - top))

    @staticmethod
    def _between(begin: float, end: float, share: float) -> float:
        return end + (begin - end) * (1 + math.cos(math.pi * share)) / 2


@dataclasses.dataclass(frozen=True)
class SutskeverMomentum(Schedule):
    """min(1 - 2^(-1 - log2(floor(t / 250) + 1)), maximum): a momentum that grows as training goes on.

    Sutskever et al., "On the importance of initialization and momentum in deep learning", 2013, section 3.

    Parameters
    ----------
    maximum : float
        The final value.
    """

    maximum: float = dataclasses.field(default=0.99, metadata=NUMBER)

    def value(self, step: int) -> float:
        return min(1 - 0.5 / (step // 250 + 1), self.maximum)
