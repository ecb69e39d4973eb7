"""Concatenate: arrays side by side along their features."""

import dataclasses

import numpy as np

from nbbp.engine.layer import Layer, Spec
from nbbp.kernels.batches import put_beside, take_from


@dataclasses.dataclass(frozen=True)
class Concatenate(Layer):
    """y = (x_0, x_1, ...) along the last axis, the features; the other axes have the same lengths."""

    reads = ()

    @classmethod
    def example(cls, x):
        return cls()(x, cls()(x, x))

    def spec(self, *shapes):
        if len(shapes) < 2 or len({shape[:-1] for shape in shapes}) > 1:
            got = ", ".join(map(str, shapes))
            raise ValueError(f"Concatenate takes two or more inputs that differ in features alone, got {got}")
        return Spec((*shapes[0][:-1], sum(shape[-1] for shape in shapes)))

    def _parts(self, b):
        """Each input with its first column in the output."""
        begin = 0
        for source in b.inputs:
            yield source, np.array([begin])
            begin += source.array.shape[-1]

    def forward(self, b):
        y = b.y.reshape(-1, b.y.shape[-1])
        for source, begin in self._parts(b):
            b.call(put_beside, y, source.array.reshape(len(y), -1), begin)

    def backward(self, b):
        dy = b.dy.reshape(-1, b.y.shape[-1])
        for source, begin in self._parts(b):
            if source.gradient is not None:
                b.call(take_from, source.gradient.reshape(len(dy), -1), dy, begin)
