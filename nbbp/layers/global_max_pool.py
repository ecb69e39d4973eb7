"""GlobalMaxPool: the largest element over all positions."""

import dataclasses

import numpy as np
from numba import prange

from nbbp.engine.layer import Layer, Spec
from nbbp.kernels.arguments import flags
from nbbp.kernels.jit import kernel
from nbbp.kernels.vector_math import ZERO
from nbbp.layers.flatten import Flatten
from nbbp.layers.pooling import channels_of, there
from nbbp.layers.reshape import Reshape


def maximum_over_positions_reference(y, winner, x, mask):
    for b in range(len(x)):
        places = np.flatnonzero(mask[b])
        y[b], winner[b] = 0, -1
        if len(places):
            winner[b] = places[x[b, places].argmax(axis=0)]
            y[b] = np.take_along_axis(x[b], winner[b][np.newaxis], axis=0)[0]


def _winners(rng, shape, dtype, lengths):
    return rng.integers(-1, lengths["p"], shape, np.int32)


@kernel(
    maximum_over_positions_reference,
    "(b,c) (b,c) (b,p,c) (b,p)",
    cycles=0.5,
    values={"winner": _winners, "mask": flags},
)
def maximum_over_positions(y, winner, x, mask):
    """y = the largest element over the positions that are not masked, NaN before any number, else 0.

    `winner` is the first such position, -1 if there is none.
    """
    for b in prange(x.shape[0]):
        best, where = y[b], winner[b]
        for k in range(best.shape[0]):
            best[k], where[k] = ZERO(best[k]), -1
        begun = False
        for p in range(x.shape[1]):
            if mask[b, p]:
                row, place, first = x[b, p], np.int32(p), not begun
                for k in range(row.shape[0]):
                    old, new = best[k], row[k]
                    wins = first | (new > old) | ((new != new) & (old == old))
                    best[k], where[k] = new if wins else old, place if wins else where[k]
                begun = True


def maximum_over_positions_backward_reference(dx, dy, winner):
    dx[:] = np.where(winner[:, np.newaxis] == np.arange(dx.shape[1])[:, np.newaxis], dy[:, np.newaxis], 0)


@kernel(maximum_over_positions_backward_reference, "(b,p,c) (b,c) (b,c)", cycles=0.3, values={"winner": _winners})
def maximum_over_positions_backward(dx, dy, winner):
    """dx = dy at the winner, 0 elsewhere."""
    for b in prange(dx.shape[0]):
        slope, where = dy[b], winner[b]
        for p in range(dx.shape[1]):
            row, place = dx[b, p], np.int32(p)
            for k in range(row.shape[0]):
                row[k] = slope[k] if where[k] == place else ZERO(slope[k])


@dataclasses.dataclass(frozen=True)
class GlobalMaxPool(Layer):
    """The largest element over all positions, channel by channel.

    Samples are (*positions, channels), with any number of axes of positions, outputs (channels,). Masked positions do
    not count; if all are, the output is 0. The gradient goes to the first of several largest elements, and NaN counts
    as larger than any number.
    """

    reads = ()

    @classmethod
    def example(cls, x):
        return Flatten()(cls()(Reshape((-1, 1))(x)))

    def spec(self, shape):
        return Spec(channels_of("GlobalMaxPool", shape))

    def forward(self, b):
        x = b.x.reshape(b.rows, -1, b.x.shape[-1])
        b.winner = b.buffer(*b.y.shape, dtype=np.int32)
        b.call(maximum_over_positions, b.y, b.winner, x, there(b))

    def backward(self, b):
        dx = b.dx.reshape(b.rows, -1, b.dx.shape[-1])
        b.call(maximum_over_positions_backward, dx, b.dy, b.winner)
