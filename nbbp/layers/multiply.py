"""Multiply: the product of two arrays, element by element."""

import dataclasses

import numpy as np

from nbbp.engine.layer import Layer, Spec
from nbbp.kernels.jit import kernel
from nbbp.layers.add import same_shape


def product_reference(y, a, b):
    np.multiply(a, b, out=y)


@kernel(product_reference, "(n) (n) (n)", cycles=0.3, elementwise=True)
def product(y, a, b):
    """y = a b."""
    for i in range(y.shape[0]):
        y[i] = a[i] * b[i]


@dataclasses.dataclass(frozen=True)
class Multiply(Layer):
    """y = x_0 x_1, element by element, for inputs of the same shape. dx_0 = dy x_1, dx_1 = dy x_0."""

    reads = ("x",)

    @classmethod
    def example(cls, x):
        return cls()(x, cls()(x, x))

    def spec(self, *shapes):
        if len(shapes) != 2:
            raise ValueError(f"Multiply takes two inputs, got {len(shapes)}")
        return Spec(same_shape("Multiply", shapes))

    def forward(self, b):
        first, second = (source.array.reshape(-1) for source in b.inputs)
        b.call(product, b.y.reshape(-1), first, second)

    def backward(self, b):
        for one, other in (b.inputs, reversed(b.inputs)):
            if one.gradient is not None:
                b.call(product, one.gradient.reshape(-1), b.dy.reshape(-1), other.array.reshape(-1))
