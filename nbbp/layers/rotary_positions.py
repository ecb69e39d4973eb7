"""RotaryPositions: pairs of features turned by an angle that grows with the position."""

import dataclasses

import numpy as np
from numba import prange

from nbbp import checks
from nbbp.engine.layer import Layer, Spec
from nbbp.kernels.arguments import up_to
from nbbp.kernels.batches import copy
from nbbp.kernels.jit import kernel
from nbbp.layers.dense import Dense
from nbbp.layers.flatten import Flatten
from nbbp.layers.reshape import Reshape


def turn_reference(y, cosines, sines, count):
    turned = y[:, :, : count[0]]
    c, s = cosines[:, np.newaxis], sines[:, np.newaxis]
    even, odd = turned[..., 0::2].copy(), turned[..., 1::2].copy()
    turned[..., 0::2] = even * c - odd * s
    turned[..., 1::2] = even * s + odd * c


@kernel(
    turn_reference,
    "(b,t,K,w) (t,p) (t,p) (1)",
    values={"count": up_to("K")},
    lengths={"w": lambda p: 2 * p},
    cycles=0.5,
)  # fmt: skip
def turn(y, cosines, sines, count):
    """In the first count[0] vectors of each position, turn the pairs (y_0, y_1), (y_2, y_3), ... by their angles."""
    for i in prange(y.shape[0] * y.shape[1]):
        row, t = i // y.shape[1], i % y.shape[1]
        c, s = cosines[t], sines[t]
        for k in range(count[0]):
            vector = y[row, t, k]
            for p in range(c.shape[0]):
                even, odd = vector[2 * p], vector[2 * p + 1]
                vector[2 * p] = even * c[p] - odd * s[p]
                vector[2 * p + 1] = even * s[p] + odd * c[p]


@dataclasses.dataclass(frozen=True)
class RotaryPositions(Layer):
    """Queries or keys whose products depend on the distance of their positions, not on the positions themselves.

    The pair of features (2 i, 2 i + 1) of each head is turned by the angle position base^(-2 i / d), with d features of
    a head: Su et al., "RoFormer: enhanced transformer with rotary position embedding", 2021.

    Parameters
    ----------
    dimension : int
        The features d of a head, an even number.
    columns : int, optional
        The number of features that are turned, the others stay; by default all.
    base : float
    """

    dimension: int
    columns: int | None = None
    base: float = 10_000.0

    reads = ()

    def __post_init__(self) -> None:
        if checks.positive_integer("RotaryPositions: dimension", self.dimension) % 2:
            raise ValueError(f"RotaryPositions: dimension must be even, to be turned in pairs, got {self.dimension}")
        if self.columns is not None:
            checks.integer("RotaryPositions: columns", self.columns, least=0)
        checks.number("RotaryPositions: base", self.base, open_low=True)

    @classmethod
    def example(cls, x):
        vectors = Dense(6)(Reshape((-1, 1))(x))
        return Flatten()(cls(2, columns=4)(vectors))

    def spec(self, shape):
        turned = shape[-1] if self.columns is None else self.columns
        if len(shape) != 2 or shape[-1] % self.dimension or turned % self.dimension or turned > shape[-1]:
            raise ValueError(
                f"RotaryPositions takes samples (positions, features) and turns whole vectors of {self.dimension} "
                f"features; got {turned} columns of {shape}"
            )
        return Spec(shape, in_place=True)

    def forward(self, b):
        if not b.in_place:
            b.call(copy, b.y.reshape(-1), b.x.reshape(-1))
        self._turn(b, b.y, 1)

    def backward(self, b):
        """dx shares the memory of dy, which is turned back."""
        self._turn(b, b.dy, -1)

    def _turn(self, b, y, direction: int) -> None:
        t, features = y.shape[1:]
        turned = features if self.columns is None else self.columns
        rates = self.base ** -(np.arange(0, self.dimension, 2) / self.dimension)
        angles = np.arange(t)[:, np.newaxis] * rates
        cosines, sines = (part.astype(y.dtype) for part in (np.cos(angles), direction * np.sin(angles)))
        vectors = y.reshape(b.rows, t, features // self.dimension, self.dimension)
        b.call(turn, vectors, cosines, sines, np.array([turned // self.dimension]))
