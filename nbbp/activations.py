"""Activation functions: value and derivative, compiled and in NumPy.

To add one that works element by element, write its value and its derivative as scalar functions and enter them
below with their NumPy twins. `derivative(x, y)` may use the input x, the output y = value(x), or both; one that needs
y alone is `from_output`: its output may then overwrite its input.
"""

import dataclasses
import math

import numpy as np
from numba import prange

from nbbp.kernels import vector_math as vm
from nbbp.kernels.jit import Kernel, device, kernel
from nbbp.kernels.vector_math import ONE, ZERO, constant

PIECE = 4096  # elements that one thread takes at a time


@dataclasses.dataclass(frozen=True)
class Activation:
    """Kernels ``forward(y, x)`` and ``backward(dx, dy, x, y)``; y may be x, and dx may be dy.

    `elementwise` kernels take flat arrays, others rows. `backward` reads y alone
    where `from_output` is true, and x alone where it is not.
    """

    name: str
    forward: Kernel
    backward: Kernel
    from_output: bool
    elementwise: bool = True


ACTIVATIONS: dict[str, Activation] = {}


def value(x):
    """The activation; each kernel made of the templates below has its own."""


def derivative(x, y):
    """The activation's derivative at x, where the output is y."""


def _map_forward(y, x):
    n = x.shape[0]
    for p in prange((n + PIECE - 1) // PIECE):
        y_piece, x_piece = y[p * PIECE : (p + 1) * PIECE], x[p * PIECE : (p + 1) * PIECE]
        for i in range(x_piece.shape[0]):
            y_piece[i] = value(x_piece[i])


def _map_backward(dx, dy, x, y):
    n = x.shape[0]
    for p in prange((n + PIECE - 1) // PIECE):
        begin, end = p * PIECE, (p + 1) * PIECE
        dx_piece, dy_piece, x_piece, y_piece = dx[begin:end], dy[begin:end], x[begin:end], y[begin:end]
        for i in range(x_piece.shape[0]):
            dx_piece[i] = dy_piece[i] * derivative(x_piece[i], y_piece[i])


def _elementwise(name, value, derivative, numpy_value, numpy_derivative, *, from_output=True, cycles=2.0) -> Activation:
    """Enter an activation that maps each element by itself."""

    def forward_reference(y, x):
        y[:] = numpy_value(x)

    def backward_reference(dx, dy, x, y):
        dx[:] = dy * numpy_derivative(x, y)

    forward = kernel(
        forward_reference, "(n) (n)", cycles=cycles, name=f"{name}_forward", value=device(value, inline=True)
    )(_map_forward)
    backward = kernel(
        backward_reference,
        "(n) (n) (n) (n)",
        cycles=cycles,
        name=f"{name}_backward",
        derivative=device(derivative, inline=True),
    )(_map_backward)
    ACTIVATIONS[name] = Activation(name, forward, backward, from_output)
    return ACTIVATIONS[name]


linear = _elementwise(
    "linear",
    lambda x: x,
    lambda x, y: ONE(x),
    lambda x: x,
    lambda x, y: 1,
    cycles=0.3,
)

sigmoid = _elementwise(
    "sigmoid",
    lambda x: vm.sigmoid(x),
    lambda x, y: y * (ONE(y) - y),
    lambda x: 0.5 * (1 + np.tanh(0.5 * x)),
    lambda x, y: y * (1 - y),
)

tanh = _elementwise(
    "tanh",
    lambda x: vm.tanh(x),
    lambda x, y: vm.fma(-y, y, ONE(y)),
    np.tanh,
    lambda x, y: 1 - y * y,
)

relu = _elementwise(
    "relu",
    lambda x: ZERO(x) if x < ZERO(x) else x,  # nan stays nan
    lambda x, y: ONE(y) if y > ZERO(y) else ZERO(y),
    lambda x: np.maximum(x, 0),
    lambda x, y: y > 0,
    cycles=0.3,
)

LEAK = constant(0.01)

leaky_relu = _elementwise(
    "leaky_relu",
    lambda x: LEAK(x) * x if x < ZERO(x) else x,
    lambda x, y: ONE(y) if y > ZERO(y) else LEAK(y),
    lambda x: np.where(x < 0, x.dtype.type(0.01) * x, x),
    lambda x, y: np.where(y > 0, y.dtype.type(1), y.dtype.type(0.01)),
    cycles=0.3,
)

elu = _elementwise(
    "elu",
    lambda x: vm.expm1(x) if x < ZERO(x) else x,
    lambda x, y: ONE(y) if y > ZERO(y) else y + ONE(y),
    lambda x: np.where(x < 0, np.expm1(np.minimum(x, 0)), x),
    lambda x, y: np.where(y > 0, y.dtype.type(1), y + 1),
)

# Klambauer et al., "Self-normalizing neural networks", 2017
_SELU_SCALE, _SELU_ALPHA = 1.0507009873554804934193349852946, 1.6732632423543772848170429916717
SELU_SCALE, SELU_LIMIT = constant(_SELU_SCALE), constant(_SELU_SCALE * _SELU_ALPHA)

selu = _elementwise(
    "selu",
    lambda x: SELU_LIMIT(x) * vm.expm1(x) if x < ZERO(x) else SELU_SCALE(x) * x,
    lambda x, y: SELU_SCALE(y) if y > ZERO(y) else y + SELU_LIMIT(y),
    lambda x: np.where(x < 0, _SELU_SCALE * _SELU_ALPHA * np.expm1(np.minimum(x, 0)), _SELU_SCALE * x),
    lambda x, y: np.where(y > 0, y.dtype.type(_SELU_SCALE), y + y.dtype.type(_SELU_SCALE * _SELU_ALPHA)),
)

softplus = _elementwise(
    "softplus",
    lambda x: vm.softplus(x),
    lambda x, y: -vm.expm1(-y),  # sigmoid(x), from y alone
    lambda x: np.logaddexp(x, 0).astype(x.dtype),
    lambda x, y: -np.expm1(-y),
    cycles=4.0,
)


def _numpy_normal_distribution(x):
    return np.array([0.5 * math.erfc(-v / math.sqrt(2)) for v in x.tolist()], x.dtype)


# Hendrycks and Gimpel, "Gaussian error linear units", 2016: x Phi(x), exactly, not its tanh approximation
gelu = _elementwise(
    "gelu",
    lambda x: x * vm.normal_distribution(x),
    lambda x, y: vm.fma(x, vm.normal_density(x), vm.normal_distribution(x)),
    lambda x: x * _numpy_normal_distribution(x),
    lambda x, y: _numpy_normal_distribution(x) + x * np.exp(-0.5 * x * x) / math.sqrt(2 * math.pi),
    from_output=False,
    cycles=5.0,
)


def _silu_derivative(x, y):
    s = vm.sigmoid(x)
    return s * (ONE(x) + x * (ONE(x) - s))


def _numpy_silu_derivative(x, y):
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

exponential = _elementwise(
    "exponential",
    lambda x: vm.exp(x),
    lambda x, y: y,
    np.exp,
    lambda x, y: y,
)


def softmax_forward_reference(y, x):
    y[:] = np.exp(x - x.max(axis=1, keepdims=True))
    y /= y.sum(axis=1, keepdims=True)


@kernel(softmax_forward_reference, "(b,n) (b,n)", cycles=4.0)
def softmax_forward(y, x):
    """Rows of x as probabilities, y_j = exp(x_j) / sum_k exp(x_k)."""
    for i in prange(x.shape[0]):
        softmax_row(y[i], x[i])


@device
def softmax_row(y, x):
    """One row of softmax; returns the log of the sum of exp(x)."""
    top = x[0]
    for j in range(1, x.shape[0]):
        top = x[j] if x[j] > top else top
    for j in range(x.shape[0]):
        y[j] = vm.exp(x[j] - top)
    total = ZERO(top)
    for j in range(x.shape[0]):
        total += y[j]
    scale = ONE(top) / total
    for j in range(x.shape[0]):
        y[j] *= scale
    return vm.log(total) + top


def softmax_backward_reference(dx, dy, x, y):
    dx[:] = y * (dy - np.sum(dy * y, axis=1, keepdims=True))


@kernel(softmax_backward_reference, "(b,n) (b,n) (b,n) (b,n)", cycles=2.0)
def softmax_backward(dx, dy, x, y):
    """dx_j = y_j (dy_j - sum_k dy_k y_k)."""
    for i in prange(y.shape[0]):
        dx_row, dy_row, y_row = dx[i], dy[i], y[i]
        inner = ZERO(y_row[0])
        for j in range(y_row.shape[0]):
            inner += dy_row[j] * y_row[j]
        for j in range(y_row.shape[0]):
            dx_row[j] = y_row[j] * (dy_row[j] - inner)


ACTIVATIONS["softmax"] = softmax = Activation(
    "softmax", softmax_forward, softmax_backward, from_output=True, elementwise=False
)
