"""Activation: a function of every element, or of every row, without parameters."""

import dataclasses

from nbbp import checks
from nbbp.activations import ACTIVATIONS
from nbbp.engine.layer import Layer
from nbbp.engine.program import copy


@dataclasses.dataclass(frozen=True)
class Activation(Layer):
    """y = f(x).

    Parameters
    ----------
    name : str
        One of `nbbp.ACTIVATIONS`.
    """

    name: str

    in_place = True

    def __post_init__(self) -> None:
        checks.choose("activation", self.name, ACTIVATIONS)

    @property
    def needs_input(self):
        return not ACTIVATIONS[self.name].from_output

    @property
    def needs_output(self):
        return ACTIVATIONS[self.name].from_output

    def forward(self, program, y, x, p):
        activation = ACTIVATIONS[self.name]
        if y is not x:
            program.call(copy, y.reshape(-1), x.reshape(-1))
        program.call(activation.forward, activation.shaped(y))

    def backward(self, program, dx, dy, x, y, p, g, kept):
        activation = ACTIVATIONS[self.name]
        program.call(activation.backward, activation.shaped(dy), activation.shaped(y if activation.from_output else x))
