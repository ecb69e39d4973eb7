"""What elementary functions are made of: fused multiply-adds, and numbers in the dtype of an argument."""

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from nbbp.kernels import llvm
from nbbp.kernels.tiles import FMA


def form(number):
    """The integer type, number of mantissa bits, exponent bias and integer form of 1 of an LLVM float type."""
    if isinstance(number, ir.FloatType):
        return llvm.I32, 23, 127
    return llvm.I64, 52, 1023


@intrinsic
def fma(typing_context, a, b, c):
    """a * b + c, rounded once."""
    return a(a, a, a), lambda context, builder, signature, args: llvm.lanewise(builder, FMA, *args)


def constant(value: float, single: float | None = None):
    """A number in the dtype of its argument: `HALF(x)`; `single` if float32 needs another value.

    For integers it is truncated.
    """

    @intrinsic
    def number(typing_context, x):
        chosen = single if single is not None and x == types.float32 else value
        rounded = float(np.float32(chosen)) if x == types.float32 else float(chosen)
        exact = rounded if isinstance(x, types.Float) else int(rounded)
        return x(x), lambda context, builder, signature, args: context.get_constant(x, exact)

    return number


def polynomial(single: tuple[float, ...], double: tuple[float, ...]):
    """Horner's rule with fused multiply-adds, lowest coefficient first; one set of coefficients per dtype."""

    @intrinsic
    def evaluate(typing_context, x):
        coefficients = single if x == types.float32 else double

        def generate(context, builder, signature, args):
            *lower, total = (
                ir.Constant(args[0].type, float(np.float32(c)) if x == types.float32 else c) for c in coefficients
            )
            for c in reversed(lower):
                total = llvm.lanewise(builder, FMA, total, args[0], c)
            return total

        return x(x), generate

    return evaluate


@intrinsic
def freeze(typing_context, x):
    """x, of which LLVM forgets that it was just loaded.

    If a loop stores either another number or what it has loaded there, LLVM 22 makes that a masked store. In AVX2,
    processors of AMD take ten times as long for one as for the rest of the loop (llvm/llvm-project, issue 213195).
    """

    def generate(context, builder, signature, args):
        same = ir.instructions.Instruction(builder.block, args[0].type, "freeze", args)
        builder.block.instructions.append(same)
        builder.position_at_end(builder.block)
        return same

    return x(x), generate
