"""Outputs of a network for any number of rows, through programs that are bound once.

Few rows go through a block of 1, 2, 4, ... rows, which they are copied into. Many rows stay where they are: each thread
takes its share of them through the whole network, some at a time, which stay in its core's cache.
"""

import dataclasses
import math
from collections.abc import Sequence

import numpy as np

from nbbp.activations import ACTIVATIONS
from nbbp.engine.data import Data
from nbbp.engine.layer import Array
from nbbp.engine.layout import Layout
from nbbp.engine.network import Network
from nbbp.engine.node import Edge
from nbbp.engine.program import Program
from nbbp.engine.runner import Blocks, Runner
from nbbp.engine.windows import Windows
from nbbp.kernels import forks, threads
from nbbp.kernels.batches import copy
from nbbp.kernels.forks import cached_property
from nbbp.kernels.tiles import ROWS

BLOCK_ROWS = 512  # of a block, at most
BLOCK_BYTES = 1 << 18  # of a block's activations, if one thread takes it through the network
SHARED_BYTES = 1 << 20  # of parameters beyond which threads share operations: every core would read all of them
COPIED_ROWS = 4096  # of windows at a time
IN_PLACE_BYTES = 1 << 15  # of inputs: less is copied

Arrays = tuple[np.ndarray, ...]


@dataclasses.dataclass(frozen=True)
class _Block:
    """A bound forward pass: the buffers of the inputs (rows, *shape), of the masks, and of the outputs."""

    given: Arrays
    outputs: Arrays
    runner: Runner

    def first(self, rows: int) -> "_Block":
        """The same with views of the first rows."""
        return _Block(tuple(x[:rows] for x in self.given), tuple(z[:rows] for z in self.outputs), self.runner)


class Evaluator:
    """Forward passes of a network, as in prediction.

    Parameters
    ----------
    network : Network
    backend : {"numba", "numpy"}
    activations : sequence of str
        The activation of each output, "linear" for none.

    Attributes
    ----------
    blocks : dict of (int, int) to Blocks
        What many rows go through, by the number of threads and the rows of a block.
    """

    def __init__(self, network: Network, backend: str, activations: Sequence[str]) -> None:
        self.network, self.backend = network, backend
        self._activations = [ACTIVATIONS[name] for name in activations]
        self._bound: dict[tuple, _Block] = {}
        self.blocks: dict[tuple[int, int], Blocks] = {}
        self._plans: dict[tuple[int, int], Blocks] = {}
        self._lock = forks.lock()  # blocks are shared, and kernels release the GIL

    def __call__(self, data: Data, out: Arrays | None = None) -> Arrays:
        """Outputs (rows, *shape) for the inputs of some data; into `out` if that is given."""
        if any(isinstance(x, Windows) for x in data.inputs):
            return self._of_windows(data, self._empty(data.rows) if out is None else out)
        given: Arrays = data.inputs
        masked: tuple[bool, ...] = ()
        if data.masks:
            masked = tuple(m is not None for m in data.masks)
            given = (*given, *(m for m in data.masks if m is not None))
        rows = len(given[0])
        with self._lock:
            if rows <= BLOCK_ROWS and (given[0].nbytes < IN_PLACE_BYTES or masked or self.backend == "numpy"):
                few = self._few(rows, given, masked)
                if out is None:
                    return tuple(map(np.ndarray.copy, few))
                _copy(few, out)
                return out
            if out is None:
                out = self._empty(rows)
            if masked or self.backend == "numpy":
                for begin in range(0, rows, BLOCK_ROWS):
                    part = slice(begin, min(begin + BLOCK_ROWS, rows))
                    few = self._few(part.stop - begin, [x[part] for x in given], masked)
                    _copy(few, [z[part] for z in out])
            else:
                self._in_place([*given, *out])
        return out

    def _empty(self, rows: int) -> Arrays:
        return tuple(np.empty((rows, *edge.shape), self.network.dtype) for edge in self.network.graph.outputs)

    def _of_windows(self, data: Data, out: Arrays) -> Arrays:
        """Outputs for windows, of which some are copied at a time."""
        for begin in range(0, data.rows, COPIED_ROWS):
            rows = slice(begin, begin + COPIED_ROWS)
            part = data.part(rows)
            self(Data(tuple(map(np.asarray, part.inputs)), masks=part.masks), tuple(z[rows] for z in out))
        return out

    def _in_place(self, arrays: list[np.ndarray]) -> None:
        """Compute outputs from inputs, which stay where they are."""
        rows = len(arrays[0])
        key = rows, threads.count()
        if key not in self._plans:
            if len(self._plans) >= BLOCK_ROWS:
                self._plans.clear()
            self._plans[key] = self._plan(rows)
        self._plans[key].run(arrays)

    def _plan(self, rows: int) -> Blocks:
        """The blocks in which so many rows go through the network."""
        params = self.network.params
        shared = params.nbytes > SHARED_BYTES
        count, most = 1, BLOCK_ROWS
        if not shared:
            most = self._block_rows
            if threads.worthwhile(params.size * rows / 10):
                count = max(1, min(threads.count(), rows // ROWS))
        edges = np.array([*(rows * m // count // ROWS * ROWS for m in range(count)), rows])
        key = count, _block_size(int(np.diff(edges).min()), most)
        if key not in self.blocks:
            self.blocks[key] = self._bind_blocks(*key)
        return self.blocks[key].over(edges)

    @cached_property
    def _block_rows(self) -> int:
        """Rows whose widest activations fill a block, 16 at least."""
        edges = [edge for node in self.network.graph.nodes for edge in node.outputs]
        widest = max(math.prod(edge.shape) for edge in edges) * self.network.dtype.itemsize
        return max(16, min(BLOCK_ROWS, BLOCK_BYTES // widest))

    def _bind_blocks(self, count: int, rows: int) -> Blocks:
        """Programs of so many rows, one for each of `count` threads."""
        program = Program(self.backend, self.network.dtype, count * rows, training=False)
        parts = [program.part(slice(m * rows, (m + 1) * rows)) for m in range(count)]
        buffers = []
        for part in parts:
            given = self._inputs(part, ())
            buffers.append([*given, *self._forward(part, given, ())])
        return Blocks(parts, buffers)

    def _few(self, rows: int, given: Sequence[np.ndarray], masked: tuple[bool, ...]) -> Arrays:
        """Outputs of a block's buffers, which the next call overwrites."""
        block = self._bound.get((rows, masked))
        if block is None:
            key = 1 << max(0, rows - 1).bit_length(), masked
            if key not in self._bound:
                self._bound[key] = self._bind(*key)
            block = self._bound[rows, masked] = self._bound[key].first(rows)
        for k, x in enumerate(given):
            block.given[k][...] = x
        block.runner.once()
        return block.outputs

    def _bind(self, rows: int, masked: tuple[bool, ...]) -> _Block:
        program = Program(self.backend, self.network.dtype, rows, training=False)
        given = self._inputs(program, masked)
        outputs = self._forward(program, given, masked)
        shapes = (edge.shape for edge in self.network.graph.inputs)
        shaped = [x.reshape(rows, *shape) for x, shape in zip(given, shapes, strict=False)]
        ends = (z.reshape(rows, *edge.shape) for z, edge in zip(outputs, self.network.graph.outputs, strict=True))
        return _Block((*shaped, *given[len(shaped) :]), tuple(ends), Runner(program))

    def _inputs(self, program: Program, masked: tuple[bool, ...]) -> Arrays:
        """Buffers for the inputs (rows, elements), then for the masks that are given."""
        inputs = [x.reshape(program.rows, -1) for x in self.network.inputs(program)]
        edges = [edge for edge, there in zip(self.network.graph.inputs, masked, strict=False) if there]
        return (*inputs, *(program.buffer(program.rows, math.prod(edge.positions), dtype=bool) for edge in edges))

    def _forward(self, program: Program, given: Arrays, masked: tuple[bool, ...]) -> Arrays:
        edges = self.network.graph.inputs
        inputs = [x.reshape(program.rows, *edge.shape) for x, edge in zip(given, edges, strict=False)]
        rest = iter(given[len(edges) :])
        masks = [next(rest) if there else None for there in masked] or None
        found = self.network.forward(program, inputs, masks).outputs
        outputs = [output.array for output in apart(program, found, inputs)]
        for z, activation in zip(outputs, self._activations, strict=True):
            bind_activation(program, activation.name, z)
        return tuple(z.reshape(program.rows, -1) for z in outputs)


def values(network: Network, backend: str, edges: Sequence[Edge], data: Data) -> Arrays:
    """The values (rows, *shape) of some edges of a network for the inputs of some data, as in prediction.

    As outputs, nothing overwrites them; the parameters are copied.
    """
    graph = network.graph.with_outputs(edges)
    seen = Network(Layout(graph), network.dtype, network.seed, network.params, network.state, network.rounds)
    return Evaluator(seen, backend, ["linear"] * len(graph.outputs))(data)[len(network.graph.outputs) :]


def _block_size(rows: int, most: int) -> int:
    """The size of blocks that cover some rows: a power of two, of which few are bound; the last blocks may overlap."""
    sizes = [2**k for k in range(3, 20) if 2**k <= min(rows, most)] or [rows]
    return min(sizes, key=lambda size: -(-rows // size) * (size + 8))  # each block takes the time of some rows more


def flat(array: np.ndarray) -> np.ndarray:
    """The array as (rows, elements), also if it has no rows."""
    return array.reshape(len(array), math.prod(array.shape[1:]))


def _copy(sources: Sequence[np.ndarray], targets: Sequence[np.ndarray]) -> None:
    for target, source in zip(targets, sources, strict=True):
        target[...] = source


def apart(program: Program, outputs: Sequence[Array], inputs: Sequence[np.ndarray] = ()) -> list[Array]:
    """Outputs that share no memory with each other or with inputs, since each has its own activation; else copies."""
    found: list[Array] = []
    for output in outputs:
        if any(np.may_share_memory(output.array, other) for other in (*inputs, *(a.array for a in found))):
            z = program.buffer(*output.array.shape)
            program.call(copy, z.reshape(-1), output.array.reshape(-1))
            output = dataclasses.replace(output, array=z)
        found.append(output)
    return found


def bind_activation(program: Program, name: str, z: np.ndarray) -> None:
    """Bind an activation of outputs (rows, ..., outputs), which are overwritten."""
    if name != "linear":
        activation = ACTIVATIONS[name]
        program.call(activation.forward, activation.shaped(z))
