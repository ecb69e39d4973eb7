"""Inspection of a network while it trains: norms of gradients, weights and updates, and units that are stuck."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
from numba import prange

from nbbp import checks
from nbbp.callbacks import Callback
from nbbp.engine.program import Program
from nbbp.engine.runner import Runner
from nbbp.kernels.jit import kernel
from nbbp.kernels.sums import wide_sum_of_squares
from nbbp.kernels.threads import PIECE, pieces
from nbbp.layers import Activation, Dense

if TYPE_CHECKING:
    from nbbp.training.observed import ObservedFit

SAMPLE_ROWS = 256  # a share of rows is then known to half a percent
TINY = float(np.finfo(np.float64).tiny)  # in place of a norm that is 0
LIMITS = {"sigmoid": (0.01, 0.99), "tanh": (-0.99, 0.99)}  # outputs beyond are saturated


def norm_reference(result, x, sums):
    sums[:] = np.add.reduceat(np.square(x, dtype=np.float64), np.arange(0, len(x), PIECE))
    result[0] = np.sqrt(sums.sum())


@kernel(norm_reference, "(1) (n) (P)", cycles=0.3, lengths={"P": pieces})
def norm(result, x, sums):
    """The Euclidean norm of x; sums (float64) is scratch."""
    n = x.shape[0]
    for q in prange(sums.shape[0]):
        sums[q] = wide_sum_of_squares(x[q * PIECE : min(n, (q + 1) * PIECE)])
    total = sums[0]
    for q in range(1, sums.shape[0]):
        total += sums[q]
    result[0] = np.sqrt(total)


KINDS = ("gradients", "weights", "updates", "dead", "saturated")


class Inspection:
    """The records of `Inspect`, as arrays with one value for each record.

    Attributes
    ----------
    steps : ndarray (records,), int64
        The number of steps of the model at each record.
    gradients : dict of str to ndarray (records,)
        By parameter, such as ``dense_0.w``: the norm sqrt(sum g^2) of the step's gradient, as the optimizer used it.
    weights : dict of str to ndarray (records,)
        By parameter: its norm after the step.
    updates : dict of str to ndarray (records,)
        By parameter: the norm of its change in the step, relative to `weights`; about 0.001 is usual (Karpathy, CS231n
        notes, "Ratio of weights:updates").
    dead : dict of str to ndarray (records,)
        By hidden relu layer, such as ``activation_0``: the share of its units that are 0 for every row of the sample.
    saturated : dict of str to ndarray (records,)
        By hidden sigmoid or tanh layer: the share of its outputs on the sample that are within 1 percent of a limit:
        below 0.01 or above 0.99 for sigmoid, below -0.99 or above 0.99 for tanh.
    means, deviations : ndarray (features,)
        Means and standard deviations of the features in the sample, if the first layer is `Dense`; else empty.
    """

    def __init__(self) -> None:
        self.steps = np.zeros(0, np.int64)
        self.gradients: dict[str, np.ndarray] = {}
        self.weights: dict[str, np.ndarray] = {}
        self.updates: dict[str, np.ndarray] = {}
        self.dead: dict[str, np.ndarray] = {}
        self.saturated: dict[str, np.ndarray] = {}
        self.means = self.deviations = np.zeros(0)

    def __len__(self) -> int:
        """The number of records."""
        return len(self.steps)

    def __repr__(self) -> str:
        return f"<Inspection of {len(self.gradients)} parameters, {len(self)} records>"

    def add(self, step: int, **values: dict[str, float]) -> None:
        """Add a record: ``gradients={name: value, ...}`` and so on."""
        self.steps = np.append(self.steps, step)
        for kind, named in values.items():
            series = getattr(self, kind)
            for name, value in named.items():
                series[name] = np.append(series.get(name, ()), value)

    def extend(self, later: "Inspection") -> None:
        """Append the records of a fit that continued training."""
        self.steps = np.concatenate([self.steps, later.steps])
        for kind in KINDS:
            series = getattr(self, kind)
            for name, values in getattr(later, kind).items():
                series[name] = np.append(series.get(name, ()), values)

    def state(self) -> dict[str, np.ndarray]:
        """All arrays by name."""
        series = [(kind, name, values) for kind in KINDS for name, values in getattr(self, kind).items()]
        return {"steps": self.steps} | {
            f"{k:06}/{kind}/{name}": values for k, (kind, name, values) in enumerate(series)
        }

    def restore(self, state: dict[str, np.ndarray]) -> None:
        """Restore the arrays that `state` returned."""
        self.steps = state["steps"].astype(np.int64)
        for key in sorted(state.keys() - {"steps"}):
            _, kind, name = key.split("/", 2)
            getattr(self, kind)[name] = state[key]


class Inspect(Callback):
    """Record an `Inspection` of the network in ``history.inspected`` every `every` steps.

    Units are inspected in a forward pass of 256 rows spread over the training data, the same at every record. The run
    also returns to Python one step before each record, to copy the parameters before the step changes them.

    Parameters
    ----------
    every : int

    Examples
    --------
    >>> import nbbp
    >>> X, y = nbbp.datasets.load_digits()
    >>> model = nbbp.Sequential([nbbp.Dense(32, activation="relu"), nbbp.Dense(10)], loss="softmax_cross_entropy")
    >>> history = model.fit(X, y, epochs=4, callbacks=[nbbp.Inspect(every=100)], verbose=0)
    >>> history.inspected.steps
    array([100, 200])
    >>> list(history.inspected.gradients)
    ['dense_0.w', 'dense_0.b', 'dense_1.w', 'dense_1.b']
    """

    def __init__(self, every: int = 100) -> None:
        self.every: int = checks.positive_integer("every", every)

    def pause_in(self, step: int) -> float:
        return max(1, super().pause_in(step) - 1)

    def on_fit_begin(self, fit: "ObservedFit") -> None:
        if fit.history.inspected is not None:
            raise ValueError("a fit has one record: give it one nbbp.Inspect")
        model, network, data = fit.model, fit.model.network, fit.data
        rows = min(data.rows, SAMPLE_ROWS)
        sample = Program(model.backend, model.dtype, rows, training=False)
        entries, graph = network.inputs(sample), network.graph
        chosen = data.part(np.linspace(0, data.rows - 1, rows).astype(int)).padded()
        for entry, x in zip(entries, chosen.inputs, strict=True):
            entry[:] = x
        bound = network.forward(sample, entries, chosen.masks or None)
        hidden = {
            graph.names[node]: (node.layer.name, bound.arrays[node.outputs[0]].array)
            for node in graph.nodes
            if isinstance(node.layer, Activation) and node.outputs[0] not in graph.outputs
        }
        self._relu = {name: y.reshape(-1, y.shape[-1]) for name, (kind, y) in hidden.items() if kind == "relu"}
        self._bounded = {name: (y, *LIMITS[kind]) for name, (kind, y) in hidden.items() if kind in LIMITS}
        self._before, self._norms = model.params.copy(), {}
        for kind, flat in (("gradients", model.grads), ("weights", model.params), ("updates", self._before)):
            arrays = model.network.layout.named(flat)
            self._norms[kind] = {name: np.zeros(1, model.dtype) for name in arrays}
            for name, array in arrays.items():
                sums = np.zeros(pieces(array.size))
                sample.call(norm, self._norms[kind][name], array.reshape(-1), sums)
        self._sample = Runner(sample)
        self._recorded = model.steps
        self._inspection = fit.history.inspected = Inspection()
        entry = entries[0]
        if len(entries) == 1 and isinstance(graph.nodes[0].layer, Dense):
            self._inspection.means = entry.mean(axis=0, dtype=np.float64)
            self._inspection.deviations = entry.std(axis=0, dtype=np.float64)

    def state(self) -> Mapping[str, np.ndarray | float]:
        return self._inspection.state()

    def restore(self, fit: "ObservedFit", state: dict[str, np.ndarray]) -> None:
        self._inspection.restore(state)

    def on_pause(self, fit: "ObservedFit") -> None:
        model = fit.model
        if model.steps % self.every == 0 and model.steps > self._recorded:
            self._recorded = model.steps
            self._record(model, self._inspection)
        if (model.steps + 1) % self.every == 0:
            self._before[:] = model.params

    def _record(self, model, inspection: Inspection) -> None:
        np.subtract(model.params, self._before, out=self._before)
        self._sample.once()
        norms = {kind: {name: float(value[0]) for name, value in named.items()} for kind, named in self._norms.items()}
        weights = norms["weights"]
        inspection.add(
            model.steps,
            gradients=norms["gradients"],
            weights=weights,
            updates={name: change / max(weights[name], TINY) for name, change in norms["updates"].items()},
            dead={name: float(np.mean(y.max(axis=0) <= 0)) for name, y in self._relu.items()},
            saturated={name: float(np.mean((y < low) | (y > high))) for name, (y, low, high) in self._bounded.items()},
        )
