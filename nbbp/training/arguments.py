"""Checks of the arguments of a fit."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from nbbp import checks
from nbbp.callbacks import Callback
from nbbp.engine.data import Data
from nbbp.engine.planner import SHARD_NUMBERS
from nbbp.training.order import BY_LENGTH

if TYPE_CHECKING:
    from nbbp.model import Model


def checked_shards(shards: int | None) -> int | None:
    """The user's number of shards."""
    if shards is None:
        return None
    if isinstance(shards, bool) or not isinstance(shards, int | np.integer) or shards not in SHARD_NUMBERS:
        *few, last = SHARD_NUMBERS
        raise ValueError(f"shards must be {', '.join(map(str, few))} or {last}, or None; got {shards!r}")
    return int(shards)


def checked_shuffle(shuffle: bool, group_by_length: bool) -> bool | str:
    """Whether and how rows are shuffled, see `nbbp.training.order.Order`."""
    checks.boolean("group_by_length", group_by_length)
    if group_by_length and not shuffle:
        raise ValueError("group_by_length orders the rows, and shuffle=False leaves them as they are: take one of them")
    return BY_LENGTH if group_by_length else bool(shuffle)


def checked_callbacks(callbacks: Sequence[Callback]) -> list[Callback]:
    """The user's callbacks, as a list."""
    if isinstance(callbacks, Callback):
        raise TypeError(f"callbacks must be a list, such as [{type(callbacks).__name__}(...)]")
    callbacks = list(callbacks)
    for callback in callbacks:
        if not isinstance(callback, Callback):
            raise TypeError(f"callbacks must be nbbp.callbacks, such as EarlyStopping(); got {callback!r}")
    return callbacks


def validation(model: "Model", given) -> Data:
    """Validation data from (X, y), which sample_weight, mask and lengths may follow."""
    if not isinstance(given, tuple | list) or not 2 <= len(given) <= 5:
        raise TypeError("validation_data must be a pair (X, y), or (X, y, sample_weight, mask, lengths)")
    X, y, weights, mask, lengths = (*given, None, None, None)[:5]
    return model.prepare(X, y, weights, mask=mask, lengths=lengths, name="validation ")
