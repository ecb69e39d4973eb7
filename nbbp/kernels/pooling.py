"""Windows over images without weights: their largest elements, and their sums.

The window at (i, j) has the rows from down[i, 0] to before down[i, 1] of an image, and the columns from across[j, 0] to
before across[j, 1]. Both bounds never decrease from one window to the next; padding is in no window.
"""

import math

import numpy as np
from numba import prange

from nbbp.kernels.jit import device, kernel
from nbbp.kernels.lanes import (
    LANES,
    added,
    equal,
    larger,
    load,
    load_first,
    multiplied,
    select,
    splat,
    store,
    store_first,
)
from nbbp.kernels.pointers import at
from nbbp.kernels.scalars import constant
from nbbp.kernels.vector_math import ZERO

_LEAST = constant(-math.inf)


def _bounds(letter: str):
    """Bounds of windows within a length."""

    def draw(rng, shape, dtype, lengths):
        first = rng.integers(0, lengths[letter], shape[0])
        end = rng.integers(first + 1, lengths[letter] + 1)
        return np.stack([np.sort(first), np.sort(end)], axis=1)

    return draw


def _positions(rng, shape, dtype, lengths):
    return rng.integers(0, lengths["H"] * lengths["W"], shape, np.int32)


_BOUNDS = {"down": _bounds("H"), "across": _bounds("W")}
_LENGTHS = dict.fromkeys("ijHW", lambda: range(1, 2**31))  # of their own; random images of many channels are small


def _on_lanes(make):
    """A function of the channels of one window: of LANES, and of the first n."""
    return device(make(load, store), inline=True), device(make(load_first, store_first), inline=True)


@device
def _apart(bounds):
    """Whether no two windows share a position along an axis."""
    shared = 0
    for i in range(1, bounds.shape[0]):
        shared += bounds[i, 0] < bounds[i - 1, 1]
    return shared == 0


@device
def _clear(x, begin, end):
    for k in range(begin, end):
        x[k] = ZERO(x[k])


def _maximum(load, store):
    def maximum(y, winner, x, width, channels, window, n):
        """The largest elements of a window, and their positions."""
        top, bottom, left, right = window
        best, where = splat(_LEAST(x[0])), splat(np.int32(top * width + left))
        position, column = top * width + left, left
        for _ in range((bottom - top) * (right - left)):  # one loop: two short ones take a third longer
            value = load(at(x, position * channels), n)
            wins = larger(value, best)
            best, where = select(wins, value, best), select(wins, splat(np.int32(position)), where)
            column += 1
            turn = column == right
            position += width - right + left + 1 if turn else 1
            column = left if turn else column
        store(y, best, n)
        store(winner, where, n)

    return maximum


_maximum_of_lanes, _maximum_of_first = _on_lanes(_maximum)


def window_maxima_reference(y, winner, x, down, across):
    rows, _, width, channels = x.shape
    for i, (top, bottom) in enumerate(down):
        for j, (left, right) in enumerate(across):
            window = x[:, top:bottom, left:right].reshape(rows, -1, channels)
            found = window.argmax(axis=1)
            y[:, i, j] = np.take_along_axis(window, found[:, np.newaxis], axis=1)[:, 0]
            winner[:, i, j] = (top + found // (right - left)) * width + left + found % (right - left)


@kernel(
    window_maxima_reference,
    "(b,i,j,c) (b,i,j,c) (b,H,W,c) (i,2) (j,2)",
    cycles=1.0,
    values={"winner": _positions, **_BOUNDS},
    lengths=_LENGTHS,
)
def window_maxima(y, winner, x, down, across):
    """y = the largest element of each window, NaN before any number, and the first one of several.

    `winner` is its position: h width + w.
    """
    (height, width, c), (high, wide) = x.shape[1:], y.shape[1:3]
    whole, rest = c - c % LANES, c % LANES
    for t in prange(y.shape[0] * high):
        image, i = at(x, t // high * height * width * c), t % high
        for j in range(wide):
            window, place = (down[i, 0], down[i, 1], across[j, 0], across[j, 1]), (t * wide + j) * c
            best, where = at(y, place), at(winner, place)
            for k in range(0, whole, LANES):
                _maximum_of_lanes(at(best, k), at(where, k), at(image, k), width, c, window, LANES)
            if rest:
                _maximum_of_first(at(best, whole), at(where, whole), at(image, whole), width, c, window, rest)


def _to_winner(load, store):
    def to_winner(dx, dy, winner, alone, width, channels, window, n):
        """Add dy of a window to the gradient of its winner; or overwrite it, if the window's positions are its own."""
        top, bottom, left, right = window
        slope, where = load(dy, n), load(winner, n)
        for h in range(top, bottom):
            for position in range(h * width + left, h * width + right):
                target = at(dx, position * channels)
                own = select(equal(where, splat(np.int32(position))), slope, splat(ZERO(dy[0])))
                store(target, own if alone else added(load(target, n), own), n)

    return to_winner


_to_winner_of_lanes, _to_winner_of_first = _on_lanes(_to_winner)


def window_maxima_backward_reference(dx, dy, winner, down, across):
    width = dx.shape[2]
    dx[:] = 0
    for i, (top, bottom) in enumerate(down):
        for j, (left, right) in enumerate(across):
            for h in range(top, bottom):
                for w in range(left, right):
                    dx[:, h, w] += np.where(winner[:, i, j] == h * width + w, dy[:, i, j], 0)


@kernel(
    window_maxima_backward_reference,
    "(b,H,W,c) (b,i,j,c) (b,i,j,c) (i,2) (j,2)",
    cycles=1.0,
    values={"winner": _positions, **_BOUNDS},
    lengths=_LENGTHS,
)
def window_maxima_backward(dx, dy, winner, down, across):
    """dx = at each position the sum, in order, of dy over the windows whose winner it is."""
    (height, width, c), (high, wide) = dx.shape[1:], dy.shape[1:3]
    whole, rest = c - c % LANES, c % LANES
    alone = _apart(down) and _apart(across)
    for b in prange(dx.shape[0]):
        image, done = at(dx, b * height * width * c), 0
        for i in range(high):
            _clear(image, done, down[i, 1] * width * c)
            done = down[i, 1] * width * c
            for j in range(wide):
                window, place = (down[i, 0], down[i, 1], across[j, 0], across[j, 1]), ((b * high + i) * wide + j) * c
                slope, where = at(dy, place), at(winner, place)
                for k in range(0, whole, LANES):
                    _to_winner_of_lanes(at(image, k), at(slope, k), at(where, k), alone, width, c, window, LANES)
                if rest:
                    _to_winner_of_first(
                        at(image, whole), at(slope, whole), at(where, whole), alone, width, c, window, rest
                    )
        _clear(image, done, height * width * c)


def _sum(load, store):
    def of_window(y, x, scale, width, channels, window, n):
        """scale times the sums of a window, row by row."""
        top, bottom, left, right = window
        total = splat(ZERO(scale))
        for h in range(top, bottom):
            line = splat(ZERO(scale))
            for position in range(h * width + left, h * width + right):
                line = added(line, load(at(x, position * channels), n))
            total = added(total, line)
        store(y, multiplied(total, splat(scale)), n)

    return of_window


_sum_of_lanes, _sum_of_first = _on_lanes(_sum)


def window_sums_reference(y, x, scale, down, across):
    for i, (top, bottom) in enumerate(down):
        for j, (left, right) in enumerate(across):
            y[:, i, j] = x[:, top:bottom, left:right].sum(axis=(1, 2)) * scale[i, j]


@kernel(
    window_sums_reference,
    "(b,i,j,c) (b,H,W,c) (i,j) (i,2) (j,2)",
    cycles=1.0,
    values=_BOUNDS,
    lengths=_LENGTHS,
)
def window_sums(y, x, scale, down, across):
    """y = the sum of each window, times its scale."""
    (height, width, c), (high, wide) = x.shape[1:], y.shape[1:3]
    whole, rest = c - c % LANES, c % LANES
    for t in prange(y.shape[0] * high):
        image, i = at(x, t // high * height * width * c), t % high
        for j in range(wide):
            window, place = (down[i, 0], down[i, 1], across[j, 0], across[j, 1]), (t * wide + j) * c
            for k in range(0, whole, LANES):
                _sum_of_lanes(at(y, place + k), at(image, k), scale[i, j], width, c, window, LANES)
            if rest:
                _sum_of_first(at(y, place + whole), at(image, whole), scale[i, j], width, c, window, rest)


def _to_all(load, store):
    def to_all(dx, dy, scale, alone, width, channels, window, n):
        """Add scale times dy of a window to all its positions; or overwrite them, if they are its own."""
        top, bottom, left, right = window
        slope = multiplied(load(dy, n), splat(scale))
        for h in range(top, bottom):
            for position in range(h * width + left, h * width + right):
                target = at(dx, position * channels)
                store(target, slope if alone else added(load(target, n), slope), n)

    return to_all


_to_all_of_lanes, _to_all_of_first = _on_lanes(_to_all)


def window_sums_backward_reference(dx, dy, scale, down, across):
    dx[:] = 0
    for i, (top, bottom) in enumerate(down):
        for j, (left, right) in enumerate(across):
            dx[:, top:bottom, left:right] += (dy[:, i, j] * scale[i, j])[:, np.newaxis, np.newaxis]


@kernel(
    window_sums_backward_reference,
    "(b,H,W,c) (b,i,j,c) (i,j) (i,2) (j,2)",
    cycles=1.0,
    values=_BOUNDS,
    lengths=_LENGTHS,
)
def window_sums_backward(dx, dy, scale, down, across):
    """dx = at each position the sum, in order, of scale dy over the windows that have it."""
    (height, width, c), (high, wide) = dx.shape[1:], dy.shape[1:3]
    whole, rest = c - c % LANES, c % LANES
    alone = _apart(down) and _apart(across)
    for b in prange(dx.shape[0]):
        image, done = at(dx, b * height * width * c), 0
        for i in range(high):
            _clear(image, done, down[i, 1] * width * c)
            done = down[i, 1] * width * c
            for j in range(wide):
                window, place = (down[i, 0], down[i, 1], across[j, 0], across[j, 1]), ((b * high + i) * wide + j) * c
                slope = at(dy, place)
                for k in range(0, whole, LANES):
                    _to_all_of_lanes(at(image, k), at(slope, k), scale[i, j], alone, width, c, window, LANES)
                if rest:
                    _to_all_of_first(at(image, whole), at(slope, whole), scale[i, j], alone, width, c, window, rest)
        _clear(image, done, height * width * c)
