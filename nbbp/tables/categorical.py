"""What is learned of a column of categories."""

import collections
import dataclasses
from collections.abc import Mapping
from typing import Any, Self

import numpy as np

from nbbp.tables.cells import Cells
from nbbp.tables.numeric import Numbers

UNKNOWN = 0  # code of categories that have none of their own
GROUPS = "groups of them, such as regions of towns, may say more"
MOST = 1000  # categories with a code of their own


@dataclasses.dataclass(frozen=True)
class Categories:
    """A column of categories: a column of two values for each, or codes of an embedding.

    Attributes
    ----------
    name : str
    categories : tuple of str or None
        In ascending order; None for missing values, which are a category if there were any. All others, such as
        categories that did not occur in the fit, are in no column, or have the code 0.
    one_hot : bool
    others : int
        The number of categories in the fit that have none of their own, because they are the rarest of too many.
    levels : tuple of (float, float)
        For each column what stands in the rows of other categories, and in those of its own: 0 and 1, or these as
        `Numbers` scales and clips them. If there are fewer than categories, the first have none. Empty for codes.
    """

    name: str
    categories: tuple[str | None, ...]
    one_hot: bool
    others: int = 0
    levels: tuple[tuple[float, float], ...] = ()

    kind = "category"

    @classmethod
    def fit(cls, column: Cells, one_hot: int, scaled: bool = False) -> Self:
        """Learn the categories; up to `one_hot` of them get a column each, or two of them a single one if `scaled`."""
        counts = collections.Counter(column.as_texts())
        kept = sorted(counts, key=lambda text: (-counts[text], text is None, text or ""))[:MOST]
        categories = tuple(sorted(kept, key=lambda text: (text is None, text or "")))
        own = categories[1:] if scaled and len(categories) == 2 and None not in categories else categories
        own = own if len(categories) <= one_hot else ()
        levels = tuple(_scaled(counts[c], len(column)) if scaled else (0.0, 1.0) for c in own)
        return cls(column.name, categories, bool(own), len(counts) - len(kept), levels)

    @property
    def features(self) -> list[str]:
        if not self.one_hot:
            return [self.name]
        own = self.categories[-len(self.levels) :]
        return [f"{self.name} is missing" if c is None else f"{self.name}={c}" for c in own]

    @property
    def groups(self) -> list[str]:
        return ["one_hot"] * len(self.levels) if self.one_hot else ["codes"]

    @property
    def description(self) -> str:
        plain = all(levels == (0, 1) for levels in self.levels)
        values = "0 and 1" if plain else "two scaled values"
        columns = f"a column of {values}" + " for each" * (len(self.levels) == len(self.categories))
        how = columns if self.one_hot else "a trained vector for each (embedding)"
        missing = ", one of them for missing values" if None in self.categories else ""
        others = f"; the {self.others:,} rarest share a vector: {GROUPS}" if self.others else ""
        return f"{len(self.categories) + self.others:,} categories{missing}, {how}{others}"

    def encode(self, column: Cells) -> np.ndarray:
        codes = self.codes(column)[:, np.newaxis]
        if self.one_hot:
            end, (low, high) = len(self.categories) + 1, np.array(self.levels).T
            return np.where(codes == np.arange(end - len(self.levels), end), high, low)
        return codes.astype(np.float64)

    def codes(self, column: Cells) -> np.ndarray:
        """The code of each category (rows,), counted from 1; 0 for others."""
        code = {category: k for k, category in enumerate(self.categories, 1)}
        return np.array([code.get(text, UNKNOWN) for text in column.as_texts()], np.int64)

    def unknown(self, column: Cells) -> list[str]:
        """The categories that have no code."""
        return sorted(text for text in set(column.as_texts()) - set(self.categories) if text is not None)

    def to_dict(self) -> dict[str, Any]:
        lists = {"categories": list(self.categories), "levels": [list(levels) for levels in self.levels]}
        return {"kind": self.kind} | dataclasses.asdict(self) | lists

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        categories = tuple(None if c is None else str(c) for c in values["categories"])
        one_hot = bool(values["one_hot"])
        levels = tuple((low, high) for low, high in values.get("levels", [(0.0, 1.0)] * len(categories) * one_hot))
        return cls(values["name"], categories, one_hot, int(values["others"]), levels)


def _scaled(count: int, rows: int) -> tuple[float, float]:
    """0 and 1 in a column of rows of which `count` are 1, as `Numbers` scales and clips them."""
    numbers = Numbers.of("", (np.arange(rows) < count).astype(np.float64), bins=0)
    low, high = numbers.encode_numbers(np.array([0.0, 1.0]))[:, 0].tolist()
    return low, high
