"""RandomCrop: in training, a random window of each image; in prediction the one in its middle."""

import dataclasses

import numpy as np

from nbbp import checks
from nbbp.engine.layer import Spec
from nbbp.layers.augmentation import Augmentation, drawn, move_images
from nbbp.layers.flatten import Flatten
from nbbp.layers.reshape import as_image


@dataclasses.dataclass(frozen=True)
class RandomCrop(Augmentation):
    """In training, y is a window of each image at a random place; in prediction, the window in the middle.

    Samples are (height, width, channels). All places are equally probable, and functions of the model's seed, the
    layer, the step and the row. Of an odd number of pixels to leave out, one more is left out below, or on the right.
    What is outside of the window has the gradient 0.

    Parameters
    ----------
    height, width : int
        The size of the window, at most that of the image.
    """

    height: int
    width: int

    def __post_init__(self) -> None:
        checks.positive_integer("RandomCrop: height", self.height)
        checks.positive_integer("RandomCrop: width", self.width)

    @classmethod
    def example(cls, x):
        return Flatten()(cls(1, 2)(as_image(x)))

    def spec(self, shape):
        super().spec(shape)
        if self.height > shape[0] or self.width > shape[1]:
            raise ValueError(
                f"RandomCrop: a window of {self.height} x {self.width} pixels does not fit into images of "
                f"{shape[0]} x {shape[1]}"
            )
        return Spec((self.height, self.width, shape[-1]))

    def forward(self, b):
        self.refuse_mask(b)
        spare = b.x.shape[1] - self.height, b.x.shape[2] - self.width
        if b.training:
            b.offsets = drawn(b, (0, 0), (spare[0] + 1, spare[1] + 1))
        else:
            b.offsets = np.tile(np.array([spare[0] // 2, spare[1] // 2]), (b.rows, 1))
        b.call(move_images, b.y, b.x, b.offsets, np.array([1]))

    def backward(self, b):
        b.call(move_images, b.dx, b.dy, b.offsets, np.array([-1]))
