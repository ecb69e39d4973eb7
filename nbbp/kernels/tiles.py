"""Register tiles, of which all products consist.

C = start + A . B in tiles of ROWS x (3 vectors), each held in registers while k runs (Goto and van de Geijn, "Anatomy
of high-performance matrix multiplication", 2008). The sum of one element runs over k in order, one fused multiply-add
after another, so its bits depend neither on the tile that contains it, nor on the vector width, nor on threads.

Where A and B hold pairs of bfloat16 instead of numbers (`nbbp.kernels.bfloat16`), k counts pairs.

A is read as scalars: at strides, so that A and its transpose cost the same, or at offsets, A[i, k] = a[rows[i] +
ks[k]], which is what overlapping windows need (Dukhan, "The indirect convolution algorithm", 2019). B is read in
panels of contiguous columns, in place or from a packed copy; or its rows begin at offsets.
"""

import contextlib
import functools

import numba
from llvmlite import binding, ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from nbbp.kernels import bfloat16, llvm
from nbbp.kernels.jit import device
from nbbp.kernels.llvm import I32, I64
from nbbp.kernels.pointers import at

_HOST = binding.get_host_cpu_features()
ARM = binding.get_process_triple().startswith(("aarch64", "arm64"))


def has_feature(name: str) -> bool:
    """Whether compiled code may use this processor feature; NUMBA_CPU_FEATURES is respected."""
    chosen = getattr(numba.config, "CPU_FEATURES", None)
    return _HOST.get(name, False) if chosen is None else f"+{name}" in chosen.split(",")


if has_feature("avx512f"):
    VECTOR_BYTES, ROWS = 64, 8  # 24 sums, 3 vectors of B and 1 of A in 32 registers
elif has_feature("avx"):
    VECTOR_BYTES, ROWS = 32, 4  # 12 sums, 3 vectors of B and 1 of A in 16 registers
elif ARM:
    VECTOR_BYTES, ROWS = 16, 8  # NEON has 32 registers
else:
    VECTOR_BYTES, ROWS = 16, 4
VECTORS = 3
BROAD = 8  # vectors of a tile for a single row
HEIGHTS = (8, 6, 4, 2, 1) if ROWS == 8 else (6, 4, 2, 1)  # of tiles, in rows
WIDTHS = (3, 2, 1)  # in vectors
SUMS = ROWS * VECTORS  # vectors of sums in a tile, at most: with 12, six rows have two vectors or fewer
# x86 processors without fused multiply-add round twice; everywhere else the bits are the same.
PAIR_INSTRUCTION = has_feature("avx512bf16")
FMA = "fmuladd" if "sse2" in _HOST and not has_feature("fma") else "fma"

FROM_ZERO = -1

_OFFSETS = types.CPointer(types.int32)


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
    return types.intp(pointer), lambda context, builder, signature, args: I64(count)


@intrinsic(prefer_literal=True)
def _tile(typing_context, m, n, k, a, a_row, a_k, b, b_k, c, c_row, start, start_row):
    """C = start + A . B for m rows, as many as a tile may have, and n columns, which fill up to VECTORS registers.

    Of a single row, if m is the constant 1, n columns may fill BROAD registers; other registers may be filled in part.
    a, b, c, start are pointers, the others strides in elements: from row to row, and from one k to the next; or
    pointers to offsets, of each row and each k: for a, for b, or for c. A negative `start_row` means that the sums
    start from zero.
    """
    offsets = "".join(name for name, place in zip("abc", (a_k, b_k, c_row), strict=True) if place == _OFFSETS)
    one_row = isinstance(m, types.IntegerLiteral)
    heights, widths = ((1,), (BROAD, *WIDTHS)) if one_row else (HEIGHTS, WIDTHS)

    def generate(context, builder, signature, args):
        number, pairs = context.get_value_type(c.dtype), a.dtype == bfloat16.PAIR
        width = VECTOR_BYTES * 8 // c.dtype.bitwidth
        flushes = pairs and not PAIR_INSTRUCTION and bfloat16.MAY_FLUSH
        m, n, *_ = args

        def call(rows, vectors):
            builder.call(_tile_function(builder.module, number, rows, vectors, offsets, pairs), args[1:])

        def call_for_columns(rows):
            own = [vectors for vectors in widths if rows * vectors <= SUMS]
            fits = [builder.icmp_signed(">", n, I64(vectors * width)) for vectors in own[1:]]
            _first_of(builder, fits, [functools.partial(call, rows, vectors) for vectors in own])

        with bfloat16.without_subnormals(builder) if flushes else contextlib.nullcontext():
            fits = [builder.icmp_signed(">=", m, I64(rows)) for rows in heights[:-1]]
            _first_of(builder, fits, [functools.partial(call_for_columns, rows) for rows in heights])
        return context.get_dummy_value()

    number = types.intp
    of_a, of_b, of_c = (_OFFSETS if name in offsets else number for name in "abc")
    return types.void(number, number, number, a, of_a, of_a, b, of_b, c, of_c, start, number), generate


def _first_of(builder, conditions, emitted) -> None:
    """Emit the code of the first condition that is true; that of the last has none."""
    if not conditions:
        emitted[0]()
        return
    with builder.if_else(conditions[0]) as (then, otherwise):
        with then:
            emitted[0]()
        with otherwise:
            _first_of(builder, conditions[1:], emitted[1:])


def _tile_function(module, number, rows: int, vectors: int, offsets: str, pairs: bool):
    """The LLVM function behind `_tile`: a loop over k with rows x vectors sums in registers."""
    width = VECTOR_BYTES // llvm.item_bytes(number)
    vector = ir.VectorType(number, width)
    name = f"nbbp_tile_{rows}x{vectors}_{llvm.suffix(vector)}_{offsets}{'_pairs' if pairs else ''}"
    if name in module.globals:
        return module.globals[name]
    factor = I32 if pairs else number  # of products
    pointer, factors = number.as_pointer(), factor.as_pointer()
    of_a, of_b, of_c = (I32.as_pointer() if name in offsets else I64 for name in "abc")
    arguments = [I64, I64, factors, of_a, of_a, factors, of_b, pointer, of_c, pointer, I64]
    function = ir.Function(module, ir.FunctionType(ir.VoidType(), arguments), name)
    function.linkage = "internal"
    function.attributes.add("noinline")
    n, k, a, a_row, a_k, b, b_k, c, c_row, start, start_row = function.args
    code = ir.IRBuilder(function.append_basic_block("entry"))
    in_last_vector = llvm.lanes_before(code, n, width, (vectors - 1) * width)

    def vector_at(base, j, masked):
        """The place of a vector, and which of its lanes are used, if not all are."""
        return code.gep(base, [I64(j * width)]), in_last_vector if masked and j == vectors - 1 else None

    def load(base, j, masked):
        place, lanes = vector_at(base, j, masked)
        return llvm.load(code, place, width, lanes)

    def store(value, base, j, masked):
        place, lanes = vector_at(base, j, masked)
        llvm.store(code, value, place, lanes)

    parts = [lambda code, value: value]  # of factors, which are multiplied one after another
    if not pairs:

        def multiply_add(code, total, a, b):
            return llvm.lanewise(code, FMA, a, b, total)

    elif PAIR_INSTRUCTION:
        multiply_add = bfloat16.add_pairs
    else:
        multiply_add, parts = bfloat16.add_product, [bfloat16.second, bfloat16.first]

    def offset(places, i):
        """The i-th offset, or i strides."""
        if places.type == I64:
            return code.mul(places, I64(i))
        return code.sext(code.load(code.gep(places, [I64(i)])), I64)

    def unknown(number):
        """The same number, of which LLVM knows nothing."""
        return code.asm(ir.FunctionType(I64, [I64]), "", "=r,0", [number], False)

    def unrelated(place):
        """The same number, which LLVM does not know to be a multiple of a stride.

        Else it steps through a column of A by one pointer, each load waiting for the one before, and copies each
        element to all lanes; NEON multiplies by a lane of a register.
        """
        return unknown(place) if ARM else place

    def body(masked):
        before = code.block
        preload, loop, done = (code.append_basic_block(x) for x in ("preload", "loop", "done"))
        a_rows = [offset(a_row, i) for i in range(rows)]
        a_rows = [code.gep(a, [row]) if "a" in offsets else unrelated(row) for row in a_rows]
        code.cbranch(code.icmp_signed("<", start_row, I64(0)), loop, preload)
        code.position_at_end(preload)
        apart = [offset(c_row, i) if "c" in offsets else I64(i) for i in range(rows)]
        start_rows = [code.gep(start, [code.mul(start_row, place)]) for place in apart]
        started = [load(row, j, masked) for row in start_rows for j in range(vectors)]
        if pairs and not PAIR_INSTRUCTION and not bfloat16.MAY_FLUSH:
            started = [bfloat16.flushed(code, value) for value in started]
        code.branch(loop)

        code.position_at_end(loop)

        def running(kind, from_before, from_preload):
            value = code.phi(kind)
            value.add_incoming(from_before, before)
            value.add_incoming(from_preload, preload)
            return value

        step = running(I64, I64(0), I64(0))
        a_now = running(of_a, a_k, a_k) if "a" in offsets else running(factors, a, a)
        b_now = running(of_b, b_k, b_k) if "b" in offsets else running(factors, b, b)
        sums = [running(vector, llvm.constant(vector, 0.0), value) for value in started]
        b_begin = code.gep(b, [offset(b_now, 0)]) if "b" in offsets else b_now
        added = list(sums)
        k_offset = offset(a_now, 0) if "a" in offsets else None
        for number, part in enumerate(parts):
            if number:  # registers do not suffice for what was loaded before
                b_begin = code.gep(b_begin, [unknown(I64(0))])
            b_part = [part(code, load(b_begin, j, masked)) for j in range(vectors)]
            for i in range(rows):
                element = code.gep(a_rows[i], [k_offset]) if "a" in offsets else code.gep(a_now, [a_rows[i]])
                if number:
                    element = code.gep(element, [unknown(I64(0))])
                scalar = part(code, llvm.splat(code, code.load(element), width))
                for j in range(vectors):
                    added[i * vectors + j] = multiply_add(code, added[i * vectors + j], scalar, b_part[j])
        following = code.add(step, I64(1))
        step.add_incoming(following, loop)
        a_now.add_incoming(code.gep(a_now, [I64(1) if "a" in offsets else a_k]), loop)
        b_now.add_incoming(code.gep(b_now, [I64(1) if "b" in offsets else b_k]), loop)
        for total, value in zip(sums, added, strict=True):
            total.add_incoming(value, loop)
        code.cbranch(code.icmp_signed("<", following, k), loop, done)

        code.position_at_end(done)
        for i in range(rows):
            row = code.gep(c, [offset(c_row, i)])
            for j in range(vectors):
                store(added[i * vectors + j], row, j, masked)
        code.ret_void()

    whole, partial = (code.append_basic_block(x) for x in ("whole", "partial"))
    code.cbranch(code.icmp_signed(">=", n, I64(vectors * width)), whole, partial)
    for block, masked in ((whole, False), (partial, True)):
        code.position_at_end(block)
        body(masked)
    return function


@device
def _next_rows(rows, n, like):
    """The number of rows of the next tile of n columns, of `rows` that remain."""
    if ROWS == 8 and rows >= 8:
        return 8
    if rows >= 6 and rows != 8 and 6 * n <= SUMS * (columns(like) // VECTORS):
        return 6  # of 8, twice 4: a tile of two rows would wait for its sums
    return 4 if rows >= 4 else min(rows, 2)


@device
def multiply_panel(m, n, k, a, a_row, a_k, b, b_k, c, c_row, start, start_row):
    """C = start + A . B for m rows and at most `columns` columns; row k of B begins at b[k b_k], or at b[b_k[k]]."""
    i = 0
    while i < m:
        rows = _next_rows(m - i, n, c)
        a_i, c_i, start_i = at(a, i * a_row), at(c, i * c_row), at(start, i * start_row)
        _tile(rows, n, k, a_i, a_row, a_k, b, b_k, c_i, c_row, start_i, start_row)
        i += rows


@device
def multiply_at_offsets(m, n, k, a, a_rows, a_ks, b, b_k, c, c_rows, start, start_row):
    """C = start + A . B for m rows and at most `columns` columns, where A[i, k] = a[a_rows[i] + a_ks[k]].

    Row i of C begins at c[c_rows[i]]. The start is one row for all if start_row = 0, rows at the places of those of C
    if it is 1, or FROM_ZERO.
    """
    i = 0
    while i < m:
        rows = _next_rows(m - i, n, c)
        _tile(rows, n, k, a, at(a_rows, i), a_ks, b, b_k, c, at(c_rows, i), start, start_row)
        i += rows


@device
def panel_columns(n, like):
    """The columns of the next panel of n: as many as a tile has, except that four vectors are two panels of two."""
    width = columns(like)
    return 2 * (width // VECTORS) if width < n <= width + width // VECTORS else min(width, n)


@device
def multiply_row(n, k, a, a_k, b, b_k, c, start, start_row):
    """C = start + A . B for a single row, which would wait for its sums if there were not many of them."""
    done = 0
    while done < n:
        width = columns(c)
        broad = BROAD * (width // VECTORS)
        some = broad if n - done >= broad else panel_columns(n - done, c)
        _tile(1, some, k, a, 0, a_k, at(b, done), b_k, at(c, done), 0, at(start, done), start_row)
        done += some


@functools.partial(device, inline=True)  # small products would take an eighth longer
def multiply(m, n, k, a, a_row, a_k, b, b_k, c, c_row, start, start_row):
    """C = start + A . B for any numbers of rows and columns, panel by panel."""
    if m == 1:
        multiply_row(n, k, a, a_k, b, b_k, c, start, start_row)
        return
    done = 0
    while done < n:
        some = panel_columns(n - done, c)
        multiply_panel(
            m, some, k, a, a_row, a_k, at(b, done), b_k, at(c, done), c_row, at(start, done), start_row
        )  # fmt: skip
        done += some
