"""ZeroPad2D: an image within zeros."""

import dataclasses
from collections.abc import Sequence

import numpy as np

from nbbp.engine.layer import Layer, Spec
from nbbp.kernels.convolution import crop, pad
from nbbp.layers.flatten import Flatten
from nbbp.layers.reshape import as_image
from nbbp.layers.windows import over, refuse_mask, sides


@dataclasses.dataclass(frozen=True)
class ZeroPad2D(Layer):
    """An image (height, width, channels) within zeros.

    Parameters
    ----------
    padding : int, (int, int), or ((top, bottom), (left, right))
        The number of zeros on all sides; above and below, and on the left and right; or on each side.
    """

    padding: int | Sequence[int | Sequence[int]] = 1

    reads = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "padding", sides("ZeroPad2D: padding", self.padding, 2))

    @classmethod
    def example(cls, x):
        return Flatten()(cls(((1, 0), (2, 1)))(as_image(x)))

    def spec(self, shape):
        return Spec((*over("ZeroPad2D", shape, 1, 1, self.padding).outputs, shape[-1]))

    def forward(self, b):
        refuse_mask(self, b)
        (top, _), (left, _) = self.padding
        x, y = (array.reshape(*array.shape[:2], -1) for array in (b.x, b.y))
        b.before = np.array([top, left * b.x.shape[-1]])
        b.call(pad, y, x, b.before)

    def backward(self, b):
        dx, dy = (array.reshape(*array.shape[:2], -1) for array in (b.dx, b.dy))
        b.call(crop, dx, dy, b.before)
