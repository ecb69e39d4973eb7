"""What the user gives, checked and in the form that kernels take: `nbbp.engine.data.Data`."""

from typing import Any

import numpy as np

from nbbp import checks, tables
from nbbp.engine.data import Data
from nbbp.engine.forms import Form
from nbbp.engine.graph import Graph
from nbbp.engine.objective import Head, Objective
from nbbp.metrics import OF_CLASSES, check_classes
from nbbp.streams import Stream


class Intake:
    """Checks data for a model that is built.

    Parameters
    ----------
    graph : Graph
    objective : Objective
    inputs, outputs : Form
        In which X, and y and weights, are given.
    metrics : list of dict
        By name, for each output.
    label_smoothing : float
    """

    def __init__(
        self, graph: Graph, objective: Objective, inputs: Form, outputs: Form, metrics: list[dict], dtype: np.dtype,
        label_smoothing: float,
    ) -> None:  # fmt: skip
        self._graph, self._heads, self._metrics = graph, objective.heads, metrics
        self._inputs, self._outputs, self._dtype, self._smoothing = inputs, outputs, dtype, label_smoothing
        self._first = [[node.layer for node in graph.consumers.get(edge, ())] for edge in graph.inputs]

    def inputs(self, name: str, X, mask=None, least_rows: int = 1) -> Data:
        """Rows of inputs alone."""
        given = self._inputs.unpacked(name, X)
        arrays = []
        for edge, x, layers, own in zip(self._graph.inputs, given, self._first, self._inputs.names, strict=True):
            named = f"{name}[{own!r}]" if own else name
            x = checks.features(named, x, edge.dtype or self._dtype, edge.shape, least_rows)
            for layer in layers:
                layer.check_input(named, x)
            arrays.append(x)
        rows = {len(x) for x in arrays}
        if len(rows) > 1:
            raise ValueError(f"the inputs of {name} have {', '.join(map(str, sorted(rows)))} rows: they must be equal")
        return Data(tuple(arrays), masks=self._masks(mask, len(arrays[0])))

    def _masks(self, mask, rows: int) -> tuple:
        if mask is None:
            return ()
        masks = []
        for edge, given in zip(self._graph.inputs, self._inputs.unpacked("mask", mask), strict=True):
            if given is not None:
                given = np.asarray(given)
                if given.dtype != bool or given.size != rows * edge.positions or len(given) != rows:
                    raise ValueError(
                        f"mask must be an array of bool (rows, *positions) with {edge.positions} for each of {rows} "
                        f"rows, got {given.dtype} {given.shape}"
                    )
                given = np.ascontiguousarray(given.reshape(rows, -1))
            masks.append(given)
        return tuple(masks) if any(m is not None for m in masks) else ()

    def data(
        self, x_name: str, X, y_name: str, y, sample_weight=None, class_weight=None, whole: bool = True, mask=None,
        chosen: np.ndarray | None = None,
    ) -> Data:  # fmt: skip
        """Rows of inputs with their targets, all or those chosen; of a whole, some row has to count at every output."""
        data = self.inputs(x_name, X, mask)
        ys = self._outputs.unpacked(y_name, y)
        sample_weights = self._outputs.each("sample_weight", sample_weight)
        class_weights = [class_weight] if len(self._heads) == 1 else self._outputs.each("class_weight", class_weight)
        parts = []
        for k, head in enumerate(self._heads):
            name = f"{y_name}[{head.name!r}]" if head.name else y_name
            given = ys[k], data.rows, sample_weights[k], class_weights[k]
            parts.append(self._target(head, name, *given, whole, chosen))
            self._check_metrics(k, parts[-1][1])
        targets, truths, weights = zip(*parts, strict=True)
        data = data if chosen is None else data.part(chosen)
        return Data(data.inputs, targets, truths, weights, data.masks)

    def _target(
        self, head: Head, name: str, y, rows: int, sample_weight, class_weight, whole: bool, chosen: np.ndarray | None
    ) -> tuple:
        """What the loss compares with, what metrics compare with, and weights."""
        loss: Any = head.loss
        if tables.is_table(y):
            y = tables.array(name, y, np.float64)
        truth = target = checks.targets(name, y, loss, self._dtype, rows, head.outputs, head.positions)
        if class_weight is not None and not loss.of_classes:
            raise ValueError(f"class_weight is for classes; {loss.name} has none")
        if chosen is not None:  # weights are those that these rows would have by themselves
            if sample_weight is not None:
                elements = truth.reshape(rows * head.positions, -1)
                checks.weights(elements, sample_weight, None, self._dtype, whole=False, rows=rows)
                sample_weight = np.asarray(sample_weight)[chosen]
            truth, rows = truth[chosen], len(chosen)
            target = truth
        elements = truth.reshape(rows * head.positions, -1)
        weights = checks.weights(elements, sample_weight, class_weight, self._dtype, whole, rows)
        if self._smoothing:
            answers = head.outputs if loss.link == "softmax" else 2  # else each output is a yes/no question
            target = _smoothed(elements, head.outputs, answers, self._smoothing, self._dtype).reshape(rows, -1)
        return target, truth, None if weights is None else weights.reshape(rows, -1)

    def _check_metrics(self, k: int, truth: np.ndarray) -> None:
        """ValueError where metrics of classes would be measured on values."""
        names, loss = sorted(OF_CLASSES & self._metrics[k].keys()), self._heads[k].loss
        if names and not loss.of_classes:  # type: ignore[attr-defined]
            check_classes(truth)
            fraction = truth != np.round(truth)
            if fraction.any():
                raise ValueError(
                    f"{names[0]} is for classes, and with {loss.name} y is taken for values, such as "  # type: ignore
                    f"{truth[fraction][0]:g}: take mse, mae or r2, or a loss for classes"
                )


def features(name: str, X, dtype: np.dtype) -> np.ndarray:
    """Rows of one input whose shape nobody knows yet."""
    refuse_stream(name, X)
    return checks.features(name, X, dtype, None, least_rows=0)


def refuse_stream(name: str, X) -> None:
    if isinstance(X, Stream):
        raise TypeError(f"{name} is a stream, from which fit can train and nothing else: take arrays, part by part")


def _smoothed(truth: np.ndarray, outputs: int, answers: int, share: float, dtype: np.dtype) -> np.ndarray:
    """Targets (elements, outputs) of which `share` is spread evenly over the answers that each could be."""
    if truth.dtype.kind == "i":
        truth = np.eye(outputs, dtype=dtype)[truth[:, 0]]
    return (truth * (1 - share) + share / answers).astype(dtype)
