"""Rows of different lengths, one after another in a flat array, and the padded array that they stand for."""

from collections.abc import Iterable, Sequence
from typing import Any, Self

import numpy as np

from nbbp import checks


class Ragged:
    """Rows of different lengths: X, or y at each position, without padding in memory.

    Parameters
    ----------
    arrays : sequence of array_like (length,) or (length, *features)
        The rows: tokens, or features at each position.

    Attributes
    ----------
    values : ndarray (total,) or (total, *features)
        The rows one after another.
    offsets : ndarray (rows + 1,), int64
        Row i is ``values[offsets[i]:offsets[i + 1]]``.

    Examples
    --------
    >>> import nbbp
    >>> words = nbbp.Ragged([[1, 2, 3], [4], [5, 6]])
    >>> words
    <Ragged of 3 rows, 1 to 3 long, of int64>
    >>> words[0], words.lengths
    (array([1, 2, 3]), array([3, 1, 2]))
    >>> words[1:].padded()
    array([[4, 0],
           [5, 6]])
    """

    values: np.ndarray
    offsets: np.ndarray

    def __init__(self, arrays: Iterable) -> None:
        rows = [checks.array(f"row {k} of Ragged", row, least_rows=0) for k, row in enumerate(arrays)]
        if not rows:
            raise ValueError("Ragged has no rows; Ragged.from_flat(values, [0]) says what none would hold")
        for k, row in enumerate(rows):
            if row.shape[1:] != rows[0].shape[1:]:
                raise ValueError(
                    f"row {k} of Ragged has shape {row.shape} and row 0 {rows[0].shape}: they may differ in length only"
                )
        self._take(np.concatenate(rows), np.cumsum([0, *map(len, rows)]))

    @classmethod
    def from_flat(cls, values, offsets) -> Self:
        """Rows that lie one after another already; row i is ``values[offsets[i]:offsets[i + 1]]``.

        Parameters
        ----------
        values : array_like (total,) or (total, *features)
            Not copied if it is an array, also one of a file: ``np.load("values.npy", mmap_mode="r")``.
        offsets : array_like (rows + 1,), int
            From 0 to the total.
        """
        flat, bounds = checks.array("values", values, least_rows=0), checks.array("offsets", offsets)
        if bounds.dtype.kind not in "iu" or bounds.ndim != 1:
            raise TypeError(f"offsets must be integers on one axis, got {bounds.dtype} {bounds.shape}")
        if bounds[0] != 0 or bounds[-1] != len(flat):
            raise ValueError(f"offsets must go from 0 to the {len(flat)} values, got {bounds[0]} to {bounds[-1]}")
        rows = cls.__new__(cls)
        rows._take(flat, bounds)
        return rows

    def _take(self, values: np.ndarray, offsets: np.ndarray) -> None:
        self.values, self.offsets = values, np.ascontiguousarray(offsets, np.int64)
        if (self.lengths < 1).any():
            row = int(np.argmax(self.lengths < 1))
            raise ValueError(f"row {row} of Ragged has length {self.lengths[row]}: leave out rows that are empty")

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, rows) -> Any:
        """A row by its number; a Ragged of some rows by a slice, by their numbers or by a bool for each."""
        if isinstance(rows, int | np.integer):
            number = range(len(self))[rows]
            return self.values[self.offsets[number] : self.offsets[number + 1]]
        if isinstance(rows, slice) and rows.step in (None, 1):
            first, last, _ = rows.indices(len(self))
            offsets = self.offsets[first : max(first, last) + 1]
            return self.from_flat(self.values[offsets[0] : offsets[-1]], offsets - offsets[0])
        chosen = np.arange(len(self))[rows]
        lengths = self.lengths[chosen]
        offsets = np.concatenate([[0], np.cumsum(lengths)])
        places = np.repeat(self.offsets[chosen] - offsets[:-1], lengths) + np.arange(offsets[-1])
        return self.from_flat(self.values[places], offsets)

    @property
    def lengths(self) -> np.ndarray:
        """The length of each row (rows,)."""
        return np.diff(self.offsets)

    @property
    def dtype(self) -> np.dtype:
        """The dtype of the values."""
        return self.values.dtype

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the padded array, (rows, longest, *features)."""
        return len(self), int(self.lengths.max(initial=0)), *self.values.shape[1:]

    def padded(self, length: int | None = None) -> np.ndarray:
        """An array (rows, length, *features), 0 after the end of each row; by default as long as the longest row."""
        longest = self.shape[1]
        length = longest if length is None else checks.integer("length", length, least=longest)
        array = np.zeros((len(self), length, *self.values.shape[1:]), self.dtype)
        array[np.arange(length) < self.lengths[:, np.newaxis]] = self.values
        return array

    def __array__(self, dtype=None, copy=None) -> np.ndarray:
        raise TypeError("an nbbp.Ragged is no array: its rows have lengths of their own; padded() makes one")

    def __repr__(self) -> str:
        of = f"{self.dtype}{f' {self.values.shape[1:]}' if self.values.ndim > 1 else ''}"
        shortest = int(self.lengths.min(initial=self.shape[1]))
        return f"<Ragged of {len(self)} rows, {shortest} to {self.shape[1]} long, of {of}>"


class Padded:
    """The array (rows, length, *features) that a `Ragged` stands for; what is read of it is padded then.

    Parameters
    ----------
    rows : Ragged
    length : int
        The length of all rows, at least that of the longest.
    """

    def __init__(self, rows: Ragged, length: int) -> None:
        self.rows, self.length = rows, length

    @property
    def dtype(self) -> np.dtype:
        return self.rows.dtype

    @property
    def shape(self) -> tuple[int, ...]:
        return len(self.rows), self.length, *self.rows.values.shape[1:]

    @property
    def nbytes(self) -> int:
        return self.rows.values.nbytes

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, rows) -> "Padded":
        return Padded(self.rows[rows], self.length)

    def __array__(self, dtype=None, copy=None) -> np.ndarray:
        return np.asarray(self.rows.padded(self.length), dtype)


class LengthMask:
    """A mask (rows, elements) that is True before the end of each row; an array is made of what is read of it.

    Parameters
    ----------
    ends : ndarray (rows,), int64
        The number of elements before the end of each row.
    elements : int
        The number of all elements of a row.
    """

    dtype = np.dtype(bool)

    def __init__(self, ends: np.ndarray, elements: int) -> None:
        self.ends, self.elements = ends, elements

    @property
    def shape(self) -> tuple[int, int]:
        return len(self.ends), self.elements

    def __len__(self) -> int:
        return len(self.ends)

    def __getitem__(self, rows) -> "LengthMask":
        return LengthMask(self.ends[rows], self.elements)

    def __array__(self, dtype=None, copy=None) -> np.ndarray:
        return np.asarray(np.arange(self.elements) < self.ends[:, np.newaxis], dtype)


def joined(parts: Sequence) -> Any:
    """Arrays, or Raggeds, one after another."""
    if not isinstance(parts[0], Ragged):
        return np.concatenate(parts)
    lengths = np.concatenate([part.lengths for part in parts])
    return Ragged.from_flat(np.concatenate([part.values for part in parts]), np.cumsum([0, *lengths]))
