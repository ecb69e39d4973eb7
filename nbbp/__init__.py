"""nbbp: neural networks trained on a CPU by compiled backpropagation, with a NumPy twin beside every kernel."""

import importlib
from typing import TYPE_CHECKING, Any

from nbbp import activations, callbacks, losses, recipes, schedules, streams, tables
from nbbp._version import __version__
from nbbp.activations import ACTIVATIONS
from nbbp.engine.node import Input
from nbbp.engine.ragged import Ragged
from nbbp.initializers import INITIALIZERS
from nbbp.insight.comparison import Comparison, check_gradients, compare
from nbbp.insight.diagnosis import Diagnosis, diagnose
from nbbp.insight.inspection import Inspect
from nbbp.kernels.jit import TwinError, kernel
from nbbp.layers import (
    GRU,
    LAYERS,
    LSTM,
    Activation,
    Add,
    Attention,
    AveragePool1D,
    AveragePool2D,
    BatchNorm,
    Bidirectional,
    Clamp,
    ColumnEmbedding,
    Concatenate,
    Conv1D,
    Conv1DTranspose,
    Conv2D,
    Conv2DTranspose,
    Crop2D,
    Dense,
    Dropout,
    Embedding,
    FeatureTokens,
    Flatten,
    GaussianNoise,
    GlobalAveragePool,
    GlobalMaxPool,
    GroupNorm,
    Layer,
    LayerNorm,
    MaxPool1D,
    MaxPool2D,
    MemberDense,
    Members,
    MultiHeadAttention,
    Multiply,
    Parameter,
    ParametricActivation,
    PeriodicEmbedding,
    PositionalEmbedding,
    RandomCrop,
    RandomFlip,
    RandomShift,
    Rescale,
    Reshape,
    Residual,
    RotaryPositions,
    Scale,
    SimpleRNN,
    SpatialDropout,
    Spec,
    TakeFirst,
    TiedDense,
    TransformerBlock,
    UpSample2D,
    ZeroPad2D,
)
from nbbp.losses import LOSSES
from nbbp.metrics import METRICS
from nbbp.model import Model
from nbbp.optimizers import OPTIMIZERS, SGD, Adadelta, Adagrad, Adam, AdamW, Lion, Nadam, RMSprop
from nbbp.recipes.distillation import distill
from nbbp.recipes.ensemble import Ensemble
from nbbp.recipes.lbfgs import fit_lbfgs
from nbbp.recipes.pruning import PruningReport, prune, pruning_report
from nbbp.recipes.tuning import find_learning_rate
from nbbp.sequential import Sequential, load
from nbbp.storage.files import ModelFileError
from nbbp.training.averaging import EMA, SWA
from nbbp.training.checkpoint import Checkpoint
from nbbp.training.history import History
from nbbp.training.trainer import DivergenceError

if TYPE_CHECKING:
    from nbbp import bench as bench
    from nbbp import datasets, exchange, initializers, plots, trackers
    from nbbp import sklearn as sklearn

__all__ = [
    "ACTIVATIONS", "EMA", "GRU", "INITIALIZERS", "LAYERS", "LOSSES", "LSTM", "METRICS", "OPTIMIZERS", "SGD", "SWA",
    "Activation", "Adadelta", "Adagrad", "Adam", "AdamW", "Add", "Attention", "AveragePool1D", "AveragePool2D",
    "BatchNorm", "Bidirectional", "Checkpoint", "Clamp", "ColumnEmbedding", "Comparison", "Concatenate", "Conv1D",
    "Conv1DTranspose", "Conv2D", "Conv2DTranspose", "Crop2D", "Dense", "Diagnosis", "DivergenceError", "Dropout",
    "Embedding", "Ensemble", "FeatureTokens", "Flatten", "GaussianNoise", "GlobalAveragePool", "GlobalMaxPool",
    "GroupNorm", "History", "Input", "Inspect", "Layer", "LayerNorm", "Lion", "MaxPool1D", "MaxPool2D", "MemberDense",
    "Members", "Model", "ModelFileError", "MultiHeadAttention", "Multiply", "Nadam", "Parameter",
    "ParametricActivation", "PeriodicEmbedding", "PositionalEmbedding", "PruningReport", "RMSprop", "Ragged",
    "RandomCrop", "RandomFlip", "RandomShift", "Rescale", "Reshape", "Residual", "RotaryPositions", "Scale",
    "Sequential", "SimpleRNN", "SpatialDropout", "Spec", "TakeFirst", "TiedDense", "TransformerBlock", "TwinError",
    "UpSample2D", "ZeroPad2D", "__version__", "activations", "callbacks", "check_gradients", "compare", "datasets",
    "diagnose", "distill", "exchange", "find_learning_rate", "fit_lbfgs", "initializers", "kernel", "load", "losses",
    "plots", "prune", "pruning_report", "recipes", "schedules", "streams", "tables", "trackers",
]  # fmt: skip

_ON_DEMAND = {"bench", "datasets", "exchange", "initializers", "plots", "sklearn", "trackers"}


def __getattr__(name: str) -> Any:
    """Modules that are imported when they are first used: matplotlib alone takes longer than the rest."""
    if name in _ON_DEMAND:
        return importlib.import_module(f"nbbp.{name}")
    raise AttributeError(f"module 'nbbp' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(globals().keys() | _ON_DEMAND)
