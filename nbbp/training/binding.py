"""A training step as a program: which kernels run on which arrays, phase by phase."""

import dataclasses
from collections.abc import Callable

import numpy as np

from nbbp.engine import planner
from nbbp.engine.data import Source
from nbbp.engine.network import Network
from nbbp.engine.objective import Objective, Scales
from nbbp.engine.program import Program, Tables
from nbbp.kernels.batches import accumulate, clear, clear_after_epoch, copy, multiply_by, record_rows
from nbbp.kernels.clock import Clock
from nbbp.kernels.sums import add_shards
from nbbp.training.division import Division
from nbbp.training.update import Update

Ready = Callable[[Program, slice], None]
"""What is called when a program has computed a part of the flat gradient."""


def _nothing(program: Program, part: slice) -> None:
    pass


def _length(rows: slice) -> int:
    return rows.stop - rows.start


def _rows_at_once(shards: list[slice], most: int) -> int:
    """The rows for which a lane of shards has buffers: those of one micro-batch of each length."""
    lengths = {min(most, _length(rows)) for rows in shards}
    return sum(lengths | {_length(rows) % most for rows in shards if _length(rows) > most})


@dataclasses.dataclass
class Binding:
    """What the steps of an epoch have in common.

    Attributes
    ----------
    order : ndarray (S,)
        The rows of the data in the order in which steps take them.
    part_rows : int
        The rows of a micro-batch.
    shards : int or None
        The number of shards of a mini-batch; None if shapes decide.
    threads : int
        The number of threads that shards run on.
    step_loss, part_losses, outputs : ndarray (steps,), (outputs, steps), list of ndarray (rows, ...)
        Records of each step's loss, of its losses at several outputs, and of the outputs.
    share_of_penalties, share_of_rows : callable, optional
        The factor of the penalties in each step, and the share of a row of weight 1: see `Program.scheduled`.
    """

    network: Network
    objective: Objective
    update: Update
    source: Source
    order: np.ndarray
    division: Division
    part_rows: int
    shards: int | None
    threads: int
    clock: Clock
    tables: Tables
    carried: dict[str, np.ndarray]
    backend: str
    step_loss: np.ndarray
    part_losses: np.ndarray | None
    outputs: list[np.ndarray] | None
    share_of_penalties: Callable[[int, int], np.ndarray] | None = None
    share_of_rows: Callable[[int, int], np.ndarray] | None = None

    def step(self, rows: int) -> Program:
        """Bind a training step of `rows` rows, phase by phase."""
        network, objective, ranks = self.network, self.objective, self.division.ranks
        program = Program(
            self.backend, network.dtype, rows, clock=self.clock, seed=network.seed, tables=self.tables,
            carried=self.carried,
        )  # fmt: skip
        scales = objective.scales(program, self.share_of_rows)
        for count in objective.bind_counts(program, scales, self.source, self.order, self.division.seen(rows)):
            if self.division.apart:
                ranks.bind_sum(program, count)
        objective.bind_denominators(program, scales, self.source)
        # gather, weigh, forward, losses, backward
        begin_sum, end_sum = ranks.bind_sum_in_parts(network.grads)
        shard_grads, shard_states = self._bind_shards(program, scales, begin_sum if ranks.size > 1 else _nothing)
        # reduce
        if shard_grads is not None and (network.penalized or self.update.reads_gradient or ranks.size > 1):
            program.call(add_shards, network.grads, shard_grads, np.zeros(1, np.int64))
            shard_grads = None
        end_sum(program)
        for array in (*scales.losses, *(scales.scales if objective.weighs(scales, self.source) else ())):
            ranks.bind_join(program, array, self.division.edges(rows))
        # penalties, and a record of the loss, which may end the run while nothing is written yet
        penalty = program.buffer(1)
        network.penalize(program, penalty, network.grads, self.share_of_penalties)
        objective.bind_record(program, scales, self.step_loss, self.part_losses, penalty)
        # noise, clipping, update, constraints, average
        self.update.bind(program, shard_grads)
        if shard_states is not None:
            self._bind_mean_state(program, shard_states)
        for array in self.carried.values():
            program.call(clear_after_epoch, array.reshape(-1), self.clock.record)
        return program

    def _bind_shards(
        self, program: Program, scales: Scales, ready: Ready
    ) -> tuple[np.ndarray | None, np.ndarray | None]:
        """Bind the mini-batch as one; or in shards side by side, whose gradients are returned to be added.

        With shards, a micro-batch has its share of rows in each of them. A shard without rows has a gradient of 0. The
        state that a step writes is one for each shard, too. Of a shard alone, parts of the gradient are `ready` early.
        Shards of a lane, which run one after the other on one thread, have the same buffers.
        """
        network, most, count, ranks = self.network, self.part_rows, self.shards, self.division.ranks
        if count is None and program.rows > most:  # by default, micro-batches are not cut
            count = 1
        everywhere = self.division.shards(network, program.rows, count)
        shards = ranks.part(everywhere)
        most = -(-most // len(everywhere))
        states = None
        if len(everywhere) > 1 and len(network.state):
            states = program.buffer(len(shards), len(network.state))
        grads = program.buffer(len(shards), len(network.grads)) if len(shards) > 1 else None
        shard_grads = network.grads[np.newaxis] if grads is None else grads
        whole = all(0 < _length(rows) <= most for rows in everywhere)  # no rank does otherwise
        early = ready if grads is None and whole else _nothing
        filled = [k for k, rows in enumerate(shards) if _length(rows)]
        lanes, programs = planner.lanes(len(filled), self.threads), []
        network.check_rows(sum(_rows_at_once([shards[k] for k in filled[lane]], most) for lane in lanes))
        for lane in lanes:
            before: dict[int, Program] = {}  # programs of the lane, by their number of rows
            for k in filled[lane]:
                rows = shards[k]
                part = program if len(everywhere) == 1 else program.part(rows, after=before.get(_length(rows)))
                programs.append(part)
                state = None if states is None else states[k]
                self._bind_parts(part, scales.part(rows), shard_grads[k], most, state, early, before)
        if states is not None:
            for state, rows in zip(states, shards, strict=True):
                if not _length(rows):
                    program.call(copy, state, network.state)
        if not programs:
            program.call(clear, network.grads)
        elif len(everywhere) > 1:
            program.call_shards(programs, lanes)
        return grads, states

    def _bind_parts(
        self, program: Program, scales: Scales, grads: np.ndarray, most: int, state: np.ndarray | None, ready: Ready,
        before: dict[int, Program],
    ) -> None:  # fmt: skip
        """Bind micro-batches of `most` rows, one after the other in the same buffers; their gradients are added.

        The buffers are those of the programs `before` in the same lane, to which this one and its parts are added.
        """
        before[program.rows] = program
        if state is not None:
            program.call(copy, state, self.network.state)
        if program.rows <= most:
            self._bind_rows(program, scales, grads, state, ready)
            return
        part_grads = program.buffer(len(grads))
        for begin in range(0, program.rows, most):
            rows = slice(begin, min(begin + most, program.rows))
            part = before[_length(rows)] = program.part(rows, after=before.get(_length(rows)))
            self._bind_rows(part, scales.part(rows), part_grads if begin else grads, state, _nothing)
            program.calls += part.calls
            if begin:
                program.call(accumulate, grads, part_grads)

    def _bind_rows(
        self, program: Program, scales: Scales, grads: np.ndarray, state: np.ndarray | None, ready: Ready
    ) -> None:
        """Bind gather, weigh, forward, losses and backward of the rows of a program."""
        network, objective, order = self.network, self.objective, self.order[program.first_row :]
        inputs = network.inputs(program)
        left = self.source.left_to(network.gathered_by_layers())
        targets, masks = self.source.gather(program, inputs, order, left)
        objective.bind_scales(program, scales, self.source, order)
        gathering = {k: self.source.gathering(program, k, order) for k in left}
        bound = network.forward(program, inputs, masks, gathering, state)
        slopes = objective.bind(program, bound.outputs, targets, scales)
        network.backward(program, bound, slopes, grads, ready=lambda part: ready(program, part))
        for record, output in zip(self.outputs or (), bound.outputs, strict=False):
            z = output.array.reshape(program.rows, -1)
            program.call(record_rows, record[program.first_row :], z, program.clock.record)

    def _bind_mean_state(self, program: Program, shard_states: np.ndarray) -> None:
        """Bind the state as the mean over all shards, added as their gradients are."""
        state, ranks = self.network.state, self.division.ranks
        if len(shard_states) > 1:
            program.call(add_shards, state, shard_states, np.zeros(1, np.int64))
        else:
            program.call(copy, state, shard_states[0])
        ranks.bind_sum(program, state)
        program.call(multiply_by, state, np.array([1 / (len(shard_states) * ranks.size)], state.dtype))
