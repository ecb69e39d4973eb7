"""What is learned of a column of categories."""

import collections
import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple, Self

import numpy as np

from nbbp.tables.cells import Cells
from nbbp.tables.numeric import Numbers

UNKNOWN = 0  # code of categories that have none of their own
GROUPS = "groups of them, such as regions of towns, may say more"
MOST = 1000  # categories with a code of their own


class Indicator(NamedTuple):
    """A column that tells a category from others.

    Attributes
    ----------
    code : int
        Of the category.
    other, own, unknown : float
        What stands in the rows of other categories, of this one, and of those that have no code.
    """

    code: int
    other: float
    own: float
    unknown: float


@dataclasses.dataclass(frozen=True)
class Categories:
    """A column of categories: columns of two values, which tell them apart, or codes of an embedding.

    Attributes
    ----------
    name : str
    categories : tuple of str or None
        In ascending order, with codes from 1; None for missing values, which are a category if there were any and the
        columns are not scaled. All others, such as categories that did not occur in the fit, have the code 0.
    others : int
        The number of categories in the fit that have no code, because they are the rarest of too many.
    columns : tuple of Indicator
        Empty for codes of an embedding.
    """

    name: str
    categories: tuple[str | None, ...]
    others: int = 0
    columns: tuple[Indicator, ...] = ()

    kind = "category"

    @classmethod
    def fit(cls, column: Cells, one_hot: int, scaled: bool = False) -> Self:
        """Learn the categories; up to `one_hot` of them get columns, of 0 and 1, or of these as `Numbers` scales them.

        If they are scaled, two categories share one, and a missing value is in no category, as in RealMLP: Holzmueller,
        Grinsztajn and Steinwart, "Better by default", 2024, section 3.
        """
        counts = collections.Counter(column.as_texts())
        kept = sorted(counts, key=lambda text: (-counts[text], text is None, text or ""))[:MOST]
        categories = tuple(sorted(kept, key=lambda text: (text is None, text or "")))
        named = tuple(category for category in categories if category is not None)
        if scaled and len(named) <= one_hot:
            categories = named
        known = cls(column.name, categories, len(counts) - len(kept))
        if len(categories) > one_hot:
            return known
        columns = tuple(_scaled(known.codes(column), len(categories))) if scaled else _plain(categories)
        return dataclasses.replace(known, columns=columns)

    @property
    def one_hot(self) -> bool:
        """Whether categories have columns."""
        return bool(self.columns)

    @property
    def features(self) -> list[str]:
        if not self.one_hot:
            return [self.name]
        own = (self.categories[column.code - 1] for column in self.columns)
        return [f"{self.name} is missing" if c is None else f"{self.name}={c}" for c in own]

    @property
    def groups(self) -> list[str]:
        return ["one_hot"] * len(self.columns) if self.one_hot else ["codes"]

    @property
    def description(self) -> str:
        each = "for both" if len(self.columns) < len(self.categories) else "for each"
        values = "0 and 1" if self.columns == _plain(self.categories) else "two values, scaled as numbers,"
        how = f"a column of {values} {each}" if self.one_hot else "a trained vector for each (embedding)"
        missing = ", one of them for missing values" if None in self.categories else ""
        others = f"; the {self.others:,} rarest share a vector: {GROUPS}" if self.others else ""
        return f"{len(self.categories) + self.others:,} categories{missing}, {how}{others}"

    def encode(self, column: Cells) -> np.ndarray:
        codes = self.codes(column)[:, np.newaxis]
        if not self.one_hot:
            return codes.astype(np.float64)
        code, other, own, unknown = np.array(self.columns).T
        return np.where(codes == code, own, np.where(codes == UNKNOWN, unknown, other))

    def codes(self, column: Cells) -> np.ndarray:
        """The code of each category (rows,), counted from 1; 0 for others."""
        code = {category: k for k, category in enumerate(self.categories, 1)}
        return np.array([code.get(text, UNKNOWN) for text in column.as_texts()], np.int64)

    def unknown(self, column: Cells) -> list[str]:
        """The categories that have no code."""
        return sorted(text for text in set(column.as_texts()) - set(self.categories) if text is not None)

    def to_dict(self) -> dict[str, Any]:
        lists = {"categories": list(self.categories), "columns": [list(column) for column in self.columns]}
        return {"kind": self.kind} | dataclasses.asdict(self) | lists

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        categories = tuple(None if c is None else str(c) for c in values["categories"])
        if "columns" in values:
            columns = tuple(Indicator(*column) for column in values["columns"])
        else:
            columns = _plain(categories) if values["one_hot"] else ()
        return cls(values["name"], categories, int(values["others"]), columns)


def _plain(categories: tuple) -> tuple[Indicator, ...]:
    """A column of 0 and 1 for each category."""
    return tuple(Indicator(code, 0.0, 1.0, 0.0) for code in range(1, len(categories) + 1))


def _scaled(codes: np.ndarray, categories: int) -> Iterator[Indicator]:
    """The columns of categories as `Numbers` scales them: of two of them one, in which what is unknown lies between."""
    between, first = (0.5, 2) if categories == 2 else (0.0, 1)
    for code in range(first, categories + 1):
        numbers = np.where(codes == code, 1.0, np.where(codes == UNKNOWN, between, 0.0))
        scaled = Numbers.of("", numbers, bins=0).encode_numbers(np.array([0.0, 1.0, between]))
        yield Indicator(code, *scaled[:, 0].tolist())
