"""MLPClassifier."""

import dataclasses
from typing import Self

import numpy as np
from scipy.sparse import issparse
from sklearn.base import ClassifierMixin
from sklearn.preprocessing import LabelEncoder
from sklearn.utils import compute_sample_weight
from sklearn.utils.metaestimators import available_if
from sklearn.utils.multiclass import check_classification_targets, type_of_target, unique_labels

from nbbp import checks
from nbbp.losses import LOSSES, Loss
from nbbp.sklearn.attributes import ATTRIBUTES
from nbbp.sklearn.base import MLP, stochastic
from nbbp.sklearn.network import Head
from nbbp.sklearn.parameters import PARAMETERS


@dataclasses.dataclass(eq=False, repr=False)
class MLPClassifier(ClassifierMixin, MLP):
    __doc__ = f"""Networks of dense layers for classes, or for several labels a row.

    Two classes have one sigmoid output, more classes a softmax, and labels (y is an indicator matrix) a sigmoid each.

    Parameters
    ----------
    {PARAMETERS}
    loss : str or Loss
        "log_loss", the cross-entropy, summed over labels; or one of `nbbp.LOSSES`, applied to the probabilities if it
        has no sigmoid or softmax of its own: "mse" is the Brier score.
    class_weight : dict, "balanced" or None
        The weight of each class, in training and in validation.

    Attributes
    ----------
    classes_ : ndarray (classes,)
    {ATTRIBUTES}

    Examples
    --------
    >>> from nbbp.datasets import load_digits
    >>> from nbbp.sklearn import MLPClassifier
    >>> X, y = load_digits()
    >>> classifier = MLPClassifier((32,), dropout=0.2, early_stopping=True, random_state=0).fit(X, y)
    >>> classifier.score(X, y) > 0.95
    True
    """

    _: dataclasses.KW_ONLY
    loss: str | Loss = "log_loss"
    monitor: str = "accuracy"
    class_weight: dict | str | None = None

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_label = True
        return tags

    @available_if(stochastic)
    def partial_fit(self, X, y, sample_weight=None, classes=None, eval_set: tuple | None = None) -> Self:
        """Train the existing network for one more epoch.

        With `early_stopping` and `eval_set`, the best parameters are restored and `history_.stopped` says so once
        `n_iter_no_change` calls in a row have brought no improvement.

        Parameters
        ----------
        X, y, sample_weight, eval_set
            As for `fit`.
        classes : array_like (classes,)
            All classes that will occur; needed in the first call, unless y is an indicator matrix.

        Returns
        -------
        self
        """
        self._check_parameters()
        if isinstance(self.class_weight, str):
            raise ValueError("partial_fit does not see all rows at once: give class_weight as a dict")
        go_on = hasattr(self, "history_")
        X, y = self._validated(X, y, reset=not go_on)
        if not go_on and y.ndim == 1 and classes is None:
            raise ValueError("classes must be passed on the first call to partial_fit.")
        if not go_on:
            self._learn_targets(np.asarray(classes) if y.ndim == 1 else y)
        elif not (classes is None or np.array_equal(self.classes_, classes)) and not np.array_equal(
            self.classes_, np.unique(classes)
        ):
            raise ValueError(f"classes are {self.classes_} from the first call on, got {classes}")
        return self._fit_once_more(X, y, sample_weight, eval_set, go_on)

    def predict(self, X) -> np.ndarray:
        """The predicted classes (rows,), or labels (rows, labels) of 0 and 1.

        Parameters
        ----------
        X : array_like or sparse matrix (rows, features)
        """
        p = self.predict_proba(X)
        return (p > 0.5).astype(np.int64) if self._multilabel else self.classes_[p.argmax(axis=1)]

    def predict_proba(self, X) -> np.ndarray:
        """Probabilities (rows, classes) in the order of `classes_`, or (rows, labels).

        Parameters
        ----------
        X : array_like or sparse matrix (rows, features)
        """
        p = self._outputs(X)
        if self._multilabel or p.shape[1] > 1:
            return p
        return np.hstack([1 - p, p]) if len(self.classes_) > 1 else np.ones_like(p)

    def predict_log_proba(self, X) -> np.ndarray:
        """The logarithm of `predict_proba`."""
        with np.errstate(divide="ignore"):
            return np.log(self.predict_proba(X))

    def _validated(self, X, y, reset):
        X, y = super()._validated(X, y, reset)
        if not self._is_plain_target(y):
            check_classification_targets(y)
        return X, y.toarray() if issparse(y) else y

    def _is_plain_target(self, y):
        return type(y) is np.ndarray and y.ndim == 1 and y.dtype.kind == "i"

    def _learn_targets(self, y):
        self._multilabel = type_of_target(y) == "multilabel-indicator"
        if self._multilabel:
            self.classes_ = np.arange(y.shape[1])
            return
        if y.ndim > 1:
            raise ValueError("y with several columns must be an indicator matrix of labels, 0 and 1")
        self._encoder = LabelEncoder().fit(y)
        self.classes_ = self._encoder.classes_

    def _check_targets(self, y):
        classes = unique_labels(y)
        if set(classes) != set(self.classes_):
            raise ValueError(
                "warm_start can only be used where `y` has the same classes as in the previous call to fit. "
                f"Previously got {self.classes_}, `y` has {classes}"
            )

    def _encoded(self, y):
        if self._multilabel:
            return y
        labels = self._labels(y)
        if len(self.classes_) > 2 and self._head().loss.labels is None:
            return np.eye(len(self.classes_), dtype=np.float32)[labels]
        return labels

    def _labels(self, y: np.ndarray) -> np.ndarray:
        """Places in `classes_` (rows,)."""
        if y.dtype == self.classes_.dtype and self._is_plain_target(y):
            labels = np.searchsorted(self.classes_, y)
            if np.array_equal(self.classes_.take(labels, mode="clip"), y):
                return labels
        return self._encoder.transform(y)  # which says what it does not know

    def _class_weights(self, y):
        return None if self.class_weight is None else compute_sample_weight(self.class_weight, y)

    def _head(self):
        classes = len(self.classes_)
        softmax = classes > 2 and not self._multilabel
        link, units = ("softmax", classes) if softmax else ("sigmoid", classes if self._multilabel else 1)
        if self.loss == "log_loss":
            loss = LOSSES["softmax_cross_entropy" if softmax else "binary_cross_entropy"]
            return Head(units, "linear", loss, scale=units if self._multilabel else 1)  # its mean over labels
        loss = self.loss if isinstance(self.loss, Loss) else checks.choose("loss", self.loss, LOSSES)
        needs_softmax = loss.from_probabilities or loss.target_columns(2) > 2
        if loss.link not in ("linear", link) or (needs_softmax and not softmax):
            raise ValueError(f"{loss.name} is not a loss of {link} outputs, which these classes have")
        return Head(units, link if loss.link == "linear" else "linear", loss)
