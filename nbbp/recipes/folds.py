"""Folds: the rows that each network of a cross-validation trains on, and those that it is evaluated on."""

from collections.abc import Iterable

import numpy as np

from nbbp import checks
from nbbp.engine.data import Data

Fold = tuple[np.ndarray, np.ndarray]
"""Indices of the rows to train on, and of those that are held out."""


def dealt(data: Data, count: int, seed: int) -> list[Fold]:
    """`count` folds of equal size; each row is held out once, and each fold has its share of every class.

    The order of the rows is drawn from the seed.
    """
    if data.rows < count:
        raise ValueError(f"{count} folds need {count} rows or more, got {data.rows}")
    order = np.random.default_rng(seed).permutation(data.rows)
    truth = data.truths[0]
    if truth.dtype.kind == "i" and truth.shape[1] == 1:
        order = order[np.argsort(truth[order, 0], kind="stable")]
    held_out = [np.sort(order[k::count]) for k in range(count)]
    return [(np.setdiff1d(np.arange(data.rows), rows), rows) for rows in held_out]


def checked(given: Iterable, count: int, rows: int) -> list[Fold]:
    """The user's pairs of row indices, checked, one for each of `count` members."""
    pairs = list(given)
    if len(pairs) != count:
        raise ValueError(f"folds must have a pair for each of {count} members, got {len(pairs)}")
    folds = []
    for k, pair in enumerate(pairs):
        if not isinstance(pair, tuple | list) or len(pair) != 2:
            raise TypeError(f"fold {k} must be a pair of row numbers: those to train on, and those that are held out")
        train, held_out = (checks.row_numbers(f"rows of fold {k}", part, rows) for part in pair)
        folds.append((train, held_out))
    return folds
