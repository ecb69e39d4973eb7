"""Vectors in registers, for loops over few channels, which LLVM would leave scalar.

A vector has LANES numbers of any dtype; of fewer channels than that, the first lanes are loaded and stored.
"""

from llvmlite import ir
from numba import types
from numba.core.datamodel import models
from numba.extending import intrinsic, register_model

from nbbp.kernels import llvm
from nbbp.kernels.tiles import VECTOR_BYTES

LANES = VECTOR_BYTES // 4


class _Lanes(types.Type):
    """LANES numbers of one dtype."""

    def __init__(self, dtype) -> None:
        self.dtype = dtype
        super().__init__(f"Lanes({dtype})")


@register_model(_Lanes)
class _LanesModel(models.PrimitiveModel):
    def __init__(self, manager, kind) -> None:
        number = ir.IntType(1) if kind.dtype == types.boolean else manager.lookup(kind.dtype).get_value_type()
        super().__init__(manager, kind, ir.VectorType(number, LANES))


@intrinsic
def load(typing_context, pointer, n):
    """The vector at a pointer; n is not used."""
    kind = _Lanes(pointer.dtype)(pointer, types.intp)
    return kind, lambda context, builder, signature, args: llvm.load(builder, args[0], LANES)


@intrinsic
def load_first(typing_context, pointer, n):
    """The first n numbers at a pointer, and 0 in the other lanes."""

    def generate(context, builder, signature, args):
        pointer, n = args
        return llvm.load(builder, pointer, LANES, llvm.lanes_before(builder, n, LANES))

    return _Lanes(pointer.dtype)(pointer, types.intp), generate


@intrinsic
def store(typing_context, pointer, value, n):
    """Write a vector to a pointer; n is not used."""

    def generate(context, builder, signature, args):
        pointer, value, _ = args
        llvm.store(builder, value, pointer)
        return context.get_dummy_value()

    return types.void(pointer, value, types.intp), generate


@intrinsic
def store_first(typing_context, pointer, value, n):
    """Write the first n lanes to a pointer."""

    def generate(context, builder, signature, args):
        pointer, value, n = args
        llvm.store(builder, value, pointer, llvm.lanes_before(builder, n, LANES))
        return context.get_dummy_value()

    return types.void(pointer, value, types.intp), generate


@intrinsic
def splat(typing_context, number):
    """A number in all lanes."""
    return _Lanes(number)(number), lambda context, builder, signature, args: llvm.splat(builder, args[0], LANES)


@intrinsic
def added(typing_context, a, b):
    """a + b, of floats."""
    return a(a, a), lambda context, builder, signature, args: builder.fadd(*args)


@intrinsic
def multiplied(typing_context, a, b):
    """a b, of floats."""
    return a(a, a), lambda context, builder, signature, args: builder.fmul(*args)


@intrinsic
def larger(typing_context, a, b):
    """Where a > b, or a is NaN and b is not."""

    def generate(context, builder, signature, args):
        a, b = args
        return builder.and_(builder.fcmp_unordered(">", a, b), builder.fcmp_ordered("ord", b, b))

    return _Lanes(types.boolean)(a, a), generate


@intrinsic
def equal(typing_context, a, b):
    """Where a = b, of integers."""
    return _Lanes(types.boolean)(a, a), lambda context, builder, signature, args: builder.icmp_signed("==", *args)


@intrinsic
def select(typing_context, where, a, b):
    """The lanes of a where `where` is true, else those of b."""
    return a(where, a, a), lambda context, builder, signature, args: builder.select(*args)
