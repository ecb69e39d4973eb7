"""Scores of predictions, beside those of a model that looks at no column and of a linear one."""

from collections.abc import Mapping

import numpy as np

from nbbp import metrics
from nbbp.recipes.presets import Target
from nbbp.tables import ClassTarget, ValueTarget

SHARES = ("accuracy", "R2", "AUC", "log loss")  # shown with four decimals, as precision and recall are
ERRORS = ("log loss", "mean absolute error", "root of mean square error")


def constant(target: Target, train: np.ndarray, rows: int) -> np.ndarray:
    """The prediction of a model that looks at no column: the shares of the classes, or the mean, of y of `train`."""
    if not isinstance(target, ClassTarget):
        return target.decode(np.full(rows, train.mean()))
    shares = np.bincount(train, minlength=len(target.classes)) / len(train)
    return np.broadcast_to(shares, (rows, len(shares)))


def scores(target: Target, truth: np.ndarray, predictions: Mapping[str, np.ndarray]) -> dict[str, dict[str, float]]:
    """By name of the score, that of each prediction; the first score is the most important, and higher is better.

    Parameters
    ----------
    truth : ndarray (rows,)
        The encoded target.
    predictions : mapping of str to ndarray (rows, classes) or (rows,)
        By name of the model, probabilities, or values in the units of the target.
    """
    each = {
        name: _of_classes(target, truth, p) if isinstance(target, ClassTarget) else _of_values(target, truth, p)
        for name, p in predictions.items()
    }
    names = next(iter(each.values()))
    return {score: {name: float(found[score]) for name, found in each.items()} for score in names}


def _of_values(target: ValueTarget, truth: np.ndarray, prediction: np.ndarray) -> dict[str, float]:
    truth, p = (values[:, np.newaxis] for values in (target.in_units(truth), prediction))
    functions = {"R2": metrics.r2, "mean absolute error": metrics.mae, "root of mean square error": metrics.rmse}
    return {name: score(truth, p) for name, score in functions.items()}


def _of_classes(target: ClassTarget, truth: np.ndarray, p: np.ndarray) -> dict[str, float]:
    right = p[np.arange(len(truth)), truth]
    found = {"accuracy": float(np.mean(p.argmax(axis=1) == truth))}
    found["log loss"] = float(-np.log(np.maximum(right, np.finfo(np.float32).tiny)).mean())
    if len(target.classes) == 2:
        yes, chosen, label = truth == 1, p.argmax(axis=1) == 1, target.classes[1]
        both = np.count_nonzero(yes & chosen)
        if 0 < yes.sum() < len(yes):
            found["AUC"] = float(metrics.roc_auc(truth[:, np.newaxis], np.ascontiguousarray(p[:, 1:])))
        found[f"precision of {label}"] = both / chosen.sum() if chosen.any() else 0.0
        found[f"recall of {label}"] = both / yes.sum() if yes.any() else 0.0
    return found


def is_worse(target: Target, truth: np.ndarray, prediction: np.ndarray, other: np.ndarray) -> bool:
    """Whether a prediction is worse than another by more than two standard errors, in accuracy or squared error."""
    if isinstance(target, ClassTarget):
        one, two = ((p.argmax(axis=1) != truth).astype(float) for p in (prediction, other))
    else:
        one, two = ((p - target.in_units(truth)) ** 2 for p in (prediction, other))
    lead = one - two
    return bool(lead.mean() > 2 * lead.std() / np.sqrt(len(lead)))


def is_error(name: str) -> bool:
    """Whether smaller is better."""
    return name in ERRORS


def shown(name: str, value: float) -> str:
    """A score as text: four decimals, or as many digits if it has the target's units."""
    if name in SHARES or name.startswith(("precision", "recall")):
        return f"{round(value, 4) + 0.0:.4f}"  # no -0.0000
    return f"{value:.4g}"
