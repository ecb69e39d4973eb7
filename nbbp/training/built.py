"""A built model: its arrays, and a cache of the programs that are bound to them."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from nbbp.distributed import ALONE, Ranks
from nbbp.engine import memory
from nbbp.engine.data import Data
from nbbp.engine.forms import Form
from nbbp.engine.graph import Graph
from nbbp.engine.jacobian import Jacobian
from nbbp.engine.layout import Layout
from nbbp.engine.network import Network
from nbbp.engine.program import Program, Tables
from nbbp.engine.recent import FEW_ROWS, Recent
from nbbp.engine.runner import Runner
from nbbp.engine.state import Numbers
from nbbp.engine.step import Step
from nbbp.kernels import arrays, threads
from nbbp.kernels.clock import Clock
from nbbp.training.adaptation import adapt
from nbbp.training.history import History
from nbbp.training.intake import Intake
from nbbp.training.measure import Measure
from nbbp.training.order import BY_LENGTH
from nbbp.training.settings import Settings
from nbbp.training.trainer import ROWS_TOGETHER, RUN_SECONDS, DivergenceError, Trainer
from nbbp.training.update import Update

if TYPE_CHECKING:
    from nbbp.model import Model


class Built:
    """All parts of a model that depend on its graph.

    Attributes
    ----------
    network : Network
    objective : Objective
    update : Update
    intake : Intake
    measure : Measure
    """

    def __init__(
        self, graph: Graph, settings: Settings, inputs: Form, outputs: Form, numbers: Numbers | None = None,
        params: np.ndarray | None = None, state: np.ndarray | None = None,
    ) -> None:  # fmt: skip
        layout = Layout(graph)
        optimizer = settings.optimizer
        memory.check_room(layout.size, 2 + optimizer.moments + (settings.averaging is not None), settings.dtype)
        self.backend = settings.backend
        if numbers is not None:
            params, state = numbers.params, numbers.state
        rounds = settings.precision == "bfloat16"
        self.network = Network(layout, settings.dtype, settings.seed, params, state, rounds)
        self.objective = settings.objective(graph)
        self.update = Update(self.network, settings)
        self.intake = Intake(
            graph, self.objective, inputs, outputs, settings.metrics, settings.dtype, settings.label_smoothing
        )
        self.measure = Measure(self.network, self.objective, settings.backend, settings.metrics)
        self._inputs, self._outputs = inputs, outputs
        self._trainers: Recent[Trainer] = Recent(ROWS_TOGETHER)
        self._paces: Recent[threads.Pace] = Recent()
        self._gradients: Recent[Gradient] = Recent(FEW_ROWS)
        self._jacobians: Recent[Jacobian] = Recent(FEW_ROWS)
        if numbers is not None:
            self._take(numbers)

    def _take(self, numbers: Numbers) -> None:
        update = self.update
        if numbers.mask is not None:
            self.network.mask = arrays.copied(numbers.mask)
        for mine, theirs in zip(update.moments, numbers.moments, strict=True):
            mine[:] = theirs
        if update.mean is not None:
            update.mean[:] = numbers.params if numbers.mean is None else numbers.mean
        update.steps = numbers.steps

    def numbers(self) -> Numbers:
        """The arrays of the model, not copied."""
        network, update = self.network, self.update
        return Numbers(
            network.graph.inputs[0].shape, network.params, network.state, update.moments, update.mean, network.mask,
            update.steps,
        )  # fmt: skip

    def trainer(
        self, data: Data, batch_size: int, parts: int = 1, shuffle: bool | str = True, record_outputs: bool = False,
        mean_weight: float | None = None, progress: Callable = iter, clock: Clock | None = None,
        shards: int | None = None, ranks: Ranks = ALONE, apart: bool = False,
    ) -> Trainer:  # fmt: skip
        """A trainer on these data; one that is bound to other data of the same form is reused.

        With a clock, for trainers that run side by side, it is always new.
        """
        self.adapt(data, ranks)

        def make() -> Trainer:
            pace = self._paces.get(min(batch_size, data.rows), (parts, shards), lambda: threads.Pace(RUN_SECONDS))
            return Trainer(
                self.network, self.objective, self.update, data, batch_size, self.backend, parts=parts, shards=shards,
                shuffle=shuffle, record_outputs=record_outputs, mean_weight=mean_weight, clock=clock, pace=pace,
                progress=progress, ranks=ranks, apart=apart,
            )  # fmt: skip

        if clock is not None or apart or min(batch_size, data.rows) > FEW_ROWS:
            return make()
        how = batch_size, ranks, parts, shards, shuffle, record_outputs, mean_weight
        key = threads.count(), data.form, *how, self.update.kind()
        trainer = self._trainers.get(data.rows, key, make)
        weighed = any(weights is not None for weights in data.weights)
        if trainer.source.data is not data and (weighed or shuffle == BY_LENGTH):
            trainer.forget()
        trainer.source.exchange(data)
        return trainer

    def adapt(self, data: Data, ranks: Ranks = ALONE) -> None:
        """Before the first step: adapt the parameters whose first values depend on data, those of the first rank."""
        if not self.update.steps:
            adapt(self.network, self.backend, data)
            self.network.params[:] = ranks.of_first("first values", self.network.params)

    def train_on(self, data: Data) -> float:
        """One update from all rows; returns their loss before it."""
        trainer = self.trainer(data, data.rows, shuffle=False)
        trainer.train(1, trainer.next_epoch)
        trainer.source.release()
        if trainer.diverged:
            history = History(trainer.steps_per_epoch)
            history.add_steps(trainer.step_loss[:1])
            raise DivergenceError(1, 1, history)
        return float(trainer.step_loss[0])

    def gradient(self, data: Data, to_inputs: bool = False) -> "Gradient":
        """The gradient of the mean loss over all rows of some data, with layers as in training."""
        make = lambda: Gradient(self, data, self.backend, to_inputs)  # noqa: E731
        gradient = self._gradients.get(data.rows, (data.form, to_inputs), make)
        gradient.take(data)
        return gradient

    def step(self, batch_size: int, training: bool) -> Step:
        """See `nbbp.Model.step`."""
        return Step(
            self.network, self.update, self.backend, batch_size, training,
            lambda *given: self.intake.arrays("X", *given), self._inputs, self._outputs,
        )  # fmt: skip

    def packed(self, data: Data, predictions: Sequence[np.ndarray]) -> Any:
        """Predictions in the user's form; those at the positions of a Ragged are one themselves."""
        pairs = zip(self.objective.heads, predictions, strict=True)
        return self._outputs.packed([data.unpadded(head.mask, p) for head, p in pairs])

    def jacobian(self, data: Data) -> np.ndarray:
        """Derivatives of the predictions with respect to the inputs (rows, outputs, inputs)."""
        masked = tuple(mask is not None for mask in data.masks)
        make = lambda: Jacobian(self.network, self.backend, data.rows, self.measure.activations, masked)  # noqa: E731
        found, parts, begin = self._jacobians.get(data.rows, masked, make)(data), [], 0
        for head in self.objective.heads:
            own = found[:, begin : begin + head.elements * head.outputs]
            parts.append(own.reshape(data.rows, head.members, -1, found.shape[2]).mean(axis=1))
            begin += own.shape[1]
        return np.concatenate(parts, axis=1)


def check_idle(model: "Model") -> None:
    """RuntimeError during a fit, which would continue to train the old arrays."""
    if model.is_fitting:
        raise RuntimeError(
            "build gives the model other parameters than those that the fit under way trains: build it before or "
            "after the fit, and from a callback change model.params in place"
        )


class Gradient:
    """A function that computes the flat gradient on some data, including penalties, and returns the loss.

    Attributes
    ----------
    inputs : list of ndarray (rows, *shape) or None
        The gradients of the inputs, if they are requested.
    outputs : list of ndarray (rows, *shape)
        The outputs before the output activations.
    losses : list of float
        The loss at each output, without its weight.
    """

    def __init__(self, built: Built, data: Data, backend: str, to_inputs: bool) -> None:
        network, objective = built.network, built.objective
        self._tables, self._update = Tables(1, network.dtype), built.update
        program = Program(backend, network.dtype, data.rows, seed=network.seed, tables=self._tables)
        self._network, self._heads, self._scales = network, objective.heads, objective.scales(program)
        self._inputs = network.inputs(program)
        self._targets = [arrays.copied(target) for target in data.targets]
        self._masks = [None if mask is None else arrays.copied(mask) for mask in data.masks]
        bound = network.forward(program, self._inputs, self._masks or None)
        slopes = objective.bind(program, bound.outputs, self._targets, self._scales)
        self.inputs = list(network.backward(program, bound, slopes, network.grads, to_inputs))
        self._penalty = program.buffer(1)
        network.penalize(program, self._penalty, network.grads)
        self.outputs = [output.array for output in bound.outputs]
        self.losses: list[float] = []
        self._runner, self._pace = Runner(program), threads.Pace(RUN_SECONDS)

    def take(self, data: Data) -> None:
        """Exchange the data for others of the same form with as many rows."""
        for mine, given in zip(
            (*self._inputs, *self._targets, *self._masks), (*data.inputs, *data.targets, *data.masks), strict=True
        ):
            if mine is not None:
                mine[:] = given
        for k, (head, scale) in enumerate(zip(self._heads, self._scales.scales, strict=True)):
            weights = data.weights[k]
            unmasked = data.unmasked(head.mask)
            count = scale.size if unmasked is None else max(1, int(unmasked.sum()))
            each = np.ones(1, scale.dtype) if weights is None else weights
            scale[:] = each / count * head.weight

    def __call__(self) -> float:
        self._tables.fill(self._update.steps, 1)
        self._penalty[0], state = 0, self._network.state.copy()
        self._pace.run(self._once)
        self._network.state[:] = state
        pairs = zip(self._scales.losses, self._scales.scales, strict=True)
        sums = [float(np.sum(np.multiply(losses, scale, dtype=np.float64))) for losses, scale in pairs]
        self.losses = [loss / head.weight for loss, head in zip(sums, self._heads, strict=True)]
        return sum(sums) + float(self._penalty[0])

    def _once(self, most: int) -> int:
        self._runner.once()
        return 1
