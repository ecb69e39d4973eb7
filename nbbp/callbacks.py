"""Callbacks: actions during a fit.

A callback is told when the fit begins and ends, when each epoch ends, and every `every` steps if it asks for that;
between these points the steps run in compiled code. It is given the `Fit`: the model, the history so far, and
``fit.stop(reason)``. An exception from a callback ends the fit and reaches the caller; the model stays usable.

To write one, derive from `Callback` and override what you need.
"""

import csv
import math
import pathlib
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from nbbp import checks
from nbbp.schedules import Schedule
from nbbp.storage import files
from nbbp.training import monitors

if TYPE_CHECKING:
    from nbbp.training.observed import ObservedFit

SMALLEST_RATE = float(np.finfo(np.float32).tiny)  # least rate of ReduceOnPlateau: half of the smallest would be 0


class Callback:
    """Base of all callbacks.

    Examples
    --------
    >>> import nbbp
    >>> class HalvedRate(nbbp.callbacks.Callback):
    ...     def on_epoch_end(self, fit: "ObservedFit") -> None:
    ...         fit.model.learning_rate /= 2
    >>> X, y = nbbp.datasets.load_digits()
    >>> model = nbbp.Sequential([nbbp.Dense(10)], loss="softmax_cross_entropy", optimizer=nbbp.SGD(0.4))
    >>> history = model.fit(X, y, epochs=2, callbacks=[HalvedRate()], verbose=0)
    >>> model.learning_rate
    0.1
    """

    every: int | None = None
    """Steps between two calls of `on_step`; None for no calls."""
    records: tuple[str, ...] | Mapping[str, bool] = ()
    """Names of the values that it records in the history for each epoch. ``{name: True}`` says that higher is better,
    ``{name: False}`` that lower is, so that later callbacks can watch the value for improvement."""

    every_rank = True
    """Whether it acts on all ranks of a fit with a communicator, or, as what writes a file, on the first alone."""

    def pause_in(self, step: int) -> float:
        """Steps after which the run that goes on from `step` must return to Python for this callback, or infinity."""
        return self.every - step % self.every if self.every else math.inf

    def on_fit_begin(self, fit: "ObservedFit") -> None:
        """Called before the first step; a resumed fit has its history by then."""

    def state(self) -> Mapping[str, np.ndarray | float]:
        """The state that checkpoints save for a resumed fit; empty if there is none."""
        return {}

    def restore(self, fit: "ObservedFit", state: dict[str, np.ndarray]) -> None:
        """Restore what `state` returned, after `on_fit_begin`; numbers come as arrays without axes."""

    def on_step(self, fit: "ObservedFit") -> None:
        """Called after every `every`-th step of the model."""

    def on_pause(self, fit: "ObservedFit") -> None:
        """Called whenever a run of steps returns to Python, a few hundredths of a second apart."""

    def on_epoch_end(self, fit: "ObservedFit") -> None:
        """Called after an epoch, when its values are in the history."""

    def on_fit_end(self, fit: "ObservedFit") -> None:
        """Called after the last epoch, also when an exception ends the fit, in the reverse order of the callbacks."""


class _Monitor(Callback):
    """Watches one value of the history and remembers the best."""

    ties = "first"

    def __init__(self, monitor: str, patience: int, min_delta: float) -> None:
        self.monitor, self.patience = monitor, checks.positive_integer("patience", patience)
        checks.number("min_delta", min_delta)
        self.min_delta = min_delta
        self._pruned = 0

    def on_fit_begin(self, fit: "ObservedFit") -> None:
        monitors.check_direction(self.monitor, fit)
        self._begin_anew(fit)

    def state(self) -> dict[str, np.ndarray | float]:
        return {"best": self._best, "waited": self._waited, "pruned": self._pruned}

    def restore(self, fit: "ObservedFit", state: dict[str, np.ndarray]) -> None:
        self._best, self._waited = float(state["best"]), int(state["waited"])
        if "pruned" in state:
            self._pruned = int(state["pruned"])

    def _begin_anew(self, fit: "ObservedFit") -> None:
        self._best, self._waited = -math.inf, 0
        self._pruned = _pruned(fit)

    def _improved(self, fit: "ObservedFit") -> bool:
        """Whether the epoch's value is the best so far; counts the epochs since."""
        if self._pruned != _pruned(fit):  # values until now are those of another network
            self._begin_anew(fit)
            return False
        value = monitors.latest(self.monitor, fit)
        tied = self.ties == "last" and value == self._best > -math.inf
        if tied or value > self._best + (self.min_delta if self._best > -math.inf else 0):
            self._best, self._waited = value, 0
            return True
        self._waited += 1
        return False


def _pruned(fit: "ObservedFit") -> int:
    """The number of pruned parameters."""
    mask = fit.model.network.mask
    return 0 if mask is None else mask.size - int(np.count_nonzero(mask))


class EarlyStopping(_Monitor):
    """Stop when a value has not improved for some epochs, and restore the best parameters.

    Prechelt, "Early stopping - but when?", 1998. If a callback prunes, only the epochs after that count.

    Parameters
    ----------
    monitor : str
        A name in the history. Built-in metrics know whether higher is better; a function of your own says so in its
        attribute ``higher_is_better``, a callback that records a value in its `records`. NaN is no improvement.
    patience : int
        The number of epochs without improvement after which training stops.
    min_delta : float
        The smallest change that counts as an improvement.
    restore_best : bool
        Whether the parameters of the best epoch are restored when the fit ends, however it ends.
    ties : {"first", "last"}
        Which of several epochs with the best value is the best; with "last", each of them counts as an improvement. It
        matters for metrics such as the accuracy on few rows.

    Examples
    --------
    >>> import nbbp
    >>> X, y = nbbp.datasets.load_digits()
    >>> model = nbbp.Sequential([nbbp.Dense(32, activation="relu"), nbbp.Dense(10)], loss="softmax_cross_entropy")
    >>> patient = nbbp.callbacks.EarlyStopping(patience=3)
    >>> history = model.fit(X[:200], y[:200], epochs=500, validation_data=(X[200:], y[200:]), callbacks=[patient],
    ...                     verbose=0)
    >>> len(history) == patient.best_epoch + 3
    True
    """

    def __init__(
        self,
        monitor: str = "val_loss",
        patience: int = 10,
        min_delta: float = 0.0,
        restore_best: bool = True,
        ties: str = "first",
    ) -> None:
        super().__init__(monitor, patience, min_delta)
        checks.choose("ties", ties, dict.fromkeys(("first", "last")))
        self.restore_best, self.ties = restore_best, ties

    def _begin_anew(self, fit: "ObservedFit") -> None:
        super()._begin_anew(fit)
        self.best_epoch = 0
        self._kept: list[np.ndarray] = []

    def state(self) -> dict[str, np.ndarray | float]:
        kept = {f"kept_{k}": array for k, array in enumerate(self._kept)}
        return super().state() | {"best_epoch": self.best_epoch} | kept

    def restore(self, fit: "ObservedFit", state: dict[str, np.ndarray]) -> None:
        super().restore(fit, state)
        self.best_epoch = int(state["best_epoch"])
        self._kept = [state[f"kept_{k}"] for k in range(len(state)) if f"kept_{k}" in state]
        self._stop_when_due(fit)

    def on_epoch_end(self, fit: "ObservedFit") -> None:
        if self._improved(fit):
            self.best_epoch = len(fit.history)
            self._kept = [array.copy() for array in _trained(fit)] if self.restore_best else []
        self._stop_when_due(fit)

    def _stop_when_due(self, fit: "ObservedFit") -> None:
        if self._waited >= self.patience:
            since = f"since epoch {self.best_epoch}" if self.best_epoch else "in any epoch"
            fit.stop(f"{monitors.standstill(self.monitor, fit)} {since}")

    def on_fit_end(self, fit: "ObservedFit") -> None:
        if self._kept and self._pruned == _pruned(fit):
            for array, best in zip(_trained(fit), self._kept, strict=True):
                array[:] = best


def _trained(fit: "ObservedFit") -> list[np.ndarray]:
    """The parameters, the layers' state if any, and the averaged parameters if any."""
    network, mean = fit.model.network, fit.model.update.mean
    return [network.params, network.state] if mean is None else [network.params, network.state, mean]


class ReduceOnPlateau(_Monitor):
    """Multiply the learning rate by a factor when a value has not improved for some epochs.

    Parameters
    ----------
    monitor, patience, min_delta
        As for `EarlyStopping`.
    factor : float in (0, 1)
        The factor by which the learning rate is multiplied.
    least : float
        The lower bound of the learning rate; never less than the smallest normal float32.
    """

    def __init__(
        self,
        monitor: str = "val_loss",
        factor: float = 0.5,
        patience: int = 5,
        min_delta: float = 0.0,
        least: float = 0.0,
    ) -> None:
        super().__init__(monitor, patience, min_delta)
        checks.number("factor", factor, high=1.0, open_low=True)
        checks.number("least", least)
        self.factor, self.least = factor, max(least, SMALLEST_RATE)

    def on_fit_begin(self, fit: "ObservedFit") -> None:
        super().on_fit_begin(fit)
        if isinstance(fit.model.learning_rate, Schedule):
            raise TypeError("ReduceOnPlateau changes a learning rate that is a number; this one is a schedule")

    def on_epoch_end(self, fit: "ObservedFit") -> None:
        if not self._improved(fit) and self._waited >= self.patience:
            self._waited = 0
            rate: Any = fit.model.learning_rate  # a number: `on_fit_begin` has seen to that
            fit.model.learning_rate = max(rate * self.factor, min(rate, self.least))


class StopBelow(Callback):
    """Stop when a value falls below a threshold.

    Parameters
    ----------
    threshold : float
        The fit stops after the first epoch whose value is less.
    monitor : str
        A name in the history.
    """

    def __init__(self, threshold: float, monitor: str = "loss") -> None:
        self.threshold, self.monitor = threshold, monitor

    def on_fit_begin(self, fit: "ObservedFit") -> None:
        monitors.check(self.monitor, fit)
        if len(fit.history):
            self.on_epoch_end(fit)

    def on_epoch_end(self, fit: "ObservedFit") -> None:
        if fit.history[self.monitor][-1] < self.threshold:
            fit.stop(f"{self.monitor} is below {self.threshold:g}")


class TimeLimit(Callback):
    """Stop after some seconds, if need be within an epoch.

    Parameters
    ----------
    seconds : float
        The time limit, counted from the beginning of the fit.
    """

    def __init__(self, seconds: float) -> None:
        checks.number("seconds", seconds, open_low=True)
        self.seconds = seconds

    def on_fit_begin(self, fit: "ObservedFit") -> None:
        self._end = time.monotonic() + self.seconds

    def on_pause(self, fit: "ObservedFit") -> None:
        if time.monotonic() > self._end:
            fit.stop(f"{self.seconds:g} s are over")


class CSVLog(Callback):
    """Write each epoch's values to a file as soon as the epoch ends, with those that earlier callbacks recorded.

    Parameters
    ----------
    path
        The CSV file, which is overwritten.
    """

    every_rank = False

    def __init__(self, path) -> None:
        self.path = pathlib.Path(path)

    def on_fit_begin(self, fit: "ObservedFit") -> None:
        self._file = self.path.open("w", newline="", encoding="utf-8")
        self._writer: Any = None
        for epoch in range(len(fit.history)):
            self._write(fit, epoch)

    def on_epoch_end(self, fit: "ObservedFit") -> None:
        self._write(fit, len(fit.history) - 1)

    def _write(self, fit: "ObservedFit", epoch: int) -> None:
        values = {name: repr(v[epoch]) for name, v in fit.history.epochs.items() if len(v) > epoch}
        with files.writing(self.path, files.LINES_BEFORE):
            if self._writer is None:
                self._writer = csv.DictWriter(self._file, ["epoch", *values], extrasaction="ignore")
                self._writer.writeheader()
            self._writer.writerow({"epoch": epoch + 1} | values)
            self._file.flush()

    def on_fit_end(self, fit: "ObservedFit") -> None:
        with files.writing(self.path, files.LINES_BEFORE):
            self._file.close()


class LearningRateLog(Callback):
    """Record the learning rate of each epoch's last step in the history, as ``learning_rate``."""

    records = ("learning_rate",)

    def on_pause(self, fit: "ObservedFit") -> None:  # before another callback changes the rate at the end of the epoch
        rate = fit.model.learning_rate
        self._rate = float(rate(fit.model.steps - 1)) if isinstance(rate, Schedule) else rate

    def on_epoch_end(self, fit: "ObservedFit") -> None:
        fit.history.note(learning_rate=self._rate)


class PlotCurve(Callback):
    """Draw the loss curves to a file after every epoch, at most once in two seconds, and at the end.

    Parameters
    ----------
    path
        The image file; its suffix gives the format.
    """

    every_rank = False

    def __init__(self, path) -> None:
        self.path = pathlib.Path(path)

    def on_fit_begin(self, fit: "ObservedFit") -> None:
        self._drawn = time.monotonic()

    def on_epoch_end(self, fit: "ObservedFit") -> None:
        if time.monotonic() > self._drawn + 2:
            fit.history.plot(self.path)
            self._drawn = time.monotonic()

    def on_fit_end(self, fit: "ObservedFit") -> None:
        if len(fit.history):
            fit.history.plot(self.path)


class Call(Callback):
    """Call a function of the `Fit` after every epoch, or after every `every` steps.

    Parameters
    ----------
    function : callable
        A function of the `Fit`; it may read the model and the history.
    every : int, optional
        Steps from one call to the next; by default after every epoch.
    """

    def __init__(self, function: Callable[["ObservedFit"], None], every: int | None = None) -> None:
        self.function = function
        self.every = None if every is None else checks.positive_integer("every", every)

    def on_step(self, fit: "ObservedFit") -> None:
        self.function(fit)

    def on_epoch_end(self, fit: "ObservedFit") -> None:
        if self.every is None:
            self.function(fit)
