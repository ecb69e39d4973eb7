"""Layers of sequences in PyTorch's modules, for samples (time, features)."""

from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import torch
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence

import nbbp


def _gates(w: np.ndarray, layer: nbbp.GRU | nbbp.LSTM) -> np.ndarray:
    """The gates side by side in PyTorch's order, in which a GRU's reset gate comes first."""
    if isinstance(layer, nbbp.LSTM):
        return w
    z, r, n = np.split(w, 3, axis=-1)
    return np.concatenate([r, z, n], axis=-1)


class Recurrent(nn.Module):
    """An LSTM or a GRU: the outputs of all steps, or those of the last that is there."""

    def __init__(self, layer: nbbp.GRU | nbbp.LSTM, features: int, weights: Iterator[np.ndarray]) -> None:
        super().__init__()
        self.sequences = layer.return_sequences
        self.steps = (nn.LSTM if isinstance(layer, nbbp.LSTM) else nn.GRU)(features, layer.units, batch_first=True)
        w, u, b = (_gates(next(weights), layer) for _ in range(3))
        after = np.zeros_like(b)
        if isinstance(layer, nbbp.GRU):
            after[2 * layer.units :] = next(weights)
        for target, values in zip(self.steps.parameters(), (w.T, u.T, b, after), strict=True):
            target.data.copy_(torch.from_numpy(values))

    def forward(self, x, lengths=None, padded: bool = False):
        if lengths is None:
            y, _ = self.steps(x)
            return y if self.sequences else y[:, -1]
        if padded:
            y, _ = self.steps(x)
            return y[torch.arange(len(x)), lengths - 1]
        _, state = self.steps(pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False))
        return (state[0] if isinstance(state, tuple) else state)[-1]


def _given(weights: Iterator[np.ndarray]) -> nn.Parameter:
    return nn.Parameter(torch.from_numpy(next(weights).copy()))


class PositionalEmbedding(nn.Module):
    """A trained vector for each position, added."""

    def __init__(self, weights: Iterator[np.ndarray]) -> None:
        super().__init__()
        self.table = _given(weights)

    def forward(self, x):
        return x + self.table


class FeatureTokens(nn.Module):
    """A class token, then a token for each feature."""

    def __init__(self, weights: Iterator[np.ndarray]) -> None:
        super().__init__()
        self.w, self.b = _given(weights), _given(weights)

    def forward(self, x):
        return torch.cat([self.b[:1].expand(len(x), 1, -1), torch.addcmul(self.b[1:], x[:, :, None], self.w)], dim=1)


class TakeFirst(nn.Module):
    """The first position."""

    def forward(self, x):
        return x[:, 0]


class Block(nn.Module):
    """A pre-norm transformer block as in nanoGPT, with PyTorch's own attention."""

    def __init__(self, layer: nbbp.TransformerBlock, features: int, weights: Iterator[np.ndarray]) -> None:
        super().__init__()
        self.heads, self.causal = layer.heads, layer.causal
        self.first_norm = _module(nbbp.LayerNorm(), features, weights)
        self.in_proj = _module(nbbp.Dense(3 * features), features, weights)
        self.out_proj = _module(nbbp.Dense(features), features, weights)
        self.second_norm = _module(nbbp.LayerNorm(), features, weights)
        hidden = layer.hidden or 4 * features
        wide, narrow = (_module(nbbp.Dense(n), m, weights) for n, m in ((hidden, features), (features, hidden)))
        self.dense = nn.Sequential(wide, nn.GELU(), narrow)

    def forward(self, x):
        rows, positions, features = x.shape
        heads = self.in_proj(self.first_norm(x)).view(rows, positions, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        y = nn.functional.scaled_dot_product_attention(*heads, is_causal=self.causal)
        x = x + self.out_proj(y.transpose(1, 2).reshape(rows, positions, features))
        return x + self.dense(self.second_norm(x))


def _module(layer, features: int, weights: Iterator[np.ndarray]) -> nn.Module:
    """The module of a layer, which takes its weights."""
    match layer:
        case nbbp.TransformerBlock(activation="gelu", norm_first=True):
            return Block(layer, features, weights)
        case nbbp.PositionalEmbedding(kind="learned"):
            return PositionalEmbedding(weights)
        case nbbp.FeatureTokens():
            return FeatureTokens(weights)
        case nbbp.TakeFirst():
            return TakeFirst()
        case nbbp.LayerNorm():
            module = nn.LayerNorm(features, layer.epsilon)
            module.weight, module.bias = _given(weights), _given(weights)
            return module
        case nbbp.LSTM() | nbbp.GRU():
            return Recurrent(layer, features, weights)
        case nbbp.Embedding():
            return nn.Embedding.from_pretrained(torch.from_numpy(next(weights)), freeze=False)
        case nbbp.Dense():
            linear = nn.Linear(features, layer.units)
            linear.weight.data.copy_(torch.from_numpy(next(weights).T))
            linear.bias.data.copy_(torch.from_numpy(next(weights)))
            return linear
        case _:
            raise NotImplementedError(layer)


class Network(nn.Module):
    """Layers in sequence with these weights, in nbbp's order; the first of them takes lengths."""

    def __init__(self, layers: Sequence, features: int, weights: Iterable[np.ndarray], padded: bool = False) -> None:
        super().__init__()
        self.padded, given = padded, iter(weights)
        modules = []
        for layer in layers:
            modules.append(_module(layer, features, given))
            features = getattr(layer, "units", getattr(layer, "dimension", features))
        self.first, self.rest = modules[0], nn.Sequential(*modules[1:])

    def forward(self, x, lengths=None):
        return self.rest(self.first(x) if lengths is None else self.first(x, lengths, self.padded))
