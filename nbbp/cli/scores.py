"""Scores of predictions beside those of a baseline that looks at no column."""

import numpy as np

from nbbp import metrics
from nbbp.recipes.presets import Target
from nbbp.tables import ClassTarget

SHARES = ("accuracy", "R2", "AUC", "log loss")  # shown with four decimals, as precision and recall are


def scores(target: Target, truth: np.ndarray, prediction: np.ndarray, train: np.ndarray) -> dict[str, list[float]]:
    """By name, the scores of the model and of the baseline; the first is the most important, and higher is better.

    Parameters
    ----------
    truth : ndarray (rows,)
        The encoded target.
    prediction : ndarray (rows, classes) or (rows,)
        Probabilities, or values in the units of the target.
    train : ndarray (rows to train on,)
        Their encoded target, from which the baseline has the shares of the classes, or the mean.
    """
    if not isinstance(target, ClassTarget):
        mean, truth = target.decode(np.full(len(truth), train.mean())), target.decode(truth)
        functions = {"R2": metrics.r2, "mean absolute error": metrics.mae, "root of mean square error": metrics.rmse}
        return {
            name: [float(score(truth[:, np.newaxis], p[:, np.newaxis])) for p in (prediction, mean)]
            for name, score in functions.items()
        }
    shares = np.bincount(train, minlength=len(target.classes)) / len(train)
    each = [_of_classes(target, truth, p) for p in (prediction, np.broadcast_to(shares, prediction.shape))]
    return {name: [found[name] for found in each] for name in each[0]}


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
    return {name: float(value) for name, value in found.items()}


def shown(name: str, value: float) -> str:
    """A score as text: four decimals, or as many digits if it has the target's units."""
    if name in SHARES or name.startswith(("precision", "recall")):
        return f"{round(value, 4) + 0.0:.4f}"  # no -0.0000
    return f"{value:.4g}"
