"""The layers of a network with their arrays, and how arrays from elsewhere get into a model."""

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np

from nbbp.engine.layer import Shape
from nbbp.engine.layout import Layout, lay_out
from nbbp.layers import Embedding, Layer, Residual
from nbbp.model import Sequential


@dataclasses.dataclass(frozen=True)
class Part:
    """A layer with its full name, the shape of a sample that goes in, and its parameters and state.

    `arrays` are views into the network's flat arrays by short names, such as ``w``.
    """

    name: str
    layer: Any  # a Layer
    input_shape: Shape
    arrays: dict[str, np.ndarray]

    def inside(self) -> "tuple[list[Part], np.ndarray | None]":
        """Of a Residual: the layers within, and the projection (n_in, n_out) around them where there is one."""
        assert isinstance(self.layer, Residual)
        places = lay_out(self.layer.layers, self.input_shape).places
        within = [
            Part(
                f"{self.name}.{place.name}",
                place.layer,
                place.input_shape,
                {key: self.arrays[f"{place.name}.{key}"] for key in place.parameters | place.state},
            )
            for place in places
        ]
        return within, self.arrays.get("projection.w")


def parts(layout: Layout, params: np.ndarray, state: np.ndarray) -> list[Part]:
    """The layers from input to output, with views into these flat arrays."""
    return [
        Part(place.name, place.layer, place.input_shape, vars(place.views(params, state))) for place in layout.places
    ]


def parts_of(model: Sequential) -> list[Part]:
    """The layers of a built model from input to output."""
    check(model)
    return parts(model.network.layout, model.params, model.network.state)


def check(model) -> None:
    if not isinstance(model, Sequential):
        raise TypeError(f"model must be an nbbp.Sequential, got {model!r}")


def writer(table: dict[type[Layer], Callable], part: Part, kind: str, path: str) -> Callable:
    """What writes this layer; the class itself counts, for a subclass may compute something else."""
    if type(part.layer) not in table:
        name = type(part.layer).__name__
        raise ValueError(f"{part.name}: how {name} is written as {kind} is not known; enter it in {path}[{name}]")
    return table[type(part.layer)]


def fill(model: Sequential, features: int | None, assign: Callable[[list[Part]], None]) -> Sequential:
    """The model with arrays that `assign` writes into its parts; where that raises, the model stays as it was.

    `features` build a model that is not built yet. Optimizer, averages and pruning begin anew.
    """
    if model._network is not None:
        layout = model.network.layout
    elif features is None or any(isinstance(layer, Embedding) for layer in model.layers):
        raise RuntimeError("the number of features does not show in the weights: call model.build(features) first")
    else:
        layout = lay_out(model.layers, (features,))
    params, state = np.zeros(layout.size, model.dtype), np.zeros(layout.state_size, model.dtype)
    with np.errstate(over="ignore"):
        assign(parts(layout, params, state))
    if not (np.isfinite(params).all() and np.isfinite(state).all()):
        raise ValueError(f"weights must be finite, in {model.dtype} too")
    model._build(layout.input_shape, params, state)
    return model
