"""Activation: a function of every element, or of every row, without parameters."""

import dataclasses

from nbbp import checks
from nbbp.activations import ACTIVATIONS
from nbbp.layers.base import Layer


@dataclasses.dataclass(frozen=True)
class Activation(Layer):
    """y = f(x).

    Parameters
    ----------
    name : str
        One of `nbbp.ACTIVATIONS`.
    """

    name: str

    def __post_init__(self) -> None:
        checks.choose("activation", self.name, ACTIVATIONS)

    @property
    def needs_input(self):
        return not ACTIVATIONS[self.name].from_output

    @property
    def needs_output(self):
        return ACTIVATIONS[self.name].from_output

    def forward(self, program, y, x, p):
        program.call(ACTIVATIONS[self.name].forward, *self._shaped(y, x))

    def backward(self, program, dx, dy, x, y, p, g):
        if dx is not None:
            program.call(ACTIVATIONS[self.name].backward, *self._shaped(dx, dy, x, y))

    def _shaped(self, *arrays):
        """Flat, or as rows of the last axis."""
        rows = (-1,) if ACTIVATIONS[self.name].elementwise else (-1, arrays[0].shape[-1])
        return [array.reshape(rows) for array in arrays]
