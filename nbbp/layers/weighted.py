"""What layers of weights share: a bias, an activation, and how the weights begin and are held small."""

import dataclasses
from typing import Any

import numpy as np

from nbbp import checks
from nbbp.activations import ACTIVATIONS
from nbbp.engine.layer import Binding, Layer, Parameter
from nbbp.engine.node import Shape
from nbbp.initializers import INITIALIZERS, Initializer, named, zeros
from nbbp.kernels.forks import cached_property
from nbbp.layers.activation import Activation


class Weighted(Layer):
    """A layer of weights w, a bias b and an activation; the dataclass of each kind has these settings as fields."""

    activation: str
    use_bias: bool
    initializer: str | Initializer
    l1: float
    l2: float
    max_norm: float | None

    reads = ("x",)

    def check_settings(self) -> None:
        """ValueError or TypeError if a setting is not what it should be."""
        kind = type(self).__name__
        checks.boolean(f"{kind}: use_bias", self.use_bias)
        checks.choose("activation", self.activation, ACTIVATIONS)
        checks.number(f"{kind}: l1", self.l1)
        checks.number(f"{kind}: l2", self.l2)
        if self.max_norm is not None:
            checks.number(f"{kind}: max_norm", self.max_norm, open_low=True)
        if not callable(self.initializer):
            checks.choose("initializer", self.initializer, INITIALIZERS)

    def expand(self, x):
        if self.activation == "linear":
            return NotImplemented
        product, activation = self._parts
        return activation(product(x))

    @cached_property
    def _parts(self: Any) -> tuple[Layer, Activation]:
        """The same two layers each time, so that calls of one layer share its parameters."""
        return dataclasses.replace(self, activation="linear"), Activation(self.activation)

    def parameters(self, weights_shape: Shape, outputs: int) -> dict[str, Parameter]:
        """The parameters: w, and b (outputs,)."""
        bias = {"b": Parameter((outputs,), zeros)} if self.use_bias else {}
        return {"w": Parameter(weights_shape, named(self.initializer), self.l1, self.l2, self.max_norm)} | bias

    def bias(self, b: Binding, outputs: int) -> np.ndarray:
        """The bias (outputs,), or zeros."""
        return b.p.b if self.use_bias else b.buffer(outputs)
