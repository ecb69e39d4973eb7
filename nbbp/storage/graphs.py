"""Graphs as plain values for JSON, and back: layers, and for each node whose outputs it takes."""

from collections.abc import Callable
from typing import Any

import numpy as np

from nbbp.engine.forms import Form
from nbbp.engine.graph import Graph
from nbbp.engine.layer import Layer
from nbbp.engine.node import Edge, Input, connect, within
from nbbp.storage.description import describe, restore


def describe_input(entry: Input) -> dict:
    """Shape, dtype and name."""
    return {"input": list(entry.shape), "dtype": None if entry.dtype is None else entry.dtype.name, "name": entry.name}


def restore_input(description: Any) -> Input | None:
    """The input; None where something else is described."""
    if not isinstance(description, dict) or "input" not in description:
        return None
    shape, dtype, name = (description[key] for key in ("input", "dtype", "name"))
    if not (name is None or isinstance(name, str)) or not (dtype is None or isinstance(dtype, str)):
        raise ValueError(f"{description!r} is no input")
    return Input(tuple(shape), None if dtype is None else np.dtype(dtype).name, name)


def describe_graph(inputs: Any, outputs: Any) -> dict:
    """What `restore_graph` takes."""
    entries, ends = Form("input", inputs), Form("output", outputs)
    graph = Graph(entries.things, ends.things)
    numbers: dict[Edge, list[int]] = {edge: [k] for k, edge in enumerate(graph.inputs)}
    layers: dict[int, int] = {}
    described: list[dict] = []
    nodes: list[dict] = []
    for k, node in enumerate(graph.nodes):
        if id(node.layer) not in layers:
            layers[id(node.layer)] = len(described)
            described.append(describe(node.layer))
        sources = [numbers[edge] for edge in node.inputs]
        nodes.append({"layer": layers[id(node.layer)], "inputs": sources, "name": graph.names[node]})
        numbers |= {edge: [len(graph.inputs) + k, edge.index] for edge in node.outputs}
    return {
        "inputs": _formed(inputs, entries, describe_input), "layers": described, "nodes": nodes,
        "outputs": _formed(outputs, ends, lambda edge: numbers[edge]),
    }  # fmt: skip


def restore_graph(description: dict) -> tuple[Any, Any]:
    """Inputs and outputs, in the form in which they were given."""
    inputs = _unformed(description["inputs"], restore_input)
    layers = [restore(layer, Layer) for layer in description["layers"]]
    found: list[tuple[Edge, ...]] = [(edge,) for edge in Form("input", inputs).things]

    def edge(reference: list[int]) -> Edge:
        if not all(type(number) is int and number >= 0 for number in reference):
            raise ValueError(f"{reference!r} names no edge")
        return found[reference[0]][reference[1] if len(reference) > 1 else 0]

    for node in description["nodes"]:
        if not isinstance(node["name"], str):
            raise ValueError(f"{node['name']!r} is no name")
        with within(node["name"]):
            outputs = connect(layers[node["layer"]], [edge(source) for source in node["inputs"]])
        found.append(outputs if isinstance(outputs, tuple) else (outputs,))
    return inputs, _unformed(description["outputs"], edge)


def _formed(given: Any, form: Form, function: Callable[[Any], Any]) -> dict:
    """One thing, a list or a dict, described."""
    things = [function(thing) for thing in form.things]
    if isinstance(given, dict):
        return {"names": [str(name) for name in given], "things": things}
    return {"list": things} if isinstance(given, list | tuple) else {"one": things[0]}


def _unformed(described: dict, function: Callable[[Any], Any]) -> Any:
    if "names" in described:
        return {name: function(thing) for name, thing in zip(described["names"], described["things"], strict=True)}
    return [function(thing) for thing in described["list"]] if "list" in described else function(described["one"])
