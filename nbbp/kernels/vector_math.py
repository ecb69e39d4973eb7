"""exp, log, tanh and their kin for loops that LLVM vectorises: no branch, no call, no table.

No wheel of Numba has a vector math library, so `math.exp` in a loop is a call for every element. These are the
textbook reductions (Cody and Waite, "Software Manual for the Elementary Functions", 1980) with minimax polynomials,
in float32 and in float64, with every fused multiply-add written out, so that the bits are those of no vector width.
Errors are below 4 units in the last place over the whole range, subnormal results included; 4.5 for the normal
distribution. `tests/test_vector_math.py` measures them.
"""

import math

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from nbbp.kernels.gemm import FMA
from nbbp.kernels.jit import device


def _fma(builder, a, b, c):
    """a * b + c, rounded once."""
    suffix = "f32" if isinstance(a.type, ir.FloatType) else "f64"
    kind = ir.FunctionType(a.type, [a.type] * 3)
    return builder.call(cgutils.get_or_insert_function(builder.module, kind, f"llvm.{FMA}.{suffix}"), [a, b, c])


def _bits(number):
    """Integer type, number of mantissa bits, exponent bias and integer form of 1 for an LLVM float type."""
    if isinstance(number, ir.FloatType):
        return ir.IntType(32), 23, 127
    return ir.IntType(64), 52, 1023


@intrinsic
def fma(typing_context, a, b, c):
    """a * b + c, rounded once."""
    return a(a, a, a), lambda context, builder, signature, args: _fma(builder, *args)


def constant(value: float, single: float | None = None):
    """A number in the dtype of its argument: `HALF(x)`; `single` where float32 needs another value."""

    @intrinsic
    def number(typing_context, x):
        chosen = single if single is not None and x == types.float32 else value
        rounded = float(np.float32(chosen)) if x == types.float32 else float(chosen)
        return x(x), lambda context, builder, signature, args: context.get_constant(x, rounded)

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
                total = _fma(builder, total, args[0], c)
            return total

        return x(x), generate

    return evaluate


@intrinsic
def _times_power_of_two(typing_context, x, shifted):
    """x * 2**n, n being the low bits of `shifted` = n + _SHIFT; in two factors, since 2**n may be out of range."""

    def generate(context, builder, signature, args):
        value, shifted_value = args
        integer, mantissa, bias = _bits(value.type)
        shift = ir.Constant(value.type, 1.5 * 2.0**mantissa)
        n = builder.sub(builder.bitcast(shifted_value, integer), builder.bitcast(shift, integer))
        half = builder.ashr(n, integer(1))
        for part in (half, builder.sub(n, half)):
            power = builder.shl(builder.add(part, integer(bias)), integer(mantissa))
            value = builder.fmul(value, builder.bitcast(power, value.type))
        return value

    return x(x, x), generate


def _split(want_exponent: bool):
    @intrinsic
    def part(typing_context, x):
        """x = m * 2**e with m in [sqrt(1/2), sqrt(2)): the m or, as a float, the e."""

        def generate(context, builder, signature, args):
            (value,) = args
            integer, mantissa, _ = _bits(value.type)
            bits = builder.bitcast(value, integer)
            low = builder.bitcast(ir.Constant(value.type, float(np.float32(math.sqrt(0.5)))), integer)
            exponent = builder.ashr(builder.sub(bits, low), integer(mantissa))
            if want_exponent:
                return builder.sitofp(exponent, value.type)
            return builder.bitcast(builder.sub(bits, builder.shl(exponent, integer(mantissa))), value.type)

        return x(x), generate

    return part


_exponent, _mantissa = _split(True), _split(False)

ZERO, HALF, ONE, TWO = (constant(c) for c in (0.0, 0.5, 1.0, 2.0))
_NAN, _INFINITY = constant(math.nan), constant(math.inf)
_LOG2_E = constant(1.4426950408889634)
_SHIFT = constant(1.5 * 2.0**52, single=1.5 * 2.0**23)  # adding it leaves the nearest integer in the low bits
_LN2_HIGH = constant(6.93147180369123816490e-01, single=0.693359375)  # few bits: n * _LN2_HIGH is exact
_LN2_LOW = constant(1.90821492927058770002e-10, single=-2.12194440054690583e-4)
_EXP_LOW = constant(-746.0, single=-104.5)  # exp is 0 below and infinite above
_EXP_HIGH = constant(710.0, single=89.0)
_SMALLEST_NORMAL = constant(2.0**-1022, single=2.0**-126)
_TWO_TO_MANTISSA, _MANTISSA_BITS = constant(2.0**52, single=2.0**23), constant(52.0, single=23.0)
_TANH_IS_ONE = constant(-44.0, single=-20.0)  # of -2 |x|
_ONE_OVER_SQRT_2_PI = constant(0.3989422804014327)
_FOUR, _FIVE_QUARTERS = constant(4.0), constant(1.25)
_FAR = constant(40.0)  # exp(-x^2 / 2) is 0 from here on

# (exp(r) - 1 - r) / r^2 on [-ln 2 / 2, ln 2 / 2]
_exp_series = polynomial(
    (0.5, 0.16666573381900846, 0.0416665501103051244, 0.0083637738744055735, 0.00139269266140219065),
    (
        *(0.500000000000000113, 0.166666666666666675, 0.0416666666666206386, 0.0083333333333297935),
        *(0.00138888889189391678, 0.000198412698643805133, 0.0000248015186413959936, 2.75572664186123037e-6),
        *(2.76213386691429238e-7, 2.51013469283503402e-8),
    ),
)
# (log((1 + s) / (1 - s)) - 2 s) / s^3 as a function of s^2, for arguments of log in [sqrt(1/2), sqrt(2)]
_log_series = polynomial(
    (0.666666861785281541, 0.399883190037694263, 0.296006910700100273),
    (
        *(0.666666666666667014, 0.399999999998866129, 0.285714286317643346, 0.222222101992642115),
        *(0.181829566080634589, 0.153295007542041771, 0.146436286019097976),
    ),
)
# (1 + 5/4 x) exp(x^2 / 2) Phi(-x), x >= 0, as a function of t = (x - 4) / (x + 4); Phi is the normal distribution.
# The form is that of Shepherd and Laframboise, "Chebyshev approximation of (1 + 2x) exp(x^2) erfc x", 1981.
_mills_series = polynomial(
    (
        *(0.566463847646717881, -0.0782799023834146531, -0.0135952652094772694, 0.0536768171769199002),
        *(-0.0479635482296568088, 0.0245480383309928073, -0.00637874469794251796, -0.000536993289800735561),
        *(0.000906871923123526128, -0.000069666356703976357, -0.0000948696761151781946),
    ),
    (
        *(0.566463847811813611, -0.0782799162710436024, -0.0135952704292811595, 0.0536773069013840657),
        *(-0.0479634978118836328, 0.024543145720002828, -0.00637986375272466414, -0.000516732336161373807),
        *(0.000915417388661672169, -0.000106649075914750799, -0.000116978144987769744, 0.0000254045701752040837),
        *(0.0000181076255109726729, -4.08268856248068147e-6, -3.42628866835889154e-6, 4.54303999637612913e-7),
        *(7.0407437892955112e-7, 1.32699258036585744e-8, -1.30423437155823854e-7, -2.440980558209187e-8),
        *(1.52142641908905855e-8, 5.27964694265737083e-9),
    ),
)


def _inline(function):
    return device(function, inline=True)


@_inline
def exp(x):
    """e to the x."""
    clipped = _EXP_LOW(x) if x < _EXP_LOW(x) else x  # leaves nan as it is
    clipped = _EXP_HIGH(x) if clipped > _EXP_HIGH(x) else clipped
    shifted = fma(clipped, _LOG2_E(x), _SHIFT(x))
    n = shifted - _SHIFT(x)
    r = fma(n, -_LN2_LOW(x), fma(n, -_LN2_HIGH(x), clipped))
    return _times_power_of_two(ONE(x) + fma(_exp_series(r), r * r, r), shifted)


@_inline
def expm1(x):
    """e to the x, minus 1, without losing digits near 0; for x <= 0."""
    clipped = -_EXP_HIGH(x) if x < -_EXP_HIGH(x) else x
    shifted = fma(clipped, _LOG2_E(x), _SHIFT(x))
    n = shifted - _SHIFT(x)
    r = fma(n, -_LN2_LOW(x), fma(n, -_LN2_HIGH(x), clipped))
    scale = _times_power_of_two(ONE(x), shifted)
    return fma(fma(_exp_series(r), r * r, r), scale, scale - ONE(x))


@_inline
def log(x):
    """Natural logarithm; -inf at 0, nan below."""
    subnormal = x < _SMALLEST_NORMAL(x)
    scaled = x * _TWO_TO_MANTISSA(x) if subnormal else x
    exponent = _exponent(scaled) - (_MANTISSA_BITS(x) if subnormal else ZERO(x))
    f = _mantissa(scaled) - ONE(x)
    s = f / (TWO(x) + f)
    z = s * s
    small = fma(_log_series(z), z * s, exponent * _LN2_LOW(x))
    result = fma(exponent, _LN2_HIGH(x), fma(TWO(x), s, small))
    result = result if x < _INFINITY(x) else x
    result = -_INFINITY(x) if x == ZERO(x) else result
    return _NAN(x) if x < ZERO(x) else result


@_inline
def log1p(x):
    """log(1 + x) without losing digits near 0; for 0 <= x <= 1."""
    u = ONE(x) + x
    return log(u) + (x - (u - ONE(x))) / u


@_inline
def tanh(x):
    """Hyperbolic tangent."""
    doubled = -TWO(x) * abs(x)
    t = expm1(_TANH_IS_ONE(x) if doubled < _TANH_IS_ONE(x) else doubled)
    t = -t / (TWO(x) + t)
    return -t if x < ZERO(x) else t


@_inline
def sigmoid(x):
    """1 / (1 + exp(-x))."""
    e = exp(-abs(x))
    return (e if x < ZERO(x) else ONE(x)) / (ONE(x) + e)


@_inline
def softplus(x):
    """log(1 + exp(x))."""
    return (ZERO(x) if x < ZERO(x) else x) + log1p(exp(-abs(x)))


@_inline
def _exp_half_square(x):
    """exp(-x^2 / 2): the rounding of x^2, magnified by a large exponent, is put back."""
    square = x * x
    rest = fma(x, x, -square)
    e = exp(-HALF(x) * square)
    return e if square > -_EXP_LOW(x) * TWO(x) else fma(-HALF(x) * rest, e, e)


@_inline
def normal_density(x):
    """Density of the standard normal distribution."""
    return _ONE_OVER_SQRT_2_PI(x) * _exp_half_square(x)


@_inline
def normal_distribution(x):
    """Phi(x), the standard normal distribution function, (1 + erf(x / sqrt 2)) / 2."""
    size = abs(x)
    size = _FAR(x) if size > _FAR(x) else size
    t = (size - _FOUR(x)) / (size + _FOUR(x))
    tail = _exp_half_square(size) * (_mills_series(t) / fma(_FIVE_QUARTERS(x), size, ONE(x)))
    return tail if x < ZERO(x) else ONE(x) - tail
