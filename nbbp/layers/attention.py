"""Attention: each position's mean over the values of others, weighted by how well their keys fit its query."""

import dataclasses

import numpy as np

from nbbp import checks
from nbbp.engine.layer import Layer, Spec
from nbbp.kernels.attention import attend, attend_backward, memory_of_thread, places_of_thread
from nbbp.kernels.random import threshold_of
from nbbp.layers.flatten import Flatten
from nbbp.layers.reshape import Reshape


def head_features(name: str, features: int, heads: int) -> int:
    """The features of each head; ValueError, which says how many heads fit, if they do not divide."""
    if features % heads:
        fitting = [str(n) for n in range(1, features + 1) if features % n == 0]
        raise ValueError(
            f"{name}: {features} features cannot be shared by {heads} heads; heads may be {', '.join(fitting)}"
        )
    return features // heads


@dataclasses.dataclass(frozen=True)
class Attention(Layer):
    """softmax(q . k' / sqrt(d)) . v for each head, without parameters: the core of `MultiHeadAttention`.

    Vaswani et al., "Attention is all you need", 2017. Each head has d = features / heads features of the queries
    (positions, features), and of keys and values (other positions, features). The layer is called on three edges; on
    two, the second of which has keys and values side by side; or on one with all three side by side (positions, 3
    features). Keys that are masked are left out; a query that is masked, or that has no key, has the output 0.

    Parameters
    ----------
    heads : int
    causal : bool
        Whether a query leaves out the keys of later positions.
    dropout : float in [0, 1)
        The share of the weights that is dropped in training; the others are scaled up.
    """

    heads: int = 1
    causal: bool = False
    dropout: float = 0.0

    reads = ("x",)

    def __post_init__(self) -> None:
        object.__setattr__(self, "heads", checks.positive_integer("Attention: heads", self.heads))
        checks.boolean("Attention: causal", self.causal)
        checks.number("Attention: dropout", self.dropout, high=1.0)

    @classmethod
    def example(cls, x):
        x = Reshape((-1, 1))(x)
        return Flatten()(cls(causal=True, dropout=0.2)(x, x, x))

    def spec(self, *shapes):
        if len(shapes) > 3 or any(len(shape) != 2 for shape in shapes):
            raise ValueError(
                f"Attention takes one to three inputs (positions, features), got {', '.join(map(str, shapes))}"
            )
        features, parts = shapes[0][1], 4 - len(shapes)
        if len(shapes) == 1:
            features //= 3
        expected = [3 * features] if len(shapes) == 1 else [features, *[parts * features] * (len(shapes) - 1)]
        if [shape[1] for shape in shapes] != expected or shapes[-1][0] != shapes[len(shapes) // 2][0]:
            raise ValueError(
                f"Attention takes queries, keys and values of as many features, and as many keys as values; one input "
                f"has all three side by side, the second of two has keys and values; got {', '.join(map(str, shapes))}"
            )
        head_features("Attention", features, self.heads)
        return Spec((shapes[0][0], features))

    def forward(self, b):
        t, features = b.y.shape[1:]
        d, s = features // self.heads, b.inputs[-1].array.shape[1]
        first, q, k, v = self.parts(features, [entry.array for entry in b.inputs])
        query_mask, key_mask = b.inputs[0].mask, b.inputs[len(b.inputs) // 2].mask
        draw = np.zeros(3, np.uint64)
        if b.training and self.dropout:
            draw[:] = b.stream(), threshold_of(1 - self.dropout), b.first_row
        b.arguments = (
            q, k, v, first,
            np.ones((b.rows, t), bool) if query_mask is None else query_mask,
            np.ones((b.rows, s), bool) if key_mask is None else key_mask,
            np.array([self.causal]), draw, b.clock,
            b.scratch(memory_of_thread(s, d)), b.scratch(places_of_thread(t, s), dtype=np.int64),
        )  # fmt: skip
        b.statistics = b.buffer(b.rows, self.heads, 2, t)
        b.call(attend, b.y.reshape(b.rows, t, self.heads, d), b.statistics, *b.arguments)

    def backward(self, b):
        gradients = [b.buffer(*x.array.shape) if x.gradient is None else x.gradient for x in b.inputs]
        _, *of_parts = self.parts(b.y.shape[-1], gradients)
        dy = b.dy.reshape(b.rows, b.dy.shape[1], self.heads, -1)
        b.call(attend_backward, *of_parts, dy, b.statistics, *b.arguments)

    @staticmethod
    def parts(features: int, arrays: list[np.ndarray]) -> tuple[np.ndarray, ...]:
        """The columns at which queries, keys and values begin, and the arrays in which they are."""
        columns, places = {
            1: ((0, 1, 2), (0, 0, 0)), 2: ((0, 0, 1), (0, 1, 1)), 3: ((0, 0, 0), (0, 1, 2)),
        }[len(arrays)]  # fmt: skip
        return features * np.array(columns), *(arrays[place] for place in places)
