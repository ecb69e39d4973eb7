"""Queries of exporters, which write a model's nodes into a file one after another."""

from collections.abc import Mapping
from typing import Any, TypeVar

import numpy as np

from nbbp.engine.layer import Layer
from nbbp.engine.node import Node
from nbbp.layers import Crop2D
from nbbp.model import Model

Entry = TypeVar("Entry")


def check(model: Any) -> None:
    """TypeError if `model` is not a model."""
    if not isinstance(model, Model):
        raise TypeError(f"model must be an nbbp.Model or nbbp.Sequential, got {model!r}")


def input_names(model: Model) -> list[str]:
    """The names by which inputs are given, or their own names; ``X`` for a single input without a name."""
    form = model.inputs
    if isinstance(form.given, Mapping):
        return form.names
    return [edge.name or name or "X" for edge, name in zip(model.network.graph.inputs, form.names, strict=True)]


def output_names(model: Model) -> list[str]:
    """The names of the outputs; ``predictions`` for a single output."""
    return [name or "predictions" for name in model.outputs.names]


def output_activations(model: Model) -> list[str]:
    """The activation that turns each output into predictions."""
    return model.built.measure.activations


def parameters(model: Model, node: Node) -> dict[str, str]:
    """Full names of a node's parameters and state, by their short ones: ``{"w": "dense_0.w"}``."""
    place = model.network.layout.of(node)
    return {key: f"{place.name}.{key}" for key in (*place.parameters, *place.state)}


def margins(node: Node) -> tuple[int, int]:
    """The number of rows above and of columns to the left that a crop leaves out in prediction."""
    if isinstance(node.layer, Crop2D):
        (top, _), (left, _) = node.layer.cropping  # type: ignore[misc]
        return top, left
    (height, width, _), (high, wide, _) = node.inputs[0].shape, node.outputs[0].shape
    return (height - high) // 2, (width - wide) // 2


def outputs_first(array: np.ndarray) -> np.ndarray:
    """Weights (*window, inputs, outputs) as other programs have them, (outputs, inputs, *window); a vector as it is."""
    axes = range(array.ndim)
    return array.transpose(*axes[:-3:-1], *axes[:-2])


def of_layer(table: dict[type[Layer], Entry], model: Model, node: Node, kind: str, path: str) -> Entry:
    """The table's entry for a node's layer, by its exact class: a subclass may compute something else."""
    if type(node.layer) not in table:
        name, node_name = type(node.layer).__name__, model.network.graph.names[node]
        raise ValueError(f"{node_name}: how {name} is written as {kind} is not known; enter it in {path}[{name}]")
    return table[type(node.layer)]


def of_activation(table: dict[str, Entry], name: str, kind: str, path: str) -> Entry:
    """The table's entry for an activation."""
    if name not in table:
        raise ValueError(f"how the activation {name} is written as {kind} is not known; enter it in {path}[{name!r}]")
    return table[name]
