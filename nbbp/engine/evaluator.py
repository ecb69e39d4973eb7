"""Outputs of a network for any number of rows, through programs that are bound once.

Few rows go through a block of 1, 2, 4, ... rows. Many rows go block by block in one compiled run, each block in shards
that copy their rows into their core's cache and take them through the whole network.
"""

import dataclasses
import math
from collections.abc import Sequence

import numpy as np

from nbbp.activations import ACTIVATIONS
from nbbp.engine.data import Data
from nbbp.engine.layer import Array
from nbbp.engine.network import Network
from nbbp.engine.program import Call, Program
from nbbp.engine.runner import Runner
from nbbp.kernels import forks
from nbbp.kernels.batches import copy, read_integers, read_rows, record_rows
from nbbp.kernels.jit import Kernel

BLOCK_ROWS = 512
SHARD_ROWS = 128  # rows of a block that go through the network by themselves, on one thread
SHARD_BYTES = 1 << 20  # of parameters at most: they stay in the second-level cache of every core

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


@dataclasses.dataclass(frozen=True)
class _Shard:
    """Calls that read the rows from `begin` on of each block, and that record the outputs, with their buffers."""

    begin: int
    reads: list[tuple[Call, np.ndarray]]
    records: list[tuple[Call, np.ndarray]]


class Evaluator:
    """Forward passes of a network, as in prediction.

    Parameters
    ----------
    network : Network
    backend : {"numba", "numpy"}
    activations : sequence of str
        The activation of each output, "linear" for none.
    """

    def __init__(self, network: Network, backend: str, activations: Sequence[str]) -> None:
        self.network, self.backend = network, backend
        self._activations = [ACTIVATIONS[name] for name in activations]
        self._bound: dict[tuple, _Block] = {}
        self._blocks: dict[tuple, tuple[Runner, list[_Shard]]] = {}
        self._lock = forks.lock()  # blocks are shared, and kernels release the GIL

    def __call__(self, data: Data, out: Arrays | None = None) -> Arrays:
        """Outputs (rows, *shape) for the inputs of some data; into `out` if that is given."""
        given: Arrays = data.inputs
        masked: tuple[bool, ...] = ()
        if data.masks:
            masked = tuple(m is not None for m in data.masks)
            given = (*given, *(m for m in data.masks if m is not None))
        rows = len(given[0])
        with self._lock:
            if rows <= BLOCK_ROWS:
                few = self._few(rows, given, masked)
                if out is None:
                    return tuple(map(np.ndarray.copy, few))
            else:
                whole = rows - rows % BLOCK_ROWS
                if out is None:
                    out = tuple(
                        np.empty((rows, *edge.shape), self.network.dtype) for edge in self.network.graph.outputs
                    )
                self._many([flat(x) for x in given], masked, [flat(z) for z in out], whole // BLOCK_ROWS)
                few = self._few(rows - whole, [x[whole:] for x in given], masked) if rows > whole else ()
            for z, rest in zip(out, few, strict=False):
                z[len(z) - len(rest) :] = rest
        return out

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

    def _many(
        self, given: Sequence[np.ndarray], masked: tuple[bool, ...], out: Sequence[np.ndarray], blocks: int
    ) -> None:
        """Compute block after block in one run."""
        if masked not in self._blocks:
            self._blocks[masked] = self._bind_blocks(masked)
        runner, shards = self._blocks[masked]
        clock = runner.clock
        for shard in shards:
            for (call, buffer), x in zip(shard.reads, given, strict=True):
                call.rebind(buffer, x[shard.begin :], clock.record)
            for (call, buffer), z in zip(shard.records, out, strict=True):
                call.rebind(z[shard.begin :], buffer, clock.record)
        clock.set(end=blocks, batches=blocks + 1)
        runner.run()
        for shard in shards:
            for call, _ in (*shard.reads, *shard.records):
                call.release()

    def _bind_blocks(self, masked: tuple[bool, ...]) -> tuple[Runner, list[_Shard]]:
        """A runner from block to block, and its shards."""
        params = self.network.params
        program = Program(self.backend, params.dtype, BLOCK_ROWS, training=False)
        rows = SHARD_ROWS if params.nbytes <= SHARD_BYTES else BLOCK_ROWS
        shards, parts, clock = [], [], program.clock.record
        for begin in range(0, BLOCK_ROWS, rows):
            part = program.part(slice(begin, begin + rows))
            given = self._inputs(part, masked)
            reads = [(part.call(_reading(x), x, np.zeros((1, x.shape[1]), x.dtype), clock), x) for x in given]
            outputs = self._forward(part, given, masked)
            records = [(part.call(record_rows, np.zeros((1, z.shape[1]), z.dtype), z, clock), z) for z in outputs]
            shards.append(_Shard(begin, reads, records))
            parts.append(part)
        program.call_shards(parts)
        return Runner(program), shards

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
        outputs = [output.array for output in apart(program, self.network.forward(program, inputs, masks).outputs)]
        for z, activation in zip(outputs, self._activations, strict=True):
            bind_activation(program, activation.name, z)
        return tuple(z.reshape(program.rows, -1) for z in outputs)


def flat(array: np.ndarray) -> np.ndarray:
    """The array as (rows, elements), also if it has no rows."""
    return array.reshape(len(array), math.prod(array.shape[1:]))


def _reading(x: np.ndarray) -> Kernel:
    return read_rows if x.dtype.kind == "f" else read_integers


def apart(program: Program, outputs: Sequence[Array]) -> list[Array]:
    """Outputs that share no memory, since each has its own activation: those that would are copied."""
    found: list[Array] = []
    for output in outputs:
        if any(np.may_share_memory(output.array, other.array) for other in found):
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
