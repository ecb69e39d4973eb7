"""Flatten: all axes of a sample in one."""

import dataclasses
import math

from nbbp.engine.layer import Layer, Spec


@dataclasses.dataclass(frozen=True)
class Flatten(Layer):
    """y = x with all axes of a sample in one, the last one fastest, as in Keras.

    PyTorch's images have their channels first, so that its ``flatten`` gives another order.
    """

    def spec(self, shape):
        return Spec((math.prod(shape),), view=True)
