"""Conv1D: the same weights at every window of a series."""

import dataclasses
from typing import ClassVar

from nbbp.layers.conv2d import Conv2D
from nbbp.layers.flatten import Flatten
from nbbp.layers.reshape import Reshape


@dataclasses.dataclass(frozen=True)
class Conv1D(Conv2D):
    """A convolution at every window of a series.

    Samples are (time, channels), outputs (windows, filters), and w is (length, channels of a group, filters), all as in
    Keras; PyTorch has channels first. The parameters are those of `nbbp.Conv2D`, for one axis.
    """

    axes: ClassVar[int] = 1

    @classmethod
    def example(cls, x):
        return Flatten()(cls(4, 3, padding=1, activation="tanh")(Reshape((-1, 1))(x)))
