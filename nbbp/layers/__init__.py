"""The layers, by name."""

from nbbp.engine.layer import Layer, Parameter
from nbbp.layers.activation import Activation
from nbbp.layers.batch_norm import BatchNorm
from nbbp.layers.dense import Dense
from nbbp.layers.dropout import Dropout
from nbbp.layers.embedding import Embedding
from nbbp.layers.gaussian_noise import GaussianNoise
from nbbp.layers.layer_norm import LayerNorm
from nbbp.layers.residual import Residual

LAYERS: dict[str, type[Layer]] = {
    "activation": Activation,
    "batch_norm": BatchNorm,
    "dense": Dense,
    "dropout": Dropout,
    "embedding": Embedding,
    "gaussian_noise": GaussianNoise,
    "layer_norm": LayerNorm,
    "residual": Residual,
}

__all__ = [
    "LAYERS", "Activation", "BatchNorm", "Dense", "Dropout", "Embedding", "GaussianNoise", "Layer", "LayerNorm",
    "Parameter", "Residual",
]  # fmt: skip
