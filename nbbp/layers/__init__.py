"""The layers, by name."""

from nbbp.engine.layer import Layer, Parameter, Spec
from nbbp.layers.activation import Activation
from nbbp.layers.add import Add
from nbbp.layers.batch_norm import BatchNorm
from nbbp.layers.concatenate import Concatenate
from nbbp.layers.dense import Dense
from nbbp.layers.dropout import Dropout
from nbbp.layers.embedding import Embedding
from nbbp.layers.gaussian_noise import GaussianNoise
from nbbp.layers.layer_norm import LayerNorm
from nbbp.layers.multiply import Multiply
from nbbp.layers.residual import Residual

LAYERS: dict[str, type[Layer]] = {
    "activation": Activation,
    "add": Add,
    "batch_norm": BatchNorm,
    "concatenate": Concatenate,
    "dense": Dense,
    "dropout": Dropout,
    "embedding": Embedding,
    "gaussian_noise": GaussianNoise,
    "layer_norm": LayerNorm,
    "multiply": Multiply,
    "residual": Residual,
}

__all__ = [
    "LAYERS", "Activation", "Add", "BatchNorm", "Concatenate", "Dense", "Dropout", "Embedding", "GaussianNoise",
    "Layer", "LayerNorm", "Multiply", "Parameter", "Residual", "Spec",
]  # fmt: skip
