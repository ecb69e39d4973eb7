"""Activation functions: value and derivative, compiled and in NumPy.

To add one that works element by element, write its value and its derivative as scalar functions and enter them
below with their NumPy twins. The derivative is a function of the output, or of the input if it cannot be computed from
the output (`from_output=False`).
"""

import dataclasses
import functools
import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numba import prange

from nbbp import checks
from nbbp.kernels import vector_math as vm
from nbbp.kernels.denormals import flushed
from nbbp.kernels.jit import KERNELS, Kernel, device, kernel
from nbbp.kernels.pointers import at
from nbbp.kernels.scalars import constant, freeze
from nbbp.kernels.vector_math import ONE, TWO, ZERO

ROWS = 64  # rows that one thread takes at a time


class Scalars(NamedTuple):
    """Value and derivative of one element, compiled, and their NumPy twins; the derivative's argument is s."""

    value: Callable
    derivative: Callable
    numpy_value: Callable
    numpy_derivative: Callable


@dataclasses.dataclass(frozen=True)
class Activation:
    """In-place kernels: ``forward(y)``, and ``backward(dy, s)``, which turns dy into dx.

    s is the output if `from_output` is true, else the input, which ``apart(y, x)`` leaves as it is. Kernels that are
    `elementwise` take flat arrays, the others rows; of the former there are `scalars` too.
    """

    name: str
    forward: Kernel
    backward: Kernel
    from_output: bool
    elementwise: bool = True
    apart: Kernel | None = None
    scalars: Scalars | None = None

    def shaped(self, array: np.ndarray) -> np.ndarray:
        """The array as the kernels take it: flat, or as rows of its last axis."""
        return array.reshape(-1) if self.elementwise else array.reshape(-1, array.shape[-1])


ACTIVATIONS: dict[str, Activation] = {}


def value(x):
    """The activation; each kernel made of the templates below has its own."""


def derivative(s):
    """The activation's derivative, as a function of its output or of its input."""


# In place: with two arguments that are one array, the loop would not vectorise.
def _map_forward(y):
    for i in range(y.shape[0]):
        y[i] = value(freeze(y[i]))


def _map_apart(y, x):
    for i in range(y.shape[0]):
        y[i] = value(x[i])


def _map_backward(dy, s):
    for i in range(dy.shape[0]):
        dy[i] = flushed(freeze(dy[i]) * derivative(s[i]))


def _elementwise(name, value, derivative, numpy_value, numpy_derivative, *, from_output=True, cycles=2.0) -> Activation:
    """Enter an activation that maps each element by itself."""

    def forward_reference(y):
        y[:] = numpy_value(y)

    def apart_reference(y, x):
        y[:] = numpy_value(x)

    def backward_reference(dy, s):
        dy *= numpy_derivative(s)

    declare = functools.partial(kernel, cycles=cycles, elementwise=True)
    value, derivative = device(value, inline=True), device(derivative, inline=True)
    forward = declare(forward_reference, "(n)", name=f"{name}_forward", value=value)(_map_forward)
    backward = declare(backward_reference, "(n) (n)", name=f"{name}_backward", derivative=derivative)(_map_backward)
    apart = None
    if not from_output:
        apart = declare(apart_reference, "(n) (n)", name=f"{name}_apart", value=value)(_map_apart)
    scalars = Scalars(value, derivative, numpy_value, numpy_derivative)
    ACTIVATIONS[name] = Activation(name, forward, backward, from_output, apart=apart, scalars=scalars)
    return ACTIVATIONS[name]


def define(name, value, derivative, numpy_value, numpy_derivative, *, from_output=True, cycles=4.0) -> Activation:
    """Enter an activation of your own, which `Dense` and `Activation` then take by its name.

    It is compiled and cached as the built-in ones are, and runs in both backends.

    Parameters
    ----------
    name : str
        The name by which layers refer to it.
    value, derivative : callable
        Functions of one number that Numba compiles; the derivative takes the output, or the input with
        ``from_output=False``. Constants have the argument's dtype if they are written ``ONE(x)`` or
        ``constant(0.5)(x)``, see `nbbp.kernels.vector_math`.
    numpy_value, numpy_derivative : callable
        The same for arrays, in NumPy.
    from_output : bool
        Whether the derivative is a function of the output.
    cycles : float
        Approximate cost of one element, in processor cycles.

    Raises
    ------
    TwinError
        If the two forms differ.
    ValueError
        If the derivative is not that of the value, or the name is taken.
    """
    checks.unused("activation", name, ACTIVATIONS)
    activation = _elementwise(
        name, value, derivative, numpy_value, numpy_derivative, from_output=from_output, cycles=cycles
    )
    try:
        sample = np.zeros(1000)
        activation.forward.check(sample)
        activation.backward.check(sample, sample)
        _check_derivative(activation)
    except Exception:
        for kernel_name in (f"{name}_forward", f"{name}_apart", f"{name}_backward"):
            KERNELS.pop(kernel_name, None)
        del ACTIVATIONS[name]
        raise
    return activation


def _check_derivative(activation: Activation) -> None:
    x, step = np.random.default_rng(0).standard_normal(1000), 1e-6
    low, y, high, slope = x - step, x.copy(), x + step, np.ones_like(x)
    for values in (low, y, high):
        activation.forward.reference(values)
    activation.backward.reference(slope, y if activation.from_output else x)
    wrong = ~np.isclose(slope, (high - low) / (2 * step), rtol=1e-4, atol=1e-5)
    if wrong.mean() > 0.05:  # a kink may lie between
        at = int(np.argmax(wrong))
        raise ValueError(
            f"activation {activation.name}: at x = {x[at]:.4f} the derivative is {slope[at]:.6g}, "
            f"central differences of the value say {(high - low)[at] / (2 * step):.6g}"
        )


linear = _elementwise(
    "linear",
    lambda x: x,
    lambda y: ONE(y),
    lambda x: x,
    lambda y: 1,
    cycles=0.3,
)

sigmoid = _elementwise(
    "sigmoid",
    lambda x: vm.sigmoid(x),
    lambda y: y * (ONE(y) - y),
    lambda x: 0.5 * (1 + np.tanh(0.5 * x)),
    lambda y: y * (1 - y),
)

tanh = _elementwise(
    "tanh",
    lambda x: vm.tanh(x),
    lambda y: ONE(y) - y * y,
    np.tanh,
    lambda y: 1 - y * y,
)

relu = _elementwise(
    "relu",
    lambda x: ZERO(x) if x < ZERO(x) else x,  # nan stays nan
    lambda y: ONE(y) if y > ZERO(y) else ZERO(y),
    lambda x: np.maximum(x, 0),
    lambda y: y > 0,
    cycles=0.3,
)

LEAK = constant(0.01)

leaky_relu = _elementwise(
    "leaky_relu",
    lambda x: LEAK(x) * x if x < ZERO(x) else x,
    lambda y: ONE(y) if y > ZERO(y) else LEAK(y),
    lambda x: np.where(x < 0, x.dtype.type(0.01) * x, x),
    lambda y: np.where(y > 0, y.dtype.type(1), y.dtype.type(0.01)),
    cycles=0.3,
)

elu = _elementwise(
    "elu",
    lambda x: vm.expm1(x) if x < ZERO(x) else x,
    lambda y: ONE(y) if y > ZERO(y) else y + ONE(y),
    lambda x: np.where(x < 0, np.expm1(np.minimum(x, 0)), x),
    lambda y: np.where(y > 0, y.dtype.type(1), y + 1),
)

# Klambauer et al., "Self-normalizing neural networks", 2017
_SELU_SCALE, _SELU_ALPHA = 1.0507009873554804934193349852946, 1.6732632423543772848170429916717
SELU_SCALE, SELU_LIMIT = constant(_SELU_SCALE), constant(_SELU_SCALE * _SELU_ALPHA)

selu = _elementwise(
    "selu",
    lambda x: SELU_LIMIT(x) * vm.expm1(x) if x < ZERO(x) else SELU_SCALE(x) * x,
    lambda y: SELU_SCALE(y) if y > ZERO(y) else y + SELU_LIMIT(y),
    lambda x: np.where(x < 0, _SELU_SCALE * _SELU_ALPHA * np.expm1(np.minimum(x, 0)), _SELU_SCALE * x),
    lambda y: np.where(y > 0, y.dtype.type(_SELU_SCALE), y + y.dtype.type(_SELU_SCALE * _SELU_ALPHA)),
)

softplus = _elementwise(
    "softplus",
    lambda x: vm.softplus(x),
    lambda y: -vm.expm1(-y),  # sigmoid(x), from y alone
    lambda x: np.logaddexp(x, 0).astype(x.dtype),
    lambda y: -np.expm1(-y),
    cycles=4.0,
)


def _numpy_normal_distribution(x):
    return np.array([0.5 * math.erfc(-v / math.sqrt(2)) for v in x.tolist()], x.dtype)


# Hendrycks and Gimpel, "Gaussian error linear units", 2016: x Phi(x), exactly, not its tanh approximation
gelu = _elementwise(
    "gelu",
    lambda x: vm.gelu(x),
    lambda x: vm.normal_distribution(x) + x * vm.normal_density(x),
    lambda x: x * _numpy_normal_distribution(x),
    lambda x: _numpy_normal_distribution(x) + x * np.exp(-0.5 * x * x) / math.sqrt(2 * math.pi),
    from_output=False,
    cycles=5.0,
)


def _silu_derivative(x):
    s = vm.sigmoid(x)
    return s * (ONE(x) + x * (ONE(x) - s))


def _numpy_silu_derivative(x):
    s = 0.5 * (1 + np.tanh(0.5 * x))
    return s * (1 + x * (1 - s))


silu = _elementwise(
    "silu",
    lambda x: x * vm.sigmoid(x),
    _silu_derivative,
    lambda x: x * 0.5 * (1 + np.tanh(0.5 * x)),
    _numpy_silu_derivative,
    from_output=False,
)

MISH_IS_X = constant(45.0, single=20.0)  # tanh(softplus(x)) is 1 from there on
FOUR = constant(4.0)


def _clipped(x):
    return MISH_IS_X(x) if x > MISH_IS_X(x) else x


def _mish(x):
    e = vm.exp(_inlined_clipped(x))
    n = e * (e + TWO(x))
    return x * (n * (ONE(x) / (n + TWO(x))))  # tanh(log(1 + e)) = n / (n + 2)


def _mish_and_derivative(x):
    z = _inlined_clipped(x)
    e = vm.exp(z)
    n = e * (e + TWO(x))
    r = ONE(x) / (n + TWO(x))
    return x * (n * r), n * r + FOUR(x) * z * (e * r) * ((ONE(x) + e) * r)


def _mish_derivative(x):
    return mish_and_derivative(x)[1]


def _numpy_mish(x):
    return x * np.tanh(np.logaddexp(x, 0).astype(x.dtype))


def _numpy_mish_derivative(x):
    t, s = np.tanh(np.logaddexp(x, 0).astype(x.dtype)), 0.5 * (1 + np.tanh(0.5 * x))
    return t + x * s * (1 - t * t)


_inlined_clipped = device(_clipped, inline=True)
mish_and_derivative = device(_mish_and_derivative, inline=True)

# Misra, "Mish: a self regularized non-monotonic activation function", 2020: x tanh(softplus(x))
mish = _elementwise("mish", _mish, _mish_derivative, _numpy_mish, _numpy_mish_derivative, from_output=False, cycles=3.0)

exponential = _elementwise(
    "exponential",
    lambda x: vm.exp(x),
    lambda y: y,
    np.exp,
    lambda y: y,
)


def softmax_forward_reference(y):
    y[:] = np.exp(y - y.max(axis=1, keepdims=True))
    y /= y.sum(axis=1, keepdims=True)


@kernel(softmax_forward_reference, "(b,n)", cycles=2.0)
def softmax_forward(y):
    """y_j = exp(x_j) / sum_k exp(x_k), x being the rows of y before."""
    rows = y.shape[0]
    for p in prange((rows + ROWS - 1) // ROWS):
        block = y[p * ROWS : (p + 1) * ROWS]
        exp_of_rows(block, block)
        for i in range(block.shape[0]):
            row = block[i]
            scale = ONE(row[0]) / row_sum(row)
            for j in range(row.shape[0]):
                row[j] *= scale


@device
def row_max(x):
    """Largest element of a row."""
    top = x[0]
    for j in range(1, x.shape[0]):
        top = x[j] if x[j] > top else top
    return top


@device
def row_sum(x):
    """Elements of a row added in order."""
    total = ZERO(x[0])
    for j in range(x.shape[0]):
        total += x[j]
    return total


@device
def exp_of_rows(y, x):
    """y = exp(x - the row's largest x) for some rows that fit the cache; y may be x.

    The exponentials are taken over all rows at once: a row of few classes would not fill a vector.
    """
    for i in range(x.shape[0]):
        x_row, y_row, top = x[i], y[i], row_max(x[i])
        for j in range(x_row.shape[0]):
            y_row[j] = x_row[j] - top
    flat = at(y, 0)
    for i in range(y.size):
        flat[i] = vm.exp(flat[i])


def softmax_backward_reference(dy, s):
    dy[:] = s * (dy - np.sum(dy * s, axis=1, keepdims=True))


@kernel(softmax_backward_reference, "(b,n) (b,n)", cycles=2.0)
def softmax_backward(dy, s):
    """dx_j = s_j (dy_j - sum_k dy_k s_k), s being the output."""
    for i in prange(s.shape[0]):
        d_row, s_row = dy[i], s[i]
        inner = ZERO(s_row[0])
        for j in range(s_row.shape[0]):
            inner += d_row[j] * s_row[j]
        for j in range(s_row.shape[0]):
            d_row[j] = flushed(s_row[j] * (d_row[j] - inner))


ACTIVATIONS["softmax"] = softmax = Activation(
    "softmax", softmax_forward, softmax_backward, from_output=True, elementwise=False
)
