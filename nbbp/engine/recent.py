"""A cache of the objects that were bound last."""

import math
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

REMEMBERED = 4
FEW_ROWS = 8192  # up to which buffers may be retained; with more, running takes far longer than binding

Kept = TypeVar("Kept")


class Recent(Generic[Kept]):
    """The few objects that were requested last, by what they depend on.

    Parameters
    ----------
    most_rows : float
        An object that is bound to more rows is not retained: it would hold their memory as long as the model lives.
    """

    def __init__(self, most_rows: float = math.inf) -> None:
        self._most_rows = most_rows
        self._things: dict[Hashable, Kept] = {}

    def get(self, rows: int, key: Hashable, make: Callable[[], Kept]) -> Kept:
        """The object for this number of rows and this key, made if it is not cached."""
        if rows > self._most_rows:
            return make()
        thing = self._things.pop((rows, key), None)
        if thing is None:
            thing = make()
            if len(self._things) >= REMEMBERED:
                del self._things[next(iter(self._things))]
        self._things[rows, key] = thing
        return thing
