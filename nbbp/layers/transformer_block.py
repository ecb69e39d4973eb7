"""TransformerBlock: attention and two dense layers, each with a normalization and a skip connection."""

import dataclasses

from nbbp import checks
from nbbp.activations import ACTIVATIONS
from nbbp.engine.layer import Layer
from nbbp.engine.node import Scope, within
from nbbp.initializers import INITIALIZERS, Initializer
from nbbp.kernels.forks import cached_property
from nbbp.layers.add import Add
from nbbp.layers.dense import Dense
from nbbp.layers.dropout import Dropout
from nbbp.layers.flatten import Flatten
from nbbp.layers.layer_norm import LayerNorm
from nbbp.layers.multi_head_attention import MultiHeadAttention
from nbbp.layers.reshape import Reshape


@dataclasses.dataclass(frozen=True)
class TransformerBlock(Layer):
    """x = x + attention(norm(x)); y = x + dense(dense(norm(x))).

    The normalization comes first as in GPT-2 (Radford et al., "Language models are unsupervised multitask learners",
    2019), or behind the sums, norm(x + attention(x)), as in Vaswani et al., "Attention is all you need", 2017, and
    PyTorch's nn.TransformerEncoderLayer by default. Samples are (positions, features). It is a composite of
    `LayerNorm`, `MultiHeadAttention`, `Dense`, `Dropout` and `Add`.

    Parameters
    ----------
    heads : int
    hidden : int, optional
        The units of the first dense layer; by default 4 features.
    activation : str
        That of the first dense layer, one of `nbbp.ACTIVATIONS`.
    causal : bool
        Whether a position leaves out later ones.
    dropout : float in [0, 1)
        The share that is dropped in training of the attention weights, and of what is added to x.
    norm_first : bool
    rotary : bool
        Whether the attention turns queries and keys by their positions, see `RotaryPositions`.
    initializer : str or callable
        The initial values of all weights, see `Dense`.
    """

    heads: int
    hidden: int | None = None
    activation: str = "gelu"
    causal: bool = False
    dropout: float = 0.0
    norm_first: bool = True
    rotary: bool = False
    initializer: str | Initializer = "glorot_uniform"

    def __post_init__(self) -> None:
        object.__setattr__(self, "heads", checks.positive_integer("TransformerBlock: heads", self.heads))
        if self.hidden is not None:
            object.__setattr__(self, "hidden", checks.positive_integer("TransformerBlock: hidden", self.hidden))
        checks.choose("activation", self.activation, ACTIVATIONS)
        for field in ("causal", "norm_first", "rotary"):
            checks.boolean(f"TransformerBlock: {field}", getattr(self, field))
        checks.number("TransformerBlock: dropout", self.dropout, high=1.0)
        if not callable(self.initializer):
            checks.choose("initializer", self.initializer, INITIALIZERS)

    @classmethod
    def example(cls, x):
        x = Reshape((3, 4))(Dense(12)(x))
        return Flatten()(cls(2, 5, causal=True, dropout=0.2)(x))

    def expand(self, x):
        if len(x.shape) != 2:
            raise ValueError(f"TransformerBlock takes samples (positions, features), got {x.shape}")
        norms, attention, dense, drop, add = self._layers(x.shape[-1])
        branches = [[attention], dense]
        with within(Scope(self)):
            for norm, branch in zip(norms, branches, strict=True):
                y = norm(x) if self.norm_first else x
                for layer in (*branch, *drop):
                    y = layer(y)
                x = add(x, y)
                x = x if self.norm_first else norm(x)
        return x

    def _layers(self, features: int):
        """The same layers each time, so that calls of one block share its parameters."""
        if features not in self._made:
            attention = MultiHeadAttention(
                self.heads, self.causal, self.dropout, self.rotary, initializer=self.initializer
            )
            first = Dense(self.hidden or 4 * features, self.activation, initializer=self.initializer)
            dense = [first, Dense(features, initializer=self.initializer)]
            drop = [Dropout(self.dropout)] if self.dropout else []
            self._made[features] = [LayerNorm(), LayerNorm()], attention, dense, drop, Add()
        return self._made[features]

    @cached_property
    def _made(self) -> dict[int, tuple]:
        return {}
