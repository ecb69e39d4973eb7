"""TakeFirst: the first position of a sequence."""

import dataclasses

import numpy as np
from numba import prange

from nbbp.engine.layer import Layer, Spec
from nbbp.kernels.arguments import flags
from nbbp.kernels.jit import kernel
from nbbp.kernels.vector_math import ZERO
from nbbp.layers.pooling import there
from nbbp.layers.reshape import Reshape


def take_first_reference(y, x, mask):
    y[:] = np.where(mask[:, :1], x[:, 0], 0)


@kernel(take_first_reference, "(b,c) (b,P,c) (b,P)", cycles=0.5, values={"mask": flags})
def take_first(y, x, mask):
    """y = the first position of each row of x, 0 if it is masked."""
    for i in prange(y.shape[0]):
        row, first, is_there = y[i], x[i, 0], mask[i, 0]
        for k in range(row.shape[0]):
            row[k] = first[k] if is_there else ZERO(first[k])


def take_first_backward_reference(dx, dy, mask):
    dx[:] = 0
    dx[:, 0] = np.where(mask[:, :1], dy, 0)


@kernel(take_first_backward_reference, "(b,p,c) (b,c) (b,p)", cycles=0.3, values={"mask": flags})
def take_first_backward(dx, dy, mask):
    """dx = dy at the first position if that is not masked, 0 elsewhere."""
    for i in prange(dx.shape[0]):
        dx[i, :, :] = ZERO(dy[i, 0])
        if mask[i, 0]:
            dx[i, 0, :] = dy[i]


@dataclasses.dataclass(frozen=True)
class TakeFirst(Layer):
    """The first position alone, (positions, features) to (features,): the class token after attention.

    If that position is masked, the output is 0.
    """

    reads = ()

    @classmethod
    def example(cls, x):
        return cls()(Reshape((-1, 1))(x))

    def spec(self, shape):
        if len(shape) != 2:
            raise ValueError(f"TakeFirst takes samples (positions, features), got {shape}")
        return Spec(shape[1:])

    def forward(self, b):
        b.there = there(b)
        b.call(take_first, b.y, b.x, b.there)

    def backward(self, b):
        b.call(take_first_backward, b.dx, b.dy, b.there)
