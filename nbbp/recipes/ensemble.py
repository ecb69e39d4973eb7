"""Ensemble: networks trained side by side, each on a thread of its own."""

import dataclasses
import time
from collections.abc import Callable, Sequence

import numpy as np

from nbbp import checks
from nbbp.engine.data import Data
from nbbp.engine.runner import SideBySide
from nbbp.kernels import clock
from nbbp.sequential import Sequential
from nbbp.training import progress
from nbbp.training.history import History
from nbbp.training.interrupts import Interrupts
from nbbp.training.trainer import RUN_SECONDS, Trainer


def _log(p: np.ndarray) -> np.ndarray:
    return np.log(np.maximum(p, np.finfo(p.dtype).tiny))


UNLINKED: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "linear": lambda p: p,
    "softmax": _log,
    "exponential": _log,
    "sigmoid": lambda p: _log(p) - _log(1 - p),
}
"""Outputs whose predictions these are, for the links of losses."""


@dataclasses.dataclass
class _Run:
    """A member in a fit."""

    member: Sequential
    trainer: Trainer
    held_out: Data | None
    history: History

    @property
    def epochs_done(self) -> int:
        """Of those that the trainer has begun."""
        return self.trainer.steps_done // self.trainer.steps_per_epoch

    def note(self) -> None:
        """Add to the history what the trainer has done; an epoch that has to be validated is left for `measure`."""
        trainer, history = self.trainer, self.history
        trainer.count()
        history.add_steps(trainer.step_loss[: trainer.steps_done + trainer.diverged])
        if trainer.diverged:
            history.stopped = "the loss is no longer finite"
        if self.held_out is None:
            for loss in trainer.epoch_losses(self.epochs_done):
                history.add_epoch(loss=loss)

    def measure(self) -> dict[str, float]:
        """Values of the epoch that is complete; none where the loss is no longer finite."""
        if self.held_out is None or self.trainer.diverged:
            return {}
        (loss,) = self.trainer.epoch_losses(1)
        return {"loss": loss} | self.member.built.measure(self.held_out, prefix="val_")


def _train(epochs: int, runs: list[_Run], side_by_side: SideBySide, after: Callable[[int], None]) -> None:
    """Train for some epochs; `after` is called now and then, with the steps done since it was last, and may raise."""
    for run in runs:
        run.trainer.begin(epochs, run.member.epochs)
        run.member.epochs += epochs
    steps, most = 0, 1
    try:
        while not all(run.trainer.finished for run in runs):
            begin = time.perf_counter()
            for run in runs:
                run.trainer.allow(most)
            side_by_side.run()
            taken = max(time.perf_counter() - begin, 1e-9)
            most = max(1, min(int(most * RUN_SECONDS / taken), 4 * most))
            before, steps = steps, sum(run.trainer.steps_done for run in runs)
            after(steps - before)
    finally:
        for run in runs:
            run.note()


class Ensemble:
    """Several networks: other seeds, other learning rates, other rows.

    Each trains on one thread, without a fork in a step, so that as many train at once as there are processors; what
    each learns has the bits that it would have alone.

    Parameters
    ----------
    members : int or sequence of Sequential
        Networks with the same outputs; or how many to make.
    make : callable, optional
        ``make(seed)`` gives a Sequential, for seeds 0, 1, ..., where `members` is a number.

    Examples
    --------
    >>> import nbbp
    >>> X, y = nbbp.datasets.load_digits()
    >>> ensemble = nbbp.Ensemble(4, lambda seed: nbbp.Sequential(
    ...     [nbbp.Dense(16, "relu"), nbbp.Dense(10)], "softmax_cross_entropy", nbbp.Adam(), seed=seed))
    >>> histories = ensemble.fit(X, y, epochs=3, verbose=0)
    >>> ensemble.predict(X).shape, ensemble.spread(X).shape, ensemble.vote(X).shape
    ((1797, 10), (1797, 10), (1797,))
    """

    def __init__(self, members: int | Sequence[Sequential], make: Callable[[int], Sequential] | None = None) -> None:
        if make is not None:
            members = [make(seed) for seed in range(checks.positive_integer("members", members))]
        if not isinstance(members, Sequence) or not members:
            raise TypeError("an ensemble takes a list of models, or a number and a function that makes one from a seed")
        self.members = list(members)
        if len({id(member) for member in self.members}) < len(self.members):
            raise ValueError("the members of an ensemble must be different models")
        for member in self.members:
            if not isinstance(member, Sequential):
                raise TypeError(f"the members of an ensemble must be nbbp.Sequential, got {member!r}")
        backends = {member.backend for member in self.members}
        if len(backends) > 1:
            raise ValueError(f"the members of an ensemble must have one backend, got {', '.join(sorted(backends))}")

    def __len__(self) -> int:
        return len(self.members)

    def __repr__(self) -> str:
        return f"<Ensemble of {len(self)}, the first {self.members[0]!r}>"

    def fit(
        self,
        X,
        y,
        epochs: int = 1,
        batch_size: int = 32,
        rows: Sequence | None = None,
        validation_data: tuple | None = None,
        verbose: int = 1,
    ) -> list[History]:
        """Train all members; called again, each goes on where it stopped.

        Parameters
        ----------
        X, y : array_like
            As for `Sequential.fit`.
        epochs, batch_size : int
        rows : sequence of integer arrays, optional
            For each member the rows that it trains on, by number or as a bool for each: folds, or bootstrap samples.
            All rows when it is left out.
        validation_data : (X, y), optional
            Measured after every epoch.
        verbose : {0, 1}

        Ctrl-C (and SIGTERM) end it between two mini-batches: the members stay as they are then, and the `history` of
        each has what was measured.

        Returns
        -------
        list of History
            One for each member. A member whose loss is no longer finite stops: ``history.stopped`` says so.
        """
        epochs = checks.positive_integer("epochs", epochs)
        batch_size = checks.positive_integer("batch_size", batch_size)
        if rows is not None:
            rows = list(rows)
            if len(rows) != len(self):
                raise ValueError(f"rows must have an entry for each of {len(self)} members, got {len(rows)}")
        held_out: list[Data | None] = [None] * len(self)
        if validation_data is not None:
            if not isinstance(validation_data, tuple | list) or len(validation_data) != 2:
                raise TypeError("validation_data must be a pair (X, y)")
            X_held, y_held = validation_data
            held_out = [m.prepare(X_held, y_held, name="validation ") for m in self.members]
        records, clocks = clock.side_by_side(len(self))
        runs = []
        for k, member in enumerate(self.members):
            data = member.prepare(X, y)
            if rows is not None:
                chosen = checks.row_numbers(f"rows of member {k}", rows[k], data.rows)
                data = data.part(chosen)
            built = member.built
            trainer = Trainer(
                built.network, built.objective, built.update, data, batch_size, member.backend, clock=clocks[k],
                progress=progress.compiling if verbose else iter,
            )  # fmt: skip
            history = History(trainer.steps_per_epoch, label=f"member {k}", steps_before=member.steps)
            runs.append(_Run(member, trainer, held_out[k], history))
        for run in runs:
            run.member.history = run.history
        side_by_side = SideBySide([run.trainer.runner for run in runs], records)
        total, done = epochs * sum(run.trainer.steps_per_epoch for run in runs), 0
        bar = progress.bar(desc=f"epoch 1/{epochs}", total=total, disable=verbose != 1, unit="step")
        interrupts = Interrupts()

        def after(steps: int) -> None:
            slowest = min((run.epochs_done for run in runs if not run.trainer.diverged), default=0)
            bar.set_description(f"epoch {min(done + slowest + 1, epochs)}/{epochs}", refresh=False)
            bar.update(steps)
            interrupts.check()

        with interrupts, bar:
            while done < epochs:
                together = 1
                if validation_data is None:
                    together = min(epochs - done, *(run.trainer.epochs_together for run in runs))
                at_work = [run for run in runs if not run.history.stopped]
                _train(together, at_work, side_by_side, after)
                done += together
                if validation_data is not None:
                    with interrupts.allowed():
                        measured = [run.measure() for run in at_work]
                    for run, values in zip(at_work, measured, strict=True):
                        run.history.note(**values)
        return [run.history for run in runs]

    def _outputs(self, X) -> np.ndarray:
        """Predictions of all members, (members, rows, outputs)."""
        return np.stack([member.predict(X) for member in self.members])

    def predict(self, X) -> np.ndarray:
        """Mean of the members' predictions, (rows, outputs).

        For probabilities as in Lakshminarayanan et al., "Simple and scalable predictive uncertainty estimation using
        deep ensembles", 2017.
        """
        with np.errstate(all="ignore"):  # a member may have diverged
            return self._outputs(X).mean(axis=0)

    def evaluate(self, X, y, sample_weight=None) -> dict[str, float]:
        """The loss of `predict`'s predictions, without penalties, and the first member's metrics of them."""
        first = self.members[0]
        data, predictions = first.prepare(X, y, sample_weight), self.predict(X)
        link = first.loss.link
        if link not in UNLINKED:
            raise ValueError(f"evaluate does not know the loss of a mean after the output activation {link}")
        values = {"loss": first.built.measure.loss_of([UNLINKED[link](predictions)], data)}
        weights = None if data.weights[0] is None else data.weights[0][:, 0]
        return values | {name: metric(data.truths[0], predictions, weights) for name, metric in first.metrics.items()}

    def spread(self, X) -> np.ndarray:
        """Standard deviation of the members' predictions, (rows, outputs)."""
        with np.errstate(all="ignore"):
            return self._outputs(X).std(axis=0)

    def vote(self, X) -> np.ndarray:
        """The class that most members choose (rows,); the first among equals."""
        outputs = self._outputs(X)
        classes = outputs.argmax(axis=2) if outputs.shape[2] > 1 else (outputs[:, :, 0] >= 0.5).astype(np.int64)
        counts = np.zeros((outputs.shape[1], max(2, outputs.shape[2])), np.int64)
        for chosen in classes:
            counts[np.arange(len(chosen)), chosen] += 1
        return counts.argmax(axis=1)
