"""Where every parameter lies: names, shapes and offsets in one flat array.

`params`, `grads` and each moment of the optimizer are flat arrays of the same layout, allocated once.
"""

import dataclasses
import math
from collections.abc import Sequence

import numpy as np

from nbbp.layers.base import Layer, Parameter, Shape, Views


@dataclasses.dataclass(frozen=True)
class Place:
    """A layer with its shapes and its parameters' places: short name -> (offset, parameter)."""

    layer: Layer
    name: str
    input_shape: Shape
    output_shape: Shape
    parameters: dict[str, tuple[int, Parameter]]

    def views(self, flat: np.ndarray) -> Views:
        """The layer's arrays within a flat one."""
        return Views(
            **{
                name: flat[offset : offset + math.prod(parameter.shape)].reshape(parameter.shape)
                for name, (offset, parameter) in self.parameters.items()
            }
        )


@dataclasses.dataclass(frozen=True)
class Layout:
    """The places of all layers, from input to output."""

    places: tuple[Place, ...]
    input_shape: Shape
    output_shape: Shape
    size: int

    def named(self, flat: np.ndarray) -> dict[str, np.ndarray]:
        """Views of a flat array by full name, such as ``dense_0.w``."""
        return {f"{place.name}.{name}": view for place in self.places for name, view in vars(place.views(flat)).items()}

    def initial(self, seed: int) -> np.ndarray:
        """First values in float64; each parameter has a stream of random numbers of its own."""
        flat = np.zeros(self.size)
        index = 0
        for place in self.places:
            views = vars(place.views(flat))
            for name, (_, parameter) in place.parameters.items():
                values = parameter.initializer(parameter.shape, np.random.default_rng([seed, index]))
                if not np.isfinite(values).all():
                    raise ValueError(f"the initializer of {place.name}.{name} gave values that are not finite")
                views[name][...] = values
                index += 1
        return flat


def lay_out(layers: Sequence[Layer], input_shape: Shape) -> Layout:
    """Fold over the layers: each takes the shape that the one before it gives."""
    places: list[Place] = []
    counts: dict[str, int] = {}
    shape, size = input_shape, 0
    for layer in (part for whole in layers for part in whole.expand()):
        kind = type(layer).__name__.lower()
        counts[kind] = counts.get(kind, -1) + 1
        parameters = {}
        output_shape = layer.output_shape(shape)
        for name, parameter in layer.parameters(shape).items():
            parameters[name] = (size, parameter)
            size += math.prod(parameter.shape)
        places.append(Place(layer, f"{kind}_{counts[kind]}", shape, output_shape, parameters))
        shape = output_shape
    return Layout(tuple(places), input_shape, shape, size)
