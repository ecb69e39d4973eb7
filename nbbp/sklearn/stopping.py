"""scikit-learn's rule for stopping, as a callback whose state continues from one fit to the next."""

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from nbbp.callbacks import Callback
from nbbp.sequential import Sequential
from nbbp.training import monitors

if TYPE_CHECKING:
    from nbbp.training.observed import ObservedFit

FACTOR, LEAST_RATE = 0.2, 1e-6  # scikit-learn's, for learning_rate="adaptive"


class Plateau(Callback):
    """Stop after more than `patience` consecutive epochs that were not better than the previous best by `tol`.

    `callbacks.EarlyStopping` waits longer: it adds up improvements smaller than its `min_delta`.

    Parameters
    ----------
    monitor : str
        A name in the history.
    tol : float
    patience : float
        A number of epochs, or infinity.
    keep_best : bool
        Whether the parameters of the best epoch are stored, for `put_back_best`.
    adaptive : bool
        Whether the learning rate is divided by 5 instead, as long as it is above 1e-6.
    """

    def __init__(self, monitor: str, tol: float, patience: float, keep_best: bool, adaptive: bool) -> None:
        self.monitor, self.tol, self.patience = monitor, tol, patience
        self.keep_best, self.adaptive = keep_best, adaptive
        self.best, self._waited = -math.inf, 0
        self._kept: np.ndarray | None = None

    def on_fit_begin(self, fit: "ObservedFit") -> None:
        monitors.check_direction(self.monitor, fit)

    def on_epoch_end(self, fit: "ObservedFit") -> None:
        value = monitors.latest(self.monitor, fit)
        self._waited = 0 if value > self.best + self.tol else self._waited + 1
        if value > self.best:
            self.best = value
            if self.keep_best:
                self._kept = fit.model.params.copy()
        if self._waited <= self.patience:
            return
        self._waited = 0
        rate: Any = fit.model.learning_rate  # a number: the estimators refuse a schedule
        if self.adaptive and rate > LEAST_RATE:
            fit.model.learning_rate = rate * FACTOR
        else:
            fit.stop(f"{monitors.standstill(self.monitor, fit)} by {self.tol:g} for {self.patience:g} epochs")

    def put_back_best(self, model: Sequential) -> None:
        """Restore the best parameters, if they were stored."""
        if self._kept is not None:
            model.params[:] = self._kept
