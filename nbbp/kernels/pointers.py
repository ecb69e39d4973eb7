"""Addresses of elements within kernels."""

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from nbbp.kernels import llvm


@intrinsic
def at(typing_context, base, offset):
    """Pointer to an element of an array, or to `offset` elements after a pointer."""

    def generate(context, builder, signature, args):
        start = args[0]
        if isinstance(base, types.Array):
            start = context.make_array(base)(context, builder, start).data
        return builder.gep(start, [args[1]])

    return types.CPointer(base.dtype)(base, types.intp), generate


def on_stack(count: int, dtype=None):
    """An intrinsic that returns a pointer to `count` numbers on the stack, of `dtype` or of its argument's dtype."""

    @intrinsic
    def numbers(typing_context, like):
        kind = like.dtype if dtype is None else dtype

        def generate(context, builder, signature, args):
            return cgutils.alloca_once(builder, context.get_value_type(kind), size=count)

        return types.CPointer(kind)(like), generate

    return numbers


@intrinsic
def copy(typing_context, target, source, count):
    """Copy `count` numbers between pointers that do not overlap; a constant count needs no loop."""

    def generate(context, builder, signature, args):
        size = source.dtype.bitwidth // 8
        cgutils.raw_memcpy(builder, *args, size, align=size)
        return context.get_dummy_value()

    return types.void(target, source, types.intp), generate


@intrinsic
def prefetch(typing_context, pointer):
    """Prefetch the cache line at a pointer, which is read soon."""

    def generate(context, builder, signature, args):
        byte = builder.bitcast(args[0], ir.IntType(8).as_pointer())
        read, keep, data = llvm.I32(0), llvm.I32(3), llvm.I32(1)
        llvm.call(builder, "prefetch.p0", ir.VoidType(), byte, read, keep, data)
        return context.get_dummy_value()

    return types.void(pointer), generate


@intrinsic
def write_word(typing_context, address, value):
    """Write an integer of 64 bits to an address."""

    def generate(context, builder, signature, args):
        builder.store(args[1], builder.inttoptr(args[0], llvm.I64.as_pointer()))
        return context.get_dummy_value()

    return types.void(types.int64, types.int64), generate
