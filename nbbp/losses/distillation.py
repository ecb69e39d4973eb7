"""Distillation: cross-entropies with a teacher's probabilities and with the true ones."""

import numpy as np
from numba import prange

from nbbp.activations import row_max, row_sum
from nbbp.kernels import vector_math as vm
from nbbp.kernels.arguments import positive
from nbbp.kernels.jit import kernel
from nbbp.kernels.vector_math import ONE, ZERO
from nbbp.losses.base import LOSSES, Loss
from nbbp.losses.cross_entropy import softmax_cross_entropy_reference


def distillation_reference(row_loss, dz, z, target, scale, numbers):
    temperature, share = numbers
    soft, hard = np.split(target, 2, axis=1)
    soft_loss, soft_slope = np.empty_like(row_loss), np.empty_like(dz)
    ones = np.ones_like(scale)
    softmax_cross_entropy_reference(soft_loss, soft_slope, z / temperature, soft, ones)
    softmax_cross_entropy_reference(row_loss, dz, z, hard, ones)
    row_loss[:] = share * temperature**2 * soft_loss + (1 - share) * row_loss
    dz[:] = (share * temperature * soft_slope + (1 - share) * dz) * scale[:, None]


@kernel(
    distillation_reference,
    "(b) (b,c) (b,c) (b,D) (b) (2)",
    cycles=4.0,
    values={"target": positive, "numbers": positive},
    lengths={"D": lambda c: 2 * c},
)
def distillation_dense(row_loss, dz, z, target, scale, numbers):
    """share T^2 H(soft, softmax(z / T)) + (1 - share) H(hard, softmax(z)), where H is the cross-entropy."""
    c, temperature, share = z.shape[1], numbers[0], numbers[1]
    cool, rest = ONE(share) / temperature, ONE(share) - share
    for i in prange(z.shape[0]):
        z_row, d_row, soft, hard = z[i], dz[i], target[i, :c], target[i, c:]
        top, weight_soft, weight_hard = row_max(z_row), row_sum(soft), row_sum(hard)
        total_soft = total_hard = loss_soft = loss_hard = ZERO(share)
        # 1. The sums of both softmaxes.
        for j in range(c):
            total_soft += vm.exp((z_row[j] - top) * cool)
            total_hard += vm.exp(z_row[j] - top)
        log_soft, log_hard = vm.log(total_soft), vm.log(total_hard)
        # 2. Losses and gradients.
        for j in range(c):
            loss_soft += soft[j] * (log_soft - (z_row[j] - top) * cool)
            loss_hard += hard[j] * (log_hard - (z_row[j] - top))
            p_soft, p_hard = vm.exp((z_row[j] - top) * cool) / total_soft, vm.exp(z_row[j] - top) / total_hard
            slope_soft, slope_hard = p_soft * weight_soft - soft[j], p_hard * weight_hard - hard[j]
            d_row[j] = scale[i] * (share * temperature * slope_soft + rest * slope_hard)
        row_loss[i] = share * temperature * temperature * loss_soft + rest * loss_hard


LOSSES["distillation"] = distillation = Loss(
    "distillation",
    "s T^2 H(soft, softmax(z / T)) + (1 - s) H(hard, softmax(z)), H being the cross-entropy: sum over classes, mean "
    "over the batch. A row's targets are a teacher's probabilities at temperature T, then the true ones. Hinton et al. "
    '2015, "Distilling the knowledge in a neural network"; see `nbbp.distill`. T = 4 and s = 0.9 by default.',
    distillation_dense,
    link="softmax",
    valid_targets=(0.0, 1.0),
    target_columns=lambda outputs: 2 * outputs,
    numbers=(4.0, 0.9),
)
