"""Loss and metrics of a network on any data, through programs that are bound once."""

from collections.abc import Callable, Sequence

import numpy as np

from nbbp.engine.data import Data, elements_there
from nbbp.engine.evaluator import BLOCK_ROWS, Evaluator, apart, bind_activation
from nbbp.engine.layer import Array
from nbbp.engine.network import Network
from nbbp.engine.objective import Head, Objective
from nbbp.engine.program import Program
from nbbp.engine.recent import Recent
from nbbp.engine.runner import Runner
from nbbp.kernels import arrays
from nbbp.kernels.scores import count_hits
from nbbp.metrics import METRICS, higher_is_better


def _log(p: np.ndarray) -> np.ndarray:
    return np.log(np.maximum(p, np.finfo(p.dtype).tiny))


INVERSES: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "linear": lambda p: p,
    "softmax": _log,
    "exponential": _log,
    "sigmoid": lambda p: _log(p) - _log(1 - p),
}
"""Functions from predictions to outputs, by output activation."""


class Measure:
    """The measurements of `evaluate`, validation and training metrics.

    Parameters
    ----------
    network : Network
    objective : Objective
    backend : {"numba", "numpy"}
    metrics : sequence of dict of str to callable
        The metrics by name, for each output.

    Attributes
    ----------
    outputs, predictions : Evaluator
        Evaluators before and after the output activations.
    """

    def __init__(
        self, network: Network, objective: Objective, backend: str, metrics: Sequence[dict[str, Callable]]
    ) -> None:
        self.network, self.objective, self.backend, self.metrics = network, objective, backend, metrics
        self.activations = [head.loss.link for head in objective.heads]  # type: ignore[attr-defined]
        self.outputs = Evaluator(network, backend, ["linear"] * len(self.activations))
        self.predictions = Evaluator(network, backend, self.activations)
        self._meters: Recent[Meter] = Recent()
        self._scorers: Recent[Scorer] = Recent()
        program = Program(backend, network.dtype, 1, training=False)
        self._penalty = program.buffer(1)
        network.penalize(program, self._penalty, arrays.zeros(len(network.grads), network.dtype))
        self._penalizing = Runner(program) if program.calls else None

    def predicted(self, data: Data) -> list[np.ndarray]:
        """The predictions (rows, *shape) at each output; of an ensemble within the network, their mean."""
        pairs = zip(self.objective.heads, self.predictions(data), strict=True)
        return [head.mean_of_members(prediction) for head, prediction in pairs]

    def __call__(self, data: Data, prefix: str = "") -> dict[str, float]:
        """The loss, including penalties, and every metric, by name."""
        meter = self._meters.get(data.rows, data.form, lambda: Meter(self, data))
        losses = meter.run(data)
        values = self.losses(meter.total(losses) + self.penalty(), losses)
        values |= meter.scorer.scores(data)
        return {prefix + name: value for name, value in values.items()} if prefix else values

    def of_predictions(self, predictions: Sequence[np.ndarray], data: Data) -> dict[str, float]:
        """The loss, without penalties, and every metric of given predictions (rows, *shape).

        Raises
        ------
        ValueError
            If outputs cannot be computed from predictions.
        """
        outputs = []
        for name, head, given in zip(self.activations, self.objective.heads, predictions, strict=True):
            if name not in INVERSES:
                raise ValueError(f"the loss of predictions is not known after the output activation {name}")
            outputs.append(INVERSES[name](given if head.members == 1 else given[:, np.newaxis]))
        meter = Meter(self, data, outputs)
        losses = meter.run(data)
        return self.losses(meter.total(losses), losses) | meter.scorer.scores(data)

    def of_outputs(self, outputs: Sequence[np.ndarray], data: Data, order: np.ndarray) -> dict[str, float]:
        """Every metric of outputs (rows, positions x outputs) before the output activations, which are not changed.

        The rows are those of the data in the given order.
        """
        if not any(self.metrics):
            return {}
        scorer = self._scorers.get(len(order), data.form, lambda: self._bind_scorer(data, len(order)))
        for mine, z in zip(scorer.predictions, outputs, strict=True):
            mine.reshape(len(z), -1)[:] = z
        scorer.source_order[:] = order
        scorer.take(data)
        scorer.runner.once()
        return scorer.scores(data, order)

    def _bind_scorer(self, data: Data, rows: int) -> "Scorer":
        program = Program(self.backend, self.network.dtype, rows, training=False)
        predictions = tuple(program.buffer(rows, *head.shape) for head in self.objective.heads)
        return Scorer(self, program, predictions, data, rows)

    def losses(self, loss: float, of_outputs: Sequence[float]) -> dict[str, float]:
        """The loss, and the loss of each output if there are several, by name."""
        if len(self.objective.heads) == 1:
            return {"loss": loss}
        pairs = zip(self.objective.heads, of_outputs, strict=True)
        return {"loss": loss} | {column(head, "loss"): value for head, value in pairs}

    def penalty(self) -> float:
        """The penalty of all parameters together."""
        if self._penalizing is None:
            return 0.0
        self._penalty[0] = 0
        self._penalizing.once()
        return float(self._penalty[0])

    def directions(self) -> dict[str, bool | None]:
        """Whether higher is better, by name, for all values of a measurement; None if unknown."""
        found: dict[str, bool | None] = {"loss": False}
        for head, metrics in zip(self.objective.heads, self.metrics, strict=True):
            if head.name:
                found[column(head, "loss")] = False
            found |= {column(head, name): higher_is_better(metric) for name, metric in metrics.items()}
        return found


class Scorer:
    """Turns outputs into predictions and counts hits in the program; other metrics are computed in NumPy.

    Parameters
    ----------
    program : Program
        The program to which the output activations and the counts are appended.
    predictions : tuple of ndarray (rows, *shape)
        The predictions, which are outputs until the program has run.
    data : Data
        Data of the form that is to be measured.
    """

    def __init__(
        self, measure: Measure, program: Program, predictions: tuple[np.ndarray, ...], data: Data, rows: int
    ) -> None:
        self._heads, self._metrics, self.predictions = measure.objective.heads, measure.metrics, predictions
        self.source_order = np.arange(rows)
        self.labels: list[np.ndarray | None] = []
        self._hits: list[np.ndarray] = []
        for k, (head, z) in enumerate(zip(self._heads, predictions, strict=True)):
            bind_activation(program, measure.activations[k], z)
            counted = self._is_counted(k, data)
            labels = arrays.copied(data.truths[k]) if counted else None
            hits = np.zeros(1)
            if labels is not None:
                program.call(count_hits, hits, z.reshape(-1, head.outputs), labels, self.source_order)
            self.labels.append(labels)
            self._hits.append(hits)
        self.runner = Runner(program)

    def _is_counted(self, k: int, data: Data) -> bool:
        """Whether accuracy is a count of correct labels."""
        plain = data.weights[k] is None and not data.masks and self._heads[k].elements == 1
        accuracy = self._metrics[k].get("accuracy")
        return accuracy is METRICS["accuracy"] and plain and data.truths[k].dtype.kind == "i"

    def take(self, data: Data) -> None:
        """Count the hits against these labels."""
        for labels, truth in zip(self.labels, data.truths, strict=True):
            if labels is not None:
                labels[:] = truth

    def scores(self, data: Data, order: np.ndarray | None = None) -> dict[str, float]:
        """Every metric by name, once the program has run."""
        values = {}
        for k, (head, metrics) in enumerate(zip(self._heads, self._metrics, strict=True)):
            given = None
            for name, metric in metrics.items():
                if name == "accuracy" and self.labels[k] is not None:
                    values[column(head, name)] = float(self._hits[k][0] / len(self.source_order))
                    continue
                if given is None:
                    rows = data if order is None else data.without_inputs(order)
                    given = elements(head, self.predictions[k], rows.truths[k], rows.weights[k], rows)
                values[column(head, name)] = metric(*given)
        return values


class Meter:
    """Losses and metrics of a number of rows, bound once; for few rows in one program with the forward pass.

    Parameters
    ----------
    data : Data
        Data of the form and with the number of rows that are to be measured.
    given : sequence of ndarray (rows, *shape), optional
        Outputs to measure in place of the network's.
    """

    def __init__(self, measure: Measure, data: Data, given: Sequence[np.ndarray] | None = None) -> None:
        network, objective = measure.network, measure.objective
        self._heads, self._outputs, self._given = objective.heads, measure.outputs, given
        program = Program(measure.backend, network.dtype, data.rows, training=False)
        self._inputs: tuple[np.ndarray, ...] = ()
        self._masks = [None if mask is None else arrays.copied(mask) for mask in data.masks]
        if given is None and data.rows <= BLOCK_ROWS:
            self._inputs = network.inputs(program)
            outputs = apart(program, network.forward(program, self._inputs, self._masks or None).outputs)
        else:
            outputs = [Array(program.buffer(data.rows, *head.shape)) for head in self._heads]
        self._z = tuple(output.array for output in outputs)
        self._targets = [arrays.copied(target) for target in data.targets]
        self._losses = objective.scales(program)
        for scale in self._losses.scales:
            scale[:] = 1
        objective.bind(program, outputs, self._targets, self._losses)
        self.scorer = Scorer(measure, program, self._z, data, data.rows)

    def run(self, data: Data) -> list[float]:
        """The loss at each output: the mean over the unmasked elements, each times its weight."""
        if self._given is not None:
            for z, given in zip(self._z, self._given, strict=True):
                z[:] = given
        elif self._inputs:
            for mine, x in zip(self._inputs, data.inputs, strict=True):
                mine[:] = x
            for own, mask in zip(self._masks, data.masks, strict=True):
                if own is not None:
                    own[:] = mask
        else:
            self._outputs(data, out=self._z)
        for mine, target in zip(self._targets, data.targets, strict=True):
            mine[:] = target
        self.scorer.take(data)
        self.scorer.runner.once()
        return [self._mean(k, head, data) for k, head in enumerate(self._heads)]

    def total(self, losses: Sequence[float]) -> float:
        """The losses of all outputs together."""
        if len(losses) == 1:
            return losses[0]
        return sum(head.weight * loss for head, loss in zip(self._heads, losses, strict=True))

    def _mean(self, k: int, head: Head, data: Data) -> float:
        weights = data.weights[k]
        weighed = np.multiply(self._losses.losses[k], 1.0 if weights is None else weights, dtype=np.float64).reshape(-1)
        there = elements_there(head.mask, data)
        if there is not None:
            weighed = weighed[there]
        return float(np.add.reduce(weighed) / len(weighed))


def column(head: Head, name: str) -> str:
    """The name in a history of a value that is measured at an output."""
    return f"{head.name}_{name}" if head.name else name


def elements(head: Head, prediction: np.ndarray, truth: np.ndarray, weights, data: Data) -> tuple:
    """Truth, prediction and weights of the unmasked elements, as metrics take them."""
    values = head.outputs // head.loss.outputs_per_target  # type: ignore[attr-defined]
    prediction = head.mean_of_members(prediction).reshape(-1, head.outputs)[:, :values]
    truth = np.asarray(truth).reshape(len(prediction), -1)
    if weights is not None:
        weights = np.broadcast_to(weights, (data.rows, head.positions)).reshape(-1)
    there = elements_there(head.mask, data)
    if there is not None:
        truth, prediction = truth[there], prediction[there]
        weights = None if weights is None else weights[there]
    return truth, prediction, weights
