"""Losses over time."""

from collections.abc import Mapping

import numpy as np
from matplotlib.figure import Figure

from nbbp.plots.figure import COLORS, finish, new_figure
from nbbp.training.history import History

GREY = "#808080"  # has a contrast of 4 to white and of 4.5 to a dark theme's ground
RAW_POINTS = 4000  # raw step losses drawn at most; more would only cost time and file size


def smoothed(losses: np.ndarray, window: int) -> np.ndarray:
    """Centred running mean over `window` steps, over fewer at both ends."""
    sums = np.concatenate([[0.0], np.cumsum(losses)])
    middle = np.arange(len(losses))
    begin, end = np.maximum(middle - window // 2, 0), np.minimum(middle + (window + 1) // 2, len(losses))
    return (sums[end] - sums[begin]) / (end - begin)


def _draw_steps(axis, history: History, color: str, label: str) -> None:
    """Raw step losses behind their smoothed line, over epochs; the epochs' losses where steps are not known."""
    losses = history.step_loss
    if not len(losses):
        if len(history):
            axis.plot(np.arange(1, len(history) + 1), history["loss"], color=color, linewidth=1.6, label=label)
        return
    epochs = (np.arange(len(losses)) + 0.5) / history.steps_per_epoch
    every = max(1, len(losses) // RAW_POINTS)
    window = max(1, min(history.steps_per_epoch, len(losses) // 20))
    if window > 1:
        axis.plot(epochs[::every], losses[::every], color=color, alpha=0.22, linewidth=0.7)
    axis.plot(epochs[::every], smoothed(losses, window)[::every], color=color, linewidth=1.6, label=label)


def loss_curves(histories: History | Mapping[str, History], path=None, log: bool = False) -> Figure:
    """Training and validation loss over epochs; raw step losses stand behind the smoothed line.

    Metrics have a panel of their own when one history is drawn.

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
    named = {"training": histories} if isinstance(histories, History) else dict(histories)
    several, metrics = True, []
    if isinstance(histories, History):
        several = False
        metrics = [name for name in histories.epochs if name != "loss" and not name.startswith("val_")]
    figure, axes = new_figure(1 + bool(metrics), width=10.5 if metrics else 7.0)
    for i, (label, history) in enumerate(named.items()):
        color = COLORS[i % len(COLORS)]
        _draw_steps(axes[0], history, color, label)
        if "val_loss" in history:
            values = history["val_loss"]
            line = axes[0].plot(np.arange(1, len(values) + 1), values, linewidth=1.6)[0]
            line.set(color=color if several else COLORS[1], linestyle="--" if several else "-")
            line.set_label(f"{label}, validation" if several else "validation")
    axes[0].set(xlabel="epoch", ylabel="loss", yscale="log" if log else "linear")
    axes[0].set_xlim(left=0)
    axes[0].legend(frameon=False)
    for i, metric in enumerate(metrics):
        for name, style in ((metric, "-"), (f"val_{metric}", "--")):
            if name in named["training"]:
                values = named["training"][name]
                label = name.replace("val_", "validation ")
                axes[1].plot(np.arange(1, len(values) + 1), values, style, color=COLORS[i], label=label)
        axes[1].set(xlabel="epoch", ylabel=", ".join(metrics))
        axes[1].legend(frameon=False)
    for axis in axes:
        axis.set_xlim(left=0)
        axis.xaxis.get_major_locator().set_params(integer=True)
    return finish(figure, path)


def small_curve(history: History) -> Figure:
    """Training and validation loss in grey letters on any ground, for notebooks with light and with dark themes."""
    figure, (axis,) = new_figure(width=5.0, height=2.0)
    _draw_steps(axis, history, COLORS[0], "training")
    if "val_loss" in history:
        values = history["val_loss"]
        axis.plot(np.arange(1, len(values) + 1), values, color=COLORS[1], linewidth=1.6, label="validation")
    axis.set(xlabel="epoch", ylabel="loss")
    axis.set_xlim(left=0)
    axis.xaxis.get_major_locator().set_params(integer=True)
    axis.tick_params(colors=GREY)
    for text in (axis.xaxis.label, axis.yaxis.label):
        text.set_color(GREY)
    axis.spines[:].set_color(GREY)
    axis.legend(frameon=False, labelcolor=GREY)
    return figure


def learning_rate(rates: np.ndarray, losses: np.ndarray, chosen: float, path=None) -> Figure:
    """Loss against the learning rate that led to it, and the rate that was chosen.

    Smith, "Cyclical learning rates for training neural networks", 2017, section 3.3: the loss falls fastest at a good
    rate and rises beyond it. The axis of losses ends where they explode.

    Parameters
    ----------
    rates : array_like (steps,)
        Rising.
    losses : array_like (steps,)
        Those that are not finite are left out.
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
