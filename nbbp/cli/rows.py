"""Rows of a file for training and testing: the target, the columns, and which rows test the model."""

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from nbbp.cli.reading import TableFile
from nbbp.recipes.presets import Target
from nbbp.recipes.tabular import held_out
from nbbp.tables import ClassTarget, TableEncoder, ValueTarget, dates
from nbbp.tables.cells import Cells, cells

if TYPE_CHECKING:
    import pyarrow

LEAST_ROWS = 20
MOST_CLASSES = 20  # of whole numbers; with more, they are values
ROWS_OF_CLASS = 10  # least rows of each class; with fewer, they are values


@dataclasses.dataclass(frozen=True)
class Rows:
    """The rows of a file that have a target.

    Attributes
    ----------
    columns : list of Cells
    known : pyarrow.Array (rows,)
        The values of the target.
    dropped : int
        The number of rows without one.
    """

    columns: list[Cells]
    known: "pyarrow.ChunkedArray"
    dropped: int

    def __len__(self) -> int:
        return len(self.known)

    @classmethod
    def of(cls, file: TableFile, columns: list[Cells], target: str, text: bool) -> "Rows":
        """The rows of a file whose columns are read; the target is not read as a number if it is `text`."""
        table = file.typed([target], text=[target] if text else [])
        (answers,) = cells(str(file.path), table)
        there = np.flatnonzero(~answers.missing)
        rows = [column.take(there) for column in columns]
        return cls(rows, table[target].take(there), table.num_rows - len(there))

    def only(self, names: list[str]) -> "Rows":
        """Some of the columns."""
        return dataclasses.replace(self, columns=[column for column in self.columns if column.name in names])

    def take(self, rows: np.ndarray) -> list[Cells]:
        """The columns of some of the rows."""
        return [column.take(rows) for column in self.columns]


def target_of(known: Any, name: str, task: str | None) -> Target:
    """Classes for text, and for few whole numbers if each occurs often; values otherwise."""
    y = np.asarray(known)
    if y.dtype.kind in "iuf" and task != "classification":
        different = np.unique(y)
        whole = np.all(different == np.floor(different))
        few = len(different) <= max(2, min(MOST_CLASSES, len(y) // ROWS_OF_CLASS))
        if task == "regression" or not (whole and few):
            return ValueTarget.fit(known, name)
    elif task == "regression" and y.dtype.kind != "b":
        raise ValueError(f"column {name!r} holds text; --task regression predicts numbers")
    target = ClassTarget.fit(known, name)
    if len(target.classes) > len(y) // 2:
        raise ValueError(
            f"column {name!r} has {len(target.classes):,} classes in {len(y):,} rows, too few to learn from: group "
            f"them, or give another --target"
        )
    return target


def drawn(y: np.ndarray, parts: Sequence[str], share: float, seed: int) -> dict[str, np.ndarray]:
    """Rows to train, and those of other parts, each with the same distribution of classes or values y (rows,)."""
    return _with_rest(len(y), dict(zip(parts, held_out(y, len(parts), share, seed), strict=True)))


def by_time(column: Cells, parts: Sequence[str], share: float) -> dict[str, np.ndarray]:
    """Rows to train, the earliest, and those of other parts, one after the other."""
    order = np.argsort(_times(column), kind="stable")
    count = max(1, min(round(share * len(order)), len(order) // (len(parts) + 1)))
    late = order[-count * len(parts) :].reshape(len(parts), count)
    return _with_rest(len(order), dict(zip(parts, np.sort(late, axis=1), strict=True)))


def _with_rest(rows: int, parts: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {"train": np.setdiff1d(np.arange(rows), np.concatenate(list(parts.values())))} | parts


def _times(column: Cells) -> np.ndarray:
    """Numbers or dates in which a column says when (rows,)."""
    if column.missing.any():
        raise column.error(int(np.argmax(column.missing)), "missing value; --time needs one in every row")
    if column.kind != "text":
        return column.values
    form = dates.form_of(column.values.tolist())
    if form is None:
        raise column.error(0, f"{column.values[0]!r} is no number and no date, which --time needs")
    return dates.instants(column, form, "which --time needs")


def cells_for(file: TableFile, encoder: TableEncoder) -> list[Cells]:
    """The columns of a file that an encoder wants."""
    for column in encoder.columns:
        file.check_column(column.name, "the model wants it")
    numbers = [column.name for column in encoder.columns if column.kind == "number"]
    others = [column.name for column in encoder.columns if column.kind != "number"]
    return cells(str(file.path), file.typed(numbers + others, text=others, numbers=numbers))
