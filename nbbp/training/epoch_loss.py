"""The loss of an epoch: the mean over its elements, from the losses of its steps."""

from collections.abc import Sequence

import numpy as np

from nbbp.engine.data import Data
from nbbp.engine.objective import Head
from nbbp.training.division import Division


def shares_of_rows(rows: int, batch_size: int) -> np.ndarray:
    """The share of each step (steps,) in the rows of an epoch."""
    return np.minimum(batch_size, rows - np.arange(0, rows, batch_size)) / rows


def unmasked(heads: Sequence[Head], data: Data, order: np.ndarray, division: Division) -> list[np.ndarray | None]:
    """For each output the number of elements in each step (epochs, steps) that are not masked, None if none is.

    The order (epochs, rows) is that in which the epochs take the rows.
    """
    seen = np.ones(order.shape[1], bool)
    if division.apart:
        seen[:] = False
        seen[division.positions(division.ranks.rank)] = True
    begins = np.arange(0, order.shape[1], division.batch_size)
    counts: list[np.ndarray | None] = []
    for head in heads:
        each = data.unmasked(head.mask)
        if each is None:
            counts.append(None)
            continue
        mine = np.add.reduceat(each[order] * seen, begins, axis=1)
        counts.append(np.sum(division.ranks.gather("masks", mine), axis=0) if division.apart else mine)
    return counts


def epoch_losses(
    heads: Sequence[Head], losses: np.ndarray, parts: np.ndarray | None, rows: np.ndarray,
    counts: Sequence[np.ndarray | None],
) -> list[tuple[float, list[float]]]:  # fmt: skip
    """For each epoch its loss, and that of each output if there are several.

    Parameters
    ----------
    losses : ndarray (epochs, steps)
    parts : ndarray (outputs, epochs, steps) or None
        The same for each of several outputs, without its weight.
    rows : ndarray (steps,)
        The share of each step in the rows, and in what is not masked.
    counts : sequence of (ndarray (epochs, steps) or None)
        For each output the number of elements that are not masked.
    """
    totals = np.sum(losses * rows, axis=1)
    outputs = []
    for head, own, count in zip(heads, [losses] if parts is None else parts, counts, strict=True):
        mean = np.sum(own * rows, axis=1)
        if count is not None:
            of_rows, mean = mean, np.sum(own * (count / np.maximum(1, count.sum(axis=1, keepdims=True))), axis=1)
            totals += (mean - of_rows) * (1 if parts is None else head.weight)
        outputs.append(mean)
    each = np.transpose(outputs).tolist() if parts is not None else [[] for _ in totals]
    return list(zip(totals.tolist(), each, strict=True))
