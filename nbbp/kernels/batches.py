"""Kernels that move rows into a mini-batch, out of it, and between arrays, and that record a step's loss."""

import numpy as np
from numba import prange

from nbbp.kernels.arguments import below, fitting
from nbbp.kernels.denormals import copy_flushed, flushed
from nbbp.kernels.jit import kernel
from nbbp.kernels.pointers import at, prefetch


def gather_reference(x, data, target, targets, order, clock):
    rows = order[clock["row"][0] : clock["row"][0] + len(x)]
    x[:], target[:] = data[rows], targets[rows]


@kernel(gather_reference, "(b,n) (R,n) (b,c) (R,c) (S) (1)", cycles=1.0, values={"order": below("R")})
def gather(x, data, target, targets, order, clock):
    """Gather the mini-batch's rows of `data` and `targets`, whose indices are in `order` from clock[0].row on."""
    last, n, c = x.shape[0] - 1, x.shape[1], target.shape[1]
    for i in prange(x.shape[0]):
        ahead, k = order[clock[0].row + min(i + 16, last)], order[clock[0].row + i]
        prefetch(at(data, ahead * n))
        prefetch(at(targets, ahead * c))
        copy_flushed(at(x, i * n), at(data, k * n), n)
        if c == 1:
            target[i, 0] = targets[k, 0]
        else:
            t_row, targets_row = target[i], targets[k]
            for j in range(c):
                t_row[j] = targets_row[j]


def gather_rows_reference(x, data, order, clock):
    x[:] = data[order[clock["row"][0] : clock["row"][0] + len(x)]]


@kernel(gather_rows_reference, "(b,n) (R,n) (S) (1)", cycles=1.0, values={"order": below("R")})
def gather_rows(x, data, order, clock):
    """Gather the mini-batch's rows of `data`, of any dtype, whose indices are in `order` from clock[0].row on."""
    for i in prange(x.shape[0]):
        row, source = x[i], data[order[clock[0].row + i]]
        for j in range(row.shape[0]):
            row[j] = source[j]


def _rows_of_ragged(rng, shape, dtype, lengths):
    """Offsets of rows, of at most p values each."""
    each = rng.integers(0, lengths["p"] + 1, shape[0] - 1)
    return np.minimum(np.cumsum([0, *each]), lengths["V"])


def gather_ragged_reference(x, values, offsets, order, clock):
    x[:] = 0
    for row, k in zip(x, order[clock["row"][0] : clock["row"][0] + len(x)], strict=True):
        row[: offsets[k + 1] - offsets[k]] = values[offsets[k] : offsets[k + 1]]


@kernel(
    gather_ragged_reference,
    "(b,p,n) (V,n) (O) (S) (1)",
    cycles=1.0,
    values={"offsets": _rows_of_ragged, "order": lambda rng, shape, dtype, n: rng.integers(0, n["O"] - 1, shape)},
)
def gather_ragged(x, values, offsets, order, clock):
    """Gather the mini-batch's rows, whose indices are in `order` from clock[0].row on, and pad them with 0.

    Row k has the values from offsets[k] to offsets[k + 1], at most p.
    """
    for i in prange(x.shape[0]):
        k = order[clock[0].row + i]
        row, source = x[i].reshape(-1), values[offsets[k] : offsets[k + 1]].reshape(-1)
        for j in range(source.shape[0]):
            row[j] = flushed(source[j])
        for j in range(source.shape[0], row.shape[0]):
            row[j] = 0


def gather_windows_reference(x, values, starts, order, clock):
    rows = order[clock["row"][0] : clock["row"][0] + len(x)]
    x[:] = np.lib.stride_tricks.sliding_window_view(values, x.shape[1])[starts[rows]]


@kernel(
    gather_windows_reference,
    "(b,n) (V) (R) (S) (1)",
    cycles=1.0,
    values={"starts": fitting("n", "V"), "order": below("R")},
)
def gather_windows(x, values, starts, order, clock):
    """Gather the mini-batch's windows of `values`, of any dtype, which begin at `starts` and may overlap."""
    last = x.shape[0] - 1
    for i in prange(x.shape[0]):
        prefetch(at(values, starts[order[clock[0].row + min(i + 16, last)]]))
        begin = starts[order[clock[0].row + i]]
        row, source = x[i], values[begin : begin + x.shape[1]]
        for j in range(row.shape[0]):
            row[j] = flushed(source[j])


def repeat_reference(y, x):
    y[:] = x[:, np.newaxis]


@kernel(repeat_reference, "(b,k,c) (b,c)", cycles=0.3)
def repeat(y, x):
    """The row of x at each of k places."""
    for i in prange(x.shape[0]):
        for m in range(y.shape[1]):
            for j in range(x.shape[1]):
                y[i, m, j] = x[i, j]


def weigh_reference(scale, weights, share, order, clock):
    rows = order[clock["row"][0] : clock["row"][0] + len(scale)]
    scale[:] = weights[rows] * share[0]


@kernel(
    weigh_reference,
    "(b,p) (R,Q) (1) (S) (1)",
    cycles=1.0,
    values={"order": below("R")},
    lengths={"Q": lambda p: (1, p)},
)
def weigh(scale, weights, share, order, clock):
    """scale = the weight of each element, or of its row if weights have one column, times `share`."""
    for i in range(scale.shape[0]):
        own = weights[order[clock[0].row + i]]
        for j in range(scale.shape[1]):
            scale[i, j] = own[min(j, own.shape[0] - 1)] * share[0]


def clear_reference(x):
    x[:] = 0


@kernel(clear_reference, "(n)", cycles=0.2, elementwise=True)
def clear(x):
    """x = 0."""
    for i in range(x.shape[0]):
        x[i] = 0


def clear_after_epoch_reference(x, clock):
    if clock["batch"][0] + 1 == clock["batches"][0]:
        x[:] = 0


@kernel(clear_after_epoch_reference, "(n) (1)", cycles=0.1)
def clear_after_epoch(x, clock):
    """x = 0 in the last step of an epoch."""
    if clock[0].batch + 1 == clock[0].batches:
        for i in range(x.shape[0]):
            x[i] = 0


def copy_reference(y, x):
    y[:] = x


@kernel(copy_reference, "(n) (n)", cycles=0.2, elementwise=True)
def copy(y, x):
    """y = x."""
    for i in range(y.shape[0]):
        y[i] = x[i]


def multiply_by_reference(x, factor):
    x *= factor


@kernel(multiply_by_reference, "(n) (1)", cycles=0.2, elementwise=True)
def multiply_by(x, factor):
    """x *= factor."""
    for i in range(x.shape[0]):
        x[i] *= factor[0]


def put_beside_reference(y, x, begin):
    y[:, begin[0] : begin[0] + x.shape[1]] = x


@kernel(put_beside_reference, "(b,N) (b,m) (1)", cycles=0.5, values={"begin": fitting("m", "N")})
def put_beside(y, x, begin):
    """Columns begin[0] ... of y are x."""
    for i in prange(x.shape[0]):
        row, source = y[i], x[i]
        for j in range(source.shape[0]):
            row[begin[0] + j] = source[j]


def take_from_reference(x, y, begin):
    x[:] = y[:, begin[0] : begin[0] + x.shape[1]]


@kernel(take_from_reference, "(b,m) (b,N) (1)", cycles=0.5, values={"begin": fitting("m", "N")})
def take_from(x, y, begin):
    """x is columns begin[0] ... of y."""
    for i in prange(x.shape[0]):
        row, source = x[i], y[i]
        for j in range(row.shape[0]):
            row[j] = source[begin[0] + j]


def add_reference(y, a, b):
    np.add(a, b, out=y)


@kernel(add_reference, "(n) (n) (n)", cycles=0.3, elementwise=True)
def add(y, a, b):
    """y = a + b."""
    for i in range(y.shape[0]):
        y[i] = a[i] + b[i]


def accumulate_reference(y, x):
    y += x


@kernel(accumulate_reference, "(n) (n)", cycles=0.2, elementwise=True)
def accumulate(y, x):
    """y += x."""
    for i in range(y.shape[0]):
        y[i] += x[i]


def read_rows_reference(batch, record, clock):
    batch[:] = record[clock["row"][0] : clock["row"][0] + len(batch)]


@kernel(read_rows_reference, "(b,n) (R,n) (1)", cycles=0.3)
def read_rows(batch, record, clock):
    """Copy the rows of `record` from clock[0].row on."""
    for i in prange(batch.shape[0]):
        row, source = batch[i], record[clock[0].row + i]
        for j in range(row.shape[0]):
            row[j] = flushed(source[j])


def record_rows_reference(record, batch, clock):
    record[clock["row"][0] : clock["row"][0] + len(batch)] = batch


@kernel(record_rows_reference, "(R,n) (b,n) (1)", cycles=0.3)
def record_rows(record, batch, clock):
    """Store the mini-batch's rows in `record`, in the order of training."""
    for i in range(batch.shape[0]):
        row, source = record[clock[0].row + i], batch[i]
        for j in range(row.shape[0]):
            row[j] = source[j]


def take_row_reference(row, table, clock):
    row[:] = table[clock["step"][0]]


@kernel(take_row_reference, "(k) (S,k) (1)", cycles=0)
def take_row(row, table, clock):
    """Copy this step's row of a table that has one for every step."""
    for j in range(row.shape[0]):
        row[j] = table[clock[0].step, j]


def record_loss_reference(step_loss, row_loss, scale, penalty, clock):
    step_loss[clock["step"][0]] = np.sum(row_loss.astype(np.float64) * scale) + penalty[0]
    penalty[0] = 0
    if not np.isfinite(step_loss[clock["step"][0]]):
        clock["stop"] = 1


@kernel(record_loss_reference, "(S) (b) (b) (1) (1)", cycles=0)
def record_loss(step_loss, row_loss, scale, penalty, clock):
    """Record the mini-batch's loss: rows times their scale, summed in float64, plus the penalty, then set to 0.

    A loss that is not finite stops the run.
    """
    total = 0.0
    for i in range(row_loss.shape[0]):
        total += np.float64(row_loss[i]) * np.float64(scale[i])
    total += penalty[0]
    penalty[0] = 0
    step_loss[clock[0].step] = total
    if not np.isfinite(total):
        clock[0].stop = 1


def record_part_reference(part_loss, row_loss, scale, weight, clock):
    part_loss[clock["step"][0]] = np.sum(row_loss.astype(np.float64) * scale) / weight[0]


@kernel(record_part_reference, "(S) (b) (b) (1) (1)", cycles=0)
def record_part(part_loss, row_loss, scale, weight, clock):
    """Record the mini-batch's loss at one of several outputs, without its weight, which `scale` includes."""
    total = 0.0
    for i in range(row_loss.shape[0]):
        total += np.float64(row_loss[i]) * np.float64(scale[i])
    part_loss[clock[0].step] = total / np.float64(weight[0])


def record_total_reference(step_loss, part_losses, weights, penalty, clock):
    step = clock["step"][0]
    step_loss[step] = np.sum(part_losses[:, step] * weights) + penalty[0]
    penalty[0] = 0
    if not np.isfinite(step_loss[step]):
        clock["stop"] = 1


@kernel(record_total_reference, "(S) (K,S) (K) (1) (1)", cycles=0)
def record_total(step_loss, part_losses, weights, penalty, clock):
    """Record the mini-batch's loss: those of the outputs times their weights, plus the penalty, then set to 0.

    A loss that is not finite stops the run.
    """
    total, step = 0.0, clock[0].step
    for k in range(part_losses.shape[0]):
        total += part_losses[k, step] * np.float64(weights[k])
    total += penalty[0]
    penalty[0] = 0
    step_loss[step] = total
    if not np.isfinite(total):
        clock[0].stop = 1
