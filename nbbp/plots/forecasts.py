"""Forecasts with their intervals, and their errors by the instants ahead."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.figure import Figure

from nbbp import checks
from nbbp.plots.figure import COLORS, curve, finish, legend, new_figure

if TYPE_CHECKING:
    from nbbp.recipes.backtesting import Backtest

PAST = 3  # of a backtest's fan, in lengths of the future


def draw_fan(axis, past, forecast, quantiles: Sequence[float] = (0.5,), truth=None) -> None:
    """Draw a fan on an axis; the arguments are those of `fan`. The last known instant is 0."""
    levels = checks.quantiles(quantiles)
    past, forecast = checks.array("past", past), checks.array("forecast", forecast)
    forecast = forecast.reshape(len(forecast), -1)
    if past.ndim != 1 or forecast.shape[1] != len(levels):
        raise ValueError(
            f"fan takes past (time,) and forecast (future, {len(levels)}), a column for each quantile; got "
            f"{past.shape} and {forecast.shape}"
        )
    ahead = np.arange(len(forecast) + 1)
    fan = np.concatenate([np.full((1, len(levels)), past[-1]), forecast])  # opens at the last known value
    pairs = len(levels) // 2
    for k in range(pairs):
        low, high = levels[k], levels[-1 - k]
        axis.fill_between(
            ahead, fan[:, k], fan[:, -1 - k], color=COLORS[0], alpha=0.16 + 0.12 * k, linewidth=0,
            label=f"{high - low:.0%} interval",
        )  # fmt: skip
    axis.plot(np.arange(1 - len(past), 1), past, color="0.35", linewidth=1.4, label="past")
    if len(levels) % 2:
        name = "median" if levels[pairs] == 0.5 else f"quantile {levels[pairs]:g}"
        axis.plot(ahead, fan[:, pairs], color=COLORS[0], linewidth=2, label=name if pairs else "forecast")
    if truth is not None:
        axis.plot(
            ahead, [past[-1], *truth], color=COLORS[-1], linestyle="--", linewidth=1.2, marker="o", markersize=4,
            fillstyle="none", markevery=slice(1, None), label="truth",
        )  # fmt: skip
    axis.margins(x=0.01)


def fan(past, forecast, quantiles: Sequence[float] = (0.5,), truth=None, path=None) -> Figure:
    """A fan chart: the recent past, and intervals that widen around the median of what is to come.

    Parameters
    ----------
    past : array_like (time,)
        The last known values.
    forecast : array_like (future, quantiles)
    quantiles : sequence of float
        The levels of the columns, increasing. The first and the last bound the widest interval, the second and the last
        but one the next, and so on; the one in the middle is a line.
    truth : array_like (future,), optional
        What came.
    path : path-like, optional

    Returns
    -------
    matplotlib.figure.Figure
    """
    figure, (axis,) = new_figure()
    draw_fan(axis, past, forecast, quantiles, truth)
    axis.set(xlabel="instants after the last known")
    legend(axis)
    return finish(figure, path)


def draw_errors(axis, result: "Backtest", error: str, label: str) -> None:
    """Draw one kind of error, such as "mae", on an axis: of the model and of the naive forecast, by instants ahead."""
    for name, forecasts, color in (("model", result.model, COLORS[0]), ("seasonal naive", result.naive, COLORS[1])):
        values = getattr(forecasts, error)
        curve(axis, np.arange(1, len(values) + 1), values, color=color, label=name)
    if error == "coverage":
        axis.axhline(result.model.nominal, color="0.35", linestyle=":", linewidth=1.4, label="nominal")
        axis.set_ylim(min(axis.get_ylim()[0], result.model.nominal - 0.1), 1)
    else:
        axis.set_ylim(bottom=0)
    axis.xaxis.get_major_locator().set_params(integer=True)
    axis.set(xlabel="instants ahead", title=label)
    axis.legend(frameon=False)


def backtest(result: "Backtest", path=None) -> Figure:
    """Three forecasts of a backtest as fans, and below them the errors by the instants ahead.

    Parameters
    ----------
    result : Backtest
        From `nbbp.recipes.backtest`.
    path : path-like, optional

    Returns
    -------
    matplotlib.figure.Figure
    """
    intervals = len(result.model.quantiles) > 1
    figure, axes = new_figure(6, width=12.0, height=7.0, rows=2)
    shown = np.linspace(0, len(result.origins) - 1, 5).astype(int)[1:4]
    past = PAST * result.model.truth.shape[1]
    for axis, row in zip(axes, shown, strict=False):
        origin = result.origins[row]
        known = result.series[max(0, origin - past) : origin]
        draw_fan(axis, known, result.model.values[row], result.model.quantiles, result.model.truth[row])
        axis.set(xlabel="instants after the last known", title=f"from instant {origin:,}")
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=len(labels), frameon=False)
    errors = (("mae", "mean absolute error"), ("pinball", "pinball loss"), ("coverage", "coverage"))
    for axis, (error, label) in zip(axes[3:], errors, strict=True):
        if intervals or error == "mae":
            draw_errors(axis, result, error, label)
        else:
            axis.remove()
    return finish(figure, path)
