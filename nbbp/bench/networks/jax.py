"""A network in JAX, for samples (*positions, channels)."""

import jax
import jax.numpy as jnp
from jax import lax

import nbbp
from nbbp.bench.networks import Network, Weights

ACTIVATIONS = {"linear": lambda x: x, "relu": jax.nn.relu, "tanh": jnp.tanh}
DIMENSIONS = {1: ("NWC", "WIO", "NWC"), 2: ("NHWC", "HWIO", "NHWC")}

AVERAGES = ("mean", "variance")


def arrays(weights: Weights) -> tuple[list[dict], list[dict]]:
    """The parameters and the running averages of each layer."""
    params = [{name: jnp.asarray(a) for name, a in own.items() if name not in AVERAGES} for own in weights]
    return params, [{name: jnp.asarray(own[name]) for name in AVERAGES if name in own} for own in weights]


def _convolution(layer, x, w):
    windows = layer.windows(x.shape[1:])
    return lax.conv_general_dilated(
        x, w, windows.strides, windows.padding, dimension_numbers=DIMENSIONS[len(windows.size)]
    )


def _batch_norm(layer, x, p, averages, training: bool):
    """The output, and the new running averages."""
    if training:
        axes = tuple(range(x.ndim - 1))
        mean, variance, rows = x.mean(axes), x.var(axes), x.size // x.shape[-1]
        batch = {"mean": mean, "variance": variance * (rows / (rows - 1))}
        averages = jax.tree.map(lambda old, new: old + (1 - layer.momentum) * (new - old), averages, batch)
    else:
        mean, variance = averages["mean"], averages["variance"]
    return (x - mean) * (p["gamma"] * lax.rsqrt(variance + layer.epsilon)) + p["beta"], averages


def _max_pool(layer, x):
    window = (1, *layer.pool_size, 1)
    return lax.reduce_window(x, -jnp.inf, lax.max, window, window, "VALID")


def forward(network: Network, params: list[dict], averages: list[dict], x, training: bool):
    """The outputs, and the new running averages of each layer."""
    new = []
    for layer, p, own in zip(network.layers, params, averages, strict=True):
        match layer:
            case nbbp.Conv2D():
                x = ACTIVATIONS[layer.activation](_convolution(layer, x, p["w"]) + p["b"])
            case nbbp.Dense():
                x = ACTIVATIONS[layer.activation](x @ p["w"] + p["b"])
            case nbbp.BatchNorm():
                x, own = _batch_norm(layer, x, p, own, training)
            case nbbp.MaxPool2D():
                x = _max_pool(layer, x)
            case nbbp.GlobalAveragePool():
                x = x.mean(tuple(range(1, x.ndim - 1)))
            case nbbp.Flatten():
                x = x.reshape(len(x), -1)
            case nbbp.Activation():
                x = ACTIVATIONS[layer.name](x)
            case _:
                raise NotImplementedError(layer)
        new.append(own)
    return x, new
