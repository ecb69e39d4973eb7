"""Graphs: the nodes between some inputs and outputs."""

import collections
import copy
import heapq
import itertools
import math
from collections.abc import Iterator, Sequence

from nbbp.engine.layer import Layer
from nbbp.engine.node import Edge, Input, Node


def kind(layer: Layer) -> str:
    """The name of a layer's class in paths, such as ``dense``."""
    return type(layer).__name__.lower()


class Graph:
    """The nodes between some inputs and outputs.

    Parameters
    ----------
    inputs : sequence of Input
    outputs : sequence of Edge
    shares : bool
        Whether a layer that is called twice has one set of parameters, not one for each call.

    Attributes
    ----------
    nodes : tuple of Node
        The nodes in an order in which each follows those whose outputs it takes.
    names : dict of Node to str
        Paths such as ``residual_0.dense_0``.
    owners : dict of Node to Node
        The node whose parameters each has: its own, or those of the first call of its layer, or of `Layer.owner`.
    consumers : dict of Edge to list of Node
    """

    def __init__(self, inputs: Sequence[Input], outputs: Sequence[Edge], shares: bool = True) -> None:
        self.inputs, self.outputs = tuple(inputs), tuple(outputs)
        for edge in outputs:
            if not isinstance(edge, Edge):
                raise TypeError(f"outputs must be what layers gave, such as nbbp.Dense(10)(x); got {edge!r}")
        self.nodes = ordered(outputs)
        used = dict.fromkeys([edge for node in self.nodes for edge in node.inputs] + list(outputs))
        for edge in used:
            if edge.node is None and edge not in self.inputs:
                raise ValueError(f"{edge!r} leads to an output and is not among the inputs")
        for edge in self.inputs:
            if edge not in used:
                raise ValueError(f"{edge!r} leads to no output")
        self.names = dict(self._named())
        self.owners = dict(self._owned(shares))
        for node, owner in self.owners.items():
            mine, shared = ({name: p.shape for name, p in n.spec.parameters.items()} for n in (node, owner))
            if mine != shared:
                raise ValueError(
                    f"{self.names[owner]} is called again on {node.inputs[0]!r}, for which its parameters would have "
                    f"the shapes {mine}, and they have {shared}"
                )
        self.consumers: dict[Edge, list[Node]] = {}
        for node in self.nodes:
            for edge in node.inputs:
                self.consumers.setdefault(edge, []).append(node)

    def _owned(self, shares: bool) -> Iterator[tuple[Node, Node]]:
        first: dict[int, Node] = {}
        for node in self.nodes:
            owner = node.layer.owner
            if owner is not node.layer and id(owner) not in first:
                raise ValueError(
                    f"{self.names[node]} takes the parameters of {owner!r}, which has to come before it in the "
                    f"network: the same object, not an equal one"
                )
            own = first.setdefault(id(owner), node)
            yield node, own if shares or owner is not node.layer else node

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
            if name is None or name in used:  # nodes of two files may have the same name
                name = numbered(path, node.layer)
            used.add(name)
            yield node, name

    def top(self, node: Node) -> str:
        """The first part of a node's path: the composite layer that it belongs to, or itself."""
        return self.names[node].partition(".")[0]

    def with_outputs(self, edges: Sequence[Edge]) -> "Graph":
        """The same graph, with further outputs among its edges; the order of its nodes and their names stay."""
        graph = copy.copy(self)
        graph.outputs = (*self.outputs, *edges)
        return graph

    def members_of(self, edge: Edge) -> int:
        """The number of members whose outputs are the positions of an edge; 1 if they are not."""
        while edge.node is not None:
            if edge.node.layer.of_members:
                return edge.shape[0]
            if not edge.node.keeps_positions(edge):
                return 1
            edge = edge.node.inputs[0]
        return 1

    def mask_of(self, edge: Edge) -> int | None:
        """The input whose mask applies to an edge; None if the edge has no positions, or other ones."""
        while edge.node is not None:
            if not edge.node.keeps_positions(edge):
                return None
            edge = edge.node.inputs[0]
        return self.inputs.index(edge) if edge.positions else None  # type: ignore[arg-type]

    @property
    def couples_rows(self) -> bool:
        """Whether rows of a mini-batch have to go through the graph together."""
        return any(node.spec.couples_rows for node in self.nodes)

    @property
    def needs_rows(self) -> bool:
        """Whether a layer that couples rows has no other elements to take a mean over, such as positions."""
        coupling = [node.inputs[0] for node in self.nodes if node.spec.couples_rows]
        return any(math.prod(edge.positions) == 1 for edge in coupling)


def ordered(outputs: Sequence[Edge]) -> tuple[Node, ...]:
    """The nodes that lead to some outputs, each after those whose outputs it takes, otherwise in the order of calls."""
    missing: dict[Node, int] = {}  # predecessors that are not ordered yet
    after: dict[Node, list[Node]] = {}
    waiting = [edge.node for edge in outputs if edge.node is not None]
    while waiting:
        node = waiting.pop()
        if node not in missing:
            before = list(dict.fromkeys(edge.node for edge in node.inputs if edge.node is not None))
            missing[node] = len(before)
            for other in before:
                after.setdefault(other, []).append(node)
            waiting += before
    ready = [(node.number, k, node) for k, (node, count) in enumerate(missing.items()) if not count]
    heapq.heapify(ready)
    done: list[Node] = []
    while ready:
        node = heapq.heappop(ready)[-1]
        done.append(node)
        for other in after.get(node, ()):
            missing[other] -= 1
            if not missing[other]:
                heapq.heappush(ready, (other.number, len(missing) + len(done), other))
    return tuple(done)


def chain(entry: Input, layers: Sequence[Layer]) -> Graph:
    """The graph of layers in sequence; one that is listed twice has two sets of parameters."""
    edge: Edge = entry
    for layer in layers:
        edge = layer(edge)
    return Graph([entry], [edge], shares=False)
