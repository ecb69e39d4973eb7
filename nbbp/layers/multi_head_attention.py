"""MultiHeadAttention: attention between projections of its inputs."""

import dataclasses

from nbbp import checks
from nbbp.engine.layer import Layer
from nbbp.engine.node import Scope, within
from nbbp.initializers import INITIALIZERS, Initializer
from nbbp.kernels.forks import cached_property
from nbbp.layers.attention import Attention, head_features
from nbbp.layers.dense import Dense
from nbbp.layers.flatten import Flatten
from nbbp.layers.reshape import Reshape
from nbbp.layers.rotary_positions import RotaryPositions


@dataclasses.dataclass(frozen=True)
class MultiHeadAttention(Layer):
    """Projections of queries, keys and values, the attention of several heads, and a projection of what they give.

    Vaswani et al., "Attention is all you need", 2017, as PyTorch's nn.MultiheadAttention. It is called on one edge for
    self-attention, on (query, memory) for keys and values from another sequence, or on (query, key, value): this is
    PyTorch's order, Keras has the value second. Samples are (positions, features), and outputs have the shape of the
    query. Masked positions of the memory are left out.

    It is a composite of `Dense`, `RotaryPositions` and `Attention`. For self-attention, one `Dense` named ``in_proj``
    makes queries, keys and values side by side; otherwise there are ``q_proj`` and ``kv_proj``, or ``q_proj``,
    ``k_proj`` and ``v_proj``. The last is ``out_proj``.

    Parameters
    ----------
    heads : int
        Each head has features / heads features of the query.
    causal : bool
        Whether a position leaves out later ones.
    dropout : float in [0, 1)
        The share of the attention weights that is dropped in training.
    rotary : bool
        Whether queries and keys are turned by angles that grow with their positions, see `RotaryPositions`.
    use_bias : bool
        Whether projections have a bias.
    initializer : str or callable
        The initial values of the projections, see `Dense`.
    """

    heads: int
    causal: bool = False
    dropout: float = 0.0
    rotary: bool = False
    use_bias: bool = True
    initializer: str | Initializer = "glorot_uniform"

    def __post_init__(self) -> None:
        name = type(self).__name__
        object.__setattr__(self, "heads", checks.positive_integer(f"{name}: heads", self.heads))
        for field in ("causal", "rotary", "use_bias"):
            checks.boolean(f"{name}: {field}", getattr(self, field))
        checks.number(f"{name}: dropout", self.dropout, high=1.0)
        if not callable(self.initializer):
            checks.choose("initializer", self.initializer, INITIALIZERS)

    @classmethod
    def example(cls, x):
        x = Dense(6)(Reshape((-1, 1))(x))
        return Flatten()(cls(3, causal=True, dropout=0.2, rotary=True)(cls(2)(x), x))

    def expand(self, query, *memory):
        name = type(self).__name__
        edges = (query, *memory)
        if len(edges) > 3 or any(len(edge.shape) != 2 for edge in edges):
            raise ValueError(
                f"{name} is called on one to three edges (positions, features): itself, (query, memory) or (query, "
                f"key, value); got {', '.join(str(edge.shape) for edge in edges)}"
            )
        features = query.shape[-1]
        d = head_features(name, features, self.heads)
        if self.rotary and d % 2:
            raise ValueError(f"{name}: rotary turns pairs of features, and each of {self.heads} heads has {d}")
        parts = ("in_proj",), ("q_proj", "kv_proj"), ("q_proj", "k_proj", "v_proj")
        turned = (2,), (1, 1), (1, 1, 0)
        with within(Scope(self)):
            made = []
            for edge, part, count in zip(edges, parts[len(memory)], turned[len(memory)], strict=True):
                units = {"in_proj": 3, "kv_proj": 2}.get(part, 1) * features
                with within(part):
                    projected = self._dense(part, units)(edge)
                if self.rotary and count:
                    projected = RotaryPositions(d, count * features)(projected)
                made.append(projected)
            attended = Attention(self.heads, self.causal, self.dropout)(*made)
            with within("out_proj"):
                return self._dense("out_proj", features)(attended)

    def _dense(self, part: str, units: int) -> Dense:
        """The same layer each time, so that calls of one layer share its parameters."""
        made = Dense(units, use_bias=self.use_bias, initializer=self.initializer)
        return self._made.setdefault((part, units), made)

    @cached_property
    def _made(self) -> dict[tuple[str, int], Dense]:
        return {}
