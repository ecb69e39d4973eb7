"""TableEncoder: the columns of a table as the features of a network."""

import dataclasses
import math
import warnings
from collections.abc import Mapping, Sequence
from typing import Any, Self

import numpy as np

from nbbp import checks
from nbbp.layers import ColumnEmbedding, Layer
from nbbp.tables import dates, frames, screening
from nbbp.tables.categorical import Categories
from nbbp.tables.cells import Cells, cells
from nbbp.tables.numeric import Dates, Numbers

ONE_HOT = 50  # up to which each category of a column gets a column; more become codes of an embedding
BINS = 8
WIDEST = 16  # largest dimension of an embedding

Column = Numbers | Dates | Categories
KINDS: dict[str, type[Column]] = {kind.kind: kind for kind in (Numbers, Dates, Categories)}


@dataclasses.dataclass(frozen=True)
class TableEncoder:
    """The encoder of a table's columns for a network; made by `TableEncoder.fit`.

    Numbers and booleans are scaled by median and quartiles and clipped smoothly at 3; beside them are their shares of
    quantile bins, steps where a target changes, if one is given, and a mark if some are missing. Dates become such
    numbers: year, month, day, weekday and hour. Text and categories become a column of 0 and 1 for each category,
    missing values being one, or, if there are many, codes for an `nbbp.ColumnEmbedding`, which `layers` returns. A
    category that did not occur in the fit is all 0, or code 0.

    Attributes
    ----------
    columns : tuple of Numbers, Dates or Categories
        What was learned of each column.
    left_out : dict of str to str
        The columns from which nothing can be learned, and why: constants, identifiers and nearly empty ones.

    Examples
    --------
    >>> import nbbp, pyarrow
    >>> table = pyarrow.table({"mass": [3.0, 4.0, 5.0, None], "island": ["Dream", "Biscoe", None, "Dream"]})
    >>> encoder = nbbp.tables.TableEncoder.fit(table, bins=0)
    >>> encoder.features
    ['mass', 'mass is missing', 'island=Biscoe', 'island=Dream', 'island is missing']
    >>> encoder.encode(table).round(2)
    array([[-0.95,  0.  ,  0.  ,  1.  ,  0.  ],
           [ 0.  ,  0.  ,  1.  ,  0.  ,  0.  ],
           [ 0.95,  0.  ,  0.  ,  0.  ,  1.  ],
           [ 0.  ,  1.  ,  0.  ,  1.  ,  0.  ]])
    >>> model = nbbp.Sequential([*encoder.layers(), nbbp.Dense(8, "relu"), nbbp.Dense(2)])
    >>> encoder == nbbp.tables.TableEncoder.from_dict(encoder.to_dict())
    True
    """

    columns: tuple[Column, ...]
    left_out: Mapping[str, str] = dataclasses.field(default_factory=dict)

    @classmethod
    def fit(
        cls, table, categorical: Sequence[str] = (), name: str = "table", bins: int = BINS, one_hot: int = ONE_HOT,
        target: np.ndarray | None = None, scaled: bool = False,
    ) -> Self:  # fmt: skip
        """Learn medians, quartiles, bins and categories, and the steps of a target.

        Parameters
        ----------
        table
            A table of pandas, polars or pyarrow, or an array (rows, columns), whose columns are called x0, x1, ...
        categorical : sequence of str
            Columns of numbers or dates that are categories, such as postal codes.
        name : str
            The name of the table in errors.
        bins : int
            The number of quantile bins of each number; 0 for none.
        one_hot : int
            Up to which number of categories each gets a column of 0 and 1.
        target : ndarray (rows,), optional
            Classes as integers from 0, or values as floats, as `ClassTarget` and `ValueTarget` encode them. Beside
            each number are steps then, up to 31, where the target changes.
        scaled : bool
            Whether the columns of categories are scaled and clipped as numbers are. Two categories then share one, and
            a missing value is in no category.

        Warns
        -----
        UserWarning
            If columns are left out, with their names and the reasons.

        Raises
        ------
        CellError
            If a number is infinite, or a text is no date in a column that has dates otherwise.
        ValueError
            If nothing can be learned of any column, or the target has other rows.
        """
        return cls.fit_cells(
            cells(name, table), frames.is_table(table), categorical, name, bins, one_hot, target, scaled
        )

    @classmethod
    def fit_cells(
        cls, columns: Sequence[Cells], named: bool, categorical: Sequence[str] = (), name: str = "table",
        bins: int = BINS, one_hot: int = ONE_HOT, target: np.ndarray | None = None, scaled: bool = False,
    ) -> Self:  # fmt: skip
        """The same from columns whose cells are read; if they are not `named`, none is taken for row numbers."""
        if isinstance(categorical, str):
            raise TypeError(f"categorical must be a list of columns, such as [{categorical!r}]")
        checks.integer("bins", bins, least=0)
        checks.integer("one_hot", one_hot, least=0)
        checks.boolean("scaled", scaled)
        if not columns or not len(columns[0]):
            raise ValueError(f"{name} has no {'rows' if columns else 'columns'}")
        for wanted in categorical:
            if wanted not in (column.name for column in columns):
                raise ValueError(f"categorical: {name} has no column {wanted!r}")
        target = None if target is None else _checked(target, len(columns[0]), name)
        known: list[Column] = []
        left_out: dict[str, str] = {}
        for column in columns:
            chosen = column.name in categorical
            form = dates.form_of(column.present.tolist()) if column.kind == "text" and not chosen else None
            read = column if form is None else _dates(column, form)
            if (flaw := screening.flaw(read, named, chosen)) is not None:
                left_out[column.name] = flaw
            elif chosen or read.kind == "text":
                known.append(Categories.fit(column, one_hot, scaled))
            else:
                number = read.kind == "number"
                known.append(Numbers.fit(read, bins, target) if number else Dates.fit(read, form, bins, target))
        listed = "; ".join(f"{column!r} ({why})" for column, why in left_out.items())
        if not known:
            raise ValueError(f"{name} has no column to learn from: {listed}. Give columns that differ between rows")
        if left_out:
            warnings.warn(f"{name}: columns are left out: {listed}", stacklevel=3)
        return cls(tuple(known), left_out)

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
            If a number is infinite, or a text is no number or date where there were numbers or dates in the fit.
        """
        return self.encode_cells([column for _, column in self._paired(name, table)])

    def encode_cells(self, columns: Sequence[Cells]) -> np.ndarray:
        """The same from columns whose cells are read, which contain those of the encoder."""
        given = {column.name: column for column in columns}
        return np.concatenate([known.encode(given[known.name]) for known in self.columns], axis=1)

    def unknown(self, table, name: str = "table") -> dict[str, list[str]]:
        """The categories in a table that have no column or vector of their own, by column."""
        return self.unknown_cells([column for _, column in self._paired(name, table)])

    def unknown_cells(self, columns: Sequence[Cells]) -> dict[str, list[str]]:
        """The same from columns whose cells are read."""
        given = {column.name: column for column in columns}
        known = (column for column in self.columns if isinstance(column, Categories))
        found = {column.name: column.unknown(given[column.name]) for column in known}
        return {column: categories for column, categories in found.items() if categories}

    def grouped(self, X: np.ndarray) -> dict[str, np.ndarray]:
        """Encoded rows X (rows, features) as "numbers" and "one_hot", float32, and "codes", int32, if it has columns.

        These are the inputs of `nbbp.recipes.realmlp`.
        """
        groups = np.array([group for column in self.columns for group in column.groups])
        kinds = {"numbers": np.float32, "one_hot": np.float32, "codes": np.int32}
        return {group: X[:, groups == group].astype(kind) for group, kind in kinds.items() if group in groups}

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
        return {"columns": [column.to_dict() for column in self.columns], "left_out": dict(self.left_out)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """The encoder that `to_dict` described."""
        columns = (KINDS[column["kind"]].from_dict(column) for column in values["columns"])
        return cls(tuple(columns), dict(values["left_out"]))

    def _paired(self, name: str, table) -> list[tuple[Column, Cells]]:
        """Each known column, and the table's column."""
        found = {column.name: column for column in cells(name, table, [column.name for column in self.columns])}
        lacking = next((column.name for column in self.columns if column.name not in found), None)
        if lacking is not None:
            given = frames.names(name, table) if frames.is_table(table) else found
            raise ValueError(f"{name} has no column {lacking!r}; its columns are {', '.join(map(repr, given))}")
        return [(known, found[known.name]) for known in self.columns]


def _checked(target, rows: int, name: str) -> np.ndarray:
    """Encoded classes or values (rows,), int64 or float64."""
    y = np.asarray(target)
    if y.shape != (rows,):
        raise ValueError(f"target must have a class or value for each of the {rows} rows of {name}, got {y.shape}")
    if y.dtype.kind not in "iuf":
        raise TypeError(f"target must be encoded, by ClassTarget or ValueTarget, got the dtype {y.dtype}")
    if not np.isfinite(y).all() or (y.dtype.kind != "f" and y.min() < 0):
        raise ValueError("target must be finite, and classes integers from 0")
    return y.astype(np.float64 if y.dtype.kind == "f" else np.int64)


def _dates(column: Cells, form: str) -> Cells:
    """A column of text as dates."""
    rest = f"as most in the column are; correct it, or take all as categories: categorical=[{column.name!r}]"
    return dataclasses.replace(column, kind="date", values=dates.instants(column, form, rest))
