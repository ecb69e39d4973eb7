"""TableEncoder: standardised numbers, and categories as codes or as one column each."""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from nbbp.layers import ColumnEmbedding, Layer
from nbbp.tables import frames

ONE_HOT = 10  # up to which each category of a column gets a column; more become codes of an embedding
WIDEST = 16  # largest dimension of an embedding
UNKNOWN = 0  # code of categories that did not occur when the encoder was fitted


@dataclasses.dataclass(frozen=True)
class Numbers:
    """A column of numbers, standardised: (x - mean) / standard deviation."""

    name: str
    mean: float
    deviation: float

    @property
    def features(self) -> list[str]:
        return [self.name]

    def encode(self, table: str, column) -> np.ndarray:
        values = frames.numbers(table, column, np.float64)
        return ((values - self.mean) / self.deviation)[:, np.newaxis]

    def to_dict(self) -> dict[str, Any]:
        return {"name": self.name, "kind": "number", "mean": self.mean, "deviation": self.deviation}


@dataclasses.dataclass(frozen=True)
class Categories:
    """A column of categories: a column of 0 and 1 for each, all 0 for unknown ones, or codes, 0 for unknown ones."""

    name: str
    categories: tuple[str, ...]
    one_hot: bool

    @property
    def features(self) -> list[str]:
        return [f"{self.name}={category}" for category in self.categories] if self.one_hot else [self.name]

    def encode(self, table: str, column) -> np.ndarray:
        code = {category: k for k, category in enumerate(self.categories, 1)}
        codes = np.array([code.get(text, UNKNOWN) for text in _texts(table, column)])[:, np.newaxis]
        if self.one_hot:
            return (codes == np.arange(1, len(self.categories) + 1)).astype(np.float64)
        return codes.astype(np.float64)

    def to_dict(self) -> dict[str, Any]:
        kind = "one_hot" if self.one_hot else "embedding"
        return {"name": self.name, "kind": kind, "categories": list(self.categories)}


def _texts(table: str, column) -> list[str]:
    """A column's values as text, the same for integers and for whole floats; CellError for a missing value."""
    frames.check_column(table, column)
    return [str(int(v) if isinstance(v, float) and v.is_integer() else v) for v in column.to_list()]


@dataclasses.dataclass(frozen=True)
class TableEncoder:
    """The encoder of a table's columns for a network; made by `TableEncoder.fit`.

    Numbers and booleans are standardised. Text and categories become a column of 0 and 1 for each category, or, if
    there are more than ten, codes for an `nbbp.ColumnEmbedding`, which `layers` returns. A category that did not occur
    in the fit is all 0, or code 0, whose vector is not trained by any row.

    Attributes
    ----------
    columns : tuple of Numbers or Categories

    Examples
    --------
    >>> import nbbp, pyarrow
    >>> table = pyarrow.table({"mass": [3.0, 5.0], "island": ["Dream", "Biscoe"]})
    >>> encoder = nbbp.tables.TableEncoder.fit(table)
    >>> encoder.features
    ['mass', 'island=Biscoe', 'island=Dream']
    >>> encoder.encode(table)
    array([[-1.,  0.,  1.],
           [ 1.,  1.,  0.]])
    >>> model = nbbp.Sequential([*encoder.layers(), nbbp.Dense(8, "relu"), nbbp.Dense(2)])
    >>> encoder == nbbp.tables.TableEncoder.from_dict(encoder.to_dict())
    True
    """

    columns: tuple[Numbers | Categories, ...]

    @classmethod
    def fit(cls, table, categorical: Sequence[str] = (), name: str = "table") -> "TableEncoder":
        """Learn means, standard deviations and categories.

        Parameters
        ----------
        table
            A table of pandas, polars or pyarrow.
        categorical : sequence of str
            Columns of numbers that are categories, such as postal codes.
        name : str
            The name of the table in errors.

        Raises
        ------
        CellError
            If a value is missing or not finite.
        ValueError
            If hardly any category of a column occurs twice, as in names and identifiers.
        """
        if isinstance(categorical, str):
            raise TypeError(f"categorical must be a list of columns, such as [{categorical!r}]")
        opened = frames.opened(name, table)
        if not len(opened):
            raise ValueError(f"{name} has no rows")
        for column in categorical:
            if column not in opened.columns:
                raise ValueError(f"categorical: {name} has no column {column!r}")
        return cls(tuple(_fitted(name, column, column.name in categorical) for column in opened.iter_columns()))

    @property
    def features(self) -> list[str]:
        """The names of the encoded columns."""
        return [feature for column in self.columns for feature in column.features]

    def encode(self, table, name: str = "table") -> np.ndarray:
        """The network's input (rows, features), float64.

        Columns are found by their names; their order does not matter, nor do additional columns.

        Raises
        ------
        ValueError
            If a column is missing.
        CellError
            If a value is missing or not finite.
        """
        parts = [known.encode(name, column) for known, column in self._paired(name, table)]
        return np.concatenate(parts, axis=1)

    def unknown(self, table, name: str = "table") -> dict[str, list[str]]:
        """The categories in a table that did not occur in the fit, by column."""
        pairs = ((k, c) for k, c in self._paired(name, table) if isinstance(k, Categories))
        found = {known.name: sorted(set(_texts(name, column)) - set(known.categories)) for known, column in pairs}
        return {column: categories for column, categories in found.items() if categories}

    def layers(self) -> list[Layer]:
        """The first layers of the network: the embedding of columns of codes, if there are any."""
        begins = np.cumsum([0, *(len(column.features) for column in self.columns)]).tolist()
        codes = {
            begin: len(column.categories) + 1
            for begin, column in zip(begins, self.columns, strict=False)
            if isinstance(column, Categories) and not column.one_hot
        }
        return [ColumnEmbedding(codes, min(WIDEST, math.isqrt(max(codes.values()))))] if codes else []

    def to_dict(self) -> dict[str, Any]:
        """The encoder as plain values for JSON."""
        return {"columns": [column.to_dict() for column in self.columns]}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "TableEncoder":
        """The encoder that `to_dict` described."""
        return cls(tuple(map(_from_dict, values["columns"])))

    def _paired(self, name: str, table) -> list[tuple[Numbers | Categories, Any]]:
        """Each known column, and the table's column."""
        opened = frames.opened(name, table)
        given = {str(column.name): column for column in opened.iter_columns()}
        missing = [column.name for column in self.columns if column.name not in given]
        if missing:
            raise ValueError(f"{name} has no column {missing[0]!r}; its columns are {', '.join(map(repr, given))}")
        for known in self.columns:
            if isinstance(known, Numbers) and frames.is_text(name, given[known.name]):
                raise TypeError(f"{name}: column {known.name!r} held numbers when the encoder was fitted, now text")
        return [(known, given[known.name]) for known in self.columns]


def _fitted(table: str, column, categorical: bool) -> Numbers | Categories:
    name = str(column.name)
    if not categorical and not frames.is_text(table, column):
        values = frames.numbers(table, column, np.float64)
        if values.min() == values.max():  # its mean is rounded, and its standard deviation need not be 0
            return Numbers(name, float(values[0]), 1.0)
        return Numbers(name, float(values.mean()), float(values.std()) or 1.0)
    categories = tuple(sorted(set(_texts(table, column))))
    if len(categories) > max(ONE_HOT, len(column) // 2):
        raise ValueError(
            f"{table}: column {name!r} has {len(categories):,} different texts in {len(column):,} rows, from which "
            f"nothing can be learned: leave it out"
        )
    return Categories(name, categories, one_hot=len(categories) <= ONE_HOT)


def _from_dict(values: Mapping[str, Any]) -> Numbers | Categories:
    if values["kind"] == "number":
        return Numbers(values["name"], values["mean"], values["deviation"])
    return Categories(values["name"], tuple(values["categories"]), one_hot=values["kind"] == "one_hot")
