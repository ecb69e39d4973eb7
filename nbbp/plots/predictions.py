"""What a model predicts, and where it is wrong."""

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from nbbp import checks
from nbbp.plots.classes import columns, guessed
from nbbp.plots.figure import COLORS, finish, new_figure

if TYPE_CHECKING:
    from nbbp.sequential import Sequential

MARKERS = "os^DvPX*<>"
MOST_CLASSES = 200  # of a matrix, whose figure then is as large as memory allows
GRID = 200  # points along each axis at which the model predicts


def confusion_matrix(y, prediction, names: Sequence[str] | None = None, path=None) -> Figure:
    """The confusion matrix of true classes (rows) and predicted classes (columns): counts, and shares of the row.

    Parameters
    ----------
    y : array_like (rows,) or (rows, classes)
        Labels, or a class for each row, as `fit` takes them.
    prediction : array_like (rows, classes), (rows, 1) or (rows,)
        Probabilities from `Sequential.predict`, where a single column is that of class 1; or predicted labels: one
        column of whole numbers.
    names : sequence of str, optional
        The names of the classes.
    path : path-like, optional

    Returns
    -------
    matplotlib.figure.Figure
    """
    if isinstance(names, str | os.PathLike):
        raise TypeError(f"names must be a list of a name for each class, got {names!r}; a file is path={names!r}")
    names = None if names is None else [str(name) for name in names]
    y, prediction = columns("y", y), columns("prediction", prediction)
    labels = prediction.shape[1] == 1 and bool(np.all(prediction == np.floor(prediction)))
    size = max(2, prediction.shape[1])
    if labels:
        classes = [int(given.max()) + 1 if given.shape[1] == 1 else given.shape[1] for given in (y, prediction)]
        size = max(size, *classes, 0 if names is None else len(names))
    if size > MOST_CLASSES:
        raise ValueError(f"a matrix has room for {MOST_CLASSES} classes, and these would be {size:g}")
    truth = _true(y, len(prediction), size if labels else prediction.shape[1])
    guess = checks.labels("prediction", prediction, size)[:, 0] if labels else guessed(prediction)
    names = [str(k) for k in range(size)] if names is None else names
    if len(names) != size:
        raise ValueError(f"there are {size} classes and {len(names)} names")
    counts = np.bincount(truth * size + guess, minlength=size * size).reshape(size, size)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    side = max(3.6, 0.55 * size)
    figure, (axis,) = new_figure(width=side + 2.0, height=side + 0.8)
    image = axis.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    axis.grid(False)
    font = 10 if size <= 6 else 7
    for (i, j), count in np.ndenumerate(counts):
        if count:
            text = f"{count}\n{shares[i, j]:.0%}"
            axis.text(
                j, i, text, ha="center", va="center", fontsize=font, color="white" if shares[i, j] > 0.5 else "black"
            )
    turned = (
        {"rotation": 45, "ha": "right", "rotation_mode": "anchor"} if max(map(len, names)) * size > 11 * side else {}
    )
    axis.set_xticks(range(size), names, **turned)
    axis.set_yticks(range(size), names)
    right = np.trace(counts) / max(1, counts.sum())
    axis.set(xlabel="predicted class", ylabel="true class", title=f"{right:.1%} of {counts.sum():,} right")
    figure.colorbar(image, label="share of the true class", format=PercentFormatter(1), shrink=0.8)
    return finish(figure, path)


def decision_boundary(model: "Sequential", X, y, path=None) -> Figure:
    """What a model of two features predicts around the data: regions of classes, or contours of its value.

    Parameters
    ----------
    model : Sequential
        A single output from 1/2 on means class 1 if y holds only 0 and 1; otherwise it is a value.
    X : array_like (rows, 2)
    y : array_like (rows,) or (rows, outputs)
    path : path-like, optional

    Returns
    -------
    matplotlib.figure.Figure
    """
    X = checks.features("X", X, np.float64, None)
    if X.ndim != 2 or X.shape[1] != 2:
        raise ValueError(f"a boundary is drawn over two features; X has the shape {X.shape}")
    y = columns("y", y)
    if len(y) != len(X):
        raise ValueError(f"X has {len(X)} rows and y has {len(y)}")
    low, high = X.min(axis=0), X.max(axis=0)
    with np.errstate(all="ignore"):  # values beyond the largest number are refused by predict
        margin = 0.08 * np.where(high > low, high - low, 1)
        first, second = (np.linspace(a, b, GRID) for a, b in zip(low - margin, high + margin, strict=True))
    points = np.stack(np.meshgrid(first, second), axis=-1)
    surface = model.predict(points.reshape(-1, 2))
    figure, (axis,) = new_figure(width=6.4, height=4.8)
    if surface.shape[1] == 1 and not np.isin(y, (0, 1)).all():
        _draw_values(figure, axis, first, second, surface.reshape(GRID, GRID), X, y[:, 0])
    else:
        _draw_classes(axis, first, second, surface, X, y)
    axis.grid(False)
    axis.set(xlabel="feature 0", ylabel="feature 1")
    return finish(figure, path)


def _draw_classes(
    axis, first: np.ndarray, second: np.ndarray, surface: np.ndarray, X: np.ndarray, y: np.ndarray
) -> None:
    """Draw regions in a light colour; the points of a class have the same colour and their own marker."""
    guess, truth = guessed(surface), _true(y, len(X), surface.shape[1])
    size = max(2, surface.shape[1])
    colors = [COLORS[k % len(COLORS)] for k in range(size)]
    regions = guess.reshape(len(second), len(first))
    axis.pcolormesh(
        first,
        second,
        regions,
        cmap=ListedColormap(colors),
        vmin=-0.5,
        vmax=size - 0.5,
        alpha=0.25,
        lw=0,
        rasterized=True,
    )
    for k in range(size):
        of_class, marker = X[truth == k], MARKERS[k % len(MARKERS)]
        axis.scatter(*of_class.T, s=22, color=colors[k], marker=marker, edgecolor="white", linewidth=0.5, label=str(k))
    axis.legend(title="class", loc="upper left", bbox_to_anchor=(1, 1), frameon=False)


def _draw_values(figure, axis, first, second, surface: np.ndarray, X: np.ndarray, y: np.ndarray) -> None:
    """Draw contours of the prediction; the points show their true value in the same colours."""
    levels = MaxNLocator(20).tick_values(min(surface.min(), y.min()), max(surface.max(), y.max()))
    contours = axis.contourf(first, second, surface, levels)
    axis.scatter(*X.T, c=y, s=22, edgecolor="white", linewidth=0.6, vmin=levels[0], vmax=levels[-1])
    figure.colorbar(contours, label="prediction; in the points, the true value")


def _true(y: np.ndarray, rows: int, outputs: int) -> np.ndarray:
    """The class of every row (rows,) of targets (rows, 1) or (rows, outputs)."""
    if len(y) != rows or y.shape[1] not in (1, outputs):
        raise ValueError(f"y {y.shape} has not the form of predictions {(rows, outputs)}")
    if y.shape[1] > 1:
        return y.argmax(axis=1)
    if outputs > 1:
        return checks.labels("y", y, outputs)[:, 0]
    if y.min() < 0 or y.max() > 1:
        raise ValueError(f"y must hold 0 and 1 if one column predicts, got values from {y.min():g} to {y.max():g}")
    return (y[:, 0] >= 0.5).astype(int)
