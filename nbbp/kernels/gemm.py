"""Matrix products from register tiles.

C = start + A . B in tiles of ROWS x (3 vectors), each held in registers while k runs (Goto and van de Geijn, "Anatomy
of high-performance matrix multiplication", 2008). The sum of one element runs over k in order, one fused multiply-add
after another, so its bits depend neither on the tile that contains it, nor on the vector width, nor on threads.

A is read as scalars at any strides, so A and its transpose cost the same. B is read in panels of contiguous columns,
in place or from a packed copy.
"""

import numba
import numpy as np
from llvmlite import binding, ir
from numba import prange, types
from numba.core import cgutils
from numba.extending import intrinsic

from nbbp.kernels.jit import device, kernel
from nbbp.kernels.pointers import at, on_stack

_HOST = binding.get_host_cpu_features()


def has_feature(name: str) -> bool:
    """Whether compiled code may use this processor feature; NUMBA_CPU_FEATURES is respected."""
    chosen = getattr(numba.config, "CPU_FEATURES", None)
    return _HOST.get(name, False) if chosen is None else f"+{name}" in chosen.split(",")


if has_feature("avx512f"):
    VECTOR_BYTES, ROWS = 64, 8  # 24 sums, 3 vectors of B and 1 of A in 32 registers
elif has_feature("avx"):
    VECTOR_BYTES, ROWS = 32, 4  # 12 sums, 3 vectors of B and 1 of A in 16 registers
else:
    VECTOR_BYTES, ROWS = 16, 4
VECTORS = 3
# x86 processors without fused multiply-add round twice; everywhere else the bits are the same.
FMA = "fmuladd" if "sse2" in _HOST and not has_feature("fma") else "fma"

FROM_ZERO = -1

_I32, _I64 = ir.IntType(32), ir.IntType(64)


@intrinsic
def one(typing_context, pointer):
    """Pointer to the number 1 in the dtype of another pointer."""

    def generate(context, builder, signature, args):
        return cgutils.alloca_once_value(builder, context.get_constant(pointer.dtype, 1.0))

    return pointer(pointer), generate


@intrinsic
def columns(typing_context, pointer):
    """The number of columns of a whole tile, a constant of the dtype."""
    count = VECTORS * VECTOR_BYTES * 8 // pointer.dtype.bitwidth
    return types.intp(pointer), lambda context, builder, signature, args: _I64(count)


def _tile(rows: int, vectors: int):
    """C = start + A . B for `rows` rows and n columns, which fill `vectors` registers, the last one perhaps in part.

    a, b, c, start are pointers, the others strides in elements: from row to row, and from one k to the next.
    A negative `start_row` means that the sums start from zero.
    """

    def tile(typing_context, n, k, a, a_row, a_k, b, b_k, c, c_row, start, start_row):
        def generate(context, builder, signature, args):
            builder.call(_tile_function(builder.module, context.get_value_type(c.dtype), rows, vectors), args)
            return context.get_dummy_value()

        stride = types.intp
        return types.void(stride, stride, a, stride, stride, b, stride, c, stride, start, stride), generate

    return intrinsic(tile)


def _tile_function(module, number, rows: int, vectors: int):
    """The LLVM function behind `_tile`: a loop over k with rows x vectors sums in registers."""
    item_bytes = 4 if isinstance(number, ir.FloatType) else 8
    width = VECTOR_BYTES // item_bytes
    suffix = f"v{width}f{8 * item_bytes}"
    name = f"nbbp_tile_{rows}x{vectors}_{suffix}"
    if name in module.globals:
        return module.globals[name]
    pointer, vector = number.as_pointer(), ir.VectorType(number, width)
    integers, mask_type = ir.VectorType(_I32, width), ir.VectorType(ir.IntType(1), width)
    arguments = [_I64, _I64, pointer, _I64, _I64, pointer, _I64, pointer, _I64, pointer, _I64]
    function = ir.Function(module, ir.FunctionType(ir.VoidType(), arguments), name)
    function.linkage = "internal"
    function.attributes.add("noinline")
    n, k, a, a_row, a_k, b, b_k, c, c_row, start, start_row = function.args
    code = ir.IRBuilder(function.append_basic_block("entry"))

    def llvm(operation, result, *operands):
        return cgutils.get_or_insert_function(module, ir.FunctionType(result, operands), f"llvm.{operation}")

    fma = llvm(f"{FMA}.{suffix}", vector, vector, vector, vector)
    masked_load = llvm(f"masked.load.{suffix}.p0", vector, vector.as_pointer(), _I32, mask_type, vector)
    masked_store = llvm(f"masked.store.{suffix}.p0", ir.VoidType(), vector, vector.as_pointer(), _I32, mask_type)
    zero = ir.Constant(vector, [0.0] * width)

    def splat(scalar, vector_type):
        lane = code.insert_element(ir.Constant(vector_type, ir.Undefined), scalar, _I32(0))
        return code.shuffle_vector(lane, ir.Constant(vector_type, ir.Undefined), ir.Constant(integers, [0] * width))

    lane_numbers = ir.Constant(integers, list(range((vectors - 1) * width, vectors * width)))
    in_last_vector = code.icmp_signed("<", lane_numbers, splat(code.trunc(n, _I32), integers))

    def vector_at(base, j):
        return code.bitcast(code.gep(base, [_I64(j * width)]), vector.as_pointer())

    def load(base, j, masked):
        if masked and j == vectors - 1:
            return code.call(masked_load, [vector_at(base, j), _I32(item_bytes), in_last_vector, zero])
        value = code.load(vector_at(base, j))
        value.align = item_bytes
        return value

    def store(value, base, j, masked):
        if masked and j == vectors - 1:
            code.call(masked_store, [value, vector_at(base, j), _I32(item_bytes), in_last_vector])
        else:
            code.store(value, vector_at(base, j)).align = item_bytes

    def body(masked):
        before = code.block
        preload, loop, done = (code.append_basic_block(x) for x in ("preload", "loop", "done"))
        a_rows = [code.mul(a_row, _I64(i)) for i in range(rows)]
        code.cbranch(code.icmp_signed("<", start_row, _I64(0)), loop, preload)
        code.position_at_end(preload)
        start_rows = [code.gep(start, [code.mul(start_row, _I64(i))]) for i in range(rows)]
        started = [load(row, j, masked) for row in start_rows for j in range(vectors)]
        code.branch(loop)

        code.position_at_end(loop)

        def running(kind, from_before, from_preload):
            value = code.phi(kind)
            value.add_incoming(from_before, before)
            value.add_incoming(from_preload, preload)
            return value

        step, a_now, b_now = running(_I64, _I64(0), _I64(0)), running(pointer, a, a), running(pointer, b, b)
        sums = [running(vector, zero, value) for value in started]
        b_row = [load(b_now, j, masked) for j in range(vectors)]
        added = []
        for i in range(rows):
            scalar = splat(code.load(code.gep(a_now, [a_rows[i]])), vector)
            added += [code.call(fma, [scalar, b_row[j], sums[i * vectors + j]]) for j in range(vectors)]
        following = code.add(step, _I64(1))
        step.add_incoming(following, loop)
        a_now.add_incoming(code.gep(a_now, [a_k]), loop)
        b_now.add_incoming(code.gep(b_now, [b_k]), loop)
        for total, value in zip(sums, added, strict=True):
            total.add_incoming(value, loop)
        code.cbranch(code.icmp_signed("<", following, k), loop, done)

        code.position_at_end(done)
        for i in range(rows):
            row = code.gep(c, [code.mul(c_row, _I64(i))])
            for j in range(vectors):
                store(added[i * vectors + j], row, j, masked)
        code.ret_void()

    whole, partial = (code.append_basic_block(x) for x in ("whole", "partial"))
    code.cbranch(code.icmp_signed(">=", n, _I64(vectors * width)), whole, partial)
    for block, masked in ((whole, False), (partial, True)):
        code.position_at_end(block)
        body(masked)
    return function


def _tiles_of(rows: int):
    """A tile of this number of rows and of as many vectors as n columns need."""
    one, two, three = (_tile(rows, vectors) for vectors in (1, 2, 3))

    @device
    def tile(n, k, a, a_row, a_k, b, b_k, c, c_row, start, start_row):
        vector = columns(c) // VECTORS
        if n > 2 * vector:
            three(n, k, a, a_row, a_k, b, b_k, c, c_row, start, start_row)
        elif n > vector:
            two(n, k, a, a_row, a_k, b, b_k, c, c_row, start, start_row)
        else:
            one(n, k, a, a_row, a_k, b, b_k, c, c_row, start, start_row)

    return tile


BROAD = 8  # vectors of a tile for a single row
_tile_broad = _tile(1, BROAD)
_tile_8, _tile_4, _tile_2, _tile_1 = (_tiles_of(rows) for rows in (8, 4, 2, 1))


@device
def multiply_panel(m, n, k, a, a_row, a_k, b, b_k, c, c_row, start, start_row):
    """C = start + A . B for m rows and at most `columns` columns."""
    i = 0
    while i < m:
        rows = m - i
        a_i, c_i, start_i = at(a, i * a_row), at(c, i * c_row), at(start, i * start_row)
        if ROWS == 8 and rows >= 8:
            _tile_8(n, k, a_i, a_row, a_k, b, b_k, c_i, c_row, start_i, start_row)
            i += 8
        elif rows >= 4:
            _tile_4(n, k, a_i, a_row, a_k, b, b_k, c_i, c_row, start_i, start_row)
            i += 4
        elif rows >= 2:
            _tile_2(n, k, a_i, a_row, a_k, b, b_k, c_i, c_row, start_i, start_row)
            i += 2
        else:
            _tile_1(n, k, a_i, a_row, a_k, b, b_k, c_i, c_row, start_i, start_row)
            i += 1


@device
def multiply(m, n, k, a, a_row, a_k, b, b_k, c, c_row, start, start_row):
    """C = start + A . B for any numbers of rows and columns, panel by panel."""
    width = columns(c)
    done = 0
    if m == 1:  # a single row waits for its sums unless there are many of them
        broad = BROAD * (width // VECTORS)
        while n - done >= broad:
            _tile_broad(
                broad, k, a, a_row, a_k, at(b, done), b_k, at(c, done), c_row, at(start, done), start_row
            )  # fmt: skip
            done += broad
    for j in range(done, n, width):
        multiply_panel(m, min(width, n - j), k, a, a_row, a_k, at(b, j), b_k, at(c, j), c_row, at(start, j), start_row)


def affine_reference(y, x, w, b):
    np.matmul(x, w, out=y)
    y += b


@kernel(affine_reference, "(m,n) (m,k) (k,n) (n)", cycles=1 / 10)
def affine(y, x, w, b):
    """y = x . w + b, overwritten."""
    m, k = x.shape
    n = w.shape[1]
    for t in prange((m + ROWS - 1) // ROWS):
        i = t * ROWS
        multiply(min(ROWS, m - i), n, k, at(x, i * k), k, 1, at(w, 0), n, at(y, i * n), n, at(b, 0), 0)


MULTIPLIED_ROWS = 256  # beyond this, products of this many rows are added in float64
TILE = ROWS * VECTORS * VECTOR_BYTES // 4

_part_of_tile, _totals_of_tile = on_stack(TILE), on_stack(TILE, types.float64)


@device
def multiply_many_rows(m, n, k, a, a_k, b, b_k, c):
    """C = A' . B for at most ROWS rows of C and k > MULTIPLIED_ROWS rows of A and B."""
    part, totals, width = _part_of_tile(c), _totals_of_tile(c), columns(c)
    for j in range(0, n, width):
        w = min(width, n - j)
        for i in range(m * w):
            totals[i] = 0.0
        for r in range(0, k, MULTIPLIED_ROWS):
            rows = min(MULTIPLIED_ROWS, k - r)
            multiply_panel(m, w, rows, at(a, r * a_k), 1, a_k, at(b, r * b_k + j), b_k, part, w, part, FROM_ZERO)
            for i in range(m * w):
                totals[i] += part[i]
        for i in range(m):
            for q in range(w):
                c[i * n + j + q] = totals[i * w + q]


def product_of_transposed_reference(c, sums, a, b):
    np.matmul(a.T, b, out=c)
    sums[:] = b.sum(axis=0, dtype=np.float64)


@kernel(product_of_transposed_reference, "(m,n) (n) (k,m) (k,n)", cycles=1 / 10)
def product_of_transposed(c, sums, a, b):
    """c = a' . b and sums = b summed over its rows, overwritten: the gradients of weights and biases."""
    k, m = a.shape
    n = b.shape[1]
    sum_rows(at(sums, 0), at(b, 0), k, n, n)
    for t in prange((m + ROWS - 1) // ROWS):
        i = t * ROWS
        if k > MULTIPLIED_ROWS:
            multiply_many_rows(min(ROWS, m - i), n, k, at(a, i), m, at(b, 0), n, at(c, i * n))
        else:
            multiply(min(ROWS, m - i), n, k, at(a, i), 1, m, at(b, 0), n, at(c, i * n), n, at(c, 0), FROM_ZERO)


STRIP = BROAD * VECTOR_BYTES // 4  # columns that are summed at a time, at most
ADDED_ROWS = 128  # beyond this, the sums of this many rows are added in float64: float32 would lose digits

_sums_of_strip, _totals_of_strip = on_stack(STRIP), on_stack(STRIP, types.float64)


@device
def _add_strip(n, m, x, x_row, sums):
    """sums = x summed over its m rows in order, for at most STRIP columns: a row of ones times x."""
    if m <= ADDED_ROWS:
        multiply(1, n, m, one(x), 0, 0, x, x_row, sums, n, sums, FROM_ZERO)
        return
    some, totals = _sums_of_strip(x), _totals_of_strip(x)
    for j in range(n):
        totals[j] = 0.0
    for i in range(0, m, ADDED_ROWS):
        multiply(1, n, min(ADDED_ROWS, m - i), one(x), 0, 0, at(x, i * x_row), x_row, some, n, some, FROM_ZERO)
        for j in range(n):
            totals[j] += some[j]
    for j in range(n):
        sums[j] = totals[j]


@device
def sum_rows(sums, x, m, n, x_row):
    """sums = m rows of x, n columns each, summed."""
    strip = BROAD * (columns(x) // VECTORS)
    for j in range(0, n, strip):
        _add_strip(min(strip, n - j), m, at(x, j), x_row, at(sums, j))


@intrinsic
def transpose_block(typing_context, y, y_row, x, x_row):
    """y = x' for square blocks as wide as a vector: log2(width) rounds of exchanges between pairs of registers."""

    def generate(context, builder, signature, args):
        y, y_row, x, x_row = args
        item_bytes = signature.args[0].dtype.bitwidth // 8
        width = VECTOR_BYTES // item_bytes
        vector = ir.VectorType(x.type.pointee, width)

        def row(base, stride, i):
            return builder.bitcast(builder.gep(base, [builder.mul(stride, _I64(i))]), vector.as_pointer())

        rows = [builder.load(row(x, x_row, i)) for i in range(width)]
        for value in rows:
            value.align = item_bytes
        half = width // 2
        while half:
            low = [lane + width - half if lane & half else lane for lane in range(width)]
            high = [lane + width if lane & half else lane + half for lane in range(width)]
            for i in range(width):
                if not i & half:
                    pair = rows[i], rows[i + half]
                    for k, lanes in ((i, low), (i + half, high)):
                        pattern = ir.Constant(ir.VectorType(_I32, width), lanes)
                        rows[k] = builder.shuffle_vector(*pair, pattern)
            half //= 2
        for i, value in enumerate(rows):
            builder.store(value, row(y, y_row, i)).align = item_bytes
        return context.get_dummy_value()

    return types.void(y, types.intp, x, types.intp), generate


def transpose_reference(y, x):
    y[:] = x.T


@kernel(transpose_reference, "(n,m) (m,n)", cycles=0.4)
def transpose(y, x):
    """y = x', overwritten."""
    m, n = x.shape
    width = columns(at(x, 0)) // VECTORS
    for p in prange((n + width - 1) // width):
        j = p * width
        whole = m - m % width if j + width <= n else 0  # rows that go in blocks
        for i in range(0, whole, width):
            transpose_block(at(y, j * m + i), m, at(x, i * n + j), n)
        for k in range(j, min(j + width, n)):
            for i in range(whole, m):
                y[k, i] = x[i, k]


def column_sums_reference(sums, x):
    sums[:] = x.sum(axis=0, dtype=np.float64)


@kernel(column_sums_reference, "(n) (m,n)", cycles=0.1)
def column_sums(sums, x):
    """sums = x summed over its rows, overwritten."""
    m, n = x.shape
    width = columns(at(x, 0))
    for p in prange((n + width - 1) // width):
        j = p * width
        _add_strip(min(width, n - j), m, at(x, j), n, at(sums, j))
