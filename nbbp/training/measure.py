"""Loss and metrics of a network as it is, on any data, through programs that are bound once."""

from collections.abc import Callable, Sequence

import numpy as np

from nbbp.engine.data import Data
from nbbp.engine.evaluator import Evaluator, Meter, bind_activation, elements_there
from nbbp.engine.network import Network
from nbbp.engine.objective import Head, Objective
from nbbp.engine.program import Program
from nbbp.engine.runner import Runner
from nbbp.kernels import arrays
from nbbp.metrics import higher_is_better

REMEMBERED = 4  # forms of data that programs stay bound for


def _log(p: np.ndarray) -> np.ndarray:
    return np.log(np.maximum(p, np.finfo(p.dtype).tiny))


INVERSES: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "linear": lambda p: p,
    "softmax": _log,
    "exponential": _log,
    "sigmoid": lambda p: _log(p) - _log(1 - p),
}
"""Outputs whose predictions these are, by output activation."""


class Measure:
    """What `evaluate`, validation and training metrics take from a model.

    Parameters
    ----------
    network : Network
    objective : Objective
    backend : {"numba", "numpy"}
    metrics : sequence of dict of str to callable
        By name, for each output.

    Attributes
    ----------
    outputs, predictions : Evaluator
        Before and after the output activations.
    """

    def __init__(
        self, network: Network, objective: Objective, backend: str, metrics: Sequence[dict[str, Callable]]
    ) -> None:
        self._network, self._objective, self._backend, self.metrics = network, objective, backend, metrics
        self._activations = [head.loss.link for head in objective.heads]  # type: ignore[attr-defined]
        self.outputs = Evaluator(network, backend, ["linear"] * len(self._activations))
        self.predictions = Evaluator(network, backend, self._activations)
        self._meters: dict[tuple, Meter] = {}
        self._activated: dict[int, tuple[tuple[np.ndarray, ...], Runner]] = {}
        program = Program(backend, network.dtype, 1, training=False)
        self._penalty = program.buffer(1)
        network.penalize(program, self._penalty, arrays.zeros(len(network.grads), network.dtype))
        self._penalizing = Runner(program) if program.calls else None

    def __call__(self, data: Data, prefix: str = "") -> dict[str, float]:
        """Loss, penalties included, and every metric, by name."""
        meter = self._meter(data)
        self.outputs(data, out=meter.outputs)
        values = self._losses_of(meter, data)
        values["loss"] += self.penalty()
        values |= self._measured(meter.outputs, data)
        return {prefix + name: value for name, value in values.items()} if prefix else values

    def of_predictions(self, predictions: Sequence[np.ndarray], data: Data) -> dict[str, float]:
        """Loss, without penalties, and every metric of predictions (rows, *shape) that others have made.

        Raises
        ------
        ValueError
            Where outputs do not follow from predictions.
        """
        meter = self._meter(data)
        for z, given, name in zip(meter.outputs, predictions, self._activations, strict=True):
            if name not in INVERSES:
                raise ValueError(f"the loss of predictions is not known after the output activation {name}")
            z[:] = INVERSES[name](given)
        return self._losses_of(meter, data) | self._measured(predictions, data)

    def _meter(self, data: Data) -> Meter:
        key = data.rows, data.form[1]
        if key not in self._meters:
            self._meters = dict(list(self._meters.items())[1 - REMEMBERED :])
            self._meters[key] = Meter(self._objective, self._backend, self._network.dtype, self._activations, data)
        return self._meters[key]

    def _losses_of(self, meter: Meter, data: Data) -> dict[str, float]:
        losses = meter.run(data)
        return self.losses(sum(h.weight * x for h, x in zip(self._objective.heads, losses, strict=True)), losses)

    def of_outputs(self, outputs: Sequence[np.ndarray], data: Data, order: np.ndarray) -> dict[str, float]:
        """Every metric of outputs (rows, positions x outputs) before the output activations, which stay as they are.

        The rows are those of the data in an order of their own.
        """
        if not any(self.metrics):
            return {}
        rows = len(order)
        if rows not in self._activated:
            self._activated = dict(list(self._activated.items())[1 - REMEMBERED :])
            self._activated[rows] = self._bind_activations(rows)
        predictions, runner = self._activated[rows]
        for mine, z in zip(predictions, outputs, strict=True):
            mine.reshape(rows, -1)[:] = z
        runner.once()
        return self._measured(predictions, data.without_inputs(order))

    def _bind_activations(self, rows: int) -> tuple[tuple[np.ndarray, ...], Runner]:
        program = Program(self._backend, self._network.dtype, rows, training=False)
        predictions = tuple(program.buffer(rows, *head.shape) for head in self._objective.heads)
        for z, name in zip(predictions, self._activations, strict=True):
            bind_activation(program, name, z)
        return predictions, Runner(program)

    def _measured(self, predictions: Sequence[np.ndarray], data: Data) -> dict[str, float]:
        values = {}
        for k, (head, metrics) in enumerate(zip(self._objective.heads, self.metrics, strict=True)):
            if metrics:
                given = elements(head, predictions[k], data.truths[k], data.weights[k], data)
                values |= {column(head, name): metric(*given) for name, metric in metrics.items()}
        return values

    def losses(self, loss: float, of_outputs: Sequence[float]) -> dict[str, float]:
        """The loss, and that of each output where there are several, by name."""
        if len(self._objective.heads) == 1:
            return {"loss": loss}
        pairs = zip(self._objective.heads, of_outputs, strict=True)
        return {"loss": loss} | {column(head, "loss"): value for head, value in pairs}

    def penalty(self) -> float:
        """Of all parameters together."""
        if self._penalizing is None:
            return 0.0
        self._penalty[0] = 0
        self._penalizing.once()
        return float(self._penalty[0])

    def directions(self) -> dict[str, bool | None]:
        """Names of all values that a measurement has: whether higher is better, None if unknown."""
        found: dict[str, bool | None] = {"loss": False}
        for head, metrics in zip(self._objective.heads, self.metrics, strict=True):
            if head.name:
                found[column(head, "loss")] = False
            found |= {column(head, name): higher_is_better(metric) for name, metric in metrics.items()}
        return found


def column(head: Head, name: str) -> str:
    """Name in a history of what is measured at an output."""
    return f"{head.name}_{name}" if head.name else name


def elements(head: Head, prediction: np.ndarray, truth: np.ndarray, weights, data: Data) -> tuple:
    """Truth, prediction and weights of the elements that are there, as metrics take them."""
    prediction = prediction.reshape(-1, head.outputs)
    truth = truth.reshape(len(prediction), -1)
    if weights is not None:
        weights = np.broadcast_to(weights, (data.rows, head.positions)).reshape(-1)
    there = elements_there(head.mask, data)
    if there is not None:
        truth, prediction = truth[there], prediction[there]
        weights = None if weights is None else weights[there]
    return truth, prediction, weights
