"""Reshape: a sample in another shape."""

import dataclasses
import math
from collections.abc import Sequence

from nbbp import checks
from nbbp.engine.layer import Layer, Spec


@dataclasses.dataclass(frozen=True)
class Reshape(Layer):
    """y = x in another shape, the last axis fastest, as in Keras.

    Parameters
    ----------
    shape : sequence of int
        The shape of a sample; one length may be -1 and then follows from the others.
    """

    shape: Sequence[int]

    def __post_init__(self) -> None:
        lengths = tuple(n if n == -1 else checks.positive_integer("Reshape: shape", n) for n in self.shape)
        if not lengths or lengths.count(-1) > 1:
            raise ValueError(f"Reshape: shape must have lengths, of which one may be -1; got {lengths}")
        object.__setattr__(self, "shape", lengths)

    @classmethod
    def example(cls, x):
        return cls(x.shape)(cls((-1, 1))(x))

    def spec(self, shape):
        size, known = math.prod(shape), math.prod(n for n in self.shape if n != -1)
        if size % known or (-1 not in self.shape and size != known):
            raise ValueError(f"Reshape: samples of shape {shape} have {size} numbers, which do not fit {self.shape}")
        return Spec(tuple(size // known if n == -1 else n for n in self.shape), view=True)


def as_image(x):
    """The features of an edge as an image of one channel, for examples of layers."""
    (features,) = x.shape
    height = next(h for h in range(math.isqrt(features), 0, -1) if features % h == 0)
    return Reshape((height, -1, 1))(x)
