"""Conv1DTranspose: a convolution from its windows back to a series."""

import dataclasses
from typing import ClassVar

from nbbp.layers.conv2d_transpose import Conv2DTranspose
from nbbp.layers.flatten import Flatten
from nbbp.layers.reshape import Reshape


@dataclasses.dataclass(frozen=True)
class Conv1DTranspose(Conv2DTranspose):
    """A transposed convolution over a series.

    Samples are (time, channels), and w is (length, filters of a group, channels), as in Keras. The output's lengths and
    the parameters are those of `nbbp.Conv2DTranspose`, for one axis.
    """

    axes: ClassVar[int] = 1

    @classmethod
    def example(cls, x):
        return Flatten()(cls(3, 3, 2, "same", activation="tanh")(Reshape((-1, 1))(x)))
