"""Bidirectional: a recurrent layer in both directions of time."""

import dataclasses

from nbbp.engine.layer import Layer
from nbbp.engine.node import Scope, within
from nbbp.kernels.forks import cached_property
from nbbp.layers.concatenate import Concatenate
from nbbp.layers.lstm import LSTM
from nbbp.layers.recurrent import Recurrent
from nbbp.layers.reshape import Reshape


@dataclasses.dataclass(frozen=True)
class Bidirectional(Layer):
    """The outputs of a layer from the first step on and of another from the last step on, joined at each step.

    Schuster and Paliwal, "Bidirectional recurrent neural networks", 1997. It is a composite of the layer, of one like
    it that goes backwards, and of a `Concatenate`: an output has twice the units.

    Parameters
    ----------
    layer : Recurrent
        A `SimpleRNN`, `GRU` or `LSTM`.
    """

    layer: Recurrent

    def __post_init__(self) -> None:
        if not isinstance(self.layer, Recurrent):
            raise TypeError(f"Bidirectional takes a SimpleRNN, GRU or LSTM, got {self.layer!r}")
        if self.layer.return_state or self.layer.stateful or self.layer.backwards:
            raise ValueError("Bidirectional takes a layer without return_state, stateful and backwards")

    @classmethod
    def example(cls, x):
        return cls(LSTM(3))(Reshape((-1, 1))(x))

    def expand(self, x):
        with within(Scope(self)):
            with within("forward"):
                there = self.layer(x)
            with within("backward"):
                back = self._backwards(x)
            return Concatenate()(there, back)

    @cached_property
    def _backwards(self) -> Recurrent:
        """The same layer each time, so that calls of one Bidirectional share its parameters."""
        return dataclasses.replace(self.layer, backwards=True)
