"""MaxPool1D: the largest element of every window of a series."""

import dataclasses
from typing import ClassVar

from nbbp.layers.flatten import Flatten
from nbbp.layers.max_pool2d import MaxPool2D
from nbbp.layers.reshape import Reshape


@dataclasses.dataclass(frozen=True)
class MaxPool1D(MaxPool2D):
    """The largest element of every window of a series, channel by channel.

    Samples are (time, channels), outputs (windows, channels). The parameters are those of `nbbp.MaxPool2D`, for one
    axis.
    """

    axes: ClassVar[int] = 1

    @classmethod
    def example(cls, x):
        return Flatten()(cls(3, 2, padding=1)(Reshape((-1, 1))(x)))
