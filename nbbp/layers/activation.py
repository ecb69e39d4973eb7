"""Activation: a function of every element, or of every row, without parameters."""

import dataclasses

from nbbp import checks
from nbbp.activations import ACTIVATIONS
from nbbp.engine.layer import Layer, Spec
from nbbp.kernels.batches import copy


@dataclasses.dataclass(frozen=True)
class Activation(Layer):
    """y = f(x).

    Parameters
    ----------
    name : str
        The name of the function f, one of `nbbp.ACTIVATIONS`.
    """

    name: str

    def __post_init__(self) -> None:
        checks.choose("activation", self.name, ACTIVATIONS)

    @property
    def reads(self):
        return ("y",) if ACTIVATIONS[self.name].from_output else ("x",)

    @classmethod
    def example(cls, x):
        return cls("gelu")(x)

    def spec(self, shape):
        return Spec(shape, in_place=True)

    def forward(self, b):
        activation = ACTIVATIONS[self.name]
        if activation.apart is not None and not b.in_place:
            b.call(activation.apart, b.y.reshape(-1), b.x.reshape(-1))
            return
        if not b.in_place:
            b.call(copy, b.y.reshape(-1), b.x.reshape(-1))
        b.call(activation.forward, activation.shaped(b.y))

    def backward(self, b):
        """dx shares the memory of dy."""
        activation = ACTIVATIONS[self.name]
        b.call(activation.backward, activation.shaped(b.dy), activation.shaped(b.y if activation.from_output else b.x))
