"""Conversion of graphs to plain values for JSON, and back: layers, and the inputs of each node."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from nbbp.engine.forms import Form
from nbbp.engine.graph import Graph
from nbbp.engine.layer import Layer
from nbbp.engine.node import Edge, Input, connect, within
from nbbp.storage.description import describe, restore


def describe_input(entry: Input) -> dict:
    """The shape, dtype and name of an input."""
    return {"input": list(entry.shape), "dtype": None if entry.dtype is None else entry.dtype.name, "name": entry.name}


def restore_input(description: Any) -> Input:
    """The input that was described."""
    shape, dtype, name = (description[key] for key in ("input", "dtype", "name"))
    if not isinstance(shape, list) or not all(value is None or isinstance(value, str) for value in (dtype, name)):
        raise ValueError(f"{description!r} is no input")
    return Input(tuple(shape), dtype, name)


def describe_graph(inputs: Any, outputs: Any) -> dict:
    """The description that `restore_graph` takes."""
    entries, ends = Form("input", inputs), Form("output", outputs)
    graph = Graph(entries.things, ends.things)
    numbers: dict[Edge, list[int]] = {edge: [k, 0] for k, edge in enumerate(graph.inputs)}
    layers: dict[int, int] = {}
    described: list[dict] = []
    before: list[Layer] = []
    nodes = []
    for k, node in enumerate(graph.nodes, len(graph.inputs)):
        if id(node.layer) not in layers:
            layers[id(node.layer)] = len(described)
            described.append(describe(node.layer, before))
        sources = [numbers[edge] for edge in node.inputs]
        nodes.append({"layer": layers[id(node.layer)], "inputs": sources, "name": graph.names[node]})
        numbers |= {edge: [k, edge.index] for edge in node.outputs}
    return {
        "inputs": _formed(inputs, entries, describe_input), "layers": described, "nodes": nodes,
        "outputs": _formed(outputs, ends, lambda edge: numbers[edge]),
    }  # fmt: skip


def restore_graph(description: dict) -> tuple[Any, Any]:
    """Inputs and outputs, in the form in which they were given.

    A node takes only outputs of inputs and of earlier nodes, so there are no cycles.
    """
    inputs = _unformed(description["inputs"], restore_input)
    before: list[Layer] = []
    layers = [restore(layer, Layer, before) for layer in description["layers"]]
    found: list[tuple[Edge, ...]] = [(edge,) for edge in Form("input", inputs).things]

    def edge(reference: list[int]) -> Edge:
        number, index = reference
        return _entry(_entry(found, number), index)

    for node in description["nodes"]:
        name = node["name"]
        if not isinstance(name, str) or not all(part.isidentifier() for part in name.split(".")):
            raise ValueError(f"{name!r} is no name of a node, such as dense_0")
        with within(name):
            outputs = connect(_entry(layers, node["layer"]), [edge(source) for source in node["inputs"]])
        found.append(outputs if isinstance(outputs, tuple) else (outputs,))
    return inputs, _unformed(description["outputs"], edge)


def _entry(things: Sequence[Any], number: Any) -> Any:
    if type(number) is not int or not 0 <= number < len(things):
        raise ValueError(f"{number!r} is none of {len(things)} inputs, layers, nodes or outputs that come before")
    return things[number]


def _formed(given: Any, form: Form, function: Callable[[Any], Any]) -> dict:
    """The description of a single item, a list or a dict."""
    things = [function(thing) for thing in form.things]
    if isinstance(given, Mapping):
        return {"names": list(given), "things": things}
    return {"list": things} if isinstance(given, list | tuple) else {"one": things[0]}


def _unformed(described: dict, function: Callable[[Any], Any]) -> Any:
    if "names" in described:
        return {name: function(thing) for name, thing in zip(described["names"], described["things"], strict=True)}
    return [function(thing) for thing in described["list"]] if "list" in described else function(described["one"])
