"""The layers, by name."""

from nbbp.layers.activation import Activation
from nbbp.layers.base import Layer, Parameter
from nbbp.layers.dense import Dense

LAYERS: dict[str, type[Layer]] = {
    "activation": Activation,
    "dense": Dense,
}

__all__ = ["LAYERS", "Activation", "Dense", "Layer", "Parameter"]
