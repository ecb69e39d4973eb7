"""The common base of classifier and regressor: checks of the data, and the fit of the network."""

import dataclasses
import warnings
from typing import Any, Self

import numpy as np
from scipy.sparse import issparse
from sklearn.base import is_classifier, is_regressor
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils import check_random_state, column_or_1d
from sklearn.utils.validation import check_is_fitted, validate_data

from nbbp import checks
from nbbp.callbacks import Callback
from nbbp.recipes.lbfgs import fit_lbfgs
from nbbp.schedules import Schedule
from nbbp.sequential import Sequential
from nbbp.sklearn import network
from nbbp.sklearn.attributes import Attributes
from nbbp.sklearn.callbacks import InverseScaling, Lines
from nbbp.sklearn.parameters import Parameters
from nbbp.sklearn.rows import Rows, dense_blocks
from nbbp.sklearn.stopping import Plateau
from nbbp.training.fit import Fit
from nbbp.training.history import History
from nbbp.training.trainer import DivergenceError

NOT_FINITE = (  # scikit-learn's message
    "Solver produced non-finite parameter weights. The input data may contain large values and need to be preprocessed."
)


def stochastic(estimator: "MLP") -> bool:
    """True, or an AttributeError that says why partial_fit is unavailable."""
    if estimator.solver == "lbfgs":
        raise AttributeError("partial_fit needs mini-batches; solver='lbfgs' takes all rows at once")
    return True


@dataclasses.dataclass(eq=False, repr=False)
class MLP(Attributes, Parameters):
    """Base of the estimators."""

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        tags.input_tags.sparse = True
        return tags

    def fit(
        self, X, y, sample_weight=None, eval_set: tuple | None = None, *, X_val=None, y_val=None,
        sample_weight_val=None,
    ) -> Self:  # fmt: skip
        """Train for `max_iter` epochs, or until the score no longer improves.

        Parameters
        ----------
        X : array_like or sparse matrix (rows, features)
            The data. A sparse matrix that would take more than 32 MiB as an array is made dense a few rows at a time,
            again in each epoch: 32 MiB of them are shuffled together. L-BFGS and validation data need all at once.
        y : array_like (rows,) or (rows, outputs)
        sample_weight : array_like (rows,), optional
        eval_set : (X, y) or (X, y, sample_weight), optional
            Validation data, evaluated after every epoch, which decide when to stop with `early_stopping`. In a pipeline
            they do not pass through its transformers, unlike X.
        X_val, y_val, sample_weight_val : array_like, optional
            The same as separate arguments. ``Pipeline(..., transform_input=["X_val"])`` transforms them like X, if
            metadata routing is enabled and ``set_fit_request(X_val=True, y_val=True)`` requests them.

        Returns
        -------
        self

        Raises
        ------
        nbbp.DivergenceError
            If the loss is no longer finite. With `early_stopping` the best parameters are restored instead.
        """
        self._check_parameters()
        if X_val is not None or y_val is not None:
            if X_val is None or y_val is None or eval_set is not None:
                raise ValueError("rows to validate on are X_val and y_val, or eval_set")
            eval_set = X_val, y_val, sample_weight_val
        if self.solver == "lbfgs" and (self.early_stopping or eval_set is not None):
            raise ValueError("solver='lbfgs' measures no rows but those it trains on: no early_stopping, no eval_set")
        go_on = self.warm_start and hasattr(self, "history_")
        X, y = self._validated(X, y, reset=not go_on)
        if go_on:
            self._check_targets(y)
        else:
            self._learn_targets(y)
        rows, held_out = self._rows(X, y, sample_weight), self._held_out(eval_set)
        if held_out is not None:
            rows.warn_if_unlike(held_out)
        random = check_random_state(self.random_state)
        first = None if go_on else network.first_values(self, X.shape[1], self._head(), random)
        if self.early_stopping and held_out is None:
            classes = y if is_classifier(self) and y.ndim == 1 else None
            rows, held_out = rows.split(self.validation_fraction, random, classes)
        self._make_model(rows, held_out, random, first)
        self._plateau = self._new_plateau()
        self._train(rows, held_out, self.max_iter, go_on)
        self._plateau.put_back_best(self.model_)
        stopped = self.history_.stopped
        if not stopped or (self.solver == "lbfgs" and "CONVERGENCE" not in stopped):
            limits = f"max_iter={self.max_iter}" + (f" and max_fun={self.max_fun}" if self.solver == "lbfgs" else "")
            warnings.warn(f"no convergence within {limits}", ConvergenceWarning, stacklevel=2)
        return self

    def _fit_once_more(self, X, y, sample_weight, eval_set: tuple | None, go_on: bool) -> Self:
        """Train for one epoch; whether the plateau is reached also depends on previous calls."""
        if self.early_stopping and eval_set is None:
            raise ValueError(
                "partial_fit does not support early_stopping=True without an eval_set: rows held out would come again"
            )
        rows, held_out = self._rows(X, y, sample_weight), self._held_out(eval_set)
        random = first = None
        if not go_on:
            random = check_random_state(self.random_state)
            first = network.first_values(self, X.shape[1], self._head(), random)
        self._make_model(rows, held_out, random, first)
        plateau = self._new_plateau()
        if not go_on or plateau.monitor != self._plateau.monitor:
            self._plateau = plateau
        self._train(rows, held_out, 1, go_on)
        if self.history_.stopped:
            self._plateau.put_back_best(self.model_)
        return self

    def _validated(self, X, y, reset: bool) -> tuple[Any, np.ndarray]:
        """X (rows, features) in float32 or float64, and y (rows,) or (rows, outputs)."""
        if not reset and self._is_plain(X) and self._is_plain_target(y) and len(X) == len(y):
            return X, y
        X, y = validate_data(
            self, X, y, reset=reset, accept_sparse="csr", multi_output=True, y_numeric=is_regressor(self),
            dtype=[np.float64, np.float32],
        )  # fmt: skip
        return X, column_or_1d(y, warn=True) if y.ndim == 2 and y.shape[1] == 1 else y

    def _is_plain(self, X) -> bool:
        """Whether X needs none of scikit-learn's checks: they take longer than a small mini-batch does."""
        known = hasattr(self, "model_") and not hasattr(self, "feature_names_in_")
        return known and checks.is_as_needed(X, self.model_.dtype, (self.n_features_in_,))

    def _is_plain_target(self, y) -> bool:
        """Whether y (rows,) is in the form in which it is needed."""
        raise NotImplementedError

    def _learn_targets(self, y: np.ndarray) -> None:
        """Store the form of y and its classes."""
        raise NotImplementedError

    def _check_targets(self, y: np.ndarray) -> None:
        """ValueError if a warm start cannot continue with y."""

    def _encoded(self, y: np.ndarray) -> np.ndarray:
        """y in the form of the loss."""
        raise NotImplementedError

    def _class_weights(self, y: np.ndarray) -> np.ndarray | None:
        """The weight of each row (rows,) by its class."""
        return None

    def _rows(self, X, y: np.ndarray, sample_weight) -> Rows:
        weights, of_classes = checks.weights(y, sample_weight, None, np.float64), self._class_weights(y)
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

    def _make_model(
        self, rows: Rows, held_out: Rows | None, random: np.random.RandomState | None, first: list[np.ndarray] | None
    ) -> None:
        """Set `model_` to a network with these initial values, or to the existing one with the current settings."""
        head = self._head()
        penalty = self.alpha / (2 * self._batch_rows(rows) * rows.mean_weight)
        settings: dict[str, Any] = {
            "layers": network.layers(self, head, penalty),
            "loss": head.loss,
            "optimizer": network.optimizer(self),
            "metrics": [self.monitor] if held_out is not None and self.monitor != "loss" else [],
        }
        if first is None:
            self.model_ = network.continued(self.model_, self._settings, settings)
        else:
            assert random is not None
            seed = random.randint(np.iinfo(np.int32).max)
            self.model_ = Sequential(**settings, seed=seed, dtype=rows.x.dtype.name)
            self.model_.build(rows.x.shape[1])
            for array, values in zip(self.model_.named_params().values(), first, strict=True):
                array[:] = values
        self._settings: dict[str, Any] = settings

    def _batch_rows(self, rows: Rows) -> int:
        if self.solver == "lbfgs":
            return len(rows)
        return min(200 if self.batch_size == "auto" else int(self.batch_size), len(rows))

    def _new_plateau(self) -> Plateau:
        monitor = f"val_{self.monitor}" if self.early_stopping else "loss"
        adaptive = self.learning_rate == "adaptive"
        return Plateau(monitor, self.tol, self.n_iter_no_change, keep_best=self.early_stopping, adaptive=adaptive)

    def _train(self, rows: Rows, held_out: Rows | None, epochs: int, go_on: bool) -> None:
        """Train `model_`, and store its history."""
        self.t_: int = self.t_ if go_on else 0
        try:
            if self.solver == "lbfgs":
                history = self._train_on_all(rows, epochs)
            else:
                history = self._train_in_batches(rows, held_out, epochs)
        except DivergenceError as error:
            error.add_note(NOT_FINITE)
            raise
        self.n_iter_ = len(history)
        if go_on:
            self.history_.extend(history)
        else:
            self.history_: History = history

    def _train_on_all(self, rows: Rows, iterations: int) -> History:
        return fit_lbfgs(
            self.model_, rows.dense, rows.target, iterations, sample_weight=rows.shares(self._head().scale),
            tolerance=self.tol, evaluations=self.max_fun, verbose=int(self.verbose == 1),
            callbacks=[Lines()] if self.verbose > 1 else [],
        )  # fmt: skip

    def _train_in_batches(self, rows: Rows, held_out: Rows | None, epochs: int) -> History:
        if self.batch_size != "auto" and int(self.batch_size) > len(rows):
            text = f"Got `batch_size` less than 1 or larger than sample size: it is clipped to {len(rows)}"
            warnings.warn(text, stacklevel=4)
        model, scale = self.model_, self._head().scale
        callbacks: list[Callback] = [self._plateau]
        if self.learning_rate == "invscaling":
            initial = network.optimizer(self).learning_rate
            assert not isinstance(initial, Schedule)  # _check_parameters
            callbacks.append(InverseScaling(initial, self.power_t, self.t_, len(rows)))
        if self.verbose > 1:
            callbacks.append(Lines())
        data = rows.stream(scale) or model.prepare(rows.dense, rows.target, rows.shares(scale))
        validation = None
        if held_out is not None:
            validation = model.prepare(held_out.dense, held_out.target, held_out.shares(scale), name="validation ")
        fit = Fit(
            model, data, validation, epochs, self._batch_rows(rows), 1, self.shuffle, callbacks,
            verbose=int(self.verbose == 1), mean_weight=scale,
        )  # fmt: skip
        try:
            history = fit.run()
        except DivergenceError as error:
            history = error.history
            if not (self.early_stopping and len(history)):
                raise
            warnings.warn(f"{error}; the best parameters are put back", ConvergenceWarning, stacklevel=4)
            history.note(**dict.fromkeys(history.epochs, np.nan))
            history.stopped = str(error)
        self.t_ += len(history) * len(rows)
        return history

    def _outputs(self, X) -> np.ndarray:
        """The predicted probabilities or values (rows, outputs)."""
        check_is_fitted(self, "model_")
        if self._is_plain(X):
            return self.model_.predict(X)
        X = validate_data(self, X, reset=False, accept_sparse="csr", dtype=[np.float64, np.float32])
        if issparse(X):
            return np.concatenate([self.model_.predict(block) for block in dense_blocks(X)])
        return self.model_.predict(X)
