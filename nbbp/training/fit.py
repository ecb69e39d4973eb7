"""The loop of a fit: epochs, validation, history, progress and callbacks around a `Trainer`."""

import functools
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from nbbp import checks
from nbbp.callbacks import Callback
from nbbp.distributed import ALONE, Ranks, ranks_of
from nbbp.engine.data import Data
from nbbp.engine.planner import SHARD_NUMBERS
from nbbp.insight.summary import plain
from nbbp.kernels.clock import Clock
from nbbp.streams import Stream
from nbbp.training import progress
from nbbp.training.agreement import agree, number_of_shards
from nbbp.training.arguments import checked_callbacks, checked_shards, checked_shuffle, validation
from nbbp.training.checkpoint import Checkpoint, Resumed, has_checkpoints, marks
from nbbp.training.history import History
from nbbp.training.interrupts import Interrupts
from nbbp.training.observed import ObservedFit
from nbbp.training.stream_trainer import StreamTrainer
from nbbp.training.trainer import DivergenceError

if TYPE_CHECKING:
    from nbbp.model import Model


def fit(
    model: "Model",
    X,
    y=None,
    epochs: int = 1,
    batch_size: int = 32,
    validation_data: tuple | None = None,
    shuffle: bool = True,
    verbose: int = 1,
    callbacks: Sequence[Callback] = (),
    sample_weight=None,
    class_weight: dict | str | None = None,
    accumulate: int = 1,
    resume=None,
    allow_changes: bool = False,
    mask=None,
    lengths=None,
    shards: int | None = None,
    group_by_length: bool = False,
    communicator=None,
) -> History:
    """Train the model; when called again, training continues where it stopped.

    Parameters
    ----------
    X : array_like (rows, *input_shape), nbbp.Ragged, a table of numbers, or nbbp.streams.Stream
        The inputs; a list or a dict of arrays if there are several. A table is of pandas, polars or pyarrow; its
        column names are stored as `feature_names`, and those of other tables are checked. `nbbp.tables` encodes text.
        The windows of a series, see `nbbp.streams.windows`, are copied a mini-batch at a time.
        A stream is for data larger than memory; metrics are then measured on `validation_data` only.
    y : array_like (rows,), (rows, outputs) or (rows, *positions, outputs), nbbp.Ragged, or a table of numbers
        Integer labels, or values; a list or a dict of arrays if there are several outputs, as for the weights. Left
        out if X is a stream, which contains them.
    epochs, batch_size : int
        The number of epochs, and the rows of a mini-batch; the last one of an epoch has the remaining rows.
    validation_data : (X, y), (X, y, sample_weight), (X, y, sample_weight, mask) or (..., mask, lengths), optional
        Data to evaluate after every epoch; None stands for what is not given.
    shuffle : bool
        Whether the rows are shuffled in each epoch.
    verbose : {0, 1, 2}
        Nothing, a progress bar, or a line for each epoch.
    callbacks : sequence of Callback
        Callbacks from `nbbp.callbacks`, or your own.
    sample_weight : array_like (rows,) or (rows, positions), or nbbp.Ragged, optional
        The weight of each row, or of each of its elements, in metrics and in the loss, which remains the mean over
        the batch.
    class_weight : dict of label to float, or "balanced", optional
        The weight of the rows of each class; balanced: rows / (classes x rows of the class).
    accumulate : int
        The number of micro-batches of `batch_size` rows whose gradients make one update, in the memory of one.
    resume : path, optional
        A checkpoint, or a folder of them: see `nbbp.Checkpoint`. The fit continues from the newest, with its
        history; `epochs` counts all epochs. If the folder has none yet, the fit starts from the beginning.
    allow_changes : bool
        Whether a fit is resumed even if the learning rate or the data have changed; it continues with the new ones.
        For a stream, only its first chunk and how it is cut are compared.
    mask : ndarray (rows, *positions), bool, optional
        False at masked elements of the input, which are treated as absent.
    lengths : array_like (rows,), int, optional
        In place of a mask: the number of positions of each row that are not masked, along the first axis. Padding after
        them may hold anything. Several inputs have a list or a dict, with None for an input without lengths.
    shards : {1, 2, 4, 8, 16}, optional
        The number of parts of a mini-batch of n rows that go through the network side by side: part i has the rows
        from n i // shards to n (i + 1) // shards, so that of fewer rows than shards, some have none. Their gradients
        are added as a balanced binary tree, whose order decides the last bits of the results; the number of threads
        does not. By default the number of shards follows from the rows and the number of parameters, and with
        `accumulate` it is 1; if it is given, a micro-batch has its share of rows in each shard.
    group_by_length : bool
        Whether mini-batches have rows of similar lengths, for layers that stop at the longest of a mini-batch: the
        shuffled rows are sorted in windows of 50 mini-batches, and these are shuffled again.
    communicator : mpi4py.MPI.Comm, optional
        The processes that train together, each of which calls `fit`: they share the rows of every mini-batch, and have
        the same results. If X and y are the same in all of them, so is the order of rows, and the bits are those of one
        process with the same `shards`, which are one for each process at least. Otherwise each process shuffles rows of
        its own, with equal numbers of steps, and metrics are of all rows. The number of processes is a power of two.

    Ctrl-C (and SIGTERM) end a fit between two mini-batches: the model stays as it is then, `history` contains what was
    measured, and a `Checkpoint` is written.

    Kernels run on one thread for each physical core, or on as many as a container's CPU quota allows, unless
    ``NUMBA_NUM_THREADS``, an environment variable that is read when nbbp is imported, sets their number.
    ``numba.set_num_threads(n)`` sets it for the Python thread that calls it, if n is below Numba's full number. The
    bits are the same.

    Returns
    -------
    History

    Raises
    ------
    DivergenceError
        If the loss is no longer finite.
    ValueError
        If there are to be several shards and a layer such as `BatchNorm` needs all rows of a mini-batch, and, among
        others, if a fit is resumed with other layers, settings or callbacks, or, without `allow_changes`,
        with another learning rate or other data; the model stays as it is.
    """
    ranks = ranks_of(communicator)
    with ranks.together():
        epochs = checks.positive_integer("epochs", epochs)
        batch_size = checks.positive_integer("batch_size", batch_size)
        accumulate = checks.positive_integer("accumulate", accumulate)
        shards, shuffled = checked_shards(shards), checked_shuffle(shuffle, group_by_length)
        if verbose not in (0, 1, 2):
            raise ValueError(f"verbose must be 0, 1 or 2, got {verbose!r}")
        callbacks = checked_callbacks(callbacks)
        data: Data | Stream
        if isinstance(X, Stream):
            if any(given is not None for given in (y, sample_weight, class_weight, mask, lengths)):
                raise TypeError("a stream has y and the weights itself")
            data = X
            model.prepare(data.first()[0])
        elif y is None:
            raise TypeError("fit needs y, unless X is a stream")
        else:
            data = model.prepare(X, y, sample_weight, class_weight, mask, lengths)
        held_out = None if validation_data is None else validation(model, validation_data)
        checked = Fit(
            model, data, held_out, epochs, batch_size, accumulate, shuffled, callbacks, verbose, resume, allow_changes,
            shards=shards, ranks=ranks,
        )  # fmt: skip
        return checked.run()


class Fit(ObservedFit):
    """A fit in mini-batches: `run` trains to its end; fits side by side call the parts of `run` instead.

    Between `__enter__` and `close`, while the fit is `going`, these are `begin_run`, then the trainer's steps, with
    `pause` after some of them, then `end_run`.

    Attributes
    ----------
    trainer : Trainer or StreamTrainer
    given : dict
        For a fit that writes checkpoints or is resumed: its learning rate before callbacks changed it, and digests of
        its data. When a fit is resumed, the user may allow that they differ.

    Parameters
    ----------
    mean_weight : float, optional
        As for `Trainer`.
    clock, interrupts : Clock, Interrupts, optional
        Given if several fits run side by side.
    ranks : Ranks
        The processes that train together; the other parameters are as for `Sequential.fit`.
    """

    def __init__(
        self,
        model: "Model",
        data: Data | Stream,
        validation: Data | None,
        epochs: int,
        batch_size: int,
        parts: int,
        shuffle: bool | str,
        callbacks: Sequence[Callback],
        verbose: int,
        resume=None,
        allow_changes: bool = False,
        mean_weight: float | None = None,
        clock: Clock | None = None,
        interrupts: Interrupts | None = None,
        shards: int | None = None,
        ranks: Ranks = ALONE,
    ) -> None:
        resumed = Resumed(resume) if resume is not None and ranks.is_first and has_checkpoints(resume) else None
        self._resumed = resumed = ranks.of_first("checkpoint", resumed)
        if shards is None and resumed:
            shards = resumed.shards
        rows, apart, identity = data.rows, False, None
        if ranks.size > 1:
            ranks.check_count(SHARD_NUMBERS, shards)
            shards = shards or number_of_shards(ranks, model, min(batch_size, rows), parts)
            settings: dict[str, Any] = {
                "epochs": epochs,
                "batch_size": batch_size,
                "accumulate": parts,
                "shards": shards,
            }
            settings |= {"shuffle": shuffle, "callbacks": [type(callback).__name__ for callback in callbacks]}
            agreed = agree(ranks, model, data, validation, settings)
            apart, rows, validation, identity = agreed.apart, agreed.rows, agreed.validation, agreed.marks
        super().__init__(
            model, validation, rows, epochs, batch_size, parts, shuffle, callbacks, verbose,
            not isinstance(data, Stream), interrupts, shards, ranks,
        )  # fmt: skip
        self.given: dict[str, Any] = {}
        if self._resumed or any(isinstance(callback, Checkpoint) for callback in callbacks):
            identity = identity or marks(model, data, validation)
            self.given = {"learning_rate": plain(model.learning_rate)} | identity
        if self._resumed:
            self._resumed.check(self, allow_changes)
            self._resumed.put_back_model(self)
        self._watched = validation is not None or bool(callbacks) or self._resumed is not None or verbose == 2
        compiling = progress.compiling if self._verbose else iter
        built = model.built
        self.trainer: Any  # a Trainer or a StreamTrainer
        if isinstance(data, Stream):
            prepared = functools.partial(model.prepare, whole=False)
            self.trainer = StreamTrainer(
                built, data, prepared, batch_size, parts, shuffle, mean_weight, compiling, shards, ranks, apart
            )
        else:
            recorded = bool(any(built.measure.metrics))
            self.trainer = built.trainer(
                data, batch_size, parts, shuffle, recorded, mean_weight, compiling, clock, shards, ranks, apart
            )
        self.trainer.start_anew()
        self.data = self.trainer.source.data
        self.history = model.history = History(self.trainer.steps_per_epoch, label=model.backend)
        if self._resumed:
            self._resumed.put_back_history(self)
        self.history.steps_before = model.steps - self.history.steps
        self._noted: int | None = None  # steps of the run, of the epoch it began within, that the history has

    @property
    def steps_done(self) -> int:
        """The number of steps done of the epoch that is not in the history yet."""
        return self.history.steps - len(self.history) * self.history.steps_per_epoch

    def unfinished(self) -> dict[str, np.ndarray]:
        """The trainer's arrays of the epoch that is not in the history yet, for a resumed fit."""
        return self.trainer.unfinished(self.steps_done)

    @property
    def resumable(self) -> bool:
        """Whether another fit could continue from here: no step is half done, and the loss is finite."""
        return not (self._ending_epoch or self.trainer.diverged or self._interrupts.forced)

    def run(self) -> History:
        """Train; returns the history."""
        history, verbose = self.history, self._verbose
        total = self.epochs * self.trainer.steps_per_epoch
        bar = progress.bar(
            desc=self._epoch_after(history.steps), total=total, initial=history.steps, disable=verbose != 1, unit="step"
        )

        def after(steps: int) -> None:
            bar.set_description(self._epoch_after(bar.n + steps), refresh=False)
            bar.update(steps)
            self.pause(steps)
            self._agree()
            if history.stopped:
                raise _Stopped

        with self._interrupts, self, bar:
            self._agree()
            while self.going:
                begin = time.perf_counter()
                self.begin_run()
                self._agree()
                try:
                    if not history.stopped:
                        self.trainer.run(after, self.pause_in)
                except _Stopped:
                    pass
                if self.end_run() and verbose:
                    self._show(bar, begin)
                self._agree()
        if verbose and history.stopped:
            print(f"stopped after epoch {len(history)}: {history.stopped}")
        return history

    def __enter__(self) -> Self:
        super().__enter__()
        if self._resumed:
            try:
                self._resumed.put_back_callbacks(self)
            except BaseException:
                self.close()
                raise
        return self

    def begin_run(self) -> None:
        """Begin to train for some epochs, or for the rest of one."""
        trainer, model, noted = self.trainer, self.model, self.steps_done
        remaining = self.epochs - len(self.history)
        epochs = 1 if self._watched else min(trainer.epochs_together, remaining)
        epochs_done = model.epochs - bool(noted)
        model.epochs = epochs_done + epochs
        trainer.begin(epochs, epochs_done, noted)
        self._noted = noted
        if noted:
            trainer.step_loss[:noted] = self.history.step_loss[-noted:]
        if self._resumed and self._resumed.begins(model.steps):
            trainer.put_back(self._resumed.unfinished())
        if noted:
            self.pause(0)

    def pause(self, steps: int) -> None:
        """Tell the callbacks that some steps were made; they may stop the fit."""
        if self.callbacks:
            done = self.trainer.steps_done
            self.history.add_steps(self.trainer.step_loss[self._noted : done])
            self._noted = done
            self._pause(steps)

    def end_run(self) -> bool:
        """Record the run in the history, and end the epoch if it is complete; returns whether it is.

        Raises
        ------
        DivergenceError
            If the loss is no longer finite.
        """
        completed = self._note_run()
        if self.trainer.diverged:
            step = self.trainer.steps_done % self.trainer.steps_per_epoch + 1
            raise DivergenceError(len(self.history) + 1, step, self.history)
        if completed and self._watched:
            self._end_epoch()
        return bool(completed)

    def close(self) -> None:
        """End the fit, also within a run: record the run, and tell the callbacks."""
        self._note_run()
        super().close()
        self.trainer.source.release()

    def _note_run(self) -> int:
        """Record the run in the history; returns the number of epochs that it completed."""
        if self._noted is None:
            return 0
        trainer, noted, done = self.trainer, self._noted, self.trainer.steps_done
        self._noted = None
        self.history.add_steps(trainer.step_loss[noted : done + trainer.diverged])
        completed = done // trainer.steps_per_epoch
        if not self._watched:
            for values in self._values_of(completed):
                self.history.add_epoch(**values)
        return completed

    def _trained(self) -> dict[str, float]:
        return self._values_of(1)[0]

    def _epoch_after(self, steps: int) -> str:
        """Text for the progress bar: the epoch after a number of steps, and the number of epochs."""
        return f"epoch {min(steps // self.trainer.steps_per_epoch + 1, self.epochs)}/{self.epochs}"

    def pause_in(self, step: int) -> float:
        """The steps until a callback has something to do."""
        return min((callback.pause_in(step) for callback in self.callbacks), default=np.inf)

    def _values_of(self, epochs: int) -> list[dict[str, float]]:
        """Loss and metrics of the run's first `epochs` epochs, which are complete."""
        trainer, measure = self.trainer, self.model.built.measure
        measured: list[dict[str, Any]] = []
        for epoch, (loss, parts) in enumerate(trainer.epoch_losses(epochs)):
            values = measure.losses(loss, parts)
            if trainer.outputs is not None:
                values |= measure.of_outputs(*trainer.measured(epoch))
            measured.append(values)
        return measured


class _Stopped(Exception):
    """A callback stopped the fit within an epoch."""
