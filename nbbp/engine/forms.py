"""How a user gives and gets several arrays: one by itself, a list of them, or a dict by name."""

from collections.abc import Mapping, Sequence
from typing import Any


class Form:
    """One thing, a list of things, or a dict of things.

    Parameters
    ----------
    what : str
        What the things are, for messages.
    given : thing, list of things or dict of str to thing
        An example, whose form all others have.

    Attributes
    ----------
    things : list
        Of the example.
    names : list of str
        By which columns of a history and messages tell them apart; empty for one by itself.
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
        """Things in this form."""
        if self._single:
            return things[0]
        return list(things) if self._keys is None else dict(zip(self._keys, things, strict=True))

    def unpacked(self, name: str, given: Any) -> list:
        """The things in a list; ValueError or TypeError where they are not given in this form."""
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
        """The same as `unpacked`, or one thing that holds for all."""
        if isinstance(given, Mapping) or (isinstance(given, list | tuple) and not self._single):
            return self.unpacked(name, given)
        return [given] * len(self)
