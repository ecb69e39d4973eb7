"""The loop of a fit: epochs, validation, history, progress and callbacks around a `Trainer`."""

import contextlib
import functools
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from nbbp import checks
from nbbp.callbacks import Callback
from nbbp.engine.data import Data
from nbbp.insight.summary import plain
from nbbp.streams import Stream
from nbbp.training import progress
from nbbp.training.checkpoint import Checkpoint, Resumed, has_checkpoints
from nbbp.training.history import History
from nbbp.training.interrupts import Interrupts
from nbbp.training.stream_trainer import StreamTrainer
from nbbp.training.trainer import DivergenceError, Trainer

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
) -> History:
    """Train. Called again, it goes on where it stopped.

    Parameters
    ----------
    X : array_like (rows, *input_shape), a table of numbers, or nbbp.streams.Stream
        A list or a dict of arrays where there are several inputs. A table is of pandas, polars or pyarrow; its
        column names are remembered as `feature_names`, and other tables are held against them. `nbbp.tables` makes
        numbers of text. A stream is for data larger than memory; metrics are then those of `validation_data` alone.
    y : array_like (rows,), (rows, outputs) or (rows, *positions, outputs), or a table of numbers
        Integer labels, or values; left out where X is a stream, which has them; a list or a dict of arrays where
        there are several outputs, as are the weights then.
    epochs, batch_size : int
        The last mini-batch of an epoch has the rows that are left.
    validation_data : (X, y) or (X, y, sample_weight), optional
        Measured after every epoch.
    shuffle : bool
        Whether each epoch has an order of its own.
    verbose : {0, 1, 2}
        Nothing, a progress bar, or a line for each epoch.
    callbacks : sequence of Callback
        From `nbbp.callbacks`, or your own.
    sample_weight : array_like (rows,) or (rows, positions), optional
        How much each row, or each of its elements, counts: in the loss, of which the mean over the batch is taken
        as without, and in metrics.
    class_weight : dict of label to float, or "balanced", optional
        How much the rows of each class count; balanced: rows / (classes x rows of the class).
    accumulate : int
        Mini-batches from whose gradients together an update is made; they take the memory of one.
    resume : path, optional
        A checkpoint, or a folder of them: see `nbbp.Checkpoint`. The fit goes on from the newest and has its
        history; `epochs` counts all. Where the folder has none yet, it begins at the beginning.
    allow_changes : bool
        Whether a fit is resumed even if the learning rate or the data differ from those it was begun with; it goes
        on with what is given now. Of a stream, only its first chunk and how it is cut are compared.
    mask : ndarray (rows, *positions), bool, optional
        Which elements of the input are there; what is masked is as if it were not.

    Ctrl-C (and SIGTERM) end a fit between two mini-batches: the model stays as it is then, `history` has what was
    measured, and a `Checkpoint` is written.

    Kernels run on as many threads as Numba has: one for each processor, or ``NUMBA_NUM_THREADS``, an environment
    variable that is read when nbbp is imported. ``numba.set_num_threads(n)`` allows fewer; it holds for the Python
    thread that calls it. The bits are the same.

    Returns
    -------
    History

    Raises
    ------
    DivergenceError
        When the loss is no longer finite.
    ValueError
        Among others when a fit is resumed with other layers, settings or callbacks, or, without `allow_changes`,
        with another learning rate or other data; the model stays as it is.
    """
    epochs = checks.positive_integer("epochs", epochs)
    batch_size = checks.positive_integer("batch_size", batch_size)
    accumulate = checks.positive_integer("accumulate", accumulate)
    if verbose not in (0, 1, 2):
        raise ValueError(f"verbose must be 0, 1 or 2, got {verbose!r}")
    if isinstance(callbacks, Callback):
        raise TypeError(f"callbacks must be a list, such as [{type(callbacks).__name__}(...)]")
    callbacks = list(callbacks)
    for callback in callbacks:
        if not isinstance(callback, Callback):
            raise TypeError(f"callbacks must be nbbp.callbacks, such as EarlyStopping(); got {callback!r}")
    data: Data | Stream
    if isinstance(X, Stream):
        if y is not None or sample_weight is not None or class_weight is not None or mask is not None:
            raise TypeError("a stream has y and the weights itself")
        data = X
        model.prepare(data.first()[0])
    elif y is None:
        raise TypeError("fit needs y, unless X is a stream")
    else:
        data = model.prepare(X, y, sample_weight, class_weight, mask)
    held_out = None if validation_data is None else validation(model, validation_data)
    checked = Fit(
        model, data, held_out, epochs, batch_size, accumulate, shuffle, callbacks, verbose, resume, allow_changes
    )
    model.is_fitting = True
    try:
        return checked.run()
    finally:
        model.is_fitting = False


def validation(model: "Model", given) -> Data:
    """Data to measure on, from (X, y), (X, y, sample_weight) or (X, y, sample_weight, mask)."""
    if not isinstance(given, tuple | list) or not 2 <= len(given) <= 4:
        raise TypeError("validation_data must be a pair (X, y), or (X, y, sample_weight)")
    X, y, weights, mask = (*given, None, None)[:4]
    return model.prepare(X, y, weights, mask=mask, name="validation ")


class Fit:
    """A fit as its callbacks see it.

    Attributes
    ----------
    model : Model
    history : History
        Everything until now.
    data : Data
        That it trains on; of a stream the rows in the buffer.
    validation : Data or None
        That are measured after every epoch.
    epochs, batch_size, accumulate : int
        That were asked for.
    callbacks : list of Callback
        In their order; those that write checkpoints are the last to be told that an epoch has ended, when all others
        have taken note, and the first to be told that the fit has, before any changes the model.
    settings : dict
        What has to be the same where the fit is resumed.
    given : dict
        Of a fit that writes checkpoints or is resumed: its learning rate before callbacks changed it, and what tells
        its data from others. Where the fit is resumed, the user may allow that they are different.

    Parameters
    ----------
    mean_weight : float, optional
        As for `Trainer`; the others as for `Sequential.fit`.
    """

    def __init__(
        self,
        model: "Model",
        data: Data | Stream,
        validation: Data | None,
        epochs: int,
        batch_size: int,
        parts: int,
        shuffle: bool,
        callbacks: Sequence[Callback],
        verbose: int,
        resume=None,
        allow_changes: bool = False,
        mean_weight: float | None = None,
    ) -> None:
        self.model, self.epochs, self.batch_size, self.accumulate = model, epochs, batch_size, parts
        self.callbacks = sorted(callbacks, key=lambda callback: isinstance(callback, Checkpoint))
        self.validation, self._verbose, self._streams = validation, verbose, isinstance(data, Stream)
        self.settings = {
            "rows": data.rows, "batch_size": batch_size, "accumulate": parts, "shuffle": bool(shuffle),
            "recorded": list(self.recorded),
        }  # fmt: skip
        self._resumed = Resumed(resume) if resume is not None and has_checkpoints(resume) else None
        self.given: dict[str, Any] = {}
        if self._resumed or any(isinstance(callback, Checkpoint) for callback in callbacks):
            self.given = {"learning_rate": plain(model.learning_rate)} | _marks(model, data, validation)
        if self._resumed:
            self._resumed.check(self, allow_changes)
            self._resumed.put_back_model(self)
        self._watched = validation is not None or bool(callbacks) or self._resumed is not None or verbose == 2
        compiling = progress.compiling if verbose else iter
        built = model.built
        self._trainer: Trainer | StreamTrainer
        if isinstance(data, Stream):
            self._trainer = StreamTrainer(
                built, data, model.prepare_piece, batch_size, parts, shuffle, mean_weight, compiling
            )
        else:
            recorded = bool(any(built.measure.metrics))
            self._trainer = built.trainer(data, batch_size, parts, shuffle, recorded, mean_weight, compiling)
        self._trainer.start_anew()
        self.data = self._trainer.source.data
        self.history = model.history = History(self._trainer.steps_per_epoch, label=model.backend)
        if self._resumed:
            self._resumed.put_back_history(self)
        self.history.steps_before = model.steps - self.history.steps
        self._interrupts, self._ending_epoch = Interrupts(), False

    @functools.cached_property
    def recorded(self) -> dict[str, bool | None]:
        """Names of the values that the history will have for each epoch: whether higher is better, None if unknown."""
        measured = self.model.built.measure.directions()
        recorded = {name: higher for name, higher in measured.items() if not self._streams or name.endswith("loss")}
        if self.validation is not None:
            recorded |= {f"val_{name}": higher for name, higher in measured.items()}
        for callback in self.callbacks:
            recorded |= dict.fromkeys(callback.records)
            if isinstance(callback.records, Mapping):
                recorded |= callback.records
        return recorded

    @property
    def steps_done(self) -> int:
        """Of the epoch that is not in the history yet."""
        return self.history.steps - len(self.history) * self.history.steps_per_epoch

    def unfinished(self) -> dict[str, np.ndarray]:
        """What the trainer has of the epoch that is not in the history yet, for a fit that is resumed."""
        return self._trainer.unfinished(self.steps_done)

    @property
    def resumable(self) -> bool:
        """Whether another fit could go on from here: nothing is half done, and the loss is finite."""
        return not (self._ending_epoch or self._trainer.diverged or self._interrupts.forced)

    def stop(self, reason: str) -> None:
        """End the fit at the next point where callbacks are called; `history.stopped` tells why."""
        self.history.stopped = reason

    def run(self) -> History:
        """Train; returns the history."""
        history, verbose = self.history, self._verbose
        total = self.epochs * self._trainer.steps_per_epoch
        bar = progress.bar(
            desc=self._epoch_after(history.steps), total=total, initial=history.steps, disable=verbose != 1, unit="step"
        )
        with self._interrupts, contextlib.ExitStack() as ends, bar:
            for callback in self.callbacks:
                callback.on_fit_begin(self)
                ends.callback(callback.on_fit_end, self)
            if self._resumed:
                self._resumed.put_back_callbacks(self)
            while len(history) < self.epochs and not history.stopped:
                begin = time.perf_counter()
                if self._train(bar):
                    self._end_epoch(bar, begin)
                self._interrupts.check()
        if verbose and history.stopped:
            print(f"stopped after epoch {len(history)}: {history.stopped}")
        return history

    def _end_epoch(self, bar, begin: float) -> None:
        history = self.history
        if self._watched:
            with self._interrupts.allowed():
                (values,) = self._values_of(1)
                if self.validation is not None:
                    values |= self.model.built.measure(self.validation, prefix="val_")
            self._ending_epoch = True
            history.note(**values)
            for callback in self.callbacks:
                callback.on_epoch_end(self)
            self._ending_epoch = False
        if self._verbose:
            self._show(bar, begin)

    def _show(self, bar, begin: float) -> None:
        history = self.history
        measured = {name: values[-1] for name, values in history.epochs.items()}
        if self._verbose == 1:
            bar.set_postfix_str(", ".join(f"{name}={value:.4g}" for name, value in measured.items()), refresh=False)
        else:
            text = " - ".join(f"{name}: {value:.4g}" for name, value in measured.items())
            seconds = time.perf_counter() - begin
            print(f"Epoch {len(history)}/{self.epochs} - {seconds:.1f}s - {text}", flush=True)

    def _train(self, bar) -> int:
        """Train for some epochs in one run, or for the rest of one; returns how many were completed."""
        trainer, model = self._trainer, self.model
        remaining = self.epochs - len(self.history)
        epochs = 1 if self._watched else min(trainer.epochs_together, remaining)
        noted = self.steps_done
        epochs_done = model.epochs - bool(noted)
        model.epochs = epochs_done + epochs
        trainer.begin(epochs, epochs_done, noted)
        if noted:
            trainer.step_loss[:noted] = self.history.step_loss[-noted:]
        if self._resumed and self._resumed.begins(model.steps):
            trainer.put_back(self._resumed.unfinished())

        def after(steps: int) -> None:
            nonlocal noted
            bar.set_description(self._epoch_after(bar.n + steps), refresh=False)
            bar.update(steps)
            if self.callbacks:
                done = trainer.steps_done
                self.history.add_steps(trainer.step_loss[noted:done])
                noted = done
                for callback in self.callbacks:
                    callback.on_pause(self)
                    if steps and callback.every and model.steps % callback.every == 0:
                        callback.on_step(self)
                if self.history.stopped and done < trainer.steps_per_epoch:
                    raise _Stopped
            self._interrupts.check()

        try:
            if noted:
                after(0)
            trainer.run(after, self._pause_in)
        except _Stopped:
            pass
        finally:
            done = trainer.steps_done
            self.history.add_steps(trainer.step_loss[noted : done + trainer.diverged])
            completed = done // trainer.steps_per_epoch
            if not self._watched:
                for values in self._values_of(completed):
                    self.history.add_epoch(**values)
        if trainer.diverged:
            raise DivergenceError(len(self.history) + 1, done % trainer.steps_per_epoch + 1, self.history)
        return completed

    def _epoch_after(self, steps: int) -> str:
        """For the progress bar: the epoch that goes on after so many steps, and of how many."""
        return f"epoch {min(steps // self._trainer.steps_per_epoch + 1, self.epochs)}/{self.epochs}"

    def _pause_in(self, step: int) -> float:
        """Steps after which a callback has something to do."""
        return min((callback.pause_in(step) for callback in self.callbacks), default=np.inf)

    def _values_of(self, epochs: int) -> list[dict[str, float]]:
        """Loss and metrics of the run's first epochs, which are complete."""
        trainer, measure = self._trainer, self.model.built.measure
        losses, parts = trainer.epoch_losses(epochs), trainer.epoch_part_losses(epochs)
        measured: list[dict[str, Any]] = []
        for epoch in range(epochs):
            values = measure.losses(losses[epoch], parts[epoch])
            if trainer.outputs is not None:
                rows = slice(epoch * trainer.rows, (epoch + 1) * trainer.rows)
                outputs = [z[rows] for z in trainer.outputs]
                values |= measure.of_outputs(outputs, trainer.source.data, trainer.order[rows])
            measured.append(values)
        return measured


def _marks(model: "Model", data: Data | Stream, validation: Data | None) -> dict[str, str | int | None]:
    """What tells data from others: digests, and of a stream how it is cut and a digest of its beginning.

    A stream of one chunk may have an order of its own in each pass, as PyTorch's loaders do, and so no beginning.
    """
    marks: dict[str, str | int | None] = {}
    if isinstance(data, Stream):
        marks |= {"chunks": data.chunks, "buffer_rows": data.buffer_rows}
        first = model.prepare_piece(data.first()).digests() if data.chunks > 1 else {}
        marks |= {f"{name} of the first chunk": digest for name, digest in first.items()}
    else:
        marks |= data.digests()
    if validation is not None:
        marks |= {f"validation {name}": digest for name, digest in validation.digests().items()}
    return marks


class _Stopped(Exception):
    """A callback stopped the fit within an epoch."""
