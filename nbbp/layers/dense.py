"""Dense: y = x . w + b, with w of shape (n_in, n_out)."""

import dataclasses

import numpy as np

from nbbp import checks, regularization
from nbbp.activations import ACTIVATIONS
from nbbp.initializers import INITIALIZERS, Initializer, zeros
from nbbp.kernels import packed_gemm
from nbbp.kernels.gemm import affine, column_sums, product_of_transposed, transpose
from nbbp.kernels.threads import PIECE
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
    l1, l2 : float
        l1 sum |w| + l2 sum w^2 is added to the loss, as in Keras; PyTorch's weight_decay is 2 l2.
    max_norm : float, optional
        After each update, the weights into a unit are scaled down to this norm where theirs is larger: Srivastava et
        al., "Dropout", 2014, section 5.1.
    """

    units: int
    activation: str = "linear"
    use_bias: bool = True
    initializer: str | Initializer = "glorot_uniform"
    l1: float = 0.0
    l2: float = 0.0
    max_norm: float | None = None

    needs_output = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "units", checks.positive_integer("Dense: units", self.units))
        checks.boolean("Dense: use_bias", self.use_bias)
        checks.choose("activation", self.activation, ACTIVATIONS)
        checks.number("Dense: l1", self.l1)
        checks.number("Dense: l2", self.l2)
        if self.max_norm is not None:
            checks.number("Dense: max_norm", self.max_norm, open_low=True)
        if not callable(self.initializer):
            checks.choose("initializer", self.initializer, INITIALIZERS)

    def expand(self):
        if self.activation == "linear":
            return [self]
        return [dataclasses.replace(self, activation="linear"), Activation(self.activation)]

    def output_shape(self, input_shape):
        if len(input_shape) != 1:
            raise ValueError(
                f"Dense takes samples of one axis, features; got samples of shape {input_shape}: "
                f"X.reshape(len(X), -1) makes them flat"
            )
        return (self.units,)

    def parameters(self, input_shape):
        initializer = self.initializer if callable(self.initializer) else INITIALIZERS[self.initializer]
        shapes = {"w": Parameter((input_shape[0], self.units), initializer)}
        return shapes | ({"b": Parameter((self.units,), zeros)} if self.use_bias else {})

    def penalize(self, program, total, p, g):
        if not (self.l1 or self.l2):
            return []
        sums = program.buffer(-(-p.w.size // PIECE))
        numbers = np.array([self.l1, self.l2], p.w.dtype)
        program.call(regularization.penalize, total, g.w.reshape(-1), p.w.reshape(-1), sums, numbers)
        return [numbers]

    def constrain(self, program, p):
        if self.max_norm is not None:
            limit = np.array([self.max_norm], p.w.dtype)
            program.call(regularization.limit_norms, p.w, program.buffer(self.units), limit)

    def forward(self, program, y, x, p):
        bias = p.b if self.use_bias else program.buffer(self.units)
        (rows, n_in), n_out = x.shape, self.units
        if packed_gemm.worthwhile(rows, n_out, n_in, x.dtype):
            program.call(packed_gemm.affine_packed, y, x, p.w, bias, *packed_gemm.scratch(rows, n_in, x.dtype))
        else:
            program.call(affine, y, x, p.w, bias)

    def backward(self, program, dx, dy, x, y, p, g, kept):
        (rows, n_in), n_out = x.shape, self.units
        db = g.b if self.use_bias else program.buffer(n_out)
        if packed_gemm.worthwhile(n_in, n_out, rows, x.dtype):
            scratch = packed_gemm.scratch(n_in, rows, x.dtype)
            program.call(packed_gemm.product_of_transposed_packed, g.w, x, dy, *scratch)
            program.call(column_sums, db, dy)
        else:
            program.call(product_of_transposed, g.w, db, x, dy)
        if dx is None:
            return
        if packed_gemm.worthwhile(rows, n_in, n_out, x.dtype):
            scratch = packed_gemm.scratch(rows, n_out, x.dtype)
            program.call(packed_gemm.product_with_transposed_packed, dx, dy, p.w, *scratch)
        else:
            w_transposed = program.buffer(n_out, n_in)
            program.call(transpose, w_transposed, p.w)
            program.call(affine, dx, dy, w_transposed, program.buffer(n_in))
