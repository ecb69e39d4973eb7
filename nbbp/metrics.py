"""Metrics: functions of targets and predictions, in NumPy.

To add one, write a function of (y, prediction) and enter it in METRICS.
"""

from collections.abc import Callable

import numpy as np


def accuracy(y: np.ndarray, prediction: np.ndarray) -> float:
    """Share of rows whose class is right.

    The class is the largest output; with a single output, whether it is at least 1/2. y holds labels (n, 1), or rows
    of the outputs' shape, whose largest element is the class.
    """
    if prediction.shape[1] == 1:
        return float(np.mean((prediction >= 0.5) == (y >= 0.5)))
    classes = y[:, 0] if y.shape[1] == 1 else y.argmax(axis=1)
    return float(np.mean(prediction.argmax(axis=1) == classes))


def _check_values(name: str, y: np.ndarray, prediction: np.ndarray) -> None:
    if y.shape != prediction.shape:
        raise ValueError(f"{name} compares values; y holds class labels {y.shape}, predictions are {prediction.shape}")


def mae(y: np.ndarray, prediction: np.ndarray) -> float:
    """Mean absolute error over rows and outputs."""
    _check_values("mae", y, prediction)
    return float(np.mean(np.abs(prediction - y), dtype=np.float64))


def rmse(y: np.ndarray, prediction: np.ndarray) -> float:
    """Root of the mean squared error over rows and outputs."""
    _check_values("rmse", y, prediction)
    return float(np.sqrt(np.mean(np.square(prediction - y), dtype=np.float64)))


METRICS: dict[str, Callable[[np.ndarray, np.ndarray], float]] = {"accuracy": accuracy, "mae": mae, "rmse": rmse}
