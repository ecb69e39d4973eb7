"""Metrics: functions of targets, predictions and sample weights, in NumPy.

A metric takes ``(y, prediction, weight=None)`` and returns a float, computed in float64:

    y (rows, 1) or (rows, outputs)    integer labels, or values
    prediction (rows, outputs)        what `Sequential.predict` returns
    weight (rows,)                    how much each row counts; None: all the same

Weights act like repeated rows: weight 2 is the row twice, weight 0 no row. At least one is positive.

What accuracy, precision, recall, f1 and roc_auc compare depends on the form of y and prediction:

- One output answers a yes/no question: yes is 1/2 or more, in y and in prediction.
- Several outputs answer a yes/no question each, if y holds values in [0, 1] and not every row sums to 1 (to 0.001).
- Otherwise every row has one class: its label, or the largest element, the first among equals. y holds values in
  [0, 1], or two others, such as -1 and 1; anything else is no class, and a ValueError.

To add one, write a function of (y, prediction, weight), give it a bool ``higher_is_better``, and enter it in METRICS.
"""

import dataclasses
import functools
from collections.abc import Callable, Sequence

import numpy as np

from nbbp import checks


def check_classes(y: np.ndarray) -> None:
    """ValueError if y (rows, outputs) cannot be classes or answers to yes/no questions."""
    low, high = y.min(), y.max()
    coded = y.shape[1] > 1 and np.all((y == low) | (y == high))
    if (low < 0 or high > 1) and not coded:
        raise ValueError(
            f"accuracy, precision, recall, f1 and roc_auc are for classes; y holds values from {low:g} to {high:g}: "
            f"take mse, mae or r2, or code yes as 1 and no as 0"
        )


def _metric(*, higher_is_better: bool | None) -> Callable[[Callable[..., float]], Callable[..., float]]:
    """Give a metric its direction and a check of its arguments; predictions may be infinite or nan."""

    def decorated(function: Callable[..., float]) -> Callable[..., float]:
        checked = _checked(function)
        checked.higher_is_better = higher_is_better  # type: ignore[attr-defined]
        return checked

    return decorated


def _checked(function: Callable[..., float]) -> Callable[..., float]:
    @functools.wraps(function)
    def checked(y, prediction, weight=None, **more):
        y, prediction = checks.array("y", y), checks.array("prediction", prediction)
        if y.ndim != 2 or prediction.ndim != 2 or len(y) != len(prediction):
            raise ValueError(
                f"{function.__name__} takes y (rows, 1) or (rows, outputs) and prediction (rows, outputs); "
                f"got {y.shape} and {prediction.shape}"
            )
        if y.shape[1] not in (1, prediction.shape[1]):
            raise ValueError(f"y has {y.shape[1]} columns, and there are {prediction.shape[1]} outputs")
        checks.finite("y", y, y)
        with np.errstate(all="ignore"):  # the loss reports a network that diverges
            return function(y, prediction, checks.weights(y, weight, None, np.float64), **more)

    return checked


def _truth(y: np.ndarray, prediction: np.ndarray) -> np.ndarray:
    """Classes (rows,), or answers to yes/no questions (rows, outputs), bool."""
    if y.shape[1] == 1 < prediction.shape[1]:
        return checks.labels("y", y, prediction.shape[1])[:, 0]
    check_classes(y)
    if prediction.shape[1] == 1:
        return y >= 0.5
    distributions = np.allclose(y.sum(axis=1, dtype=np.float64), 1, atol=1e-3)  # even if they were rounded
    return y.argmax(axis=1) if distributions or y.min() < 0 or y.max() > 1 else y >= 0.5


def _truth_and_guess(y: np.ndarray, prediction: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """`_truth`, and the predicted classes or answers, of the same shape."""
    truth = _truth(y, prediction)
    return truth, prediction.argmax(axis=1) if truth.ndim == 1 else prediction >= 0.5


def _weights(y: np.ndarray, weight: np.ndarray | None) -> np.ndarray:
    return np.ones(len(y)) if weight is None else np.asarray(weight, np.float64)


def _over_rows(values: np.ndarray, weight: np.ndarray | None) -> np.ndarray:
    """Weighted mean over rows of (rows,) or (rows, outputs); np.mean would take three times as long as the sum."""
    total = np.add.reduce(values, axis=0, dtype=np.float64) if weight is None else None
    return np.average(values, axis=0, weights=weight) if total is None else total / len(values)


@_metric(higher_is_better=True)
def accuracy(y: np.ndarray, prediction: np.ndarray, weight: np.ndarray | None = None) -> float:
    """Share of right answers.

    The share of rows whose class is right, or of yes/no answers that are right: with several labels a row, the mean
    over rows and outputs, 1 minus the Hamming loss (Schapire and Singer, Machine Learning 39, 2000).

    Parameters
    ----------
    y : ndarray (rows, 1) or (rows, outputs)
    prediction : ndarray (rows, outputs)
    weight : ndarray (rows,), optional

    Returns
    -------
    float
        In [0, 1].

    Examples
    --------
    >>> import numpy as np
    >>> from nbbp.metrics import METRICS
    >>> METRICS["accuracy"](np.array([[0], [1], [1]]), np.array([[0.9, 0.1], [0.2, 0.8], [0.6, 0.4]]))
    0.6666666666666666
    """
    truth, guess = _truth_and_guess(y, prediction)
    return float(_over_rows(truth == guess, weight).mean())


@_metric(higher_is_better=True)
def top_k_accuracy(y: np.ndarray, prediction: np.ndarray, weight: np.ndarray | None = None, k: int = 5) -> float:
    """Share of rows whose class is among the k largest outputs (Russakovsky et al., IJCV 115, 2015, with k = 5).

    Of equal outputs the first ranks first, so that k = 1 is accuracy. With k outputs or fewer it is 1. For another k,
    add an entry: ``METRICS["top_3_accuracy"] = functools.partial(top_k_accuracy, k=3)``.

    Parameters
    ----------
    y : ndarray (rows, 1) or (rows, outputs)
        One class a row; yes/no answers raise ValueError.
    prediction : ndarray (rows, outputs)
    weight : ndarray (rows,), optional
    k : int

    Returns
    -------
    float
        In [0, 1].
    """
    labels = _truth(y, prediction)
    if labels.ndim != 1:
        raise ValueError(f"top_k_accuracy ranks classes; y {y.shape} answers yes/no questions")
    outputs, labels = prediction.shape[1], labels[:, np.newaxis]
    own = np.take_along_axis(prediction, labels, axis=1)
    behind = (prediction < own) | ((prediction == own) & (np.arange(outputs) > labels))
    return float(_over_rows(behind.sum(axis=1) >= outputs - k, weight).mean())


def _totals(y: np.ndarray, prediction: np.ndarray, weight: np.ndarray | None) -> tuple[np.ndarray, ...]:
    """True positives TP, predicted positives TP + FP and positives TP + FN of each output, (outputs,) each."""
    truth, guess = _truth_and_guess(y, prediction)
    w = _weights(y, weight)
    if truth.ndim == 1:
        outputs = prediction.shape[1]
        parts = (truth, w * (truth == guess)), (guess, w), (truth, w)
        return tuple(np.bincount(classes, part, outputs) for classes, part in parts)
    return tuple(np.sum(w[:, np.newaxis] * yes, axis=0) for yes in (truth & guess, guess, truth))


def _macro(part: np.ndarray, whole: np.ndarray, occurs: np.ndarray) -> float:
    """Mean of part / whole over the outputs that occur; 0 / 0 is 0."""
    ratio = np.divide(part, whole, out=np.zeros(len(part)), where=whole > 0)
    return float(ratio.sum() / max(np.count_nonzero(occurs), 1))


@_metric(higher_is_better=True)
def precision(y: np.ndarray, prediction: np.ndarray, weight: np.ndarray | None = None) -> float:
    """Share of predicted positives that are right, TP / (TP + FP) (van Rijsbergen, Information Retrieval, 1979, ch. 7).

    TP, FP and FN are true positives, false positives and false negatives of one output: of yes, or of its class
    against all others. With several outputs it is their mean (macro average), without classes that occur neither in y
    nor in the predictions. 0 / 0 is 0.

    Parameters
    ----------
    y : ndarray (rows, 1) or (rows, outputs)
    prediction : ndarray (rows, outputs)
    weight : ndarray (rows,), optional

    Returns
    -------
    float
        In [0, 1].
    """
    hits, guessed, actual = _totals(y, prediction, weight)
    return _macro(hits, guessed, guessed + actual)


@_metric(higher_is_better=True)
def recall(y: np.ndarray, prediction: np.ndarray, weight: np.ndarray | None = None) -> float:
    """Share of the positives that are found, TP / (TP + FN), averaged as `precision` is.

    Parameters
    ----------
    y : ndarray (rows, 1) or (rows, outputs)
    prediction : ndarray (rows, outputs)
    weight : ndarray (rows,), optional

    Returns
    -------
    float
        In [0, 1].
    """
    hits, guessed, actual = _totals(y, prediction, weight)
    return _macro(hits, actual, guessed + actual)


@_metric(higher_is_better=True)
def f1(y: np.ndarray, prediction: np.ndarray, weight: np.ndarray | None = None) -> float:
    """Harmonic mean of precision and recall, 2 TP / (2 TP + FP + FN), of each output, averaged as `precision` is.

    The mean of the outputs' values, not the value of mean precision and mean recall (Opitz and Burst,
    arXiv:1911.03347).

    Parameters
    ----------
    y : ndarray (rows, 1) or (rows, outputs)
    prediction : ndarray (rows, outputs)
    weight : ndarray (rows,), optional

    Returns
    -------
    float
        In [0, 1].
    """
    hits, guessed, actual = _totals(y, prediction, weight)
    return _macro(2 * hits, guessed + actual, guessed + actual)


@_metric(higher_is_better=True)
def roc_auc(y: np.ndarray, prediction: np.ndarray, weight: np.ndarray | None = None) -> float:
    """Area under the receiver operating characteristic: how often a yes has a larger output than a no.

    AUC = P(s+ > s-) + P(s+ = s-) / 2, ties by mid-ranks (Hanley and McNeil, Radiology 143, 1982). With several
    outputs, the mean over the classes, each against all others (Fawcett, Pattern Recognition Letters 27, 2006), or
    over the questions, without those for which y has only yes or only no.

    Parameters
    ----------
    y : ndarray (rows, 1) or (rows, outputs)
    prediction : ndarray (rows, outputs)
    weight : ndarray (rows,), optional

    Returns
    -------
    float
        In [0, 1]; NaN if y has one class only.
    """
    truth = _truth(y, prediction)
    w = _weights(y, weight)
    areas = []
    for j, score in enumerate(prediction.T):
        yes = truth == j if truth.ndim == 1 else truth[:, j]
        _, rank = np.unique(score, return_inverse=True)
        positive, negative = np.bincount(rank, w * yes), np.bincount(rank, w * ~yes)  # (distinct scores,)
        pairs = positive.sum() * negative.sum()
        if pairs > 0:
            areas.append(np.sum(positive * (np.cumsum(negative) - negative / 2)) / pairs)
    return float(np.mean(areas)) if areas else np.nan


def _difference(name: str, y: np.ndarray, prediction: np.ndarray) -> np.ndarray:
    if y.shape != prediction.shape:
        raise ValueError(f"{name} compares values; y holds class labels {y.shape}, predictions are {prediction.shape}")
    return np.subtract(prediction, y, dtype=np.float64)


@_metric(higher_is_better=False)
def mae(y: np.ndarray, prediction: np.ndarray, weight: np.ndarray | None = None) -> float:
    """Mean absolute error, the mean of |p - y| over rows and outputs.

    Parameters
    ----------
    y, prediction : ndarray (rows, outputs)
    weight : ndarray (rows,), optional

    Returns
    -------
    float
    """
    return float(_over_rows(np.abs(_difference("mae", y, prediction)), weight).mean())


@_metric(higher_is_better=False)
def mse(y: np.ndarray, prediction: np.ndarray, weight: np.ndarray | None = None) -> float:
    """Mean squared error, the mean of (p - y)^2 over rows and outputs.

    Parameters
    ----------
    y, prediction : ndarray (rows, outputs)
    weight : ndarray (rows,), optional

    Returns
    -------
    float
    """
    return float(_over_rows(np.square(_difference("mse", y, prediction)), weight).mean())


@_metric(higher_is_better=False)
def rmse(y: np.ndarray, prediction: np.ndarray, weight: np.ndarray | None = None) -> float:
    """Root of the mean squared error over rows and outputs; scikit-learn's is a mean of the outputs' roots.

    Parameters
    ----------
    y, prediction : ndarray (rows, outputs)
    weight : ndarray (rows,), optional

    Returns
    -------
    float
    """
    return float(np.sqrt(_over_rows(np.square(_difference("rmse", y, prediction)), weight).mean()))


@_metric(higher_is_better=True)
def r2(y: np.ndarray, prediction: np.ndarray, weight: np.ndarray | None = None) -> float:
    """Coefficient of determination, 1 - sum (p - y)^2 / sum (y - mean y)^2, the mean over outputs.

    Draper and Smith, Applied Regression Analysis, 1998. An output whose target is constant counts 1 if the
    prediction is perfect and 0 otherwise, as in scikit-learn.

    Parameters
    ----------
    y, prediction : ndarray (rows, outputs)
    weight : ndarray (rows,), optional

    Returns
    -------
    float
        At most 1; 0 for a prediction that is always the mean.
    """
    error = _over_rows(np.square(_difference("r2", y, prediction)), weight)
    anchor = y[
        0 if weight is None else np.argmax(weight)
    ]  # a row that counts, so that a constant has variance 0 exactly
    shifted = np.subtract(y, anchor, dtype=np.float64)
    variance = _over_rows(np.square(shifted - _over_rows(shifted, weight)), weight)
    unexplained = np.divide(error, variance, out=(error > 0).astype(np.float64), where=variance > 0)
    return float(_over_rows(1 - unexplained, None))


@_metric(higher_is_better=False)
def pinball(
    y: np.ndarray,
    prediction: np.ndarray,
    weight: np.ndarray | None = None,
    quantiles: Sequence[float] = (0.1, 0.5, 0.9),
) -> float:
    """Mean pinball loss, of max(q (y - p), (q - 1) (y - p)) over rows and quantiles q; see `nbbp.losses.Pinball`.

    For other quantiles, add an entry: ``METRICS["deciles"] = functools.partial(pinball, quantiles=...)``.

    Parameters
    ----------
    y : ndarray (rows, 1)
    prediction : ndarray (rows, quantiles)
    weight : ndarray (rows,), optional
    quantiles : sequence of float

    Returns
    -------
    float
    """
    levels = np.array(checks.quantiles(quantiles))
    if y.shape[1] != 1 or prediction.shape[1] != len(levels):
        raise ValueError(f"pinball takes y (rows, 1) and {len(levels)} quantiles; got {y.shape} and {prediction.shape}")
    error = np.subtract(y, prediction, dtype=np.float64)
    return float(_over_rows(np.maximum(levels * error, (levels - 1) * error), weight).mean())


@_metric(higher_is_better=None)
def coverage(y: np.ndarray, prediction: np.ndarray, weight: np.ndarray | None = None) -> float:
    """Share of the values that lie between the first and the last predicted quantile, or on them.

    It should be near the difference of the two levels, 0.8 between the quantiles 0.1 and 0.9.

    Parameters
    ----------
    y : ndarray (rows, 1)
    prediction : ndarray (rows, quantiles)
    weight : ndarray (rows,), optional

    Returns
    -------
    float
        In [0, 1].
    """
    if y.shape[1] != 1 or prediction.shape[1] < 2:
        raise ValueError(f"coverage takes y (rows, 1) and two quantiles or more; got {y.shape} and {prediction.shape}")
    return float(_over_rows((prediction[:, :1] <= y) & (y <= prediction[:, -1:]), weight)[0])


METRICS: dict[str, Callable[..., float]] = {
    "accuracy": accuracy,
    "top_k_accuracy": top_k_accuracy,
    "precision": precision,
    "recall": recall,
    "f1": f1,
    "roc_auc": roc_auc,
    "mae": mae,
    "mse": mse,
    "rmse": rmse,
    "r2": r2,
    "pinball": pinball,
    "coverage": coverage,
}

OF_CLASSES = frozenset(METRICS) - {"mae", "mse", "rmse", "r2", "pinball", "coverage"}


def higher_is_better(metric: Callable) -> bool | None:
    """Whether higher is better, according to the attribute of this name; None if it has none."""
    while isinstance(metric, functools.partial) and not hasattr(metric, "higher_is_better"):
        metric = metric.func
    said = getattr(metric, "higher_is_better", None)
    if said is not None:
        checks.boolean(f"higher_is_better of {metric!r}", said)
    return said


@dataclasses.dataclass(frozen=True)
class OwnMetric:
    """A user's function ``f(y, prediction)``, without weights, as a metric."""

    name: str
    function: Callable

    @property
    def higher_is_better(self) -> bool | None:
        return higher_is_better(self.function)

    def __call__(self, y: np.ndarray, prediction: np.ndarray, weight: np.ndarray | None = None) -> float:
        value = self.function(y, prediction)
        if np.ndim(value):
            raise ValueError(f"metric {self.name} must give a number, got an array of shape {np.shape(value)}")
        return float(value)


def named(given: str | Callable) -> tuple[str, Callable[..., float]]:
    """The name of a metric that the user gave, and its function of (y, prediction, weight)."""
    if isinstance(given, OwnMetric):
        return given.name, given
    if not callable(given):
        return given, checks.choose("metric", given, METRICS)
    name = getattr(given, "__name__", type(given).__name__)
    return name, OwnMetric(name, given)
