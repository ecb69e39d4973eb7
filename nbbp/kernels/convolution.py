"""Convolutions as products of windows, without a copy of each.

With channels last, the window at position p and its element k are at x[positions[p] + taps[k]]: windows at any
strides, dilation and groups are rows of a matrix that is never written. The kernels take x with its padding.
`convolve` and `convolve_weights` take factors that are numbers, or pairs of bfloat16: see `rounded_convolution`.
"""

import numpy as np
from numba import prange, types

from nbbp.kernels.arguments import Values
from nbbp.kernels.bfloat16 import product
from nbbp.kernels.jit import device, kernel
from nbbp.kernels.panels import panels
from nbbp.kernels.pointers import at, on_stack
from nbbp.kernels.tiles import FROM_ZERO, ROWS, VECTOR_BYTES, VECTORS, columns, multiply_at_offsets
from nbbp.kernels.vector_math import ZERO


def pad_reference(padded, x, before):
    top, left = before
    padded[:] = 0
    padded[:, top : top + x.shape[1], left : left + x.shape[2]] = x


def _within(rng, shape, dtype, lengths):
    """The first row and the first element of it."""
    return np.array([rng.integers(0, lengths[whole] - lengths[part] + 1) for whole, part in ("Hi", "Mn")])


_PLACE = {"before": _within}
_LARGER = {"H": lambda i: range(i, 2**31), "M": lambda n: range(n, 2**31)}


@kernel(pad_reference, "(b,H,M) (b,i,n) (2)", cycles=0.3, values=_PLACE, lengths=_LARGER)
def pad(padded, x, before):
    """padded = x within zeros, from row before[0] and its element before[1] on; a row is that of all channels."""
    height, length = x.shape[1:]
    for t in prange(padded.shape[0] * padded.shape[1]):
        image, row = t // padded.shape[1], t % padded.shape[1]
        target, i = padded[image, row], row - before[0]
        begin = before[1] if 0 <= i < height else target.shape[0]
        for j in range(begin):
            target[j] = ZERO(target[j])
        if 0 <= i < height:
            source, inside = x[image, i], target[begin:]
            for j in range(length):
                inside[j] = source[j]
            for j in range(length, inside.shape[0]):
                inside[j] = ZERO(inside[j])


def crop_reference(x, padded, before):
    top, left = before
    x[:] = padded[:, top : top + x.shape[1], left : left + x.shape[2]]


@kernel(crop_reference, "(b,i,n) (b,H,M) (2)", cycles=0.3, values=_PLACE, lengths=_LARGER)
def crop(x, padded, before):
    """x = the part of padded from row before[0] and its element before[1] on."""
    height = x.shape[1]
    for t in prange(x.shape[0] * height):
        image, i = t // height, t % height
        target, source = x[image, i], padded[image, before[0] + i][before[1] :]
        for j in range(target.shape[0]):
            target[j] = source[j]


def offsets_within(whole: str, part: str | None = None) -> Values:
    """Offsets, of which two together leave room in an array of this length for so many elements."""

    def drawn(rng, shape, dtype, lengths):
        room = lengths[whole] - (lengths[part] if part else 1)
        return rng.integers(0, room // 2 + 1, shape).astype(np.int32)

    return drawn


def places_of_rows(length: str) -> Values:
    """Offsets of rows of this length, in any order."""
    return lambda rng, shape, dtype, lengths: (rng.permutation(shape[0]) * lengths[length]).astype(np.int32)


POSITIONS = 64  # that a thread takes at a time
NUMBERS = 10_240  # of weights, which stay in the first-level cache for all of them


def convolve_reference(y, x, packed, b, positions, taps, places):
    count, k, width = packed.shape
    w = packed.swapaxes(0, 1).reshape(k, count * width)[:, : len(b)]
    y[places[:, None] + np.arange(len(b))] = product(x[positions[:, None] + taps], w) + b


@kernel(
    convolve_reference,
    "(Y) (X) (T,k,C) (f) (p) (k) (p)",
    cycles=1 / 16,
    values={"positions": offsets_within("X"), "taps": offsets_within("X"), "places": places_of_rows("f")},
    lengths={
        "Y": lambda p, f: range(p * f, 2**40),
        "T": lambda f, itemsize: panels(f, itemsize)[0],
        "C": lambda f, itemsize: panels(f, itemsize)[1],
    },
)
def convolve(y, x, packed, b, positions, taps, places):
    """y[places[p] + j] = sum_k x[positions[p] + taps[k]] w[k, j] + b[j], where `packed` has w in panels."""
    count, k, width = packed.shape
    windows, n = positions.shape[0], b.shape[0]
    for t in prange((windows + POSITIONS - 1) // POSITIONS):
        begin = t * POSITIONS
        m = min(POSITIONS, windows - begin)
        if k == 0:
            for i in range(begin, begin + m):
                for j in range(n):
                    y[places[i] + j] = b[j]
            continue
        for q in range(count):
            j = q * width
            c = at(y, j)
            blocks = (k * width + NUMBERS - 1) // NUMBERS
            block = (k + blocks - 1) // blocks
            for some in range(0, k, block):
                start, own = (c, 1) if some else (at(b, j), 0)
                multiply_at_offsets(
                    m, min(width, n - j), min(block, k - some), at(x, 0), at(positions, begin), at(taps, some),
                    at(packed, (q * k + some) * width), width, c, at(places, begin), start, own,
                )  # fmt: skip


STRETCH = 960  # windows whose sums stay in the first-level cache: whole tiles in any dtype and vector width
FEW = 8  # filters at most

_sums_of_stretch, _rows_of_tile = on_stack(FEW * STRETCH), on_stack(8, types.int32)


def few(filters: int, itemsize: int) -> bool:
    """Whether so many filters leave half of a vector empty, so that windows beside each other had better fill it."""
    return 2 * filters * itemsize <= VECTOR_BYTES and filters <= FEW


def planes_reference(planes, x, before):
    top, left = before
    planes[:] = 0
    planes[:, :, top : top + x.shape[1], left : left + x.shape[2]] = np.moveaxis(x, 3, 1)


def _within_planes(rng, shape, dtype, lengths):
    return np.array([rng.integers(0, lengths[whole] - lengths[part] + 1) for whole, part in ("Hi", "Wj")])


@kernel(
    planes_reference,
    "(b,c,H,W) (b,i,j,c) (2)",
    cycles=1.0,
    values={"before": _within_planes},
    lengths={"H": lambda i: range(i, 2**31), "W": lambda j: range(j, 2**31)},
)
def planes(planes, x, before):
    """planes = x with channels first, within zeros, from row before[0] and column before[1] on."""
    channels, height, width = planes.shape[1:]
    size = height * width
    for image in prange(x.shape[0]):
        target = planes[image].reshape(-1)
        for k in range(target.shape[0]):
            target[k] = ZERO(target[k])
        for i in range(x.shape[1]):
            source = x[image, i].reshape(-1)
            row = target[(before[0] + i) * width + before[1] :]
            if channels == 1:
                for j in range(source.shape[0]):
                    row[j] = source[j]
            else:
                for j in range(x.shape[2]):
                    for c in range(channels):
                        row[c * size + j] = source[j * channels + c]


def convolve_planes_reference(y, planes, w, b, shifts, filters, taps):
    high, wide = y.shape[1:3]
    places = np.arange(high)[:, None] * planes.shape[3] + np.arange(wide)
    windows = planes.reshape(len(planes), -1)[:, places[:, :, None] + shifts]
    y[:] = windows @ w[filters + taps[:, None]] + b


def _shifts(rng, shape, dtype, lengths):
    """Offsets of elements of windows that lie within the planes of an image."""
    last = (lengths["h"] - 1) * lengths["W"] + lengths["v"] - 1
    return rng.integers(0, lengths["c"] * lengths["H"] * lengths["W"] - last, shape).astype(np.int32)


@kernel(
    convolve_planes_reference,
    "(b,h,v,f) (b,c,H,W) (S) (f) (k) (f) (k)",
    cycles=1 / 16,
    values={"shifts": _shifts, "filters": offsets_within("S"), "taps": offsets_within("S")},
    lengths={
        "f": lambda: range(1, FEW + 1),
        "H": lambda h: range(h, 2**31),
        "W": lambda v: range(v, 2**31),
    },
)
def convolve_planes(y, planes, w, b, shifts, filters, taps):
    """y[i, j, f] = sum_k w[filters[f] + taps[k]] planes[i W + j + shifts[k]] + b[f]: windows fill the vectors."""
    _, high, wide, n = y.shape
    k, width = shifts.shape[0], planes.shape[3]
    image, lanes = planes.shape[1] * planes.shape[2] * width, (high - 1) * width + wide
    blocks = (lanes + STRETCH - 1) // STRETCH
    for t in prange(y.shape[0] * blocks):
        row, begin = t // blocks, t % blocks * STRETCH
        count = min(STRETCH, lanes - begin)
        sums, rows = _sums_of_stretch(at(b, 0)), _rows_of_tile(at(b, 0))
        source, target = at(planes, row * image + begin), at(y, row * high * wide * n)
        for f in range(n):
            rows[f] = f * STRETCH
            for q in range(count):
                sums[f * STRETCH + q] = b[f]
        panel = columns(sums)
        for q in range(0, count, panel):
            c = at(sums, q)
            multiply_at_offsets(
                n, min(panel, count - q), k, at(w, 0), at(filters, 0), at(taps, 0), at(source, q), at(shifts, 0),
                c, rows, c, 1,
            )  # fmt: skip
        for i in range(begin // width, min(high, (begin + count - 1) // width + 1)):
            first, last = max(begin - i * width, 0), min(begin + count - i * width, wide)
            for f in range(n):
                some, out = at(sums, f * STRETCH + i * width - begin), at(target, i * wide * n + f)
                for j in range(first, last):
                    out[j * n] = some[j]


GROUP = 1024  # windows whose products one thread sums; the sums of groups are added in float64
CLOSE_WINDOWS = 128  # whose rows of dy stay in the first-level cache for all taps

_slopes_of_panel = on_stack(CLOSE_WINDOWS * VECTORS * VECTOR_BYTES // 4)


def groups(windows: int) -> int:
    """The number of groups of windows whose products are summed by themselves."""
    return -(-windows // GROUP)


@device
def _multiply_group(sums, x, dy, positions, taps, first, n, tile, last_tile, begin, end):
    """sums = the products of some windows, x[positions + taps], and dy: some tiles of taps, and n columns."""
    k, size = sums.shape
    rows, panel, vector = _rows_of_tile(at(x, 0)), _slopes_of_panel(at(x, 0)), columns(at(x, 0)) // VECTORS
    for r in range(ROWS):
        rows[r] = r * size
    vectors = (n + vector - 1) // vector
    count = (vectors + VECTORS - 1) // VECTORS
    width = (vectors + count - 1) // count * vector  # as in `panels`
    for j in range(0, n, width):
        w = min(width, n - j)
        for p in range(begin, end, CLOSE_WINDOWS):
            windows = min(CLOSE_WINDOWS, end - p)
            slopes, apart = at(dy, p * size + first + j), size
            if n > width:  # rows of dy are wider than a panel, so that its lines would be far apart
                for r in range(windows):
                    target, source = at(panel, r * width), at(slopes, r * size)
                    for q in range(w):
                        target[q] = source[q]
                slopes, apart = panel, width
            for t in range(tile, last_tile):
                c = at(sums, t * ROWS * size + first + j)
                multiply_at_offsets(
                    min(ROWS, k - t * ROWS), w, windows, at(x, 0), at(taps, t * ROWS), at(positions, p), slopes, apart,
                    c, rows, c, FROM_ZERO if p == begin else 1,
                )  # fmt: skip


def _consecutive(rng, shape, dtype, lengths):
    return rng.integers(0, lengths["F"] - lengths["f"] + 1) + np.arange(lengths["f"])


def convolve_weights_reference(sums, x, dy, positions, taps, filters):
    count = len(sums)
    for g in range(count):
        own = slice(len(dy) * g // count, len(dy) * (g + 1) // count)
        sums[g][:, filters] = product(x[positions[own, None] + taps].T, dy[own][:, filters])


@kernel(
    convolve_weights_reference,
    "(G,k,F) (X) (p,F) (p) (k) (f)",
    cycles=1 / 16,
    values={"positions": offsets_within("X"), "taps": offsets_within("X"), "filters": _consecutive},
    lengths={"G": lambda p: range(1, p + 1), "F": lambda f: range(f, 2**31)},
)
def convolve_weights(sums, x, dy, positions, taps, filters):
    """sums[g][k, j] = sum over the windows p of group g of x[positions[p] + taps[k]] dy[p, j]; `filters` j in a row."""
    count, k = sums.shape[:2]
    tiles, windows = (k + ROWS - 1) // ROWS, dy.shape[0]
    stripes = min(tiles, max(16 // count, 1))
    for t in prange(count * stripes):
        g, stripe = t // stripes, t % stripes
        _multiply_group(
            sums[g], x, dy, positions, taps, filters[0], filters.shape[0],
            tiles * stripe // stripes, tiles * (stripe + 1) // stripes,
            windows * g // count, windows * (g + 1) // count,
        )  # fmt: skip
