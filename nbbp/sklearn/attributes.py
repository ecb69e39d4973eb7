"""The attributes of a fitted estimator, under scikit-learn's names."""

import numpy as np

from nbbp.metrics import METRICS, higher_is_better
from nbbp.sequential import Sequential
from nbbp.sklearn.network import Head
from nbbp.sklearn.stopping import Plateau
from nbbp.training.history import History

ATTRIBUTES = """model_ : nbbp.Sequential
        The network, float32 if X is, else float64.
    history_ : nbbp.History
        Losses and metrics of every epoch, also of warm starts and calls of `partial_fit`; `stopped` says why it ended.
    n_iter_ : int
        The number of epochs in the last call.
    t_ : int
        The number of rows trained on, repetitions included; 0 with L-BFGS.
    loss_, best_loss_, loss_curve_
        The training loss, penalty included; the best is None with early stopping.
    validation_scores_, best_validation_score_
        The values of `monitor` on the held-out rows; None without early stopping.
    n_features_in_ : int
    feature_names_in_ : ndarray (features,)
        The names of X's columns, if it had any."""

OUT_ACTIVATIONS = {"linear": "identity", "sigmoid": "logistic", "exponential": "exp"}  # scikit-learn's names


class Attributes:
    """Attributes computed from the network and its history; `ATTRIBUTES` describes them and others."""

    model_: Sequential
    history_: History
    _plateau: Plateau

    def _head(self) -> Head:
        """The head of the network for the targets of the fit."""
        raise NotImplementedError

    @property
    def coefs_(self) -> list[np.ndarray]:
        """Views of the weights (inputs, units) of each layer."""
        return [array for name, array in self.model_.named_params().items() if name.endswith(".w")]

    @property
    def intercepts_(self) -> list[np.ndarray]:
        """Views of the biases (units,) of each layer."""
        return [array for name, array in self.model_.named_params().items() if name.endswith(".b")]

    @property
    def n_layers_(self) -> int:
        """The number of layers of units, input and output included."""
        return len(self.coefs_) + 1

    @property
    def n_outputs_(self) -> int:
        return self.coefs_[-1].shape[1]

    @property
    def out_activation_(self) -> str:
        """The activation of the outputs, under scikit-learn's name if it has one."""
        link, head = self.model_.loss.link, self._head()
        name = head.activation if link == "linear" else link
        return OUT_ACTIVATIONS.get(name, name)

    @property
    def loss_curve_(self) -> list[float]:
        """The training loss of each epoch, penalty included."""
        return self.history_["loss"]

    @property
    def loss_(self) -> float:
        """The training loss of the last epoch."""
        return self.loss_curve_[-1]

    @property
    def best_loss_(self) -> float | None:
        """The smallest training loss of an epoch; None with early stopping."""
        return min(self.loss_curve_) if self.validation_scores_ is None else None

    @property
    def validation_scores_(self) -> list[float] | None:
        """The value of `monitor` after each epoch; None without early stopping."""
        watched = self._plateau.monitor
        return None if watched == "loss" else self.history_[watched]

    @property
    def best_validation_score_(self) -> float | None:
        """The best of `validation_scores_`."""
        if self.validation_scores_ is None:
            return None
        name = self._plateau.monitor.removeprefix("val_")
        best = np.nanmax if name != "loss" and higher_is_better(METRICS[name]) else np.nanmin
        return float(best(self.validation_scores_))
