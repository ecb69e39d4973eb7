"""The parameters of the estimators: scikit-learn's names and defaults, and what nbbp adds."""

import dataclasses
import math
from collections.abc import Iterable, Sequence
from typing import Any

from sklearn.base import BaseEstimator

from nbbp import checks
from nbbp.losses import Loss
from nbbp.metrics import METRICS
from nbbp.optimizers import Optimizer
from nbbp.schedules import Schedule

PARAMETERS = """hidden_layer_sizes : int or sequence of int
        Units of each hidden layer; ``()`` for a linear model.
    activation : str or sequence of str
        Activation of all hidden layers, or of each: one of `nbbp.ACTIVATIONS`, or "identity" (linear) or "logistic".
    dropout : float or sequence of float
        Share of the outputs of all hidden layers, or of each, that is dropped in training.
    solver : str or Optimizer
        "lbfgs", one of `nbbp.OPTIMIZERS`, or an optimizer with settings of its own, such as
        ``nbbp.SGD(nbbp.schedules.Cosine(0.1, 1000))``, which then has its own learning rate.
    alpha : float
        Strength of the L2 penalty alpha / (2 n) sum w^2, with n the rows of a mini-batch or the sum of their weights.
    batch_size : int or "auto"
        min(200, rows) with "auto".
    learning_rate : {"constant", "invscaling", "adaptive"}
        The schedule for any solver but "lbfgs". "invscaling": after each epoch, the rate is learning_rate_init /
        (rows seen + 1)^power_t. "adaptive": instead of stopping, it is divided by 5 while it is above 1e-6.
    learning_rate_init : float
        The initial rate of a solver that is given by name.
    power_t : float
        The exponent of "invscaling".
    max_iter : int
        The maximum number of epochs, or of iterations of L-BFGS.
    shuffle : bool
    random_state : int, RandomState or None
        Determines initial weights and held-out rows, which are the same as in scikit-learn's networks.
    tol : float
        The smallest improvement that counts; for L-BFGS the largest element of the gradient at which it stops.
    verbose : bool or int
        True or 1 for a progress bar, more for a line for each epoch. L-BFGS shows nothing.
    warm_start : bool
        Whether `fit` continues with the existing network and its optimizer's state. Sizes, solver and classes must not
        change.
    momentum : float in [0, 1)
        The momentum of "sgd", as is `nesterovs_momentum`.
    nesterovs_momentum : bool
    early_stopping : bool
        Whether training stops when `monitor` no longer improves on held-out rows, `validation_fraction` of the rows or
        those given to `fit`; then the best parameters are restored. Otherwise the training loss is monitored.
    validation_fraction : float in (0, 1)
    monitor : str
        "loss" or one of `nbbp.METRICS`, recorded in `history_` if there are validation data.
    beta_1, beta_2 : float in [0, 1)
        The decay rates of "adam".
    epsilon : float
        For "adam": added to the root of the second moment after its correction; scikit-learn adds it before.
    n_iter_no_change : int or infinity
        The number of consecutive epochs without improvement that are tolerated.
    max_fun : int
        For "lbfgs": the number of evaluations of the loss after which no iteration begins."""


@dataclasses.dataclass(eq=False, repr=False)
class Parameters(BaseEstimator):
    """Both estimators' parameters; `PARAMETERS` describes them."""

    hidden_layer_sizes: int | Sequence[int] = (100,)
    activation: str | Sequence[str] = "relu"
    _: dataclasses.KW_ONLY
    loss: str | Loss
    dropout: float | Sequence[float] = 0.0
    solver: str | Optimizer = "adam"
    alpha: float = 0.0001
    batch_size: int | str = "auto"
    learning_rate: str = "constant"
    learning_rate_init: float = 0.001
    power_t: float = 0.5
    max_iter: int = 200
    shuffle: bool = True
    random_state: Any = None
    tol: float = 1e-4
    verbose: bool | int = False
    warm_start: bool = False
    momentum: float = 0.9
    nesterovs_momentum: bool = True
    early_stopping: bool = False
    validation_fraction: float = 0.1
    monitor: str
    beta_1: float = 0.9
    beta_2: float = 0.999
    epsilon: float = 1e-8
    n_iter_no_change: float = 10
    max_fun: int = 15000

    def _check_parameters(self) -> None:
        """Check what the network does not check itself."""
        for name in ("shuffle", "warm_start", "nesterovs_momentum", "early_stopping"):
            checks.boolean(name, getattr(self, name))
        for name in ("alpha", "tol", "power_t"):
            checks.number(name, getattr(self, name))
        checks.number("validation_fraction", self.validation_fraction, high=1.0, open_low=True)
        for name in ("max_iter", "max_fun"):
            checks.positive_integer(name, getattr(self, name))
        if not isinstance(self.verbose, bool):
            checks.integer("verbose", self.verbose, least=0)
        checks.choose("learning_rate", self.learning_rate, dict.fromkeys(("constant", "invscaling", "adaptive")))
        if self.learning_rate != "constant" and isinstance(getattr(self.solver, "learning_rate", 0), Schedule):
            raise ValueError(f"learning_rate={self.learning_rate!r} changes a number, and the solver has a schedule")
        checks.choose("monitor", self.monitor, {"loss": None} | METRICS)
        if self.batch_size != "auto":
            checks.positive_integer("batch_size", self.batch_size)
        if self.n_iter_no_change != math.inf:
            checks.positive_integer("n_iter_no_change", self.n_iter_no_change)

    @property
    def _hidden(self) -> list[tuple[int, str, float]]:
        """Units, activation and dropout of each hidden layer."""
        sizes = self.hidden_layer_sizes
        sizes = list(sizes) if isinstance(sizes, Iterable) else [sizes]
        activations, rates = _each("activation", self.activation, sizes), _each("dropout", self.dropout, sizes)
        return list(zip(sizes, activations, rates, strict=True))


def _each(name: str, value, sizes: list) -> list:
    """The values of the hidden layers, one for each."""
    if isinstance(value, str) or not isinstance(value, Iterable):
        return [value] * len(sizes)
    if len(values := list(value)) != len(sizes):
        raise ValueError(f"{name} has {len(values)} values for {len(sizes)} hidden layers")
    return values
