"""Losses over time."""

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.figure import Figure
from numpy.lib.stride_tricks import sliding_window_view

from nbbp.plots.figure import COLORS, curve, finish, legend, new_figure, shades

if TYPE_CHECKING:
    from nbbp.training.history import History

GREY = "#808080"  # has a contrast of 4 to white and of 4.5 to a dark theme's background
RATE = "learning_rate"
DECADE = 10  # ratio of the largest learning rate to the smallest from which the axis is logarithmic
SPIKE = 2  # values at most that rise above their neighbours, and lie above the axis if they would stretch it
MOST = 4.0  # times the height of the others
RAW_POINTS = 4000  # raw step losses drawn at most; more would only cost time and file size


def smoothed(losses: np.ndarray, window: int) -> np.ndarray:
    """Centred running mean over `window` steps, over fewer at both ends."""
    sums = np.concatenate([[0.0], np.cumsum(losses)])
    middle = np.arange(len(losses))
    begin, end = np.maximum(middle - window // 2, 0), np.minimum(middle + (window + 1) // 2, len(losses))
    return (sums[end] - sums[begin]) / (end - begin)


def _draw_training(axis, history: "History", color: str, label: str) -> None:
    """Draw the losses of mini-batches behind their smoothed line, or those of epochs if only these are known."""
    epochs, losses = history.curve()
    every = max(1, len(losses) // RAW_POINTS)
    window = max(1, min(history.steps_per_epoch, len(losses) // 20))
    if window > 1:
        axis.plot(epochs[::every], losses[::every], color=color, alpha=0.22, linewidth=0.7)
        losses = smoothed(losses, window)
    curve(axis, epochs[::every], losses[::every], color=color, label=label)


def _draw_epochs(axis, history: "History", name: str, color: str, label: str) -> None:
    """Draw a value that was measured after every epoch, if there is any."""
    values = history.epochs.get(name, ())
    if len(values):
        epochs = np.arange(1, len(values) + 1)
        curve(axis, epochs, values, held_out=name.startswith("val_"), color=color, label=label)


def _limit(axis, histories: "Iterable[History]") -> None:
    """End an axis of losses below single steps or epochs that would take most of it; a curve's beginning is on it."""
    given = [values for h in histories for values in (h.curve()[1], np.array(h.epochs.get("val_loss", ())))]
    drawn = [values for values in (values[np.isfinite(values)] for values in given) if len(values)]
    if not drawn:
        return
    low, high = min(map(np.min, drawn)), max(map(np.max, drawn))
    around = (sliding_window_view(np.pad(values, SPIKE, "edge"), 2 * SPIKE + 1) for values in drawn)
    common = max(np.median(windows, axis=1).max() for windows in around)
    if high - low > MOST * (common - low) > 0:
        axis.set_ylim(top=low + 1.1 * (common - low))


def _over_epochs(axis) -> None:
    axis.set(xlabel="epoch")
    axis.set_xlim(left=0)
    axis.xaxis.get_major_locator().set_params(integer=True)


def loss_curves(histories: "History | Mapping[str, History]", path=None, log: bool = False) -> Figure:
    """Training and validation loss (dashed) over epochs; the losses of mini-batches are behind the smoothed line.

    When one history is drawn, metrics have a panel of their own, and so has a learning rate that
    `nbbp.callbacks.LearningRateLog` recorded.

    Parameters
    ----------
    histories : History, or mapping of label to History
        Several histories are drawn in one plot.
    path : path-like, optional
        Where to save the figure; the suffix gives its format.
    log : bool
        Whether the loss axis is logarithmic.

    Returns
    -------
    matplotlib.figure.Figure

    Examples
    --------
    >>> import nbbp
    >>> X, y = nbbp.datasets.load_digits()
    >>> histories = {}
    >>> for rate in (0.01, 0.1):
    ...     model = nbbp.Sequential([nbbp.Dense(10)], loss="softmax_cross_entropy", optimizer=nbbp.SGD(rate))
    ...     histories[f"rate {rate}"] = model.fit(X, y, epochs=3, verbose=0)
    >>> figure = nbbp.plots.loss_curves(histories, log=True)
    >>> [text.get_text() for text in figure.axes[0].get_legend().get_texts()]
    ['rate 0.01', 'rate 0.1']
    """
    if not isinstance(histories, Mapping):
        return finish(_curves_of_one(histories, log), path)
    figure, (axis,) = new_figure()
    for (label, history), color in zip(histories.items(), shades(len(histories)), strict=True):
        _draw_training(axis, history, color, label)
        _draw_epochs(axis, history, "val_loss", color, "")
    axis.set(ylabel="loss", yscale="log" if log else "linear")
    _limit(axis, histories.values())
    _over_epochs(axis)
    held_out = any("val_loss" in history for history in histories.values())
    legend(axis, title="dashed: validation" if held_out else None, title_fontsize="small")
    return finish(figure, path)


def _curves_of_one(history: "History", log: bool) -> Figure:
    recorded = dict.fromkeys(name.removeprefix("val_") for name in history.epochs)
    metrics = [name for name in recorded if name not in ("loss", RATE)]
    panels = 1 + bool(metrics) + (RATE in recorded)
    figure, (losses, *others) = new_figure(panels, width=7.0 if panels == 1 else 5.25 * panels)
    _draw_training(losses, history, COLORS[0], "training")
    _draw_epochs(losses, history, "val_loss", COLORS[0], "validation")
    losses.set(ylabel="loss", yscale="log" if log else "linear")
    _limit(losses, [history])
    for metric, color in zip(metrics, shades(len(metrics)), strict=True):
        _draw_epochs(others[0], history, metric, color, metric)
        _draw_epochs(others[0], history, f"val_{metric}", color, f"validation {metric}")
        others[0].set(ylabel=", ".join(metrics))
    if RATE in recorded:
        rates = np.array(history[RATE])
        _draw_epochs(others[-1], history, RATE, COLORS[0], "learning rate")
        decades = 0 < DECADE * np.nanmin(rates) <= np.nanmax(rates)
        others[-1].set(ylabel="learning rate", yscale="log" if decades else "linear")
    for axis in (losses, *others):
        _over_epochs(axis)
    for axis in (losses, *others[: bool(metrics)]):
        legend(axis)
    return figure


def small_curve(history: "History") -> Figure:
    """Training and validation loss with grey text on any background, for notebooks with light and dark themes."""
    figure, (axis,) = new_figure(width=5.0, height=2.0)
    _draw_training(axis, history, COLORS[0], "training")
    _draw_epochs(axis, history, "val_loss", COLORS[0], "validation")
    axis.set(ylabel="loss")
    _over_epochs(axis)
    axis.tick_params(colors=GREY)
    for text in (axis.xaxis.label, axis.yaxis.label):
        text.set_color(GREY)
    axis.spines[:].set_color(GREY)
    legend(axis, labelcolor=GREY)
    return figure


def learning_rate(rates: np.ndarray, losses: np.ndarray, chosen: float, path=None) -> Figure:
    """Loss against learning rate, and the rate that was chosen.

    Smith, "Cyclical learning rates for training neural networks", 2017, section 3.3: the loss falls fastest at a good
    rate and rises beyond it. The axis of losses ends where they explode.

    Parameters
    ----------
    rates : array_like (steps,)
        The learning rates, in ascending order.
    losses : array_like (steps,)
        The losses; those that are not finite are left out.
    chosen : float
    path : path-like, optional

    Returns
    -------
    matplotlib.figure.Figure
    """
    rates, losses = np.asarray(rates, float), np.asarray(losses, float)
    figure, (axis,) = new_figure()
    axis.plot(rates, np.where(np.isfinite(losses), losses, np.nan), color=COLORS[0], linewidth=1.6)
    axis.axvline(chosen, color=COLORS[1], linewidth=1.4, linestyle="--", label=f"chosen: {chosen:.2g}")
    seen = losses[np.isfinite(losses)]
    if len(seen):
        low, start = seen.min(), seen[: max(1, len(seen) // 20)].mean()
        span = max(start - low, 0.1 * abs(start)) or 1.0
        axis.set_ylim(low - 0.1 * span, min(seen.max(), start + span) + 0.1 * span)
    axis.set(xscale="log", xlabel="learning rate", ylabel="loss")
    axis.legend(frameon=False)
    return finish(figure, path)
