"""Where every parameter lies: names, shapes and offsets in one flat array.

`params`, `grads` and each moment of the optimizer are flat arrays of the same layout, allocated once.
"""

import dataclasses
import math
from collections.abc import Iterator, Sequence

import numpy as np

from nbbp.engine.layer import Layer, Parameter, Shape, Views


@dataclasses.dataclass(frozen=True)
class Place:
    """A layer with its shapes, and the places of its parameters and of its state: short name -> (offset, parameter)."""

    layer: Layer
    name: str
    input_shape: Shape
    output_shape: Shape
    parameters: dict[str, tuple[int, Parameter]]
    state: dict[str, tuple[int, Parameter]]

    def views(self, params: np.ndarray, state: np.ndarray | None = None) -> Views:
        """The layer's arrays within the flat ones."""
        pairs = [(params, self.parameters)] + ([(state, self.state)] if state is not None else [])
        return Views(
            **{
                name: flat[offset : offset + math.prod(parameter.shape)].reshape(parameter.shape)
                for flat, places in pairs
                for name, (offset, parameter) in places.items()
            }
        )


@dataclasses.dataclass(frozen=True)
class Layout:
    """The places of all layers, from input to output."""

    places: tuple[Place, ...]
    input_shape: Shape
    output_shape: Shape
    size: int
    state_size: int

    @property
    def couples_rows(self) -> bool:
        """Whether rows of a mini-batch have to go through the network together."""
        return any(place.layer.couples_rows for place in self.places)

    def named(self, flat: np.ndarray, state: np.ndarray | None = None) -> dict[str, np.ndarray]:
        """Views of a flat array, and of the state where it is given, by full name, such as ``dense_0.w``."""
        return {
            f"{place.name}.{name}": view
            for place in self.places
            for name, view in vars(place.views(flat, state)).items()
        }

    def shapes(self) -> dict[str, Shape]:
        """Shapes of all parameters and of the state by full name."""
        return {
            f"{place.name}.{name}": parameter.shape
            for place in self.places
            for name, (_, parameter) in (place.parameters | place.state).items()
        }

    def initial(self, seed: int) -> tuple[np.ndarray, np.ndarray]:
        """First parameters and state in float64; each parameter has a stream of random numbers of its own."""
        params, state = np.zeros(self.size), np.zeros(self.state_size)
        index = 0
        for place in self.places:
            views = vars(place.views(params, state))
            for name, (_, parameter) in (place.parameters | place.state).items():
                values = parameter.initializer(parameter.shape, np.random.default_rng([seed, index]))
                if not np.isfinite(values).all():
                    raise ValueError(f"the initializer of {place.name}.{name} gave values that are not finite")
                views[name][...] = values
                index += 1
        return params, state


def named(layers: Sequence[Layer]) -> Iterator[tuple[str, Layer]]:
    """The layers that these stand for, with names such as ``dense_0``."""
    counts: dict[str, int] = {}
    for layer in (part for whole in layers for part in whole.expand()):
        kind = type(layer).__name__.lower()
        counts[kind] = counts.get(kind, -1) + 1
        yield f"{kind}_{counts[kind]}", layer


def lay_out(layers: Sequence[Layer], input_shape: Shape) -> Layout:
    """Fold over the layers: each takes the shape that the one before it gives."""
    places: list[Place] = []
    shape, size, state_size = input_shape, 0, 0
    for name, layer in named(layers):
        output_shape = layer.output_shape(shape)
        parameters, size = _placed(layer.parameters(shape), size)
        state, state_size = _placed(layer.state(shape), state_size)
        places.append(Place(layer, name, shape, output_shape, parameters, state))
        shape = output_shape
    return Layout(tuple(places), input_shape, shape, size, state_size)


def _placed(arrays: dict[str, Parameter], offset: int) -> tuple[dict[str, tuple[int, Parameter]], int]:
    """The arrays one after another from `offset` on, and where they end."""
    places = {}
    for name, parameter in arrays.items():
        places[name] = (offset, parameter)
        offset += math.prod(parameter.shape)
    return places, offset
