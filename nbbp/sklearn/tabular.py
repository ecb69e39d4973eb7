"""TabularClassifier and TabularRegressor: networks for tables as they are."""

import dataclasses
from collections.abc import Sequence
from typing import Any, Self

import numpy as np
from scipy.sparse import issparse
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin
from sklearn.utils import check_random_state, column_or_1d
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, validate_data

from nbbp import checks
from nbbp.recipes.conformal import margin
from nbbp.recipes.presets import PRESETS, Preset, Target
from nbbp.recipes.tabular import TableModel, TableTraining
from nbbp.tables import ClassTarget, TableEncoder, ValueTarget
from nbbp.tables.cells import Cells, cells
from nbbp.tables.frames import is_table
from nbbp.training.history import History

PARAMETERS = """preset : str or nbbp.recipes.presets.Preset
        One of `nbbp.recipes.presets.PRESETS`: the encoding of the columns, the network and its training.
    epochs : int or None
        The number of epochs; None for the preset's.
    members : int
        The number of networks whose predictions are averaged; each has held-out rows of its own.
    folds : int or None
        With a number, the rows are divided into so many folds, and `members` networks are trained for each, with that
        fold held out.
    validation_fraction : float in (0, 0.5)
        The share of the rows that are held out without `folds`, on which the loss chooses the best epoch.
    categorical : sequence of str
        Columns of numbers that are categories, such as postal codes.
    random_state : int, RandomState or None
        Determines the held-out rows, the initial weights and the order of the rows.
    verbose : bool
        Whether a progress bar is shown."""

ATTRIBUTES = """model_ : nbbp.recipes.tabular.TableModel
        The networks, with what was learned of the columns and of y.
    left_out_ : dict of str to str
        The columns from which nothing can be learned, and why.
    histories_ : list of nbbp.History
        Losses and metrics of every epoch, of each network.
    n_iter_ : int
        The number of epochs.
    n_features_in_ : int
    feature_names_in_ : ndarray (features,)
        The names of X's columns, if it had any."""


@dataclasses.dataclass(eq=False, repr=False)
class Tabular(BaseEstimator):
    """Base of the estimators."""

    preset: str | Preset = "plain"
    _: dataclasses.KW_ONLY
    epochs: int | None = None
    members: int = 1
    folds: int | None = None
    validation_fraction: float = 0.15
    categorical: Sequence[str] = ()
    random_state: Any = None
    verbose: bool = False

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = tags.input_tags.string = tags.input_tags.categorical = True
        return tags

    def fit(self, X, y) -> Self:
        """Learn the columns, and train.

        Parameters
        ----------
        X : table of pandas, polars or pyarrow, or array_like (rows, features)
            Numbers, text, categories, booleans and dates, any of them missing.
        y : array_like (rows,)

        Returns
        -------
        self

        Raises
        ------
        nbbp.tables.CellError
            If a number is infinite, a text is no date in a column of dates, or a y is missing; it names row and column.
        ValueError
            If nothing can be learned from any column.
        """
        preset = self.preset if isinstance(self.preset, Preset) else checks.choose("preset", self.preset, PRESETS)
        if self.epochs is not None:
            preset = dataclasses.replace(preset, epochs=checks.positive_integer("epochs", self.epochs))
        if y is None:
            raise ValueError(f"{type(self).__name__} requires y to be passed, but the target y is None")
        columns, y = self._columns(X, reset=True), column_or_1d(y, warn=True)
        if len(y) != len(columns[0]):
            raise ValueError(f"X has {len(columns[0])} rows and y {len(y)}; they must have as many")
        target = self._target(y)
        labels = target.encode(y)
        encoder = TableEncoder.fit_cells(
            columns, is_table(X), self.categorical, "X", **preset.encoding(columns, labels)
        )
        training = TableTraining(
            encoder, target, encoder.encode_cells(columns), labels, preset, self.members,
            validation_share=self.validation_fraction, folds=self.folds, sample_weight=self._weights(labels),
            seed=check_random_state(self.random_state).randint(np.iinfo(np.int32).max),
        )  # fmt: skip
        training.run(int(bool(self.verbose)))
        self._learn_from(training)
        self.model_: TableModel = training.model
        self.left_out_ = dict(encoder.left_out)
        self.histories_: list[History] = training.histories
        self.n_iter_ = max(len(history) for history in self.histories_)
        return self

    def _target(self, y: np.ndarray) -> Target:
        """What is learned of y."""
        raise NotImplementedError

    def _weights(self, labels: np.ndarray) -> np.ndarray | None:
        """The weight of each row (rows,)."""
        return None

    def _learn_from(self, training: TableTraining) -> None:
        """Store what the training says beside the model."""

    def _columns(self, X, reset: bool) -> list[Cells]:
        """The columns of X, checked as scikit-learn does it: they have the names of the fit."""
        if is_table(X) and not issparse(X):
            validate_data(self, X, reset=reset, skip_check_array=True)
        else:
            X = validate_data(
                self, X, reset=reset, dtype=None, ensure_all_finite="allow-nan", ensure_min_samples=2 if reset else 1
            )
        names = getattr(self, "feature_names_in_", [f"x{k}" for k in range(self.n_features_in_)])
        return [dataclasses.replace(c, name=str(name)) for c, name in zip(cells("X", X), names, strict=True)]

    def _outputs(self, X) -> np.ndarray:
        """The probabilities (rows, classes), or values (rows,)."""
        check_is_fitted(self, "model_")
        return self.model_.decoded(self.model_.encoder.encode_cells(self._columns(X, reset=False)))


@dataclasses.dataclass(eq=False, repr=False)
class TabularClassifier(ClassifierMixin, Tabular):
    __doc__ = f"""Classes from the rows of a table as it is: numbers, text, categories, booleans, dates, missing values.

    Parameters
    ----------
    {PARAMETERS}
    class_weight : dict, "balanced" or None
        The weight of each class, in training and in validation.

    Attributes
    ----------
    classes_ : ndarray (classes,)
    {ATTRIBUTES}

    Examples
    --------
    >>> from sklearn.datasets import load_wine
    >>> from nbbp.sklearn import TabularClassifier
    >>> X, y = load_wine(return_X_y=True)
    >>> TabularClassifier(random_state=0).fit(X, y).score(X, y) > 0.95
    True
    """

    _: dataclasses.KW_ONLY
    class_weight: dict | str | None = None

    def predict_proba(self, X) -> np.ndarray:
        """Probabilities (rows, classes) in the order of `classes_`.

        Parameters
        ----------
        X : table or array_like (rows, features)
        """
        return self._outputs(X)

    def predict_log_proba(self, X) -> np.ndarray:
        """The logarithm of `predict_proba`."""
        with np.errstate(divide="ignore"):
            return np.log(self.predict_proba(X))

    def predict(self, X) -> np.ndarray:
        """The predicted classes (rows,).

        Parameters
        ----------
        X : table or array_like (rows, features)
        """
        chosen = self.predict_proba(X).argmax(axis=1)
        return self.classes_[chosen]

    def _target(self, y):
        target = ClassTarget.fit(y)
        check_classification_targets(y)
        self.classes_ = np.array(target.classes, y.dtype)
        return target

    def _weights(self, labels):
        weight = self.class_weight
        if isinstance(weight, dict):
            unknown = [label for label in weight if label not in self.classes_]
            if unknown:
                raise ValueError(f"class_weight: {unknown[0]!r} is none of the classes {self.classes_.tolist()}")
            weight = {k: weight.get(label, 1.0) for k, label in enumerate(self.classes_.tolist())}
        return checks.weights(labels[:, np.newaxis], None, weight, np.float64)


@dataclasses.dataclass(eq=False, repr=False)
class TabularRegressor(RegressorMixin, Tabular):
    __doc__ = f"""Values from the rows of a table as it is: numbers, text, categories, booleans, dates, missing values.

    Predictions lie within the range of y.

    Parameters
    ----------
    {PARAMETERS}

    Attributes
    ----------
    residuals_ : ndarray (rows held out,)
        Truth minus prediction of the rows held out, by the networks that did not train on them.
    {ATTRIBUTES}

    Examples
    --------
    >>> from sklearn.datasets import load_diabetes
    >>> from nbbp.sklearn import TabularRegressor
    >>> X, y = load_diabetes(return_X_y=True, as_frame=True)
    >>> TabularRegressor(random_state=0).fit(X[:300], y[:300]).score(X[300:], y[300:]) > 0.4
    True
    """

    def predict(self, X) -> np.ndarray:
        """The predicted values (rows,), float64.

        Parameters
        ----------
        X : table or array_like (rows, features)
        """
        return self._outputs(X)

    def predict_interval(self, X, coverage: float = 0.9) -> np.ndarray:
        """Intervals around the predictions (rows, 2) that contain the truth of new rows with a given probability.

        They are conformal, see `nbbp.recipes.conformal.margin`: as wide as the residuals of the rows held out from
        training, which also chose the best epoch, require. All have the same width.

        Parameters
        ----------
        X : table or array_like (rows, features)
        coverage : float in (0, 1)
            The probability, on average over rows.
        """
        check_is_fitted(self, "model_")
        return self.predict(X)[:, np.newaxis] + margin(self.residuals_, coverage) * np.array([-1.0, 1.0])

    def _learn_from(self, training):
        self.residuals_ = training.residuals()

    def _target(self, y):
        return ValueTarget.fit(y)
