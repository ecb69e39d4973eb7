"""The form in which a user gives and gets arrays: a single one, a list, or a dict by name."""

from collections.abc import Mapping, Sequence
from typing import Any


class Form:
    """A single item, a list of items, or a dict of items.

    Parameters
    ----------
    what : str
        What the items are, for messages.
    given : item, list of items or dict of str to item
        An example whose form all others have.

    Attributes
    ----------
    things : list
        The items of the example.
    names : list of str
        The names by which a history's columns and messages tell them apart; empty for a single item.
    """

    def __init__(self, what: str, given: Any) -> None:
        self.what, self.given = what, given
        self._keys: list[str] | None = None
        self._single = False
        if isinstance(given, Mapping):
            for key in given:
                if not isinstance(key, str) or not key:
                    raise TypeError(f"an {what} has a string for its name, got {key!r}")
            self._keys = list(given)
            self.things, self.names = list(given.values()), list(given)
        elif isinstance(given, list | tuple):
            self.things = list(given)
            self.names = [f"{what}_{k}" for k in range(len(given))]
        else:
            self._single, self.things, self.names = True, [given], [""]
        if not self.things:
            raise ValueError(f"a model needs an {what}")

    def __len__(self) -> int:
        return len(self.things)

    def packed(self, things: Sequence) -> Any:
        """Items in this form."""
        if self._single:
            return things[0]
        return list(things) if self._keys is None else dict(zip(self._keys, things, strict=True))

    def unpacked(self, name: str, given: Any) -> list:
        """The items in a list; ValueError or TypeError if they are not given in this form."""
        if self._single:
            return [given]
        if isinstance(given, Mapping):
            keys = self.names if self._keys is None else self._keys
            if missing := [key for key in keys if key not in given]:
                there = ", ".join(map(str, given))
                raise ValueError(f"{name} has nothing for {self.what} {missing[0]!r}; there is {there}")
            if extra := [key for key in given if key not in keys]:
                raise ValueError(f"{name}: there is no {self.what} {extra[0]!r}; there is {', '.join(map(str, keys))}")
            return [given[key] for key in keys]
        if self._keys is not None or not isinstance(given, list | tuple):
            kind = "dict" if self._keys is not None else "list"
            raise TypeError(f"{name} must be a {kind} with an entry for each {self.what}: {', '.join(self.names)}")
        if len(given) != len(self):
            raise ValueError(f"{name} must have an entry for each of {len(self)} {self.what}s, got {len(given)}")
        return list(given)

    def each(self, name: str, given: Any) -> list:
        """The same as `unpacked`, but a single item stands for all."""
        if isinstance(given, Mapping) or (isinstance(given, list | tuple) and not self._single):
            return self.unpacked(name, given)
        return [given] * len(self)
