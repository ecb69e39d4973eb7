"""A step in the user's hands: forward, backward and update of a mini-batch, bound once."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from nbbp.activations import ACTIVATIONS
from nbbp.engine import planner
from nbbp.engine.data import Data
from nbbp.engine.forms import Form
from nbbp.engine.network import Network
from nbbp.engine.program import Program, Tables
from nbbp.engine.runner import Runner
from nbbp.kernels.batches import accumulate, copy
from nbbp.kernels.clock import Clock
from nbbp.kernels.gemm import column_sums

TABLE_STEPS = 256  # for which the numbers of the updates are known beforehand


class _Bound:
    """Forward and backward of so many rows."""

    def __init__(
        self, network: Network, backend: str, rows: int, masked: Sequence[bool], training: bool, clock: Clock,
        tables: Tables, carried: dict[str, np.ndarray],
    ) -> None:  # fmt: skip
        self.network, self._backend = network, backend
        self._given = (rows, training, clock, network.seed, tables, carried)
        self.forward_program = self._program()
        self.inputs = network.inputs(self.forward_program)
        edges = network.graph.inputs
        self.masks = [
            self.forward_program.buffer(rows, math.prod(edge.positions), dtype=bool) if there else None
            for edge, there in zip(edges, masked or [False] * len(edges), strict=True)
        ]
        self.outputs = [self.forward_program.buffer(rows, *edge.shape) for edge in network.graph.outputs]
        self._shards = planner.shards(network, rows) if training else [slice(0, rows)]
        parts = [self.forward_program.part(shard) for shard in self._shards]
        self._passes = []
        for part, shard in zip(parts, self._shards, strict=True):
            masks = [None if mask is None else mask[shard] for mask in self.masks]
            bound = network.forward(part, [x[shard] for x in self.inputs], masks)
            for z, output in zip(self.outputs, bound.outputs, strict=True):
                part.call(copy, z[shard].reshape(-1), output.array.reshape(-1))
            self._passes.append(bound)
        _run_parts(self.forward_program, parts)
        self.forward = Runner(self.forward_program)
        self.slopes = [self.forward_program.buffer(*z.shape) for z in self.outputs]
        self.input_slopes = [
            self.forward_program.buffer(*x.shape) if x.dtype.kind == "f" else None for x in self.inputs
        ]
        self._backward: dict[bool, Runner] = {}

    def _program(self) -> Program:
        return Program(self._backend, self.network.dtype, *self._given)

    def backward(self, add: bool) -> Runner:
        """Runs the backward pass from `slopes` into the flat gradient, which is overwritten or added to."""
        if add not in self._backward:
            self._backward[add] = Runner(self._bind_backward(add))
        return self._backward[add]

    def _bind_backward(self, add: bool) -> Program:
        network, program = self.network, self._program()
        grads = program.buffer(len(network.grads)) if add else network.grads
        parts = [program.part(shard) for shard in self._shards]
        own = grads[np.newaxis] if len(parts) == 1 else program.buffer(len(parts), len(grads))
        for part, shard, bound, into in zip(parts, self._shards, self._passes, own, strict=True):
            slopes = [part.buffer(*slope[shard].shape) for slope in self.slopes]
            for mine, slope in zip(slopes, self.slopes, strict=True):  # which a backward pass may spoil
                part.call(copy, mine.reshape(-1), slope[shard].reshape(-1))
            found = network.backward(part, bound, slopes, into, to_inputs=True)
            for whole, dx in zip(self.input_slopes, found, strict=True):
                if whole is not None and dx is not None:
                    part.call(copy, whole[shard].reshape(-1), dx.reshape(-1))
        _run_parts(program, parts)
        if len(parts) > 1:
            program.call(column_sums, grads, own)
        if add:
            program.call(accumulate, network.grads, grads)
        return program


def _run_parts(program: Program, parts: list[Program]) -> None:
    if len(parts) > 1:
        program.call_shards(parts)
    else:
        program.calls += parts[0].calls


class Step:
    """Forward, backward and update of mini-batches, made by `Model.step`.

    ``z = step.forward(X)``, a loss and its gradient of one's own, ``dX = step.backward(dz)``, ``step.update()``. Arrays
    that come back are views, valid until the next call. Steps of one model share its parameters and gradients; a step
    belongs to one thread.

    Parameters
    ----------
    network : Network
    update : Update
        See `nbbp.training.update`.
    check : callable
        Makes `Data` of inputs and masks as the user gives them.
    outputs : Form
        In which outputs and their gradients come and go.

    Attributes
    ----------
    carried : dict of str to ndarray (batch_size, ...)
        What layers hand from one forward to the next, by name, such as ``gru_0.h``; 0 in a row begins anew there.
    """

    def __init__(
        self, network: Network, update: Any, backend: str, batch_size: int, training: bool,
        check: Callable[[Any, Any], Data], outputs: Form,
    ) -> None:  # fmt: skip
        self.batch_size, self.training = batch_size, training
        self._network, self._update, self._backend = network, update, backend
        self._check, self._outputs = check, outputs
        self._clock, self._update_clock = Clock(), Clock()
        self._tables, self._update_tables = Tables(TABLE_STEPS, network.dtype), Tables(TABLE_STEPS, network.dtype)
        self._bound: dict[tuple, _Bound] = {}
        self._last: _Bound | None = None
        self._numbered: Any = None
        self._forwards = 0
        self._updating: Runner | None = None
        self._pruned = False
        self.carried: dict[str, np.ndarray] = {}
        self._bind(batch_size, ())

    def _bind(self, rows: int, masked: tuple[bool, ...]) -> _Bound:
        bound = self._bound[rows, masked] = _Bound(
            self._network, self._backend, rows, masked, self.training, self._clock, self._tables, self.carried
        )
        self._tables.fill(self._forwards - self._forwards % TABLE_STEPS, TABLE_STEPS)
        return bound

    def forward(self, X, mask=None) -> Any:
        """Outputs before the output activation, (rows, *shape), for as many rows as the step has, or fewer.

        A list or a dict of arrays where the model has several outputs; X and `mask` are given as to `Model.predict`.
        """
        given = self._check(X, mask)
        rows, masked = given.rows, tuple(m is not None for m in given.masks)
        bound = self._bound.get((rows, masked))
        if bound is None:
            if rows > self.batch_size:
                raise ValueError(f"the step takes {self.batch_size} rows at most, got {rows}")
            bound = self._bind(rows, masked)
        for buffer, x in zip((*bound.inputs, *bound.masks), (*given.inputs, *given.masks), strict=False):
            if buffer is not None:
                buffer[:] = x
        clock, number = self._clock, self._forwards % TABLE_STEPS
        if number == 0:
            clock.before = self._forwards
            self._tables.fill(self._forwards, TABLE_STEPS)
        clock.step = number
        self._forwards += 1
        bound.forward.once()
        self._last = bound
        return self._outputs.packed(bound.outputs)

    def backward(self, dz, add: bool = False) -> Any:
        """Gradients of the inputs (rows, *shape), from those of the last forward's outputs; fills `grads`.

        With `add` they are added to those that are there.

        Raises
        ------
        RuntimeError
            Where no forward came before, or backward was called for it already.
        """
        bound = self._last
        if bound is None:
            raise RuntimeError("backward belongs to the last forward: call forward(X) before")
        self._last = None
        for slope, given in zip(bound.slopes, self._outputs.unpacked("dz", dz), strict=True):
            slope[:] = np.asarray(given).reshape(slope.shape)
        bound.backward(add).once()
        slopes = bound.input_slopes
        return slopes[0] if len(slopes) == 1 else slopes

    def update(self) -> None:
        """Change the parameters by the gradient that is there: penalties, clipping, optimizer, constraints, average."""
        update, clock = self._update, self._update_clock
        network, pruned = self._network, self._network.mask is not None
        if self._updating is None or pruned != self._pruned:
            program = Program(
                self._backend, network.dtype, self.batch_size, clock=clock, seed=network.seed,
                tables=self._update_tables,
            )  # fmt: skip
            network.penalize(program, program.buffer(1), network.grads)
            update.bind(program)
            self._updating, self._pruned, self._numbered = Runner(program), pruned, None
        number = update.steps - clock.before
        if self._numbered is not update.optimizer or not 0 <= number < TABLE_STEPS:
            self._numbered, clock.before, number = update.optimizer, update.steps, 0
            self._update_tables.fill(update.steps, TABLE_STEPS)
        clock.step = number
        self._updating.once()
        update.steps += 1

    def jacobian(self, X, mask, activations: Sequence[str]) -> np.ndarray:
        """Derivatives of the outputs, after their activations, by the inputs (rows, outputs, inputs)."""
        grads = self._network.grads.copy()
        for array in self.carried.values():
            array[:] = 0
        self.forward(X, mask)
        bound = self._last
        assert bound is not None
        rows = len(bound.outputs[0])
        columns = []
        for k, (z, name) in enumerate(zip(bound.outputs, activations, strict=True)):
            activation, flat = ACTIVATIONS[name], z.reshape(rows, -1)
            y = z.copy()
            activation.forward.reference(activation.shaped(y))
            for j in range(flat.shape[1]):
                for slope in bound.slopes:
                    slope[:] = 0
                bound.slopes[k].reshape(rows, -1)[:, j] = 1
                dz = activation.shaped(bound.slopes[k])
                activation.backward.reference(dz, activation.shaped(y if activation.from_output else z))
                bound.backward(add=False).once()
                found = [dx.reshape(rows, -1) for dx in bound.input_slopes if dx is not None]
                columns.append(np.concatenate(found, axis=1))
        self._network.grads[:] = grads
        return np.stack(columns, axis=1)
