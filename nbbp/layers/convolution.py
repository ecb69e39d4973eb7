"""What convolutions share: their settings, and their products over windows.

A convolution takes a large array (rows, height, width, channels) to a small one (rows, windows of them, filters) with
weights (height, width, channels of a group, filters); its three products are bound here. A transposed convolution is
the gradient of one, so it consists of the same products.
"""

import dataclasses
import functools
import itertools
from typing import ClassVar

import numpy as np

from nbbp import checks
from nbbp.engine.layer import Parameter
from nbbp.engine.program import Program
from nbbp.initializers import Initializer
from nbbp.kernels import convolution as kernels
from nbbp.kernels import depthwise
from nbbp.kernels.arrays import while_used
from nbbp.kernels.gemm import total_of_parts
from nbbp.kernels.panels import pack_columns, pack_turned, panels
from nbbp.layers.weighted import Weighted
from nbbp.layers.windows import Numbers, Padding, Windows, check_padding, each_axis


@while_used
def _numbers(*values: int) -> np.ndarray:
    """Integers of a kernel, the same array for equal ones."""
    return np.array(values, np.int64)


def _offsets(*terms: np.ndarray) -> np.ndarray:
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
def _lines(windows: Windows) -> tuple[_Lines, _Lines]:
    """The windows that positions meet along each of two axes."""
    axes = zip(
        windows.lengths, windows.size, windows.strides, windows.dilation, windows.padding, windows.outputs, strict=True
    )
    height, width = (_Lines.along(*axis) for axis in axes)
    return height, width


@while_used
def _of_windows(windows: Windows, rows: int, channels: int, own: int) -> tuple[np.ndarray, np.ndarray]:
    """Offsets in the padded large array: of windows, and of a window's elements."""
    height, width = windows.padded
    row = width * channels
    (down, right), (below, beside) = windows.strides, windows.dilation
    high, wide = (np.arange(n) for n in windows.outputs)
    tall, broad = (np.arange(n) for n in windows.size)
    return (
        _offsets(np.arange(rows) * (height * row), high * (down * row), wide * (right * channels)),
        _offsets(tall * (below * row), broad * (beside * channels), np.arange(own)),
    )


@while_used
def _of_rows(count: int, size: int) -> np.ndarray:
    """Offsets of rows of `size` numbers."""
    return _offsets(np.arange(count) * size)


@while_used
def _of_residue(windows: Windows, residue: Numbers, rows: int, channels: int, filters: int, own: int):
    """For the positions of a residue: their windows in the padded small array, elements of these, and the positions.

    And the elements of the windows' size, among all in order, that they meet.
    """
    lines = _lines(windows)
    sizes = [n + line.before + line.after for n, line in zip(windows.outputs, lines, strict=True)]
    row, image = sizes[1] * filters, sizes[0] * sizes[1] * filters
    counts = [-(-(n - r) // s) for n, r, s in zip(windows.lengths, residue, windows.strides, strict=True)]
    (height, width), batch = windows.lengths, np.arange(rows)
    down, right = (np.arange(n) * s + r for n, s, r in zip(counts, windows.strides, residue, strict=True))
    tall, wide = (line.taps[r] for line, r in zip(lines, residue, strict=True))
    shifts = [np.array([window for _, window in taps], np.int64) for taps in (tall, wide)]
    return (
        _offsets(batch * image, np.arange(counts[0]) * row, np.arange(counts[1]) * filters),
        _offsets(shifts[0] * row, shifts[1] * filters, np.arange(own)),
        _offsets(batch * (height * width * channels), down * (width * channels), right * channels),
        _numbers(*(q * windows.size[1] + s for q, _ in tall for s, _ in wide)),
    )


@while_used
def _of_planes(windows: Windows, channels: int, filters: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Offsets of a window's elements in the planes of a padded large array; those of filters, and of taps, in w."""
    height, width = windows.padded
    (below, beside), (tall, broad) = windows.dilation, (np.arange(n) for n in windows.size)
    shifts = _offsets(tall * (below * width), broad * beside, np.arange(channels) * (height * width))
    return shifts, _of_rows(filters, 1), _of_rows(len(shifts), filters)


@while_used
def _of_planes_turned(windows: Windows, channels: int, filters: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Offsets of what a position meets in the planes of a padded small array; those of channels, and of taps, in w."""
    lines = _lines(windows)
    height, width = (n + line.before + line.after for n, line in zip(windows.outputs, lines, strict=True))
    (tall, high), (broad, wide) = (np.array(line.taps[0]).T for line in lines)
    shifts = _offsets(high * width, wide, np.arange(filters) * (height * width))
    taps = _offsets(tall * (windows.size[1] * channels * filters), broad * (channels * filters), np.arange(filters))
    return shifts, _of_rows(channels, filters), taps


class Products:
    """The products of one convolution, for a binding.

    Parameters
    ----------
    b : Binding
    windows : Windows
        Over the positions of the large array.
    channels, filters : int
        Of the large and of the small array.
    groups : int
    """

    def __init__(self, b, windows: Windows, channels: int, filters: int, groups: int) -> None:
        self.b, self.windows = b, windows.on_two_axes()
        self.channels, self.filters = channels, filters
        self.own_channels, self.own_filters = channels // groups, filters // groups  # of a group
        self.each_group = [(g * self.own_channels, g * self.own_filters) for g in range(groups)]  # their first ones
        self._depthwise = groups > 1 and self.own_channels == self.own_filters == 1
        self._forward = b.program
        self._padded: dict[tuple[Program, int, tuple], np.ndarray] = {}

    def _large(self, array: np.ndarray) -> np.ndarray:
        return array.reshape(self.b.rows, *self.windows.lengths, self.channels)

    def _small(self, array: np.ndarray) -> np.ndarray:
        return array.reshape(self.b.rows, *self.windows.outputs, self.filters)

    def _within_zeros(self, x: np.ndarray, padding: tuple[Numbers, ...]) -> np.ndarray:
        """x (rows, height, width, channels) within zeros; itself if there are none.

        What forward or an earlier call of this pass has padded is not padded again.
        """
        (top, bottom), (left, right) = padding
        if top == bottom == left == right == 0:
            return x.reshape(-1)
        for program in (self._forward, self.b.program):
            if (program, x.ctypes.data, padding) in self._padded:
                return self._padded[program, x.ctypes.data, padding]
        rows, height, width, channels = x.shape
        padded = self.b.buffer(rows, top + height + bottom, (left + width + right) * channels)
        self.b.call(kernels.pad, padded, x.reshape(rows, height, -1), _numbers(top, left * channels))
        self._padded[self.b.program, x.ctypes.data, padding] = padded.reshape(-1)
        return padded.reshape(-1)

    def _fill_vectors_with_windows(self, filters: int, w: np.ndarray) -> bool:
        """Whether windows beside each other fill the vectors, not the filters of one window."""
        return kernels.few(filters, w.itemsize) and len(self.each_group) == 1 and self.windows.strides == (1, 1)

    def _in_planes(
        self, y: np.ndarray, x: np.ndarray, padding: tuple[Numbers, ...], w: np.ndarray, bias: np.ndarray, offsets
    ) -> None:
        rows, height, width, channels = x.shape
        (top, bottom), (left, right) = padding
        planes = self.b.buffer(rows, channels, top + height + bottom, left + width + right)
        self.b.call(kernels.planes, planes, x, _numbers(top, left))
        self.b.call(kernels.convolve_planes, y, planes, w.reshape(-1), bias, *offsets)

    def to_small(self, small: np.ndarray, large: np.ndarray, w: np.ndarray, bias: np.ndarray) -> None:
        """small = the convolution of the large array, plus a bias (filters,)."""
        large, padding = self._large(large), self.windows.padding
        if self._fill_vectors_with_windows(self.filters, w):
            offsets = _of_planes(self.windows, self.channels, self.filters)
            self._in_planes(self._small(small), large, padding, w, bias, offsets)
            return
        x, y = self._within_zeros(large, padding), small.reshape(-1)
        positions, taps = _of_windows(self.windows, self.b.rows, self.channels, self.own_channels)
        places = _of_rows(len(positions), self.filters)
        w = w.reshape(-1, self.filters)
        if self._depthwise:
            self.b.call(depthwise.convolve_each, y, x, w, bias, positions, taps, _numbers(*range(len(w))), places)
            return
        count, width = panels(self.own_filters, w.itemsize)
        for channel, first in self.each_group:
            packed = self.b.derived(pack_columns, (count, len(w), width), w, _numbers(first))
            own = bias[first : first + self.own_filters]
            self.b.call(kernels.convolve, y[first:], x[channel:], packed, own, positions, taps, places)

    def to_weights(self, dw: np.ndarray, large: np.ndarray, small: np.ndarray) -> None:
        """dw = the gradient of the weights, if `small` is that of the small array."""
        x = self._within_zeros(self._large(large), self.windows.padding)
        positions, taps = _of_windows(self.windows, self.b.rows, self.channels, self.own_channels)
        dw, small = dw.reshape(-1, self.filters), small.reshape(-1, self.filters)
        if self._depthwise:
            self.b.call(depthwise.convolve_each_weights, dw, x, small, positions, taps)
            return
        count = kernels.groups(len(positions))
        sums = dw.reshape(1, *dw.shape) if count == 1 else self.b.buffer(count, *dw.shape)
        for channel, first in self.each_group:
            own = _numbers(*range(first, first + self.own_filters))
            self.b.call(kernels.convolve_weights, sums, x[channel:], small, positions, taps, own)
        if count > 1:
            self.b.call(total_of_parts, dw.reshape(-1), sums.reshape(count, -1))

    def to_large(self, large: np.ndarray, small: np.ndarray, w: np.ndarray, bias: np.ndarray) -> None:
        """large = the transposed convolution of the small array, plus a bias (channels,).

        Positions that are a stride apart meet the same elements of the windows: each such residue is a convolution of
        the small array, padded, with some of the weights.
        """
        windows, lines = self.windows, _lines(self.windows)
        small, padding = self._small(small), tuple((line.before, line.after) for line in lines)
        if self._fill_vectors_with_windows(self.channels, w):
            offsets = _of_planes_turned(windows, self.channels, self.filters)
            self._in_planes(self._large(large), small, padding, w, bias, offsets)
            return
        x, y, w = self._within_zeros(small, padding), large.reshape(-1), w.reshape(-1, self.own_channels, self.filters)
        count, width = panels(self.own_channels, w.itemsize)
        for residue in itertools.product(*(range(len(line.taps)) for line in lines)):
            positions, taps, places, chosen = _of_residue(
                windows, residue, self.b.rows, self.channels, self.filters, self.own_filters
            )
            if self._depthwise:
                own = w.reshape(-1, self.channels)
                self.b.call(depthwise.convolve_each, y, x, own, bias, positions, taps, chosen, places)
                continue
            for channel, first in self.each_group:
                shape = count, len(chosen), self.own_filters, width
                packed = self.b.derived(pack_turned, shape, w, chosen, _numbers(first))
                packed = packed.reshape(count, len(taps), width)
                own = bias[channel : channel + self.own_channels]
                self.b.call(kernels.convolve, y[channel:], x[first:], packed, own, positions, taps, places)


@dataclasses.dataclass(frozen=True)
class Convolution(Weighted):
    """The settings of a convolution; each kind says how many axes of positions it has."""

    axes: ClassVar[int] = 2

    filters: int
    kernel_size: int | Numbers
    strides: int | Numbers = 1
    padding: Padding = "valid"
    activation: str = "linear"
    use_bias: bool = True
    dilation_rate: int | Numbers = 1
    groups: int = 1
    initializer: str | Initializer = "glorot_uniform"
    l1: float = 0.0
    l2: float = 0.0
    max_norm: float | None = None

    def __post_init__(self) -> None:
        kind = type(self).__name__
        for name in ("filters", "groups"):
            object.__setattr__(self, name, checks.positive_integer(f"{kind}: {name}", getattr(self, name)))
        for name in ("kernel_size", "strides", "dilation_rate"):
            object.__setattr__(self, name, each_axis(f"{kind}: {name}", getattr(self, name), self.axes))
        object.__setattr__(self, "padding", check_padding(f"{kind}: padding", self.padding, self.axes))
        self.check_settings()

    def check_groups(self, channels: int, filters: int) -> None:
        """ValueError if the groups do not divide the channels and the filters."""
        for count, what in ((channels, "channels"), (filters, "filters")):
            if count % self.groups:
                raise ValueError(f"{type(self).__name__}: {self.groups} groups do not divide {count} {what}")

    def weights(self, channels: int, filters: int) -> dict[str, Parameter]:
        """The parameters: w (*kernel_size, channels of a group, filters), and b."""
        size = each_axis("kernel_size", self.kernel_size, self.axes)
        return self.parameters((*size, channels // self.groups, filters), self.filters)
