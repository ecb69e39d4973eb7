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


def _rnn(x, w, u, b=0, first=None, backwards=False, activation=np.tanh):
    """The outputs of all steps, and the last."""
    return _through_time(lambda x, h: [activation(x @ w + h @ u + b)], x, first or [_no_state(x, u)], backwards)


def _gru(x, w, u, b=0, c=0, first=None, backwards=False, reset_after=True):
    """The outputs of all steps, and the last."""
    n = len(u)

    def step(x, h):
        of_x, of_h = x @ w + b, h @ u
        gates = _sigmoid(of_x[:, : 2 * n] + of_h[:, : 2 * n])
        z, r = gates[:, :n], gates[:, n:]
        acted_on = r * (of_h[:, 2 * n :] + c) if reset_after else (r * h) @ u[:, 2 * n :]
        return [z * h + (1 - z) * np.tanh(of_x[:, 2 * n :] + acted_on)]

    return _through_time(step, x, first or [_no_state(x, u)], backwards)


def _lstm(x, w, u, b=0, first=None, backwards=False):
    """The outputs of all steps, and the last states h and c."""

    def step(x, h, c):
        i, f, g, o = np.split(x @ w + h @ u + b, 4, axis=1)
        c = _sigmoid(f) * c + _sigmoid(i) * np.tanh(g)
        return [_sigmoid(o) * np.tanh(c), c]

    return _through_time(step, x, first or [_no_state(x, u)] * 2, backwards)


def _through_time(step, x, states, backwards):
    """The first state after each step, and all states after the last one."""
    y = np.empty((*x.shape[:2], states[0].shape[1]), x.dtype)
    for t in range(x.shape[1])[:: -1 if backwards else 1]:
        states = step(x[:, t], *states)
        y[:, t] = states[0]
    return [y, *states]


def _no_state(x, u):
    return np.zeros((len(x), len(u)), x.dtype)


def _sigmoid(x):
    return 0.5 * (1 + np.tanh(0.5 * x))


FUNCTIONS: list[Callable] = [
    _transposed_convolution,
    _convolution,
    _windows,
    sinusoids,
    _rnn,
    _gru,
    _lstm,
    _through_time,
    _no_state,
    _sigmoid,
]
"""Each before those that it calls."""
