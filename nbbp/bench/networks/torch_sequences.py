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


def _module(layer, features: int, weights: Iterator[np.ndarray]) -> nn.Module:
    """The module of a layer, which takes its weights."""
    match layer:
        case nbbp.LSTM() | nbbp.GRU():
            return Recurrent(layer, features, weights)
        case nbbp.Embedding():
            return nn.Embedding.from_pretrained(torch.from_numpy(next(weights)), freeze=False)
        case nbbp.Dense():
            module = nn.Linear(features, layer.units)
            module.weight.data.copy_(torch.from_numpy(next(weights).T))
            module.bias.data.copy_(torch.from_numpy(next(weights)))
            return module
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
