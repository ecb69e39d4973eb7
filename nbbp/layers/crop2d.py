"""Crop2D: an image without its margins."""

import dataclasses
from collections.abc import Sequence

import numpy as np

from nbbp.engine.layer import Layer, Spec
from nbbp.kernels.convolution import crop, pad
from nbbp.layers.flatten import Flatten
from nbbp.layers.reshape import as_image
from nbbp.layers.windows import positions, refuse_mask, sides
from nbbp.layers.zero_pad2d import ZeroPad2D


@dataclasses.dataclass(frozen=True)
class Crop2D(Layer):
    """An image (height, width, channels) without its margins.

    Parameters
    ----------
    cropping : int, (int, int), or ((top, bottom), (left, right))
        The number of positions that are left out on all sides; above and below, and on the left and right; or on each
        side.
    """

    cropping: int | Sequence[int | Sequence[int]]

    reads = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "cropping", sides("Crop2D: cropping", self.cropping, 2))

    @classmethod
    def example(cls, x):
        return Flatten()(cls(((0, 1), (1, 0)))(ZeroPad2D(1)(as_image(x))))

    def spec(self, shape):
        lengths = positions("Crop2D", shape)
        left = tuple(n - sum(margins) for n, margins in zip(lengths, self.cropping, strict=True))
        if min(left) < 1:
            raise ValueError(f"Crop2D: cropping {self.cropping} leaves nothing of {' x '.join(map(str, lengths))}")
        return Spec((*left, shape[-1]))

    def forward(self, b):
        refuse_mask(self, b)
        (top, _), (left, _) = self.cropping
        x, y = (array.reshape(*array.shape[:2], -1) for array in (b.x, b.y))
        b.before = np.array([top, left * b.x.shape[-1]])
        b.call(crop, y, x, b.before)

    def backward(self, b):
        dx, dy = (array.reshape(*array.shape[:2], -1) for array in (b.dx, b.dy))
        b.call(pad, dx, dy, b.before)
