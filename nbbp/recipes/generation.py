"""Generation: tokens drawn one after the other from a trained network."""

import dataclasses

import numpy as np

from nbbp import checks
from nbbp.activations import ACTIVATIONS
from nbbp.engine.layer import Layer
from nbbp.engine.node import Edge, Input, Node
from nbbp.engine.step import Step
from nbbp.layers import (
    Activation,
    Add,
    Attention,
    BatchNorm,
    Concatenate,
    Dense,
    Dropout,
    Embedding,
    GaussianNoise,
    LayerNorm,
    Multiply,
    PositionalEmbedding,
    RotaryPositions,
    SpatialDropout,
    TiedDense,
)
from nbbp.layers.continued import ContinuedAttention, ContinuedEmbedding, ContinuedRotation
from nbbp.layers.recurrent import Recurrent
from nbbp.model import Model

OF_EACH_POSITION = {
    Activation, Add, BatchNorm, Concatenate, Dense, Dropout, Embedding, GaussianNoise, LayerNorm, Multiply,
    SpatialDropout, TiedDense,
}  # fmt: skip
"""Layers whose predictions at a position depend on no other."""


def generate(
    model: Model, prompt, length: int, temperature: float = 1.0, top_k: int | None = None, seed: int = 0
) -> np.ndarray:
    """The prompt, continued by tokens that are drawn one after the other.

    The model predicts the next token at each of its T positions. Keys and values of causal attention, and the states
    of recurrent layers, are carried from token to token. Of more than T tokens, a network with attention or positions
    sees the last T, which it then computes anew for each token, as nanoGPT does; recurrent layers go on without end.

    Parameters
    ----------
    model : Model or Sequential
        With the loss softmax_cross_entropy, an input of tokens (T,), int32, and an output (T, tokens).
    prompt : array_like of int, (n,) or (rows, n)
        The first tokens, at least one; each row is continued on its own.
    length : int
        The number of tokens that are drawn.
    temperature : float
        Divides the outputs before the softmax: below 1 likely tokens become more likely, and 0 takes the likeliest.
    top_k : int, optional
        The number of tokens that are drawn from: the likeliest ones, by default all.
    seed : int
        Determines what is drawn.

    Returns
    -------
    ndarray of int32, (n + length,) or (rows, n + length)

    Examples
    --------
    >>> import nbbp, numpy as np
    >>> X = (np.arange(30)[:, np.newaxis] + np.arange(9)) % 5  # 0 1 2 3 4 0 1 2 3
    >>> model = nbbp.Sequential([nbbp.Embedding(5, 8), nbbp.GRU(16, return_sequences=True), nbbp.Dense(5)],
    ...                         loss="softmax_cross_entropy", optimizer=nbbp.Adam(0.03))
    >>> history = model.fit(X[:, :-1], X[:, 1:], epochs=30, verbose=0)
    >>> nbbp.recipes.generate(model, [2, 3], length=6, temperature=0).tolist()
    [2, 3, 4, 0, 1, 2, 3, 4]
    """
    given = _checked(model, prompt)
    length = checks.positive_integer("length", length)
    checks.number("temperature", temperature)
    if top_k is not None:
        top_k = checks.positive_integer("top_k", top_k)
    rng = np.random.default_rng(checks.integer("seed", seed, least=0))
    rows, n = given.shape
    tokens = np.zeros((rows, n + length), np.int32)
    tokens[:, :n] = given
    scores = NextScores(model, rows)
    for k in range(n, n + length):
        tokens[:, k] = _drawn(scores(tokens[:, :k]), temperature, top_k, rng, model.backend)
    return tokens[0] if np.ndim(prompt) == 1 else tokens


def _checked(model: Model, prompt) -> np.ndarray:
    """The prompt (rows, n), for a model that can continue it."""
    graph = model.network.graph
    entries, outputs = ([edge.shape for edge in edges] for edges in (graph.inputs, graph.outputs))
    integers = graph.inputs[0].dtype == np.int32
    fits = len(entries) == len(outputs) == 1 and integers and len(entries[0]) == 1 and outputs[0][:-1] == entries[0]
    if not fits or model.loss.name != "softmax_cross_entropy":
        loss = ", ".join(loss.name for loss in (model.loss if isinstance(model.loss, list) else [model.loss]))
        raise ValueError(
            f"generate takes a model of tokens (T,), int32, with the outputs (T, tokens) and the loss "
            f"softmax_cross_entropy; got inputs {', '.join(map(str, entries))}{'' if integers else ' of floats'}, "
            f"outputs {', '.join(map(str, outputs))}, {loss}"
        )
    given = np.asarray(prompt)
    if given.ndim not in (1, 2) or not given.size:
        raise ValueError(f"prompt must be one token or more, (n,) or (rows, n), got the shape {given.shape}")
    count = outputs[0][-1]
    if given.dtype.kind not in "iu" or given.min() < 0 or given.max() >= count:
        wrong = given.dtype if given.dtype.kind not in "iu" else given[(given < 0) | (given >= count)][0]
        raise ValueError(f"prompt: tokens must be integers from 0 to {count - 1}, got {wrong}")
    return np.atleast_2d(given)


def _drawn(scores: np.ndarray, temperature: float, top_k: int | None, rng, backend: str) -> np.ndarray:
    """A token of each row of scores (rows, tokens)."""
    if temperature == 0:
        return scores.argmax(axis=1)
    p = (scores / scores.dtype.type(temperature)).astype(scores.dtype)
    softmax = ACTIVATIONS["softmax"].forward
    (softmax.serial if backend == "numba" else softmax.reference)(p)
    if top_k is not None and top_k < p.shape[1]:
        p[scores < np.partition(scores, -top_k, axis=1)[:, -top_k, np.newaxis]] = 0
    sums = p.cumsum(axis=1, dtype=np.float64)
    bounds = (1 - rng.random(len(p))) * sums[:, -1]  # above 0, and the last sum at most
    return (sums < bounds[:, np.newaxis]).sum(axis=1)


class NextScores:
    """The outputs for the token behind some tokens (rows, n), before the softmax; each call has more of them.

    If every layer can go through a sequence position by position, a call computes the positions that are new.
    """

    def __init__(self, model: Model, rows: int) -> None:
        (self._length,) = model.network.graph.inputs[0].shape
        self._whole = model.step(rows, training=False)
        self._done = 0
        self._one: Step | None = None
        continued = _continued(model)
        if continued is not None:
            self._one, self._inputs = continued.step(rows, training=False), len(continued.network.graph.inputs)

    def __call__(self, tokens: np.ndarray) -> np.ndarray:
        rows, n = tokens.shape
        if self._one is None or (n > self._length and self._inputs == 2):
            window = tokens[:, -self._length :]
            last = window.shape[1] - 1
            padded = np.pad(window, ((0, 0), (0, self._length - last - 1)))
            lengths = np.full(rows, last + 1) if last + 1 < self._length else None
            self._whole.reset_states()
            return self._whole.forward(padded, lengths=lengths)[:, last]
        for k in range(self._done, n):
            z = self._one.forward([tokens[:, k : k + 1], np.full((rows, 1), k, np.int32)][: self._inputs])
        self._done = n
        return z[:, 0]


def _continued(model: Model) -> Model | None:
    """A model of one position with the same parameters, which takes a token and, if a layer does, its position.

    None if a layer does not go through a sequence position by position.
    """
    graph = model.network.graph
    token, position = Input(1, "int32"), Input(1, "int32")
    layers: dict[Node, Layer] = {}
    edges: dict[Edge, Edge] = {graph.inputs[0]: token}
    placed = False
    for node in graph.nodes:
        owner = graph.owners[node]
        if owner is node or isinstance(node.layer, TiedDense):
            layer = _at_one_position(node, graph.inputs[0].shape[0], layers.get(owner))
            if layer is None:
                return None
            layers[node] = layer
        layer = layers.get(node, layers[owner])
        takes_position = isinstance(layer, ContinuedAttention | ContinuedEmbedding | ContinuedRotation)
        made = layer(*(edges[edge] for edge in node.inputs), *([position] if takes_position else []))
        edges |= zip(node.outputs, made if isinstance(made, tuple) else (made,), strict=True)
        placed |= takes_position
    continued = Model(
        [token, position] if placed else [token], edges[graph.outputs[0]], model.loss, seed=model.seed,
        dtype=model.dtype, backend=model.backend,
    )  # fmt: skip
    continued.params = model.params
    continued.network.state[:] = model.network.state
    return continued


def _at_one_position(node: Node, length: int, owner: Layer | None) -> Layer | None:
    """A node's layer for one position of the length, which continues from those before; None if there is none."""
    layer = node.layer
    if isinstance(layer, TiedDense):
        assert isinstance(owner, Embedding)
        return TiedDense(owner)
    if type(layer) in OF_EACH_POSITION:
        return dataclasses.replace(layer)  # type: ignore[type-var]
    if isinstance(layer, Recurrent):
        forward = layer.return_sequences and not layer.backwards and len(node.inputs) == 1
        return dataclasses.replace(layer, stateful=True) if forward else None
    if isinstance(layer, Attention):
        return ContinuedAttention(layer.heads, length) if layer.causal else None
    if isinstance(layer, PositionalEmbedding):
        return ContinuedEmbedding(layer.kind, length)
    if isinstance(layer, RotaryPositions):
        return ContinuedRotation(layer.dimension, layer.columns, layer.base, length)
    return None
