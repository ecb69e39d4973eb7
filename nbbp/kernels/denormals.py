"""Denormal numbers become 0: a processor may take a hundred times as long for them.

They have an exponent of 0, which AVX-512 tests in one instruction.
"""

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from nbbp.kernels import llvm
from nbbp.kernels.jit import device
from nbbp.kernels.pointers import at


def _flushed(builder, value):
    """A float or a vector of floats, 0 where it is denormal."""
    single = isinstance(getattr(value.type, "element", value.type), ir.FloatType)
    integer, exponents = (llvm.I32, 0x7F800000) if single else (llvm.I64, 0x7FF0000000000000)
    kind = llvm.with_lanes_of(value.type, integer)
    exponent = builder.and_(builder.bitcast(value, kind), llvm.constant(kind, exponents))
    denormal = builder.icmp_unsigned("==", exponent, llvm.constant(kind, 0))
    return builder.select(denormal, llvm.constant(value.type, 0.0), value)


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
            to, start = args
            llvm.store(builder, _flushed(builder, llvm.load(builder, start, count)), to)
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
