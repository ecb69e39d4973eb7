"""What LLVM code for vectors is made of: types and constants, loads and stores of the first lanes, LLVM's functions."""

from llvmlite import ir
from numba.core import cgutils

I32, I64 = ir.IntType(32), ir.IntType(64)


def with_lanes_of(kind: ir.Type, number: ir.Type) -> ir.Type:
    """`number`, or if the type is a vector, one of as many numbers."""
    return ir.VectorType(number, kind.count) if isinstance(kind, ir.VectorType) else number


def constant(kind: ir.Type, number) -> ir.Constant:
    """A number as a constant of a type, in all lanes if that is a vector."""
    return ir.Constant(kind, [number] * kind.count if isinstance(kind, ir.VectorType) else number)


def item_bytes(number: ir.Type) -> int:
    """The size of an integer or a float."""
    return int(number.intrinsic_name[1:]) // 8


def suffix(kind: ir.Type) -> str:
    """A type in the name of a function: f32, v8i32."""
    return f"v{kind.count}{suffix(kind.element)}" if isinstance(kind, ir.VectorType) else kind.intrinsic_name


def call(code: ir.IRBuilder, name: str, result: ir.Type, *operands):
    """The result of LLVM's function of this name."""
    kind = ir.FunctionType(result, [operand.type for operand in operands])
    return code.call(cgutils.get_or_insert_function(code.module, kind, f"llvm.{name}"), operands)


def lanewise(code: ir.IRBuilder, name: str, *operands):
    """The result of a function of numbers or vectors, such as fma, which has the type of its operands."""
    kind = operands[0].type
    return call(code, f"{name}.{suffix(kind)}", kind, *operands)


def splat(code: ir.IRBuilder, number, lanes: int):
    """A number in all lanes."""
    undefined = ir.Constant(ir.VectorType(number.type, lanes), ir.Undefined)
    lane = code.insert_element(undefined, number, I32(0))
    return code.shuffle_vector(lane, undefined, constant(ir.VectorType(I32, lanes), 0))


def lanes_before(code: ir.IRBuilder, n, lanes: int, first: int = 0):
    """True in the lanes whose numbers, counted from `first`, are below n."""
    numbers = ir.Constant(ir.VectorType(I32, lanes), list(range(first, first + lanes)))
    return code.icmp_signed("<", numbers, splat(code, code.trunc(n, I32), lanes))


def _vector_at(code: ir.IRBuilder, pointer, lanes: int):
    return code.bitcast(pointer, ir.VectorType(pointer.type.pointee, lanes).as_pointer())


def load(code: ir.IRBuilder, pointer, lanes: int, read=None):
    """The vector at a pointer to its first number; where `read` is given and false, 0."""
    place, size = _vector_at(code, pointer, lanes), item_bytes(pointer.type.pointee)
    if read is None:
        return code.load(place, align=size)
    vector = place.type.pointee
    return call(code, f"masked.load.{suffix(vector)}.p0", vector, place, I32(size), read, ir.Constant(vector, None))


def store(code: ir.IRBuilder, value, pointer, written=None) -> None:
    """Write a vector to a pointer to its first number; where `written` is given and false, nothing."""
    place, size = _vector_at(code, pointer, value.type.count), item_bytes(pointer.type.pointee)
    if written is None:
        code.store(value, place, align=size)
    else:
        call(code, f"masked.store.{suffix(value.type)}.p0", ir.VoidType(), value, place, I32(size), written)
