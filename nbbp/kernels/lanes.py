"""Vectors in registers, for loops over few channels, which LLVM would leave scalar.

A vector has LANES numbers of any dtype; of fewer channels than that, the first lanes are loaded and stored.
"""

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.core.datamodel import models
from numba.extending import intrinsic, register_model

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


def _splat(builder, number):
    """A number in all lanes."""
    undefined = ir.Constant(ir.VectorType(number.type, LANES), ir.Undefined)
    places = ir.Constant(ir.VectorType(ir.IntType(32), LANES), [0] * LANES)
    return builder.shuffle_vector(builder.insert_element(undefined, number, ir.IntType(32)(0)), undefined, places)


def _address(context, builder, signature, args):
    """The address of a vector, and its alignment: that of one number."""
    number = context.get_value_type(signature.args[0].dtype)
    size = ir.IntType(32)(context.get_abi_sizeof(number))
    return builder.bitcast(args[0], ir.VectorType(number, LANES).as_pointer()), size


def _masked(builder, operation: str, vector, result, *operands):
    """Call llvm.masked.load or llvm.masked.store."""
    number = vector.element
    kind = (
        f"i{number.width}" if isinstance(number, ir.IntType) else "f32" if isinstance(number, ir.FloatType) else "f64"
    )
    function_type = ir.FunctionType(result, [operand.type for operand in operands])
    name = f"llvm.masked.{operation}.v{LANES}{kind}.p0"
    return builder.call(cgutils.get_or_insert_function(builder.module, function_type, name), operands)


def _first(builder, n):
    """True in the first n lanes."""
    integer = ir.IntType(32)
    numbers = ir.Constant(ir.VectorType(integer, LANES), list(range(LANES)))
    return builder.icmp_signed("<", numbers, _splat(builder, builder.trunc(n, integer)))


@intrinsic
def load(typing_context, pointer, n):
    """The vector at a pointer; n is not used."""

    def generate(context, builder, signature, args):
        place, size = _address(context, builder, signature, args)
        value = builder.load(place)
        value.align = size.constant
        return value

    return _Lanes(pointer.dtype)(pointer, types.intp), generate


@intrinsic
def load_first(typing_context, pointer, n):
    """The first n numbers at a pointer, and 0 in the other lanes."""

    def generate(context, builder, signature, args):
        place, size = _address(context, builder, signature, args)
        vector = place.type.pointee
        operands = place, size, _first(builder, args[1]), ir.Constant(vector, None)
        return _masked(builder, "load", vector, vector, *operands)

    return _Lanes(pointer.dtype)(pointer, types.intp), generate


@intrinsic
def store(typing_context, pointer, value, n):
    """Write a vector to a pointer; n is not used."""

    def generate(context, builder, signature, args):
        place, size = _address(context, builder, signature, args)
        builder.store(args[1], place).align = size.constant
        return context.get_dummy_value()

    return types.void(pointer, value, types.intp), generate


@intrinsic
def store_first(typing_context, pointer, value, n):
    """Write the first n lanes to a pointer."""

    def generate(context, builder, signature, args):
        place, size = _address(context, builder, signature, args)
        operands = args[1], place, size, _first(builder, args[2])
        _masked(builder, "store", args[1].type, ir.VoidType(), *operands)
        return context.get_dummy_value()

    return types.void(pointer, value, types.intp), generate


@intrinsic
def splat(typing_context, number):
    """A number in all lanes."""
    return _Lanes(number)(number), lambda context, builder, signature, args: _splat(builder, args[0])


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
