"""Kernels for the elements of a mini-batch that are masked, by arrays or by the lengths of rows."""

import numpy as np
from numba import prange

from nbbp.kernels.arguments import below, doubles, flags, up_to
from nbbp.kernels.jit import kernel


def count_unmasked_reference(count, scale, masks, order, clock):
    first = clock["row"][0]
    count[0] = masks[order[first : first + len(scale)]].sum()


@kernel(
    count_unmasked_reference,
    "(1) (b,p) (R,p) (S) (1)",
    cycles=1.0,
    values={"count": doubles, "masks": flags, "order": below("R")},
)
def count_unmasked(count, scale, masks, order, clock):
    """count = the number of the mini-batch's elements, those of `scale`, that are not masked."""
    found = 0
    for i in range(scale.shape[0]):
        mask = masks[order[clock[0].row + i]]
        for j in range(mask.shape[0]):
            found += mask[j]
    count[0] = found


def gather_ends_reference(mask, ends, order, clock):
    rows = order[clock["row"][0] : clock["row"][0] + len(mask)]
    mask[:] = np.arange(mask.shape[1]) < ends[rows, np.newaxis]


@kernel(
    gather_ends_reference,
    "(b,p) (R) (S) (1)",
    cycles=1.0,
    values={"mask": flags, "ends": up_to("p"), "order": below("R")},
)
def gather_ends(mask, ends, order, clock):
    """Make the masks of the mini-batch's rows: True before the end of each row."""
    for i in range(mask.shape[0]):
        row, end = mask[i], ends[order[clock[0].row + i]]
        for j in range(row.shape[0]):
            row[j] = j < end


def count_before_ends_reference(count, scale, ends, order, clock):
    first = clock["row"][0]
    count[0] = ends[order[first : first + len(scale)]].sum()


@kernel(
    count_before_ends_reference,
    "(1) (b,p) (R) (S) (1)",
    cycles=1.0,
    values={"count": doubles, "ends": up_to("p"), "order": below("R")},
)
def count_before_ends(count, scale, ends, order, clock):
    """count = the number of the mini-batch's elements, those of `scale`, before the ends of rows."""
    found = 0
    for i in range(scale.shape[0]):
        found += ends[order[clock[0].row + i]]
    count[0] = found


def share_of_count_reference(share, whole, count):
    share[0] = whole[0] / max(count[0], 1)


@kernel(share_of_count_reference, "(1) (1) (1)", cycles=1.0, values={"count": doubles})
def share_of_count(share, whole, count):
    """share = whole / count, of an empty mini-batch as of one element."""
    share[0] = whole[0] / max(count[0], 1.0)


def clear_masked_reference(x, mask):
    x[~mask] = 0


@kernel(clear_masked_reference, "(e,c) (e)", cycles=0.5, values={"mask": flags})
def clear_masked(x, mask):
    """Set the masked rows of x to 0."""
    for i in prange(x.shape[0]):
        if not mask[i]:
            row = x[i]
            for j in range(row.shape[0]):
                row[j] = 0
