"""Epochs and mini-batches around programs that run without Python.

A run of steps returns to Python every few hundredths of a second, so that Ctrl-C, the progress bar and time limits
are handled between mini-batches; several short epochs form one run if nothing has to be measured after each.
"""

import math
from collections.abc import Callable

import numpy as np

from nbbp import optimizers
from nbbp.distributed import ALONE, Ranks
from nbbp.engine import planner
from nbbp.engine.data import Data, Source
from nbbp.engine.network import Network
from nbbp.engine.objective import Objective
from nbbp.engine.owners import Owners
from nbbp.engine.program import Tables
from nbbp.engine.runner import Runner
from nbbp.kernels import arrays, threads
from nbbp.kernels.clock import Clock
from nbbp.training import epoch_loss
from nbbp.training.binding import Binding
from nbbp.training.division import Division
from nbbp.training.history import History
from nbbp.training.order import BY_LENGTH, Order, check_continued
from nbbp.training.update import Update

RUN_SECONDS = 0.05  # between two returns to Python
OWNED_STEPS = 8  # in an epoch at least: weights are copied to their owners before a run, and back after it
PART_LOSSES = "part_losses"  # in checkpoints
ROWS_TOGETHER = 1 << 16  # epochs shorter than this are prepared together


class DivergenceError(ArithmeticError, ValueError):
    """The loss is no longer finite.

    Attributes
    ----------
    epoch, step : int
        The epoch, and the step within it, both counted from 1.
    history : History
        The history until then, including the offending step's loss.
    """

    def __init__(self, epoch: int, step: int, history: History) -> None:
        self.epoch, self.step, self.history = epoch, step, history
        super().__init__(
            f"the loss became {history.step_loss[-1]} in epoch {epoch}, step {step}: try a smaller learning rate, "
            f"or features scaled to mean 0 and standard deviation 1"
        )


class Trainer:
    """A network, its objective and its update, bound to training data.

    Parameters
    ----------
    batch_size : int
        The rows of a mini-batch.
    parts : int
        The number of micro-batches of `batch_size` rows that go through the network one after the other before an
        update is made from all of them.
    shards : int, optional
        The number of shards of each mini-batch, see `nbbp.engine.planner`; by default it follows from shapes.
    shuffle : bool or BY_LENGTH
        Whether the rows are shuffled in every epoch, in an order that the network's seed determines: see `Order`.
    record_outputs : bool
        Whether the outputs of every step are recorded, for metrics.
    rest_of_more : bool
        Whether the data are the remainder of others, and may have too few rows for a whole mini-batch.
    mean_weight : float, optional
        If it is given, the loss of a mini-batch is (sum w l + parts batch_size penalty) mean_weight / sum w, or 0 if
        no row counts. Otherwise it is sum w l / n + penalty, with n rows.
    clock : Clock, optional
        Given if several trainers run side by side, each on one thread.
    pace : Pace, optional
        What earlier trainers of such steps have learned of threads.
    ranks, apart : Ranks, bool
        The processes that train together, and whether each has data of its own.

    Attributes
    ----------
    owners : Owners
    steps_per_epoch, rows : int
    epochs_together : int
        The number of epochs that are prepared at once, and can form one run.
    """

    def __init__(
        self, network: Network, objective: Objective, update: Update, data: Data, batch_size: int, backend: str, *,
        parts: int = 1, shards: int | None = None, shuffle: bool | str = True, record_outputs: bool = False,
        rest_of_more: bool = False, mean_weight: float | None = None, clock: Clock | None = None,
        pace: threads.Pace | None = None, progress: Callable = iter, ranks: Ranks = ALONE, apart: bool = False,
    ) -> None:  # fmt: skip
        self.network, self.objective, self.update, self.source = network, objective, update, Source(data)
        self.division = Division(data.rows, parts * batch_size, ranks, apart)
        self.rows, self.batch_size = self.division.rows, self.division.batch_size
        self._part_rows = min(batch_size, self.rows)
        if self._part_rows == 1 and not rest_of_more and network.graph.needs_rows:
            raise ValueError(
                "BatchNorm takes mean and standard deviation over the rows of a mini-batch, and here each has one row: "
                "take batch_size=2 or more, or LayerNorm"
            )
        if any(node.layer.stateful for node in network.graph.nodes):
            check_continued(self.rows, self.batch_size, bool(shuffle))
        self.steps_per_epoch = self.division.steps
        self.epochs_together = max(1, ROWS_TOGETHER // self.rows)
        steps, rows = self.epochs_together * self.steps_per_epoch, self.epochs_together * self.rows
        self.clock = Clock() if clock is None else clock
        self._steps_together, self._shards = steps, shards
        self._pace = pace or threads.Pace(RUN_SECONDS)
        if shuffle == BY_LENGTH and not data.masks:
            raise ValueError("group_by_length needs the lengths of rows: give lengths, a mask or an nbbp.Ragged")
        self._order = Order(self.division, data.rows, self.epochs_together, shuffle, network.seed, backend)
        self._step_loss, heads = arrays.zeros(steps, np.float64), objective.heads
        self._part_losses = arrays.zeros((len(heads), steps), np.float64) if len(heads) > 1 else None
        self._outputs = None
        if record_outputs:
            self._outputs = [arrays.zeros((rows, h.elements * h.outputs), network.dtype) for h in heads]
        self._mean_weight, self._penalty_rows = mean_weight, parts * batch_size
        self._first_epoch = self._ready = self._begin = self._end = 0
        self._ahead = 1
        self.carried: dict[str, np.ndarray] = {}  # arrays that layers pass from step to step
        self._backend, self._alone = backend, clock is not None
        self._bind_programs(progress)

    def _bind_programs(self, progress: Callable = iter) -> None:
        """Bind the steps of an epoch; the tables of what changes from step to step must be filled again."""
        self.tables, self.source = Tables(self._steps_together, self.network.dtype), Source(self.source.data)
        self._numbered: optimizers.Optimizer | None = None  # optimizer for which the tables are filled
        binding = self._binding()
        whole = binding.step(self.batch_size)
        last = binding.step(self.division.rest) if self.division.rest else None
        owned = self.steps_per_epoch >= OWNED_STEPS and not self._alone and self._backend == "numba"
        flat = self.network.params, self.network.grads, *self.update.moments
        self.owners = Owners([p for p in (whole, last) if p and owned], flat, self.update.optimizer.kernel)
        self._pace.start_with(planner.cores(whole))
        others = *self._order.runners, *self.owners.runners
        self.runner = Runner(whole, last or whole, progress, alone=self._alone, others=others)
        self._masked = self.network.mask is not None

    def _binding(self) -> Binding:
        divided = self._mean_weight is not None
        return Binding(
            self.network, self.objective, self.update, self.source, self._order.rows, self.division, self._part_rows,
            self._shards, 1 if self._alone else threads.count(), self.clock, self.tables, self.carried, self._backend,
            self._step_loss, self._part_losses, self._outputs,
            self._shares_of_penalties if divided else None, self._shares_of_rows if divided else None,
        )  # fmt: skip

    def _shares_of_penalties(self, before: int, count: int) -> np.ndarray:
        """The factor of the penalties in each of the steps that are ready (count, 1): see `mean_weight`."""
        assert self._mean_weight is not None
        begins, weights = np.arange(0, self.rows, self.batch_size), self.source.data.weights[0]
        each = np.ones(self.rows) if weights is None else weights[:, 0].astype(np.float64)
        orders = self._order.rows.reshape(-1, self.rows)[: max(1, self._ready)]
        sums = np.add.reduceat(each[orders], begins, axis=1).reshape(-1, 1)[:count]
        return np.divide(self._penalty_rows * self._mean_weight, sums, out=np.zeros_like(sums), where=sums > 0)

    def _shares_of_rows(self, before: int, count: int) -> np.ndarray:
        """The share of a row of weight 1 in the loss of each step (count, 1)."""
        return self._shares_of_penalties(before, count) / self._penalty_rows

    def train(self, epochs: int, epochs_done: int) -> int:
        """Train for some epochs, see `begin`; returns the number of steps that were completed."""
        self.begin(epochs, epochs_done)
        self.run()
        return self.steps_done

    def run(
        self,
        after: Callable[[int], None] = lambda steps: None,
        pause_in: Callable[[int], float] = lambda step: math.inf,
    ) -> None:
        """Train to the end of the epochs that were begun.

        Parameters
        ----------
        after
            Called with the number of steps done since the last call; it may raise. `update.steps` includes them.
        pause_in
            A function of the model's steps: the number of further steps after which `after` is called at the latest.
        """
        clock = self.clock

        def run(most: int) -> int:
            done = clock.step
            steps = int(min(most, pause_in(self.update.steps)))
            self.allow(min(self.division.ranks.gather("number of steps", steps)))
            self.owners.enter()
            try:
                self.runner.run()
            finally:
                self.owners.leave()
                self.count()
            return clock.step - done

        while not self.finished:
            done = clock.step
            self._follow_mask()
            self._pace.run(run)
            after(clock.step - done)

    def begin(self, epochs: int, epochs_done: int, steps_done: int = 0) -> None:
        """Go to the beginning of an epoch, or to a step of it.

        Parameters
        ----------
        epochs : int
            The number of epochs to train, at most `epochs_together`.
        epochs_done : int
            The number of epochs done before on these data.
        steps_done : int
            The number of steps of the first epoch that were made before.
        """
        clock, steps = self.clock, self.steps_per_epoch
        number = epochs_done - self._first_epoch
        goes_on = clock.before + number * steps == self.update.steps - steps_done and not clock.stop
        goes_on = goes_on and 0 <= number <= self._ready and self._numbered is self.update.optimizer
        if not goes_on or number + epochs > self._ready:
            self._ahead = 2 * self._ahead if goes_on else 1  # a fit that went on once goes on: prepare more
            number, self._first_epoch = 0, epochs_done
            self._ready = min(self.epochs_together, max(epochs, self._ahead))
            self._prepare(steps_done)
        self._begin, self._end = number * steps, (number + epochs) * steps
        clock.step, clock.batch = self._begin + steps_done, steps_done
        clock.row = number * self.rows + steps_done * self.batch_size

    def _prepare(self, steps_done: int) -> None:
        """Order the rows of the epochs that are prepared, and set the clock to the first."""
        self._order.draw(self._first_epoch, self._ready, self.source.data)
        self.clock.set(batches=self.steps_per_epoch, before=self.update.steps - steps_done)
        self._number()

    def _number(self) -> None:
        """Fill the tables of what changes from step to step, such as the coefficients of the current optimizer."""
        self._numbered = self.update.optimizer
        self.tables.fill(self.clock.before, self._ready * self.steps_per_epoch)

    def forget(self) -> None:
        """Prepare the next epoch anew: the weights of rows have changed."""
        self._ready = 0

    def _follow_mask(self) -> None:
        if (self.network.mask is not None) != self._masked:  # it has been pruned
            self._bind_programs()

    def allow(self, steps: int) -> None:
        """Let the runner take `steps` more steps, with the current optimizer and network."""
        self._follow_mask()
        if self.update.optimizer is not self._numbered:
            self._ahead = 1
            self._number()
        self.clock.end = min(self._end, self.clock.step + steps)

    def count(self) -> None:
        """Add the steps that were taken to the model's count."""
        self.update.steps = self.clock.before + self.clock.step

    @property
    def next_epoch(self) -> int:
        """The number of the epoch after the last that was begun."""
        return self._first_epoch + self._end // self.steps_per_epoch

    @property
    def steps_done(self) -> int:
        """The number of steps done of the epochs that were begun."""
        return self.clock.step - self._begin

    @property
    def finished(self) -> bool:
        """Whether all steps of the epochs are done, or the loss is no longer finite."""
        return self.diverged or self.clock.step >= self._end

    @property
    def diverged(self) -> bool:
        """Whether the loss is no longer finite."""
        return bool(self.clock.stop)

    @property
    def step_loss(self) -> np.ndarray:
        """The loss of every step of the epochs that were begun (steps,), float64."""
        return self._step_loss[self._begin :]

    @property
    def part_losses(self) -> np.ndarray | None:
        """The same for each output (outputs, steps), if there are several."""
        return None if self._part_losses is None else self._part_losses[:, self._begin :]

    @property
    def order(self) -> np.ndarray:
        """The indices of the rows in the order in which the epochs that were begun take them."""
        return self._order.rows[self._begin // self.steps_per_epoch * self.rows :]

    @property
    def outputs(self) -> list[np.ndarray] | None:
        """The outputs before the output activation (rows, positions x outputs), in that order, if recorded."""
        if self._outputs is None:
            return None
        first = self._begin // self.steps_per_epoch * self.rows
        return [outputs[first:] for outputs in self._outputs]

    def unmasked(self, epochs: int) -> list[np.ndarray | None]:
        """For each output the unmasked elements of the steps (epochs, steps) of the first `epochs` epochs."""
        order = self.order[: epochs * self.rows].reshape(epochs, self.rows)
        return epoch_loss.unmasked(self.objective.heads, self.source.data, order, self.division)

    def epoch_losses(self, epochs: int) -> list[tuple[float, list[float]]]:
        """The loss of each of the first `epochs` epochs, and that of each output if there are several."""
        shape, parts = (epochs, self.steps_per_epoch), self.part_losses
        if parts is not None:
            parts = parts[:, : math.prod(shape)].reshape(-1, *shape)
        losses, rows = self.step_loss[: math.prod(shape)].reshape(shape), self.rows
        shares = epoch_loss.shares_of_rows(rows, self.batch_size)
        return epoch_loss.epoch_losses(self.objective.heads, losses, parts, shares, self.unmasked(epochs))

    def measured(self, epoch: int) -> tuple[list[np.ndarray], Data, np.ndarray]:
        """The recorded outputs of an epoch of those that were begun, and in which order they are of which data."""
        rows, division, data = slice(epoch * self.rows, (epoch + 1) * self.rows), self.division, self.source.data
        outputs, order = [division.joined(z[rows]) for z in self.outputs or ()], self.order[rows]
        if division.apart:
            first, data = division.everyone(data)
            order = division.joined(order + first)
        return outputs, data, order

    def start_anew(self) -> None:
        """Forget what layers carried from step to step in another fit."""
        for array in self.carried.values():
            array[:] = 0

    def unfinished(self, steps: int) -> dict[str, np.ndarray]:
        """The arrays besides losses of the first `steps` steps of an incomplete epoch, by name."""
        division, rows = self.division, steps * self.batch_size
        arrays = {name: division.joined(array, 1) for name, array in self._carried().items()}
        if self.part_losses is not None:
            arrays[PART_LOSSES] = self.part_losses[:, :steps]
        return arrays | {name: division.joined(z[:rows], steps) for name, z in self._recorded().items()}

    def put_back(self, unfinished: dict[str, np.ndarray]) -> None:
        """Restore the arrays of `unfinished`, at the step at which they were taken."""
        mine = self._carried() | self._recorded()
        if self.part_losses is not None:
            mine[PART_LOSSES] = self.part_losses
        for name, array in unfinished.items():
            if name in mine:
                mine[name][..., : array.shape[-1]][: len(array)] = array

    def _carried(self) -> dict[str, np.ndarray]:
        return {f"carried/{name}": array for name, array in self.carried.items()}

    def _recorded(self) -> dict[str, np.ndarray]:
        return {"outputs" if k == 0 else f"outputs_{k}": z for k, z in enumerate(self.outputs or ())}
