"""The settings of a model, checked when it is made."""

import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from nbbp import checks
from nbbp.engine.forms import Form
from nbbp.engine.graph import Graph
from nbbp.engine.objective import Head, Objective
from nbbp.engine.program import BACKENDS
from nbbp.layers import Activation, Layer
from nbbp.losses import LOSSES, Loss
from nbbp.metrics import named
from nbbp.optimizers import OPTIMIZERS, Optimizer
from nbbp.training.averaging import Averaging

PRECISIONS = ("full", "bfloat16")


class Settings:
    """Loss, optimizer and all other settings besides the graph; the arguments are those of `nbbp.Model`.

    Attributes
    ----------
    losses : list of Loss
        The loss of each output.
    metrics : list of dict of str to callable
        The metrics of each output, by name.
    loss_weights : list of float
        The factor of each output's loss.
    """

    def __init__(
        self, outputs: Form, loss: Any, optimizer: Optimizer | str, metrics: Any, loss_weights: Any, seed: int,
        dtype: Any, backend: str, label_smoothing: float, averaging: Averaging | None, precision: str,
    ) -> None:  # fmt: skip
        self.given: dict[str, Any] = {"metrics": metrics if isinstance(metrics, dict) else _listed(metrics)}
        self._outputs = outputs
        self.losses = [_loss(one) for one in outputs.each("loss", loss)]
        made = isinstance(optimizer, Optimizer)
        self.optimizer: Any = optimizer if made else checks.choose("optimizer", optimizer, OPTIMIZERS)()
        of_outputs = [self.given["metrics"]] * len(outputs)
        if isinstance(metrics, dict):
            of_outputs = [_listed(metrics.get(name, ())) for name in outputs.names]
            for name in metrics:
                checks.choose("output", name, dict.fromkeys(outputs.names))
        self.metrics = [_metrics(given) for given in of_outputs]
        weights = [1.0] * len(outputs) if loss_weights is None else outputs.unpacked("loss_weights", loss_weights)
        for weight in weights:
            checks.number("loss_weights", weight, open_low=True)
        self.loss_weights = [float(weight) for weight in weights]
        self.given["loss_weights"] = None if loss_weights is None else outputs.packed(self.loss_weights)
        if isinstance(seed, bool) or not isinstance(seed, int | np.integer) or seed < 0:
            raise ValueError(f"seed must be an integer, 0 or more; got {seed!r}")
        if dtype not in ("float32", "float64", np.float32, np.float64):
            raise ValueError(f"dtype must be float32 or float64, got {dtype!r}")
        if backend not in BACKENDS:
            raise ValueError(f"backend must be {' or '.join(map(repr, BACKENDS))}, got {backend!r}")
        checks.choose("precision", precision, dict.fromkeys(PRECISIONS))
        if precision == "bfloat16" and np.dtype(dtype) != np.float32:
            raise ValueError(f"products of bfloat16 have sums in float32; the dtype is {np.dtype(dtype).name}")
        if averaging is not None and not isinstance(averaging, Averaging):
            raise TypeError(f"averaging must be nbbp.EMA(...) or nbbp.SWA(...), got {averaging!r}")
        checks.number("label_smoothing", label_smoothing, high=1.0)
        for own in self.losses:
            if label_smoothing and own.link not in ("softmax", "sigmoid"):
                raise ValueError(f"label_smoothing is for classes; {own.name} has none")
        self.seed, self.dtype, self.backend = int(seed), np.dtype(dtype), backend
        self.label_smoothing, self.averaging, self.precision = label_smoothing, averaging, precision

    def objective(self, graph: Graph) -> Objective:
        """The losses of the outputs of a graph."""
        for loss, edge in zip(self.losses, graph.outputs, strict=True):
            loss.check_outputs(edge.shape[-1])
        return Objective(
            [
                Head(name, loss, weight, edge.shape, graph.mask_of(edge), graph.members_of(edge))
                for name, loss, weight, edge in zip(
                    self._outputs.names, self.losses, self.loss_weights, graph.outputs, strict=True
                )
            ]
        )

    def arguments(self) -> dict[str, Any]:
        """Arguments that give the same settings."""
        return {
            "loss": self._outputs.packed(self.losses), "optimizer": self.optimizer, **self.given, "seed": self.seed,
            "dtype": self.dtype.name, "backend": self.backend, "label_smoothing": self.label_smoothing,
            "averaging": self.averaging, "precision": self.precision,
        }  # fmt: skip

    def check_endings(self, layers: Sequence[Layer | None]) -> None:
        """Check each loss against the layer that computes its output, if any."""
        for loss, layer in zip(self.losses, layers, strict=True):
            if layer is not None:
                _check_ending(loss, layer, stacklevel=5)


def _check_ending(loss: Loss, layer: Layer, stacklevel: int) -> None:
    """Check that a loss of probabilities gets them, and that one with an output activation does not get a second."""
    ending = getattr(layer, "activation", layer.name if isinstance(layer, Activation) else "linear")
    if loss.from_probabilities and ending not in ("softmax", "sigmoid"):
        raise ValueError(f"{loss.name} takes probabilities: end the network with softmax, or use softmax_cross_entropy")
    if loss.link == ending != "linear":
        warnings.warn(
            f"{loss.name} applies {ending} to the outputs itself; the last layer should not", stacklevel=stacklevel
        )


def _loss(given: str | Loss) -> Loss:
    return given if isinstance(given, Loss) else checks.choose("loss", given, LOSSES)


def _listed(metrics) -> list:
    if isinstance(metrics, str):
        raise TypeError(f"metrics must be a list of names, such as [{metrics!r}]")
    return list(metrics)


def _metrics(given: list) -> dict[str, Callable]:
    metrics = dict(named(metric) for metric in given)
    if len(metrics) < len(given):
        raise ValueError(f"metrics must have names of their own, got {[named(metric)[0] for metric in given]}")
    return metrics
