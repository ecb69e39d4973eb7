"""Compiled counts for metrics, which a bound program leaves for Python."""

import numpy as np

from nbbp.kernels.arguments import below
from nbbp.kernels.jit import kernel


def count_hits_reference(hits, prediction, labels, order):
    hits[0] = np.count_nonzero(prediction.argmax(axis=1) == labels[order, 0])


@kernel(
    count_hits_reference,
    "(1) (e,c) (R,1) (e)",
    cycles=1.0,
    values={"labels": below("c"), "order": below("R")},
)
def count_hits(hits, prediction, labels, order):
    """hits = number of rows whose largest element, the first among equals, is at their label; order indexes labels."""
    count = 0
    for i in range(prediction.shape[0]):
        row, best = prediction[i], 0
        for j in range(1, row.shape[0]):
            if row[j] > row[best] or (row[j] != row[j] and row[best] == row[best]):  # nan is the largest, as in NumPy
                best = j
        count += best == labels[order[i], 0]
    hits[0] = count
