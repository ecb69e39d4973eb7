"""Embedding: a trained vector for each token."""

import dataclasses

import numpy as np
from numba import prange

from nbbp import checks
from nbbp.engine.layer import Layer, Parameter, Spec
from nbbp.initializers import INITIALIZERS, Initializer, named
from nbbp.kernels.arguments import below
from nbbp.kernels.batches import clear
from nbbp.kernels.jit import device, kernel
from nbbp.layers.flatten import Flatten
from nbbp.layers.rescale import Rescale

STRIP = 32  # columns of the table's gradient that one thread adds up


@device
def _place(token, tokens):
    """The row of the table, clipped to its range."""
    return min(max(np.int64(token), 0), tokens - 1)


def look_up_reference(y, x, table):
    y[:] = table[np.clip(x.astype(np.int64), 0, len(table) - 1)]


@kernel(look_up_reference, "(e,d) (e) (N,d)", cycles=0.5, values={"x": below("N")})
def look_up(y, x, table):
    """The rows of y are those of the table whose indices are in x."""
    for i in prange(x.shape[0]):
        row, entry = y[i], table[_place(x[i], table.shape[0])]
        for j in range(row.shape[0]):
            row[j] = entry[j]


def add_looked_up_reference(dtable, dy, x):
    np.add.at(dtable, np.clip(x.astype(np.int64), 0, len(dtable) - 1), dy)


@kernel(add_looked_up_reference, "(N,d) (e,d) (e)", cycles=0.5, values={"x": below("N")})
def add_looked_up(dtable, dy, x):
    """Each row of dtable += the rows of dy whose index in x it has, in their order."""
    d = dtable.shape[1]
    for q in prange((d + STRIP - 1) // STRIP):
        begin, end = q * STRIP, min(d, (q + 1) * STRIP)
        for i in range(x.shape[0]):
            entry, row = dtable[_place(x[i], dtable.shape[0])][begin:end], dy[i][begin:end]
            for j in range(row.shape[0]):
                entry[j] += row[j]


@dataclasses.dataclass(frozen=True)
class Embedding(Layer):
    """A trained vector for each token: y = table[x], with x (*positions) and y (*positions, dimension).

    Tokens are integers from 0 to tokens - 1. A `Sequential` that begins with it takes X as int32; in a graph, its input
    is ``nbbp.Input(positions, dtype="int32")``. If it is the first layer, a token beyond the table or below 0 is an
    error in `fit` and `predict`. Masked positions are of token 0, and add nothing to its gradient.

    The gradient of a vector is the sum over the positions of its token, in their order. An update changes all vectors,
    as with dense gradients in Keras and PyTorch: with momentum or weight decay also those that no row has.

    Parameters
    ----------
    tokens : int
        The number of tokens: Keras's input_dim, PyTorch's num_embeddings.
    dimension : int
        The length of each vector: Keras's output_dim, PyTorch's embedding_dim.
    initializer : str or callable
        The initial values of the table (tokens, dimension): one of `nbbp.INITIALIZERS`, or a function of (shape,
        generator). The default is Keras's, uniform from -0.05 to 0.05; PyTorch's is ``nbbp.initializers.normal(1)``.
    """

    tokens: int
    dimension: int
    initializer: str | Initializer = "uniform"

    reads = ("x",)
    takes_integers = True

    def __post_init__(self) -> None:
        for name in ("tokens", "dimension"):
            object.__setattr__(self, name, checks.positive_integer(f"Embedding: {name}", getattr(self, name)))
        if not callable(self.initializer):
            checks.choose("initializer", self.initializer, INITIALIZERS)

    @classmethod
    def example(cls, x):
        return Flatten()(cls(5, 3)(Rescale(4.0, 2.0)(x)))

    def spec(self, shape):
        initializer = named(self.initializer)
        return Spec((*shape, self.dimension), {"table": Parameter((self.tokens, self.dimension), initializer)})

    def input_dtype(self, dtype):
        return "int32"

    def check_input(self, name, x):
        wrong = (x < 0) | (x >= self.tokens)
        if x.dtype.kind == "f":
            wrong |= x != np.floor(x)
        if wrong.any():
            row, *position = (int(i) for i in np.argwhere(wrong)[0])
            raise ValueError(
                f"{name}: tokens must be whole numbers from 0 to {self.tokens - 1}; got {x[row, *position]:g} in row "
                f"{row}, position {', '.join(map(str, position))}"
            )

    def forward(self, b):
        b.call(look_up, b.y.reshape(-1, self.dimension), b.x.reshape(-1), b.p.table)

    def backward(self, b):
        b.call(clear, b.g.table.reshape(-1))
        b.call(add_looked_up, b.g.table, b.dy.reshape(-1, self.dimension), b.x.reshape(-1))
        if b.dx is not None:  # of floats
            b.call(clear, b.dx.reshape(-1))
