"""The layers of a network with their arrays, and how arrays from elsewhere get into a model."""

import dataclasses
import itertools
from collections.abc import Callable
from typing import Any

import numpy as np

from nbbp.engine.graph import chain
from nbbp.engine.layout import Layout
from nbbp.engine.node import Input, Node, Scope, Shape
from nbbp.layers import Embedding, Layer
from nbbp.sequential import Sequential


@dataclasses.dataclass(frozen=True)
class Part:
    """A layer with its full name, the shape of a sample that goes in, and its parameters and state.

    `arrays` are views into the network's flat arrays by short names, such as ``w``. A layer that stands for others has
    those within, and the projection (n_in, n_out) around them where there is one.
    """

    name: str
    layer: Any  # a Layer
    input_shape: Shape
    arrays: dict[str, np.ndarray]
    within: "tuple[Part, ...]" = ()
    projection: np.ndarray | None = None

    def inside(self) -> "tuple[tuple[Part, ...], np.ndarray | None]":
        """Of a Residual: the layers within, and the projection."""
        return self.within, self.projection


def parts(layout: Layout, params: np.ndarray, state: np.ndarray) -> list[Part]:
    """The layers from input to output, with views into these flat arrays."""
    return _parts(list(layout.graph.nodes), 0, layout, params, state)


def _parts(nodes: list[Node], depth: int, layout: Layout, params: np.ndarray, state: np.ndarray) -> list[Part]:
    """Those of nodes within the same `depth` scopes."""
    found = []
    for scope, group in itertools.groupby(nodes, lambda node: node.scopes[depth] if len(node.scopes) > depth else None):
        members = list(group)
        if isinstance(scope, Scope):
            found.append(_stands_for(scope.layer, members, depth, layout, params, state))
        else:
            found += [_own(node, layout, params, state) for node in members]
    return found


def _own(node: Node, layout: Layout, params: np.ndarray, state: np.ndarray) -> Part:
    arrays = vars(layout.of(node).views(params, state))
    return Part(layout.graph.names[node], node.layer, node.inputs[0].shape, arrays)


def _stands_for(layer: Layer, nodes: list[Node], depth: int, layout: Layout, params, state) -> Part:
    *inner, _ = nodes  # the last is the Add
    projection = None
    if inner and inner[-1].scopes[depth + 1 :] == ("projection",):
        projection = layout.of(inner.pop()).views(params).w
    within = _parts(inner, depth + 1, layout, params, state)
    name = ".".join(layout.graph.names[nodes[0]].split(".")[: depth + 1])
    return Part(name, layer, nodes[0].inputs[0].shape, {}, tuple(within), projection)


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
    if model.is_built:
        shape = model.network.graph.inputs[0].shape
    elif features is None or any(isinstance(layer, Embedding) for layer in model.layers):
        raise RuntimeError("the number of features does not show in the weights: call model.build(features) first")
    else:
        shape = (features,)
    layout = Layout(chain(Input(shape), model.layers))
    params, state = np.zeros(layout.size, model.dtype), np.zeros(layout.state_size, model.dtype)
    with np.errstate(over="ignore"):
        assign(parts(layout, params, state))
    if not (np.isfinite(params).all() and np.isfinite(state).all()):
        raise ValueError(f"weights must be finite, in {model.dtype} too")
    model.build(shape, params, state)
    return model
