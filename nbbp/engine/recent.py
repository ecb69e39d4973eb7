"""What was bound last stays bound."""

from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

REMEMBERED = 4

Kept = TypeVar("Kept")


class Recent(Generic[Kept]):
    """The few things that were asked for last, by what they depend on."""

    def __init__(self) -> None:
        self._things: dict[Hashable, Kept] = {}

    def get(self, key: Hashable, make: Callable[[], Kept]) -> Kept:
        """The thing of this key, made where it is not there."""
        thing = self._things.pop(key, None)
        if thing is None:
            thing = make()
            if len(self._things) >= REMEMBERED:
                del self._things[next(iter(self._things))]
        self._things[key] = thing
        return thing
