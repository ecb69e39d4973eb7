"""Ensemble: networks trained side by side, each on a thread of its own."""

import contextlib
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from nbbp import checks
from nbbp.callbacks import Callback
from nbbp.engine.data import Data
from nbbp.engine.runner import SideBySide
from nbbp.kernels import clock
from nbbp.model import Model
from nbbp.recipes.folds import Fold, checked, dealt
from nbbp.streams import Stream
from nbbp.training import progress
from nbbp.training.fit import Fit, checked_callbacks, checked_shards, checked_shuffle, validation
from nbbp.training.history import History
from nbbp.training.interrupts import Interrupts
from nbbp.training.trainer import RUN_SECONDS, DivergenceError


class Ensemble:
    """Several networks with different seeds, learning rates or rows.

    Each trains on one thread, without forks within a step, so that as many train at once as there are processors; each
    gets the same bits as if it trained alone.

    Parameters
    ----------
    members : int or sequence of Model
        Networks with the same outputs, or the number of networks to make.
    make : callable, optional
        ``make(seed)`` returns a model, for seeds 0, 1, ..., if `members` is a number.

    Attributes
    ----------
    members : list of Model
    folds : list of (ndarray, ndarray)
        For each member, the rows that it trained on and those held out, in the last fit with `folds`.

    Examples
    --------
    >>> import nbbp
    >>> X, y = nbbp.datasets.load_digits()
    >>> ensemble = nbbp.Ensemble(4, lambda seed: nbbp.Sequential(
    ...     [nbbp.Dense(16, "relu"), nbbp.Dense(10)], "softmax_cross_entropy", nbbp.Adam(), seed=seed))
    >>> histories = ensemble.fit(X, y, epochs=3, verbose=0)
    >>> ensemble.predict(X).shape, ensemble.spread(X).shape, ensemble.vote(X).shape
    ((1797, 10), (1797, 10), (1797,))

    Cross-validation, in which each member stops according to its held-out rows:

    >>> histories = ensemble.fit(X, y, epochs=20, folds=True, verbose=0,
    ...                          callbacks=lambda member: [nbbp.callbacks.EarlyStopping(patience=2)])
    >>> ensemble.out_of_fold(X).shape
    (1797, 10)
    """

    def __init__(self, members: int | Sequence[Model], make: Callable[[int], Model] | None = None) -> None:
        if make is not None:
            members = [make(seed) for seed in range(checks.positive_integer("members", members))]
        if not isinstance(members, Sequence) or not members:
            raise TypeError("an ensemble takes a list of models, or a number and a function that makes one from a seed")
        self.members = list(members)
        if len({id(member) for member in self.members}) < len(self.members):
            raise ValueError("the members of an ensemble must be different models")
        for member in self.members:
            if not isinstance(member, Model):
                raise TypeError(f"the members of an ensemble must be nbbp.Sequential or nbbp.Model, got {member!r}")
        backends = {member.backend for member in self.members}
        if len(backends) > 1:
            raise ValueError(f"the members of an ensemble must have one backend, got {', '.join(sorted(backends))}")
        self.folds: list[Fold] = []

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
        validation_data: tuple | None = None,
        shuffle: bool = True,
        verbose: int = 1,
        callbacks: Callable[[int], Sequence[Callback]] | None = None,
        sample_weight=None,
        class_weight: dict | str | None = None,
        accumulate: int = 1,
        resume: Callable[[int], Any] | None = None,
        allow_changes: bool = False,
        mask=None,
        lengths=None,
        shards: int | None = None,
        group_by_length: bool = False,
        rows: Sequence | None = None,
        folds: bool | Iterable[tuple] = False,
    ) -> list[History]:
        """Train all members; when called again, each continues where it stopped.

        Parameters
        ----------
        X, y, epochs, batch_size, validation_data, shuffle, sample_weight, class_weight, accumulate
            As for `Model.fit`, but X must not be a stream.
        allow_changes, mask, lengths, shards, group_by_length
            As for `Model.fit`.
        verbose : {0, 1}
            Nothing, or a progress bar for all members.
        callbacks : callable, optional
            ``callbacks(member)`` returns a list for each member, by its index: a callback stores the state of one fit.
        resume : callable, optional
            ``resume(member)`` returns the folder of a member's checkpoints, as in ``lambda member: f"run/{member}"``.
        rows : sequence of integer arrays, optional
            For each member the rows that it trains on, as indices or as a bool for each row: bootstrap samples, for
            instance. All rows if neither this nor `folds` is given.
        folds : bool, or iterable of (rows to train on, rows to hold out), optional
            A pair for each member, whose held-out rows are its validation data, with their weights in `sample_weight`.
            scikit-learn's splitters return such pairs: ``KFold(5).split(X)``. With True the rows, and those of each
            class, are distributed evenly, in an order that depends on the first member's seed.

        Ctrl-C (and SIGTERM) end the fits between two mini-batches: the members stay as they are then, the `history` of
        each contains what was measured, and each `Checkpoint` is written.

        Returns
        -------
        list of History
            The history of each member. If a callback stops a member, or its loss is no longer finite, the others
            continue, and its ``history.stopped`` says why.
        """
        if isinstance(X, Stream):
            raise TypeError("X is a stream, which one network reads at a time: give an ensemble arrays")
        epochs = checks.positive_integer("epochs", epochs)
        batch_size = checks.positive_integer("batch_size", batch_size)
        accumulate = checks.positive_integer("accumulate", accumulate)
        shards, shuffled = checked_shards(shards), checked_shuffle(shuffle, group_by_length)
        if verbose not in (0, 1):
            raise ValueError(f"verbose must be 0 or 1, got {verbose!r}")
        given = [_of_member("callbacks", callbacks, k) for k in range(len(self))]
        chosen = [checked_callbacks(callbacks or ()) for callbacks in given]
        resumed = [_of_member("resume", resume, k) for k in range(len(self))]
        weights = {"sample_weight": sample_weight, "mask": mask, "lengths": lengths}
        trained, held_out = self._rows(X, y, rows, folds, validation_data is not None, mask, lengths)
        records, clocks = clock.side_by_side(len(self))
        interrupts, fits = Interrupts(), []
        for k, member in enumerate(self.members):
            data = member.prepare(X, y, class_weight=class_weight, chosen=trained[k], **weights)
            measured: Data | None = None
            if held_out is not None:
                measured = member.prepare(X, y, name="validation ", chosen=held_out[k], **weights)
            elif validation_data is not None:
                measured = validation(member, validation_data)
            fits.append(
                Fit(
                    member, data, measured, epochs, batch_size, accumulate, shuffled, chosen[k], verbose,
                    resumed[k], allow_changes, clock=clocks[k], interrupts=interrupts, shards=shards,
                )
            )  # fmt: skip
            fits[k].history.label = f"member {k}"
        _train(fits, records, interrupts, verbose)
        return [fit.history for fit in fits]

    def _rows(
        self, X, y, rows: Sequence | None, folds: bool | Iterable[tuple], validated: bool, mask, lengths
    ) -> tuple[Sequence[np.ndarray | None], list[np.ndarray] | None]:
        """For each member the rows that it trains on, and those that are held out, or None."""
        if folds is False:
            if rows is None:
                return [None] * len(self), None
            rows = list(rows)
            if len(rows) != len(self):
                raise ValueError(f"rows must have an entry for each of {len(self)} members, got {len(rows)}")
            number = self.members[0].prepare(X, mask=mask, lengths=lengths).rows
            return [checks.row_numbers(f"rows of member {k}", own, number) for k, own in enumerate(rows)], None
        if rows is not None or validated:
            raise ValueError("folds say what each member trains on and is measured on: leave out rows, validation_data")
        data = self.members[0].prepare(X, y, mask=mask, lengths=lengths)
        if isinstance(folds, bool):
            self.folds = dealt(data, len(self), self.members[0].seed)
        elif isinstance(folds, Iterable):
            self.folds = checked(folds, len(self), data.rows)
        else:
            raise TypeError(f"folds must be True, or a pair of row numbers for each member; got {folds!r}")
        return [train for train, _ in self.folds], [held_out for _, held_out in self.folds]

    def _predictions(self, X, mask, lengths) -> tuple[Data, list[np.ndarray]]:
        """The inputs, and the predictions of all members (members, rows, *shape) for each output."""
        data = [member.prepare(X, mask=mask, lengths=lengths) for member in self.members]
        each = [member.built.measure.predicted(own) for member, own in zip(self.members, data, strict=True)]
        return data[0], [np.stack(of_output) for of_output in zip(*each, strict=True)]

    def _packed(self, data: Data, of_outputs: list[np.ndarray]) -> Any:
        return self.members[0].built.packed(data, of_outputs)

    def predict(self, X, mask=None, lengths=None) -> Any:
        """The mean of the members' predictions, (rows, *positions, outputs); a list or a dict for several outputs.

        For probabilities, as in Lakshminarayanan et al., "Simple and scalable predictive uncertainty estimation using
        deep ensembles", 2017.
        """
        data, predictions = self._predictions(X, mask, lengths)
        return self._packed(data, _means(predictions))

    def spread(self, X, mask=None, lengths=None) -> Any:
        """The standard deviation of the members' predictions, in the form of `predict`."""
        data, predictions = self._predictions(X, mask, lengths)
        with np.errstate(all="ignore"):
            return self._packed(data, [p.std(axis=0) for p in predictions])

    def vote(self, X, mask=None, lengths=None) -> Any:
        """The class that most members choose (rows, *positions); the first among equals."""
        data, predictions = self._predictions(X, mask, lengths)
        return self._packed(data, [_voted(p) for p in predictions])

    def evaluate(self, X, y, sample_weight=None, mask=None, lengths=None) -> dict[str, float]:
        """The loss of the mean predictions, without penalties, and the first member's metrics of them."""
        first = self.members[0]
        data = first.prepare(X, y, sample_weight, mask=mask, lengths=lengths)
        return first.built.measure.of_predictions(_means(self._predictions(X, mask, lengths)[1]), data)

    def out_of_fold(self, X, mask=None, lengths=None) -> Any:
        """Predictions for the rows of the last fit with `folds`, by members that did not train on them.

        They have the form of `predict`: the mean for a row that several members held out, nan for one that none did.

        Raises
        ------
        RuntimeError
            If there was no such fit.
        """
        if not self.folds:
            raise RuntimeError("there are no folds: call fit with folds=True, or with pairs of row numbers")
        given = self.members[0].prepare(X, mask=mask, lengths=lengths)
        rows = given.rows
        most = max(int(part.max()) for fold in self.folds for part in fold)
        if most >= rows:
            raise ValueError(f"out_of_fold takes the X that fit had, which has a row {most}; got {rows} rows")
        counts = np.bincount(np.concatenate([held_out for _, held_out in self.folds]), minlength=rows)
        sums: list[np.ndarray] = []
        for member, (_, held_out) in zip(self.members, self.folds, strict=True):
            data = member.prepare(X, mask=mask, lengths=lengths).part(held_out)
            predictions = member.built.measure.predicted(data)
            sums = sums or [np.zeros((rows, *p.shape[1:]), p.dtype) for p in predictions]
            for total, p in zip(sums, predictions, strict=True):
                np.add.at(total, held_out, p)
        with np.errstate(invalid="ignore"):
            means = [total / counts.astype(total.dtype).reshape(-1, *[1] * (total.ndim - 1)) for total in sums]
        return self._packed(given, means)


def _of_member(name: str, given: Callable[[int], Any] | None, member: int) -> Any:
    """The result of a user's function of the member's index."""
    if given is None:
        return None
    if not callable(given):
        raise TypeError(f"{name} must be a function of the member's number, such as lambda member: ...; got {given!r}")
    return given(member)


def _means(predictions: list[np.ndarray]) -> list[np.ndarray]:
    with np.errstate(all="ignore"):  # a member may have diverged
        return [p.mean(axis=0) for p in predictions]


def _voted(p: np.ndarray) -> np.ndarray:
    """The class that most members choose, from their predictions (members, rows, ..., outputs)."""
    classes = p.argmax(axis=-1) if p.shape[-1] > 1 else (p[..., 0] >= 0.5).astype(np.int64)
    counts = np.zeros((*classes.shape[1:], max(2, p.shape[-1])), np.int64)
    for chosen in classes:
        counts += chosen[..., np.newaxis] == np.arange(counts.shape[-1])
    return counts.argmax(axis=-1)


def _train(fits: list[Fit], records: np.ndarray, interrupts: Interrupts, verbose: int) -> None:
    """Run fits to their ends side by side, given the records of their clocks."""
    total = sum(fit.epochs * fit.trainer.steps_per_epoch for fit in fits)
    done = sum(fit.history.steps for fit in fits)
    bar = progress.bar(desc=_epoch(fits), total=total, initial=done, disable=verbose != 1, unit="step")
    with interrupts, contextlib.ExitStack() as ends, bar:
        for fit in fits:
            ends.enter_context(fit)
        at_work = [fit for fit in fits if _begin_run(fit)]
        runners = [fit.trainer.runner for fit in fits]
        side_by_side, most = SideBySide(runners, records), 1
        while at_work:
            interrupts.check()
            begin, before = time.perf_counter(), [fit.trainer.steps_done for fit in at_work]
            allowed = int(min(most, *(fit.pause_in(fit.model.steps) for fit in at_work)))
            for fit in at_work:
                fit.trainer.allow(allowed)
            if runners != [fit.trainer.runner for fit in fits]:  # some were bound again, to a mask
                runners = [fit.trainer.runner for fit in fits]
                side_by_side = SideBySide(runners, records)
            try:
                side_by_side.run()
            finally:
                for fit in at_work:
                    fit.trainer.count()
            taken = max(time.perf_counter() - begin, 1e-9)
            steps = [fit.trainer.steps_done - earlier for fit, earlier in zip(at_work, before, strict=True)]
            most = max(1, min(int(max(steps) * RUN_SECONDS / taken), 4 * max(steps)))
            bar.set_description(_epoch(at_work), refresh=False)
            bar.update(sum(steps))
            for fit, own in zip(at_work, steps, strict=True):
                fit.pause(own)
            interrupts.check()
            at_work = [fit for fit in at_work if not _run_is_over(fit) or _next_run(fit)]
    for fit in fits:
        if verbose and fit.history.stopped:
            print(f"{fit.history.label} stopped after epoch {len(fit.history)}: {fit.history.stopped}")


def _epoch(fits: list[Fit]) -> str:
    """Text for the progress bar: the epoch of the slowest fit, and the number of epochs."""
    done = min((fit.model.steps - fit.history.steps_before) // fit.history.steps_per_epoch for fit in fits)
    return f"epoch {min(done + 1, fits[0].epochs)}/{fits[0].epochs}"


def _run_is_over(fit: Fit) -> bool:
    return fit.trainer.finished or bool(fit.history.stopped)


def _next_run(fit: Fit) -> bool:
    """End a run; returns whether another has begun."""
    try:
        fit.end_run()
    except DivergenceError:
        fit.stop("the loss is no longer finite")
        fit.close()  # within the exception, which callbacks may inspect
        return False
    return _begin_run(fit)


def _begin_run(fit: Fit) -> bool:
    """Begin a run, or end the fit; returns whether it goes on."""
    if fit.going:
        fit.begin_run()
        if not fit.history.stopped:
            return True
        fit.end_run()  # if it was resumed within an epoch, a callback may stop it at once
    fit.close()
    return False
