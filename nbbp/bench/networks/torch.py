"""A network in PyTorch's modules, for samples (channels, *positions)."""

from collections.abc import Callable

import torch
from torch import nn

import nbbp
from nbbp.bench.networks import Network, Weights, channels_first

ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {"relu": lambda: nn.ReLU(inplace=True), "tanh": nn.Tanh}


def _modules(layer, shape):
    """The modules for a layer of nbbp and the shape of its input; the first one has the weights."""
    match layer:
        case nbbp.Conv2D():
            kind = (nn.Conv1d, nn.Conv2d)[layer.axes - 1]
            padding = layer.padding if isinstance(layer.padding, str) else tuple(before for before, _ in layer.padding)
            modules = [kind(shape[-1], layer.filters, layer.kernel_size, layer.strides, padding)]
        case nbbp.Dense():
            modules = [nn.Linear(shape[0], layer.units)]
        case nbbp.BatchNorm():
            modules = [nn.BatchNorm1d(shape[-1], layer.epsilon, 1 - layer.momentum)]
        case nbbp.MaxPool2D():
            modules = [nn.MaxPool2d(layer.pool_size)]
        case nbbp.GlobalAveragePool():
            modules = [nn.AdaptiveAvgPool1d(1), nn.Flatten()]
        case nbbp.Flatten():
            modules = [nn.Flatten()]
        case nbbp.Activation():
            modules = [ACTIVATIONS[layer.name]()]
        case _:
            raise NotImplementedError(layer)
    activation = getattr(layer, "activation", "linear")
    return modules if activation == "linear" else [*modules, ACTIVATIONS[activation]()]


NAMES = {
    "w": "weight", "b": "bias", "gamma": "weight", "beta": "bias", "mean": "running_mean", "variance": "running_var"
}  # fmt: skip


def module(network: Network, weights: Weights) -> nn.Sequential:
    """The network with these weights."""
    modules: list[nn.Module] = []
    for (layer, shape, _), own in zip(network.specs(), channels_first(network, weights), strict=True):
        first, *rest = _modules(layer, shape)
        with torch.no_grad():
            for name, values in own.items():
                getattr(first, NAMES[name]).copy_(torch.from_numpy(values))
        modules += [first, *rest]
    return nn.Sequential(*modules)
