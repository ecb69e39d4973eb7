"""Compiled against NumPy, and nbbp against others."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullLocator, StrMethodFormatter

from nbbp.plots.figure import COLORS, finish, new_figure

if TYPE_CHECKING:
    from nbbp.bench.measure import Result
    from nbbp.bench.tables import Summary
    from nbbp.insight.comparison import Comparison


def comparison(result: "Comparison", path=None) -> Figure:
    """The loss of every step, compiled and in NumPy, and their difference.

    Parameters
    ----------
    result : Comparison
        The result of `nbbp.compare`.
    path : path-like, optional

    Returns
    -------
    matplotlib.figure.Figure
    """
    figure, (curves, difference) = new_figure(2, width=10.5)
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
    return finish(figure, path)


def benchmark(results: "Sequence[Result]", path=None) -> Figure:
    """Each peer's time relative to nbbp's, workload by workload, on a logarithmic axis.

    Parameters
    ----------
    results : sequence of nbbp.bench.measure.Result
    path : path-like, optional

    Returns
    -------
    matplotlib.figure.Figure
    """
    figure, (axis,) = new_figure(width=10.5)
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
    return finish(figure, path)


def errors_and_seconds(summaries: "Sequence[Summary]", path=None) -> Figure:
    """Each estimator's error on real tables against its time, on a logarithmic axis; nbbp's in another colour.

    Parameters
    ----------
    summaries : sequence of nbbp.bench.tables.Summary
    path : path-like, optional

    Returns
    -------
    matplotlib.figure.Figure
    """
    figure, (axis,) = new_figure(width=8.5, height=4.6)
    for each in summaries:
        ours = each.peer.startswith("nbbp")
        axis.plot(each.seconds, each.error, "o" if ours else "s", color=COLORS[0 if ours else 1], markersize=7)
        axis.annotate(
            each.peer, (each.seconds, each.error), (0, 7), textcoords="offset points", ha="center",
            fontsize="small", fontweight="bold" if ours else "normal",
        )  # fmt: skip
    axis.axhline(1, color="black", linewidth=0.8)
    axis.set(xscale="log", xlabel="seconds for all tables", ylabel="error, HistGradientBoosting = 1")
    axis.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axis.xaxis.set_minor_locator(NullLocator())
    axis.margins(x=0.2, y=0.1)
    return finish(figure, path)
