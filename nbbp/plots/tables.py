"""Predictions beside what was true, and beside the values of one column."""

import datetime
from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from nbbp import checks
from nbbp.plots.classes import columns, labels
from nbbp.plots.figure import COLORS, finish, legend, new_figure, shades

WIDTH, HEIGHT = 4.6, 3.2
ROWS_OF_BIN = 10  # least rows of a point of a reliability diagram
MOST_BINS = 10
MOST_POINTS = 1000  # of a scatter plot; more would only cost time and file size
LONG = 18  # letters of a category


def reliability(y, prediction, path=None) -> Figure:
    """How often predictions are right, against how probable they call themselves: a calibrated model's are on the line.

    Of two classes, the frequency of class 1 against its probability; of more, how often the most probable class is the
    true one (Guo, Pleiss, Sun and Weinberger, "On calibration of modern neural networks", 2017). Each point is of about
    as many rows, with its 95 % interval (Wilson). The title has the expected calibration error, the mean distance.

    Parameters
    ----------
    y : array_like (rows,)
        Labels.
    prediction : array_like (rows, classes) or (rows, 1)
        Probabilities; a single column is that of class 1.
    path : path-like, optional

    Returns
    -------
    matplotlib.figure.Figure
    """
    prediction = columns("prediction", prediction)
    classes = max(2, prediction.shape[1])
    truth = labels("y", y, len(prediction), classes)
    if classes == 2:
        probability, right = prediction[:, -1], truth == 1
        names = {"xlabel": "predicted probability", "ylabel": "observed frequency"}
    else:
        probability, right = prediction.max(axis=1), prediction.argmax(axis=1) == truth
        names = {"xlabel": "probability of the predicted class", "ylabel": "share that is right"}
    bins = np.array_split(np.argsort(probability, kind="stable"), np.clip(len(truth) // ROWS_OF_BIN, 1, MOST_BINS))
    n = np.array([len(rows) for rows in bins])
    said, seen = (np.array([values[rows].mean() for rows in bins]) for values in (probability, right))
    low, high = _wilson(seen, n)
    figure, (axis,) = new_figure(width=WIDTH, height=HEIGHT)
    axis.plot([0, 1], [0, 1], color="#808080", linewidth=1, linestyle=":")
    axis.errorbar(
        said, seen, [np.maximum(seen - low, 0), np.maximum(high - seen, 0)], color=COLORS[0], marker="o", markersize=4,
        linewidth=1.6, elinewidth=1, capsize=2,
    )  # fmt: skip
    error = float(np.sum(n * np.abs(said - seen)) / n.sum())
    axis.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), title=f"expected calibration error {error:.3f}", **names)
    for side in (axis.xaxis, axis.yaxis):
        side.set_major_formatter(PercentFormatter(1))
    return finish(figure, path)


def _wilson(share: np.ndarray, n: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The 95 % interval of a share of n (Wilson, 1927)."""
    z = 1.96
    middle, spread = share + z * z / (2 * n), z * np.sqrt(share * (1 - share) / n + (z / (2 * n)) ** 2)
    return (middle - spread) / (1 + z * z / n), (middle + spread) / (1 + z * z / n)


def predicted_and_true(y, prediction, path=None) -> Figure:
    """True values against predicted ones; those of a perfect model are on the line.

    Parameters
    ----------
    y, prediction : array_like (rows,)
        Of many rows, some are drawn, the same in every call.
    path : path-like, optional

    Returns
    -------
    matplotlib.figure.Figure
    """
    y, prediction = _values(y, prediction)
    figure, (axis,) = new_figure(width=WIDTH, height=HEIGHT)
    ends = [min(y.min(), prediction.min()), max(y.max(), prediction.max())]
    axis.plot(ends, ends, color="#808080", linewidth=1, linestyle=":")
    _scatter(axis, prediction, y)
    axis.set(xlabel="predicted", ylabel="true")
    return finish(figure, path)


def residuals(y, prediction, path=None) -> Figure:
    """What predictions lack, y - prediction, against the prediction, and how often each residual occurs.

    Parameters
    ----------
    y, prediction : array_like (rows,)
        Of many rows, some are drawn, the same in every call; the histogram is of all.
    path : path-like, optional

    Returns
    -------
    matplotlib.figure.Figure
    """
    y, prediction = _values(y, prediction)
    lacking = y - prediction
    figure, (points, counts) = new_figure(2, WIDTH, HEIGHT)
    grid = figure.add_gridspec(1, 2, width_ratios=(3, 1))
    points.set_subplotspec(grid[0])
    counts.set_subplotspec(grid[1])
    points.axhline(0, color="#808080", linewidth=1, linestyle=":")
    _scatter(points, prediction, lacking)
    points.set(xlabel="predicted", ylabel="true - predicted")
    points.xaxis.set_major_locator(MaxNLocator(4))
    counts.hist(lacking, bins=min(40, max(8, len(y) // 10)), orientation="horizontal", color=COLORS[0], alpha=0.7)
    counts.set(xlabel="rows", ylim=points.get_ylim())
    counts.tick_params(labelleft=False)
    counts.xaxis.set_major_locator(MaxNLocator(2, integer=True))
    return finish(figure, path)


def dependence(values: Sequence, prediction, names: Sequence[str] | None = None, limits=None, path=None) -> Figure:
    """Predictions against the values of one column, as `nbbp.insight.columns.partial_dependence` returns them.

    Parameters
    ----------
    values : sequence of float, of datetime, or of str or None
        Categories are drawn one below the other; None are missing values.
    prediction : array_like (values, outputs)
    names : sequence of str, optional
        Of the outputs, for a legend.
    limits : (float, float), optional
        The ends of the axis of predictions, for figures that are compared.
    path : path-like, optional

    Returns
    -------
    matplotlib.figure.Figure
    """
    given = checks.array("prediction", prediction).reshape(len(values), -1)
    categories = all(value is None or isinstance(value, str) for value in values)
    figure, (axis,) = new_figure(width=WIDTH, height=max(2.0, 0.9 + 0.19 * len(values)) if categories else 2.6)
    titles = [""] * given.shape[1] if names is None else [_plain(name) for name in names]
    for curve, title, color in zip(given.T, titles, shades(given.shape[1]), strict=True):
        if categories:
            axis.plot(curve, np.arange(len(values)), "o", color=color, label=title, markersize=5)
        else:
            axis.plot(values, curve, color=color, label=title, linewidth=1.6, marker="o", markersize=3)
    if categories:
        texts = ["(missing)" if value is None else _plain(value) for value in values]
        axis.set_yticks(range(len(values)), texts)
        axis.set_ylim(len(values) - 0.5, -0.5)
        axis.xaxis.set_major_locator(MaxNLocator(5))
    elif isinstance(values[0], datetime.date):
        axis.tick_params(axis="x", rotation=30)
    else:
        axis.xaxis.set_major_locator(MaxNLocator(5))
    if limits is not None:
        (axis.set_xlim if categories else axis.set_ylim)(*limits)
    if names is not None:
        legend(axis)
    return finish(figure, path)


def _plain(name: str) -> str:
    """A name of the user's, shortened in its middle, whose dollars are no formulas."""
    short = name if len(name) <= LONG else f"{name[: LONG // 2]}…{name[-LONG // 2 + 1 :]}"
    return short.replace("$", r"\$")


def _values(y, prediction) -> tuple[np.ndarray, np.ndarray]:
    y, prediction = columns("y", y), columns("prediction", prediction)
    if y.shape != prediction.shape or y.shape[1] != 1:
        raise ValueError(f"y {y.shape} and prediction {prediction.shape} must have one value for each row")
    return y[:, 0], prediction[:, 0]


def _scatter(axis, x: np.ndarray, y: np.ndarray) -> None:
    if len(x) > MOST_POINTS:
        rows = np.random.default_rng(0).choice(len(x), MOST_POINTS, replace=False)
        x, y = x[rows], y[rows]
    axis.plot(x, y, "o", color=COLORS[0], markersize=3.5, alpha=0.5, markeredgewidth=0)
