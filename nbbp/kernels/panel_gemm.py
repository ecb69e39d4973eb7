"""Products from copies of panels that stay in the first-level cache.

The rows of a panel in place are as far apart as those of the matrix, and fall into few sets of a cache; and if each
tile of rows goes through all panels, they come from the second level each time. Here a block of a panel is copied to
the stack and multiplied with all rows. The sums are those of `multiply`, bit for bit.
"""

from numba import types

from nbbp.kernels.arrays import LINE
from nbbp.kernels.jit import device
from nbbp.kernels.pointers import at, copy, on_stack, prefetch
from nbbp.kernels.tiles import FROM_ZERO, VECTOR_BYTES, VECTORS, columns, multiply_panel

# AVX2: 32 registers take twice as many rows through a panel at a time. A kernel asks for this constant itself: what a
# branch on it excludes is not compiled.
COPIES = VECTOR_BYTES == 32
PANEL_BYTES = VECTORS * VECTOR_BYTES
STEPS = 256  # rows of a block of a panel: 24 KiB
LEAST_ROWS = 32  # of A, for which a copy pays off
TASKS = 32  # to share among threads, if there are rows enough
AHEAD = 16  # rows that are prefetched while one is copied
SUMMED = 128  # rows of sums in float64 for which a block is copied

_block_of_panel = on_stack(STEPS * PANEL_BYTES // 4)
_products, _totals = (on_stack(SUMMED * PANEL_BYTES // 4, dtype) for dtype in (None, types.float64))


@device
def copy_panel(panel, b, b_k, k, n):
    """panel[k, j] = B[k, j] for n columns; the rows of a panel are as wide as a tile."""
    width = columns(b)
    vector, line = width // VECTORS, width * LINE // PANEL_BYTES
    if n == width:
        for i in range(k):
            ahead = at(b, min(i + AHEAD, k - 1) * b_k)
            for j in range(0, width, line):
                prefetch(at(ahead, j))
            copy(at(panel, i * width), at(b, i * b_k), width)
    elif n == 2 * vector:
        for i in range(k):
            copy(at(panel, i * width), at(b, i * b_k), 2 * vector)
    else:
        for i in range(k):
            for j in range(n):
                panel[i * width + j] = b[i * b_k + j]


@device
def pays_off(m, n, like):
    """Whether the product of m rows and n columns gains from copies of panels."""
    return m >= LEAST_ROWS and n > columns(like)


@device
def _panels(n, like):
    return (n + columns(like) - 1) // columns(like)


@device
def row_blocks_of_parts(m, n, like):
    """The number of blocks of rows into which threads cut each panel's product: few, as each copies the panel."""
    return max(1, min(TASKS // _panels(n, like), m // (2 * LEAST_ROWS)))


@device
def parts(n, blocks, like):
    """The number of parts of a product of n columns."""
    return _panels(n, like) * blocks


@device
def place_of_part(t, blocks, m, n, like):
    """The first row and column of the t-th part, and the ends: panels differ by one vector at most."""
    count, vector = _panels(n, like), columns(like) // VECTORS
    vectors, p, block = (n + vector - 1) // vector, t % count, t // count
    end = min(n, (p + 1) * vectors // count * vector)
    return m * block // blocks, p * vectors // count * vector, m * (block + 1) // blocks, end


@device
def multiply_part(t, blocks, m, n, k, a, a_row, a_k, b, b_k, c, c_row, start, start_row):
    """C = start + A . B for the t-th part: a block of rows in a panel."""
    i, j, end_row, end = place_of_part(t, blocks, m, n, c)
    panel, width, c_part = _block_of_panel(c), columns(c), at(c, i * c_row + j)
    for s in range(0, k, STEPS):
        some = min(STEPS, k - s)
        copy_panel(panel, at(b, s * b_k + j), b_k, some, end - j)
        first = s == 0
        multiply_panel(
            end_row - i, end - j, some, at(a, i * a_row + s * a_k), a_row, a_k, panel, width, c_part, c_row,
            at(start, max(start_row, 0) * i + j) if first else c_part, start_row if first else c_row,
        )  # fmt: skip


@device
def multiply_part_of_many_rows(t, blocks, m, n, k, steps, a, a_k, b, b_k, c):
    """C = A' . B for the t-th part, where products of `steps` rows of A and B, at most STEPS, are added in float64."""
    i, j, end_row, end = place_of_part(t, blocks, m, n, c)
    panel, products, totals, width, w = _block_of_panel(c), _products(c), _totals(c), columns(c), end - j
    for first in range(i, end_row, SUMMED):
        rows = min(SUMMED, end_row - first)
        for q in range(rows * w):
            totals[q] = 0.0
        for s in range(0, k, steps):
            some = min(steps, k - s)
            copy_panel(panel, at(b, s * b_k + j), b_k, some, w)
            multiply_panel(
                rows, w, some, at(a, s * a_k + first), 1, a_k, panel, width, products, w, products, FROM_ZERO
            )  # fmt: skip
            for q in range(rows * w):
                totals[q] += products[q]
        for r in range(rows):
            for q in range(w):
                c[(first + r) * n + j + q] = totals[r * w + q]


@device
def multiply_from_copies(m, n, k, a, a_row, a_k, b, b_k, c, c_row, start, start_row):
    """C = start + A . B, panel by panel."""
    for t in range(_panels(n, c)):
        multiply_part(t, 1, m, n, k, a, a_row, a_k, b, b_k, c, c_row, start, start_row)
