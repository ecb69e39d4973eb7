"""A fit as its callbacks see it: its model and data, its history, and how to end it."""

import contextlib
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Self

from nbbp.callbacks import Callback
from nbbp.distributed import ALONE, Ranks
from nbbp.engine.data import Data
from nbbp.kernels.forks import cached_property
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
        The history until now.
    data : Data
        The training data; for a stream the rows in the buffer.
    validation : Data or None
        The data that are evaluated after every epoch.
    epochs, batch_size, accumulate, shards : int
        The arguments of the fit; shards may be None.
    callbacks : list of Callback
        The callbacks in order; those that write checkpoints come last at the end of an epoch, when all others have
        recorded it, and first at the end of the fit, before any other changes the model.
    settings : dict
        The settings that must be the same when the fit is resumed.

    Parameters
    ----------
    measures_training : bool
        Whether the history will have metrics of the training rows, besides their loss.
    interrupts : Interrupts, optional
        The interrupts that several fits side by side share.
    ranks : Ranks
        The processes that train together.
    """

    history: History
    data: Data

    def __init__(
        self, model: "Model", validation: Data | None, rows: int, epochs: int, batch_size: int, accumulate: int,
        shuffle: bool | str, callbacks: Sequence[Callback], verbose: int, measures_training: bool,
        interrupts: Interrupts | None, shards: int | None = None, ranks: Ranks = ALONE,
    ) -> None:  # fmt: skip
        self.model, self.epochs, self.batch_size, self.accumulate = model, epochs, batch_size, accumulate
        self.shards, self.ranks = shards, ranks
        acting = [callback if callback.every_rank or ranks.is_first else Callback() for callback in callbacks]
        self.callbacks = sorted(acting, key=lambda callback: isinstance(callback, Checkpoint))
        self._verbose = verbose if ranks.is_first else 0
        self.validation, self._measures_training = validation, measures_training
        self.settings = {
            "rows": rows, "batch_size": batch_size, "accumulate": accumulate, "shards": shards,
            "shuffle": shuffle if isinstance(shuffle, str) else bool(shuffle), "recorded": list(self.recorded),
        }  # fmt: skip
        self._interrupts = Interrupts() if interrupts is None else interrupts
        self._ending_epoch, self._ends = False, contextlib.ExitStack()

    @cached_property
    def recorded(self) -> dict[str, bool | None]:
        """Whether higher is better, by name, for the values that the history will have; None if unknown."""
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
        """End the fit at the next point where callbacks are called; `history.stopped` says why."""
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

    def _agree(self) -> None:
        """End the fit if a callback, or a signal, asks for that on any rank."""
        said = self.ranks.gather("end of a run", (self.history.stopped, self._interrupts.pending))
        self.history.stopped = next((reason for reason, _ in said if reason), "")
        self._interrupts.check(number for _, number in said)

    def _pause(self, steps: int) -> None:
        """Tell the callbacks that a run of some steps has returned."""
        for callback in self.callbacks:
            callback.on_pause(self)
            if steps and callback.every and self._steps % callback.every == 0:
                callback.on_step(self)

    @property
    def _steps(self) -> int:
        """The number of steps that callbacks count."""
        return self.model.steps

    def _end_epoch(self) -> None:
        """Measure the complete epoch, and tell the callbacks."""
        with self._interrupts.allowed() if self.ranks.size == 1 else contextlib.nullcontext():
            values = self._trained()
            if self.validation is not None:
                values |= self.model.built.measure(self.validation, prefix="val_")
        self._ending_epoch = True
        self.history.note(**values)
        for callback in self.callbacks:
            callback.on_epoch_end(self)
        self._ending_epoch = False

    def _trained(self) -> dict[str, float]:
        """Loss and metrics of the training rows of the epoch."""
        raise NotImplementedError

    def _show(self, bar: Any, begin: float) -> None:
        """Show the values of the last epoch, in the bar or on a line."""
        measured = {name: values[-1] for name, values in self.history.epochs.items()}
        if self._verbose == 1:
            bar.set_postfix_str(", ".join(f"{name}={value:.4g}" for name, value in measured.items()), refresh=False)
        else:
            text = " - ".join(f"{name}: {value:.4g}" for name, value in measured.items())
            seconds = time.perf_counter() - begin
            print(f"Epoch {len(self.history)}/{self.epochs} - {seconds:.1f}s - {text}", flush=True)
