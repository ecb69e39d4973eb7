"""What a layer is."""

import dataclasses
import types
from typing import Any

import numpy as np

from nbbp.initializers import Initializer
from nbbp.program import Program

Shape = tuple[int, ...]
Views = types.SimpleNamespace  # a layer's arrays by their names: p.w, p.b


@dataclasses.dataclass(frozen=True)
class Parameter:
    """A parameter's shape and how its first values are drawn."""

    shape: Shape
    initializer: Initializer


class Layer:
    """A function of a mini-batch, with parameters.

    Shapes are tuples without the batch: (features,), (channels, height, width), (time, features). Arrays have the
    batch as their first axis. Binding appends kernel calls to a program and computes nothing.
    """

    needs_input = True
    """Whether `backward` reads x."""
    needs_output = True
    """Whether `backward` reads y."""
    in_place = False
    """Whether dx overwrites dy, and y overwrites x where nobody reads it later."""
    couples_rows = False
    """Whether, in training, a row's output depends on the other rows of its mini-batch."""

    def expand(self) -> "list[Layer]":
        """The layers that this one stands for: itself, unless it is a shorthand."""
        return [self]

    def output_shape(self, input_shape: Shape) -> Shape:
        """Shape of the output; ValueError where the input does not fit."""
        return input_shape

    def parameters(self, input_shape: Shape) -> dict[str, Parameter]:
        """The trained arrays by name."""
        return {}

    def state(self, input_shape: Shape) -> dict[str, Parameter]:
        """The arrays that are kept from step to step but not trained, by name."""
        return {}

    def check_input(self, name: str, x: np.ndarray) -> None:
        """ValueError where rows of x cannot go into this layer, the first of a network."""

    def penalize(self, program: Program, total: np.ndarray, p: Views, g: Views) -> list[np.ndarray] | None:
        """Bind the calls that add the layer's penalty to total (1,) and its gradient to g.

        Returns the arrays that the penalty is proportional to, where it may change from step to step.
        """
        return None

    def constrain(self, program: Program, p: Views) -> None:
        """Bind the calls that bring p back into its bounds after an update."""

    def forward(self, program: Program, y: np.ndarray, x: np.ndarray, p: Views) -> Any:
        """Bind the calls that overwrite y (batch, *output_shape) from x (batch, *input_shape).

        p has the parameters and the state. What is returned comes back to `backward` as `kept`.
        """
        raise NotImplementedError

    def backward(
        self,
        program: Program,
        dx: np.ndarray | None,
        dy: np.ndarray,
        x: np.ndarray,
        y: np.ndarray,
        p: Views,
        g: Views,
        kept: Any,
    ) -> None:
        """Bind the calls that overwrite the parameters' gradients g and, unless it is None, dx; dy may be spoilt."""
        raise NotImplementedError
