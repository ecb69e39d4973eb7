"""ColumnEmbedding: trained vectors in place of integer columns."""

import dataclasses
from collections.abc import Mapping

import numpy as np
from numba import prange

from nbbp import checks
from nbbp.engine.layer import Layer, Parameter, Spec
from nbbp.initializers import INITIALIZERS, Initializer, named
from nbbp.kernels.arguments import below, fitting
from nbbp.kernels.jit import device, kernel
from nbbp.kernels.vector_math import ZERO


def embed_column_reference(y, x, table, column, begin):
    codes = np.clip(x[:, column[0]].astype(np.int64), 0, len(table) - 1)
    y[:, begin[0] : begin[0] + table.shape[1]] = table[codes]


@device
def _code(value, categories):
    """The row of the table, clipped to its range."""
    return min(max(np.int64(value), 0), categories - 1)


_PLACES = {"column": below("M"), "begin": fitting("d", "N")}


@kernel(embed_column_reference, "(b,N) (b,M) (C,d) (1) (1)", cycles=1.0, values=_PLACES)
def embed_column(y, x, table, column, begin):
    """Columns begin[0] ... of y are the table's row whose index is in column column[0] of x."""
    for i in prange(x.shape[0]):
        row, entry = y[i], table[_code(x[i, column[0]], table.shape[0])]
        for j in range(entry.shape[0]):
            row[begin[0] + j] = entry[j]


def embed_column_backward_reference(dtable, dy, x, column, begin):
    codes = np.clip(x[:, column[0]].astype(np.int64), 0, len(dtable) - 1)
    dtable[:] = 0
    np.add.at(dtable, codes, dy[:, begin[0] : begin[0] + dtable.shape[1]])


@kernel(embed_column_backward_reference, "(C,d) (b,N) (b,M) (1) (1)", cycles=1.0, values=_PLACES)
def embed_column_backward(dtable, dy, x, column, begin):
    """Each row of dtable is the sum, in order, of dy over the rows of x that have its index."""
    for k in range(dtable.shape[0]):
        for j in range(dtable.shape[1]):
            dtable[k, j] = ZERO(dtable[k, j])
    for i in range(x.shape[0]):
        entry, row = dtable[_code(x[i, column[0]], dtable.shape[0])], dy[i]
        for j in range(entry.shape[0]):
            entry[j] += row[begin[0] + j]


def take_columns_reference(y, x, sources):
    y[:, : len(sources)] = x[:, sources]


@kernel(take_columns_reference, "(b,N) (b,M) (k)", cycles=1.0, values={"sources": below("M")})
def take_columns(y, x, sources):
    """The first columns of y are the columns of x whose indices are in `sources`."""
    for i in prange(x.shape[0]):
        for j in range(sources.shape[0]):
            y[i, j] = x[i, sources[j]]


def put_columns_reference(dx, dy, sources):
    dx[:] = 0
    dx[:, sources] = dy[:, : len(sources)]


@kernel(put_columns_reference, "(b,M) (b,N) (k)", cycles=1.0, values={"sources": below("M")})
def put_columns(dx, dy, sources):
    """The columns of dx whose indices are in `sources` are the first columns of dy, the others 0."""
    for i in prange(dx.shape[0]):
        row = dx[i]
        for j in range(row.shape[0]):
            row[j] = ZERO(row[j])
        for j in range(sources.shape[0]):
            row[sources[j]] = dy[i, j]


@dataclasses.dataclass(frozen=True)
class ColumnEmbedding(Layer):
    """Integer columns replaced by trained vectors; the other columns come first and stay as they are.

    y = (x without the integer columns, table_c[x_c] for each integer column c in the order given). Bengio et al.,
    "A neural probabilistic language model", 2003; Guo and Berkhahn, "Entity embeddings of categorical variables", 2016.

    Parameters
    ----------
    categories : mapping of int to int
        For each integer column the number of its categories, which count from 0. If the layer is the first, a category
        out of range is an error in `fit` and `predict`.
    dimension : int
        The length of each vector, the same for all columns.
    initializer : str or callable
        The initial values of the tables: one of `nbbp.INITIALIZERS`, or a function of (shape, generator).
    """

    categories: Mapping[int, int]
    dimension: int = 8
    initializer: str | Initializer = "uniform"

    reads = ("x",)
    takes_integers = True

    def __post_init__(self) -> None:
        if not isinstance(self.categories, Mapping) or not self.categories:
            raise TypeError(f"ColumnEmbedding: categories must be a dict of column to number, got {self.categories!r}")
        for column, number in self.categories.items():
            checks.integer("ColumnEmbedding: a column", column, least=0)
            checks.positive_integer(f"ColumnEmbedding: categories of column {column}", number)
        object.__setattr__(self, "categories", {int(c): int(n) for c, n in self.categories.items()})
        checks.positive_integer("ColumnEmbedding: dimension", self.dimension)
        if not callable(self.initializer):
            checks.choose("initializer", self.initializer, INITIALIZERS)

    def _others(self, features: int) -> np.ndarray:
        """The columns that stay as they are."""
        return np.array([c for c in range(features) if c not in self.categories], np.int64)

    @classmethod
    def example(cls, x):
        return cls({1: 5, 3: 2}, dimension=3)(x)

    def spec(self, shape):
        wrong = [c for c in self.categories if not 0 <= c < shape[-1]]
        if wrong:
            raise ValueError(f"ColumnEmbedding: there is no column {wrong[0]} among {shape[-1]} features")
        initializer = named(self.initializer)
        tables = {f"table_{c}": Parameter((n, self.dimension), initializer) for c, n in self.categories.items()}
        return Spec((*shape[:-1], shape[-1] + len(self.categories) * (self.dimension - 1)), tables)

    def check_input(self, name, x):
        x = x.reshape(-1, x.shape[-1])
        for column, categories in self.categories.items():
            codes = x[:, column]
            wrong = (codes != np.floor(codes)) | (codes < 0) | (codes >= categories)
            if wrong.any():
                row = int(np.argmax(wrong))
                raise ValueError(
                    f"{name}: column {column} must hold whole numbers from 0 to {categories - 1}; "
                    f"got {codes[row]:g} in row {row}"
                )

    def _places(self, features: int) -> dict[str, tuple[np.ndarray, np.ndarray]]:
        """For each table, its integer column, and the output column at which its vectors begin."""
        begin = features - len(self.categories)
        return {
            f"table_{c}": (np.array([c]), np.array([begin + k * self.dimension])) for k, c in enumerate(self.categories)
        }

    def forward(self, b):
        x, y = (array.reshape(-1, array.shape[-1]) for array in (b.x, b.y))
        b.call(take_columns, y, x, self._others(x.shape[1]))
        for table, places in self._places(x.shape[1]).items():
            b.call(embed_column, y, x, getattr(b.p, table), *places)

    def backward(self, b):
        x, dy = (array.reshape(-1, array.shape[-1]) for array in (b.x, b.dy))
        for table, places in self._places(x.shape[1]).items():
            b.call(embed_column_backward, getattr(b.g, table), dy, x, *places)
        if b.dx is not None:
            b.call(put_columns, b.dx.reshape(x.shape), dy, self._others(x.shape[1]))
