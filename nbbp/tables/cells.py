"""The cells of a column as NumPy arrays with missing values: numbers, texts or dates."""

import dataclasses
import datetime
import decimal
import numbers
import re
from collections.abc import Collection
from typing import Any

import numpy as np

from nbbp.tables import frames
from nbbp.tables.frames import CellError

MISSING = ("na", "n/a", "nan", "null", "none", "?", "-")  # in a column of numbers or dates, as a blank cell is anywhere
NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")
LEADING_ZERO = re.compile(r"0\d")  # as in a postal code, which is no number
FEW = 50  # different texts; as many that look like numbers may well be names of categories


@dataclasses.dataclass(frozen=True)
class Cells:
    """One column of a table.

    Attributes
    ----------
    table, name : str
    kind : {"number", "text", "date"}
    values : ndarray (rows,)
        float64, or objects that are str, or datetime64[us]; missing ones are nan, None or NaT.
    rows : ndarray (rows,) of int or None
        The row of each value in the table, for errors; None if these are all rows.
    """

    table: str
    name: str
    kind: str
    values: np.ndarray
    rows: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.values)

    @property
    def missing(self) -> np.ndarray:
        """Whether each cell is missing (rows,)."""
        if self.kind == "text":
            return np.array([value is None for value in self.values], bool)
        return np.isnan(self.values) if self.kind == "number" else np.isnat(self.values)

    @property
    def present(self) -> np.ndarray:
        """The values that are not missing."""
        return self.values[~self.missing]

    def error(self, row: int, problem: str) -> CellError:
        """An error about the cell in a row."""
        return CellError(self.table, self.name, row if self.rows is None else int(self.rows[row]), problem)

    def take(self, rows: np.ndarray) -> "Cells":
        """Some of the rows."""
        there = rows if self.rows is None else self.rows[rows]
        return dataclasses.replace(self, values=self.values[rows], rows=there)

    def as_numbers(self) -> np.ndarray:
        """The values of a column that held numbers when it was learned (rows,), float64; CellError if one is none."""
        if self.kind == "number":
            return self.values
        if self.kind == "date":
            raise TypeError(f"{self.table}: column {self.name!r} held numbers when it was learned, now dates")
        return np.array([self._number(row, value) for row, value in enumerate(self.values)], np.float64)

    def _number(self, row: int, text: str | None) -> float:
        if text is None or text.lower() in MISSING:
            return np.nan
        if not NUMBER.fullmatch(text):
            raise self.error(row, f"{text!r} is not a number, as the model wants them in this column")
        return float(text)

    def as_texts(self) -> list[str | None]:
        """The values as text, the same for integers and for whole floats."""
        if self.kind == "text":
            return list(self.values)
        if self.kind == "date":
            return [None if lacking else str(v) for v, lacking in zip(self.values, self.missing, strict=True)]
        return [None if v != v else str(int(v) if v.is_integer() else v) for v in self.values.tolist()]


def cells(name: str, data, wanted: Collection[str] | None = None) -> list[Cells]:
    """The columns of a table of pandas, polars or pyarrow, or of an array (rows, columns); x0, x1, ... without names.

    Blank text is missing, and so are nan, None, NA and NaT. Objects of one kind, such as dates in a pandas column, have
    that kind, and others are text. Only the `wanted` columns are read, or all. CellError for a number that is infinite.
    """
    if frames.is_table(data):
        columns = frames.opened(name, data).iter_columns()
        return [_of_series(name, column) for column in columns if wanted is None or str(column.name) in wanted]
    given = data if isinstance(data, np.ndarray) else np.array(data, dtype=object)
    if given.ndim != 2:
        raise ValueError(f"{name} must have rows and columns, got the shape {given.shape}")
    names = [f"x{k}" for k in range(given.shape[1])]
    return [_of_array(name, x, given[:, k]) for k, x in enumerate(names) if wanted is None or x in wanted]


def _of_series(table: str, column) -> Cells:
    """A narwhals.Series."""
    import narwhals as nw

    name, kind = str(column.name), column.dtype
    if column.null_count() == len(column):
        return Cells(table, name, "number", np.full(len(column), np.nan))
    if kind.is_numeric() or kind == nw.Boolean:
        if kind.is_decimal() or column.null_count():  # nulls, which NumPy makes objects of
            return _numbers(table, name, _floats(column.to_list()))
        return _numbers(table, name, np.asarray(column.to_numpy()).astype(np.float64))
    if kind in (nw.Date, nw.Datetime):
        return Cells(table, name, "date", np.array([_instant(value) for value in column.to_list()], "datetime64[us]"))
    if kind in (nw.String, nw.Categorical, nw.Enum, nw.Object):
        return _of_objects(table, name, column.to_list(), labels=kind not in (nw.String, nw.Object))
    raise TypeError(f"{table}: column {name!r} holds {kind}; make numbers or text of it, or leave it out")


def _of_array(table: str, name: str, values: np.ndarray) -> Cells:
    if values.dtype.kind in "biuf":
        return _numbers(table, name, values.astype(np.float64))
    if values.dtype.kind == "M":
        return Cells(table, name, "date", values.astype("datetime64[us]"))
    return _of_objects(table, name, values.tolist(), labels=False)


def _of_objects(table: str, name: str, values: list, labels: bool) -> Cells:
    """Python objects; if they are labels of categories, they become text even if they are numbers."""
    values = [None if _is_missing(value) else value for value in values]
    kinds = {type(value) for value in values if value is not None}
    if kinds and not labels and all(map(_is_number, kinds)):
        return _numbers(table, name, _floats(values))
    if kinds and all(issubclass(kind, datetime.date | np.datetime64) for kind in kinds):
        return Cells(table, name, "date", np.array([_instant(value) for value in values], "datetime64[us]"))
    whole = (str(int(v)) if isinstance(v, float) and v.is_integer() else v for v in values)
    texts = np.array([None if v is None else str(v).strip() or None for v in whole], object)
    column = Cells(table, name, "text", texts)
    if not labels and (read := _numbers_in(texts.tolist())) is not None:
        return _numbers(table, name, read)
    return column


def _is_missing(value) -> bool:
    return value is None or type(value).__name__ in ("NAType", "NaTType") or bool(value != value)


def _is_number(kind: type) -> bool:
    return issubclass(kind, numbers.Real | decimal.Decimal | np.bool_)


def _floats(values: list) -> np.ndarray:
    return np.array([np.nan if _is_missing(value) else float(value) for value in values], np.float64)


def _instant(value) -> Any:
    """Anything that says a date as a time without a zone, that of its own clock."""
    if _is_missing(value):
        return np.datetime64("NaT", "us")
    return np.datetime64(value.replace(tzinfo=None) if isinstance(value, datetime.datetime) else value, "us")


def _numbers_in(texts: list[str | None]) -> np.ndarray | None:
    """The numbers of texts that are all numbers, or say that they are missing; None if some are not, or few differ."""
    present = {text for text in texts if text is not None and text.lower() not in MISSING}
    if len(present) <= FEW or not all(NUMBER.fullmatch(t) and not LEADING_ZERO.match(t) for t in present):
        return None
    return np.array([float(text) if text in present else np.nan for text in texts], np.float64)


def _numbers(table: str, name: str, values: np.ndarray) -> Cells:
    column = Cells(table, name, "number", values)
    if np.isinf(values).any():
        row = int(np.argmax(np.isinf(values)))
        raise column.error(row, f"must be finite, got {values[row]}")
    return column
