"""RandomFlip: in training, images are mirrored at random."""

import dataclasses

from numba import prange

from nbbp import checks
from nbbp.kernels.batches import copy
from nbbp.kernels.jit import kernel
from nbbp.layers.augmentation import LENGTHS, Augmentation, drawn
from nbbp.layers.flatten import Flatten
from nbbp.layers.reshape import as_image


def flip_images_reference(y, x, flips):
    for own, image, (vertical, horizontal) in zip(y, x, flips, strict=True):
        own[:] = image[:: -1 if vertical else 1, :: -1 if horizontal else 1]


@kernel(
    flip_images_reference, "(b,h,w,c) (b,h,w,c) (b,2)", cycles=0.5,
    values={"flips": lambda rng, shape, dtype, lengths: rng.integers(0, 2, shape)},
    lengths=dict.fromkeys("hw", lambda: LENGTHS),
)  # fmt: skip
def flip_images(y, x, flips):
    """y is the image x, from bottom to top if flips[i, 0] is 1, and from right to left if flips[i, 1] is 1."""
    height, width, channels = y.shape[1:]
    for i in prange(y.shape[0]):
        vertical, horizontal = flips[i, 0], flips[i, 1]
        for r in range(height):
            own, image = y[i, r], x[i, height - 1 - r if vertical else r]
            for q in range(width):
                pixel, source = own[q], image[width - 1 - q if horizontal else q]
                for k in range(channels):
                    pixel[k] = source[k]


@dataclasses.dataclass(frozen=True)
class RandomFlip(Augmentation):
    """In training, each image is mirrored with probability 1/2; in prediction y = x.

    Samples are (height, width, channels). The decision is a function of the model's seed, the layer, the step and the
    row, so that it is the same in both backends and at any number of threads. Gradients go back through the mirror.

    Parameters
    ----------
    horizontal, vertical : bool
        Whether left and right are exchanged, and whether top and bottom are, each with a decision of its own.
    """

    horizontal: bool = True
    vertical: bool = False

    def __post_init__(self) -> None:
        checks.boolean("RandomFlip: horizontal", self.horizontal)
        checks.boolean("RandomFlip: vertical", self.vertical)

    @classmethod
    def example(cls, x):
        return Flatten()(cls(vertical=True)(as_image(x)))

    def forward(self, b):
        self.refuse_mask(b)
        b.flips = drawn(b, (0, 0), (1 + self.vertical, 1 + self.horizontal)) if b.training else None
        self._flip(b, b.y, b.x)

    def backward(self, b):
        self._flip(b, b.dx, b.dy)

    @staticmethod
    def _flip(b, y, x) -> None:
        if b.flips is None:
            b.call(copy, y.reshape(-1), x.reshape(-1))
        else:
            b.call(flip_images, y, x, b.flips)
