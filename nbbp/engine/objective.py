"""The objective that is minimised: a loss at each output, over its elements.

An element is a position of a row, or the row itself if a sample has no positions. Each has a loss and a scale: 1
over the number of unmasked elements of the mini-batch, times its weight and its output's. The sum of losses times
scales is the loss of the mini-batch.
"""

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np

from nbbp.engine.data import Source
from nbbp.engine.layer import Array
from nbbp.engine.node import Shape
from nbbp.engine.program import Program
from nbbp.engine.ragged import LengthMask
from nbbp.kernels.batches import record_loss, record_part, record_total, repeat, weigh
from nbbp.kernels.masks import clear_masked, count_before_ends, count_unmasked, share_of_count


class Loss(Protocol):
    """The interface of a loss here; see `nbbp.losses.Loss`."""

    def bind(
        self, program: Program, row_loss: np.ndarray, dz: np.ndarray, z: np.ndarray, target: np.ndarray,
        scale: np.ndarray,
    ) -> None: ...  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Head:
    """An output with its loss.

    Attributes
    ----------
    name : str
        The name of the output; empty if it is the only one.
    loss : Loss
    weight : float
        The weight of its loss in the sum over outputs.
    shape : tuple of int
        The shape of a sample's output, features last.
    mask : int or None
        The input whose mask applies to the elements; None if the output has no positions.
    members : int
        The number of members of an ensemble, which are the first axis of `shape` then; all have the same targets.
    """

    name: str
    loss: Loss
    weight: float
    shape: Shape
    mask: int | None
    members: int = 1

    @property
    def positions(self) -> int:
        """The number of a row's elements that have targets of their own."""
        return self.elements // self.members

    @property
    def elements(self) -> int:
        """The number of elements of a row."""
        return math.prod(self.shape[:-1])

    def mean_of_members(self, predictions: np.ndarray) -> np.ndarray:
        """Predictions (rows, *positions, outputs) of all members together, from those of each."""
        if self.members == 1:
            return predictions
        return predictions.reshape(-1, self.members, self.outputs).mean(axis=1)

    @property
    def outputs(self) -> int:
        """The number of outputs of an element."""
        return self.shape[-1]


@dataclasses.dataclass(frozen=True)
class Scales:
    """For each output, the loss (rows, positions) and the scale (rows, positions) of every element.

    Shares (1,) are the scales of elements of weight 1, counts (1,) the numbers of unmasked elements.
    """

    losses: tuple[np.ndarray, ...]
    scales: tuple[np.ndarray, ...]
    shares: tuple[np.ndarray, ...]
    counts: tuple[np.ndarray, ...]
    varying: bool

    def part(self, rows: slice) -> "Scales":
        """The losses and scales of some rows."""
        return Scales(
            tuple(a[rows] for a in self.losses), tuple(a[rows] for a in self.scales), self.shares, self.counts,
            self.varying,
        )  # fmt: skip


class Objective:
    """The losses of all outputs, bound to programs.

    Parameters
    ----------
    heads : sequence of Head
    """

    def __init__(self, heads: Sequence[Head]) -> None:
        self.heads = tuple(heads)

    def scales(self, program: Program, share: Callable[[int, int], np.ndarray] | None = None) -> Scales:
        """Arrays for the mini-batch of a program, with equal scales.

        ``share(before, count)`` (count, 1) gives the scale of an element of weight 1 in each step, if that is not
        1 over the number of elements: see `Program.scheduled`.
        """
        losses = tuple(program.buffer(program.rows, head.elements) for head in self.heads)
        scales = tuple(program.buffer(program.rows, head.elements) for head in self.heads)
        shares = tuple(program.buffer(1) if share is None else program.scheduled(share) for _ in self.heads)
        for head, scale, own in zip(self.heads, scales, shares, strict=True):
            own[:] = head.weight / scale.size
            scale[:] = own
        counts = tuple(program.buffer(1, dtype=np.float64) for _ in self.heads)
        return Scales(losses, scales, shares, counts, varying=share is not None)

    def bind_counts(
        self, program: Program, scales: Scales, source: Source, order: np.ndarray, rows: slice
    ) -> list[np.ndarray]:
        """Bind the counts of unmasked elements in some rows of the mini-batch, which are returned.

        The denominators of a whole mini-batch follow from its counts, before any shard or micro-batch starts.
        """
        counted = []
        for head, scale, count in zip(self.heads, scales.scales, scales.counts, strict=True):
            if source.data.mask(head.mask) is not None:
                self._bind_count(program, head, count, scale[rows], source, order[rows.start :])
                counted.append(count)
        return counted

    @staticmethod
    def _bind_count(
        program: Program, head: Head, count: np.ndarray, scale: np.ndarray, source: Source, order: np.ndarray
    ) -> None:
        number, clock = head.mask, program.clock.record
        assert number is not None
        if isinstance(source.data.masks[number], LengthMask):
            source.call(program, count_before_ends, lambda d: (count, scale, d.masks[number].ends, order, clock))
        else:
            source.call(program, count_unmasked, lambda d: (count, scale, d.masks[number], order, clock))

    def bind_denominators(self, program: Program, scales: Scales, source: Source) -> None:
        """Bind the share of an element of weight 1, from the counts of unmasked elements."""
        for head, share, count in zip(self.heads, scales.shares, scales.counts, strict=True):
            if source.data.mask(head.mask) is not None:
                program.call(share_of_count, share, np.array([head.weight], program.dtype), count)

    def weighs(self, scales: Scales, source: Source) -> bool:
        """Whether elements have scales that differ, or change from step to step."""
        data = source.data
        given = any(weights is not None for weights in data.weights)
        return scales.varying or given or any(data.mask(head.mask) is not None for head in self.heads)

    def bind_scales(self, program: Program, scales: Scales, source: Source, order: np.ndarray) -> None:
        """Bind the scale of each element: its weight times the share of an element of weight 1."""
        for k, head in enumerate(self.heads):
            if source.data.weights[k] is not None:
                self._bind_weights(program, k, scales, source, order)
            elif scales.varying or source.data.mask(head.mask) is not None:
                ones = np.ones((len(source.data.inputs[0]), 1), program.dtype)
                scale, share = scales.scales[k], scales.shares[k]
                program.call(weigh, scale, ones, share, order, program.clock.record)

    @staticmethod
    def _bind_weights(program: Program, k: int, scales: Scales, source: Source, order: np.ndarray) -> None:
        scale, share, clock = scales.scales[k], scales.shares[k], program.clock.record
        source.call(program, weigh, lambda d: (scale, d.weights[k], share, order, clock))

    def bind(
        self, program: Program, outputs: Sequence[Array], targets: Sequence[np.ndarray], scales: Scales
    ) -> list[np.ndarray]:
        """Bind the losses; returns the gradients of the outputs, each element's multiplied by its scale."""
        slopes = []
        for k, (head, output) in enumerate(zip(self.heads, outputs, strict=True)):
            slope = program.buffer(*output.array.shape)
            z, dz = (array.reshape(-1, head.outputs) for array in (output.array, slope))
            losses, scale = scales.losses[k].reshape(-1), scales.scales[k].reshape(-1)
            target = targets[k]
            if head.members > 1:
                target = program.buffer(program.rows, head.members, targets[k].shape[1], dtype=targets[k].dtype)
                program.call(repeat, target, targets[k])
            head.loss.bind(program, losses, dz, z, target.reshape(len(z), -1), scale)
            if output.mask is not None:  # selected, not multiplied: 0 x NaN is NaN
                there = output.mask.reshape(-1)
                program.call(clear_masked, dz, there)
                program.call(clear_masked, losses.reshape(-1, 1), there)
                program.call(clear_masked, scale.reshape(-1, 1), there)
            slopes.append(slope)
        return slopes

    def bind_record(
        self, program: Program, scales: Scales, step_loss: np.ndarray, part_losses: np.ndarray | None,
        penalty: np.ndarray,
    ) -> None:  # fmt: skip
        """Bind the record of the mini-batch's loss in step_loss (steps,), and in part_losses (outputs, steps)."""
        pairs = zip(scales.losses, scales.scales, strict=True)
        flat = [(losses.reshape(-1), scale.reshape(-1)) for losses, scale in pairs]
        if part_losses is None:
            program.call(record_loss, step_loss, *flat[0], penalty, program.clock.record)
            return
        weights = np.array([head.weight for head in self.heads], program.dtype)
        for k, (losses, scale) in enumerate(flat):
            program.call(record_part, part_losses[k], losses, scale, weights[k : k + 1], program.clock.record)
        program.call(record_total, step_loss, part_losses, weights, penalty, program.clock.record)
