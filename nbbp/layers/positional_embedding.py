"""PositionalEmbedding: a vector for each position, added to the input."""

import dataclasses

import numpy as np
from numba import prange

from nbbp import checks
from nbbp.engine.layer import Layer, Parameter, Spec
from nbbp.initializers import normal
from nbbp.kernels.jit import kernel
from nbbp.layers.flatten import Flatten
from nbbp.layers.reshape import Reshape

KINDS = {"learned": "trained vectors", "sinusoidal": "sines and cosines"}


def sinusoids(positions: int, features: int) -> np.ndarray:
    """sin(p / 10000^(2i / features)) in column 2i of row p, and the cosine in column 2i + 1."""
    angles = np.arange(positions)[:, np.newaxis] / 10000 ** (np.arange(0, features, 2) / features)
    table = np.empty((positions, features))
    table[:, 0::2], table[:, 1::2] = np.sin(angles), np.cos(angles[:, : features // 2])
    return table


def add_to_rows_reference(y, x, row):
    np.add(x, row, out=y)


@kernel(add_to_rows_reference, "(b,n) (b,n) (n)", cycles=0.3)
def add_to_rows(y, x, row):
    """y = x + row, where y may be x."""
    for i in prange(x.shape[0]):
        y_row, x_row = y[i], x[i]
        for j in range(row.shape[0]):
            y_row[j] = x_row[j] + row[j]


@dataclasses.dataclass(frozen=True)
class PositionalEmbedding(Layer):
    """y = x + table, where the table has a vector for each position; x and y are (positions, features).

    The table has the positions of the inputs for which the network is built: longer ones are refused, shorter ones are
    padded and masked.

    Parameters
    ----------
    kind : {"learned", "sinusoidal"}
        Trained vectors, which begin normal with standard deviation 0.02 as in GPT-2; or the constants of Vaswani et
        al., "Attention is all you need", 2017, section 3.5: sin(p / 10000^(2i / features)) and the cosine in turn.
    """

    kind: str = "learned"

    reads = ()

    def __post_init__(self) -> None:
        checks.choose("PositionalEmbedding: kind", self.kind, KINDS)

    @classmethod
    def example(cls, x):
        return Flatten()(cls("sinusoidal")(cls()(Reshape((-1, 1))(x))))

    def spec(self, shape):
        if len(shape) != 2:
            raise ValueError(f"PositionalEmbedding takes samples (positions, features), got {shape}")
        parameters = {"table": Parameter(shape, normal(0.02))} if self.kind == "learned" else {}
        return Spec(shape, parameters, in_place=True)

    def forward(self, b):
        table = b.p.table if self.kind == "learned" else sinusoids(*b.x.shape[1:]).astype(b.x.dtype)
        b.call(add_to_rows, b.y.reshape(b.rows, -1), b.x.reshape(b.rows, -1), table.reshape(-1))

    def backward(self, b):
        """The gradient of the input shares the memory of dy."""
        if self.kind == "learned":
            b.sum_rows(b.g.table.reshape(-1), b.dy.reshape(b.rows, -1))
