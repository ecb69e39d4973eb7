"""Residual: layers with a skip connection from their input to their output."""

import dataclasses
from collections.abc import Sequence

from nbbp.engine.layer import Layer
from nbbp.engine.node import Scope, within
from nbbp.kernels.forks import cached_property
from nbbp.layers.add import Add
from nbbp.layers.batch_norm import BatchNorm
from nbbp.layers.dense import Dense
from nbbp.layers.dropout import Dropout


@dataclasses.dataclass(frozen=True)
class Residual(Layer):
    """y = x + f(x), where f is a sequence of layers; y = x . w + f(x) if its output has another number of features.

    He et al., "Deep residual learning for image recognition", 2016. It is a composite of its layers, a `Dense` without
    bias named ``projection`` if it is needed, and an `Add`.

    Parameters
    ----------
    layers : sequence of Layer
        The layers of f, from its input on.
    """

    layers: Sequence[Layer]

    def __post_init__(self) -> None:
        object.__setattr__(self, "layers", tuple(self.layers))
        for layer in self.layers:
            if not isinstance(layer, Layer):
                raise TypeError(f"Residual: layers must be nbbp layers, such as nbbp.Dense(10); got {layer!r}")
        if not self.layers:
            raise ValueError("Residual needs at least one layer")

    @classmethod
    def example(cls, x):
        return cls([Dense(6, "tanh"), BatchNorm(), Dropout(0.2), Dense(9)])(x)

    def expand(self, x):
        with within(Scope(self)):
            y = x
            for layer in self.layers:
                y = layer(y)
            if y.shape == x.shape:
                return Add()(x, y)
            with within("projection"):
                carried = self._projection(y.shape[-1])(x)
            return Add()(carried, y)

    def _projection(self, units: int) -> Dense:
        """The same layer each time, so that calls of one Residual share its parameters."""
        return self._projections.setdefault(units, Dense(units, use_bias=False))

    @cached_property
    def _projections(self) -> dict[int, Dense]:
        return {}
