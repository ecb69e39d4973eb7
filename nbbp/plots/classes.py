"""Classes from what the user gives: labels, a column for each class, or probabilities."""

import numpy as np

from nbbp import checks


def columns(name: str, data) -> np.ndarray:
    """The data as finite numbers (rows, columns)."""
    given = checks.array(name, data)
    checks.finite(name, given, given)
    return given.reshape(len(given), -1)


def guessed(prediction: np.ndarray) -> np.ndarray:
    """The class of every row (rows,) of predictions (rows, outputs)."""
    return prediction.argmax(axis=1) if prediction.shape[1] > 1 else (prediction[:, 0] >= 0.5).astype(int)


def labels(name: str, data, rows: int, classes: int | None = None) -> np.ndarray:
    """The class of every row (rows,), from labels (rows,), or from probabilities or a 1 among 0 (rows, classes)."""
    given = columns(name, data)
    if len(given) != rows:
        raise ValueError(f"{name} has {len(given)} rows, and there are {rows} images")
    if given.shape[1] > 1:
        if classes not in (None, given.shape[1]):
            raise ValueError(f"{name} has {given.shape[1]} columns, and there are {classes} classes")
        return guessed(given)
    if np.all(given == np.floor(given)):
        return checks.labels(name, given, int(max(1, given.max() + 1)) if classes is None else classes)[:, 0]
    if given.min() < 0 or given.max() > 1:
        raise ValueError(f"{name} must be labels or probabilities, got values from {given.min():g} to {given.max():g}")
    return guessed(given)
