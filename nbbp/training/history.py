"""The history of a fit: values of every epoch, and the loss of every mini-batch."""

import csv
import pathlib
from typing import TYPE_CHECKING

import numpy as np

from nbbp.storage import files

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from nbbp.insight.inspection import Inspection


class History:
    """Losses and metrics of a fit.

    ``history["loss"]`` is a list with one value for each epoch: the mean over the rows it trained on. Other names are
    ``"val_loss"`` and each metric, alone and with ``val_``.

    Attributes
    ----------
    step_loss : ndarray (steps,), float64
        The loss of every mini-batch, before its update.
    steps : int
        The number of mini-batches.
    steps_per_epoch : int
        The steps in an epoch, of the first fit if others have extended the history.
    steps_before : int
        The steps of earlier fits.
    stopped : str
        Why a callback ended the fit; empty if none did.
    inspected : nbbp.insight.inspection.Inspection or None
        Norms of gradients, weights and updates, if `nbbp.Inspect` recorded them.

    Examples
    --------
    >>> import nbbp
    >>> X, y = nbbp.datasets.load_digits()
    >>> model = nbbp.Sequential([nbbp.Dense(10)], loss="softmax_cross_entropy", metrics=["accuracy"])
    >>> history = model.fit(X, y, epochs=3, batch_size=100, verbose=0)
    >>> list(history.epochs), len(history["accuracy"]), history.step_loss.shape
    (['loss', 'accuracy'], 3, (54,))
    """

    def __init__(self, steps_per_epoch: int, label: str = "", steps_before: int = 0) -> None:
        self.steps_per_epoch, self.label, self.steps_before = steps_per_epoch, label, steps_before
        self.epochs: dict[str, list[float]] = {}
        self.stopped = ""
        self.inspected: Inspection | None = None
        self.steps = 0
        self._step_losses: list[np.ndarray] = []
        self._fits = [(0, 0, steps_per_epoch)]  # for each fit: steps and epochs before it, steps of its epochs

    def __getitem__(self, name: str) -> list[float]:
        try:
            return self.epochs[name]
        except KeyError:
            raise KeyError(f"{name!r} was not recorded; there is {', '.join(self.epochs) or 'nothing yet'}") from None

    def __contains__(self, name: str) -> bool:
        return name in self.epochs

    def __len__(self) -> int:
        """The number of complete epochs."""
        return len(self.epochs.get("loss", ()))

    def __repr__(self) -> str:
        last = ", ".join(f"{name}={values[-1]:.4g}" for name, values in self.epochs.items() if values)
        return f"<History of {len(self)} epochs: {last}>"

    def _repr_html_(self) -> str:
        from nbbp.insight import notebook

        return notebook.history_html(self)

    @property
    def step_loss(self) -> np.ndarray:
        if len(self._step_losses) > 1:
            self._step_losses = [np.concatenate(self._step_losses)]
        return self._step_losses[0] if self._step_losses else np.zeros(0)

    def curve(self) -> tuple[np.ndarray, np.ndarray]:
        """The training loss over time in epochs, for plots: of every mini-batch if these are known.

        An epoch that was interrupted before a later fit is left out.

        Returns
        -------
        epochs, losses : ndarray (points,)
            The middle of each mini-batch, or the end of each epoch, and its loss.
        """
        if not all(steps_per_epoch for _, _, steps_per_epoch in self._fits):
            return np.arange(1, len(self) + 1), np.array(self.epochs.get("loss", ()))
        epochs, losses = [], []
        ends = [*((steps, done) for steps, done, _ in self._fits[1:]), (self.steps, np.inf)]
        for (begin, done, steps_per_epoch), (end, most) in zip(self._fits, ends, strict=True):
            middle = done + (np.arange(end - begin) + 0.5) / steps_per_epoch
            epochs.append(middle[middle < most])
            losses.append(self.step_loss[begin:end][middle < most])
        return np.concatenate(epochs), np.concatenate(losses)

    def add_steps(self, losses: np.ndarray) -> None:
        self._step_losses.append(np.array(losses))
        self.steps += len(losses)

    def add_epoch(self, **values: float) -> None:
        """Add the values of a complete epoch, its loss among them."""
        self.note(**values)

    def note(self, **values: float) -> None:
        """Add values of the last epoch."""
        for name, value in values.items():
            self.epochs.setdefault(name, []).append(float(value))

    def extend(self, later: "History") -> None:
        """Append the history of a fit that continued on the same data; values that one fit did not record are nan."""
        before, after = len(self), len(later)
        for name in self.epochs | later.epochs:
            self.epochs.setdefault(name, [np.nan] * before).extend(later.epochs.get(name, [np.nan] * after))
        self._fits += [(self.steps + steps, before + epochs, count) for steps, epochs, count in later._fits]
        self.add_steps(later.step_loss)
        self.stopped = later.stopped
        if self.inspected is None:
            self.inspected = later.inspected
        elif later.inspected is not None:
            self.inspected.extend(later.inspected)

    def to_csv(self, path) -> None:
        """Write one line for each epoch: epoch, loss and all other recorded values."""
        with files.writing(path, files.INCOMPLETE), pathlib.Path(path).open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(["epoch", *self.epochs])
            for epoch, row in enumerate(zip(*self.epochs.values(), strict=True), 1):
                writer.writerow([epoch, *map(repr, row)])

    @classmethod
    def from_csv(cls, path) -> "History":
        """Read the epochs that `to_csv` wrote; the losses of mini-batches are not among them.

        Raises
        ------
        ValueError
            If the file is not a history.
        """
        with pathlib.Path(path).open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        if not rows or not {"epoch", "loss"} <= rows[0].keys():
            raise ValueError(f"{path} is not a history: it must have the columns epoch and loss, and a row")
        history = cls(steps_per_epoch=0)
        for line, row in enumerate(rows, 2):
            try:
                history.add_epoch(**{name: float(value) for name, value in row.items() if name != "epoch"})
            except (TypeError, ValueError):
                raise ValueError(f"{path}, line {line}: must have a number in each column") from None
        return history

    def plot(self, path=None, log: bool = False) -> "Figure":
        """Draw the curves, see `nbbp.plots.loss_curves`.

        Returns
        -------
        matplotlib.figure.Figure
        """
        from nbbp import plots

        return plots.loss_curves(self, path=path, log=log)
