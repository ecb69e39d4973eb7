"""Checkpoints: files from which an interrupted fit is resumed as if nothing had happened.

A checkpoint is a model file, see `nbbp.load`, with additional arrays: the history, the state of callbacks, and the
measurements of an incomplete epoch. The order of rows and random numbers are functions of the seed and the step.
"""

import dataclasses
import itertools
import pathlib
import warnings
from typing import TYPE_CHECKING, Any

import numpy as np

from nbbp import checks
from nbbp.callbacks import Callback
from nbbp.engine.data import Data
from nbbp.insight import summary
from nbbp.optimizers import Optimizer
from nbbp.storage import files, saving
from nbbp.storage.files import Arrays, ModelFileError
from nbbp.storage.saving import BESIDE
from nbbp.streams import Stream

if TYPE_CHECKING:
    from nbbp.model import Model
    from nbbp.training.fit import Fit

ENDING = ".safetensors"
DECIDING = (
    "layers", "graph", "loss", "loss_numbers", "loss_weights", "seed", "dtype", "label_smoothing", "averaging",
    "input_shape",
)  # fmt: skip
"""Entries of a model's description that must be the same when a fit is resumed."""


class Checkpoint(Callback):
    """Save what ``fit(resume=folder)`` needs, at intervals and when the fit ends, however it ends.

    A resumed fit ends with the same bytes as an uninterrupted one, if it is given the same data, settings and
    callbacks; `Sequential.fit` refuses what differs. Files are written beside the old ones and renamed, so that a
    killed process or a full disk does not harm existing files.

    Parameters
    ----------
    folder
        The folder, made if it is missing. Each file is named after the model's steps, such as
        ``step_000001200.safetensors``; `nbbp.load` reads it too. Files of more steps than the model has when the fit
        begins belong to another run: before the first file of this run is written, they are moved to a subfolder
        ``older_1``, with a warning.
    every : int, optional
        Steps between two checkpoints; by default one is written after every epoch.
    keep : int
        The number of newest files that are kept.

    Examples
    --------
    >>> import nbbp, tempfile
    >>> X, y = nbbp.datasets.load_digits()
    >>> folder = tempfile.mkdtemp()
    >>> for epochs in (2, 4):  # the second goes on where the first ended
    ...     model = nbbp.Sequential([nbbp.Dense(32, "relu"), nbbp.Dense(10)], loss="softmax_cross_entropy")
    ...     history = model.fit(X, y, epochs, callbacks=[nbbp.Checkpoint(folder)], resume=folder, verbose=0)
    >>> len(history)
    4
    """

    def __init__(self, folder, every: int | None = None, keep: int = 3) -> None:
        self.folder, self.keep = pathlib.Path(folder), checks.positive_integer("keep", keep)
        self.every = None if every is None else checks.positive_integer("every", every)

    def on_fit_begin(self, fit: Any) -> None:
        if fit.ranks.is_first:
            self.folder.mkdir(parents=True, exist_ok=True)
            for leftover in self.folder.glob(f".*{files.PARTIAL}"):
                leftover.unlink(missing_ok=True)
        self._began = self._written = fit.model.steps

    def on_step(self, fit: Any) -> None:
        self._write(fit)

    def on_epoch_end(self, fit: Any) -> None:
        if self.every is None:
            self._write(fit)

    def on_fit_end(self, fit: Any) -> None:
        if fit.resumable and fit.model.steps > self._written:
            self._write(fit)

    def _write(self, fit: Any) -> None:
        """Write a file, on the first rank, of what all ranks have."""
        captured = _capture(fit)
        first, self._written = self._written == self._began, fit.model.steps
        if not fit.ranks.is_first:
            return
        if first:
            self._set_aside()
        files.write(self.folder / f"step_{fit.model.steps:09}{ENDING}", *captured)
        for old in _written_files(self.folder)[self.keep :]:
            old.unlink(missing_ok=True)

    def _set_aside(self) -> None:
        """Move another run's files out of the way, which would seem to be newer than those of this run."""
        others = [path for path in _written_files(self.folder) if _steps(path) > self._began]
        if not others:
            return
        aside = next(path for k in itertools.count(1) if not (path := self.folder / f"older_{k}").exists())
        aside.mkdir()
        for path in others:
            path.rename(aside / path.name)
        warnings.warn(
            f"{self.folder} had checkpoints of more steps than the {self._began} that this fit begins with: they "
            f"are in {aside} now, and resume={str(aside)!r} goes on from the newest, {others[0].name}",
            stacklevel=8,
        )


def _written_files(folder: pathlib.Path) -> list[pathlib.Path]:
    """The checkpoints in a folder, the newest first."""
    return sorted((path for path in folder.glob(f"step_*{ENDING}") if _steps(path) >= 0), key=_steps, reverse=True)


def _steps(path: pathlib.Path) -> int:
    """The number of steps in a file's name; -1 if it is not a checkpoint."""
    digits = path.stem.removeprefix("step_")
    return int(digits) if digits.isdecimal() else -1


def _capture(fit: Any) -> tuple[Arrays, dict]:
    arrays, description = saving.pack(fit.model.state)
    states = [(type(callback).__name__, callback.state()) for callback in _remembering(fit)]
    beside: dict[str, Any] = {"step_loss": fit.history.step_loss}
    beside |= fit.unfinished()
    beside |= {f"history/{name}": values for name, values in fit.history.epochs.items()}
    beside |= {f"callbacks/{k}/{key}": value for k, (_, state) in enumerate(states) for key, value in state.items()}
    arrays |= {BESIDE + name: np.asarray(value, np.float64) for name, value in beside.items()}
    return arrays, description | {"fit": fit.settings | {"callbacks": [name for name, _ in states], "given": fit.given}}


def _remembering(fit: Any) -> list[Callback]:
    """The callbacks with a state, even if it is still empty."""
    return [callback for callback in fit.callbacks if type(callback).state is not Callback.state]


class Resumed:
    """A checkpoint that is restored: the model, then the history, then the state of callbacks.

    Parameters
    ----------
    path
        A file, or a folder from which the newest readable file is taken.
    """

    def __init__(self, path) -> None:
        self.path = newest(pathlib.Path(path))
        arrays, self._description = files.read(self.path)
        self._beside = {name.removeprefix(BESIDE): array for name, array in arrays.items() if name.startswith(BESIDE)}
        if "fit" not in self._description:
            raise ModelFileError(f"{self.path} is a model without its fit: load it with nbbp.load and train on")
        with saving.refusing(self.path):
            self._model = saving.unpack(arrays, self._description)

    @property
    def shards(self) -> int | None:
        """The number of shards of the saved fit."""
        return self._description["fit"].get("shards")

    def check(self, fit: "Fit", allow_changes: bool) -> None:
        """ValueError unless the fit agrees with the saved one in all that determines its results; changes nothing."""
        then, began = self._description, self._description["fit"]
        _, here = saving.pack(fit.model.state)
        for name in DECIDING:
            self._compare(name, then.get(name), here.get(name))
        self._compare("precision", then.get("precision", "full"), here["precision"])  # 0.1.0 did not write it
        self._compare("optimizer", *({**of["optimizer"], "learning_rate": None} for of in (then, here)))
        for name, value in fit.settings.items():
            self._compare(name, began.get(name), value)
        self._compare("callbacks", began["callbacks"], [type(callback).__name__ for callback in _remembering(fit)])
        given = began.get("given", {})  # 0.1.0 did not write it
        if "learning_rate" in given and fit.given["learning_rate"] == summary.plain(self._optimizer.learning_rate):
            fit.given["learning_rate"] = given["learning_rate"]  # the trained model itself is resumed
        changed = [name for name in given.keys() & fit.given.keys() if given[name] != fit.given[name]]
        self._new_rate = "learning_rate" in changed
        if changed and not allow_changes:
            both = "; ".join(f"{name} was {given[name]}, and is {fit.given[name]}" for name in sorted(changed))
            raise ValueError(
                f"{self.path} cannot be resumed here: {both}. If that is meant, allow_changes=True goes on with "
                f"what is given now"
            )

    def put_back_model(self, fit: "Fit") -> None:
        """Restore the model's arrays."""
        model, optimizer = fit.model, self._optimizer
        if self._new_rate:
            optimizer = dataclasses.replace(optimizer, learning_rate=model.learning_rate)
        settings = model.state.settings | {"optimizer": optimizer}
        model.restore(dataclasses.replace(self._model, settings=settings))

    @property
    def _optimizer(self) -> Optimizer:
        return self._model.settings["optimizer"]

    def put_back_history(self, fit: "Fit") -> None:
        """Restore the history of the fit."""
        fit.history.add_steps(self._beside["step_loss"])
        epochs = self._under("history/")
        fit.history.epochs.update({name: epochs[name].tolist() for name in fit.recorded if name in epochs})

    def begins(self, steps: int) -> bool:
        """Whether the model has as many steps as the checkpoint."""
        numbers = self._model.numbers
        return numbers is not None and steps == numbers.steps

    def unfinished(self) -> Arrays:
        """The arrays of `Trainer.unfinished`, and others."""
        return self._beside

    def put_back_callbacks(self, fit: "Fit") -> None:
        """Restore the state of the callbacks, after their `on_fit_begin`."""
        for k, callback in enumerate(_remembering(fit)):
            callback.restore(fit, self._under(f"callbacks/{k}/"))

    def _under(self, prefix: str) -> Arrays:
        return {name.removeprefix(prefix): a for name, a in self._beside.items() if name.startswith(prefix)}

    def _compare(self, name: str, then: Any, here: Any) -> None:
        if then != here:
            raise ValueError(f"{self.path} cannot be resumed here: {name} was {then!r}, and is {here!r}")


def has_checkpoints(path) -> bool:
    """Whether there is a checkpoint to resume: a file, or a folder with some."""
    path = pathlib.Path(path)
    if path.suffix == ENDING and not path.exists():
        raise FileNotFoundError(f"there is no checkpoint {path}")
    return path.is_file() or bool(_written_files(path))


def newest(path: pathlib.Path) -> pathlib.Path:
    """The file itself, or the newest undamaged file of a folder."""
    if path.is_file():
        return path
    for candidate in _written_files(path):
        try:
            files.read(candidate)
        except ModelFileError as error:
            warnings.warn(f"{error}; an older checkpoint is taken", stacklevel=6)
        else:
            return candidate
    raise ModelFileError(f"{path} has no checkpoint that can be read")


def marks(model: "Model", data: Data | Stream, validation: Data | None) -> dict[str, str | int | None]:
    """What identifies data: digests, or for a stream how it is cut and a digest of its first chunk.

    A stream of one chunk may have another order in each pass, as PyTorch's loaders do, so it has no such digest.
    """
    marks: dict[str, str | int | None] = {}
    if isinstance(data, Stream):
        marks |= {"chunks": data.chunks, "buffer_rows": data.buffer_rows}
        first = model.prepare(*data.first(), whole=False).digests() if data.chunks > 1 else {}
        marks |= {f"{name} of the first chunk": digest for name, digest in first.items()}
    else:
        marks |= data.digests()
    if validation is not None:
        marks |= {f"validation {name}": digest for name, digest in validation.digests().items()}
    return marks
