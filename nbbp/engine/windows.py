"""Windows: rows that overlap in memory, such as the past of every day of a series."""

import math
from typing import Any

import numpy as np

from nbbp import checks


class Windows(np.lib.mixins.NDArrayOperatorsMixin):
    """Rows that are sections of one array, and are copied out of it only as they are needed.

    `fit`, `evaluate` and `predict` take it in place of an array, and so does NumPy, which makes one of it.

    Parameters
    ----------
    values : ndarray
        The array, C-contiguous, of any shape.
    starts : ndarray (rows,), int64
        The index of each row's first element in the flat array.
    sample_shape : tuple of int
        The shape of a row.

    Attributes
    ----------
    flat : ndarray (elements,)
        The array, on one axis.
    shape : tuple of int
        (rows, *sample_shape).
    """

    def __init__(self, values: np.ndarray, starts: np.ndarray, sample_shape: tuple[int, ...]) -> None:
        self.flat, self.starts, self.shape = values.reshape(-1), starts, (len(starts), *sample_shape)

    @property
    def dtype(self) -> np.dtype:
        return self.flat.dtype

    @property
    def ndim(self) -> int:
        return len(self.shape)

    def __len__(self) -> int:
        return len(self.starts)

    def __getitem__(self, rows) -> Any:
        """Some of the windows, by a slice, indices or bools; or a copy of one."""
        starts = self.starts[rows]
        chosen = Windows(self.flat, np.ascontiguousarray(starts).reshape(-1), self.shape[1:])
        return chosen if np.ndim(starts) else np.asarray(chosen)[0]

    def __array__(self, dtype=None, copy=None) -> np.ndarray:
        if copy is False:
            raise ValueError("windows overlap in memory: an array of them is a copy")
        length = math.prod(self.shape[1:])
        everywhere = np.lib.stride_tricks.sliding_window_view(self.flat, length)
        return everywhere[self.starts].reshape(self.shape).astype(dtype or self.dtype, copy=False)

    def __array_ufunc__(self, ufunc, method: str, *given, out=None, **settings) -> Any:
        if out is not None:  # they are not written to
            return NotImplemented
        plain = (np.asarray(x) if isinstance(x, Windows) else x for x in given)
        return getattr(ufunc, method)(*plain, **settings)

    def __repr__(self) -> str:
        shape = " x ".join(map(str, self.shape[1:]))
        return f"<Windows: {len(self):,} of {shape}, {self.dtype}>"

    def checked(self, name: str, dtype: np.dtype, sample_shape: tuple[int, ...] | None) -> "Windows":
        """The same windows in `dtype`, finite and of the shape that a model takes: see `nbbp.checks.features`."""
        if sample_shape is not None and self.shape[1:] != sample_shape:
            checks.features(name, np.asarray(self[:1]), dtype, sample_shape)
        if np.dtype(dtype).kind in "iu":
            flat = checks.features(f"the series of {name}", self.flat.reshape(-1, 1), dtype, (1,))[:, 0]
            return Windows(flat, self.starts, self.shape[1:])
        flat = checks.contiguous(self.flat, dtype)
        if not math.isfinite(np.vdot(flat, flat)):
            wrong = np.concatenate([[0], np.cumsum(~np.isfinite(flat))])  # before each element
            within = wrong[self.starts + math.prod(self.shape[1:])] > wrong[self.starts]
            if within.any():
                row = int(np.argmax(within))
                given = np.asarray(self[row : row + 1])
                checks.finite(f"{name}[{row}]", given[0], checks.contiguous(given, dtype)[0])
        return Windows(flat, self.starts, self.shape[1:])
