"""Columns from which nothing can be learned."""

import re

import numpy as np

from nbbp.tables.cells import FEW, Cells

LEAST_ROWS = 20  # with fewer, nothing can be said of identifiers
LARGEST_FIRST = 10  # number of the first row, in a part of a table
LEAST_SHARE = 0.01  # of the rows that have a value
NAME_OF_INDEX = re.compile(
    r"(|Unnamed: \d+|column \d+|__index_level_\d+__|(.*[^a-zA-Z])?(id|index|key|row|rownames?)|.*[a-z]I[dD]|[A-Z]*ID)",
    re.ASCII,
)


def flaw(column: Cells, named: bool, categorical: bool) -> str | None:
    """Why nothing can be learned of a column; None if something may.

    Parameters
    ----------
    column : Cells
    named : bool
        Whether the columns have names; without, no column of numbers is taken for an identifier.
    categorical : bool
        Whether the user says that the column has categories.
    """
    present, rows = column.present, len(column)
    if len(present) <= LEAST_SHARE * rows:
        return f"nearly empty, {len(present):,} of {rows:,} values are there" if len(present) else "empty"
    different = len(set(present.tolist())) if column.kind == "text" else len(np.unique(present))
    if different == 1 and len(present) == rows:
        return f"constant, always {present[0]}" if column.kind != "number" else f"constant, always {present[0]:g}"
    if rows < LEAST_ROWS or categorical:
        return None
    if column.kind == "text":
        return _flaw_of_text(different, len(present))
    if column.kind == "number" and named and different == len(present) == rows:
        return _flaw_of_numbers(column.name, present)
    return None


def _flaw_of_text(different: int, present: int) -> str | None:
    if different > max(FEW, present // 2):
        return f"an identifier or free text, {different:,} different texts in {present:,} rows"
    return None


def _flaw_of_numbers(name: str, values: np.ndarray) -> str | None:
    """All values are different: whole numbers are row numbers if they lie densely, also in a part of a table."""
    if not np.all(values == np.floor(values)):
        return None
    if 0 <= values.min() <= LARGEST_FIRST and values.max() < 3 * len(values):
        return "row numbers"
    if NAME_OF_INDEX.fullmatch(name):
        return "an identifier by its name, with a different number in each row"
    return None
