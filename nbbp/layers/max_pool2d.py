"""MaxPool2D: the largest element of every window of an image."""

import dataclasses

import numpy as np

from nbbp.kernels.pooling import window_maxima, window_maxima_backward
from nbbp.layers.flatten import Flatten
from nbbp.layers.pooling import Pool, bounds, images
from nbbp.layers.reshape import as_image
from nbbp.layers.windows import refuse_mask


@dataclasses.dataclass(frozen=True)
class MaxPool2D(Pool):
    """The largest element of every window of an image, channel by channel.

    Samples are (height, width, channels), outputs (windows below each other, windows beside each other, channels).
    Padding never wins, as in Keras and PyTorch. The gradient goes to the first of several largest elements, row by
    row, as in PyTorch. NaN counts as larger than any number; of several, the first one gets the gradient, the last one
    in PyTorch.

    A mask is not used; `nbbp.GlobalMaxPool` leaves masked positions out.

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
        b.winner = b.buffer(*y.shape, dtype=np.int32)
        b.call(window_maxima, y, b.winner, x, *bounds(windows))

    def backward(self, b):
        windows = self.windows(b.x.shape[1:])
        dx, dy = images(b.dx, windows.lengths), images(b.dy, windows.outputs)
        b.call(window_maxima_backward, dx, dy, b.winner, *bounds(windows))
