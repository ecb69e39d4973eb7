"""Ensemble: networks trained side by side, each on a thread of its own."""

import time
from collections.abc import Callable, Sequence

import numpy as np

from nbbp import checks
from nbbp.engine import program as prog
from nbbp.engine.evaluator import mean_loss
from nbbp.engine.program import SideBySide
from nbbp.kernels import arrays
from nbbp.sequential import Sequential
from nbbp.training import progress
from nbbp.training.history import History
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
        held_out = []
        if validation_data is not None:
            if not isinstance(validation_data, tuple | list) or len(validation_data) != 2:
                raise TypeError("validation_data must be a pair (X, y)")
            X_held, y_held = validation_data
            held_out = [m._data("validation X", X_held, "validation y", y_held) for m in self.members]
        clocks = arrays.zeros((len(self), 16), np.int64)  # two cache lines each: threads write in every step
        trainers = []
        for k, member in enumerate(self.members):
            data = member._data("X", X, "y", y)
            if rows is not None:
                chosen = checks.row_numbers(f"rows of member {k}", rows[k], len(data.x))
                data = data.part(chosen)
            trainer = Trainer(
                member.network, member.loss, member.update, data, batch_size, member.backend,
                epoch_by_epoch=bool(held_out), clock=clocks[k, :8],
                progress=progress.compiling if verbose else iter,
            )  # fmt: skip
            trainers.append(trainer)
        histories = [History(trainer.steps_per_epoch, label=f"member {k}") for k, trainer in enumerate(trainers)]
        side_by_side = SideBySide([trainer.runner for trainer in trainers], clocks)
        bar = progress.bar(total=epochs * sum(t.steps_per_epoch for t in trainers), disable=verbose != 1, unit="step")
        with bar:
            done = 0
            while done < epochs:
                together = min(epochs - done, *(trainer.epochs_together for trainer in trainers))
                self._train(together, trainers, side_by_side, histories, bar)
                done += together
                for member, data, history in zip(self.members, held_out, histories, strict=False):
                    if not history.stopped:
                        history.note(**member.measure(data, prefix="val_"))
        return histories

    def _train(
        self, epochs: int, trainers: list[Trainer], side_by_side: SideBySide, histories: list[History], bar
    ) -> None:
        """Train all members for some epochs and note what they measured."""
        at_work = [m for m, history in enumerate(histories) if not history.stopped]
        for m in at_work:
            trainers[m].begin(epochs, self.members[m].epochs)
            self.members[m].epochs += epochs
        steps, most = 0, 16
        try:
            while not all(trainer.finished for trainer in trainers):
                begin = time.perf_counter()
                for trainer in trainers:
                    trainer.allow(most)
                side_by_side.run()
                taken = max(time.perf_counter() - begin, 1e-9)
                most = max(1, min(int(most * RUN_SECONDS / taken), 4 * most))
                done = sum(int(trainer.clock[prog.STEP]) for trainer in trainers)
                bar.update(done - steps)
                steps = done
        finally:  # Ctrl-C arrives here between two runs
            for m in at_work:
                trainer, history = trainers[m], histories[m]
                trainer.count()
                done = int(trainer.clock[prog.STEP])
                history.add_steps(trainer.step_loss[: done + trainer.diverged])
                if trainer.diverged:
                    history.stopped = "the loss is no longer finite"
                for loss in trainer.epoch_losses(done // trainer.steps_per_epoch):
                    history.add_epoch(loss=loss)

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
        data, predictions = first._data("X", X, "y", y, sample_weight), self.predict(X)
        if first.loss.link not in UNLINKED:
            raise ValueError(f"evaluate does not know the loss of a mean after the link {first.loss.link}")
        z = UNLINKED[first.loss.link](predictions)
        values = {"loss": mean_loss(z, data, first.loss, first.backend)}
        return values | {name: metric(data.truth, predictions, data.weights) for name, metric in first.metrics.items()}

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
