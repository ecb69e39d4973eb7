"""The products of convolutions over windows.

A convolution takes a large array (rows, height, width, channels) to a small one (rows, windows of them, filters) with
weights (height, width, channels of a group, filters); its three products are bound here. A transposed convolution is
the gradient of one, so it consists of the same products.
"""

import itertools

import numpy as np

from nbbp.engine.layer import Binding
from nbbp.engine.program import Program
from nbbp.kernels import convolution as kernels
from nbbp.kernels import depthwise
from nbbp.kernels import rounded_convolution as rounded
from nbbp.kernels.bfloat16 import pairs_of
from nbbp.kernels.gemm import total_of_parts
from nbbp.kernels.panels import pack_columns, pack_turned, pair_rows, panels
from nbbp.layers.offsets import lines_of, numbers, of_planes, of_planes_turned, of_residue, of_rows, of_windows
from nbbp.layers.windows import Numbers, Windows


def products(b: Binding, windows: Windows, channels: int, filters: int, groups: int) -> "Products":
    """The products of one convolution, for a binding.

    Those of groups of one channel and one filter are never rounded: they sum over the positions of a window alone.
    """
    each = groups > 1 and channels == filters == groups
    kind = RoundedProducts if b.rounds and not each else Products
    return kind(b, windows, channels, filters, groups)


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

    def as_large(self, array: np.ndarray) -> np.ndarray:
        """The array (rows, height, width, channels)."""
        return array.reshape(self.b.rows, *self.windows.lengths, self.channels)

    def as_small(self, array: np.ndarray) -> np.ndarray:
        """The array (rows, windows down, windows beside, filters)."""
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
        self.b.call(kernels.pad, padded, x.reshape(rows, height, -1), numbers(top, left * channels))
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
        self.b.call(kernels.planes, planes, x, numbers(top, left))
        self.b.call(kernels.convolve_planes, y, planes, w.reshape(-1), bias, *offsets)

    def to_small(self, small: np.ndarray, large: np.ndarray, w: np.ndarray, bias: np.ndarray) -> None:
        """small = the convolution of the large array, plus a bias (filters,)."""
        large, padding = self.as_large(large), self.windows.padding
        if self._fill_vectors_with_windows(self.filters, w):
            offsets = of_planes(self.windows, self.channels, self.filters)
            self._in_planes(self.as_small(small), large, padding, w, bias, offsets)
            return
        x, y = self._within_zeros(large, padding), small.reshape(-1)
        positions, taps = of_windows(self.windows, self.b.rows, self.channels, self.own_channels)
        places = of_rows(len(positions), self.filters)
        w = w.reshape(-1, self.filters)
        if self._depthwise:
            self.b.call(depthwise.convolve_each, y, x, w, bias, positions, taps, numbers(*range(len(w))), places)
            return
        count, width = panels(self.own_filters, w.itemsize)
        for channel, first in self.each_group:
            packed = self.b.derived(pack_columns, (count, len(w), width), w, numbers(first))
            own = bias[first : first + self.own_filters]
            self.b.call(kernels.convolve, y[first:], x[channel:], packed, own, positions, taps, places)

    def to_weights(self, dw: np.ndarray, large: np.ndarray, small: np.ndarray) -> None:
        """dw = the gradient of the weights, if `small` is that of the small array."""
        x = self._within_zeros(self.as_large(large), self.windows.padding)
        positions, taps = of_windows(self.windows, self.b.rows, self.channels, self.own_channels)
        dw, small = dw.reshape(-1, self.filters), small.reshape(-1, self.filters)
        if self._depthwise:
            self.b.call(depthwise.convolve_each_weights, dw, x, small, positions, taps)
            return
        self.sum_over_windows(dw, x, small, positions, taps)

    def sum_over_windows(
        self, dw: np.ndarray, x: np.ndarray, small: np.ndarray, positions: np.ndarray, taps: np.ndarray
    ) -> None:
        """dw = the sum over windows of x[positions + taps] and the rows of `small`, group by group."""
        count = kernels.groups(len(positions))
        sums = dw.reshape(1, *dw.shape) if count == 1 else self.b.buffer(count, *dw.shape)
        for channel, first in self.each_group:
            own = numbers(*range(first, first + self.own_filters))
            self.b.call(kernels.convolve_weights, sums, x[channel:], small, positions, taps, own)
        if count > 1:
            self.b.call(total_of_parts, dw.reshape(-1), sums.reshape(count, -1))

    def to_large(self, large: np.ndarray, small: np.ndarray, w: np.ndarray, bias: np.ndarray) -> None:
        """large = the transposed convolution of the small array, plus a bias (channels,).

        Positions that are a stride apart meet the same elements of the windows: each such residue is a convolution of
        the small array, padded, with some of the weights.
        """
        windows, lines = self.windows, lines_of(self.windows)
        small, padding = self.as_small(small), tuple((line.before, line.after) for line in lines)
        if self._fill_vectors_with_windows(self.channels, w):
            offsets = of_planes_turned(windows, self.channels, self.filters)
            self._in_planes(self.as_large(large), small, padding, w, bias, offsets)
            return
        x, y, w = self._within_zeros(small, padding), large.reshape(-1), w.reshape(-1, self.own_channels, self.filters)
        count, width = panels(self.own_channels, w.itemsize)
        for residue in itertools.product(*(range(len(line.taps)) for line in lines)):
            positions, taps, places, chosen = of_residue(
                windows, residue, self.b.rows, self.channels, self.filters, self.own_filters
            )
            if self._depthwise:
                own = w.reshape(-1, self.channels)
                self.b.call(depthwise.convolve_each, y, x, own, bias, positions, taps, chosen, places)
                continue
            for channel, first in self.each_group:
                shape = count, len(chosen), self.own_filters, width
                packed = self.b.derived(pack_turned, shape, w, chosen, numbers(first))
                packed = packed.reshape(count, len(taps), width)
                own = bias[channel : channel + self.own_channels]
                self.b.call(kernels.convolve, y[channel:], x[first:], packed, own, positions, taps, places)


class RoundedProducts(Products):
    """The same with operands rounded to bfloat16: in pairs of channels, of filters, or of windows beside each other."""

    def _pairs(self, x: np.ndarray, padding: tuple[Numbers, ...], own: int) -> np.ndarray:
        """Pairs of the `own` channels of each group of x (rows, height, width, channels), within zeros."""
        (top, bottom), (left, right) = padding
        rows, height, width, channels = x.shape
        groups = channels // own
        shape = rows, top + height + bottom, left + width + right, groups, pairs_of(own)
        padded = self.b.buffer(*shape, dtype=np.uint32)
        self.b.call(rounded.pad_rounded, padded, x.reshape(rows, height, width, groups, own), numbers(top, left))
        return padded.reshape(-1)

    def _paired(self, packed: np.ndarray, own: int) -> np.ndarray:
        """Packed weights in pairs of the `own` rows of each tap."""
        count, width, pairs = len(packed), packed.shape[-1], pairs_of(own)
        taps = packed.size // (count * own * width)  # none, where positions meet no window
        rows = packed.reshape(count * taps, own, width)
        paired = self.b.derived(pair_rows, (len(rows), pairs, width), rows, dtype=np.uint32)
        return paired.reshape(count, taps * pairs, width)

    def to_small(self, small: np.ndarray, large: np.ndarray, w: np.ndarray, bias: np.ndarray) -> None:
        """small = the convolution of the large array, plus a bias (filters,)."""
        pairs = pairs_of(self.own_channels)
        x, y = self._pairs(self.as_large(large), self.windows.padding, self.own_channels), small.reshape(-1)
        positions, taps = of_windows(self.windows, self.b.rows, len(self.each_group) * pairs, pairs)
        places = of_rows(len(positions), self.filters)
        w = w.reshape(-1, self.filters)
        count, width = panels(self.own_filters, w.itemsize)
        for group, (_, first) in enumerate(self.each_group):
            packed = self.b.derived(pack_columns, (count, len(w), width), w, numbers(first))
            packed = self._paired(packed, self.own_channels)
            own = bias[first : first + self.own_filters]
            self.b.call(kernels.convolve, y[first:], x[group * pairs :], packed, own, positions, taps, places)

    def to_weights(self, dw: np.ndarray, large: np.ndarray, small: np.ndarray) -> None:
        """dw = the gradient of the weights, if `small` is that of the small array."""
        (top, bottom), (left, right) = self.windows.padding
        rows, height, width, channels = self.as_large(large).shape
        x = self.b.buffer(rows, top + height + bottom, (left + width + right) * channels, dtype=np.uint32)
        beside = numbers(top, left * channels, self.windows.strides[1] * channels)
        self.b.call(rounded.pad_beside, x, large.reshape(rows, height, -1), beside)
        high, wide = self.windows.outputs
        slopes = self.b.buffer(rows * high, pairs_of(wide), self.filters, dtype=np.uint32)
        self.b.call(pair_rows, slopes, small.reshape(rows * high, wide, self.filters))
        positions, taps = of_windows(self.windows, rows, channels, self.own_channels, 2)
        dw, slopes = dw.reshape(-1, self.filters), slopes.reshape(-1, self.filters)
        self.sum_over_windows(dw, x.reshape(-1), slopes, positions, taps)

    def to_large(self, large: np.ndarray, small: np.ndarray, w: np.ndarray, bias: np.ndarray) -> None:
        """large = the transposed convolution of the small array, plus a bias (channels,)."""
        lines, pairs = lines_of(self.windows), pairs_of(self.own_filters)
        padding = tuple((line.before, line.after) for line in lines)
        x, y = self._pairs(self.as_small(small), padding, self.own_filters), large.reshape(-1)
        w = w.reshape(-1, self.own_channels, self.filters)
        count, width = panels(self.own_channels, w.itemsize)
        for residue in itertools.product(*(range(len(line.taps)) for line in lines)):
            positions, taps, places, chosen = of_residue(
                self.windows, residue, self.b.rows, self.channels, len(self.each_group) * pairs, pairs
            )
            for group, (channel, first) in enumerate(self.each_group):
                shape = count, len(chosen), self.own_filters, width
                packed = self._paired(self.b.derived(pack_turned, shape, w, chosen, numbers(first)), self.own_filters)
                own = bias[channel : channel + self.own_channels]
                self.b.call(kernels.convolve, y[channel:], x[group * pairs :], packed, own, positions, taps, places)
