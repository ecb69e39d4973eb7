"""The layout of the parameters: names, shapes and offsets in one flat array.

`params`, `grads` and each moment of the optimizer are flat arrays of the same layout, allocated once.
"""

import dataclasses
import itertools
import math
from collections.abc import Iterator

import numpy as np

from nbbp.engine.graph import Graph
from nbbp.engine.layer import Layer, Parameter, Views
from nbbp.engine.node import Node, Shape


@dataclasses.dataclass(frozen=True)
class Place:
    """A node with its shapes, and the offsets of its parameters and its state: short name -> (offset, parameter)."""

    node: Node
    name: str
    parameters: dict[str, tuple[int, Parameter]]
    state: dict[str, tuple[int, Parameter]]

    @property
    def layer(self) -> Layer:
        return self.node.layer

    @property
    def range(self) -> slice:
        """The node's parameters within the flat array."""
        first = min((offset for offset, _ in self.parameters.values()), default=0)
        return slice(first, first + sum(math.prod(parameter.shape) for _, parameter in self.parameters.values()))

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


class Layout:
    """The offsets of all parameters of a graph, in the order of its nodes.

    Attributes
    ----------
    graph : Graph
    places : tuple of Place
        The places of the nodes that own their parameters.
    size, state_size : int
        The sizes of the flat arrays.
    """

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.size = self.state_size = 0
        self._of: dict[Node, Place] = {}
        for node in graph.nodes:
            if graph.owners[node] is node:
                parameters, self.size = _placed(node.spec.parameters, self.size)
                state, self.state_size = _placed(node.spec.state, self.state_size)
                self._of[node] = Place(node, graph.names[node], parameters, state)
        self.places = tuple(self._of.values())

    def of(self, node: Node) -> Place:
        """The place of a node's parameters, which it may share with another node."""
        return self._of[self.graph.owners[node]]

    def slices(self) -> Iterator[tuple[str, int, Parameter]]:
        """Full name, offset in the flat array and description of every parameter, in the order of the layout."""
        for place in self.places:
            for name, (offset, parameter) in place.parameters.items():
                yield f"{place.name}.{name}", offset, parameter

    def named(self, flat: np.ndarray, state: np.ndarray | None = None) -> dict[str, np.ndarray]:
        """Views of a flat array, and of the state if it is given, by full name, such as ``dense_0.w``."""
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
        """Initial parameters and state in float64; each array has a stream of random numbers of its own.

        The streams are numbered layer by layer: first a layer's parameters with its sublayers', then its state.
        """
        params, state = np.zeros(self.size), np.zeros(self.state_size)
        index = itertools.count()
        for _, group in itertools.groupby(self.places, lambda place: self.graph.top(place.node)):
            places = list(group)
            for kind in ("parameters", "state"):
                for place in places:
                    views = vars(place.views(params, state))
                    for name, (_, parameter) in getattr(place, kind).items():
                        values = parameter.initializer(parameter.shape, np.random.default_rng([seed, next(index)]))
                        if not np.isfinite(values).all():
                            raise ValueError(f"the initializer of {place.name}.{name} gave values that are not finite")
                        views[name][...] = values
        return params, state


def _placed(arrays: dict[str, Parameter], offset: int) -> tuple[dict[str, tuple[int, Parameter]], int]:
    """The arrays one after another from `offset` on, and where they end."""
    places = {}
    for name, parameter in arrays.items():
        places[name] = (offset, parameter)
        offset += math.prod(parameter.shape)
    return places, offset
