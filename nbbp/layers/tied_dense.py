"""TiedDense: scores of tokens, by the vectors of an Embedding."""

import dataclasses

from nbbp.engine.layer import Layer, Spec
from nbbp.layers.embedding import Embedding
from nbbp.layers.flatten import Flatten
from nbbp.layers.products import product, product_with_rows, product_with_transposed
from nbbp.layers.rescale import Rescale


@dataclasses.dataclass(frozen=True)
class TiedDense(Layer):
    """y = x . table^T: a score for each token, by the table of an Embedding of the same network.

    The network has one table, that of the Embedding, whose gradient is the sum of both layers'. Press and Wolf, "Using
    the output embedding to improve language models", 2017; in PyTorch ``head.weight = embedding.weight``.

    Parameters
    ----------
    embedding : Embedding
        The layer itself, which comes before in the network; x (*positions, dimension) has its dimension.

    Examples
    --------
    >>> import nbbp
    >>> tokens = nbbp.Embedding(65, 32)
    >>> model = nbbp.Sequential([tokens, nbbp.Dense(32, "tanh"), nbbp.TiedDense(tokens)], "softmax_cross_entropy")
    >>> model.build(12)
    >>> list(model.named_params())
    ['embedding_0.table', 'dense_0.w', 'dense_0.b']
    """

    embedding: Embedding

    reads = ("x",)

    def __post_init__(self) -> None:
        if not isinstance(self.embedding, Embedding):
            raise TypeError(f"TiedDense takes an Embedding of the same network, got {self.embedding!r}")

    @property
    def owner(self):
        return self.embedding

    @classmethod
    def example(cls, x):
        embedding = Embedding(5, 3)
        return Flatten()(cls(embedding)(embedding(Rescale(4.0, 2.0)(x))))

    def spec(self, shape):
        dimension = self.embedding.dimension
        if shape[-1:] != (dimension,):
            raise ValueError(f"TiedDense takes vectors of its Embedding's dimension {dimension}, got {shape}")
        return Spec((*shape[:-1], self.embedding.tokens), self.embedding.spec(()).parameters)

    def forward(self, b):
        x, y = (array.reshape(-1, array.shape[-1]) for array in (b.x, b.y))
        product_with_transposed(b, y, x, b.p.table)

    def backward(self, b):
        x, dy = (array.reshape(-1, array.shape[-1]) for array in (b.x, b.dy))
        product_with_rows(b, b.g.table, b.buffer(x.shape[1]), dy, x)
        if b.dx is not None:
            product(b, b.dx.reshape(x.shape), dy, b.p.table, b.buffer(x.shape[1]))
