"""Access to tables: columns of pandas, polars and pyarrow, through narwhals."""

from collections.abc import Sequence
from typing import Any

import numpy as np

WAY_OUT = "nbbp.tables.TableEncoder makes numbers of text and categories"


class CellError(ValueError):
    """An invalid value in a table.

    Attributes
    ----------
    table, column : str
    row : int
        The row, counted from 0.
    problem : str
        What is wrong, and how to fix it.
    """

    def __init__(self, table: str, column: str, row: int, problem: str) -> None:
        self.table, self.column, self.row, self.problem = table, column, row, problem
        super().__init__(f"{table}, row {row}, column {column!r}: {problem}")

    def __reduce__(self):
        return CellError, (self.table, self.column, self.row, self.problem)


def is_table(data) -> bool:
    """Whether data has named columns; imports no table library to find out."""
    return hasattr(type(data), "columns")


def opened(name: str, data) -> Any:
    """The table as a narwhals.DataFrame."""
    try:
        import narwhals as nw
    except ImportError:
        raise ImportError(f'{name} is a table, which needs narwhals: pip install "nbbp[data]"') from None
    try:
        return nw.from_native(data, eager_only=True)
    except nw.exceptions.DuplicateError as error:
        raise ValueError(f"{name} must have columns with names of their own: {' '.join(str(error).split())}") from None
    except TypeError:
        kind = f"{type(data).__module__.split('.')[0]} {type(data).__name__}"
        raise TypeError(
            f"{name} must be a table of pandas, polars or pyarrow that is in memory, got {kind}; "
            f"collect() brings a lazy one there"
        ) from None


def names(name: str, data) -> tuple[str, ...]:
    """The names of a table's columns, from left to right."""
    return tuple(map(str, opened(name, data).columns))


def columns(name: str, data, dtype, known: Sequence[str] | None) -> tuple[np.ndarray, tuple[str, ...]]:
    """A table of numbers as an array, and the names of its columns, checked against those that a model knows."""
    given = names(name, data)
    if known is not None:
        check_names(name, given, known)
    return array(name, data, dtype), given


def check_names(name: str, given: Sequence[str], known: Sequence[str]) -> None:
    """ValueError unless a table has the columns that a model knows, in the same order."""
    missing, unknown = [c for c in known if c not in given], [c for c in given if c not in known]
    if missing or unknown:
        parts = [f"lacks {_listed(missing)}"] * bool(missing)
        parts += [f"has {_listed(unknown)}, which the model does not know"] * bool(unknown)
        raise ValueError(f"{name} {' and '.join(parts)}; the model's columns are {_listed(known)}")
    wrong = next((i for i, (a, b) in enumerate(zip(given, known, strict=True)) if a != b), None)
    if wrong is not None:
        raise ValueError(
            f"{name} has the model's columns in another order: column {wrong} is {given[wrong]!r}, not "
            f"{known[wrong]!r}; select them by model.feature_names"
        )


def _listed(columns: Sequence[str], most: int = 8) -> str:
    text = ", ".join(map(repr, columns[:most]))
    return text + (f" and {len(columns) - most} more" if len(columns) > most else "")


def is_text(name: str, column) -> bool:
    """Whether a column (narwhals.Series) holds text or categories rather than numbers; TypeError for anything else."""
    import narwhals as nw

    kind = column.dtype
    if kind.is_numeric() or kind == nw.Boolean or column.null_count() == len(column):
        return False
    if kind in (nw.String, nw.Categorical, nw.Enum):
        return True
    found = "values of several kinds" if kind == nw.Object else str(kind)
    raise TypeError(f"{name}: column {str(column.name)!r} holds {found}; make numbers or text of it, or leave it out")


def numbers(name: str, column, dtype) -> np.ndarray:
    """A column of numbers or booleans (rows,) in `dtype`; CellError if one is missing or not finite."""
    if not column.null_count():
        with np.errstate(over="ignore"):
            values = np.asarray(column.to_numpy()).astype(dtype)
        if np.isfinite(values).all():
            return values
    check_column(name, column)
    row = int(np.argmin(np.isfinite(values)))
    raise CellError(name, str(column.name), row, f"{column[row]} is too large for {np.dtype(dtype)}")


def check_column(name: str, column) -> None:
    """CellError if a value is missing, or a number not finite."""
    text = is_text(name, column)
    missing = column.is_null().to_numpy().astype(bool)
    if not text and column.dtype.is_float():
        missing |= column.is_nan().fill_null(True).to_numpy().astype(bool)
    if missing.any():
        fill = "a word of its own, such as 'unknown'" if text else "a number, such as the column's median"
        rows = f"one of {missing.sum():,} in the column" if missing.sum() > 1 else "the only one in the column"
        problem = f"missing value, {rows}; leave out such rows, or the column, or fill in {fill}"
        raise CellError(name, str(column.name), int(np.argmax(missing)), problem)
    if not text and column.dtype.is_float():
        infinite = np.isinf(column.to_numpy())
        if infinite.any():
            row = int(np.argmax(infinite))
            raise CellError(name, str(column.name), row, f"must be finite, got {column[row]}")


def array(name: str, data, dtype) -> np.ndarray:
    """A table of numbers and booleans as an array (rows, columns) in `dtype`."""
    table = opened(name, data)
    result = np.empty(table.shape, dtype)
    for j, column in enumerate(table.iter_columns()):
        if is_text(name, column):
            example = next((value for value in column.to_list() if value is not None), None)
            raise TypeError(
                f"{name}: column {str(column.name)!r} holds text, such as {example!r}, and a model takes numbers; "
                f"{WAY_OUT}"
            )
        result[:, j] = numbers(name, column, dtype)
    return result
