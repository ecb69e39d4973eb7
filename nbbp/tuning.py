"""A learning rate for a model and its data, found by trying many in one short run."""

import dataclasses

import numpy as np

from nbbp import checks
from nbbp.model import Sequential
from nbbp.schedules import Exponential
from nbbp.training import Trainer


@dataclasses.dataclass(frozen=True)
class LearningRates:
    """What `find_learning_rate` saw.

    Attributes
    ----------
    rates, losses : ndarray (steps,)
        The learning rate of each step, and the mini-batch losses, smoothed.
    suggestion : float
        The rate at which the loss fell fastest.
    """

    rates: np.ndarray
    losses: np.ndarray
    suggestion: float

    def plot(self, path=None):
        """Draw the losses against the rates, see `nbbp.plots.learning_rate`."""
        from nbbp import plots

        return plots.learning_rate(self.rates, self.losses, self.suggestion, path=path)


def find_learning_rate(
    model: Sequential,
    X,
    y,
    low: float = 1e-6,
    high: float = 10.0,
    steps: int = 200,
    batch_size: int = 32,
) -> LearningRates:
    """Train a copy while the learning rate grows exponentially; the model itself stays as it is.

    The run ends when the loss is four times its least. Smith, "Cyclical learning rates for training neural networks",
    2017.

    Parameters
    ----------
    model : Sequential
    X, y : array_like
        As for `Sequential.fit`.
    low, high : float
        First and last rate.
    steps : int
    batch_size : int
    """
    checks.number("low", low, open_low=True)
    checks.number("high", high, low=low, open_low=True)
    steps, batch_size = checks.positive_integer("steps", steps), checks.positive_integer("batch_size", batch_size)
    data = model._data("X", X, "y", y)
    copy = model._copy()
    copy.learning_rate = schedule = Exponential(low, steps, high / low)
    trainer = Trainer(copy.network, copy.loss, copy.update, data, batch_size, copy.backend)
    epochs = 0
    copy.update.steps = 0
    losses: list[float] = []
    while len(losses) < steps and not trainer.diverged and not _has_risen(losses):
        done = trainer.train(1, epochs)
        losses += trainer.step_loss[:done].tolist()
        epochs += 1
    smooth = _smoothed(np.array(losses[:steps]))
    end = next((i for i in range(len(smooth)) if smooth[i] > 4 * smooth[: i + 1].min() and i > 10), len(smooth))
    rates, smooth = schedule(np.arange(end)), smooth[:end]
    lowest = int(np.argmin(smooth)) if end else 0
    if lowest < 2:
        raise ValueError(f"the loss does not fall at any rate from {low:g} to {high:g}: try lower ones")
    slopes = np.gradient(smooth[: lowest + 1], np.log(rates[: lowest + 1]))
    return LearningRates(rates, smooth, float(rates[np.argmin(slopes)]))


def _smoothed(losses: np.ndarray, decay: float = 0.9) -> np.ndarray:
    """Exponential mean, each value divided by the sum of its weights."""
    mean, smooth = 0.0, np.empty(len(losses))
    for i, loss in enumerate(losses):
        mean = decay * mean + (1 - decay) * loss
        smooth[i] = mean / (1 - decay ** (i + 1))
    return smooth


def _has_risen(losses: list[float]) -> bool:
    smooth = _smoothed(np.array(losses))
    return len(smooth) > 10 and bool(smooth[-1] > 4 * smooth.min())
