"""The user's data, checked and in the form that kernels take: `nbbp.engine.data.Data`."""

import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from nbbp import checks, tables
from nbbp.engine.data import Data
from nbbp.engine.forms import Form
from nbbp.engine.graph import Graph
from nbbp.engine.layer import Layer
from nbbp.engine.node import Edge, Shape
from nbbp.engine.objective import Head, Objective
from nbbp.engine.ragged import LengthMask, Padded, Ragged
from nbbp.engine.windows import Windows
from nbbp.metrics import OF_CLASSES, check_classes
from nbbp.streams import Stream

Readers = list[tuple[Layer, Shape]]
"""The layers that check an input, and the shape in which they read it."""


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
            (own, edge, edge.dtype or dtype, [reader for reader in _readers(graph, edge) if _looks(reader[0])])
            for own, edge in zip(inputs.names, graph.inputs, strict=True)
        ]
        own, edge, own_dtype, readers = self._entries[0]
        self._only = None if own or readers else (own_dtype, edge.shape)

    def _rows(self, name: str, X, mask, lengths, least_rows: int) -> Data:
        """Rows of inputs alone."""
        if self._only is not None and mask is None and lengths is None and checks.is_as_needed(X, *self._only):
            return Data((X,))
        arrays, masks = self.arrays(name, X, mask, lengths, least_rows)
        return Data(arrays, masks=masks)

    def arrays(self, name: str, X, mask=None, lengths=None, least_rows: int = 1) -> tuple[tuple, tuple]:
        """An array for each input, and a mask or None for each; no masks if nothing is masked."""
        arrays, masks = [], []
        for x, own_mask, own_lengths, (own, edge, dtype, readers) in zip(
            self._inputs.unpacked(name, X), self._each("mask", mask), self._each("lengths", lengths), self._entries,
            strict=True,
        ):  # fmt: skip
            of = f"[{own!r}]" if own else ""
            kept = _there(f"{name}{of}", of, x, own_mask, own_lengths, edge.positions)
            take = _ragged if isinstance(x, Ragged) else _array
            arrays.append(take(f"{name}{of}", x, dtype, edge, readers, least_rows, kept))
            masks.append(kept)
        rows = {len(array) for array in arrays}
        if len(rows) > 1:
            raise ValueError(f"the inputs of {name} have {', '.join(map(str, sorted(rows)))} rows: they must be equal")
        return tuple(arrays), () if all(kept is None for kept in masks) else tuple(masks)

    def _each(self, name: str, given) -> list:
        """What is given for each input, None for nothing."""
        return [None] * len(self._entries) if given is None else self._inputs.unpacked(name, given)

    def data(
        self, x_name: str, X, y_name: str, y, sample_weight=None, class_weight=None, whole: bool = True,
        mask=None, lengths=None, chosen: np.ndarray | None = None,
    ) -> Data:  # fmt: skip
        """All rows of inputs with their targets, or those chosen; if `whole`, a row must count at every output.

        Without y, the inputs alone, which may have no rows.
        """
        data = self._rows(x_name, X, mask, lengths, least_rows=int(y is not None))
        if y is None:
            return data
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
            there, y_k = data.elements_there(head.mask), _aligned(name, ys[k], head, data)
            weight = _aligned("sample_weight", sample_weights[k], head, data)
            given = y_k, data.rows, weight, class_weights[k]
            parts.append(self._target(head, name, *given, whole, there, chosen))
            truth, there = parts[-1][1].reshape(kept.rows * head.positions, -1), kept.elements_there(head.mask)
            self._check_metrics(k, truth if there is None else truth[there])
        targets, truths, weights = zip(*parts, strict=True)
        return Data(kept.inputs, targets, truths, weights, kept.masks)

    def _windows(self, k: int, name: str, y: Windows, data: Data) -> Windows | None:
        """Targets that stay windows of their series: any values, without a mask; None if they have to be an array."""
        head, loss = self._heads[k], self._heads[k].loss
        columns = head.positions * loss.target_columns(head.outputs)  # type: ignore[attr-defined]
        bounded = loss.labels is not None or loss.valid_targets != (-math.inf, math.inf)  # type: ignore[attr-defined]
        masked = data.mask(head.mask) is not None
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


def _readers(graph: Graph, edge: Edge) -> Iterator[tuple[Layer, Shape]]:
    """The layers that read an input, or a view of it, and the shape in which they do."""
    for node in graph.consumers.get(edge, ()):
        yield node.layer, edge.shape
        if node.spec.view:
            yield from _readers(graph, node.outputs[0])


def _looks(layer: Layer) -> bool:
    """Whether a layer checks its input."""
    return type(layer).check_input is not Layer.check_input


def _array(name: str, x, dtype: np.dtype, edge: Edge, readers: Readers, least_rows: int, mask: Any) -> Any:
    """The rows of an input in `dtype`, which its readers take."""
    mask = None if mask is None else np.asarray(mask)
    if isinstance(x, Windows) and mask is None:
        x = x.checked(name, dtype, edge.shape)
    else:
        x = checks.features(name, x, dtype, edge.shape, least_rows, mask)
    for layer, shape in readers:
        layer.check_input(name, np.asarray(x if mask is None else _cleared(x, mask)).reshape(len(x), *shape))
    return x


def _ragged(name: str, x: Ragged, dtype: np.dtype, edge: Edge, readers: Readers, least_rows: int, mask: Any) -> Padded:
    """The same for rows of different lengths, whose values are checked as one row of all positions."""
    most, *features = edge.shape
    if len(x) < least_rows:
        raise ValueError(f"{name} is empty: it has no rows")
    if x.values.shape[1:] != tuple(features):
        raise ValueError(f"{name}: the model takes positions of shape {tuple(features)}, got {x.values.shape[1:]}")
    if not len(x):
        return Padded(Ragged.from_flat(x.values.astype(dtype), [0]), most)
    whole = Edge((len(x.values), *features), dtype=edge.dtype)
    try:
        flat = [(layer, whole.shape) for layer, _ in readers]
        values = _array(name, x.values[np.newaxis], dtype, whole, flat, 1, None)[0]
    except ValueError:
        _array(name, x.padded(most), dtype, edge, readers, 1, mask)  # its error names the row
        raise
    return Padded(Ragged.from_flat(values, x.offsets), most)


def _aligned(name: str, given, head: Head, data: Data) -> Any:
    """Values at each position of an output in an array, if they are given as a Ragged."""
    if not isinstance(given, Ragged):
        return given
    mask = data.mask(head.mask)
    if not isinstance(mask, LengthMask):
        raise ValueError(f"{name} is Ragged, and the output has no positions of an X that is Ragged or has lengths")
    if len(given) != data.rows:
        raise ValueError(f"X has {data.rows} rows and {name} has {len(given)}")
    lengths = mask.ends // math.prod(head.shape[1:-1])
    if (given.lengths != lengths).any():
        row = int(np.argmax(given.lengths != lengths))
        raise ValueError(f"{name} has {given.lengths[row]} positions in row {row}, where X has {lengths[row]}")
    return given.padded(head.shape[0])


def _there(name: str, of: str, x, mask, lengths, positions: Shape) -> np.ndarray | LengthMask | None:
    """The mask (rows, positions) of an input, from a mask or from lengths; None if nothing is masked."""
    ragged = isinstance(x, Ragged)
    if (mask is not None) + (lengths is not None) + ragged > 1:
        what = "lengths of its own: leave out mask and lengths" if ragged else "a mask and lengths: give one of them"
        raise ValueError(f"{name} has {what}")
    if ragged:
        if positions and x.shape[1] > positions[0]:
            row = int(np.argmax(x.lengths))
            raise ValueError(
                f"{name} has {x.lengths[row]} positions in row {row}, and the model at most {positions[0]}: those of "
                f"its Input, or of the longest row that it was built from"
            )
        return _mask_of_lengths(f"lengths of {name}", x.lengths, len(x), positions)
    if lengths is not None:
        return _mask_of_lengths(f"lengths{of}", lengths, len(checks.array(name, x, least_rows=0)), positions)
    return None if mask is None else _mask(f"mask{of}", mask, positions)


def _mask_of_lengths(name: str, given, rows: int, positions: Shape) -> LengthMask:
    """False at the positions (rows, positions) from each row's length on, along the first axis."""
    if not positions:
        raise ValueError(f"{name}: a sample without positions has no length")
    lengths, most = checks.array(name, given, least_rows=0), positions[0]
    if lengths.shape != (rows,):
        raise ValueError(f"{name} must be a whole number for each of {rows} rows, got shape {lengths.shape}")
    wrong = ~((lengths >= 1) & (lengths <= most) & (lengths == np.floor(lengths)))
    if wrong.any():
        row = int(np.argmax(wrong))
        raise ValueError(f"{name} must be whole numbers from 1 to {most}, got {lengths[row]} in row {row}")
    return LengthMask(lengths.astype(np.int64) * math.prod(positions[1:]), math.prod(positions))


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
