"""AveragePool2D: the mean of every window of an image."""

import dataclasses

import numpy as np

from nbbp.kernels.pooling import window_sums, window_sums_backward
from nbbp.layers.flatten import Flatten
from nbbp.layers.pooling import Pool, bounds, images
from nbbp.layers.reshape import as_image
from nbbp.layers.windows import refuse_mask


@dataclasses.dataclass(frozen=True)
class AveragePool2D(Pool):
    """The mean of every window of an image, channel by channel.

    Samples are (height, width, channels), outputs (windows below each other, windows beside each other, channels). The
    mean is over the positions of the image that a window has: padding does not count, as in Keras. In PyTorch it counts
    as zeros, unless ``count_include_pad=False``.

    A mask is not used; `nbbp.GlobalAveragePool` leaves masked positions out.

    Parameters
    ----------
    pool_size : int or (int, int)
        The height and width of a window.
    strides : int or (int, int), optional
        The number of rows and columns from one window to the next; by default the height and width of a window.
    padding : str, int, or a sequence
        "valid", "same", or the number of positions on each side, less than a window has, as in `nbbp.Conv2D`.
    """

    @classmethod
    def example(cls, x):
        return Flatten()(cls((2, 3), 1, "same")(as_image(x)))

    def forward(self, b):
        refuse_mask(self, b)
        windows = self.windows(b.x.shape[1:])
        x, y = images(b.x, windows.lengths), images(b.y, windows.outputs)
        heights, widths = (np.diff(ends, axis=1)[:, 0] for ends in bounds(windows))
        b.scale = (1 / np.outer(heights, widths)).astype(x.dtype)
        b.call(window_sums, y, x, b.scale, *bounds(windows))

    def backward(self, b):
        windows = self.windows(b.x.shape[1:])
        dx, dy = images(b.dx, windows.lengths), images(b.dy, windows.outputs)
        b.call(window_sums_backward, dx, dy, b.scale, *bounds(windows))
