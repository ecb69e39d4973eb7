"""Add: the sum of arrays."""

import dataclasses

from nbbp.engine.layer import Layer, Spec
from nbbp.engine.node import Shape
from nbbp.kernels.batches import accumulate, add, copy


def same_shape(name: str, shapes: tuple[Shape, ...]) -> Shape:
    """The common shape of all inputs; ValueError if their shapes differ, or there are fewer than two."""
    if len(shapes) < 2 or len(set(shapes)) > 1:
        raise ValueError(f"{name} takes two or more inputs of one shape, got {', '.join(map(str, shapes))}")
    return shapes[0]


@dataclasses.dataclass(frozen=True)
class Add(Layer):
    """y = x_0 + x_1 + ..., where all inputs have the same shape."""

    reads = ()

    @classmethod
    def example(cls, x):
        return cls()(x, cls()(x, x))

    def spec(self, *shapes):
        return Spec(same_shape("Add", shapes), in_place=True)

    def forward(self, b):
        y, first, *others = (array.reshape(-1) for array in (b.y, *(x.array for x in b.inputs)))
        if not b.in_place:
            b.call(add, y, first, others.pop(0))
        for other in others:
            b.call(accumulate, y, other)

    def backward(self, b):
        """The gradient of the first input shares the memory of dy."""
        for other in b.inputs[1:]:
            if other.gradient is not None:
                b.call(copy, other.gradient.reshape(-1), b.dy.reshape(-1))
