"""Offsets in flat arrays: of windows, and of the elements of each."""

import dataclasses
import functools

import numpy as np

from nbbp.kernels.arrays import while_used
from nbbp.layers.windows import Numbers, Windows


@while_used
def numbers(*values: int) -> np.ndarray:
    """Integers of a kernel, the same array for equal ones."""
    return np.array(values, np.int64)


def offsets(*terms: np.ndarray) -> np.ndarray:
    """Sums of one term from each array, the last one fastest, as offsets in an array."""
    total = functools.reduce(np.add.outer, terms).reshape(-1)
    if total.max(initial=0) >= 2**31:
        raise ValueError(
            f"a mini-batch has more than {2**31:,} numbers in an array of a convolution; choose fewer rows"
        )
    return np.ascontiguousarray(total, np.int32)


@dataclasses.dataclass(frozen=True)
class _Lines:
    """The windows that positions meet along one axis.

    Attributes
    ----------
    taps : list of list of (int, int)
        For each residue of the stride, an element of the windows and the window that the first such position meets with
        it, counted from the beginning of the padding.
    before, after : int
        The padding of the windows.
    """

    taps: list[list[tuple[int, int]]]
    before: int
    after: int

    @classmethod
    def along(cls, length: int, size: int, stride: int, dilation: int, padding: Numbers, windows: int) -> "_Lines":
        met = [
            [(q, (first - q * dilation) // stride) for q in range(size) if (first - q * dilation) % stride == 0]
            for first in range(padding[0], padding[0] + min(stride, length))
        ]
        last = [(length - 1 - residue) // stride for residue in range(len(met))]  # position of each residue
        least = min([0, *(window for taps in met for _, window in taps)])
        most = max([windows - 1, *(window + n for taps, n in zip(met, last, strict=True) for _, window in taps)])
        return cls([[(q, window - least) for q, window in taps] for taps in met], -least, most - windows + 1)


@functools.lru_cache(maxsize=256)
def lines_of(windows: Windows) -> tuple[_Lines, _Lines]:
    """The windows that positions meet along each of two axes."""
    axes = zip(
        windows.lengths, windows.size, windows.strides, windows.dilation, windows.padding, windows.outputs, strict=True
    )
    height, width = (_Lines.along(*axis) for axis in axes)
    return height, width


@while_used
def of_windows(windows: Windows, rows: int, channels: int, own: int, step: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """Offsets in the padded large array: of windows, every step-th of a row, and of a window's elements."""
    height, width = windows.padded
    row = width * channels
    (down, right), (below, beside) = windows.strides, windows.dilation
    high, wide = (np.arange(n)[::each] for n, each in zip(windows.outputs, (1, step), strict=True))
    tall, broad = (np.arange(n) for n in windows.size)
    return (
        offsets(np.arange(rows) * (height * row), high * (down * row), wide * (right * channels)),
        offsets(tall * (below * row), broad * (beside * channels), np.arange(own)),
    )


@while_used
def of_rows(count: int, size: int) -> np.ndarray:
    """Offsets of rows of `size` numbers."""
    return offsets(np.arange(count) * size)


@while_used
def of_residue(windows: Windows, residue: Numbers, rows: int, channels: int, filters: int, own: int):
    """For the positions of a residue: their windows in the padded small array, elements of these, and the positions.

    And the elements of the windows' size, among all in order, that they meet.
    """
    lines = lines_of(windows)
    sizes = [n + line.before + line.after for n, line in zip(windows.outputs, lines, strict=True)]
    row, image = sizes[1] * filters, sizes[0] * sizes[1] * filters
    counts = [-(-(n - r) // s) for n, r, s in zip(windows.lengths, residue, windows.strides, strict=True)]
    (height, width), batch = windows.lengths, np.arange(rows)
    down, right = (np.arange(n) * s + r for n, s, r in zip(counts, windows.strides, residue, strict=True))
    tall, wide = (line.taps[r] for line, r in zip(lines, residue, strict=True))
    shifts = [np.array([window for _, window in taps], np.int64) for taps in (tall, wide)]
    return (
        offsets(batch * image, np.arange(counts[0]) * row, np.arange(counts[1]) * filters),
        offsets(shifts[0] * row, shifts[1] * filters, np.arange(own)),
        offsets(batch * (height * width * channels), down * (width * channels), right * channels),
        numbers(*(q * windows.size[1] + s for q, _ in tall for s, _ in wide)),
    )


@while_used
def of_planes(windows: Windows, channels: int, filters: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Offsets of a window's elements in the planes of a padded large array; those of filters, and of taps, in w."""
    height, width = windows.padded
    (below, beside), (tall, broad) = windows.dilation, (np.arange(n) for n in windows.size)
    shifts = offsets(tall * (below * width), broad * beside, np.arange(channels) * (height * width))
    return shifts, of_rows(filters, 1), of_rows(len(shifts), filters)


@while_used
def of_planes_turned(windows: Windows, channels: int, filters: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Offsets of what a position meets in the planes of a padded small array; those of channels, and of taps, in w."""
    lines = lines_of(windows)
    height, width = (n + line.before + line.after for n, line in zip(windows.outputs, lines, strict=True))
    (tall, high), (broad, wide) = (np.array(line.taps[0]).T for line in lines)
    shifts = offsets(high * width, wide, np.arange(filters) * (height * width))
    taps = offsets(tall * (windows.size[1] * channels * filters), broad * (channels * filters), np.arange(filters))
    return shifts, of_rows(channels, filters), taps
