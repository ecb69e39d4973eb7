"""The user's data, checked and in the form that kernels take: `nbbp.engine.data.Data`."""

import math
from typing import Any

import numpy as np

from nbbp import checks, tables
from nbbp.engine.data import Data, elements_there
from nbbp.engine.forms import Form
from nbbp.engine.graph import Graph
from nbbp.engine.layer import Layer
from nbbp.engine.node import Edge, Shape
from nbbp.engine.objective import Head, Objective
from nbbp.engine.windows import Windows
from nbbp.metrics import OF_CLASSES, check_classes
from nbbp.streams import Stream


class Intake:
    """Checks data for a model that is built.

    Parameters
    ----------
    graph : Graph
    objective : Objective
    inputs, outputs : Form
        The form of X, and of y and weights.
    metrics : list of dict
        The metrics by name, for each output.
    label_smoothing : float
    """

    def __init__(
        self, graph: Graph, objective: Objective, inputs: Form, outputs: Form, metrics: list[dict], dtype: np.dtype,
        label_smoothing: float,
    ) -> None:  # fmt: skip
        self._graph, self._heads, self._metrics = graph, objective.heads, metrics
        self._inputs, self._outputs, self._dtype, self._smoothing = inputs, outputs, dtype, label_smoothing
        self._entries = [
            (own, edge, edge.dtype or dtype, [layer for layer in _readers(graph, edge) if _looks(layer)])
            for own, edge in zip(inputs.names, graph.inputs, strict=True)
        ]
        own, edge, own_dtype, layers = self._entries[0]
        self._only = None if own or layers else (own_dtype, edge.shape)

    def inputs(self, name: str, X, mask=None, least_rows: int = 1) -> Data:
        """Rows of inputs alone."""
        if self._only is not None and mask is None and checks.is_as_needed(X, *self._only):
            return Data((X,))
        arrays, masks = self.arrays(name, X, mask, least_rows)
        return Data(arrays, masks=masks)

    def arrays(self, name: str, X, mask=None, least_rows: int = 1) -> tuple[tuple, tuple]:
        """An array for each input, and a mask or None for each; no masks if none is given."""
        masks = [None] * len(self._entries) if mask is None else self._inputs.unpacked("mask", mask)
        arrays, there = [], []
        for x, given, (own, edge, dtype, layers) in zip(
            self._inputs.unpacked(name, X), masks, self._entries, strict=True
        ):
            named = f"{name}[{own!r}]" if own else name
            kept = None if given is None else _mask(f"mask[{own!r}]" if own else "mask", given, edge.positions)
            if isinstance(x, Windows) and kept is None:
                x = x.checked(named, dtype, edge.shape)
            else:
                x = checks.features(named, x, dtype, edge.shape, least_rows, kept)
            for layer in layers:
                layer.check_input(named, np.asarray(x) if kept is None else _cleared(x, kept))
            arrays.append(x)
            there.append(kept)
        if len(arrays) > 1 or mask is not None:
            rows = {len(a) for a in (*arrays, *there) if a is not None}
            if len(rows) > 1:
                counts = ", ".join(map(str, sorted(rows)))
                raise ValueError(f"the inputs of {name} and their masks have {counts} rows: they must be equal")
        return tuple(arrays), () if mask is None else tuple(there)

    def data(
        self, x_name: str, X, y_name: str, y, sample_weight=None, class_weight=None, whole: bool = True, mask=None,
        chosen: np.ndarray | None = None,
    ) -> Data:  # fmt: skip
        """All rows of inputs with their targets, or those chosen; if `whole`, a row must count at every output."""
        data = self.inputs(x_name, X, mask)
        kept = data if chosen is None else data.part(chosen)
        ys = self._outputs.unpacked(y_name, y)
        sample_weights = self._outputs.each("sample_weight", sample_weight)
        class_weights = [class_weight] if len(self._heads) == 1 else self._outputs.each("class_weight", class_weight)
        parts: list[tuple[Any, Any, np.ndarray | None]] = []
        for k, head in enumerate(self._heads):
            name = f"{y_name}[{head.name!r}]" if head.name else y_name
            if isinstance(ys[k], Windows) and sample_weights[k] is None and class_weights[k] is None:
                windows = self._windows(k, name, ys[k], data)
                if windows is not None:
                    own = windows if chosen is None else windows[chosen]
                    parts.append((own, own, None))
                    continue
            there, given = elements_there(head.mask, data), (ys[k], data.rows, sample_weights[k], class_weights[k])
            parts.append(self._target(head, name, *given, whole, there, chosen))
            truth, there = parts[-1][1].reshape(kept.rows * head.positions, -1), elements_there(head.mask, kept)
            self._check_metrics(k, truth if there is None else truth[there])
        targets, truths, weights = zip(*parts, strict=True)
        return Data(kept.inputs, targets, truths, weights, kept.masks)

    def _windows(self, k: int, name: str, y: Windows, data: Data) -> Windows | None:
        """Targets that stay windows of their series: any values, without a mask; None if they have to be an array."""
        head, loss = self._heads[k], self._heads[k].loss
        columns = head.positions * loss.target_columns(head.outputs)  # type: ignore[attr-defined]
        bounded = loss.labels is not None or loss.valid_targets != (-math.inf, math.inf)  # type: ignore[attr-defined]
        masked = elements_there(head.mask, data) is not None
        fits = len(y) == data.rows and math.prod(y.shape[1:]) == columns
        if bounded or masked or not fits or OF_CLASSES & self._metrics[k].keys():
            return None
        return Windows(y.checked(name, self._dtype, None).flat, y.starts, (columns,))

    def _target(
        self, head: Head, name: str, y, rows: int, sample_weight, class_weight, whole: bool, there: np.ndarray | None,
        chosen: np.ndarray | None,
    ) -> tuple:  # fmt: skip
        """The targets of the loss, those of metrics, and weights; `there` (elements,) is a mask."""
        loss: Any = head.loss
        if tables.is_table(y):
            y = tables.array(name, y, np.float64)
        truth = target = checks.targets(name, y, loss, self._dtype, rows, head.outputs, head.positions, there)
        if class_weight is not None and not loss.of_classes:
            raise ValueError(f"class_weight is for classes; {loss.name} has none")
        if chosen is not None:  # weights are those that these rows would have on their own
            if sample_weight is not None:
                elements = truth.reshape(rows * head.positions, -1)
                checks.weights(elements, sample_weight, None, self._dtype, whole=False, rows=rows)
                sample_weight = np.asarray(sample_weight)[chosen]
            there = None if there is None else there.reshape(rows, -1)[chosen].ravel()
            truth, rows = truth[chosen], len(chosen)
            target = truth
        elements = truth.reshape(rows * head.positions, -1)
        weights = checks.weights(elements, sample_weight, class_weight, self._dtype, whole, rows, there)
        if self._smoothing:
            answers = head.outputs if loss.link == "softmax" else 2  # else each output is a yes/no question
            target = _smoothed(elements, head.outputs, answers, self._smoothing, self._dtype).reshape(rows, -1)
        return target, truth, None if weights is None else weights.reshape(rows, -1)

    def _check_metrics(self, k: int, truth: np.ndarray) -> None:
        """ValueError if metrics for classes would be computed on values."""
        loss = self._heads[k].loss
        if loss.of_classes:  # type: ignore[attr-defined]
            return
        if names := sorted(OF_CLASSES & self._metrics[k].keys()):
            check_classes(truth)
            fraction = truth != np.round(truth)
            if fraction.any():
                raise ValueError(
                    f"{names[0]} is for classes, and with {loss.name} y is taken for values, such as "  # type: ignore
                    f"{truth[fraction][0]:g}: take mse, mae or r2, or a loss for classes"
                )


def _readers(graph: Graph, edge: Edge) -> list[Layer]:
    return [node.layer for node in graph.consumers.get(edge, ())]


def _looks(layer: Layer) -> bool:
    """Whether a layer checks its input."""
    return type(layer).check_input is not Layer.check_input


def _mask(name: str, given, positions: Shape) -> np.ndarray:
    """The mask as an array (rows, positions)."""
    if not positions:
        raise ValueError(f"{name}: a sample without positions has no mask; sample_weight weighs rows")
    mask, count = np.asarray(given), math.prod(positions)
    if mask.dtype != bool or not len(mask) or mask.size != len(mask) * count:
        raise ValueError(f"{name} must be an array of bool (rows, *{positions}), got {mask.dtype} {mask.shape}")
    if not mask.any():
        raise ValueError(f"{name} leaves no element")
    return np.ascontiguousarray(mask.reshape(len(mask), count))


def _cleared(x: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """A copy of x, 0 where it is masked."""
    copy = x.copy()
    copy.reshape(mask.size, -1)[~mask.reshape(-1)] = 0
    return copy


def features(name: str, X, dtype: np.dtype) -> np.ndarray | Windows:
    """Rows of one input whose shape is not known yet."""
    refuse_stream(name, X)
    if isinstance(X, Windows):
        return X.checked(name, dtype, None)
    return checks.features(name, X, dtype, None, least_rows=0)


def refuse_stream(name: str, X) -> None:
    if isinstance(X, Stream):
        raise TypeError(f"{name} is a stream, from which fit can train and nothing else: take arrays, part by part")


def _smoothed(truth: np.ndarray, outputs: int, answers: int, share: float, dtype: np.dtype) -> np.ndarray:
    """Targets (elements, outputs), `share` of which is spread evenly over the possible answers."""
    if truth.dtype.kind == "i":
        truth = np.eye(outputs, dtype=dtype)[truth[:, 0]]
    return (truth * (1 - share) + share / answers).astype(dtype)
