"""Denormal numbers become 0: a processor may take a hundred times as long for them.

They have an exponent of 0, which AVX-512 tests in one instruction.
"""

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from nbbp.kernels.jit import device
from nbbp.kernels.pointers import at


def _flushed(builder, value):
    """A float or a vector of floats, 0 where it is denormal."""
    vector = value.type if isinstance(value.type, ir.VectorType) else None
    single = isinstance(vector.element if vector else value.type, ir.FloatType)
    integer, exponents = (ir.IntType(32), 0x7F800000) if single else (ir.IntType(64), 0x7FF0000000000000)
    kind = ir.VectorType(integer, vector.count) if vector else integer
    mask = ir.Constant(kind, [exponents] * vector.count if vector else exponents)
    exponent = builder.and_(builder.bitcast(value, kind), mask)
    denormal = builder.icmp_unsigned("==", exponent, ir.Constant(kind, None if vector else 0))
    return builder.select(denormal, ir.Constant(value.type, None if vector else 0.0), value)


@intrinsic
def flushed(typing_context, x):
    """x, or 0 if it is denormal; integers stay as they are."""

    def generate(context, builder, signature, args):
        return _flushed(builder, args[0]) if isinstance(x, types.Float) else args[0]

    return x(x), generate


def _copy_of(count: int):
    @intrinsic
    def copy(typing_context, target, source):
        """Copy a constant count of floats, flushed."""

        def generate(context, builder, signature, args):
            size = source.dtype.bitwidth // 8
            to, start = (builder.bitcast(a, ir.VectorType(a.type.pointee, count).as_pointer()) for a in args)
            value = builder.load(start)
            value.align = size
            builder.store(_flushed(builder, value), to).align = size
            return context.get_dummy_value()

        return types.void(target, source), generate

    return copy


_copy_16, _copy_8, _copy_4, _copy_2, _copy_1 = (_copy_of(count) for count in (16, 8, 4, 2, 1))


@device
def copy_flushed(target, source, n):
    """Copy n floats between pointers, flushed; a loop would take longer for a row of few."""
    j = 0
    while n - j >= 16:
        _copy_16(at(target, j), at(source, j))
        j += 16
    if n - j >= 8:
        _copy_8(at(target, j), at(source, j))
        j += 8
    if n - j >= 4:
        _copy_4(at(target, j), at(source, j))
        j += 4
    if n - j >= 2:
        _copy_2(at(target, j), at(source, j))
        j += 2
    if n > j:
        _copy_1(at(target, j), at(source, j))
