"""Transposes of matrices: square blocks in registers, as wide as a vector, and blocks of fewer columns."""

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from nbbp.kernels import llvm
from nbbp.kernels.jit import device
from nbbp.kernels.pointers import at
from nbbp.kernels.tiles import VECTOR_BYTES, VECTORS, columns


def _shuffled(builder, a, b, places):
    return builder.shuffle_vector(a, b, ir.Constant(ir.VectorType(llvm.I32, len(places)), places))


def _row(builder, base, stride, i):
    return builder.gep(base, [builder.mul(stride, llvm.I64(i))])


def _exchanged(builder, rows):
    """The columns of a square block of vectors: log2(width) rounds of exchanges between pairs of registers."""
    rows, width = list(rows), len(rows)
    half = width // 2
    while half:
        low = [lane + width - half if lane & half else lane for lane in range(width)]
        high = [lane + width if lane & half else lane + half for lane in range(width)]
        for i in range(width):
            if not i & half:
                pair = rows[i], rows[i + half]
                rows[i], rows[i + half] = (_shuffled(builder, *pair, places) for places in (low, high))
        half //= 2
    return rows


def _apart(builder, rows):
    """The columns of n vectors that hold rows of n numbers, n being a power of 2."""
    if len(rows) == 1:
        return rows
    width, columns = rows[0].type.count, [None] * len(rows)
    for first in (0, 1):
        pairs = zip(rows[0::2], rows[1::2], strict=True)
        halves = [_shuffled(builder, a, b, list(range(first, 2 * width, 2))) for a, b in pairs]
        columns[first::2] = _apart(builder, halves)
    return columns


def _together(builder, columns):
    """The inverse of `_apart`: rows of n numbers from their columns."""
    if len(columns) == 1:
        return columns
    width, rows = columns[0].type.count, []
    for a, b in zip(_together(builder, columns[0::2]), _together(builder, columns[1::2]), strict=True):
        begins = 0, width // 2
        rows += [_shuffled(builder, a, b, [k + i // 2 + i % 2 * width for i in range(width)]) for k in begins]
    return rows


def _transpose(few_read: bool, few_written: bool):
    """An intrinsic that transposes a square block; of the rows of x, or of y, it touches the first n numbers alone."""

    def transpose(typing_context, y, y_row, x, x_row, n):
        def generate(context, builder, signature, args):
            y, y_row, x, x_row, n = args
            width = VECTOR_BYTES // llvm.item_bytes(x.type.pointee)
            first = llvm.lanes_before(builder, n, width)
            read, written = first if few_read else None, first if few_written else None
            rows = [llvm.load(builder, _row(builder, x, x_row, i), width, read) for i in range(width)]
            for i, value in enumerate(_exchanged(builder, rows)):
                llvm.store(builder, value, _row(builder, y, y_row, i), written)
            return context.get_dummy_value()

        return types.void(y, types.intp, x, types.intp, types.intp), generate

    return intrinsic(transpose)


transpose_block = _transpose(few_read=False, few_written=False)
"""y = x' for square blocks as wide as a vector; n is not used."""
transpose_few_columns = _transpose(few_read=True, few_written=False)
"""y = x' for as many rows of x as a vector has numbers, and n columns; the rows of y from the n-th on become 0."""
transpose_few_rows = _transpose(few_read=False, few_written=True)
"""y = x' for n rows of x, as long as a vector; rows from the n-th on are read but not used."""


def _moved(n: int, change, rows_read: bool):
    """An intrinsic that reads n vectors, rows or columns, and writes the other; a vector of rows follows the other."""

    @intrinsic
    def move(typing_context, y, x, column_apart):
        def generate(context, builder, signature, args):
            y, x, apart = args
            width = VECTOR_BYTES // llvm.item_bytes(x.type.pointee)
            in_rows = llvm.I64(width)
            read, written = (in_rows, apart) if rows_read else (apart, in_rows)
            values = [llvm.load(builder, _row(builder, x, read, i), width) for i in range(n)]
            for i, value in enumerate(change(builder, values)):
                llvm.store(builder, value, _row(builder, y, written, i))
            return context.get_dummy_value()

        return types.void(y, x, types.intp), generate

    return move


_apart_2, _apart_4 = (_moved(n, _apart, rows_read=True) for n in (2, 4))
_together_1, _together_2, _together_4 = (_moved(n, _together, rows_read=False) for n in (1, 2, 4))


@device
def columns_of_rows(y, y_row, x, n):
    """y = x' for as many rows of x as a vector has numbers and n columns, at most as many; y has room for a square."""
    if n == 2:
        _apart_2(y, x, y_row)
    elif n == 4:
        _apart_4(y, x, y_row)
    else:
        transpose_few_columns(y, y_row, x, n, n)


@device
def rows_of_columns(y, x, x_row, n):
    """y = x' for n rows of x, as long as a vector; as many rows are read as it has numbers."""
    if n == 1:
        _together_1(y, x, x_row)
    elif n == 2:
        _together_2(y, x, x_row)
    elif n == 4:
        _together_4(y, x, x_row)
    else:
        transpose_few_rows(y, n, x, x_row, n)


@device
def transpose_rows(y, y_row, x, x_row, m, n):
    """y[j, i] = x[i, j] for m rows and n columns of x."""
    width = columns(x) // VECTORS
    for i in range(0, m, width):
        square = n - n % width if i + width <= m else 0  # columns that go in blocks
        for j in range(0, square, width):
            transpose_block(at(y, j * y_row + i), y_row, at(x, i * x_row + j), x_row, width)
        for j in range(square, n):
            for row in range(i, min(i + width, m)):
                y[j * y_row + row] = x[row * x_row + j]
