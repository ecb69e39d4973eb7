"""Products with few steps of k, as of layers with few inputs: row after row, while all of B stays in registers.

A register tile would take longer to begin and to end than it runs. The sums are those of `multiply`, bit for bit.
"""

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from nbbp.kernels import llvm
from nbbp.kernels.jit import device
from nbbp.kernels.llvm import I64
from nbbp.kernels.pointers import at
from nbbp.kernels.tiles import FMA, VECTOR_BYTES, VECTORS, columns

_VECTORS = 2  # of each row of B in registers


def _rows(steps: int):
    """C = start + A . B for m > 0 rows of A, `steps` numbers each, and n columns, at most _VECTORS vectors."""

    @intrinsic
    def rows(typing_context, m, n, a, b, b_k, c, c_row, start):
        def generate(context, builder, signature, args):
            number = context.get_value_type(c.dtype)
            builder.call(_function(builder.module, number, steps), args)
            return context.get_dummy_value()

        return types.void(m, n, a, b, types.intp, c, types.intp, start), generate

    return rows


def _function(module, number, steps: int):
    """The LLVM function behind `_rows`: a loop over the rows, for whole vectors of columns and for others."""
    width = VECTOR_BYTES // llvm.item_bytes(number)
    name = f"nbbp_rows_{steps}_{llvm.suffix(ir.VectorType(number, width))}"
    if name in module.globals:
        return module.globals[name]
    pointer = number.as_pointer()
    arguments = [I64, I64, pointer, pointer, I64, pointer, I64, pointer]
    function = ir.Function(module, ir.FunctionType(ir.VoidType(), arguments), name)
    function.linkage = "internal"
    function.attributes.add("noinline")
    m, n, a, b, b_k, c, c_row, start = function.args
    code = ir.IRBuilder(function.append_basic_block("entry"))
    there = [llvm.lanes_before(code, n, width, j * width) for j in range(_VECTORS)]

    def load(base, j, masked):
        return llvm.load(code, code.gep(base, [I64(j * width)]), width, there[j] if masked else None)

    def store(value, base, j, masked):
        llvm.store(code, value, code.gep(base, [I64(j * width)]), there[j] if masked else None)

    def body(masked):
        vectors = range(_VECTORS)
        factors = [[load(code.gep(b, [code.mul(b_k, I64(s))]), j, masked) for j in vectors] for s in range(steps)]
        starts = [load(start, j, masked) for j in vectors]
        before, loop = code.block, code.append_basic_block("loop")
        code.branch(loop)
        code.position_at_end(loop)
        i, row, target = (code.phi(kind) for kind in (I64, pointer, pointer))
        sums = starts
        for s in range(steps):
            scalar = llvm.splat(code, code.load(code.gep(row, [I64(s)])), width)
            sums = [llvm.lanewise(code, FMA, scalar, factors[s][j], sums[j]) for j in vectors]
        for j, total in enumerate(sums):
            store(total, target, j, masked)
        following = code.add(i, I64(1))
        next_row, next_target = code.gep(row, [I64(steps)]), code.gep(target, [c_row])
        for value, first, then in ((i, I64(0), following), (row, a, next_row), (target, c, next_target)):
            value.add_incoming(first, before)
            value.add_incoming(then, loop)
        done = code.append_basic_block("done")
        code.cbranch(code.icmp_signed("<", following, m), loop, done)
        code.position_at_end(done)
        code.ret_void()

    whole, partial = (code.append_basic_block(x) for x in ("whole", "partial"))
    code.cbranch(code.icmp_signed(">=", n, I64(_VECTORS * width)), whole, partial)
    for block, masked in ((whole, False), (partial, True)):
        code.position_at_end(block)
        body(masked)
    return function


_rows_1, _rows_2, _rows_3, _rows_4 = (_rows(steps) for steps in (1, 2, 3, 4))


@device
def few_steps(m, n, k, like):
    """Whether m rows of a product of n columns are multiplied one after the other, as k is so small."""
    return k <= 4 <= m and columns(like) // VECTORS <= n


@device
def multiply_few_steps(m, n, k, a, b, c, start):
    """C = start + A . B for m rows of k <= 4 numbers and n columns; start is one row for all."""
    width = _VECTORS * (columns(c) // VECTORS)
    for j in range(0, n, width):
        some, b_j, c_j, start_j = min(width, n - j), at(b, j), at(c, j), at(start, j)
        if k == 1:
            _rows_1(m, some, a, b_j, n, c_j, n, start_j)
        elif k == 2:
            _rows_2(m, some, a, b_j, n, c_j, n, start_j)
        elif k == 3:
            _rows_3(m, some, a, b_j, n, c_j, n, start_j)
        else:
            _rows_4(m, some, a, b_j, n, c_j, n, start_j)
