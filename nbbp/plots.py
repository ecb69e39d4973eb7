"""Every figure. Each function returns a matplotlib Figure, and saves it where a path is given.

Figures are made without pyplot: no display is needed, and no figure stays open behind the user's back.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.figure import Figure

from nbbp.history import History

if TYPE_CHECKING:
    from nbbp.bench.measure import Result
    from nbbp.comparison import Comparison

COLORS = ("#1f5fa8", "#d1495b", "#2a9d62", "#e39b1e", "#7a4fa3", "#5c6770", "#8c5a2b")
RAW_POINTS = 4000  # raw step losses drawn at most; more would only cost time and file size


def _figure(panels: int = 1, width: float = 7.0) -> tuple[Figure, Sequence]:
    figure = Figure(figsize=(width, 4.2), dpi=120, layout="constrained")
    axes = figure.subplots(1, panels, squeeze=False)[0]
    for axis in axes:
        axis.grid(alpha=0.25, linewidth=0.6)
        axis.spines[["top", "right"]].set_visible(False)
    return figure, axes


def _finish(figure: Figure, path) -> Figure:
    if path is not None:
        figure.savefig(path)
    return figure


def smoothed(losses: np.ndarray, window: int) -> np.ndarray:
    """Centred running mean over `window` steps, over fewer at both ends."""
    sums = np.concatenate([[0.0], np.cumsum(losses)])
    middle = np.arange(len(losses))
    begin, end = np.maximum(middle - window // 2, 0), np.minimum(middle + (window + 1) // 2, len(losses))
    return (sums[end] - sums[begin]) / (end - begin)


def _draw_steps(axis, history: History, color: str, label: str) -> None:
    """Raw step losses behind their smoothed line, over epochs."""
    losses = history.step_loss
    if not len(losses):
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
    """
    named = {"training": histories} if isinstance(histories, History) else dict(histories)
    several, metrics = True, []
    if isinstance(histories, History):
        several = False
        metrics = [name for name in histories.epochs if name != "loss" and not name.startswith("val_")]
    figure, axes = _figure(1 + bool(metrics), width=10.5 if metrics else 7.0)
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
    return _finish(figure, path)


def comparison(result: "Comparison", path=None) -> Figure:
    """Loss of every step, compiled and in NumPy, and how far the two are apart.

    Parameters
    ----------
    result : Comparison
        From `nbbp.compare`.
    path : path-like, optional

    Returns
    -------
    matplotlib.figure.Figure
    """
    figure, (curves, difference) = _figure(2, width=10.5)
    steps = np.arange(1, len(result.compiled) + 1)
    curves.plot(steps, result.reference, color=COLORS[1], linewidth=4, alpha=0.45, label="NumPy")
    curves.plot(steps, result.compiled, color=COLORS[0], linewidth=1.2, label="compiled")
    curves.set(xlabel="step", ylabel="loss", title=f"compiled: {result.speedup:.1f} times as fast")
    curves.legend(frameon=False)
    apart = np.abs(result.compiled - result.reference)
    difference.plot(steps, np.where(apart > 0, apart, np.nan), ".", color=COLORS[2], markersize=4)
    difference.set(xlabel="step", ylabel="difference of the losses", title="points missing: equal to the last bit")
    if np.any(apart > 0):
        difference.set_yscale("log")
    return _finish(figure, path)


def benchmark(results: "Sequence[Result]", path=None) -> Figure:
    """How many times nbbp's time each peer takes, workload by workload, on a logarithmic axis.

    Parameters
    ----------
    results : sequence of nbbp.bench.measure.Result
    path : path-like, optional

    Returns
    -------
    matplotlib.figure.Figure
    """
    figure, (axis,) = _figure(width=10.5)
    peers = [peer for peer in dict.fromkeys(p for r in results for p in r.rounds) if peer != "nbbp"]
    width = 0.8 / max(1, len(peers))
    for k, peer in enumerate(peers):
        at = [
            (i + (k - (len(peers) - 1) / 2) * width, r.ratio(peer)) for i, r in enumerate(results) if peer in r.rounds
        ]
        axis.bar([x for x, _ in at], [ratio for _, ratio in at], width, color=COLORS[k % len(COLORS)], label=peer)
    axis.axhline(1, color="black", linewidth=1)
    axis.set_xticks(range(len(results)), [result.workload for result in results], rotation=20)
    axis.set(yscale="log", ylabel="time of a step, nbbp = 1")
    axis.legend(frameon=False, ncols=4)
    return _finish(figure, path)
