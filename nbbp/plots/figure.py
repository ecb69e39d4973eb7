"""The common style of figures: size, grid and colours."""

from collections.abc import Sequence

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure

from nbbp.storage import files

# Okabe and Ito, "Color universal design", 2008: told apart with every kind of colour vision
COLORS = ("#0072b2", "#d55e00", "#009e73", "#e69f00", "#cc79a7", "#56b4e9", "#000000")

FEW = 30  # points of a curve below which each is marked
CIRCLES = 20  # about as many on a longer curve
MOST_WITHIN = 4  # entries of a legend that stands within the axes
MOST_BELOW = 20  # entries of a legend below each other


def new_figure(panels: int = 1, width: float = 7.0, height: float = 4.2, rows: int = 1) -> tuple[Figure, Sequence]:
    """A figure of `width` by `height` inches, and its axes from left to right, row after row."""
    figure = Figure(figsize=(width, height), dpi=120, layout="constrained")
    axes = figure.subplots(rows, -(-panels // rows), squeeze=False).ravel()
    for axis in axes[:panels]:
        axis.grid(alpha=0.25, linewidth=0.6)
        axis.set_axisbelow(True)
        axis.spines[["top", "right"]].set_visible(False)
    for axis in axes[panels:]:
        axis.remove()
    return figure, list(axes[:panels])


def shades(count: int) -> Sequence:
    """A colour for each of `count` curves: those of `COLORS`, or from dark to light if they do not suffice."""
    return COLORS[:count] if count <= len(COLORS) else list(mpl.colormaps["viridis"](np.linspace(0, 0.9, count)))


def curve(axis, x, y, held_out: bool = False, **style) -> None:
    """A line with gaps where y is not finite; for held-out rows dashed and with circles, visible on another line too.

    If there are few points, a dot marks each, since a single point has no line.
    """
    y = np.asarray(y, float)
    few = np.isfinite(y).sum() < FEW
    axis.plot(
        x, y, linestyle="--" if held_out else "-", linewidth=1.6, markersize=4,
        marker="o" if few or held_out else "", fillstyle="none" if held_out else "full",
        markevery=1 if few else len(y) // CIRCLES, **style,
    )  # fmt: skip


def legend(axis, **settings) -> None:
    """A legend where it covers no curve: within the axes if it is short, else to their right in a wider figure."""
    count = len(axis.get_legend_handles_labels()[1])
    if count <= MOST_WITHIN:
        axis.legend(frameon=False, **settings)
        return
    beside = axis.legend(
        frameon=False, fontsize="small", loc="upper left", bbox_to_anchor=(1, 1), ncols=-(-count // MOST_BELOW),
        **settings,
    )  # fmt: skip
    figure = axis.figure
    figure.set_figwidth(figure.get_figwidth() + beside.get_window_extent().width / figure.dpi)


def finish(figure: Figure, path) -> Figure:
    """The figure, saved if a path is given."""
    if path is not None:
        with files.writing(path, files.INCOMPLETE):
            figure.savefig(path)
    return figure
