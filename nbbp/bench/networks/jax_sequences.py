"""Layers of sequences in JAX, for samples (time, features)."""

from collections.abc import Iterable, Sequence

import jax
import jax.numpy as jnp

import nbbp


def _lstm_step(state, sums, u):
    h, c = state
    i, f, g, o = jnp.split(sums + h @ u, 4, axis=-1)
    c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
    return jax.nn.sigmoid(o) * jnp.tanh(c), c


def _gru_step(state, sums, u, bias):
    (h,) = state
    of_x, of_h = jnp.split(sums, 3, axis=-1), jnp.split(h @ u, 3, axis=-1)
    z, r = jax.nn.sigmoid(of_x[0] + of_h[0]), jax.nn.sigmoid(of_x[1] + of_h[1])
    return (z * h + (1 - z) * jnp.tanh(of_x[2] + r * (of_h[2] + bias)),)


def recurrent(layer: nbbp.LSTM | nbbp.GRU, x, weights, there=None, states=None):
    """The output, and the last states; the inputs of all steps are multiplied at once, and a scan does the rest."""
    lstm = isinstance(layer, nbbp.LSTM)
    w, u, b = (next(weights) for _ in range(3))
    given = (u,) if lstm else (u, next(weights))
    sums = jnp.swapaxes(x, 0, 1) @ w + b  # (time, rows, gates)
    if states is None:
        states = (jnp.zeros((len(x), layer.units), x.dtype),) * len(layer.states)

    def step(before, now):
        after = (_lstm_step if lstm else _gru_step)(before, now[0], *given)
        if there is not None:
            after = tuple(jnp.where(now[1], a, b) for a, b in zip(after, before, strict=True))
        return after, after[0] if layer.return_sequences else None

    masks = None if there is None else there.T[:, :, None]
    states, outputs = jax.lax.scan(step, states, (sums, masks))
    return (jnp.swapaxes(outputs, 0, 1) if layer.return_sequences else states[0]), states


def _norm(x, weights, epsilon: float = 1e-5):
    x = x - x.mean(-1, keepdims=True)
    return x * jax.lax.rsqrt((x * x).mean(-1, keepdims=True) + epsilon) * next(weights) + next(weights)


def _dense(x, weights):
    return x @ next(weights) + next(weights)


def _block(layer: nbbp.TransformerBlock, x, weights):
    """A pre-norm transformer block."""
    q, k, v = jnp.split(_dense(_norm(x, weights), weights), 3, axis=-1)
    heads = (a.reshape(*a.shape[:2], layer.heads, -1) for a in (q, k, v))
    y = jax.nn.dot_product_attention(*heads, is_causal=layer.causal)
    x = x + _dense(y.reshape(x.shape), weights)
    y = jax.nn.gelu(_dense(_norm(x, weights), weights), approximate=False)
    return x + _dense(y, weights)


def forward(layers: Sequence, params: Iterable, x, there=None):
    """The outputs of layers in sequence with these weights, in nbbp's order."""
    weights = iter(params)
    for layer in layers:
        match layer:
            case nbbp.LSTM() | nbbp.GRU():
                x, _ = recurrent(layer, x, weights, there)
            case nbbp.Embedding():
                x = next(weights)[x]
            case nbbp.Dense():
                x = _dense(x, weights)
            case nbbp.LayerNorm():
                x = _norm(x, weights, layer.epsilon)
            case nbbp.PositionalEmbedding(kind="learned"):
                x = x + next(weights)
            case nbbp.FeatureTokens():
                w, b = next(weights), next(weights)
                first = jnp.broadcast_to(b[:1], (len(x), *b[:1].shape))
                x = jnp.concatenate([first, b[1:] + x[:, :, None] * w], axis=1)
            case nbbp.TakeFirst():
                x = x[:, 0]
            case nbbp.TransformerBlock(activation="gelu", norm_first=True):
                x = _block(layer, x, weights)
            case _:
                raise NotImplementedError(layer)
    return x
