"""Graphs: a node is one call of a layer, edges are the arrays between nodes."""

import collections
import contextlib
import contextvars
import itertools
import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from nbbp import checks
from nbbp.engine.layer import Layer, Shape, Spec

DTYPES = ("float32", "float64", "uint8", "int32")
"""Of inputs: those of models, bytes such as pixels, and tokens."""


class Edge:
    """An array of a graph: what a layer puts out, or an `Input`. Layers are called on edges and give edges.

    Attributes
    ----------
    shape : tuple of int
        Of a sample.
    node : Node or None
        That puts it out; None for an input.
    index : int
        Among the outputs of its node.
    """

    def __init__(self, shape: Shape, node: "Node | None" = None, index: int = 0) -> None:
        self.shape, self.node, self.index = shape, node, index

    def __repr__(self) -> str:
        return f"<Edge {self.shape}{'' if self.node is None else f' of {self.node.layer!r}'}>"


class Input(Edge):
    """An array that goes into a model.

    Parameters
    ----------
    shape : int or tuple of int
        Of a sample, features last: (features,), (time, features), (height, width, channels).
    dtype : {"float32", "float64", "uint8", "int32"}, optional
        The model's own where it is left out.
    name : str, optional
        By which data may be given in a dict.
    """

    def __init__(self, shape: int | Shape, dtype: str | None = None, name: str | None = None) -> None:
        lengths = tuple(shape) if isinstance(shape, Sequence) else (shape,)
        super().__init__(tuple(checks.positive_integer("Input: shape", n) for n in lengths))
        if dtype is not None:
            checks.choose("dtype", np.dtype(dtype).name, dict.fromkeys(DTYPES))
        self.dtype, self.name = None if dtype is None else np.dtype(dtype), name

    @property
    def positions(self) -> int:
        """Elements of a sample that a mask names: all axes but features; of integers, which are features each, all."""
        tokens = self.dtype is not None and self.dtype.kind == "i"
        return math.prod(self.shape if tokens else self.shape[:-1])

    def __repr__(self) -> str:
        return f"Input({self.shape}, {self.dtype}, {self.name!r})"


class Scope:
    """A layer that stands for others: its kind, and the layer itself."""

    def __init__(self, layer: Layer) -> None:
        self.layer = layer


_scopes: contextvars.ContextVar[tuple["Scope | str", ...]] = contextvars.ContextVar("scopes", default=())
_numbers = itertools.count()


class Node:
    """One call of a layer.

    Attributes
    ----------
    layer : Layer
    inputs, outputs : tuple of Edge
    spec : Spec
    scopes : tuple of Scope or str
        The layers that stand for others within which it was called, the outermost first; a string is its own name.
    number : int
        Nodes of a graph are in the order in which they were called.
    """

    def __init__(self, layer: Layer, inputs: tuple[Edge, ...], spec: Spec) -> None:
        self.layer, self.inputs, self.spec = layer, inputs, spec
        self.scopes, self.number = _scopes.get(), next(_numbers)
        self.outputs = tuple(Edge(shape, self, k) for k, shape in enumerate(spec.outputs))

    def __repr__(self) -> str:
        return f"<Node {self.layer!r}>"

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name != "spec"}  # initializers may be closures

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self.spec = self.layer.spec(*(edge.shape for edge in self.inputs))

    def keeps_positions(self, output: Edge) -> bool:
        """Whether an output has the positions of the first input, and so its mask."""
        return len(output.shape) > 1 and output.shape[:-1] == self.inputs[0].shape[:-1]


@contextlib.contextmanager
def within(scope: Scope | str) -> Iterator[None]:
    """Nodes that are made here have this scope, or this name instead of one by kind and number."""
    token = _scopes.set((*_scopes.get(), scope))
    try:
        yield
    finally:
        _scopes.reset(token)


def connect(layer: Layer, inputs: Sequence[Edge]) -> Any:
    """Call a layer: its output as an edge, or a tuple of several."""
    for edge in inputs:
        if not isinstance(edge, Edge):
            raise TypeError(
                f"a layer is called on edges, such as nbbp.Input((4,)), not on data: got {type(edge).__name__}; "
                f"a model computes with data"
            )
    expanded = layer.expand(*inputs)
    if expanded is not NotImplemented:
        return expanded
    node = Node(layer, tuple(inputs), layer.spec(*(edge.shape for edge in inputs)))
    return node.outputs[0] if len(node.outputs) == 1 else node.outputs


def kind(layer: Layer) -> str:
    """Name of a layer's class in paths, such as ``dense``."""
    return type(layer).__name__.lower()


class Graph:
    """The nodes between some inputs and outputs.

    Parameters
    ----------
    inputs : sequence of Input
    outputs : sequence of Edge
    shares : bool
        Whether a layer that is called twice has one set of parameters, or one for each call.

    Attributes
    ----------
    nodes : tuple of Node
        Each after those whose outputs it takes.
    names : dict of Node to str
        Paths such as ``residual_0.dense_0``.
    owners : dict of Node to Node
        The node whose parameters each has: its own, or those of the first call of its layer.
    consumers : dict of Edge to list of Node
    """

    def __init__(self, inputs: Sequence[Input], outputs: Sequence[Edge], shares: bool = True) -> None:
        self.inputs, self.outputs = tuple(inputs), tuple(outputs)
        found: dict[int, Node] = {}
        waiting = list(outputs)
        while waiting:
            edge = waiting.pop()
            if edge.node is None and edge not in self.inputs:
                raise ValueError(f"{edge!r} leads to an output and is not among the inputs")
            if edge.node is not None and edge.node.number not in found:
                found[edge.node.number] = edge.node
                waiting.extend(edge.node.inputs)
        self.nodes = tuple(found[number] for number in sorted(found))
        used = {edge for node in self.nodes for edge in node.inputs} | set(self.outputs)
        for edge in self.inputs:
            if edge not in used:
                raise ValueError(f"{edge!r} leads to no output")
        self.names = dict(self._named())
        first: dict[int, Node] = {}
        self.owners = {n: first.setdefault(id(n.layer), n) if shares else n for n in self.nodes}
        self.consumers: dict[Edge, list[Node]] = {}
        for node in self.nodes:
            for edge in node.inputs:
                self.consumers.setdefault(edge, []).append(node)

    def _named(self) -> Iterator[tuple[Node, str]]:
        given = {node.scopes[0] for node in self.nodes if node.scopes and isinstance(node.scopes[0], str)}
        taken = {name.partition(".")[0] for name in given}
        counts: collections.Counter[str] = collections.Counter()
        scopes: dict[int, str] = {}
        used: set[str] = set()

        def numbered(path: str, layer: Layer) -> str:
            row = f"{path}{kind(layer)}_"
            number = next(n for n in itertools.count(counts[row]) if f"{row}{n}" not in taken)
            counts[row] = number + 1
            return f"{row}{number}"

        for node in self.nodes:
            path, name = "", None
            for scope in node.scopes:
                if isinstance(scope, str):
                    name = f"{path}{scope}"
                    break
                if id(scope) not in scopes:
                    scopes[id(scope)] = numbered(path, scope.layer) + "."
                path = scopes[id(scope)]
            if name is None or name in used:  # the nodes of two files may have one name
                name = numbered(path, node.layer)
            used.add(name)
            yield node, name

    def top(self, node: Node) -> str:
        """First part of a node's path: the layer that stands for it and others, or itself."""
        return self.names[node].partition(".")[0]

    def mask_of(self, edge: Edge) -> int | None:
        """The input whose mask runs along to an edge; None where the edge has no positions, or others."""
        while edge.node is not None:
            if not edge.node.keeps_positions(edge):
                return None
            edge = edge.node.inputs[0]
        return self.inputs.index(edge)  # type: ignore[arg-type]

    @property
    def couples_rows(self) -> bool:
        """Whether rows of a mini-batch have to go through the graph together."""
        return any(node.spec.couples_rows for node in self.nodes)


def chain(entry: Input, layers: Sequence[Layer]) -> Graph:
    """Layers in a row; one that stands there twice has two sets of parameters."""
    edge: Edge = entry
    for layer in layers:
        edge = layer(edge)
    return Graph([entry], [edge], shares=False)
