"""MemberDense: a product for each member of an ensemble, with weights of its own."""

import dataclasses
import math

import numpy as np
from numba import prange

from nbbp import checks
from nbbp.engine.layer import Layer, Parameter, Spec
from nbbp.initializers import uniform
from nbbp.kernels.jit import kernel
from nbbp.kernels.sums import dot
from nbbp.kernels.vector_math import ZERO
from nbbp.layers.flatten import Flatten
from nbbp.layers.members import Members


def member_products_reference(y, x, w, b):
    y[:] = np.einsum("bkn,kun->bku", x, w) + b


@kernel(member_products_reference, "(b,k,u) (b,k,n) (k,u,n) (k,u)", cycles=0.3)
def member_products(y, x, w, b):
    """y_m = w_m . x_m + b_m."""
    for i in prange(x.shape[0]):
        for m in range(x.shape[1]):
            for u in range(w.shape[1]):
                y[i, m, u] = dot(x[i, m], w[m, u]) + b[m, u]


def member_weights_reference(dw, dy, x):
    dw[:] = np.einsum("bku,bkn->kun", dy, x)


@kernel(member_weights_reference, "(k,u,n) (b,k,u) (b,k,n)", cycles=0.3)
def member_weights(dw, dy, x):
    """The gradient of w."""
    for m in prange(dw.shape[0]):
        for u in range(dw.shape[1]):
            sums = dw[m, u]
            for j in range(sums.shape[0]):
                sums[j] = ZERO(sums[j])
            for i in range(x.shape[0]):
                slope, row = dy[i, m, u], x[i, m]
                for j in range(sums.shape[0]):
                    sums[j] += slope * row[j]


def member_inputs_reference(dx, dy, w):
    dx[:] = np.einsum("bku,kun->bkn", dy, w)


@kernel(member_inputs_reference, "(b,k,n) (b,k,u) (k,u,n)", cycles=0.3)
def member_inputs(dx, dy, w):
    """The gradient of x."""
    for i in prange(dx.shape[0]):
        for m in range(dx.shape[1]):
            sums = dx[i, m]
            for j in range(sums.shape[0]):
                sums[j] = ZERO(sums[j])
            for u in range(w.shape[1]):
                slope, row = dy[i, m, u], w[m, u]
                for j in range(sums.shape[0]):
                    sums[j] += slope * row[j]


@dataclasses.dataclass(frozen=True)
class MemberDense(Layer):
    """y_m = w_m . x_m + b_m for each member m of an ensemble within a network: see `Members`.

    x is (members, features), y (members, units). All parameters begin uniform between -1 / sqrt(features) and
    1 / sqrt(features), as in TabM and in PyTorch's Linear.

    Parameters
    ----------
    units : int
        The number of outputs of each member.
    """

    units: int

    reads = ("x",)

    def __post_init__(self) -> None:
        object.__setattr__(self, "units", checks.positive_integer("MemberDense: units", self.units))

    @classmethod
    def example(cls, x):
        return Flatten()(cls(2)(Members(3)(x)))

    def spec(self, shape):
        if len(shape) != 2:
            raise ValueError(f"MemberDense takes samples (members, features), as Members gives them, got {shape}")
        members, features = shape
        initializer = uniform(1 / math.sqrt(features))
        w, b = (Parameter(own, initializer) for own in ((members, self.units, features), (members, self.units)))
        return Spec((members, self.units), {"w": w, "b": b})

    def forward(self, b):
        b.call(member_products, b.y, b.x, b.p.w, b.p.b)

    def backward(self, b):
        b.call(member_weights, b.g.w, b.dy, b.x)
        b.sum_rows(b.g.b.reshape(-1), b.dy.reshape(b.rows, -1))
        if b.dx is not None:
            b.call(member_inputs, b.dx, b.dy, b.p.w)
