"""The negative log-likelihood of a normal distribution whose mean and standard deviation are outputs."""

import numpy as np
from numba import prange

from nbbp.activations import ACTIVATIONS, Activation
from nbbp.kernels import vector_math as vm
from nbbp.kernels.denormals import flushed
from nbbp.kernels.jit import kernel
from nbbp.kernels.scalars import constant
from nbbp.kernels.vector_math import HALF, ONE, ZERO
from nbbp.losses.base import LOSSES, Loss

LEAST_DEVIATION = 1e-6
FLOOR = constant(LEAST_DEVIATION)


def gaussian_forward_reference(y):
    y[:, (y.shape[1] + 1) // 2 :] = np.logaddexp(y[:, (y.shape[1] + 1) // 2 :], 0) + LEAST_DEVIATION


@kernel(gaussian_forward_reference, "(b,n)", cycles=2.0)
def gaussian_forward(y):
    """Means, which stay as they are, then standard deviations: the softplus of the second half of the columns."""
    for i in prange(y.shape[0]):
        row = y[i, (y.shape[1] + 1) // 2 :]
        for j in range(row.shape[0]):
            row[j] = vm.softplus(row[j]) + FLOOR(row[j])


def gaussian_backward_reference(dy, s):
    half = (dy.shape[1] + 1) // 2
    dy[:, half:] *= -np.expm1(LEAST_DEVIATION - s[:, half:])


@kernel(gaussian_backward_reference, "(b,n) (b,n)", cycles=2.0)
def gaussian_backward(dy, s):
    """The slope of the softplus, 1 - exp(-softplus), from the output s."""
    for i in prange(dy.shape[0]):
        begin = (dy.shape[1] + 1) // 2
        d_row, s_row = dy[i, begin:], s[i, begin:]
        for j in range(d_row.shape[0]):
            excess = s_row[j] - FLOOR(s_row[j])
            d_row[j] = flushed(d_row[j] * -vm.expm1(-excess))


ACTIVATIONS["gaussian"] = Activation(
    "gaussian", gaussian_forward, gaussian_backward, from_output=True, elementwise=False
)


def gaussian_nll_reference(row_loss, dz, z, target, scale):
    mean, raw = np.split(z, 2, axis=1)
    deviation = np.logaddexp(raw, 0) + LEAST_DEVIATION
    error = (mean - target) / deviation
    row_loss[:] = (np.log(deviation) + 0.5 * error**2).mean(axis=1)
    share = scale[:, None] / target.shape[1]
    of_raw = (1 - error**2) / deviation * 0.5 * (1 + np.tanh(0.5 * raw))
    dz[:] = np.hstack([error / deviation, of_raw]) * share


@kernel(
    gaussian_nll_reference, "(b) (b,c) (b,c) (b,m) (b)", cycles=6.0, lengths={"c": lambda m: 2 * m}
)  # fmt: skip
def gaussian_nll_dense(row_loss, dz, z, target, scale):
    """The mean over the targets of log s + ((m - t) / s)^2 / 2."""
    m = target.shape[1]
    for i in prange(z.shape[0]):
        mean, raw, d_mean, d_raw, t_row = z[i, :m], z[i, m:], dz[i, :m], dz[i, m:], target[i]
        total = ZERO(scale[i])
        share = ONE(total) / type(total)(m)
        step = scale[i] * share
        for j in range(m):
            deviation = vm.softplus(raw[j]) + FLOOR(total)
            inverse = ONE(total) / deviation
            error = (mean[j] - t_row[j]) * inverse
            total += vm.log(deviation) + HALF(total) * error * error
            d_mean[j] = flushed(step * error * inverse)
            d_raw[j] = flushed(step * (ONE(total) - error * error) * inverse * vm.sigmoid(raw[j]))
        row_loss[i] = total * share


LOSSES["gaussian_nll"] = gaussian_nll = Loss(
    "gaussian_nll",
    "log s + ((m - t) / s)^2 / 2: mean over batch and targets; outputs are the means m of all targets, then numbers "
    "whose softplus, plus 1e-6, are the standard deviations s, which `predict` returns (Nix and Weigend 1994; "
    "Lakshminarayanan et al. 2017). PyTorch's GaussianNLLLoss takes variances; both leave out log(2 pi) / 2. Metrics "
    "are those of the means.",
    gaussian_nll_dense,
    link="gaussian",
    target_columns=lambda outputs: outputs // 2,
    outputs_per_target=2,
)
