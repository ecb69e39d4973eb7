"""Dense: y = x . w + b, with w of shape (n_in, n_out)."""

import dataclasses

import numpy as np

from nbbp import checks
from nbbp.activations import ACTIVATIONS
from nbbp.initializers import INITIALIZERS, Initializer, zeros
from nbbp.kernels.gemm import affine, column_sums, product_of_transposed, transpose
from nbbp.layers.activation import Activation
from nbbp.layers.base import Layer, Parameter


@dataclasses.dataclass(frozen=True)
class Dense(Layer):
    """A fully connected layer, activation(x . w + b).

    Parameters
    ----------
    units : int
        Outputs.
    activation : str
        One of `nbbp.ACTIVATIONS`.
    use_bias : bool
        Whether b is there; it starts at zero.
    initializer : str or callable
        First values of w: one of `nbbp.INITIALIZERS`, or a function of (shape, generator).
    """

    units: int
    activation: str = "linear"
    use_bias: bool = True
    initializer: str | Initializer = "glorot_uniform"

    needs_output = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "units", checks.positive_integer("Dense: units", self.units))
        checks.choose("activation", self.activation, ACTIVATIONS)
        if not callable(self.initializer):
            checks.choose("initializer", self.initializer, INITIALIZERS)

    def expand(self):
        if self.activation == "linear":
            return [self]
        return [dataclasses.replace(self, activation="linear"), Activation(self.activation)]

    def output_shape(self, input_shape):
        if len(input_shape) != 1:
            raise ValueError(f"Dense takes samples of one axis, features; got samples of shape {input_shape}")
        return (self.units,)

    def parameters(self, input_shape):
        initializer = self.initializer if callable(self.initializer) else INITIALIZERS[self.initializer]
        shapes = {"w": Parameter((input_shape[0], self.units), initializer)}
        return shapes | ({"b": Parameter((self.units,), zeros)} if self.use_bias else {})

    def forward(self, program, y, x, p):
        program.call(affine, y, x, p.w, p.b if self.use_bias else np.zeros(self.units, y.dtype))

    def backward(self, program, dx, dy, x, y, p, g):
        program.call(product_of_transposed, g.w, x, dy)
        if self.use_bias:
            program.call(column_sums, g.b, dy)
        if dx is not None:
            w_transposed = program.buffer(*p.w.shape[::-1])
            program.call(transpose, w_transposed, p.w)
            program.call(affine, dx, dy, w_transposed, np.zeros(len(p.w), dx.dtype))
