"""exp, log, tanh, cos and related functions for loops that LLVM vectorises: no branch, no call, no table.

Numba's wheels have no vector math library, so `math.exp` in a loop is a call for every element. These are the
textbook reductions (Cody and Waite, "Software Manual for the Elementary Functions", 1980) with minimax polynomials,
in float32 and in float64, with every fused multiply-add written out, so that the vector width does not change the bits.
Largest errors over all float32, subnormal results included, in units in the last place: exp 1.1, log 2.0, tanh 5.3,
sigmoid 2.5, softplus 3.4, cos_of_turns and sin_of_turns 1.7, normal_distribution and gelu 3.6;
`tests/test_vector_math.py` measures them at every 4,099th.
"""

import math

import numpy as np
from llvmlite import ir
from numba.extending import intrinsic

from nbbp.kernels import llvm
from nbbp.kernels.jit import device
from nbbp.kernels.scalars import constant, fma, form, polynomial


@intrinsic
def _times_power_of_two(typing_context, x, shifted):
    """x * 2**n with n in the low bits of `shifted` = n + _SHIFT; in two factors, since 2**n may be out of range."""

    def generate(context, builder, signature, args):
        value, shifted_value = args
        integer, mantissa, bias = form(value.type)
        shift = ir.Constant(value.type, 1.5 * 2.0**mantissa)
        n = builder.sub(builder.bitcast(shifted_value, integer), builder.bitcast(shift, integer))
        half = builder.ashr(n, integer(1))
        for part in (half, builder.sub(n, half)):
            power = builder.shl(builder.add(part, integer(bias)), integer(mantissa))
            value = builder.fmul(value, builder.bitcast(power, value.type))
        return value

    return x(x, x), generate


@intrinsic
def _times_small_power_of_two(typing_context, x, shifted):
    """The same for n <= 0, with fewer instructions: one of the two factors is always the same."""

    def generate(context, builder, signature, args):
        value, shifted_value = args
        integer, mantissa, bias = form(value.type)
        far = bias // 2
        begin = builder.bitcast(ir.Constant(value.type, 1.5 * 2.0**mantissa), integer)
        exponent = builder.add(builder.bitcast(shifted_value, integer), builder.sub(integer(bias + far), begin))
        power = builder.bitcast(builder.shl(exponent, integer(mantissa)), value.type)
        return builder.fmul(builder.fmul(value, power), ir.Constant(value.type, 2.0**-far))

    return x(x, x), generate


def _split(want_exponent: bool):
    @intrinsic
    def part(typing_context, x):
        """x = m * 2**e with m in [sqrt(1/2), sqrt(2)): the m or, as a float, the e."""

        def generate(context, builder, signature, args):
            (value,) = args
            integer, mantissa, _ = form(value.type)
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
# Added to averages of squares in each step, it is lost in rounding, unless they would become denormal otherwise.
SPECK = constant(2.0**-1000, single=2.0**-120)
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
_QUARTER, _FOUR, _SLOPE = constant(0.25), constant(4.0), constant(0.8125)
_FAR = constant(40.0)
_SINGLE = constant(0.0, single=1.0)  # a branch on it is decided when the kernel is compiled

# tanh(x) = x P(x^2) / Q(x^2) up to 9.02, beyond which it is 1, with a relative error of 4e-8; among coefficients that
# differ by roundings, those with which float32 loses least
_TANH_SQUARE = constant(9.02 * 9.02)
_tanh_p_low, _tanh_p_high = (
    polynomial(c, c)
    for c in ((1.3921915292739868, 0.18631264567375183), (0.004869130905717611, 2.8729018595186062e-05))
)
_tanh_q_low, _tanh_q_high = (
    polynomial(c, c) for c in ((1.3921915292739868, 0.6503763198852539), (0.036035988479852676, 0.0004578246152959764))
)
_TANH_P4, _TANH_Q4 = constant(1.8633516063459865e-08), constant(1.0845521956071025e-06)

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
# (1 + 13/16 x) exp(x^2 / 2) Phi(-x), x >= 0, as a function of t = (x - 4) / (x + 4); Phi is the normal distribution.
# The form is that of Shepherd and Laframboise, "Chebyshev approximation of (1 + 2x) exp(x^2) erfc x", 1981; with 13/16
# it is flat at x = 0, where the rounding of t would cost most.
_mills_series = polynomial(
    (
        *(0.401245222677906578, -0.110521026798745219, 0.0346960223671852473, 0.0097901814727869432),
        *(-0.0203760816510610011, 0.0129950986448975677, -0.00395828285223970952, -0.000146636567811798714),
        *(0.000507094855737778333, -0.0000473254214390461775, -0.0000436766190878776638),
    ),
    (
        *(0.40124522553336736, -0.110521148118140642, 0.0346958135898579606, 0.00979265691795422326),
        *(-0.0203735921464261855, 0.0129808112922315454, -0.00396926462150888872, -0.000112291083394908383),
        *(0.000529506086451855388, -0.000085266709826434647, -0.0000660055831090387929, 0.0000181365088518433953),
        *(0.0000102545082283673702, -2.9506331865357341e-6, -1.97946719984555689e-6, 3.78521330835877166e-7),
        *(4.07454171532440934e-7, -2.14579396630563368e-8, -7.1070732522615989e-8, -4.93434341734578724e-9),
        *(7.12998201568029944e-9, 1.1095452930254731e-9),
    ),
)


# sin(2 pi r) / r and (cos(2 pi r) - 1) / r^2 as functions of r^2, for r in [-1/8, 1/8]
_sine_series = polynomial(
    (6.28318528683339734, -41.3416614549273248, 81.592353555381025, -75.3935628410401878),
    (
        *(6.28318530717958646, -41.3417022403996315, 81.6052492759445099, -76.7058597033151697),
        *(42.0586849020580434, -15.0937975054128316, 3.78072617509182297),
    ),
)
_cosine_series = polynomial(
    (-19.7392087306484334, 64.9393391387742167, -85.4450344287300528, 59.2867641623488248),
    (
        *(-19.7392088021787172, 64.9393940226681464, -85.4568172065907123, 60.2446413406740631),
        *(-26.4262519714474483, 7.90313948596084775, -1.69769879092681631),
    ),
)


@intrinsic
def _nearest(typing_context, x):
    """The nearest integer, the even one of two."""
    return x(x), lambda context, builder, signature, args: llvm.lanewise(builder, "rint", *args)


def _inline(function):
    return device(function, inline=True)


@_inline
def _scaled_exp(x, x_low, factor, factor_low):
    """(factor + factor_low) * exp(x + x_low), where the low parts are digits that were rounded away.

    Even if exp(x) itself is subnormal, no digits are lost before the last rounding.
    """
    clipped = _EXP_LOW(x) if x < _EXP_LOW(x) else x  # leaves nan as it is
    clipped = _EXP_HIGH(x) if clipped > _EXP_HIGH(x) else clipped
    shifted = fma(clipped, _LOG2_E(x), _SHIFT(x))
    n = shifted - _SHIFT(x)
    r = fma(n, -_LN2_HIGH(x), clipped) + fma(n, -_LN2_LOW(x), x_low)
    series = fma(_exp_series(r), r * r, r)
    return _times_power_of_two(factor + fma(factor, series, factor_low), shifted)


@_inline
def exp(x):
    """e to the x."""
    return _scaled_exp(x, -ZERO(x), ONE(x), -ZERO(x))


@_inline
def exp_of_negative(x):
    """e to the x, for x <= 0."""
    clipped = _EXP_LOW(x) if x < _EXP_LOW(x) else x
    shifted = fma(clipped, _LOG2_E(x), _SHIFT(x))
    n = shifted - _SHIFT(x)
    r = fma(n, -_LN2_HIGH(x), clipped) + n * -_LN2_LOW(x)
    return _times_small_power_of_two(ONE(x) + fma(_exp_series(r), r * r, r), shifted)


@_inline
def expm1(x):
    """e^x - 1 without losing digits near 0, for x <= 0."""
    clipped = -_EXP_HIGH(x) if x < -_EXP_HIGH(x) else x
    shifted = fma(clipped, _LOG2_E(x), _SHIFT(x))
    n = shifted - _SHIFT(x)
    r = fma(n, -_LN2_LOW(x), fma(n, -_LN2_HIGH(x), clipped))
    scale = _times_small_power_of_two(ONE(x), shifted)
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
    """log(1 + x) without losing digits near 0, for 0 <= x <= 1."""
    u = ONE(x) + x
    return log(u) + (x - (u - ONE(x))) / u


@_inline
def _tanh_of_exponential(x):
    doubled = -TWO(x) * abs(x)
    t = expm1(_TANH_IS_ONE(x) if doubled < _TANH_IS_ONE(x) else doubled)
    t = -t / (TWO(x) + t)
    return -t if x < ZERO(x) else t


@_inline
def _tanh_of_quotient(x):
    """x P(x^2) / Q(x^2), in float32: the polynomials are two chains each, of which a processor works on all at once."""
    square = x * x
    z = _TANH_SQUARE(x) if square > _TANH_SQUARE(x) else square  # leaves nan as it is
    y = z * z
    p = fma(fma(_TANH_P4(x), y, _tanh_p_high(z)), y, _tanh_p_low(z))
    q = fma(fma(_TANH_Q4(x), y, _tanh_q_high(z)), y, _tanh_q_low(z))
    t = x * p / q
    t = ONE(x) if t > ONE(x) else t
    return -ONE(x) if t < -ONE(x) else t


@_inline
def tanh(x):
    """Hyperbolic tangent."""
    return _tanh_of_quotient(x) if _SINGLE(x) == ONE(x) else _tanh_of_exponential(x)


@_inline
def sigmoid(x):
    """1 / (1 + exp(-x))."""
    e = exp_of_negative(-abs(x))
    return (e if x < ZERO(x) else ONE(x)) / (ONE(x) + e)


@_inline
def softplus(x):
    """log(1 + exp(x))."""
    return (ZERO(x) if x < ZERO(x) else x) + log1p(exp(-abs(x)))


@_inline
def _scaled_bell(x, factor, factor_low):
    """(factor + factor_low) * exp(-x^2 / 2); the rounding error of x^2, magnified by a large exponent, is corrected."""
    square = x * x
    return _scaled_exp(-HALF(x) * square, -HALF(x) * fma(x, x, -square), factor, factor_low)


@_inline
def _tail(x, factor):
    """factor * Phi(-x) for 0 <= x: Phi(-x) exp(x^2 / 2) is a quotient, whose rounding error is corrected."""
    t = (x - _FOUR(x)) / (x + _FOUR(x))
    series = _mills_series(t)
    divisor = fma(_SLOPE(x), x, ONE(x))
    inverse = ONE(x) / divisor
    dividend = series * factor
    quotient = dividend * inverse
    rest = fma(-quotient, divisor, dividend) + fma(series, factor, -dividend)
    return _scaled_bell(x, quotient, rest * inverse)


@_inline
def _near(x):
    """abs(x), at most 40: the tails are 0 from there on."""
    size = abs(x)
    return _FAR(x) if size > _FAR(x) else size


@_inline
def normal_density(x):
    """Density of the standard normal distribution."""
    return _scaled_bell(_near(x), _ONE_OVER_SQRT_2_PI(x), -ZERO(x))


@_inline
def normal_distribution(x):
    """Phi(x), the standard normal distribution function, (1 + erf(x / sqrt 2)) / 2."""
    tail = _tail(_near(x), ONE(x))
    return tail if x < ZERO(x) else ONE(x) - tail


@_inline
def gelu(x):
    """x Phi(x)."""
    size = _near(x)
    tail = _tail(size, size)
    return -tail if x < ZERO(x) else x - tail


@_inline
def _quarters(x):
    """The quarters of a turn that are nearest to x, from -2 to 2, whole turns left out; and what is left, exactly."""
    x = x - _nearest(x)
    n = _nearest(_FOUR(x) * x)
    return n, fma(n, -_QUARTER(x), x)


@_inline
def _sine(r):
    return r * _sine_series(r * r)


@_inline
def _cosine(r):
    return fma(_cosine_series(r * r), r * r, ONE(r))


@_inline
def cos_of_turns(x):
    """cos(2 pi x): without pi in the argument, whole turns are left out exactly, however many there are."""
    n, r = _quarters(x)
    odd = abs(n) == ONE(x)
    return (-n if odd else ONE(x) - abs(n)) * (_sine(r) if odd else _cosine(r))


@_inline
def sin_of_turns(x):
    """sin(2 pi x)."""
    n, r = _quarters(x)
    odd = abs(n) == ONE(x)
    return (n if odd else ONE(x) - abs(n)) * (_cosine(r) if odd else _sine(r))
