"""The base of optimizers: checked settings, operations on the gradient, coefficients for each step."""

import dataclasses
from collections.abc import Sequence

import numpy as np

from nbbp import checks
from nbbp.engine.program import Program
from nbbp.kernels import arrays, random, threads
from nbbp.kernels.batches import clear
from nbbp.kernels.gradients import clip, clip_norm, noise
from nbbp.kernels.jit import Kernel
from nbbp.schedules import Scaled, Schedule


def _number_or_schedule(name: str, value, **bounds) -> None:
    if not isinstance(value, Schedule):
        checks.number(name, value, **bounds)


POSITIVE = checks.rule(checks.number, open_low=True)
NOT_NEGATIVE = checks.rule(checks.number)
BELOW_1 = checks.rule(checks.number, high=1.0)
FLAG = checks.rule(checks.boolean)
RATE = checks.rule(_number_or_schedule, open_low=True)
DECAY = checks.rule(_number_or_schedule)
MOMENTUM = checks.rule(_number_or_schedule, high=1.0)


@dataclasses.dataclass(frozen=True)
class Optimizer:
    """Base of all optimizers.

    Parameters
    ----------
    learning_rate : float or Schedule
        The step size, or a schedule of it.
    clip_value : float, optional
        Every element of the gradient is clipped to [-clip_value, clip_value].
    clip_norm : float, optional
        The whole gradient is scaled down to this Euclidean norm if its norm is larger: Pascanu, Mikolov and Bengio,
        "On the difficulty of training recurrent neural networks", 2013.
    gradient_noise : float
        Normal noise of variance gradient_noise / (1 + t)^0.55 is added to the gradient at step t: Neelakantan et al.,
        "Adding gradient noise improves learning for very deep networks", 2015.
    """

    learning_rate: float | Schedule = dataclasses.field(metadata=RATE)

    clip_value: float | None = dataclasses.field(default=None, kw_only=True, metadata=POSITIVE)
    clip_norm: float | None = dataclasses.field(default=None, kw_only=True, metadata=POSITIVE)
    gradient_noise: float = dataclasses.field(default=0.0, kw_only=True, metadata=NOT_NEGATIVE)

    moments = 0  # number of flat arrays that persist from step to step, zero at first
    decay_vectors = True  # whether weight decay is for vectors too, such as biases
    degree = 0  # 1 if steps are proportional to the gradient, 0 if its scale does not matter

    def __post_init__(self) -> None:
        checks.fields(self)

    def bind_gradient(self, program: Program, g: np.ndarray, frozen: Sequence[slice] = ()) -> None:
        """Bind noise and clipping of the flat gradient before the update; where it is frozen, it stays 0."""
        if self.gradient_noise:
            size = np.array([self.gradient_noise], g.dtype)
            key = np.array([random.stream(program.seed, random.IN_UPDATES)], np.uint64)
            program.call(noise, g, size, key, program.clock.record)
            for part in frozen:
                program.call(clear, g[part])
        if self.clip_value is not None:
            program.call(clip, g, np.array([self.clip_value], g.dtype))
        if self.clip_norm is not None:
            squares = arrays.zeros(threads.pieces(len(g)), np.float64)
            program.call(clip_norm, g, squares, np.array([self.clip_norm], g.dtype))

    def scaled(self, rate: float, decay: float, scale: float = 1.0) -> "Optimizer":
        """The same with factors of learning rate and weight decay, and for p = scale u, if u is what is trained.

        The gradient of u is scale times that of p, and where u moves by d, p moves by scale d.
        """
        stretch = scale ** (1 + self.degree)
        rate, decay = rate * stretch, decay / stretch  # of p the same share decays, times the learning rate, as of u
        changed: dict = {}
        if rate != 1:
            changed["learning_rate"] = _times(self.learning_rate, rate)
        if decay != 1 and hasattr(self, "weight_decay"):
            changed["weight_decay"] = _times(self.weight_decay, decay)
        return dataclasses.replace(self, **changed) if changed else self

    @property
    def kernel(self) -> Kernel:
        """The update ``(p, g, *moments, numbers)``, in place."""
        raise NotImplementedError

    def numbers(self, steps: np.ndarray) -> np.ndarray:
        """The kernel's coefficients, a row for each step; steps count from 1."""
        raise NotImplementedError


def _times(value: float | Schedule, factor: float) -> float | Schedule:
    return Scaled(value, factor) if isinstance(value, Schedule) else value * factor


def at(value: float | Schedule, steps: np.ndarray) -> float | np.ndarray:
    """A hyperparameter at these steps, which count from 1."""
    return value(steps - 1) if isinstance(value, Schedule) else value


def columns(steps: np.ndarray, *numbers: float | np.ndarray) -> np.ndarray:
    """A row for each step (steps, numbers), from numbers that are constant or have a value for each step."""
    return np.stack([np.broadcast_to(np.asarray(n, np.float64), steps.shape) for n in numbers], axis=1)


def powers(base: float, exponents: np.ndarray) -> np.ndarray:
    """base ** exponents by multiplications only: unlike with pow, the bits are the same on every machine.

    Parameters
    ----------
    base
        The float that is raised.
    exponents : integer array
        The exponents, not negative.
    """
    result, factor, rest = np.ones(exponents.shape), float(base), exponents.copy()
    while rest.any():
        result[rest & 1 == 1] *= factor
        factor *= factor
        rest >>= 1
    return result
