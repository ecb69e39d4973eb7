"""The order of features in PyTorch, where images have their channels first.

Flatten puts the elements of an image in another order there than here, and what it returns may go through many layers
before one mixes its features. The order is therefore followed along the edges of the graph, in both directions: from a
Flatten to what reads it, and from a Reshape that makes an image to what computes it.
"""

import itertools
import math
from collections.abc import Sequence

import numpy as np

from nbbp.engine.graph import Graph
from nbbp.engine.layer import Layer
from nbbp.engine.node import Edge, Node, Shape
from nbbp.layers import (
    GRU,
    LSTM,
    Activation,
    Add,
    AveragePool1D,
    AveragePool2D,
    BatchNorm,
    Concatenate,
    Conv1D,
    Conv1DTranspose,
    Conv2D,
    Conv2DTranspose,
    Crop2D,
    Dense,
    Dropout,
    Flatten,
    GaussianNoise,
    GlobalAveragePool,
    GlobalMaxPool,
    GroupNorm,
    LayerNorm,
    MaxPool1D,
    MaxPool2D,
    Multiply,
    RandomCrop,
    RandomFlip,
    RandomShift,
    Rescale,
    Reshape,
    SimpleRNN,
    SpatialDropout,
    UpSample2D,
    ZeroPad2D,
)

Order = tuple[Shape, ...]
"""The shapes of the images whose elements are one after another in an array, each with channels first in PyTorch."""

CHANNELS_FIRST: set[type[Layer]] = {
    AveragePool1D,
    AveragePool2D,
    Conv1D,
    Conv1DTranspose,
    Conv2D,
    Conv2DTranspose,
    Crop2D,
    GlobalAveragePool,
    GlobalMaxPool,
    GroupNorm,
    MaxPool1D,
    MaxPool2D,
    RandomCrop,
    UpSample2D,
    ZeroPad2D,
}
"""Layers whose inputs and outputs with positions have channels first in PyTorch."""

KEEP_ORDER: set[type[Layer]] = {
    Activation,
    Add,
    BatchNorm,
    Dropout,
    GaussianNoise,
    LayerNorm,
    Multiply,
    RandomFlip,
    RandomShift,
    Rescale,
    SpatialDropout,
}
"""Layers whose inputs and outputs have the same order."""

OF_SEQUENCES: set[type[Layer]] = {GRU, LSTM, SimpleRNN}
"""Layers whose inputs with positions have features last in PyTorch too."""

OTHERS: set[type[Layer]] = {Concatenate, Dense, Flatten, Reshape}
"""Layers that have a rule of their own."""


def orders(graph: Graph) -> dict[Edge, np.ndarray]:
    """For each flat edge whose features have another order in PyTorch: the feature here that each of them is.

    Raises
    ------
    ValueError
        If features need two orders at once, or the order of a layer that is in none of this module's sets matters.
    """
    known = _Known(graph).orders
    for node in graph.nodes:
        kind, edges = type(node.layer), (*node.inputs, *node.outputs)
        if kind in CHANNELS_FIRST | OF_SEQUENCES:
            edges = tuple(edge for edge in edges if _axes(edge) == 1)
        moved = (edge for edge in edges if edge in known and not _same(known[edge], ((math.prod(edge.shape),),)))
        if kind not in KEEP_ORDER | OTHERS and any(moved):
            raise ValueError(
                f"{graph.names[node]}: the order of {kind.__name__}'s features in PyTorch is not known; if it is that "
                f"of its input, enter it in nbbp.exchange.channels.KEEP_ORDER"
            )
    flat = {edge: _index(order) for edge, order in known.items() if _axes(edge) == 1}
    return {edge: index for edge, index in flat.items() if (np.diff(index) < 0).any()}


class _Known:
    """What is known of the edges of a graph.

    Attributes
    ----------
    orders : dict of Edge to Order
        Of edges that have channels first in PyTorch, and of flat ones that are made of such, or such of them.
    """

    def __init__(self, graph: Graph) -> None:
        self.orders: dict[Edge, Order] = {}
        self._graph = graph
        self._spread()
        joints = [node for node in graph.nodes if type(node.layer) is Concatenate and _axes(node.outputs[0]) == 1]
        for node in joints * 2:  # the second time, for what the others told
            if not self.orders.keys().isdisjoint((*node.inputs, *node.outputs)):
                self._learn(node, node.outputs[0], self._beside(node.inputs))
                self._spread()

    def _spread(self) -> None:
        """Learn all that follows from what is known, but for flat edges that are concatenated."""
        before = -1
        while len(self.orders) > before:
            before = len(self.orders)
            for node in self._graph.nodes:
                self._follow(node)

    def _follow(self, node: Node) -> None:
        """Learn the orders of a node's edges from each other."""
        kind, edges, owner = type(node.layer), (*node.inputs, *node.outputs), self._graph.owners[node]
        if kind in CHANNELS_FIRST:
            for edge in edges:
                if _axes(edge) > 1:
                    self._learn(node, edge, (edge.shape,))
        elif kind in KEEP_ORDER or (kind is Concatenate and _axes(edges[0]) > 1):
            self._tie(node, edges)
        elif kind in (Flatten, Reshape):
            image, flat = sorted(edges, key=_axes, reverse=True)
            same = image in self.orders or _same(self.orders.get(flat), (image.shape,))
            if _axes(image) == 1 or (_axes(flat) == 1 and same):
                self._tie(node, (image, flat))
        if owner is not node and owner.layer is node.layer and node.spec.parameters:
            for pair in zip(edges, (*owner.inputs, *owner.outputs), strict=True):
                self._tie(node, pair)

    def _tie(self, node: Node, edges: Sequence[Edge]) -> None:
        """If the order of an edge is known, so are those of the others."""
        if known := [self.orders[edge] for edge in edges if edge in self.orders]:
            for edge in edges:
                self._learn(node, edge, known[0] if _axes(edge) == 1 else (edge.shape,))

    def _learn(self, node: Node, edge: Edge, order: Order) -> None:
        if not _same(self.orders.setdefault(edge, order), order):
            raise ValueError(
                f"{self._graph.names[node]}: PyTorch, which has channels first, has no order of features that is that "
                f"of {_said(self.orders[edge])} and also that of {_said(order)}"
            )

    def _beside(self, edges: Sequence[Edge]) -> Order:
        """The order of flat edges that are concatenated."""
        return tuple(shape for edge in edges for shape in self.orders.get(edge, (edge.shape,)))


def _axes(edge: Edge) -> int:
    return len(edge.shape)


def _index(order: Order) -> np.ndarray:
    """The elements, as they are counted here, in PyTorch's order."""
    starts = itertools.accumulate(map(math.prod, order), initial=0)
    images = [start + np.arange(math.prod(shape)).reshape(shape) for start, shape in zip(starts, order, strict=False)]
    return np.concatenate([np.moveaxis(image, -1, 0).ravel() for image in images])


def _same(order: Order | None, other: Order) -> bool:
    return order == other or (order is not None and np.array_equal(_index(order), _index(other)))


def _said(order: Order) -> str:
    return " and ".join(" x ".join(map(str, shape)) for shape in order)
