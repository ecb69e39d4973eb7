"""The loop of a fit: epochs, validation, history, progress and callbacks around a `Trainer`."""

import contextlib
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from nbbp import program as prog
from nbbp import progress
from nbbp.callbacks import Callback
from nbbp.history import History
from nbbp.prediction import linked
from nbbp.training import Data, DivergenceError, Trainer

if TYPE_CHECKING:
    from nbbp.model import Sequential


class Fit:
    """A fit as its callbacks see it.

    Attributes
    ----------
    model : Sequential
    history : History
        Everything until now.
    data : Data
        That it trains on.
    epochs, batch_size, accumulate : int
        That were asked for.
    """

    def __init__(
        self,
        model: "Sequential",
        data: Data,
        validation: Data | None,
        epochs: int,
        batch_size: int,
        parts: int,
        shuffle: bool,
        callbacks: Sequence[Callback],
        verbose: int,
    ) -> None:
        self.model, self.data, self.epochs = model, data, epochs
        self.batch_size, self.accumulate = batch_size, parts
        self._validation, self._callbacks, self._verbose = validation, callbacks, verbose
        self._trainer = Trainer(
            model.network, model.loss, model.update, data, batch_size, model.backend,
            parts=parts, shuffle=shuffle,
            epoch_by_epoch=validation is not None or verbose == 2 or bool(callbacks),
            record_outputs=bool(model.metrics), progress=progress.compiling if verbose else iter,
        )  # fmt: skip
        self.history = History(self._trainer.steps_per_epoch, label=model.backend)

    @property
    def recorded(self) -> tuple[str, ...]:
        """Names of the values that the history will have for each epoch."""
        names = ["loss", *self.model.metrics]
        if self._validation is not None:
            names += [f"val_{name}" for name in names]
        return (*names, *(name for callback in self._callbacks for name in callback.records))

    def stop(self, reason: str) -> None:
        """End the fit at the next point where callbacks are called; `history.stopped` tells why."""
        self.history.stopped = reason

    def run(self) -> History:
        """Train; returns the history."""
        history, verbose = self.history, self._verbose
        bar = progress.bar(total=self.epochs * self._trainer.steps_per_epoch, disable=verbose != 1, unit="step")
        with contextlib.ExitStack() as ends, bar:
            for callback in self._callbacks:
                callback.on_fit_begin(self)
                ends.callback(callback.on_fit_end, self)
            while len(history) < self.epochs and not history.stopped:
                before, begin = len(history), time.perf_counter()
                self._train(min(self._trainer.epochs_together, self.epochs - before), bar)
                if len(history) > before:
                    self._end_epoch(bar, begin)
        if verbose and history.stopped:
            print(f"stopped after epoch {len(history)}: {history.stopped}")
        return history

    def _end_epoch(self, bar, begin: float) -> None:
        history = self.history
        if self._validation is not None:
            history.note(**self.model.measure(self._validation, prefix="val_"))
        for callback in self._callbacks:
            callback.on_epoch_end(self)
        measured = {name: values[-1] for name, values in history.epochs.items()}
        if self._verbose == 1:
            bar.set_postfix_str(", ".join(f"{name}={value:.4g}" for name, value in measured.items()), refresh=False)
        elif self._verbose == 2:
            text = " - ".join(f"{name}: {value:.4g}" for name, value in measured.items())
            seconds = time.perf_counter() - begin
            print(f"Epoch {len(history)}/{self.epochs} - {seconds:.1f}s - {text}", flush=True)

    def _train(self, epochs: int, bar) -> None:
        """Train for some epochs in one run and note what they measured."""
        trainer, model = self._trainer, self.model
        epochs_done = model.epochs
        model.epochs += epochs
        noted = 0

        def after(steps: int) -> None:
            nonlocal noted
            bar.update(steps)
            if not self._callbacks:
                return
            done = int(trainer.clock[prog.STEP])
            self.history.add_steps(trainer.step_loss[noted:done])
            noted = done
            for callback in self._callbacks:
                callback.on_pause(self)
                if steps and callback.every and model.steps % callback.every == 0:
                    callback.on_step(self)
            if self.history.stopped and done < trainer.steps_per_epoch:
                raise _Stopped

        try:
            trainer.train(epochs, epochs_done, after, self._pause_in)
        except _Stopped:
            pass
        finally:  # Ctrl-C arrives here between two mini-batches
            done = int(trainer.clock[prog.STEP])
            self.history.add_steps(trainer.step_loss[noted : done + trainer.diverged])
            self._note_epochs(done // trainer.steps_per_epoch)
        if trainer.diverged:
            raise DivergenceError(len(self.history) + 1, done % trainer.steps_per_epoch + 1, self.history)

    def _pause_in(self, step: int) -> float:
        """Steps after which a callback has something to do."""
        return min((callback.pause_in(step) for callback in self._callbacks), default=np.inf)

    def _note_epochs(self, epochs: int) -> None:
        """Loss and metrics of complete epochs."""
        trainer, model = self._trainer, self.model
        rows, weights = trainer.rows, trainer.data.weights
        for epoch, loss in enumerate(trainer.epoch_losses(epochs)):
            values = {"loss": loss}
            if trainer.outputs is not None:
                part = slice(epoch * rows, (epoch + 1) * rows)
                order = trainer.order[part]
                predictions = linked(trainer.outputs[part].copy(), model.loss, model.backend)
                seen, counted = trainer.data.truth[order], None if weights is None else weights[order]
                values |= {name: metric(seen, predictions, counted) for name, metric in model.metrics.items()}
            self.history.add_epoch(**values)


class _Stopped(Exception):
    """A callback stopped the fit within an epoch."""
