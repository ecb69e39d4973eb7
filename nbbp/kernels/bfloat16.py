"""Numbers rounded to bfloat16, in pairs, and the instruction that multiplies them.

bfloat16 is float32 without the lower half of its bits. A pair is two such numbers in 32 bits, the first in the lower
half, as VDPBF16PS takes them ("Intel 64 and IA-32 Architectures Software Developer's Manual", volume 2): to a sum in
float32 it adds the product of the second numbers and then that of the first ones, each by a fused multiply-add that
rounds to nearest even, takes subnormal numbers for zeros, and gives zero where a sum rounded to 24 bits would be
subnormal. Where the processor has no such instruction, the same bits come from float32.
"""

import contextlib
import functools

import numpy as np
from llvmlite import binding, ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from nbbp.kernels import llvm
from nbbp.kernels.llvm import I32

PAIR = types.uint32
MAY_FLUSH = binding.get_process_triple().startswith(("x86_64", "i686"))
"""Whether a control register can make all instructions take and give zeros for subnormal numbers as VDPBF16PS does."""

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


@contextlib.contextmanager
def without_subnormals(builder: ir.IRBuilder):
    """What a function that is called here computes has no subnormal numbers: MXCSR's bits FTZ and DAZ are set."""
    before, within = (cgutils.alloca_once(builder, I32) for _ in range(2))
    llvm.call(builder, "x86.sse.stmxcsr", ir.VoidType(), before)
    builder.store(builder.or_(builder.load(before), I32(0x8040)), within)
    llvm.call(builder, "x86.sse.ldmxcsr", ir.VoidType(), within)
    yield
    llvm.call(builder, "x86.sse.ldmxcsr", ir.VoidType(), before)


def add_pairs(code: ir.IRBuilder, total, a, b):
    """LLVM's value of `total` (vector of float32) plus the products of two vectors of pairs, by the instruction."""
    numbers = ir.VectorType(_BFloat(), 2 * total.type.count)
    pairs = (code.bitcast(operand, numbers) for operand in (a, b))
    return llvm.call(code, f"x86.avx512bf16.dpbf16ps.{32 * total.type.count}", total.type, total, *pairs)


def second(code: ir.IRBuilder, pairs):
    """LLVM's vector of the second numbers of pairs, as float32."""
    upper = code.and_(pairs, llvm.constant(pairs.type, _UPPER))
    return code.bitcast(upper, llvm.with_lanes_of(pairs.type, ir.FloatType()))


def first(code: ir.IRBuilder, pairs):
    """LLVM's vector of the first numbers of pairs, as float32."""
    upper = code.shl(pairs, llvm.constant(pairs.type, 16))
    return code.bitcast(upper, llvm.with_lanes_of(pairs.type, ir.FloatType()))


def add_product(code: ir.IRBuilder, total, x, y):
    """LLVM's value of `total` plus x y, without the instruction.

    If the code may not flush, the same sum of larger numbers tells where it would.
    """
    added = llvm.lanewise(code, "fma", x, y, total)
    if MAY_FLUSH:
        return added
    scale, of_sums, least = (llvm.constant(total.type, c) for c in (_SCALE, _SCALE**2, _LEAST * _SCALE**2))
    larger = llvm.lanewise(code, "fma", code.fmul(x, scale), code.fmul(y, scale), code.fmul(total, of_sums))
    tiny = code.fcmp_ordered("<", llvm.lanewise(code, "fabs", larger), least)
    return code.select(tiny, signed_zeros(code, added), added)


def signed_zeros(code: ir.IRBuilder, value):
    """LLVM's vector of zeros with the signs of a vector of float32."""
    bits = llvm.with_lanes_of(value.type, I32)
    return code.bitcast(code.and_(code.bitcast(value, bits), llvm.constant(bits, _SIGN)), value.type)


def flushed(code: ir.IRBuilder, value):
    """LLVM's vector of float32 with zeros in place of subnormal numbers."""
    bits = llvm.with_lanes_of(value.type, I32)
    exponent = code.and_(code.bitcast(value, bits), llvm.constant(bits, _INFINITY))
    return code.select(code.icmp_unsigned("==", exponent, llvm.constant(bits, 0)), signed_zeros(code, value), value)


def _rounded(code: ir.IRBuilder, value):
    """LLVM's float32, or vector of them, rounded to bfloat16, in the upper halves of integers."""
    constant = functools.partial(llvm.constant, llvm.with_lanes_of(value.type, I32))
    bits = code.bitcast(value, llvm.with_lanes_of(value.type, I32))
    odd = code.and_(code.lshr(bits, constant(16)), constant(1))
    near = code.add(bits, code.add(odd, constant(0x7FFF)))
    size = code.and_(bits, constant(0xFFFFFFFF ^ _SIGN))
    near = code.select(code.icmp_unsigned(">", size, constant(_INFINITY)), code.or_(bits, constant(_QUIET)), near)
    near = code.select(code.icmp_unsigned("<", size, constant(_LEAST_BITS)), code.and_(bits, constant(_SIGN)), near)
    return code.and_(near, constant(_UPPER))


def _paired(code: ir.IRBuilder, values):
    """LLVM's pair of two float32 rounded to bfloat16, or the vector of pairs of two vectors."""
    low, high = (_rounded(code, value) for value in values)
    return code.or_(code.lshr(low, llvm.constant(low.type, 16)), high)


@intrinsic
def pair(typing_context, first, second):
    """Two float32 rounded to bfloat16: to nearest even, subnormal ones to 0."""
    return PAIR(types.float32, types.float32), lambda context, builder, signature, args: _paired(builder, args)


def pairing(lanes: int):
    """An intrinsic that writes pairs of the numbers at so many places of two rows."""

    @intrinsic
    def pair_rows(typing_context, target, first, second):
        def generate(context, builder, signature, args):
            target, *rows = args
            llvm.store(builder, _paired(builder, (llvm.load(builder, row, lanes) for row in rows)), target)
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
