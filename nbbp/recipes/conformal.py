"""Conformal intervals: how far from its predictions a model's truths lie, by rows that it has not trained on."""

import math

import numpy as np

from nbbp import checks


def margin(residuals, coverage: float) -> float:
    """The half width of intervals around predictions that contain the truth of new rows with a given probability.

    The ceil((n + 1) coverage)-th smallest of n absolute residuals; infinity if n is too small for the coverage. Split
    conformal prediction: Lei, G'Sell, Rinaldo, Tibshirani and Wasserman, "Distribution-free predictive inference for
    regression", 2018, algorithm 2. It holds whatever the model and the distribution, on average over new rows that are
    drawn like those of the residuals.

    Parameters
    ----------
    residuals : array_like (rows,)
        Truth minus prediction of rows that had no part in training.
    coverage : float in (0, 1)

    Examples
    --------
    >>> from nbbp.recipes import conformal
    >>> conformal.margin([-1.0, 2.0, 0.5, -4.0], 0.8)
    4.0
    """
    checks.number("coverage", coverage, high=1.0, open_low=True)
    distances = np.sort(np.abs(checks.array("residuals", residuals)), axis=None)
    rank = math.ceil((len(distances) + 1) * coverage)
    return float(distances[rank - 1]) if rank <= len(distances) else math.inf
