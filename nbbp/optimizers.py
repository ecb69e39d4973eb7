"""Optimizers: one loop over the flat parameter array.

An optimizer says how many moment arrays it keeps and, for any step, the few numbers that its kernel takes: step size,
decay rates, bias corrections. These are computed in float64 from the step number alone, so that a schedule costs the
kernel nothing. g is the gradient of the mini-batch's loss; all arrays are flat and of one length. Kernels put 0 for
what would be denormal: where gradients are 0, moments decay to such numbers within a thousand steps, and stay there.

To add one, write its kernel pair and a dataclass.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np
from numba import prange

from nbbp import checks
from nbbp.engine.program import Program
from nbbp.kernels import arrays, random
from nbbp.kernels.batches import clear
from nbbp.kernels.gradients import clip, clip_norm, noise
from nbbp.kernels.jit import Kernel, kernel
from nbbp.kernels.threads import PIECE
from nbbp.kernels.vector_math import ONE, ZERO, flushed, squarable
from nbbp.schedules import Scaled, Schedule


def powers(base: float, exponents: np.ndarray) -> np.ndarray:
    """base ** exponents from multiplications alone: the same bits on every machine, as pow has not.

    Parameters
    ----------
    base
        The float that is raised.
    exponents : integer array
        Not negative.
    """
    result, factor, rest = np.ones(exponents.shape), float(base), exponents.copy()
    while rest.any():
        result[rest & 1 == 1] *= factor
        factor *= factor
        rest >>= 1
    return result


@dataclasses.dataclass(frozen=True)
class Optimizer:
    """Base of all optimizers.

    Parameters
    ----------
    clip_value : float, optional
        Every element of the gradient is brought into [-clip_value, clip_value].
    clip_norm : float, optional
        The whole gradient is scaled down to this Euclidean norm where it is larger: Pascanu, Mikolov and Bengio, "On
        the difficulty of training recurrent neural networks", 2013.
    gradient_noise : float
        Normal noise of variance gradient_noise / (1 + t)^0.55 is added to the gradient at step t: Neelakantan et al.,
        "Adding gradient noise improves learning for very deep networks", 2015.
    """

    learning_rate: float | Schedule

    clip_value: float | None = dataclasses.field(default=None, kw_only=True)
    clip_norm: float | None = dataclasses.field(default=None, kw_only=True)
    gradient_noise: float = dataclasses.field(default=0.0, kw_only=True)

    moments = 0  # flat arrays kept from step to step, zero at first

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value, name = getattr(self, field.name), f"{type(self).__name__}: {field.name}"
            if value is field.default is None or (isinstance(value, Schedule) and "Schedule" in str(field.type)):
                continue
            if field.name in ("learning_rate", "epsilon", "clip_value", "clip_norm"):
                checks.number(name, value, open_low=True)
            elif field.name in ("weight_decay", "gradient_noise"):
                checks.number(name, value)
            elif field.type is bool:
                checks.boolean(name, value)
            else:
                checks.number(name, value, high=1.0)

    def bind_gradient(self, program: Program, g: np.ndarray, frozen: Sequence[slice] = ()) -> None:
        """Bind what happens to the flat gradient before the update; where it is frozen, it stays 0."""
        if self.gradient_noise:
            size = np.array([self.gradient_noise], g.dtype)
            key = np.array([random.stream(program.seed, random.IN_UPDATES)], np.uint64)
            program.call(noise, g, size, key, program.clock.record)
            for part in frozen:
                program.call(clear, g[part])
        if self.clip_value is not None:
            program.call(clip, g, np.array([self.clip_value], g.dtype))
        if self.clip_norm is not None:
            squares = arrays.zeros(-(-len(g) // PIECE), np.float64)
            program.call(clip_norm, g, squares, np.array([self.clip_norm], g.dtype))

    def scaled(self, rate: float, decay: float) -> "Optimizer":
        """The same with a learning rate and a weight decay that are so many times as large."""
        changed: dict = {}
        if rate != 1:
            own = self.learning_rate
            changed["learning_rate"] = Scaled(own, rate) if isinstance(own, Schedule) else own * rate
        if decay != 1 and hasattr(self, "weight_decay"):
            changed["weight_decay"] = self.weight_decay * decay
        return dataclasses.replace(self, **changed) if changed else self

    @property
    def kernel(self) -> Kernel:
        """The update ``(p, g, *moments, numbers)``, in place."""
        raise NotImplementedError

    def numbers(self, steps: np.ndarray) -> np.ndarray:
        """What the kernel takes besides arrays, a row for each step; steps count from 1."""
        raise NotImplementedError


def _columns(steps: np.ndarray, *numbers) -> np.ndarray:
    return np.stack([np.broadcast_to(np.asarray(n, np.float64), steps.shape) for n in numbers], axis=1)


def _at(value: float | Schedule, steps: np.ndarray) -> float | np.ndarray:
    """A hyperparameter at these steps, which count from 1."""
    return value(steps - 1) if isinstance(value, Schedule) else value


def sgd_reference(p, g, c):
    p -= c[0] * g


@kernel(sgd_reference, "(n) (n) (1)", cycles=0.2)
def sgd(p, g, c):
    """p -= rate g."""
    n, rate = p.shape[0], c[0]
    for q in prange((n + PIECE - 1) // PIECE):
        p_part, g_part = p[q * PIECE : (q + 1) * PIECE], g[q * PIECE : (q + 1) * PIECE]
        for i in range(p_part.shape[0]):
            p_part[i] = flushed(p_part[i] - rate * g_part[i])


def momentum_reference(p, g, v, c):
    v[:] = c[1] * v - c[0] * g
    p += v


@kernel(momentum_reference, "(n) (n) (n) (2)", cycles=0.25)
def momentum(p, g, v, c):
    """v = momentum v - rate g; p += v."""
    n, rate, mu = p.shape[0], c[0], c[1]
    for q in prange((n + PIECE - 1) // PIECE):
        a, e = q * PIECE, (q + 1) * PIECE
        p_part, g_part, v_part = p[a:e], g[a:e], v[a:e]
        for i in range(p_part.shape[0]):
            v_part[i] = flushed(mu * v_part[i] - rate * g_part[i])
            p_part[i] = flushed(p_part[i] + v_part[i])


def nesterov_reference(p, g, v, c):
    v[:] = c[1] * v - c[0] * g
    p += c[1] * v - c[0] * g


@kernel(nesterov_reference, "(n) (n) (n) (2)", cycles=0.3)
def nesterov(p, g, v, c):
    """v = momentum v - rate g; p += momentum v - rate g."""
    n, rate, mu = p.shape[0], c[0], c[1]
    for q in prange((n + PIECE - 1) // PIECE):
        a, e = q * PIECE, (q + 1) * PIECE
        p_part, g_part, v_part = p[a:e], g[a:e], v[a:e]
        for i in range(p_part.shape[0]):
            v_part[i] = flushed(mu * v_part[i] - rate * g_part[i])
            p_part[i] = flushed(p_part[i] + (mu * v_part[i] - rate * g_part[i]))


@dataclasses.dataclass(frozen=True)
class SGD(Optimizer):
    """Stochastic gradient descent: full batch, mini-batches or single rows, as `batch_size` says.

    v = momentum v - rate g;  p += v, or with Nesterov's momentum  p += momentum v - rate g.

    Written as in Sutskever et al., "On the importance of initialization and momentum in deep learning", 2013, as in
    Keras and scikit-learn. PyTorch keeps v without the rate in it: the same path while the rate stays the same.

    Parameters
    ----------
    learning_rate : float or Schedule
    momentum : float in [0, 1), or Schedule
    nesterov : bool
    """

    learning_rate: float | Schedule = 0.01
    momentum: float | Schedule = 0.0
    nesterov: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.nesterov and not self.momentum:
            raise ValueError("SGD: nesterov=True needs a momentum above 0")
        for power in range(20):  # a schedule that would be wrong in the middle of a fit
            self._momentum(np.array([1 + 2**power // 2]))

    @property
    def moments(self) -> int:  # type: ignore[override]
        return 1 if self.momentum else 0

    @property
    def kernel(self) -> Kernel:
        return (nesterov if self.nesterov else momentum) if self.momentum else sgd

    def _momentum(self, steps: np.ndarray) -> float | np.ndarray:
        """The momentum at these steps, which count from 1; ValueError where it is not below 1."""
        values = _at(self.momentum, steps)
        wrong = ~((np.atleast_1d(values) >= 0) & (np.atleast_1d(values) < 1))
        if wrong.any():
            at = int(np.argmax(wrong))
            raise ValueError(
                f"SGD: momentum must be 0 or more and below 1; at step {steps[at]} it is {np.atleast_1d(values)[at]:g}"
            )
        return values

    def numbers(self, steps):
        return _columns(steps, _at(self.learning_rate, steps), *([self._momentum(steps)] if self.momentum else []))


def adagrad_reference(p, g, s, c):
    s += g * g
    p -= c[0] * g / (np.sqrt(s) + c[1])


@kernel(adagrad_reference, "(n) (n) (n) (2)", cycles=0.6)
def adagrad(p, g, s, c):
    """s += g^2; p -= rate g / (sqrt(s) + epsilon)."""
    n, rate, epsilon = p.shape[0], c[0], c[1]
    for q in prange((n + PIECE - 1) // PIECE):
        a, e = q * PIECE, (q + 1) * PIECE
        p_part, g_part, s_part = p[a:e], g[a:e], s[a:e]
        for i in range(p_part.shape[0]):
            h = squarable(g_part[i])
            s_part[i] += h * h
            p_part[i] = flushed(p_part[i] - rate * g_part[i] / (np.sqrt(s_part[i]) + epsilon))


@dataclasses.dataclass(frozen=True)
class Adagrad(Optimizer):
    """s += g^2;  p -= rate g / (sqrt(s) + epsilon).

    Duchi et al., "Adaptive subgradient methods", 2011. As PyTorch's without decay; Keras's begins with s = 0.1.

    Parameters
    ----------
    learning_rate : float or Schedule
    epsilon : float
    """

    learning_rate: float | Schedule = 0.01
    epsilon: float = 1e-10

    moments = 1

    @property
    def kernel(self) -> Kernel:
        return adagrad

    def numbers(self, steps):
        return _columns(steps, _at(self.learning_rate, steps), self.epsilon)


def rmsprop_reference(p, g, s, c):
    s[:] = c[1] * s + c[2] * g * g
    p -= c[0] * g / (np.sqrt(s) + c[3])


@kernel(rmsprop_reference, "(n) (n) (n) (4)", cycles=0.6)
def rmsprop(p, g, s, c):
    """s = rho s + (1 - rho) g^2; p -= rate g / (sqrt(s) + epsilon)."""
    n, rate, rho, rest, epsilon = p.shape[0], c[0], c[1], c[2], c[3]
    for q in prange((n + PIECE - 1) // PIECE):
        a, e = q * PIECE, (q + 1) * PIECE
        p_part, g_part, s_part = p[a:e], g[a:e], s[a:e]
        for i in range(p_part.shape[0]):
            h = squarable(g_part[i])
            s_part[i] = flushed(rho * s_part[i] + rest * h * h)
            p_part[i] = flushed(p_part[i] - rate * g_part[i] / (np.sqrt(s_part[i]) + epsilon))


@dataclasses.dataclass(frozen=True)
class RMSprop(Optimizer):
    """s = rho s + (1 - rho) g^2;  p -= rate g / (sqrt(s) + epsilon).

    Tieleman and Hinton, "Lecture 6.5", 2012. PyTorch's with alpha = rho (its default is 0.99); Keras's has epsilon
    under the root.

    Parameters
    ----------
    learning_rate : float or Schedule
    epsilon : float
    rho : float in [0, 1)
    """

    learning_rate: float | Schedule = 0.001
    rho: float = 0.9
    epsilon: float = 1e-8

    moments = 1

    @property
    def kernel(self) -> Kernel:
        return rmsprop

    def numbers(self, steps):
        return _columns(steps, _at(self.learning_rate, steps), self.rho, 1 - self.rho, self.epsilon)


def adadelta_reference(p, g, s, u, c):
    s[:] = c[1] * s + c[2] * g * g
    delta = np.sqrt(u + c[3]) / np.sqrt(s + c[3]) * g
    u[:] = c[1] * u + c[2] * delta * delta
    p -= c[0] * delta


@kernel(adadelta_reference, "(n) (n) (n) (n) (4)", cycles=1.0)
def adadelta(p, g, s, u, c):
    """s = rho s + (1 - rho) g^2; d = sqrt(u + eps) / sqrt(s + eps) g; u = rho u + (1 - rho) d^2; p -= rate d."""
    n, rate, rho, rest, epsilon = p.shape[0], c[0], c[1], c[2], c[3]
    for q in prange((n + PIECE - 1) // PIECE):
        a, e = q * PIECE, (q + 1) * PIECE
        p_part, g_part, s_part, u_part = p[a:e], g[a:e], s[a:e], u[a:e]
        for i in range(p_part.shape[0]):
            h = squarable(g_part[i])
            s_part[i] = flushed(rho * s_part[i] + rest * h * h)
            delta = np.sqrt(u_part[i] + epsilon) / np.sqrt(s_part[i] + epsilon) * g_part[i]
            p_part[i] = flushed(p_part[i] - rate * delta)
            delta = squarable(delta)
            u_part[i] = flushed(rho * u_part[i] + rest * delta * delta)


@dataclasses.dataclass(frozen=True)
class Adadelta(Optimizer):
    """s = rho s + (1 - rho) g^2;  d = sqrt(u + eps) / sqrt(s + eps) g;  u = rho u + (1 - rho) d^2;  p -= rate d.

    Zeiler, "Adadelta: an adaptive learning rate method", 2012. As PyTorch's; Keras's differs in its defaults
    (learning_rate 0.001, rho 0.95, epsilon 1e-7).

    Parameters
    ----------
    learning_rate : float or Schedule
    epsilon : float
    rho : float in [0, 1)
    """

    learning_rate: float | Schedule = 1.0
    rho: float = 0.9
    epsilon: float = 1e-6

    moments = 2

    @property
    def kernel(self) -> Kernel:
        return adadelta

    def numbers(self, steps):
        return _columns(steps, _at(self.learning_rate, steps), self.rho, 1 - self.rho, self.epsilon)


def adam_reference(p, g, m, v, c):
    m[:] = c[1] * m + c[2] * g
    v[:] = c[3] * v + c[4] * g * g
    p *= 1 - c[7]
    p -= c[0] * m / (np.sqrt(v * c[5]) + c[6])


@kernel(adam_reference, "(n) (n) (n) (n) (8)", cycles=0.6)
def adam(p, g, m, v, c):
    """m = beta1 m + (1 - beta1) g; v = beta2 v + (1 - beta2) g^2; p = (1 - decay) p - rate m / (sqrt(c v) + eps)."""
    n, rate, beta1, rest1, beta2, rest2 = p.shape[0], c[0], c[1], c[2], c[3], c[4]
    correction, epsilon, keep = c[5], c[6], ONE(c[7]) - c[7]
    for q in prange((n + PIECE - 1) // PIECE):
        a, e = q * PIECE, (q + 1) * PIECE
        p_part, g_part, m_part, v_part = p[a:e], g[a:e], m[a:e], v[a:e]
        for i in range(p_part.shape[0]):
            h = squarable(g_part[i])
            m_part[i] = flushed(beta1 * m_part[i] + rest1 * g_part[i])
            v_part[i] = flushed(beta2 * v_part[i] + rest2 * h * h)
            p_part[i] = flushed(keep * p_part[i] - rate * m_part[i] / (np.sqrt(v_part[i] * correction) + epsilon))


@dataclasses.dataclass(frozen=True)
class Adam(Optimizer):
    """m = beta1 m + (1 - beta1) g;  v = beta2 v + (1 - beta2) g^2;  p -= rate m' / (sqrt(v') + epsilon).

    m' = m / (1 - beta1^t) and v' = v / (1 - beta2^t) at step t = 1, 2, ... Kingma and Ba, "Adam", 2015. As PyTorch's;
    Keras's adds epsilon before v is corrected.

    Parameters
    ----------
    learning_rate : float or Schedule
    epsilon : float
    beta1, beta2 : float in [0, 1)
    """

    learning_rate: float | Schedule = 0.001
    beta1: float = 0.9
    beta2: float = 0.999
    epsilon: float = 1e-8

    moments = 2

    @property
    def kernel(self) -> Kernel:
        return adam

    def numbers(self, steps):
        rate = _at(self.learning_rate, steps) / (1 - powers(self.beta1, steps))
        correction = 1 / (1 - powers(self.beta2, steps))
        betas = self.beta1, 1 - self.beta1, self.beta2, 1 - self.beta2
        return _columns(steps, rate, *betas, correction, self.epsilon, self._decay(steps))

    def _decay(self, steps: np.ndarray) -> float | np.ndarray:
        return 0.0


@dataclasses.dataclass(frozen=True)
class AdamW(Adam):
    """Adam, and p -= rate weight_decay p: weight decay that the moments do not see.

    Loshchilov and Hutter, "Decoupled weight decay regularization", 2019. As PyTorch's AdamW; Keras's AdamW too but
    for Adam's epsilon.

    Parameters
    ----------
    learning_rate : float or Schedule
    epsilon, weight_decay : float
    beta1, beta2 : float in [0, 1)
    """

    weight_decay: float = 0.01

    def _decay(self, steps):
        return _at(self.learning_rate, steps) * self.weight_decay


def nadam_reference(p, g, m, v, c):
    m[:] = c[1] * m + c[2] * g
    v[:] = c[3] * v + c[4] * g * g
    p -= (c[0] * g + c[7] * m) / (np.sqrt(v * c[5]) + c[6])


@kernel(nadam_reference, "(n) (n) (n) (n) (8)", cycles=0.6)
def nadam(p, g, m, v, c):
    """m = beta1 m + (1 - beta1) g; v = beta2 v + (1 - beta2) g^2; p -= (a g + b m) / (sqrt(c v) + eps)."""
    n, a, beta1, rest1, beta2, rest2 = p.shape[0], c[0], c[1], c[2], c[3], c[4]
    correction, epsilon, b = c[5], c[6], c[7]
    for q in prange((n + PIECE - 1) // PIECE):
        i0, i1 = q * PIECE, (q + 1) * PIECE
        p_part, g_part, m_part, v_part = p[i0:i1], g[i0:i1], m[i0:i1], v[i0:i1]
        for i in range(p_part.shape[0]):
            h = squarable(g_part[i])
            m_part[i] = flushed(beta1 * m_part[i] + rest1 * g_part[i])
            v_part[i] = flushed(beta2 * v_part[i] + rest2 * h * h)
            step = (a * g_part[i] + b * m_part[i]) / (np.sqrt(v_part[i] * correction) + epsilon)
            p_part[i] = flushed(p_part[i] - step)


@dataclasses.dataclass(frozen=True)
class Nadam(Adam):
    """Adam with Nesterov's momentum: p -= (a g + b m) / (sqrt(v') + epsilon).

    a = rate (1 - u_t) / (1 - U_t) and b = rate u_t+1 / (1 - U_t+1), where u_t = beta1 (1 - 0.96^(t / 250) / 2) and U_t
    is their product up to t. Dozat, "Incorporating Nesterov momentum into Adam", 2016. As PyTorch's, defaults
    included; in Keras's, u_t has 0.96^t, the learning rate is 0.001 and epsilon 1e-7.

    Parameters
    ----------
    learning_rate : float or Schedule
    epsilon : float
    beta1, beta2 : float in [0, 1)
    """

    learning_rate: float | Schedule = 0.002

    @property
    def kernel(self) -> Kernel:
        return nadam

    def numbers(self, steps):
        momentum = self.beta1 * (1 - 0.5 * np.float_power(0.96, np.arange(1, steps.max() + 2) / 250))
        product = np.cumprod(momentum)
        now, rate = steps - 1, _at(self.learning_rate, steps)
        correction = 1 / (1 - powers(self.beta2, steps))
        of_gradient = rate * (1 - momentum[now]) / (1 - product[now])
        of_moment = rate * momentum[steps] / (1 - product[steps])
        betas = self.beta1, 1 - self.beta1, self.beta2, 1 - self.beta2
        return _columns(steps, of_gradient, *betas, correction, self.epsilon, of_moment)


def lion_reference(p, g, m, c):
    p *= 1 - c[5]
    p -= c[0] * np.sign(c[1] * m + c[2] * g)
    m[:] = c[3] * m + c[4] * g


@kernel(lion_reference, "(n) (n) (n) (6)", cycles=0.4)
def lion(p, g, m, c):
    """p = (1 - decay) p - rate sign(beta1 m + (1 - beta1) g); m = beta2 m + (1 - beta2) g."""
    n, rate, beta1, rest1, beta2, rest2, keep = p.shape[0], c[0], c[1], c[2], c[3], c[4], ONE(c[5]) - c[5]
    for q in prange((n + PIECE - 1) // PIECE):
        a, e = q * PIECE, (q + 1) * PIECE
        p_part, g_part, m_part = p[a:e], g[a:e], m[a:e]
        for i in range(p_part.shape[0]):
            direction = beta1 * m_part[i] + rest1 * g_part[i]
            move = rate if direction > ZERO(rate) else (-rate if direction < ZERO(rate) else ZERO(rate))
            p_part[i] = flushed(keep * p_part[i] - move)
            m_part[i] = flushed(beta2 * m_part[i] + rest2 * g_part[i])


@dataclasses.dataclass(frozen=True)
class Lion(Optimizer):
    """p = (1 - rate weight_decay) p - rate sign(beta1 m + (1 - beta1) g);  m = beta2 m + (1 - beta2) g.

    Chen et al., "Symbolic discovery of optimization algorithms", 2023. Every parameter moves by the rate itself, so it
    wants a rate 3 to 10 times smaller than Adam's. As Keras's; PyTorch has none.

    Parameters
    ----------
    learning_rate : float or Schedule
    beta1, beta2 : float in [0, 1)
    weight_decay : float
    """

    learning_rate: float | Schedule = 0.0001
    beta1: float = 0.9
    beta2: float = 0.99
    weight_decay: float = 0.0

    moments = 1

    @property
    def kernel(self) -> Kernel:
        return lion

    def numbers(self, steps):
        rate = _at(self.learning_rate, steps)
        betas = self.beta1, 1 - self.beta1, self.beta2, 1 - self.beta2
        return _columns(steps, rate, *betas, rate * self.weight_decay)


OPTIMIZERS = {
    optimizer.__name__.lower(): optimizer for optimizer in (SGD, Adagrad, RMSprop, Adadelta, Adam, AdamW, Nadam, Lion)
}
