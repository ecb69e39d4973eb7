"""PeriodicEmbedding: each number with three smooth functions of it, mixtures of cosines."""

import dataclasses
import math

import numpy as np
from numba import prange

from nbbp import checks
from nbbp.engine.layer import Layer, Parameter, Spec
from nbbp.initializers import normal, uniform
from nbbp.kernels.jit import kernel
from nbbp.kernels.pointers import at, on_stack
from nbbp.kernels.scalars import constant, fma
from nbbp.kernels.vector_math import ZERO, cos_of_turns, sin_of_turns

FREQUENCIES, FUNCTIONS = 16, 3  # constants, so that loops over them are vectors in registers
BLOCK = 16  # rows at a time

_numbers = on_stack(8 * FREQUENCIES)
_TWO_PI = constant(2 * math.pi)


def periodic_reference(y, x, f, p, w, b):
    h = np.cos(2 * np.pi * (x[:, :, np.newaxis] * f + p))
    y[:, :, 0] = x
    y[:, :, 1:] = np.einsum("rnk,nek->rne", h, w) + b


@kernel(periodic_reference, "(r,n,4) (r,n) (n,16) (n,16) (n,3,16) (n,3)", cycles=40.0)
def periodic(y, x, f, p, w, b):
    """y_0 = x, y_e = b_e + sum over k of w_ek cos(2 pi (f_k x + p_k))."""
    last = x.shape[0] - 1
    for block in prange(last // BLOCK + 1):
        begin = block * BLOCK
        memory = _numbers(at(x, 0))
        x_block, y_block = at(memory, 0), at(memory, BLOCK)
        for j in range(x.shape[1]):
            for i in range(BLOCK):
                x_block[i] = x[min(begin + i, last), j]
            for e in range(FUNCTIONS):
                for i in range(BLOCK):
                    y_block[e * BLOCK + i] = b[j, e]
            for k in range(FREQUENCIES):
                frequency, phase, w0, w1, w2 = f[j, k], p[j, k], w[j, 0, k], w[j, 1, k], w[j, 2, k]
                for i in range(BLOCK):
                    h = cos_of_turns(fma(frequency, x_block[i], phase))
                    y_block[i] = fma(w0, h, y_block[i])
                    y_block[BLOCK + i] = fma(w1, h, y_block[BLOCK + i])
                    y_block[2 * BLOCK + i] = fma(w2, h, y_block[2 * BLOCK + i])
            for i in range(min(BLOCK, x.shape[0] - begin)):
                row = y[begin + i, j]
                row[0] = x_block[i]
                for e in range(FUNCTIONS):
                    row[1 + e] = y_block[e * BLOCK + i]


def periodic_parameters_reference(df, dp, dw, db, dy, x, f, p, w):
    turns = 2 * np.pi * (x[:, :, np.newaxis] * f + p)
    slope = -2 * np.pi * np.sin(turns) * np.einsum("rne,nek->rnk", dy[:, :, 1:], w)
    df[:], dp[:] = np.einsum("rnk,rn->nk", slope, x), slope.sum(axis=0)
    dw[:], db[:] = np.einsum("rne,rnk->nek", dy[:, :, 1:], np.cos(turns)), dy[:, :, 1:].sum(axis=0)


@kernel(
    periodic_parameters_reference,
    "(n,16) (n,16) (n,3,16) (n,3) (r,n,4) (r,n) (n,16) (n,16) (n,3,16)",
    cycles=60.0,
)
def periodic_parameters(df, dp, dw, db, dy, x, f, p, w):
    """The gradients of the parameters."""
    for j in prange(x.shape[1]):
        sums, own = _numbers(at(x, 0)), _numbers(at(x, 0))
        sf, sp, sw = at(sums, 0), at(sums, FREQUENCIES), at(sums, 2 * FREQUENCIES)
        fj, pj, wj = at(own, 0), at(own, FREQUENCIES), at(own, 2 * FREQUENCIES)
        for k in range(5 * FREQUENCIES):
            sums[k] = ZERO(f[j, 0])
        for k in range(FREQUENCIES):
            fj[k], pj[k] = f[j, k], p[j, k]
            wj[k], wj[FREQUENCIES + k], wj[2 * FREQUENCIES + k] = w[j, 0, k], w[j, 1, k], w[j, 2, k]
        b0 = b1 = b2 = ZERO(f[j, 0])
        for i in range(x.shape[0]):
            value, d0, d1, d2 = x[i, j], dy[i, j, 1], dy[i, j, 2], dy[i, j, 3]
            b0, b1, b2 = b0 + d0, b1 + d1, b2 + d2
            for k in range(FREQUENCIES):
                turns = fma(fj[k], value, pj[k])
                h, slope = cos_of_turns(turns), wj[k] * d0
                slope = fma(wj[FREQUENCIES + k], d1, slope)
                slope = fma(wj[2 * FREQUENCIES + k], d2, slope) * sin_of_turns(turns)
                sf[k], sp[k] = fma(slope, value, sf[k]), sp[k] + slope
                sw[k] = fma(h, d0, sw[k])
                sw[FREQUENCIES + k] = fma(h, d1, sw[FREQUENCIES + k])
                sw[2 * FREQUENCIES + k] = fma(h, d2, sw[2 * FREQUENCIES + k])
        for k in range(FREQUENCIES):
            df[j, k], dp[j, k] = -_TWO_PI(b0) * sf[k], -_TWO_PI(b0) * sp[k]
            dw[j, 0, k], dw[j, 1, k], dw[j, 2, k] = sw[k], sw[FREQUENCIES + k], sw[2 * FREQUENCIES + k]
        db[j, 0], db[j, 1], db[j, 2] = b0, b1, b2


def periodic_inputs_reference(dx, dy, x, f, p, w):
    slope = -2 * np.pi * np.sin(2 * np.pi * (x[:, :, np.newaxis] * f + p)) * f
    dx[:] = dy[:, :, 0] + np.einsum("rne,nek,rnk->rn", dy[:, :, 1:], w, slope)


@kernel(periodic_inputs_reference, "(r,n) (r,n,4) (r,n) (n,16) (n,16) (n,3,16)", cycles=60.0)
def periodic_inputs(dx, dy, x, f, p, w):
    """The gradient of x."""
    last = x.shape[0] - 1
    for block in prange(last // BLOCK + 1):
        begin = block * BLOCK
        memory = _numbers(at(x, 0))
        x_block, dx_block, dy_block = at(memory, 0), at(memory, BLOCK), at(memory, 2 * BLOCK)
        for j in range(x.shape[1]):
            for i in range(BLOCK):
                row = min(begin + i, last)
                x_block[i], dx_block[i] = x[row, j], ZERO(x[row, j])
                for e in range(FUNCTIONS):
                    dy_block[e * BLOCK + i] = dy[row, j, 1 + e]
            for k in range(FREQUENCIES):
                frequency, phase, w0, w1, w2 = f[j, k], p[j, k], w[j, 0, k], w[j, 1, k], w[j, 2, k]
                for i in range(BLOCK):
                    slope = fma(w2, dy_block[2 * BLOCK + i], fma(w1, dy_block[BLOCK + i], w0 * dy_block[i]))
                    sine = sin_of_turns(fma(frequency, x_block[i], phase))
                    dx_block[i] = fma(slope * frequency, sine, dx_block[i])
            for i in range(min(BLOCK, x.shape[0] - begin)):
                dx[begin + i, j] = fma(-_TWO_PI(x_block[i]), dx_block[i], dy[begin + i, j, 0])


@dataclasses.dataclass(frozen=True)
class PeriodicEmbedding(Layer):
    """For each number x its own x, W cos(2 pi (f x + p)) + b: 16 trained frequencies and phases, 3 mixtures of them.

    x is (features,), y (4 features,), the four of each feature side by side. The "PBLD" embedding of Holzmueller,
    Grinsztajn and Steinwart, "Better by default: strong pre-tuned MLPs and boosted trees on tabular data", 2024, after
    Gorishniy, Rubachev and Babenko, "On embeddings for numerical features in tabular deep learning", 2022. Frequencies
    begin normal, phases uniform, W and b uniform between -1/4 and 1/4, as there; phases are trained in radians.

    Parameters
    ----------
    deviation : float
        The standard deviation of the first frequencies, in cycles for a change of x by 1.
    rate, decay : float
        Factors of the optimizer's learning rate and weight decay for all parameters.
    """

    deviation: float = 0.1
    rate: float = 1.0
    decay: float = 1.0

    reads = ("x",)

    def __post_init__(self) -> None:
        checks.number("PeriodicEmbedding: deviation", self.deviation, open_low=True)
        checks.number("PeriodicEmbedding: rate", self.rate)
        checks.number("PeriodicEmbedding: decay", self.decay)

    @classmethod
    def example(cls, x):
        return cls(0.3)(x)

    def spec(self, shape):
        if len(shape) != 1:
            raise ValueError(f"PeriodicEmbedding takes samples (features,), got {shape}")
        (n,), limit, factors = shape, 1 / math.sqrt(FREQUENCIES), {"rate": self.rate, "decay": self.decay}
        parameters = {
            "frequencies": Parameter((n, FREQUENCIES), normal(self.deviation), **factors),
            "phases": Parameter((n, FREQUENCIES), uniform(0.5), **factors, scale=1 / (2 * math.pi)),
            "w": Parameter((n, FUNCTIONS, FREQUENCIES), uniform(limit), **factors),
            "b": Parameter((n, FUNCTIONS), uniform(limit), **factors),
        }
        return Spec(((1 + FUNCTIONS) * n,), parameters)

    def forward(self, b):
        y = b.y.reshape(*b.x.shape, 1 + FUNCTIONS)
        b.call(periodic, y, b.x, b.p.frequencies, b.p.phases, b.p.w, b.p.b)

    def backward(self, b):
        dy, own = b.dy.reshape(*b.x.shape, 1 + FUNCTIONS), (b.p.frequencies, b.p.phases, b.p.w)
        b.call(periodic_parameters, b.g.frequencies, b.g.phases, b.g.w, b.g.b, dy, b.x, *own)
        if b.dx is not None:
            b.call(periodic_inputs, b.dx, dy, b.x, *own)
