"""A fit as its callbacks see it: what it trains and on what, what it has measured, and how to end it."""

import contextlib
import functools
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Self

from nbbp.callbacks import Callback
from nbbp.engine.data import Data
from nbbp.training.checkpoint import Checkpoint
from nbbp.training.history import History
from nbbp.training.interrupts import Interrupts

if TYPE_CHECKING:
    from nbbp.model import Model


class ObservedFit:
    """Base of the fits: between `__enter__` and `close`, callbacks are told what happens.

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

    Parameters
    ----------
    measures_training : bool
        Whether the history will have metrics of the rows that are trained on, beside their loss.
    interrupts : Interrupts, optional
        Those of several fits side by side.
    """

    history: History
    data: Data

    def __init__(
        self, model: "Model", validation: Data | None, rows: int, epochs: int, batch_size: int, accumulate: int,
        shuffle: bool, callbacks: Sequence[Callback], verbose: int, measures_training: bool,
        interrupts: Interrupts | None,
    ) -> None:  # fmt: skip
        self.model, self.epochs, self.batch_size, self.accumulate = model, epochs, batch_size, accumulate
        self.callbacks = sorted(callbacks, key=lambda callback: isinstance(callback, Checkpoint))
        self.validation, self._verbose, self._measures_training = validation, verbose, measures_training
        self.settings = {
            "rows": rows, "batch_size": batch_size, "accumulate": accumulate, "shuffle": bool(shuffle),
            "recorded": list(self.recorded),
        }  # fmt: skip
        self._interrupts = Interrupts() if interrupts is None else interrupts
        self._ending_epoch, self._ends = False, contextlib.ExitStack()

    @functools.cached_property
    def recorded(self) -> dict[str, bool | None]:
        """Names of the values that the history will have for each epoch: whether higher is better, None if unknown."""
        measured = self.model.built.measure.directions()
        recorded = {n: higher for n, higher in measured.items() if self._measures_training or n.endswith("loss")}
        if self.validation is not None:
            recorded |= {f"val_{name}": higher for name, higher in measured.items()}
        for callback in self.callbacks:
            recorded |= dict.fromkeys(callback.records)
            if isinstance(callback.records, Mapping):
                recorded |= callback.records
        return recorded

    def stop(self, reason: str) -> None:
        """End the fit at the next point where callbacks are called; `history.stopped` tells why."""
        self.history.stopped = reason

    @property
    def going(self) -> bool:
        """Whether there are epochs left, and nothing has stopped the fit."""
        return len(self.history) < self.epochs and not self.history.stopped

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as ends:
            self.model.is_fitting = True
            ends.callback(setattr, self.model, "is_fitting", False)
            for callback in self.callbacks:
                callback.on_fit_begin(self)
                ends.callback(callback.on_fit_end, self)
            self._ends = ends.pop_all()
        return self

    def __exit__(self, *error) -> None:
        self.close()

    def close(self) -> None:
        """End the fit: tell the callbacks, once."""
        self._ends.close()

    def _pause(self, steps: int) -> None:
        """Tell the callbacks that a run of so many steps has come back."""
        for callback in self.callbacks:
            callback.on_pause(self)
            if steps and callback.every and self._steps % callback.every == 0:
                callback.on_step(self)

    @property
    def _steps(self) -> int:
        """That callbacks count."""
        return self.model.steps

    def _end_epoch(self) -> None:
        """Measure the epoch that is complete, and tell the callbacks."""
        with self._interrupts.allowed():
            values = self._trained()
            if self.validation is not None:
                values |= self.model.built.measure(self.validation, prefix="val_")
        self._ending_epoch = True
        self.history.note(**values)
        for callback in self.callbacks:
            callback.on_epoch_end(self)
        self._ending_epoch = False

    def _trained(self) -> dict[str, float]:
        """Loss and metrics of the rows that the epoch trained on."""
        raise NotImplementedError

    def _show(self, bar: Any, begin: float) -> None:
        """The values of the last epoch, in the bar or on a line."""
        measured = {name: values[-1] for name, values in self.history.epochs.items()}
        if self._verbose == 1:
            bar.set_postfix_str(", ".join(f"{name}={value:.4g}" for name, value in measured.items()), refresh=False)
        else:
            text = " - ".join(f"{name}: {value:.4g}" for name, value in measured.items())
            seconds = time.perf_counter() - begin
            print(f"Epoch {len(self.history)}/{self.epochs} - {seconds:.1f}s - {text}", flush=True)
