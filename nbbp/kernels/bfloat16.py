"""Numbers rounded to bfloat16, in pairs, and the instruction that multiplies them.

bfloat16 is float32 without the lower half of its bits. A pair is two such numbers in 32 bits, the first in the lower
half, as VDPBF16PS takes them ("Intel 64 and IA-32 Architectures Software Developer's Manual", volume 2): to a sum in
float32 it adds the product of the second numbers and then that of the first ones, each by a fused multiply-add that
rounds to nearest even, takes subnormal numbers for zeros, and gives zero where a sum rounded to 24 bits would be
subnormal. Where the processor has no such instruction, the same bits come from float32.
"""

import contextlib

import numpy as np
from llvmlite import binding, ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

PAIR = types.uint32
MAY_FLUSH = binding.get_process_triple().startswith(("x86_64", "i686"))
"""Whether a control register can make all instructions take and give zeros for subnormal numbers as VDPBF16PS does."""

_I32 = ir.IntType(32)
_UPPER, _SIGN, _INFINITY, _LEAST_BITS, _QUIET = 0xFFFF0000, 0x80000000, 0x7F800000, 0x00800000, 0x00400000
_LEAST = 2.0**-126  # the least normal number
_SCALE = 2.0**30  # of each factor where sums are held against the least normal number


class _BFloat(ir.Type):
    """LLVM's type of these numbers, which llvmlite does not have."""

    def _to_string(self) -> str:
        return "bfloat"

    def __eq__(self, other) -> bool:
        return isinstance(other, _BFloat)

    def __hash__(self) -> int:
        return hash(_BFloat)


def _filled(vector: ir.VectorType, value) -> ir.Constant:
    return ir.Constant(vector, [value] * vector.count)


@contextlib.contextmanager
def without_subnormals(builder: ir.IRBuilder):
    """What a function that is called here computes has no subnormal numbers: MXCSR's bits FTZ and DAZ are set."""
    before, within = (cgutils.alloca_once(builder, _I32) for _ in range(2))
    kind = ir.FunctionType(ir.VoidType(), [_I32.as_pointer()])
    store, load = (cgutils.get_or_insert_function(builder.module, kind, f"llvm.x86.sse.{n}mxcsr") for n in ("st", "ld"))
    builder.call(store, [before])
    builder.store(builder.or_(builder.load(before), _I32(0x8040)), within)
    builder.call(load, [within])
    yield
    builder.call(load, [before])


def _llvm(code: ir.IRBuilder, name: str, result, *operands):
    kind = ir.FunctionType(result, [operand.type for operand in operands])
    return code.call(cgutils.get_or_insert_function(code.module, kind, f"llvm.{name}"), operands)


def add_pairs(code: ir.IRBuilder, total, a, b):
    """LLVM's value of `total` (vector of float32) plus the products of two vectors of pairs, by the instruction."""
    numbers = ir.VectorType(_BFloat(), 2 * total.type.count)
    pairs = (code.bitcast(operand, numbers) for operand in (a, b))
    return _llvm(code, f"x86.avx512bf16.dpbf16ps.{32 * total.type.count}", total.type, total, *pairs)


def second(code: ir.IRBuilder, pairs):
    """LLVM's vector of the second numbers of pairs, as float32."""
    return code.bitcast(code.and_(pairs, _filled(pairs.type, _UPPER)), ir.VectorType(ir.FloatType(), pairs.type.count))


def first(code: ir.IRBuilder, pairs):
    """LLVM's vector of the first numbers of pairs, as float32."""
    return code.bitcast(code.shl(pairs, _filled(pairs.type, 16)), ir.VectorType(ir.FloatType(), pairs.type.count))


def add_product(code: ir.IRBuilder, total, x, y):
    """LLVM's value of `total` plus x y, without the instruction.

    If the code may not flush, the same sum of larger numbers tells where it would.
    """
    vector, suffix = total.type, f"v{total.type.count}f32"
    added = _llvm(code, f"fma.{suffix}", vector, x, y, total)
    if MAY_FLUSH:
        return added
    scale, of_sums = _filled(vector, _SCALE), _filled(vector, _SCALE * _SCALE)
    larger = code.fmul(x, scale), code.fmul(y, scale), code.fmul(total, of_sums)
    size = _llvm(code, f"fabs.{suffix}", vector, _llvm(code, f"fma.{suffix}", vector, *larger))
    tiny = code.fcmp_ordered("<", size, _filled(vector, _LEAST * _SCALE * _SCALE))
    return code.select(tiny, signed_zeros(code, added), added)


def signed_zeros(code: ir.IRBuilder, value):
    """LLVM's vector of zeros with the signs of a vector of float32."""
    bits = ir.VectorType(_I32, value.type.count)
    return code.bitcast(code.and_(code.bitcast(value, bits), _filled(bits, _SIGN)), value.type)


def flushed(code: ir.IRBuilder, value):
    """LLVM's vector of float32 with zeros in place of subnormal numbers."""
    bits = ir.VectorType(_I32, value.type.count)
    exponent = code.and_(code.bitcast(value, bits), _filled(bits, _INFINITY))
    return code.select(code.icmp_unsigned("==", exponent, _filled(bits, 0)), signed_zeros(code, value), value)


def _rounded(code: ir.IRBuilder, value):
    """LLVM's float32, or vector of them, rounded to bfloat16, in the upper halves of integers."""
    count = getattr(value.type, "count", None)
    integers = _I32 if count is None else ir.VectorType(_I32, count)

    def constant(number):
        return ir.Constant(integers, number if count is None else [number] * count)

    bits = code.bitcast(value, integers)
    odd = code.and_(code.lshr(bits, constant(16)), constant(1))
    near = code.add(bits, code.add(odd, constant(0x7FFF)))
    size = code.and_(bits, constant(0xFFFFFFFF ^ _SIGN))
    near = code.select(code.icmp_unsigned(">", size, constant(_INFINITY)), code.or_(bits, constant(_QUIET)), near)
    near = code.select(code.icmp_unsigned("<", size, constant(_LEAST_BITS)), code.and_(bits, constant(_SIGN)), near)
    return code.and_(near, constant(_UPPER)), constant


@intrinsic
def pair(typing_context, first, second):
    """Two float32 rounded to bfloat16: to nearest even, subnormal ones to 0."""

    def generate(context, builder, signature, args):
        (low, constant), (high, _) = (_rounded(builder, number) for number in args)
        return builder.or_(builder.lshr(low, constant(16)), high)

    return PAIR(types.float32, types.float32), generate


def pairing(lanes: int):
    """An intrinsic that writes pairs of the numbers at so many places of two rows."""

    @intrinsic
    def pair_rows(typing_context, target, first, second):
        def generate(context, builder, signature, args):
            def place(pointer):
                return builder.bitcast(pointer, ir.VectorType(pointer.type.pointee, lanes).as_pointer())

            halves = []
            for pointer in args[1:]:
                value = builder.load(place(pointer))
                value.align = 4
                halves.append(_rounded(builder, value))
            (low, constant), (high, _) = halves
            pairs = builder.or_(builder.lshr(low, constant(16)), high)
            builder.store(pairs, place(args[0])).align = 4
            return context.get_dummy_value()

        return types.void(target, first, second), generate

    return pair_rows


def pairs_of(k: int) -> int:
    """The number of pairs of k numbers, the last of which may be beside a zero."""
    return (k + 1) // 2


def as_bfloat16(x: np.ndarray) -> np.ndarray:
    """float32 numbers rounded to bfloat16, as float32; subnormal ones become 0."""
    bits = np.ascontiguousarray(x, np.float32).view(np.uint32)
    near = bits + (np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1)))
    near = np.where(np.isnan(x), bits | np.uint32(0x00400000), near) & np.uint32(_UPPER)
    size = bits & np.uint32(0x7FFFFFFF)
    return np.where(size < 0x00800000, bits & np.uint32(_SIGN), near).view(np.float32)


def as_pairs(x: np.ndarray, axis: int) -> np.ndarray:
    """float32 numbers rounded to bfloat16, in pairs along an axis, the last of which may be beside a zero."""
    bits = np.moveaxis(as_bfloat16(x).view(np.uint32), axis, -1)
    if bits.shape[-1] % 2:
        bits = np.concatenate([bits, np.zeros_like(bits[..., :1])], axis=-1)
    return np.moveaxis((bits[..., ::2] >> np.uint32(16)) | bits[..., 1::2], -1, axis)


def product(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """a . b of matrices of numbers, or of pairs along the axis that is summed over."""
    if a.dtype == np.uint32:
        a, b = (
            np.concatenate([(x << np.uint32(16)).view(np.float32), (x & np.uint32(_UPPER)).view(np.float32)], axis=axis)
            for x, axis in ((a, 1), (b, 0))
        )
    return a @ b
