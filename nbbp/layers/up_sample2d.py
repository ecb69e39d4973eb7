"""UpSample2D: an image enlarged, each position repeated."""

import dataclasses

import numpy as np

from nbbp.engine.layer import Layer, Spec
from nbbp.kernels.pooling import window_sums, window_sums_backward
from nbbp.layers.flatten import Flatten
from nbbp.layers.pooling import bounds
from nbbp.layers.reshape import as_image
from nbbp.layers.windows import Numbers, Windows, each_axis, positions, refuse_mask


@dataclasses.dataclass(frozen=True)
class UpSample2D(Layer):
    """An image enlarged by whole factors, each position repeated: the nearest one.

    Samples are (height, width, channels), outputs (height factor, width factor, channels). It is the transpose of the
    sums over windows of the size of the factors, so that each is the other's gradient.

    Parameters
    ----------
    size : int or (int, int)
        The factors of the height and of the width.
    """

    size: int | Numbers = 2

    reads = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "size", each_axis("UpSample2D: size", self.size, 2))

    @classmethod
    def example(cls, x):
        return Flatten()(cls((2, 3))(as_image(x)))

    def spec(self, shape):
        height, width = positions("UpSample2D", shape)
        down, across = self.size
        return Spec((height * down, width * across, shape[-1]))

    def forward(self, b):
        refuse_mask(self, b)
        windows = Windows(b.y.shape[1:3], self.size, self.size, (1, 1), ((0, 0), (0, 0)))
        b.windows = np.ones(windows.outputs, b.x.dtype), *bounds(windows)
        b.call(window_sums_backward, b.y, b.x, *b.windows)

    def backward(self, b):
        b.call(window_sums, b.dx, b.dy, *b.windows)
