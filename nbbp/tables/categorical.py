"""What is learned of a column of categories."""

import collections
import dataclasses
from collections.abc import Mapping
from typing import Any, Self

import numpy as np

from nbbp.tables.cells import Cells

UNKNOWN = 0  # code of categories that have none of their own
GROUPS = "groups of them, such as regions of towns, may say more"
MOST = 1000  # categories with a code of their own


@dataclasses.dataclass(frozen=True)
class Categories:
    """A column of categories: a column of 0 and 1 for each, or codes of an embedding.

    Attributes
    ----------
    name : str
    categories : tuple of str or None
        In ascending order; None for missing values, which are a category if there were any. All others, such as
        categories that did not occur in the fit, are 0 everywhere, or have the code 0.
    one_hot : bool
    others : int
        The number of categories in the fit that have none of their own, because they are the rarest of too many.
    """

    name: str
    categories: tuple[str | None, ...]
    one_hot: bool
    others: int = 0

    kind = "category"

    @classmethod
    def fit(cls, column: Cells, one_hot: int) -> Self:
        """Learn the categories; up to `one_hot` of them get a column each."""
        counts = collections.Counter(column.as_texts())
        kept = sorted(counts, key=lambda text: (-counts[text], text is None, text or ""))[:MOST]
        categories = tuple(sorted(kept, key=lambda text: (text is None, text or "")))
        return cls(column.name, categories, len(categories) <= one_hot, len(counts) - len(kept))

    @property
    def features(self) -> list[str]:
        if not self.one_hot:
            return [self.name]
        return [f"{self.name} is missing" if c is None else f"{self.name}={c}" for c in self.categories]

    @property
    def groups(self) -> list[str]:
        return ["one_hot"] * len(self.categories) if self.one_hot else ["codes"]

    @property
    def description(self) -> str:
        how = "a column of 0 and 1 for each" if self.one_hot else "a trained vector for each (embedding)"
        missing = ", one of them for missing values" if None in self.categories else ""
        others = f"; the {self.others:,} rarest share a vector: {GROUPS}" if self.others else ""
        return f"{len(self.categories) + self.others:,} categories{missing}, {how}{others}"

    def encode(self, column: Cells) -> np.ndarray:
        codes = self.codes(column)[:, np.newaxis]
        if self.one_hot:
            return (codes == np.arange(1, len(self.categories) + 1)).astype(np.float64)
        return codes.astype(np.float64)

    def codes(self, column: Cells) -> np.ndarray:
        """The code of each category (rows,), counted from 1; 0 for others."""
        code = {category: k for k, category in enumerate(self.categories, 1)}
        return np.array([code.get(text, UNKNOWN) for text in column.as_texts()], np.int64)

    def unknown(self, column: Cells) -> list[str]:
        """The categories that have no code."""
        return sorted(text for text in set(column.as_texts()) - set(self.categories) if text is not None)

    def to_dict(self) -> dict[str, Any]:
        return {"kind": self.kind} | dataclasses.asdict(self) | {"categories": list(self.categories)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        categories = tuple(None if c is None else str(c) for c in values["categories"])
        return cls(values["name"], categories, bool(values["one_hot"]), int(values["others"]))
