"""What the classifier and the regressor share: parameters, the network they stand for, and how it is fitted."""

import dataclasses
import math
import warnings
from collections.abc import Iterable, Sequence
from typing import Any, Self

import numpy as np
from sklearn.base import BaseEstimator, is_classifier, is_regressor
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import train_test_split
from sklearn.utils import check_random_state, column_or_1d
from sklearn.utils.validation import check_is_fitted, validate_data

from nbbp import checks
from nbbp.history import History
from nbbp.layers import Dense, Dropout, Layer
from nbbp.lbfgs import fit_lbfgs
from nbbp.losses import Loss
from nbbp.metrics import METRICS
from nbbp.model import Sequential
from nbbp.optimizers import OPTIMIZERS, SGD, Adam, Optimizer
from nbbp.schedules import Schedule
from nbbp.sklearn.stopping import Plateau

ACTIVATION_NAMES = {"identity": "linear", "logistic": "sigmoid"}  # scikit-learn's

PARAMETERS = """hidden_layer_sizes : int or sequence of int
        Units of each hidden layer; ``()`` for a linear model.
    activation : str or sequence of str
        Of the hidden layers, or of each: one of `nbbp.ACTIVATIONS`; "identity" and "logistic" are linear and sigmoid.
    dropout : float or sequence of float
        Share of the outputs of the hidden layers, or of each, that is dropped in training.
    solver : str or Optimizer
        "lbfgs", one of `nbbp.OPTIMIZERS`, or an optimizer with settings of its own, such as
        ``nbbp.SGD(nbbp.schedules.Cosine(0.1, 1000))``, which then has its own learning rate.
    alpha : float
        Strength of the L2 penalty alpha / (2 n) sum w^2, n being the rows of a mini-batch or the sum of their weights.
    batch_size : int or "auto"
        min(200, rows) with "auto".
    learning_rate : {"constant", "adaptive"}
        Adaptive, with any solver but "lbfgs": divided by 5 where training would stop, as long as it is above 1e-6.
    learning_rate_init : float
        For a solver that is a name.
    max_iter : int
        Epochs at most, or iterations of L-BFGS.
    shuffle : bool
    random_state : int, RandomState or None
    tol : float
        The least improvement that counts; for L-BFGS the largest element of the gradient at which it stops.
    verbose : bool or {0, 1, 2}
        True or 1 for a progress bar, 2 for a line for each epoch.
    warm_start : bool
        Whether `fit` goes on with the network and the state of its optimizer that are there. Sizes and solver stay.
    momentum : float in [0, 1)
        For "sgd", as `nesterovs_momentum`.
    nesterovs_momentum : bool
    early_stopping : bool
        Whether training stops when `monitor` no longer improves on rows held out, `validation_fraction` of the rows or
        the `eval_set` given to `fit`; the best parameters are put back. Else the training loss is watched.
    validation_fraction : float in (0, 1)
    monitor : str
        "loss" or one of `nbbp.METRICS`, recorded in `history_` when there are rows to validate on.
    beta_1, beta_2 : float in [0, 1)
        For "adam".
    epsilon : float
        For "adam": added to the root of the second moment after its correction; scikit-learn adds it before.
    n_iter_no_change : int or infinity
        Epochs in a row without improvement that are borne."""

ATTRIBUTES = """model_ : nbbp.Sequential
        The network, float32 if X is, else float64.
    history_ : nbbp.History
        Losses and metrics of every epoch, of warm starts and calls of `partial_fit` too; `stopped` says why it ended.
    n_iter_ : int
        Epochs of the last call.
    n_features_in_ : int
    feature_names_in_ : ndarray (features,)
        Where X had names."""


@dataclasses.dataclass
class Rows:
    """Rows in the network's form: x, target (rows,) or (rows, outputs), and weights (rows,) or None for 1."""

    x: np.ndarray
    target: np.ndarray
    weights: np.ndarray | None

    def part(self, index: np.ndarray) -> "Rows":
        return Rows(self.x[index], self.target[index], None if self.weights is None else self.weights[index])

    @property
    def mean_weight(self) -> float:
        if self.weights is None:
            return 1.0
        if not self.weights.any():
            raise ValueError("weights must not be zero for all rows that are trained on, nor for all that are held out")
        return float(np.mean(self.weights))

    def shares(self, scale: float) -> np.ndarray | None:
        """Weights whose mean is `scale`."""
        if self.weights is None:
            return None if scale == 1 else np.full(len(self.x), scale)
        return self.weights * (scale / self.mean_weight)


@dataclasses.dataclass
class Head:
    """The end of a network: its outputs, their activation, the loss, and what that is multiplied by."""

    units: int
    activation: str
    loss: Loss
    scale: float = 1.0


def stochastic(estimator: "MLP") -> bool:
    """True, or an AttributeError that says why there is no partial_fit."""
    if estimator.solver == "lbfgs":
        raise AttributeError("partial_fit needs mini-batches; solver='lbfgs' takes all rows at once")
    return True


@dataclasses.dataclass(eq=False, repr=False)
class MLP(BaseEstimator):
    """Base of the estimators; `PARAMETERS` and `ATTRIBUTES` describe them."""

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

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags

    def fit(self, X, y, sample_weight=None, eval_set: tuple | None = None) -> Self:
        """Train for `max_iter` epochs, or until there is no more improvement.

        Parameters
        ----------
        X : array_like (rows, features)
        y : array_like (rows,) or (rows, outputs)
        sample_weight : array_like (rows,), optional
        eval_set : (X, y) or (X, y, sample_weight), optional
            Rows that are measured after every epoch, and decide when to stop with `early_stopping`.

        Returns
        -------
        self

        Raises
        ------
        nbbp.DivergenceError
            When the loss is no longer finite.
        """
        self._check_parameters()
        if self.solver == "lbfgs" and (self.early_stopping or eval_set is not None):
            raise ValueError("solver='lbfgs' measures no rows but those it trains on: no early_stopping, no eval_set")
        go_on = self.warm_start and hasattr(self, "history_")
        X, y = self._validated(X, y, reset=not go_on)
        if not go_on:
            self._learn_targets(y)
        rows, held_out = self._rows(X, y, sample_weight), self._held_out(eval_set)
        random = check_random_state(self.random_state)
        if self.early_stopping and held_out is None:
            rows, held_out = self._split(rows, random)
        self._make_model(rows, held_out, random, go_on)
        self._plateau = self._new_plateau()
        self._train(rows, held_out, self.max_iter, go_on)
        self._plateau.put_back_best(self.model_)
        stopped = self.history_.stopped
        if not stopped or (self.solver == "lbfgs" and "CONVERGENCE" not in stopped):
            warnings.warn(f"no convergence within max_iter={self.max_iter}", ConvergenceWarning, stacklevel=2)
        return self

    def _fit_once_more(self, X, y, sample_weight, eval_set: tuple | None, go_on: bool) -> Self:
        """Train for one epoch; whether the plateau is reached depends on the calls before, too."""
        if self.early_stopping and eval_set is None:
            raise ValueError("partial_fit with early_stopping needs an eval_set: rows held out would come again")
        rows, held_out = self._rows(X, y, sample_weight), self._held_out(eval_set)
        self._make_model(rows, held_out, check_random_state(self.random_state), go_on)
        plateau = self._new_plateau()
        if not go_on or plateau.monitor != self._plateau.monitor:
            self._plateau = plateau
        self._train(rows, held_out, 1, go_on)
        if self.history_.stopped:
            self._plateau.put_back_best(self.model_)
        return self

    def _check_parameters(self) -> None:
        """What the network does not check itself."""
        for name in ("shuffle", "warm_start", "nesterovs_momentum", "early_stopping"):
            checks.boolean(name, getattr(self, name))
        for name in ("alpha", "tol"):
            checks.number(name, getattr(self, name))
        checks.number("validation_fraction", self.validation_fraction, high=1.0, open_low=True)
        checks.positive_integer("max_iter", self.max_iter)
        checks.choose("learning_rate", self.learning_rate, {"constant": None, "adaptive": None})
        if self.learning_rate == "adaptive" and isinstance(self._optimizer().learning_rate, Schedule):
            raise ValueError("learning_rate='adaptive' divides a rate that is a number, and the solver has a schedule")
        checks.choose("monitor", self.monitor, {"loss": None} | METRICS)
        if self.batch_size != "auto":
            checks.positive_integer("batch_size", self.batch_size)
        if self.n_iter_no_change != math.inf:
            checks.positive_integer("n_iter_no_change", self.n_iter_no_change)

    def _validated(self, X, y, reset: bool) -> tuple[np.ndarray, np.ndarray]:
        """X (rows, features) in float32 or float64, and y (rows,) or (rows, outputs)."""
        X, y = validate_data(
            self, X, y, reset=reset, multi_output=True, y_numeric=is_regressor(self), dtype=[np.float64, np.float32]
        )
        return X, column_or_1d(y, warn=True) if y.ndim == 2 and y.shape[1] == 1 else y

    def _learn_targets(self, y: np.ndarray) -> None:
        """Remember the form of y, and its classes."""
        raise NotImplementedError

    def _encoded(self, y: np.ndarray) -> np.ndarray:
        """y as the loss takes it."""
        raise NotImplementedError

    def _class_weights(self, y: np.ndarray) -> np.ndarray | None:
        """How much each row counts for its class (rows,)."""
        return None

    def _head(self) -> Head:
        """The end of the network for the targets that were learnt."""
        raise NotImplementedError

    def _rows(self, X: np.ndarray, y: np.ndarray, sample_weight) -> Rows:
        weights, of_classes = checks.weights(X, sample_weight, None, np.float64), self._class_weights(y)
        if weights is not None and of_classes is not None:
            weights = weights * of_classes
        return Rows(X, self._encoded(y), of_classes if weights is None else weights)

    def _held_out(self, eval_set: tuple | None) -> Rows | None:
        if eval_set is None:
            return None
        if not isinstance(eval_set, tuple | list) or len(eval_set) not in (2, 3):
            raise TypeError("eval_set must be a pair (X, y), or (X, y, sample_weight)")
        X, y, *weights = eval_set
        return self._rows(*self._validated(X, y, reset=False), *(weights or [None]))

    def _split(self, rows: Rows, random: np.random.RandomState) -> tuple[Rows, Rows]:
        """Rows to train on and rows held out, in which each class has its share."""
        classes = rows.target if is_classifier(self) and rows.target.ndim == 1 else None
        parts = train_test_split(
            np.arange(len(rows.x)), test_size=self.validation_fraction, random_state=random, stratify=classes
        )
        return rows.part(parts[0]), rows.part(parts[1])

    def _make_model(self, rows: Rows, held_out: Rows | None, random: np.random.RandomState, go_on: bool) -> None:
        """Set `model_` to a new network, or to the one that is there with the present settings."""
        penalty = self.alpha / (2 * self._batch_rows(rows) * rows.mean_weight)
        head = self._head()
        settings: dict[str, Any] = {
            "layers": self._layers(head, penalty),
            "loss": head.loss,
            "optimizer": self._optimizer(),
            "metrics": [self.monitor] if held_out is not None and self.monitor != "loss" else [],
        }
        if not go_on:
            seed = random.randint(np.iinfo(np.int32).max)
            self.model_ = Sequential(**settings, seed=seed, dtype=rows.x.dtype.name)
        elif changed := {name: value for name, value in settings.items() if value != self._settings[name]}:
            before, after = _skeleton(self._settings), _skeleton(settings)
            if before != after:
                raise ValueError(f"the network that is there, {before}, cannot go on as {after}: fit a new one")
            self.model_ = self.model_._copy(**changed)
        self._settings: dict[str, Any] = settings

    def _batch_rows(self, rows: Rows) -> int:
        return min(200 if self.batch_size == "auto" else int(self.batch_size), len(rows.x))

    def _layers(self, head: Head, penalty: float) -> list[Layer]:
        sizes = self.hidden_layer_sizes
        sizes = list(sizes) if isinstance(sizes, Iterable) else [sizes]
        activations, rates = _each("activation", self.activation, sizes), _each("dropout", self.dropout, sizes)
        layers: list[Layer] = []
        for units, activation, rate in zip(sizes, activations, rates, strict=True):
            layers.append(Dense(units, ACTIVATION_NAMES.get(activation, activation), l2=penalty))
            layers += [Dropout(rate)] if rate else []
        return [*layers, Dense(head.units, head.activation, l2=penalty)]

    def _optimizer(self) -> Optimizer:
        if isinstance(self.solver, Optimizer):
            return self.solver
        rate = self.learning_rate_init
        if self.solver == "sgd":
            return SGD(rate, self.momentum, nesterov=self.nesterovs_momentum and self.momentum > 0)
        if self.solver == "adam":
            return Adam(rate, beta1=self.beta_1, beta2=self.beta_2, epsilon=self.epsilon)
        return checks.choose("solver", self.solver, OPTIMIZERS | {"lbfgs": SGD})(rate)

    def _new_plateau(self) -> Plateau:
        monitor = f"val_{self.monitor}" if self.early_stopping else "loss"
        adaptive = self.learning_rate == "adaptive"
        return Plateau(monitor, self.tol, self.n_iter_no_change, keep_best=self.early_stopping, adaptive=adaptive)

    def _train(self, rows: Rows, held_out: Rows | None, epochs: int, go_on: bool) -> None:
        """Train `model_`, and note what was measured."""
        model, scale = self.model_, self._head().scale
        if self.solver == "lbfgs":
            weights = rows.shares(scale)
            history = fit_lbfgs(model, rows.x, rows.target, epochs, sample_weight=weights, tolerance=self.tol)
        else:
            history = model.fit(
                rows.x,
                rows.target,
                epochs=epochs,
                batch_size=self._batch_rows(rows),
                validation_data=None if held_out is None else (held_out.x, held_out.target, held_out.shares(scale)),
                shuffle=self.shuffle,
                verbose=int(self.verbose),
                callbacks=[self._plateau],
                sample_weight=rows.shares(scale),
            )
        self.n_iter_ = len(history)
        if go_on:
            self.history_.extend(history)
        else:
            self.history_: History = history

    def _outputs(self, X) -> np.ndarray:
        """Probabilities or values (rows, outputs)."""
        check_is_fitted(self, "model_")
        return self.model_.predict(validate_data(self, X, reset=False, dtype=[np.float64, np.float32]))

    @property
    def coefs_(self) -> list[np.ndarray]:
        """The weights (inputs, units) of each layer, views."""
        return [array for name, array in self.model_.named_params().items() if name.endswith(".w")]

    @property
    def intercepts_(self) -> list[np.ndarray]:
        """The biases (units,) of each layer, views."""
        return [array for name, array in self.model_.named_params().items() if name.endswith(".b")]

    @property
    def loss_curve_(self) -> list[float]:
        """The training loss of each epoch, penalty included."""
        return self.history_["loss"]

    @property
    def loss_(self) -> float:
        """The training loss of the last epoch."""
        return self.loss_curve_[-1]

    @property
    def n_layers_(self) -> int:
        """Layers of units, input and output included."""
        return len(self.coefs_) + 1

    @property
    def n_outputs_(self) -> int:
        return self.coefs_[-1].shape[1]

    @property
    def t_(self) -> int:
        """Updates that were made."""
        return self.model_.steps

    @property
    def best_loss_(self) -> float:
        """The smallest training loss of an epoch."""
        return min(self.loss_curve_)


def _each(name: str, value, sizes: list) -> list:
    """A value for each hidden layer."""
    if isinstance(value, str) or not isinstance(value, Iterable):
        return [value] * len(sizes)
    if len(values := list(value)) != len(sizes):
        raise ValueError(f"{name} has {len(values)} values for {len(sizes)} hidden layers")
    return values


def _skeleton(settings: dict) -> str:
    """What has to stay the same where training goes on: units, and the optimizer's arrays."""
    optimizer = settings["optimizer"]
    units = [layer.units for layer in settings["layers"] if isinstance(layer, Dense)]
    return f"{units} trained by {type(optimizer).__name__} with {optimizer.moments} moments"
