"""A network: a graph with its parameters and gradients, bound to programs."""

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType

import numpy as np

from nbbp.engine import memory
from nbbp.engine.layer import Array, Binding, Views
from nbbp.engine.layout import Layout
from nbbp.engine.node import Edge, Node
from nbbp.engine.program import Program, Tables
from nbbp.kernels import arrays
from nbbp.kernels.batches import accumulate, clear
from nbbp.kernels.masks import clear_masked
from nbbp.kernels.regularization import limit_norms, penalize
from nbbp.kernels.threads import pieces

MANY_ELEMENTS = 1 << 26  # of a mini-batch, for which it is worth a look whether there is memory


@dataclasses.dataclass
class Pass:
    """A bound forward pass: the arrays of all edges, and the binding of every node."""

    arrays: dict[Edge, Array]
    bindings: dict[Node, Binding]
    outputs: tuple[Array, ...]


class Network:
    """Flat `params` and `grads`, and the forward and backward passes through the nodes of a graph.

    `state` holds arrays that persist from step to step but are not trained, such as running means. Parameters and state
    are drawn from the seed, or copied if they are given. No layer decides what it overwrites or adds to: that follows
    here from which node reads an array last.

    Attributes
    ----------
    params, grads : ndarray (size,)
    named_grads : dict of str to ndarray
        Views of `grads` by full name.
    state : ndarray (state_size,)
    mask : ndarray (size,) or None
        0 where a parameter is pruned, else 1.
    rounds : bool
        Whether products round their operands to bfloat16.
    """

    def __init__(self, layout: Layout, dtype, seed: int, params=None, state=None, rounds: bool = False) -> None:
        self.rounds = rounds
        self.layout, self.seed, self.graph = layout, seed, layout.graph
        if params is None:
            params, state = layout.initial(seed)
        self.params, self.state = arrays.copied(params, dtype), arrays.copied(state, dtype)
        self.grads = arrays.zeros(self.params.shape, dtype)
        self.mask: np.ndarray | None = None
        self.named_grads = layout.named(self.grads)
        self._views = {place.node: place.views(self.params, self.state) for place in layout.places}
        self._order = {node: place for place, node in enumerate(self.graph.nodes)}
        self._trained = {
            node: any(parameter.trained for parameter in node.spec.parameters.values()) for node in self.graph.nodes
        }

    @property
    def dtype(self) -> np.dtype:
        return self.params.dtype

    def inputs(self, program: Program) -> tuple[np.ndarray, ...]:
        """Buffers for the input rows."""
        return tuple(
            program.buffer(program.rows, *edge.shape, dtype=edge.dtype or self.dtype) for edge in self.graph.inputs
        )

    def gathered_by_layers(self) -> list[int]:
        """The numbers of the inputs of integers whose only reader gathers the rows of a mini-batch itself."""
        found = []
        for k, edge in enumerate(self.graph.inputs):
            nodes = self.graph.consumers.get(edge, [])
            alone = len(nodes) == 1 and edge not in self.graph.outputs
            if alone and edge.dtype is not None and nodes[0].layer.gathers:
                found.append(k)
        return found

    def forward(
        self, program: Program, inputs: Sequence[np.ndarray], masks: Sequence[np.ndarray | None] | None = None,
        gathering: Mapping[int, Callable[..., None]] = MappingProxyType({}), state: np.ndarray | None = None,
    ) -> Pass:  # fmt: skip
        """Bind the forward pass of the inputs (rows, *shape), with their masks (rows, *positions).

        Masked elements of an input are overwritten with 0. Where an input's number is in `gathering`, its reader
        gathers the rows: see `nbbp.Layer.gather`. The layers write to `state` (state_size,) if it is given, instead of
        the network's.
        """
        graph = self.graph
        given = masks or [None] * len(inputs)
        known: dict[Edge, Array] = {
            edge: Array(x, None if mask is None else mask.reshape(x.shape if mask.size == x.size else x.shape[:-1]))
            for edge, x, mask in zip(graph.inputs, inputs, given, strict=True)
        }
        for x in known.values():
            if x.mask is not None:  # selected, not multiplied: 0 x NaN is NaN
                there = x.mask.reshape(-1)
                program.call(clear_masked, x.array.reshape(len(there), -1), there)
        left = {graph.inputs[k]: bind for k, bind in gathering.items()}
        bindings = {}
        storage: dict[Edge, Edge] = {}  # for an edge that shares memory, the edge that owns it
        for node in graph.nodes:
            source = known[node.inputs[0]]
            shared = node.spec.view or (node.spec.in_place and self._may_overwrite(node, storage))
            outputs = []
            for k, edge in enumerate(node.outputs):
                if shared and k == 0:
                    storage[edge] = storage.get(node.inputs[0], node.inputs[0])
                    y = source.array.reshape(program.rows, *edge.shape)
                else:
                    y = program.buffer(program.rows, *edge.shape)
                outputs.append(Array(y, source.mask if node.keeps_positions(edge) else None))
            known |= zip(node.outputs, outputs, strict=True)
            name, p = graph.names[node], self._views[graph.owners[node]]
            if state is not None:
                p = self.layout.of(node).views(self.params, state)
            binding = Binding(program, name, [known[edge] for edge in node.inputs], outputs, p, self.rounds)
            calls = len(program.calls)
            if node.inputs[0] in left:
                node.layer.gather(binding, left[node.inputs[0]])
            elif not node.spec.view:
                node.layer.forward(binding)
            if not shared and len(program.calls) == calls:
                raise TypeError(f"{name}: forward computed y itself, or not at all; it must bind b.call(...)")
            bindings[node] = binding
        return Pass(known, bindings, tuple(known[edge] for edge in graph.outputs))

    def _may_overwrite(self, node: Node, storage: dict[Edge, Edge]) -> bool:
        """Whether nothing reads the memory of a node's first input after it, forward or backward."""
        graph, place = self.graph, self._order[node]
        memory, *others = (storage.get(edge, edge) for edge in node.inputs)
        if memory.node is None or "x" in node.reads or memory in others:
            return False
        for edge in (memory, *(other for other, of in storage.items() if of is memory)):
            assert edge.node is not None
            readers = [other for other in graph.consumers.get(edge, ()) if other is not node]
            if edge in graph.outputs or "y" in edge.node.reads:
                return False
            if any(self._order[other] > place or "x" in other.reads for other in readers):
                return False
        return True

    def backward(
        self, program: Program, bound: Pass, slopes: Sequence[np.ndarray], grads: np.ndarray, to_inputs: bool = False,
        ready: Callable[[slice], None] = lambda _: None,
    ) -> tuple[np.ndarray | None, ...]:  # fmt: skip
        """Bind the backward pass from the gradients of the outputs, which it may overwrite; fills the flat `grads`.

        Returns the gradients of the inputs, None for integers or if `to_inputs` is false. Where paths meet, the first
        contribution to a gradient overwrites it and later ones are added, from the last node to the first.
        ``ready(part)`` is called when a part of the flat gradient is complete after the calls until then.
        """
        graph, layout = self.graph, self.layout
        wanted = self._wanted(to_inputs)
        gradient: dict[Edge, np.ndarray] = {}
        for edge, given in zip(graph.outputs, slopes, strict=True):
            self._contribute(program, gradient, edge, given)
        written: set[Node] = set()  # owners of parameters whose gradients are written
        for node in reversed(graph.nodes):
            asked = [edge in wanted for edge in node.inputs]
            if not any(edge in gradient for edge in node.outputs) or not (any(asked) or self._trained[node]):
                continue
            binding = bound.bindings[node]
            binding.program = program
            for edge, output in zip(node.outputs, binding.outputs, strict=True):
                output.gradient = gradient.get(edge)
                if output.gradient is None:  # nothing reads this output
                    output.gradient = program.buffer(program.rows, *edge.shape)
                    program.call(clear, output.gradient.reshape(-1))  # backward may have overwritten it
            dy = binding.outputs[0].gradient
            assert dy is not None
            for k, source in enumerate(binding.inputs):
                slope: np.ndarray | None = None
                if asked[k] and k == 0 and (node.spec.view or node.spec.in_place):
                    slope = dy.reshape(source.array.shape)
                elif asked[k]:
                    slope = program.buffer(*source.array.shape)
                binding.inputs[k] = dataclasses.replace(source, gradient=slope)
            owner = graph.owners[node]
            place = layout.of(node)
            own = place.views(grads)
            added = owner in written
            binding.g = self._gradients(program, node, own, apart=added)
            if not node.spec.view:
                node.layer.backward(binding)
            if added:
                for name, parameter in node.spec.parameters.items():
                    if parameter.trained:
                        program.call(accumulate, getattr(own, name).reshape(-1), getattr(binding.g, name).reshape(-1))
            written.add(owner)
            if owner is node:  # a layer comes after the one whose parameters it has
                ready(place.range)
            for edge, source in zip(node.inputs, binding.inputs, strict=True):
                if source.gradient is not None:
                    self._contribute(program, gradient, edge, source.gradient)
        return tuple(gradient.get(edge) if to_inputs else None for edge in graph.inputs)

    @staticmethod
    def _contribute(program: Program, gradient: dict[Edge, np.ndarray], edge: Edge, slope: np.ndarray) -> None:
        if edge in gradient:
            program.call(accumulate, gradient[edge].reshape(-1), slope.reshape(-1))
        else:
            gradient[edge] = slope

    def _gradients(self, program: Program, node: Node, own: Views, apart: bool) -> Views:
        """Arrays for the gradients of a node's parameters: separate ones if they are added later, or not used."""
        return Views(
            **{
                name: program.buffer(*parameter.shape) if apart or not parameter.trained else getattr(own, name)
                for name, parameter in node.spec.parameters.items()
            }
        )

    def _wanted(self, to_inputs: bool) -> set[Edge]:
        """Edges whose gradients lead to a trained parameter, or to an input if those are asked for."""
        wanted: set[Edge] = {edge for edge in self.graph.inputs if to_inputs and edge.dtype is None}
        for node in self.graph.nodes:
            if self._trained[node] or any(edge in wanted for edge in node.inputs):
                wanted |= set(node.outputs)
        return wanted

    def bytes_a_row(self) -> int:
        """The memory that training needs for each row of a mini-batch: all that layers write, and its gradients."""
        most = max(1, 2**26 // self._elements_a_row())
        rows = min(32, most)  # as many as some layers take together, fewer if arrays become huge
        return (self._bytes(2 * rows) - self._bytes(rows)) // rows

    def _elements_a_row(self) -> int:
        edges = (*self.graph.inputs, *(edge for node in self.graph.nodes for edge in node.outputs))
        return sum(math.prod(edge.shape) for edge in edges)

    def check_rows(self, rows: int) -> None:
        """MemoryError if training with so many rows of a mini-batch at a time does not fit into memory."""
        if rows * self._elements_a_row() > MANY_ELEMENTS:
            memory.check_rows(rows, self.bytes_a_row())

    def _bytes(self, rows: int) -> int:
        """The size of all buffers of a step with so many rows."""
        program = Program("numpy", self.dtype, rows, tables=Tables(1, self.dtype))
        bound = self.forward(program, self.inputs(program))
        slopes = [program.buffer(*output.array.shape) for output in bound.outputs]
        self.backward(program, bound, slopes, self.grads)
        return program.bytes

    @property
    def penalized(self) -> bool:
        """Whether there are penalties on parameters that are trained."""
        return any(p.trained and bool(p.l1 or p.l2) for _, _, p in self.layout.slices())

    def penalize(
        self, program: Program, total: np.ndarray, grads: np.ndarray,
        factors: Callable[[int, int], np.ndarray] | None = None,
    ) -> None:  # fmt: skip
        """Bind the penalties on parameters: adds their sum to total (1,), their gradient to the flat `grads`.

        ``factors(before, count)`` (count, 1) gives their factor in each step, see `Program.scheduled`.
        """
        for _, offset, parameter in self.layout.slices():
            if parameter.trained and (parameter.l1 or parameter.l2):
                size = math.prod(parameter.shape)
                w, g = self.params[offset : offset + size], grads[offset : offset + size]
                numbers = np.array([parameter.l1, parameter.l2], self.dtype)
                if factors is not None:
                    numbers = program.scheduled(_times(numbers, factors))
                program.call(penalize, total, g, w, program.buffer(pieces(size)), numbers)

    def constrain(self, program: Program) -> None:
        """Bind the projection of parameters into their bounds after an update."""
        for _, offset, parameter in self.layout.slices():
            if parameter.trained and parameter.max_norm is not None:
                w = self.params[offset : offset + math.prod(parameter.shape)].reshape(-1, parameter.shape[-1])
                limit = np.array([parameter.max_norm], self.dtype)
                program.call(limit_norms, w, program.buffer(w.shape[1]), limit)


def _times(numbers: np.ndarray, factors: Callable[[int, int], np.ndarray]) -> Callable[[int, int], np.ndarray]:
    return lambda before, count: factors(before, count) * numbers
