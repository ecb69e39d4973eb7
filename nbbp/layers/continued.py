"""Layers of one position of a sequence, which continue from those before: what `nbbp.recipes.generate` puts in place.

Each is called on the position's features and on its number (1,), the same in all rows.
"""

import dataclasses

import numpy as np

from nbbp.engine.layer import Layer, Parameter, Spec
from nbbp.initializers import zeros
from nbbp.kernels.arguments import below, fitting
from nbbp.kernels.attention import attend, memory_of_thread, places_of_thread
from nbbp.kernels.batches import copy
from nbbp.kernels.jit import kernel
from nbbp.layers.attention import Attention
from nbbp.layers.embedding import look_up
from nbbp.layers.positional_embedding import add_to_rows, sinusoids
from nbbp.layers.rotary_positions import turn


def put_position_reference(cache, x, first, position):
    cache[np.arange(len(cache)), position] = x[:, first[0] : first[0] + cache.shape[2]]


@kernel(
    put_position_reference, "(b,s,n) (b,A) (1) (b)", cycles=1e-3,
    values={"first": fitting("n", "A"), "position": below("s")}, lengths={"A": lambda n: (n, 2 * n, 3 * n)},
)  # fmt: skip
def put_position(cache, x, first, position):
    """One position of each row of the cache is columns first[0] ... of x."""
    for i in range(cache.shape[0]):
        entry, source = cache[i, position[i]], x[i]
        for j in range(entry.shape[0]):
            entry[j] = source[first[0] + j]


@dataclasses.dataclass(frozen=True)
class ContinuedAttention(Layer):
    """Causal attention of one query to its own key and those before, which it carries with their values."""

    heads: int
    length: int

    takes_integers = True

    def spec(self, *shapes):
        return Attention(self.heads).spec(*shapes[:-1])

    def forward(self, b):
        features = b.y.shape[2]
        first, q, k, v = Attention.parts(features, [entry.array for entry in b.inputs[:-1]])
        position = b.inputs[-1].array.reshape(-1)
        caches = [b.carry(name, self.length, features) for name in ("keys", "values")]
        for cache, x, begin in zip(caches, (k, v), first[1:], strict=True):
            b.call(put_position, cache, x.reshape(b.rows, -1), np.array([begin]), position)
        there = b.buffer(b.rows, self.length, dtype=bool)
        b.call(look_up, there, position, np.tri(self.length, dtype=bool))
        d = features // self.heads
        b.call(
            attend, b.y.reshape(b.rows, 1, self.heads, d), b.buffer(b.rows, self.heads, 2, 1), q, *caches,
            np.array([first[0], 0, 0]), np.ones((b.rows, 1), bool), there, np.array([False]), np.zeros(3, np.uint64),
            b.clock, b.scratch(memory_of_thread(self.length, d)),
            b.scratch(places_of_thread(1, self.length), dtype=np.int64),
        )  # fmt: skip


@dataclasses.dataclass(frozen=True)
class ContinuedEmbedding(Layer):
    """A `PositionalEmbedding` at one position."""

    kind: str
    length: int

    takes_integers = True

    def spec(self, shape, _):
        parameters = {"table": Parameter((self.length, shape[-1]), zeros)} if self.kind == "learned" else {}
        return Spec(shape, parameters)

    def forward(self, b):
        features, position = b.x.shape[2], b.inputs[1].array.reshape(-1)
        table = b.p.table if self.kind == "learned" else sinusoids(self.length, features).astype(b.x.dtype)
        row = b.buffer(1, features)
        b.call(look_up, row, position[:1], table)
        b.call(add_to_rows, b.y.reshape(b.rows, -1), b.x.reshape(b.rows, -1), row.reshape(-1))


@dataclasses.dataclass(frozen=True)
class ContinuedRotation(Layer):
    """A `RotaryPositions` at one position."""

    dimension: int
    columns: int | None
    base: float
    length: int

    takes_integers = True

    def spec(self, shape, _):
        return Spec(shape)

    def forward(self, b):
        features, position = b.x.shape[2], b.inputs[1].array.reshape(-1)
        columns = features if self.columns is None else self.columns
        b.call(copy, b.y.reshape(-1), b.x.reshape(-1))
        angles = np.arange(self.length)[:, np.newaxis] * self.base ** -(
            np.arange(0, self.dimension, 2) / self.dimension
        )
        parts = b.buffer(1, self.dimension // 2), b.buffer(1, self.dimension // 2)
        for part, table in zip(parts, (np.cos(angles), np.sin(angles)), strict=True):
            b.call(look_up, part, position[:1], table.astype(b.x.dtype))
        vectors = b.y.reshape(b.rows, 1, features // self.dimension, self.dimension)
        b.call(turn, vectors, *parts, np.array([columns // self.dimension]))
