"""Products and sums of few columns, which would leave most of a vector empty: rows lie side by side in it instead.

The sums are those of `multiply`, bit for bit: each over k in order, one fused multiply-add after another.
"""

from nbbp.kernels import lanes
from nbbp.kernels.jit import device
from nbbp.kernels.lanes import LANES
from nbbp.kernels.pointers import at, on_stack
from nbbp.kernels.tiles import FROM_ZERO, VECTOR_BYTES, VECTORS, columns, multiply_panel, multiply_row, one
from nbbp.kernels.transposes import rows_of_columns, transpose_block
from nbbp.kernels.vector_math import ZERO

WIDTH = VECTORS * VECTOR_BYTES // 4  # rows side by side, at most
STEPS = 128  # of k for which rows are transposed at a time, at most: 24 KiB
BLOCKS = 4  # panels of rows for a thread at a time

_turned = on_stack(STEPS * WIDTH)
_sums, _starts = on_stack(VECTOR_BYTES // 4 * WIDTH), on_stack(VECTOR_BYTES // 4 * WIDTH)


@device
def few_columns(m, n, k, like):
    """Whether m rows of a product with n columns are multiplied side by side."""
    vector = columns(like) // VECTORS
    return 2 * n <= vector and m >= vector and k >= vector


@device
def blocks_of_rows(m, like):
    """The number of blocks of at most BLOCKS panels of rows."""
    return (m + BLOCKS * columns(like) - 1) // (BLOCKS * columns(like))


@device
def rows_of_block(t, m, like):
    """The first row of the t-th block of m rows, and the number of its rows."""
    blocks = blocks_of_rows(m, like)
    return m * t // blocks, m * (t + 1) // blocks - m * t // blocks


@device
def _turn(turned, x, x_row, rows, k):
    """turned[k, i] = x[i, k] for rows whole vectors of rows; where k ends with a part of a vector, blocks overlap."""
    width = columns(x)
    vector = width // VECTORS
    for r in range(0, rows, vector):
        for s in range(0, k, vector):
            s = min(s, k - vector)
            transpose_block(at(turned, s * width + r), width, at(x, r * x_row + s), x_row, vector)


@device
def multiply_few_columns(t, m, n, k, x, w, b, y):
    """y = x . w + b for the t-th block of the m rows of x, and n columns; its last panels may overlap."""
    width = columns(x)
    vector, chunks = width // VECTORS, (k + STEPS - 1) // STEPS
    i, length = rows_of_block(t, m, x)
    turned, sums, starts, end = _turned(x), _sums(x), _starts(x), i + length
    for j in range(n):
        for q in range(width):
            starts[j * width + q] = b[j]
    while i < end:
        rows = min(width, (end - i) // vector * vector)
        if rows == 0:
            i, rows = end - vector, vector
        for c in range(chunks):
            s = k * c // chunks
            some = k * (c + 1) // chunks - s
            _turn(turned, at(x, i * k + s), k, rows, some)
            multiply_panel(
                n, rows, some, at(w, s * n), 1, n, turned, width, sums, width, sums if s else starts, width
            )  # fmt: skip
        for r in range(0, rows, vector):
            rows_of_columns(at(y, (i + r) * n), at(sums, r), width, n)
        i += rows


@device
def write_transposed(c, sums, n, w):
    """c[j, i] = sums[i, j] for n rows of sums, w long, at most as many as a vector has numbers; others are not used."""
    vector = columns(c) // VECTORS
    whole = w - w % vector
    for j in range(0, whole, vector):
        rows_of_columns(at(c, j * n), at(sums, j), w, n)
    for j in range(whole, w):
        for i in range(n):
            c[j * n + i] = sums[i * w + j]


def _four_sums(load, store):
    @device
    def sums_of_rows(m, x, x_row, n_even, n_odd, places, sums, sums_places):
        """Sums over m rows, each in order, of four vectors at places of x, of n_even and of n_odd columns in turn."""
        a = b = c = d = lanes.splat(ZERO(x[0]))
        for i in range(m):
            row = at(x, i * x_row)
            a = lanes.added(a, load(row, n_even))
            b = lanes.added(b, load(at(row, places[0]), n_odd))
            c = lanes.added(c, load(at(row, places[1]), n_even))
            d = lanes.added(d, load(at(row, places[2]), n_odd))
        store(sums, a, n_even)
        store(at(sums, sums_places[0]), b, n_odd)
        store(at(sums, sums_places[1]), c, n_even)
        store(at(sums, sums_places[2]), d, n_odd)

    return sums_of_rows


_four_whole, _four_parts = _four_sums(lanes.load, lanes.store), _four_sums(lanes.load_first, lanes.store_first)


@device
def blocks_side_by_side(n):
    """The number of blocks of rows of n columns that are summed side by side: with their vectors they are four.

    NEON has no instruction for a part of a vector.
    """
    if VECTOR_BYTES == 16 and n % LANES != 0:
        return 1
    return 4 if n <= LANES else 2 if n <= 2 * LANES else 1


@device
def sum_blocks(m, n, x, x_row, sums, sums_row):
    """sums[q] = the q-th block of m rows of x, n columns each, summed over its rows in order."""
    block, even = m * x_row, min(n, LANES)
    odd = n if n <= LANES else n - LANES
    if n <= LANES:
        places, sums_places = (block, 2 * block, 3 * block), (sums_row, 2 * sums_row, 3 * sums_row)
    else:
        places, sums_places = (LANES, block, block + LANES), (LANES, sums_row, sums_row + LANES)
    if n % LANES == 0:
        _four_whole(m, x, x_row, even, odd, places, sums, sums_places)
    else:
        _four_parts(m, x, x_row, even, odd, places, sums, sums_places)


@device
def sum_block(m, n, x, x_row, sums):
    """sums = x summed over its m rows in order, for n columns: four vectors side by side, or a row of ones times x."""
    done = 0
    while n - done >= 4 * LANES:
        places = LANES, 2 * LANES, 3 * LANES
        _four_whole(m, at(x, done), x_row, LANES, LANES, places, at(sums, done), places)
        done += 4 * LANES
    multiply_row(n - done, m, one(x), 0, at(x, done), x_row, at(sums, done), sums, FROM_ZERO)
