"""Cross-entropy of classes: from probabilities, and from logits, whose softmax is computed here."""

import numpy as np
from numba import prange, types

from nbbp.activations import ROWS, exp_of_rows, row_max, row_sum
from nbbp.kernels import vector_math as vm
from nbbp.kernels.arguments import below, positive
from nbbp.kernels.denormals import flushed
from nbbp.kernels.jit import device, kernel
from nbbp.kernels.pointers import at, on_stack
from nbbp.kernels.scalars import constant, freeze
from nbbp.kernels.tiles import VECTOR_BYTES, VECTORS
from nbbp.kernels.tiles import columns as columns_of_tile
from nbbp.kernels.transposes import columns_of_rows, rows_of_columns
from nbbp.kernels.vector_math import ONE, ZERO
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
                d_row[j] = flushed((d_row[j] * weight - t_row[j]) * scale[i])


def softmax_cross_entropy_labels_reference(row_loss, dz, z, target, scale):
    softmax_cross_entropy_reference(row_loss, dz, z, np.eye(z.shape[1], dtype=z.dtype)[target[:, 0]], scale)


SIDE_BY_SIDE = 2  # rows, at least, that take less time together than one after the other,
MANY_ROWS = 256  # and how many are taken at a time

_columns = on_stack(VECTOR_BYTES // 4 * MANY_ROWS)
_tops, _totals, _labels = on_stack(MANY_ROWS), on_stack(MANY_ROWS), on_stack(MANY_ROWS, types.int32)


@device
def _few_labels(rows, classes, row_loss, dz, z, target, scale):
    """`softmax_cross_entropy_labels` of at most MANY_ROWS rows and few classes, with the bits of row after row."""
    columns, top, total, label, vector = _columns(z), _tops(z), _totals(z), _labels(z), columns_of_tile(z) // VECTORS
    for i in range(0, rows - rows % vector, vector):
        columns_of_rows(at(columns, i), MANY_ROWS, at(z, i * classes), classes)
    for i in range(rows - rows % vector, rows):
        for j in range(classes):
            columns[j * MANY_ROWS + i] = z[i * classes + j]
    for i in range(rows):
        label[i], top[i], total[i] = target[i], columns[i], ZERO(scale[i])
    for j in range(1, classes):
        column = at(columns, j * MANY_ROWS)
        for i in range(rows):
            top[i] = column[i] if column[i] > top[i] else freeze(top[i])
    for j in range(classes):
        column = at(columns, j * MANY_ROWS)
        for i in range(rows):
            below_top = column[i] - top[i]
            row_loss[i] = below_top if label[i] == j else freeze(row_loss[i])
            column[i] = vm.exp(below_top)
            total[i] += column[i]
    for i in range(rows):
        row_loss[i] = vm.log(total[i]) - row_loss[i]
        total[i] = ONE(total[i]) / total[i]
    for j in range(classes):
        column = at(columns, j * MANY_ROWS)
        for i in range(rows):
            share = ONE(scale[i]) if label[i] == j else ZERO(scale[i])
            column[i] = flushed((column[i] * total[i] - share) * scale[i])
    for i in range(0, rows - rows % vector, vector):
        rows_of_columns(at(dz, i * classes), at(columns, i), MANY_ROWS, classes)
    for i in range(rows - rows % vector, rows):
        for j in range(classes):
            dz[i * classes + j] = columns[j * MANY_ROWS + i]


@kernel(softmax_cross_entropy_labels_reference, LABELS, cycles=2.0, values={"target": below("c")})
def softmax_cross_entropy_labels(row_loss, dz, z, target, scale):
    """-log softmax(z)[label]."""
    rows, classes = z.shape
    few = rows >= SIDE_BY_SIDE and classes <= VECTOR_BYTES // z.itemsize
    block = MANY_ROWS if few else ROWS
    for p in prange((rows + block - 1) // block):
        begin, end = p * block, min(rows, (p + 1) * block)
        if few:
            i = begin * classes
            _few_labels(
                end - begin, classes, at(row_loss, begin), at(dz, i), at(z, i), at(target, begin), at(scale, begin)
            )  # fmt: skip
            continue
        # 1. The softmax of some rows, in dz, and the logs of their sums, in row_loss.
        _softmax_and_log_totals(dz[begin:end], row_loss[begin:end], z[begin:end])
        # 2. From these, loss and gradient of each row.
        for i in range(begin, end):
            d_row, label = dz[i], target[i, 0]
            row_loss[i] -= z[i, label] - row_max(z[i])
            d_row[label] -= ONE(scale[i])
            for j in range(d_row.shape[0]):
                d_row[j] = flushed(d_row[j] * scale[i])


LOSSES["softmax_cross_entropy"] = softmax_cross_entropy = Loss(
    "softmax_cross_entropy",
    "-sum_j t_j log softmax(z)_j, from logits; labels may be integers: sum over classes, mean over the batch, as "
    "PyTorch's CrossEntropyLoss and Keras's CategoricalCrossentropy(from_logits=True); Keras's default takes p.",
    softmax_cross_entropy_dense,
    softmax_cross_entropy_labels,
    link="softmax",
    valid_targets=(0.0, 1.0),
)
