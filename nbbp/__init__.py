"""nbbp: neural networks trained on a CPU by compiled backpropagation, with a NumPy twin beside every kernel."""

import importlib

from nbbp._version import __version__
from nbbp.activations import ACTIVATIONS
from nbbp.comparison import Comparison, check_gradients, compare
from nbbp.history import History
from nbbp.initializers import INITIALIZERS
from nbbp.layers import LAYERS, Activation, Dense
from nbbp.losses import LOSSES
from nbbp.metrics import METRICS
from nbbp.model import Sequential
from nbbp.optimizers import OPTIMIZERS, SGD, Adadelta, Adagrad, Adam, AdamW, RMSprop
from nbbp.training import DivergenceError

__all__ = [
    "ACTIVATIONS", "INITIALIZERS", "LAYERS", "LOSSES", "METRICS", "OPTIMIZERS", "SGD", "Activation", "Adadelta",
    "Adagrad", "Adam", "AdamW", "Comparison", "Dense", "DivergenceError", "History", "RMSprop", "Sequential",
    "__version__", "check_gradients", "compare", "datasets", "initializers", "plots",
]  # fmt: skip

_ON_DEMAND = ("bench", "datasets", "initializers", "plots")


def __getattr__(name: str):
    """Modules that are imported when they are first used: matplotlib alone takes longer than the rest."""
    if name in _ON_DEMAND:
        return importlib.import_module(f"nbbp.{name}")
    raise AttributeError(f"module 'nbbp' has no attribute {name!r}")
