"""Networks of sequences: the workloads of their training, and predictions step by step."""

import dataclasses
import math
from collections.abc import Iterator

import numpy as np

import nbbp
from nbbp import (
    GRU,
    LSTM,
    Attention,
    Dense,
    Embedding,
    FeatureTokens,
    LayerNorm,
    PositionalEmbedding,
    TakeFirst,
    TransformerBlock,
)
from nbbp.engine.layer import Layer
from nbbp.engine.node import Shape

LETTERS = 65  # in the plays of tiny Shakespeare


@dataclasses.dataclass(frozen=True)
class Sequences:
    """Layers for sequences or tokens and their mini-batches, gathered from shuffled rows.

    `loss` is softmax_cross_entropy of the next token at each position, or mse with one target for a sequence.

    Attributes
    ----------
    shape : tuple of int
        Of a sample, (time, features); (time,) for tokens, (features,) for a table.
    steps : int
        The mini-batches of an epoch.
    ragged : bool
        Whether sequences have any length from 1 to all steps, and are padded.
    """

    name: str
    shape: Shape
    layers: tuple[Layer, ...]
    batch: int
    steps: int
    loss: str = "mse"
    optimizer: str = "Adam"
    ragged: bool = False

    @property
    def rows(self) -> int:
        """The rows of an epoch."""
        return self.batch * self.steps

    @property
    def features(self) -> int:
        """The number of a sample's inputs."""
        return math.prod(self.shape)

    def model(self, backend: str = "numba", precision: str = "full") -> nbbp.Sequential:
        """The network in float32 with its loss and optimizer."""
        optimizer = getattr(nbbp, self.optimizer)()
        model = nbbp.Sequential(list(self.layers), self.loss, optimizer, backend=backend, precision=precision)
        model.build(self.shape)
        return model

    def weights(self) -> list[np.ndarray]:
        """Initial values, in the order of the layers and their parameters."""
        return list(self.model().named_params().values())

    @property
    def parameters(self) -> int:
        """The number of trained parameters."""
        return len(self.model().params)

    def _products(self) -> Iterator[int]:
        """The operations of each product of a sequence of all steps, and of the gradient of the network's inputs."""
        graph = self.model().network.graph
        for node in graph.nodes:
            positions = 2 * math.prod(node.inputs[0].shape[:-1])
            sizes = {name: math.prod(p.shape) for name, p in node.spec.parameters.items()}
            match node.layer:
                case Dense() | GRU() | LSTM():
                    yield 3 * positions * (sizes["w"] + sizes.get("u", 0))
                    if node.inputs[0] in graph.inputs:
                        yield -positions * sizes["w"]
                case Attention(causal=causal):
                    count, features = node.outputs[0].shape
                    pairs = count * (count + 1) // 2 if causal else count * count
                    yield 3 * 2 * 2 * pairs * features

    @property
    def flops(self) -> int:
        """Operations of a step's products: forward, weight gradient, and input gradient beyond the first layer.

        Of padding there are none.
        """
        share = np.mean(self.lengths()) / self.shape[0] if self.ragged else 1.0
        return round(self.batch * share * sum(self._products()))

    def lengths(self) -> np.ndarray:
        """The steps of each row."""
        rng, most = np.random.default_rng(1), self.shape[0]
        return rng.integers(1, most + 1, self.rows) if self.ragged else np.full(self.rows, most)

    def mask(self) -> np.ndarray | None:
        """Which steps (rows, time) are there, or None if all are."""
        return np.arange(self.shape[0]) < self.lengths()[:, np.newaxis] if self.ragged else None

    def data(self) -> tuple[np.ndarray, np.ndarray]:
        """Samples (rows, *shape), and targets (rows, 1) or tokens (rows, time)."""
        rng = np.random.default_rng(0)
        tokens = isinstance(self.layers[0], Embedding)
        if tokens:
            x = rng.integers(0, LETTERS, (self.rows, *self.shape), np.int32)
        else:
            x = rng.standard_normal((self.rows, *self.shape), np.float32)
        if self.loss == "mse":
            return x, rng.standard_normal((self.rows, 1), np.float32)
        return x, rng.integers(0, LETTERS, (self.rows, self.shape[0]))


@dataclasses.dataclass(frozen=True)
class Steps:
    """Predictions of a recurrent network one step after another, each of one row, an array in and an array out."""

    name: str
    features: int
    units: int
    steps: int = 100

    def weights(self) -> list[np.ndarray]:
        """Those of an LSTM, w, u and b, and of the Dense layer of one unit behind it."""
        return Sequences("", (1, self.features), (LSTM(self.units), Dense(1)), 1, 1).weights()

    def data(self) -> np.ndarray:
        """The steps (steps, 1, 1, features)."""
        return np.random.default_rng(1).standard_normal((self.steps, 1, 1, self.features), np.float32)


_LSTM = (LSTM(64), Dense(1))
_GRU = (GRU(128), Dense(1))
_LETTERS = (
    Embedding(LETTERS, 128), LSTM(128, return_sequences=True), LSTM(128, return_sequences=True), Dense(LETTERS)
)  # fmt: skip
_GPT = (
    Embedding(LETTERS, 128), PositionalEmbedding(), *(TransformerBlock(4, causal=True) for _ in range(4)), LayerNorm(),
    Dense(LETTERS),
)  # fmt: skip
_TABLE = (FeatureTokens(192), *(TransformerBlock(8, hidden=256) for _ in range(3)), TakeFirst(), Dense(1))

SEQUENCES = {
    workload.name: workload
    for workload in (
        Sequences("lstm", (30, 8), _LSTM, 32, 20),
        Sequences("gru", (100, 16), _GRU, 32, 5),
        Sequences("letters", (64,), _LETTERS, 50, 2, "softmax_cross_entropy"),
        Sequences("nanogpt", (64,), _GPT, 12, 10, "softmax_cross_entropy", "AdamW"),
        Sequences("ft", (9,), _TABLE, 256, 2, optimizer="AdamW"),
        Sequences("lstm-lengths", (30, 8), _LSTM, 32, 20, ragged=True),
        Sequences("gru-lengths", (100, 16), _GRU, 32, 5, ragged=True),
    )
}

STEPS = {"lstm-step": Steps("lstm-step", 8, 64)}
"""Predictions step by step."""
