"""Rows in the network's form, dense or sparse: how they are held out, and how their ranges are compared."""

import dataclasses
import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
from scipy.sparse import issparse
from sklearn.model_selection import train_test_split

from nbbp.streams import BUFFER_BYTES, Stream, from_arrays

UNLIKE = (
    "column {column} of the rows to validate on has values like {theirs:.3g}, and X has {low:.3g} to {high:.3g}: were "
    "they transformed as X was? A Pipeline does it if it is told to, "
    "Pipeline(..., transform_input=['X_val']).fit(X, y, X_val=..., y_val=...)"
)


@dataclasses.dataclass
class Rows:
    """Rows to train or to validate on.

    Attributes
    ----------
    x : ndarray or sparse matrix (rows, features)
    target : ndarray (rows,) or (rows, outputs)
    weights : ndarray (rows,) or None for 1
    """

    x: Any
    target: np.ndarray
    weights: np.ndarray | None

    def __len__(self) -> int:
        return self.x.shape[0]

    def part(self, index: np.ndarray) -> "Rows":
        return Rows(self.x[index], self.target[index], None if self.weights is None else self.weights[index])

    def split(self, fraction: float, random: np.random.RandomState, classes: np.ndarray | None) -> "tuple[Rows, Rows]":
        """Rows to train on and held-out rows, each with the same shares of the classes."""
        parts = train_test_split(np.arange(len(self)), test_size=fraction, random_state=random, stratify=classes)
        if len(parts[1]) < 2:
            raise ValueError(
                f"The validation set is too small: validation_fraction={fraction:g} of {len(self)} rows holds out one "
                f"row, which says little of others: take a larger one"
            )
        return self.part(parts[0]), self.part(parts[1])

    @property
    def mean_weight(self) -> float:
        if self.weights is None:
            return 1.0
        if not self.weights.any():
            raise ValueError("weights must not be zero for all rows that are trained on, nor for all that are held out")
        return float(np.mean(self.weights))

    def shares(self, scale: float) -> np.ndarray | None:
        """Weights whose mean is `scale`."""
        if self.weights is None:
            return None if scale == 1 else np.full(len(self), scale)
        return self.weights * (scale / self.mean_weight)

    @property
    def dense(self) -> np.ndarray:
        """x as an array."""
        return self.x.toarray() if issparse(self.x) else self.x

    def stream(self, scale: float) -> Stream | None:
        """The rows as a stream that makes them dense as needed; None if all fit into its buffer."""
        if not issparse(self.x) or dense_bytes(self.x) <= BUFFER_BYTES:
            return None
        return from_arrays(_DenseSlices(self.x), self.target, self.shares(scale))

    def warn_if_unlike(self, other: "Rows") -> None:
        """Warn if a column of `other` is far outside the range of the same column here, as if it were not scaled."""
        if issparse(self.x) or issparse(other.x):
            return
        with np.errstate(all="ignore"):
            low, high = self.x.min(axis=0), self.x.max(axis=0)
            center, width = low / 2 + high / 2, high - low
            distance = np.abs(other.x - center).mean(axis=0)
            outside = np.flatnonzero((distance > 1.5 * width) & (width > 0))
        if len(outside):
            column = outside[0]
            theirs = np.median(other.x[:, column])
            text = UNLIKE.format(column=column, theirs=theirs, low=low[column], high=high[column])
            warnings.warn(text, stacklevel=3)


def dense_bytes(x) -> int:
    """The bytes that a sparse matrix would take if it were dense."""
    return x.shape[0] * x.shape[1] * x.dtype.itemsize


def dense_blocks(x) -> Iterator[np.ndarray]:
    """The rows of a sparse matrix in dense blocks of at most 32 MiB, or of one row."""
    rows = max(1, BUFFER_BYTES // (x.shape[1] * x.dtype.itemsize))
    for begin in range(0, x.shape[0], rows):
        yield x[begin : begin + rows].toarray()


class _DenseSlices:
    """A sparse matrix whose slices are arrays."""

    def __init__(self, x) -> None:
        self._x = x

    def __len__(self) -> int:
        return self._x.shape[0]

    def __getitem__(self, rows: slice) -> np.ndarray:
        return self._x[rows].toarray()
