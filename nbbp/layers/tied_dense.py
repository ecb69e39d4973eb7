"""TiedDense: scores of tokens, by the vectors of an Embedding."""

import dataclasses

from nbbp.engine.layer import Layer, Spec
from nbbp.kernels import packed_gemm
from nbbp.kernels.gemm import affine, product_of_transposed, transpose
from nbbp.layers.embedding import Embedding
from nbbp.layers.flatten import Flatten
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
        (rows, n_in), n_out = x.shape, y.shape[1]
        if packed_gemm.worthwhile(rows, n_out, n_in, x.dtype):
            scratch = packed_gemm.scratch(rows, n_in, x.dtype)
            b.call(packed_gemm.product_with_transposed_packed, y, x, b.p.table, *scratch)
        else:
            b.call(affine, y, x, b.derived(transpose, (n_in, n_out), b.p.table), b.buffer(n_out))

    def backward(self, b):
        x, dy = (array.reshape(-1, array.shape[-1]) for array in (b.x, b.dy))
        (rows, n_in), n_out = x.shape, dy.shape[1]
        if packed_gemm.worthwhile(n_out, n_in, rows, x.dtype):
            scratch = packed_gemm.scratch(n_out, rows, x.dtype)
            b.call(packed_gemm.product_of_transposed_packed, b.g.table, dy, x, *scratch)
        else:
            b.call(product_of_transposed, b.g.table, b.buffer(n_in), dy, x)
        if b.dx is None:
            return
        dx, bias = b.dx.reshape(-1, n_in), b.buffer(n_in)
        if packed_gemm.worthwhile(rows, n_in, n_out, x.dtype):
            scratch = packed_gemm.scratch(rows, n_out, x.dtype)
            b.call(packed_gemm.affine_packed, dx, dy, b.p.table, bias, *scratch)
        else:
            b.call(affine, dx, dy, b.p.table, bias)
