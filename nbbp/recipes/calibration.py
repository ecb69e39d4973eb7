"""Calibration: how sure a classifier should be, by rows that it has not trained on."""

import numpy as np

from nbbp import checks
from nbbp.layers import Dense
from nbbp.model import Model

LEAST, MOST = 0.25, 4.0
SPREAD = 0.2  # of the sharpness before any row is seen: a few rows, all of them right, would ask for certainty


def sharpness(probabilities, labels, weights=None) -> float:
    """The factor of the logits with which predicted probabilities fit the true classes best.

    Above 1 for a model that is too cautious, below 1 for one that is too sure. It is the inverse of the temperature of
    Guo, Pleiss, Sun and Weinberger, "On calibration of modern neural networks", 2017, section 4.2: the factor that has
    the smallest negative log-likelihood, to which (factor - 1)^2 / (2 0.2^2) is added. The class that is predicted
    remains the same.

    Parameters
    ----------
    probabilities : array_like (rows, classes)
        Predictions for rows that had no part in training.
    labels : array_like of int (rows,)
        The indices of their true classes.
    weights : array_like (rows,), optional

    Returns
    -------
    float
        Between 0.25 and 4, in hundredths.

    Examples
    --------
    >>> from nbbp.recipes import calibration
    >>> half_right = [0, 1] * 50
    >>> calibration.sharpness([[0.9, 0.1]] * 100, half_right) < 1
    True
    """
    p = np.maximum(checks.array("probabilities", probabilities), np.finfo(np.float64).tiny)
    labels = checks.row_numbers("labels", labels, p.shape[1])
    counts = np.ones(len(p)) if weights is None else checks.array("weights", weights)
    z = np.log(p)
    truths = z[np.arange(len(z)), labels]

    def slope(factor: float) -> float:
        scaled = np.exp(factor * (z - z.max(axis=1, keepdims=True)))
        means = (scaled * z).sum(axis=1) / scaled.sum(axis=1)
        return float(counts @ (means - truths)) + (factor - 1) / SPREAD**2

    low, high = round(100 * LEAST), round(100 * MOST)
    while low < high:  # the slope rises: the sum is convex
        middle = (low + high) // 2
        low, high = (low, middle) if slope((middle + 0.5) / 100) > 0 else (middle + 1, high)
    return low / 100


def logits_of(model: Model) -> list[np.ndarray]:
    """The weights and biases of the last layer of a built model, views into its parameters.

    Raises
    ------
    ValueError
        If that layer is no `Dense` without activation, so that to multiply them would not multiply the logits.
    """
    last = model.network.graph.outputs[0].node
    if last is None or not isinstance(last.layer, Dense) or last.layer.activation != "linear":
        raise ValueError(f"a classifier must end with a Dense without activation, got {last and last.layer!r}")
    return list(vars(model.network.layout.of(last).views(model.params)).values())


def sharpen(model: Model, factor: float) -> None:
    """Multiply the logits of a built model by a factor, by way of its last weights and biases; ValueError as above."""
    for array in logits_of(model):
        array *= factor
