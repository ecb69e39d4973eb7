"""Backtests: forecasts from many instants of the past, each of a model that saw nothing later."""

import dataclasses
import itertools
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from nbbp import checks, tables
from nbbp.callbacks import Callback
from nbbp.model import Model
from nbbp.series import windows
from nbbp.training import progress

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SHOWN = 8  # lines of a table of instants


@dataclasses.dataclass(frozen=True, eq=False)
class Forecasts:
    """Forecasts beside what came; errors are means over rows, one for each instant ahead.

    Attributes
    ----------
    truth : ndarray (rows, future)
    values : ndarray (rows, future, quantiles)
    quantiles : tuple of float
        The levels of the last axis; 0.5 alone for a forecast of one value.
    """

    truth: np.ndarray
    values: np.ndarray
    quantiles: tuple[float, ...] = (0.5,)

    @property
    def median(self) -> np.ndarray:
        """The quantile whose level is nearest to 0.5, (rows, future)."""
        return self.values[..., int(np.argmin(np.abs(np.array(self.quantiles) - 0.5)))]

    @property
    def mae(self) -> np.ndarray:
        """The mean absolute error of the median, (future,)."""
        return np.abs(np.subtract(self.median, self.truth, dtype=np.float64)).mean(axis=0)

    @property
    def pinball(self) -> np.ndarray:
        """The mean pinball loss over the quantiles, (future,): see `nbbp.losses.Pinball`."""
        levels, error = (
            np.array(self.quantiles),
            np.subtract(self.truth[..., np.newaxis], self.values, dtype=np.float64),
        )
        return np.maximum(levels * error, (levels - 1) * error).mean(axis=(0, 2))

    @property
    def coverage(self) -> np.ndarray:
        """The share of the truth from the first quantile to the last, (future,); `nominal` is what it should be."""
        return np.mean((self.values[..., 0] <= self.truth) & (self.truth <= self.values[..., -1]), axis=0)

    @property
    def nominal(self) -> float:
        """The difference of the last level and the first."""
        return self.quantiles[-1] - self.quantiles[0]


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Backtest:
    """The result of `backtest`.

    Attributes
    ----------
    series : ndarray (time,)
        The column that was forecast.
    cuts : tuple of int
    season : int
    origins : ndarray (rows,)
        The first instant of each forecast.
    model, naive : Forecasts
        Those of the model, and those that repeat the last season.
    """

    series: np.ndarray
    cuts: tuple[int, ...]
    season: int
    origins: np.ndarray
    model: Forecasts
    naive: Forecasts

    def __repr__(self) -> str:
        rows, future = self.model.truth.shape
        both, interval = (self.model, self.naive), len(self.model.quantiles) > 1
        names = ["mae"] + ["pinball", "coverage"] * interval
        columns = [getattr(of, name) for name in names for of in both]
        plural = "" if len(self.cuts) == 1 else "s"
        lines = [
            f"{rows:,} forecasts after {len(self.cuts)} cut{plural}; naive is the last season, {self.season} long"
            + f"; coverage should be {self.model.nominal:.2f}" * interval,
            "      " + "".join(f"{name:^20}" for name in names).rstrip(),
            " ahead" + "".join(f"{'model':>10}{'naive':>10}" for _ in names),
        ]
        shown = np.unique(np.linspace(0, future - 1, min(future, SHOWN)).astype(int))
        lines += [f"{ahead + 1:6}" + "".join(f"{column[ahead]:10.4g}" for column in columns) for ahead in shown]
        return "\n".join([*lines, "   all" + "".join(f"{column.mean():10.4g}" for column in columns)])

    def plot(self, path=None) -> "Figure":
        """Draw some forecasts, and the errors by the instants ahead; see `nbbp.plots.backtest`."""
        from nbbp import plots

        return plots.backtest(self, path=path)


def seasonal_naive(
    series, origins, future: int, season: int, quantiles: Sequence[float] = (0.5,), before: int | None = None
) -> np.ndarray:
    """Forecasts (rows, future, quantiles) that repeat the last season before each origin.

    Hyndman and Athanasopoulos, "Forecasting: principles and practice", 3rd edition, section 5.2. With several
    quantiles, those of the method's own errors until `before`, at each instant ahead, are added.

    Parameters
    ----------
    series : array_like (time,)
    origins : array_like (rows,)
        The first instant of each forecast.
    future, season : int
        The instants that are forecast, and that a season has; of season 1 the last value is repeated.
    quantiles : sequence of float
    before : int, optional
        The end of the part from which errors are taken; by default the first origin.
    """
    series, origins = checks.array("series", series), np.asarray(origins)
    ahead = np.arange(future)
    back = ahead - season * (ahead // season + 1)  # of the value that is repeated, from the origin
    if origins.min() < season:
        raise ValueError(f"a forecast from instant {origins.min()} has no season of {season} before it")
    point = series[origins[:, np.newaxis] + back][..., np.newaxis]
    if len(quantiles) == 1:
        return point
    known = np.arange(season, (origins.min() if before is None else before) - future + 1)
    if not len(known):
        raise ValueError(f"the errors of the last season need {season + future} instants before the first forecast")
    errors = series[known[:, np.newaxis] + ahead] - series[known[:, np.newaxis] + back]
    return point + np.quantile(errors, checks.quantiles(quantiles), axis=0).T


def backtest(
    model: Model, series, past: int, future: int, cuts: Sequence[int], epochs: int, target: int | str = 0,
    known: int | str | Sequence[int | str] = (), season: int = 1, retrain: bool = True, verbose: int = 1,
    callbacks: Sequence[Callback] = (), **fit,
) -> Backtest:  # fmt: skip
    """Train up to each cut, forecast from every instant until the next one, and measure the errors.

    A rolling forecasting origin: Hyndman and Athanasopoulos, "Forecasting: principles and practice", 3rd edition,
    section 5.10. No model sees a value at or after its cut in training.

    Parameters
    ----------
    model : Model
        One that is not trained. Its copies are, each from its initial parameters; it stays as it is. Its outputs are
        (future,) or, with the loss `nbbp.losses.Pinball`, (future, quantiles).
    series : array_like (time,) or (time, features), or a table of numbers
    past, future : int
        As for `nbbp.streams.windows`, as is `known`, whose columns may have names too.
    cuts : sequence of int
        The instants at which training ends and forecasts begin, increasing.
    epochs : int
    target : int or str
        The column that is forecast: its number, or its name in a table.
    season : int
        The length of a season, for the naive forecast, which repeats the last one.
    retrain : bool
        Whether a model is trained for each cut; otherwise one, up to the first.
    verbose : {0, 1}
        Nothing, or a progress bar.
    callbacks, **fit
        Arguments of `Model.fit`, such as ``batch_size=64``.

    Returns
    -------
    Backtest

    Examples
    --------
    >>> import nbbp, numpy as np
    >>> hours = np.arange(1200)
    >>> series = np.sin(2 * np.pi * hours / 24) + np.random.default_rng(0).normal(0, 0.2, 1200)
    >>> layers = [nbbp.Flatten(), nbbp.Dense(32, "relu"), nbbp.Dense(6 * 3), nbbp.Reshape((6, 3))]
    >>> model = nbbp.Sequential(layers, nbbp.losses.Pinball((0.1, 0.5, 0.9)), "adam")
    >>> given = {"past": 24, "future": 6, "cuts": [800, 1000], "epochs": 20, "season": 24}
    >>> result = nbbp.recipes.backtest(model, series, **given, verbose=0)
    >>> bool((result.model.mae < result.naive.mae).all())
    True
    """
    past, future = checks.positive_integer("past", past), checks.positive_integer("future", future)
    epochs, season = checks.positive_integer("epochs", epochs), checks.positive_integer("season", season)
    names = tables.names("series", series) if tables.is_table(series) else ()
    series = tables.array("series", series, np.float64) if names else checks.array("series", series)
    series = series.reshape(len(series), -1)
    target = _number("target", target, names, series.shape[1])
    columns = [known] if isinstance(known, int | np.integer | str) else known
    ahead = [_number("known", column, names, series.shape[1]) for column in columns]
    ends = _checked_cuts(cuts, past, len(series) - future + 1)
    if model.steps:
        raise ValueError(
            f"the model has made {model.steps} steps, perhaps on what it is to forecast: give one that is not trained"
        )
    if len(model.outputs) > 1:
        raise ValueError(f"a backtest is of a model with one output, and this has {len(model.outputs)}")
    quantiles = model.loss.numbers if model.loss.name == "pinball" else (0.5,)
    cut = [(series[:begin], series[begin - past : end + future - 1]) for begin, end in itertools.pairwise(ends)]
    origins = np.arange(ends[0], ends[-1])
    naive = seasonal_naive(series[:, target], origins, future, season, quantiles)
    truths, values = [], []
    with progress.bar(total=epochs * len(cut), disable=verbose != 1, unit="epoch") as bar:
        for k, (before, after) in enumerate(cut):
            bar.set_description(f"cut {k + 1}/{len(cut)}")
            if retrain or k == 0:
                learner, told = model.copy(), [*callbacks, _Count(bar)]
                learner.fit(*windows(before, past, future, target, ahead), epochs, verbose=0, callbacks=told, **fit)
            bar.update(epochs * (k + 1) - bar.n)
            X, y = windows(after, past, future, target, ahead)
            truths.append(np.asarray(y))
            values.append(learner.predict(X).reshape(-1, future, len(quantiles)))
    truth = np.concatenate(truths)
    forecasts = (Forecasts(truth, each, quantiles) for each in (np.concatenate(values), naive))
    return Backtest(series[:, target], tuple(ends[:-1]), season, origins, *forecasts)


class _Count(Callback):
    """Moves the bar by an epoch."""

    def __init__(self, bar) -> None:
        self._bar = bar

    def on_epoch_end(self, fit) -> None:
        self._bar.update(1)


def _number(name: str, given: int | str, names: Sequence[str], columns: int) -> int:
    """The number of a column that is given by its name or number."""
    if isinstance(given, str):
        if given not in names:
            there = f"a table with the columns {', '.join(map(repr, names))}" if names else "an array, without names"
            raise ValueError(f"{name} is {given!r}, and the series is {there}")
        return names.index(given)
    number = checks.integer(name, given, least=-columns)
    if number >= columns:
        raise ValueError(f"{name} is column {number}, and the series has {columns}, from 0 to {columns - 1}")
    return number


def _checked_cuts(cuts, past: int, end: int) -> list[int]:
    """The cuts, and the instant after the last forecast's first."""
    ends = [checks.integer("a cut", cut, least=past) for cut in cuts]
    if not ends or any(a >= b for a, b in itertools.pairwise(ends)):
        raise ValueError(f"cuts must be instants that increase, one or more; got {list(cuts)!r}")
    if ends[-1] >= end:
        raise ValueError(
            f"the last cut is {ends[-1]}, and the last forecast that the series can check begins at {end - 1}"
        )
    return [*ends, end]
