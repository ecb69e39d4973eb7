"""Cross-entropy of classes: from probabilities, and from logits, whose softmax is computed here."""

import numpy as np
from numba import prange

from nbbp.activations import ROWS, exp_of_rows, row_max, row_sum
from nbbp.kernels import vector_math as vm
from nbbp.kernels.arguments import below, positive
from nbbp.kernels.jit import device, kernel
from nbbp.kernels.vector_math import ONE, ZERO, constant
from nbbp.losses.base import DENSE, LABELS, LOSSES, Loss
from nbbp.losses.elementwise import elementwise

TINY = constant(2.0**-1022, single=2.0**-126)  # smallest probability whose logarithm is taken


def cross_entropy_labels_reference(row_loss, dz, z, target, scale):
    rows = np.arange(len(z))
    p = np.maximum(z[rows, target[:, 0]], np.finfo(z.dtype).tiny)
    row_loss[:] = -np.log(p)
    dz[:] = 0
    dz[rows, target[:, 0]] = -scale / p


@kernel(cross_entropy_labels_reference, LABELS, cycles=1.0, values={"z": positive, "target": below("c")})
def cross_entropy_labels(row_loss, dz, z, target, scale):
    """-log z[label], where z are probabilities."""
    for i in prange(z.shape[0]):
        d_row, label = dz[i], target[i, 0]
        p = z[i, label]
        p = TINY(p) if p < TINY(p) else p
        row_loss[i] = -vm.log(p)
        for j in range(d_row.shape[0]):
            d_row[j] = ZERO(p)
        d_row[label] = -scale[i] / p


@device
def _log_probability(p):
    return vm.log(TINY(p) if p < TINY(p) else p)


@device
def _inverse_probability(p):
    return ONE(p) / (TINY(p) if p < TINY(p) else p)


cross_entropy = elementwise(
    "cross_entropy",
    lambda z, t: ZERO(t) if t == ZERO(t) else -t * _log_probability(z),
    lambda z, t: -t * _inverse_probability(z),
    lambda z, t: -t * np.log(np.maximum(z, np.finfo(z.dtype).tiny)),
    lambda z, t: -t / np.maximum(z, np.finfo(z.dtype).tiny),
    mean_over_outputs=False,
    cycles=4.0,
    labels=cross_entropy_labels,
    valid_targets=(0.0, 1.0),
    from_probabilities=True,
    description="-sum_j t_j log z_j, z being probabilities such as a softmax layer's: sum over classes, mean over the "
    "batch, as Keras's CategoricalCrossentropy, which also divides z by its sum; PyTorch's nearest is NLLLoss, which "
    "takes their logarithms. Labels may be integers.",
)


def softmax_cross_entropy_reference(row_loss, dz, z, target, scale):
    shifted = z - z.max(axis=1, keepdims=True)
    log_p = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    row_loss[:] = -np.sum(target * log_p, axis=1)
    dz[:] = (np.exp(log_p) * target.sum(axis=1, keepdims=True) - target) * scale[:, None]


@device
def _softmax_and_log_totals(y, log_total, x):
    """y = softmax(x), and the log of each row's sum of exp(x - its largest x)."""
    exp_of_rows(y, x)
    for i in range(x.shape[0]):
        y_row, total = y[i], row_sum(y[i])
        log_total[i] = total
        scale = ONE(total) / total
        for j in range(y_row.shape[0]):
            y_row[j] *= scale
    for i in range(log_total.shape[0]):
        log_total[i] = vm.log(log_total[i])


@kernel(softmax_cross_entropy_reference, DENSE, cycles=2.0)
def softmax_cross_entropy_dense(row_loss, dz, z, target, scale):
    """-sum_j t_j log softmax(z)_j."""
    rows = z.shape[0]
    for p in prange((rows + ROWS - 1) // ROWS):
        begin, end = p * ROWS, min(rows, (p + 1) * ROWS)
        # 1. The softmax of some rows, in dz, and the logs of their sums, in row_loss.
        _softmax_and_log_totals(dz[begin:end], row_loss[begin:end], z[begin:end])
        # 2. From these, loss and gradient of each row.
        for i in range(begin, end):
            z_row, t_row, d_row = z[i], target[i], dz[i]
            loss, weight, top = ZERO(scale[i]), row_sum(t_row), row_max(z_row)
            for j in range(z_row.shape[0]):
                loss += t_row[j] * (row_loss[i] - (z_row[j] - top))
            row_loss[i] = loss
            for j in range(z_row.shape[0]):
                d_row[j] = vm.flushed((d_row[j] * weight - t_row[j]) * scale[i])


def softmax_cross_entropy_labels_reference(row_loss, dz, z, target, scale):
    softmax_cross_entropy_reference(row_loss, dz, z, np.eye(z.shape[1], dtype=z.dtype)[target[:, 0]], scale)


@kernel(softmax_cross_entropy_labels_reference, LABELS, cycles=2.0, values={"target": below("c")})
def softmax_cross_entropy_labels(row_loss, dz, z, target, scale):
    """-log softmax(z)[label]."""
    rows = z.shape[0]
    for p in prange((rows + ROWS - 1) // ROWS):
        begin, end = p * ROWS, min(rows, (p + 1) * ROWS)
        # 1. The softmax of some rows, in dz, and the logs of their sums, in row_loss.
        _softmax_and_log_totals(dz[begin:end], row_loss[begin:end], z[begin:end])
        # 2. From these, loss and gradient of each row.
        for i in range(begin, end):
            d_row, label = dz[i], target[i, 0]
            row_loss[i] -= z[i, label] - row_max(z[i])
            d_row[label] -= ONE(scale[i])
            for j in range(d_row.shape[0]):
                d_row[j] = vm.flushed(d_row[j] * scale[i])


LOSSES["softmax_cross_entropy"] = softmax_cross_entropy = Loss(
    "softmax_cross_entropy",
    "-sum_j t_j log softmax(z)_j, from logits; labels may be integers: sum over classes, mean over the batch, as "
    "PyTorch's CrossEntropyLoss and Keras's CategoricalCrossentropy(from_logits=True); Keras's default takes p.",
    softmax_cross_entropy_dense,
    softmax_cross_entropy_labels,
    link="softmax",
    valid_targets=(0.0, 1.0),
)
