"""RandomShift: in training, images are moved by some pixels at random."""

import dataclasses

import numpy as np

from nbbp import checks
from nbbp.kernels.batches import copy
from nbbp.layers.augmentation import Augmentation, drawn, move_images
from nbbp.layers.flatten import Flatten
from nbbp.layers.reshape import as_image


@dataclasses.dataclass(frozen=True)
class RandomShift(Augmentation):
    """In training, each image is moved up or down and left or right; in prediction y = x.

    Samples are (height, width, channels), and pixels that come in from outside are 0. All distances are equally
    probable, and functions of the model's seed, the layer, the step and the row. What leaves the image has the
    gradient 0.

    Parameters
    ----------
    height, width : int
        The number of pixels that an image is moved by at most, each way.
    """

    height: int
    width: int

    def __post_init__(self) -> None:
        checks.integer("RandomShift: height", self.height, least=0)
        checks.integer("RandomShift: width", self.width, least=0)

    @classmethod
    def example(cls, x):
        return Flatten()(cls(1, 2)(as_image(x)))

    def forward(self, b):
        self.refuse_mask(b)
        b.offsets = None
        if b.training:
            most = self.height, self.width
            b.offsets = drawn(b, (-most[0], -most[1]), (2 * most[0] + 1, 2 * most[1] + 1))
        self._move(b, b.y, b.x, 1)

    def backward(self, b):
        self._move(b, b.dx, b.dy, -1)

    @staticmethod
    def _move(b, y, x, sign: int) -> None:
        if b.offsets is None:
            b.call(copy, y.reshape(-1), x.reshape(-1))
        else:
            b.call(move_images, y, x, b.offsets, np.array([sign]))
