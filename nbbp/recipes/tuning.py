"""A learning-rate finder, which tries many rates in one short run."""

import dataclasses
from typing import TYPE_CHECKING

import numpy as np

from nbbp import checks
from nbbp.schedules import Exponential
from nbbp.sequential import Sequential

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclasses.dataclass(frozen=True)
class LearningRates:
    """The result of `find_learning_rate`.

    Attributes
    ----------
    rates, losses : ndarray (steps,)
        The learning rate of each step, and the smoothed mini-batch losses.
    suggestion : float
        The rate at which the loss fell fastest.
    """

    rates: np.ndarray
    losses: np.ndarray
    suggestion: float

    def plot(self, path=None) -> "Figure":
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

    The run ends when the loss is four times its minimum. Smith, "Cyclical learning rates for training neural networks",
    2017.

    Parameters
    ----------
    model : Sequential
    X, y : array_like
        As for `Sequential.fit`.
    low, high : float
        The first and the last rate.
    steps : int
    batch_size : int

    Examples
    --------
    >>> import nbbp
    >>> X, y = nbbp.datasets.load_digits()
    >>> model = nbbp.Sequential([nbbp.Dense(32, activation="relu"), nbbp.Dense(10)], loss="softmax_cross_entropy")
    >>> found = nbbp.find_learning_rate(model, X, y)
    >>> model.learning_rate = found.suggestion
    >>> 0.01 < found.suggestion < 1
    True
    """
    checks.number("low", low, open_low=True)
    checks.number("high", high, low=low, open_low=True)
    steps, batch_size = checks.positive_integer("steps", steps), checks.positive_integer("batch_size", batch_size)
    data = model.prepare(X, y)
    copy = model.copy()
    copy.learning_rate = schedule = _Growth(low, steps, high / low)
    trainer = copy.built.trainer(data, batch_size)
    copy.update.steps = epochs = 0
    half = max(2, steps // 20)
    losses: list[float] = []
    while len(losses) < steps and not trainer.diverged and not _has_risen(losses, half):
        done = trainer.train(1, epochs)
        losses += trainer.step_loss[:done].tolist()
        epochs += 1
    smooth = _smoothed(np.array(losses[:steps]), half)
    rates = schedule(np.arange(len(smooth)))
    lowest = int(np.argmin(smooth))
    falls = smooth[: max(0, lowest - 2 * half)] - smooth[2 * half : max(2 * half, lowest)]
    if not len(falls) or falls.max() < 0.01 * abs(smooth[0]):
        raise ValueError(f"the loss does not fall at any rate from {low:g} to {high:g}: try others, or scaled features")
    end = lowest + int(np.argmax(np.append(smooth[lowest:] > _high(smooth), True)))
    return LearningRates(rates[:end], smooth[:end], float(rates[half + np.argmax(falls)]))


def _smoothed(losses: np.ndarray, half: int) -> np.ndarray:
    """The running mean over `half` steps to either side, over fewer at both ends."""
    sums, middle = np.concatenate([[0.0], np.cumsum(losses)]), np.arange(len(losses))
    begin, end = np.maximum(middle - half, 0), np.minimum(middle + half + 1, len(losses))
    return (sums[end] - sums[begin]) / (end - begin)


def _has_risen(losses: list[float], half: int) -> bool:
    smooth = _smoothed(np.array(losses), half)
    return len(smooth) > 4 * half and bool(smooth[-1] > _high(smooth))


def _high(smooth: np.ndarray) -> float:
    """Four times the minimum, or as far above it if that is negative."""
    return float(smooth.min() + 3 * abs(smooth.min()))


class _Growth(Exponential):
    """Exponential until `steps`, constant beyond: an epoch may go on longer."""

    def value(self, step):
        return super().value(min(step, self.steps))
