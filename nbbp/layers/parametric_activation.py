"""ParametricActivation: for each feature, a trained mixture of an activation and the identity."""

import dataclasses

from numba import prange

from nbbp import checks
from nbbp.activations import ACTIVATIONS, mish_and_derivative
from nbbp.engine.layer import Layer, Parameter, Spec
from nbbp.initializers import ones
from nbbp.kernels.denormals import flushed
from nbbp.kernels.jit import Kernel, device, kernel
from nbbp.kernels.vector_math import ONE, ZERO

STRIP = 64  # columns that one thread takes at a time


def value(x):
    """The activation; each kernel made of the templates below has its own."""


def value_and_derivative(x):
    """The activation and its derivative."""


def _forward(y, x, alpha):
    for i in prange(x.shape[0]):
        y_row, x_row = y[i], x[i]
        for j in range(x_row.shape[0]):
            y_row[j] = x_row[j] + alpha[j] * (value(x_row[j]) - x_row[j])


def _backward(d, dy, x, alpha):
    for p in prange((x.shape[1] + STRIP - 1) // STRIP):
        begin, end = p * STRIP, min(x.shape[1], (p + 1) * STRIP)
        d_strip, share = d[begin:end], alpha[begin:end]
        for j in range(d_strip.shape[0]):
            d_strip[j] = ZERO(d_strip[j])
        for i in range(x.shape[0]):
            x_row, dy_row = x[i, begin:end], dy[i, begin:end]
            for j in range(d_strip.shape[0]):
                z, slope = x_row[j], dy_row[j]
                f, df = value_and_derivative(z)
                d_strip[j] += slope * (f - z)
                dy_row[j] = flushed(slope * (ONE(z) + share[j] * (df - ONE(z))))


def _kernels(name: str, cycles: float) -> tuple[Kernel, Kernel]:
    """y = x + alpha (f(x) - x); and the gradient of alpha, and that of x in the place of dy."""
    activation = ACTIVATIONS[name]
    f = activation.scalars
    assert f is not None

    def forward_reference(y, x, alpha):
        y[:] = x + alpha * (f.numpy_value(x) - x)

    def backward_reference(d, dy, x, alpha):
        y = f.numpy_value(x)
        d[:] = (dy * (y - x)).sum(axis=0)
        dy *= 1 + alpha * (f.numpy_derivative(y if activation.from_output else x) - 1)

    forward = kernel(
        forward_reference, "(b,n) (b,n) (n)", cycles=cycles, name=f"parametric_{name}_forward", value=f.value
    )
    backward = kernel(
        backward_reference, "(n) (b,n) (b,n) (n)", cycles=2 * cycles, name=f"parametric_{name}_backward",
        value_and_derivative=_together(name),
    )  # fmt: skip
    return forward(_forward), backward(_backward)


def _together(name: str):
    """The activation and its derivative at a point, which share what they have in common."""
    if name == "mish":
        return mish_and_derivative
    f = ACTIVATIONS[name].scalars
    assert f is not None
    value, derivative = f.value, f.derivative

    @device
    def together(x):
        y = value(x)
        return y, derivative(y)

    return together


KERNELS = {"relu": _kernels("relu", 0.4), "selu": _kernels("selu", 2.0), "mish": _kernels("mish", 3.0)}


@dataclasses.dataclass(frozen=True)
class ParametricActivation(Layer):
    """y = (1 - alpha) x + alpha f(x), with a trained alpha for each feature, which starts at 1.

    Of RealMLP: Holzmueller, Grinsztajn and Steinwart, "Better by default: strong pre-tuned MLPs and boosted trees on
    tabular data", 2024. With relu it is PReLU, whose slope below 0 is 1 - alpha.

    Parameters
    ----------
    name : {"relu", "selu", "mish"}
        The name of the function f.
    rate, decay : float
        Factors of the optimizer's learning rate and weight decay for alpha.
    """

    name: str
    rate: float = 1.0
    decay: float = 1.0

    reads = ("x",)

    def __post_init__(self) -> None:
        checks.choose("activation", self.name, KERNELS)
        checks.number("ParametricActivation: rate", self.rate)
        checks.number("ParametricActivation: decay", self.decay)

    @classmethod
    def example(cls, x):
        return cls("mish", rate=0.1)(x)

    def spec(self, shape):
        alpha = Parameter(shape[-1:], ones, rate=self.rate, decay=self.decay)
        return Spec(shape, {"alpha": alpha}, in_place=True)

    def forward(self, b):
        x, y = (array.reshape(-1, array.shape[-1]) for array in (b.x, b.y))
        b.call(KERNELS[self.name][0], y, x, b.p.alpha)

    def backward(self, b):
        """dx shares the memory of dy."""
        x, dy = (array.reshape(-1, array.shape[-1]) for array in (b.x, b.dy))
        b.call(KERNELS[self.name][1], b.g.alpha, dy, x, b.p.alpha)
