"""MLPRegressor."""

import dataclasses
from typing import Self

import numpy as np
from sklearn.base import RegressorMixin
from sklearn.utils.metaestimators import available_if

from nbbp import checks
from nbbp.losses import LOSSES, Loss
from nbbp.sklearn.attributes import ATTRIBUTES
from nbbp.sklearn.base import MLP, stochastic
from nbbp.sklearn.network import Head
from nbbp.sklearn.parameters import PARAMETERS


@dataclasses.dataclass(eq=False, repr=False)
class MLPRegressor(RegressorMixin, MLP):
    __doc__ = f"""Networks of dense layers for one or more values a row.

    Parameters
    ----------
    {PARAMETERS}
    loss : str or Loss
        "squared_error", 1/2 sum (z - t)^2 over the outputs, or one of `nbbp.LOSSES`.

    Attributes
    ----------
    {ATTRIBUTES}

    Examples
    --------
    >>> from sklearn.datasets import make_friedman1
    >>> from nbbp.sklearn import MLPRegressor
    >>> X, y = make_friedman1(500, random_state=0)
    >>> regressor = MLPRegressor((32,), "tanh", solver="lbfgs", max_iter=1000, tol=0.01, random_state=0)
    >>> regressor.fit(X, y).score(X, y) > 0.95
    True
    """

    _: dataclasses.KW_ONLY
    loss: str | Loss = "squared_error"
    monitor: str = "r2"

    @available_if(stochastic)
    def partial_fit(self, X, y, sample_weight=None, eval_set: tuple | None = None) -> Self:
        """Train the existing network for one more epoch.

        With `early_stopping` and `eval_set`, the best parameters are restored and `history_.stopped` says so once
        `n_iter_no_change` calls in a row have brought no improvement.

        Parameters
        ----------
        X, y, sample_weight, eval_set
            As for `fit`.

        Returns
        -------
        self
        """
        self._check_parameters()
        go_on = hasattr(self, "history_")
        X, y = self._validated(X, y, reset=not go_on)
        if not go_on:
            self._learn_targets(y)
        return self._fit_once_more(X, y, sample_weight, eval_set, go_on)

    def predict(self, X) -> np.ndarray:
        """The predicted values (rows,), or (rows, outputs) if y had two axes.

        Parameters
        ----------
        X : array_like or sparse matrix (rows, features)
        """
        values = self._outputs(X)
        return values[:, 0] if self._outputs_of_y is None else values

    def _learn_targets(self, y):
        self._outputs_of_y = None if y.ndim == 1 else y.shape[1]

    def _is_plain_target(self, y):
        plain = type(y) is np.ndarray and y.ndim == 1 and y.dtype.kind == "f"
        return plain and bool(np.isfinite(np.vdot(y, y)))

    def _encoded(self, y):
        return y

    def _head(self):
        loss = self.loss
        if not isinstance(loss, Loss):
            loss = checks.choose("loss", loss, {"squared_error": LOSSES["half_mse"]} | LOSSES)
        return Head(self._outputs_of_y or 1, "linear", loss)
