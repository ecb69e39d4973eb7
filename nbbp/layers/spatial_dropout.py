"""SpatialDropout: in training, whole channels are zeroed at random and the others scaled up."""

import dataclasses

import numpy as np
from numba import prange

from nbbp.kernels.arguments import any_bits
from nbbp.kernels.jit import kernel
from nbbp.kernels.random import bits, random_bits
from nbbp.kernels.vector_math import ZERO
from nbbp.layers.dropout import Dropout
from nbbp.layers.flatten import Flatten
from nbbp.layers.reshape import Reshape, as_image


def drop_channels_reference(y, factors, scale, draw, clock):
    key = bits(draw[:1], np.array([clock["before"][0] + clock["step"][0]], np.uint64))
    numbers = bits(key, draw[2] + np.arange(factors.size, dtype=np.uint64)).reshape(factors.shape)
    factors[:] = np.where(numbers < draw[1], scale, 0)
    y[:] = np.where(factors[:, np.newaxis] == 0, 0, y * factors[:, np.newaxis])


@kernel(drop_channels_reference, "(b,p,n) (b,n) (1) (3) (1)", cycles=0.5, values={"draw": any_bits})
def drop_channels(y, factors, scale, draw, clock):
    """y = scale y if the random number of channel draw[2] + n i + j in this step is below draw[1], else 0.

    draw: as for `dropout`; factors (b, n): the scale of the channels that are kept, and 0.
    """
    threshold, first = draw[1], draw[2]
    key = random_bits(draw[0], np.uint64(clock[0].before + clock[0].step))
    for i in prange(y.shape[0]):
        factor, begin = factors[i], first + np.uint64(i * y.shape[2])
        for j in range(factor.shape[0]):
            factor[j] = scale[0] if random_bits(key, begin + np.uint64(j)) < threshold else ZERO(scale[0])
        for p in range(y.shape[1]):
            row = y[i, p]
            for j in range(row.shape[0]):
                row[j] = ZERO(row[j]) if factor[j] == ZERO(row[j]) else row[j] * factor[j]


@dataclasses.dataclass(frozen=True)
class SpatialDropout(Dropout):
    """`Dropout` of whole channels: in training, a channel of a sample is 0 at all positions, or x / (1 - rate).

    Neighbouring positions of an image are so alike that dropping single ones removes little. Tompson et al., "Efficient
    object localization using convolutional networks", 2015; Keras's SpatialDropout1D and SpatialDropout2D, and
    PyTorch's Dropout2d. The decision is a function of the model's seed, the layer, the step, the row and the channel.

    Parameters
    ----------
    rate : float in [0, 1), or Schedule
        The share of the channels that is dropped.
    """

    @classmethod
    def example(cls, x):
        image = as_image(x)
        return Flatten()(cls(0.3)(Reshape(image.shape[:2])(image)))

    def decisions(self, shape) -> int:
        return shape[-1]

    def drop(self, b, y) -> None:
        rows, channels = len(y), y.shape[-1]
        b.call(drop_channels, y.reshape(rows, -1, channels), b.buffer(rows, channels), *b.drawn)
