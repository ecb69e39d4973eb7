"""Functions that a NumPy file holds if its network calls them: their source is copied, so they need NumPy alone."""

from collections.abc import Callable

import numpy as np

from nbbp.layers.positional_embedding import sinusoids


def _transposed_convolution(x, w, lengths, strides=1, padding=0, dilation=1, groups=1):
    """Each element of x times w (*size, filters of a group, channels), added where its window lies in the output."""
    axes = w.ndim - 2
    strides, dilation = np.broadcast_to(strides, axes), np.broadcast_to(dilation, axes)
    before, after = np.broadcast_to(padding, (axes, 2)).T
    y = np.zeros((len(x), *(before + lengths + after), groups * w.shape[-2]), x.dtype)
    pieces = list(zip(np.split(x, groups, axis=-1), np.split(w, groups, axis=-1), strict=True))
    for tap in np.ndindex(*w.shape[:-2]):
        first = tap * dilation
        last = first + (np.array(x.shape[1:-1]) - 1) * strides
        places = tuple(slice(a, b + 1, n) for a, b, n in zip(first, last, strides, strict=True))
        y[(slice(None), *places)] += np.concatenate([np.tensordot(a, b[tap], (-1, -1)) for a, b in pieces], axis=-1)
    return y[(slice(None), *(slice(a, a + n) for a, n in zip(before, lengths, strict=True)))]


def _convolution(x, w, strides=1, padding=0, dilation=1, groups=1):
    """The windows of x times w (*size, channels of a group, filters)."""
    windows = _windows(x, w.shape[:-2], strides, padding, dilation)
    pieces = zip(np.split(windows, groups, axis=-1), np.split(w, groups, axis=-1), strict=True)
    return np.concatenate([np.tensordot(a, b, w.ndim - 1) for a, b in pieces], axis=-1)


def _windows(x, size, strides=1, padding=0, dilation=1, outside=0):
    """The windows of x (rows, *positions, channels) as (rows, *windows, *size, channels).

    Padding is a number, (before, after), or that for each axis of positions.
    """
    axes = len(size)
    strides, dilation = np.broadcast_to(strides, axes), np.broadcast_to(dilation, axes)
    x = np.pad(x, [(0, 0), *np.broadcast_to(padding, (axes, 2)), (0, 0)], constant_values=outside)
    reach = (np.array(size) - 1) * dilation + 1
    x = np.lib.stride_tricks.sliding_window_view(x, tuple(reach), tuple(range(1, axes + 1)))
    steps = [slice(None, None, n) for n in (1, *strides, 1, *dilation)]
    return np.moveaxis(x[tuple(steps)], axes + 1, -1)


FUNCTIONS: list[Callable] = [_transposed_convolution, _convolution, _windows, sinusoids]
"""Each before those that it calls."""
