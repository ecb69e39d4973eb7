"""Forward and backward passes of a number of rows, whose loss the caller computes."""

import math

import numpy as np

from nbbp.engine import planner
from nbbp.engine.evaluator import flat
from nbbp.engine.network import Network, Pass
from nbbp.engine.program import Program, Tables
from nbbp.engine.runner import Runner
from nbbp.kernels.batches import accumulate, copy, read_rows
from nbbp.kernels.clock import Clock
from nbbp.kernels.masks import clear_masked
from nbbp.kernels.sums import add_shards


class Passes:
    """The two passes, bound once; in training they are cut into shards like a step of a fit.

    Parameters
    ----------
    network : Network
    grads : ndarray (size,)
        The flat gradient, which `backward` overwrites or adds to.
    backend : {"numba", "numpy"}
    rows : int
    training : bool
        Whether layers behave as in training.
    masked : tuple of bool
        For each input, whether it has a mask; empty if none has.
    clock, tables, carried : optional
        Objects shared with other passes that run in turn.

    Attributes
    ----------
    inputs : tuple of ndarray (rows, *shape)
    masks : tuple of (ndarray (rows, positions), bool, or None)
        The masks; they and the inputs must be filled before `forward` runs.
    outputs : tuple of ndarray (rows, *shape)
        The outputs before their activations, after `forward` has run.
    slopes : tuple of ndarray (rows, *shape)
        The gradients of the outputs, to be filled before each run of `backward`, which may overwrite them.
    input_slopes : tuple of (ndarray (rows, *shape) or None)
        The gradients of the inputs after `backward` has run; None for integers.
    forward : Runner
    """

    def __init__(
        self, network: Network, grads: np.ndarray, backend: str, rows: int, training: bool,
        masked: tuple[bool, ...] = (), clock: Clock | None = None, tables: Tables | None = None,
        carried: dict[str, np.ndarray] | None = None,
    ) -> None:  # fmt: skip
        self._network, self._grads = network, grads
        self._settings = backend, network.dtype, rows, training, clock, network.seed, tables, carried
        program = Program(*self._settings)
        inputs, outputs = network.graph.inputs, network.graph.outputs
        self.inputs = network.inputs(program)
        self.masks = tuple(
            program.buffer(rows, math.prod(edge.positions), dtype=bool) if there else None
            for edge, there in zip(inputs, masked, strict=False)
        )
        self.outputs = tuple(program.buffer(rows, *edge.shape) for edge in outputs)
        self.slopes = tuple(program.buffer(rows, *edge.shape) for edge in outputs)
        self.input_slopes = tuple(program.buffer(*x.shape) if x.dtype.kind == "f" else None for x in self.inputs)
        self._shards = planner.shards(network, rows) if training else [slice(0, rows)]
        parts = [program.part(shard) for shard in self._shards]
        self._passes = [self._bind_forward(part, shard) for part, shard in zip(parts, self._shards, strict=True)]
        program.call_shards(parts)
        self.forward = Runner(program)
        self._backward: dict[bool, Runner] = {}

    def _bind_forward(self, part: Program, shard: slice) -> Pass:
        inputs, masks = self._network.inputs(part), [None if m is None else m[shard] for m in self.masks]
        for x, given in zip(inputs, self.inputs, strict=True):
            part.call(read_rows, flat(x), flat(given[shard]), part.clock.record)
        for x, mask in zip(inputs, masks, strict=False):
            if mask is not None:
                part.call(clear_masked, x.reshape(mask.size, -1), mask.reshape(-1))
        bound = self._network.forward(part, inputs, masks or None)
        for z, output in zip(self.outputs, bound.outputs, strict=True):
            part.call(copy, z[shard].reshape(-1), output.array.reshape(-1))
        return bound

    def backward(self, add: bool) -> Runner:
        """The runner from `slopes` to the gradients of parameters, which it overwrites or adds to, and of inputs."""
        runner = self._backward.get(add)
        if runner is None:
            runner = self._backward[add] = Runner(self._bind_backward(add))
        return runner

    def _bind_backward(self, add: bool) -> Program:
        program = Program(*self._settings)
        grads = program.buffer(len(self._grads)) if add else self._grads
        parts = [program.part(shard) for shard in self._shards]
        shard_grads = grads.reshape(1, -1) if len(parts) == 1 else program.buffer(len(parts), len(grads))
        for part, shard, bound, own in zip(parts, self._shards, self._passes, shard_grads, strict=True):
            slopes = [slope[shard] for slope in self.slopes]
            for slope, output in zip(slopes, bound.outputs, strict=True):
                if output.mask is not None:
                    part.call(clear_masked, slope.reshape(output.mask.size, -1), output.mask.reshape(-1))
            found = self._network.backward(part, bound, slopes, own, to_inputs=True)
            for input_slope, dx in zip(self.input_slopes, found, strict=True):
                if input_slope is not None and dx is not None:
                    part.call(copy, input_slope[shard].reshape(-1), dx.reshape(-1))
        program.call_shards(parts)
        if len(parts) > 1:
            program.call(add_shards, grads, shard_grads, np.zeros(1, np.int64))
        if add:
            program.call(accumulate, self._grads, grads)
        return program
