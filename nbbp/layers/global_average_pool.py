"""GlobalAveragePool: the mean over all positions."""

import dataclasses

import numpy as np
from numba import prange, types

from nbbp.engine.layer import Layer, Spec
from nbbp.kernels.arguments import flags
from nbbp.kernels.jit import device, kernel
from nbbp.kernels.pointers import at, on_stack
from nbbp.kernels.vector_math import ZERO
from nbbp.layers.flatten import Flatten
from nbbp.layers.pooling import channels_of, there
from nbbp.layers.reshape import Reshape

STRIP = 256  # channels that are summed at a time

_totals_of_strip = on_stack(STRIP, types.float64)


@device
def _count(mask):
    """The number of positions that are not masked, at least 1."""
    count = 0
    for p in range(mask.shape[0]):
        count += mask[p]
    return max(count, 1)


def mean_over_positions_reference(y, x, mask):
    there = mask[:, :, np.newaxis]
    count = np.maximum(there.sum(axis=1), 1)
    y[:] = x.sum(axis=1, where=there, dtype=np.float64) / count


@kernel(mean_over_positions_reference, "(b,c) (b,p,c) (b,p)", cycles=0.5, values={"mask": flags})
def mean_over_positions(y, x, mask):
    """y = the mean, of a sum in float64, over the positions that are not masked; 0 if all are."""
    for b in prange(x.shape[0]):
        count = np.float64(_count(mask[b]))
        for begin in range(0, y.shape[1], STRIP):
            totals, width = _totals_of_strip(at(y, 0)), min(STRIP, y.shape[1] - begin)
            for k in range(width):
                totals[k] = 0.0
            for p in range(x.shape[1]):
                if mask[b, p]:
                    row = x[b, p, begin : begin + width]
                    for k in range(width):
                        totals[k] += np.float64(row[k])
            for k in range(width):
                y[b, begin + k] = totals[k] / count


def mean_over_positions_backward_reference(dx, dy, mask):
    count = np.maximum(mask.sum(axis=1), 1)
    dx[:] = np.where(mask[:, :, np.newaxis], (dy / count[:, np.newaxis])[:, np.newaxis], 0)


@kernel(mean_over_positions_backward_reference, "(b,p,c) (b,c) (b,p)", cycles=0.3, values={"mask": flags})
def mean_over_positions_backward(dx, dy, mask):
    """dx = dy / the number of positions that are not masked, 0 at the others."""
    for b in prange(dx.shape[0]):
        slope, count = dy[b], type(dy[b, 0])(_count(mask[b]))
        for p in range(dx.shape[1]):
            row = dx[b, p]
            if mask[b, p]:
                for k in range(row.shape[0]):
                    row[k] = slope[k] / count
            else:
                for k in range(row.shape[0]):
                    row[k] = ZERO(row[k])


@dataclasses.dataclass(frozen=True)
class GlobalAveragePool(Layer):
    """The mean over all positions, channel by channel.

    Samples are (*positions, channels), with any number of axes of positions, outputs (channels,). Masked positions do
    not count; if all are, the output is 0. The sum is in float64.
    """

    reads = ()

    @classmethod
    def example(cls, x):
        return Flatten()(cls()(Reshape((-1, 1))(x)))

    def spec(self, shape):
        return Spec(channels_of("GlobalAveragePool", shape))

    def forward(self, b):
        b.there = there(b)
        b.call(mean_over_positions, b.y, b.x.reshape(b.rows, -1, b.x.shape[-1]), b.there)

    def backward(self, b):
        b.call(mean_over_positions_backward, b.dx.reshape(b.rows, -1, b.dx.shape[-1]), b.dy, b.there)
