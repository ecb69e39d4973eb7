"""Trackers: callbacks that send a fit's settings and each epoch's values to an experiment tracker.

Each logs the settings when the fit begins (see `nbbp.insight.summary.settings`), after every epoch all its values,
including those that earlier callbacks recorded, and at the end how the fit ended. ``pip install nbbp[tracking]``
installs the libraries.

To add one, derive from `Tracker` and override `begin`, `log` and `end`.
"""

import importlib
import json
import math
import pathlib
import sys
import time
import uuid
from types import ModuleType
from typing import TYPE_CHECKING, Any

from nbbp.callbacks import Callback
from nbbp.insight import summary
from nbbp.storage import files
from nbbp.training import monitors

if TYPE_CHECKING:
    from nbbp.training.observed import ObservedFit


class Tracker(Callback):
    """Base of the trackers."""

    every_rank = False

    def begin(self, settings: dict[str, Any]) -> None:
        """Open a run; settings are numbers, strings, None, and lists and dicts of them."""

    def log(self, epoch: int, values: dict[str, float]) -> None:
        """Log the values of an epoch, counted from 1."""

    def end(self, error: BaseException | None) -> None:
        """Close the run; `error` is the exception that ended the fit early, KeyboardInterrupt for Ctrl-C."""

    def on_fit_begin(self, fit: "ObservedFit") -> None:
        self._handled = sys.exception()  # handled by the caller, who may fit in an except clause
        self.begin(summary.settings(fit))

    def on_epoch_end(self, fit: "ObservedFit") -> None:
        epoch = len(fit.history)
        self.log(epoch, {name: values[-1] for name, values in fit.history.epochs.items() if len(values) == epoch})

    def on_fit_end(self, fit: "ObservedFit") -> None:
        error = sys.exception()
        self.end(None if error is self._handled else error)


def _library(name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ImportError:
        raise ImportError(f'{name} is missing: pip install "nbbp[tracking]"') from None


class JSONL(Tracker):
    """A file with one JSON object in each line: first ``{"settings": ...}``, then ``{"epoch": 1, "loss": ...}``.

    Values that are not finite are null; each line is written as soon as its epoch has ended.

    Parameters
    ----------
    path
        The file, which is overwritten.

    Examples
    --------
    >>> import nbbp, pathlib, tempfile
    >>> folder = tempfile.TemporaryDirectory()
    >>> path = pathlib.Path(folder.name, "log.jsonl")
    >>> X, y = nbbp.datasets.load_digits()
    >>> model = nbbp.Sequential([nbbp.Dense(10)], loss="softmax_cross_entropy")
    >>> history = model.fit(X, y, epochs=2, callbacks=[nbbp.trackers.JSONL(path)], verbose=0)
    >>> [line[:12] for line in path.read_text().splitlines()]
    ['{"settings":', '{"epoch": 1,', '{"epoch": 2,']
    >>> folder.cleanup()
    """

    def __init__(self, path) -> None:
        self.path = pathlib.Path(path)

    def begin(self, settings: dict[str, Any]) -> None:
        self._file = self.path.open("w", encoding="utf-8")
        self._write({"settings": settings})

    def log(self, epoch: int, values: dict[str, float]) -> None:
        self._write({"epoch": epoch} | {name: x if math.isfinite(x) else None for name, x in values.items()})

    def _write(self, line: dict[str, Any]) -> None:
        with files.writing(self.path, files.LINES_BEFORE):
            self._file.write(json.dumps(line, allow_nan=False) + "\n")
            self._file.flush()

    def end(self, error: BaseException | None) -> None:
        with files.writing(self.path, files.LINES_BEFORE):
            self._file.close()


class TensorBoard(Tracker):
    """Event files for ``tensorboard --logdir``: scalars, and the settings for its HPARAMS page.

    Parameters
    ----------
    folder
        The folder of this run; TensorBoard compares the runs in its parent.
    """

    def __init__(self, folder) -> None:
        self.folder = pathlib.Path(folder)
        self._library = _library("tensorboardX")

    def begin(self, settings: dict[str, Any]) -> None:
        self._writer = self._library.SummaryWriter(str(self.folder), filename_suffix=f".{uuid.uuid4().hex[:8]}")
        metrics = {"loss": None, "val_loss": None}
        experiment, start, self._success = self._library.summary.hparams(summary.flat(settings), metrics)
        for described in (experiment, start):
            self._writer.file_writer.add_summary(described)

    def log(self, epoch: int, values: dict[str, float]) -> None:
        for name, value in values.items():
            self._writer.add_scalar(name, value, epoch)
        self._writer.flush()

    def end(self, error: BaseException | None) -> None:
        if error is None:
            self._writer.file_writer.add_summary(self._success)
        self._writer.close()


class MLflow(Tracker):
    """A run of MLflow, stored where ``mlflow.set_tracking_uri`` or MLFLOW_TRACKING_URI says, by default ``mlflow.db``.

    It ends as FINISHED, FAILED or KILLED.

    Parameters
    ----------
    experiment : str
        The experiment's name; it is created if it does not exist.
    name : str, optional
        The name of the run.
    """

    def __init__(self, experiment: str = "Default", name: str | None = None) -> None:
        self.experiment, self.name = experiment, name
        self._library = _library("mlflow")

    def begin(self, settings: dict[str, Any]) -> None:
        self._client = self._library.MlflowClient()
        found = self._client.get_experiment_by_name(self.experiment)
        number = found.experiment_id if found else self._client.create_experiment(self.experiment)
        self.run_id = self._client.create_run(number, run_name=self.name).info.run_id
        param = self._library.entities.Param
        params = [param(name, str(value)) for name, value in summary.flat(settings).items()]
        for first in range(0, len(params), 100):  # what a call may take
            self._client.log_batch(self.run_id, params=params[first : first + 100])

    def log(self, epoch: int, values: dict[str, float]) -> None:
        now, metric = int(1000 * time.time()), self._library.entities.Metric
        self._client.log_batch(self.run_id, [metric(name, value, now, epoch) for name, value in values.items()])

    def end(self, error: BaseException | None) -> None:
        status = "FINISHED" if error is None else "KILLED" if isinstance(error, KeyboardInterrupt) else "FAILED"
        self._client.set_terminated(self.run_id, status)


class WandB(Tracker):
    """A run of Weights & Biases; ``WANDB_MODE=offline`` stores it on disk.

    Parameters
    ----------
    project, name : str, optional
        The project and the name of the run.
    run : wandb.Run, optional
        An open run to log into instead of a new one; it stays open.
    """

    def __init__(self, project: str | None = None, name: str | None = None, run: Any = None) -> None:
        if run is not None and (project is not None or name is not None):
            raise ValueError("a run has its project and name: give WandB either run, or project and name")
        self.project, self.name, self.run = project, name, run
        self._own = run is None
        self._library = _library("wandb")

    def begin(self, settings: dict[str, Any]) -> None:
        if self._own:
            self.run = self._library.init(project=self.project, name=self.name, reinit="create_new")
        self.run.config.update(settings, allow_val_change=True)

    def log(self, epoch: int, values: dict[str, float]) -> None:
        self.run.log({"epoch": epoch} | values)

    def end(self, error: BaseException | None) -> None:
        if self._own:
            self.run.finish(exit_code=0 if error is None else 1)


class OptunaPruning(Callback):
    """Report a value of each epoch to an Optuna trial, and end the fit with TrialPruned if the study prunes it.

    Parameters
    ----------
    trial : optuna.Trial
    monitor : str
        A name in the history; as for `nbbp.callbacks.EarlyStopping`, it must be known whether higher is better.

    Raises
    ------
    ValueError
        When the fit begins, if the study has the opposite direction and would prune the best trials.
    """

    def __init__(self, trial, monitor: str = "val_loss") -> None:
        self.trial, self.monitor = trial, monitor

    def on_fit_begin(self, fit: "ObservedFit") -> None:
        monitors.check_direction(self.monitor, fit)
        better, way = ("higher", "maximize") if fit.recorded[self.monitor] else ("lower", "minimize")
        study = getattr(self.trial, "study", None)  # a FixedTrial has none
        if study is not None and study.direction.name != way.upper():
            raise ValueError(
                f"monitor {self.monitor!r} is better the {better}, and the study goes the other way: "
                f"optuna.create_study(direction={way!r})"
            )

    def on_epoch_end(self, fit: "ObservedFit") -> None:
        import optuna

        epoch = len(fit.history)
        self.trial.report(fit.history[self.monitor][-1], epoch)
        if self.trial.should_prune():
            raise optuna.TrialPruned(f"{self.monitor} after epoch {epoch}")
