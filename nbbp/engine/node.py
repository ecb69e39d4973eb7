"""Nodes and edges of a graph: a node is one call of a layer, edges are the arrays between nodes."""

import contextlib
import contextvars
import itertools
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from nbbp import checks

if TYPE_CHECKING:
    from nbbp.engine.layer import Layer, Spec

Shape = tuple[int, ...]
DTYPES = ("uint8", "int32")
"""The dtypes of inputs other than the model's dtype: bytes, such as pixels, and tokens."""


class Edge:
    """An array of a graph: an output of a layer, or an `Input`. Layers are called on edges and return edges.

    Attributes
    ----------
    shape : tuple of int
        The shape of a sample.
    node : Node or None
        The node that computes it; None for an input.
    index : int
        Its index among the outputs of its node.
    dtype : dtype or None
        None for the model's dtype; only inputs, and views of them, have others.
    """

    def __init__(self, shape: Shape, node: "Node | None" = None, index: int = 0, dtype=None) -> None:
        self.shape, self.node, self.index = shape, node, index
        self.dtype = None if dtype is None else np.dtype(dtype)

    @property
    def positions(self) -> Shape:
        """The axes of a sample's mask: all but features, or all axes of tokens, each of which is an element."""
        tokens = self.dtype is not None and self.dtype.kind == "i"
        return self.shape if tokens else self.shape[:-1]

    def __repr__(self) -> str:
        return f"<Edge {self.shape}{'' if self.node is None else f' of {self.node.layer!r}'}>"


class Input(Edge):
    """An array that goes into a model.

    Parameters
    ----------
    shape : int or tuple of int
        The shape of a sample, features last: (features,), (time, features), (height, width, channels).
    dtype : {"uint8", "int32"}, optional
        The dtype of bytes, such as pixels, or of tokens, for a first layer that takes integers; by default the
        model's.
    name : str, optional
        The key of its data in a dict.
    """

    def __init__(self, shape: int | Shape, dtype: str | None = None, name: str | None = None) -> None:
        lengths = tuple(shape) if isinstance(shape, Sequence) else (shape,)
        if dtype is not None and np.dtype(dtype).name not in DTYPES:
            raise ValueError(
                f"Input: dtype must be uint8 or int32, or left out for the model's own, got {np.dtype(dtype).name}"
            )
        super().__init__(tuple(checks.positive_integer("Input: shape", n) for n in lengths), dtype=dtype)
        self.name = name

    def __repr__(self) -> str:
        return f"Input({self.shape}, {self.dtype}, {self.name!r})"


class Scope:
    """A composite layer, within whose call nodes are made."""

    def __init__(self, layer: "Layer") -> None:
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
        The composite layers within which it was called, the outermost first; a string is its own name.
    number : int
        Its number in the order of calls, which decides between nodes that do not depend on each other.
    """

    def __init__(self, layer: "Layer", inputs: tuple[Edge, ...], spec: "Spec") -> None:
        self.layer, self.inputs, self.spec = layer, inputs, spec
        self.scopes, self.number = _scopes.get(), next(_numbers)
        same = inputs[0].dtype if spec.view else None  # a view is the same memory
        self.outputs = tuple(Edge(shape, self, k, None if k else same) for k, shape in enumerate(spec.outputs))

    def __repr__(self) -> str:
        return f"<Node {self.layer!r}>"

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name != "spec"}  # initializers may be closures

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self.spec = self.layer.spec(*(edge.shape for edge in self.inputs))

    def keeps_positions(self, output: Edge) -> bool:
        """Whether an output has the positions of the first input, and thus its mask."""
        return bool(output.positions) and output.positions == self.inputs[0].positions

    @property
    def reads(self) -> tuple[str, ...]:
        """What its backward pass reads: nothing for a view."""
        return () if self.spec.view else self.layer.reads


@contextlib.contextmanager
def within(scope: Scope | str) -> Iterator[None]:
    """Give nodes that are made within this context a scope, or a name instead of one by kind and number."""
    token = _scopes.set((*_scopes.get(), scope))
    try:
        yield
    finally:
        _scopes.reset(token)


def path_to(edge: Edge) -> str:
    """The layers and shapes from an input to an edge: ``Input (28, 28, 1), Conv2D (26, 26, 6)``."""
    steps = []
    while edge.node is not None:
        steps.append(f"{type(edge.node.layer).__name__} {edge.shape}")
        edge = edge.node.inputs[0]
    return ", ".join([f"Input {edge.shape}", *reversed(steps)])


def connect(layer: "Layer", inputs: Sequence[Edge]) -> Any:
    """Call a layer: its output as an edge, or a tuple of several."""
    name = type(layer).__name__
    if not inputs:
        raise TypeError(f"{name} is called on at least one edge, such as nbbp.Input((4,))")
    for edge in inputs:
        if not isinstance(edge, Edge):
            raise TypeError(
                f"a layer is called on edges, such as nbbp.Input((4,)), not on data: got {type(edge).__name__}; "
                f"a model computes with data"
            )
    expanded = layer.expand(*inputs)
    if expanded is not NotImplemented:
        return expanded
    try:
        spec = layer.spec(*(edge.shape for edge in inputs))
    except ValueError as error:
        if inputs[0].node is None:
            raise
        raise ValueError(f"{error}\nlayer by layer: {path_to(inputs[0])}") from None
    node = Node(layer, tuple(inputs), spec)
    integers = [edge for edge in inputs if edge.dtype is not None]
    if integers and not (layer.takes_integers or node.spec.view):
        raise TypeError(f"{name} does not take integers, got {integers[0]!r}: call a layer before it that does")
    return node.outputs[0] if len(node.outputs) == 1 else node.outputs
