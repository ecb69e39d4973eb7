"""What all figures share: size, grid and colours."""

from collections.abc import Sequence

from matplotlib.figure import Figure

from nbbp import files

# Okabe and Ito, "Color universal design", 2008: told apart with every kind of colour vision
COLORS = ("#0072b2", "#d55e00", "#009e73", "#e69f00", "#cc79a7", "#56b4e9", "#000000")


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


def finish(figure: Figure, path) -> Figure:
    """The figure, saved where a path is given."""
    if path is not None:
        with files.writing(path, files.INCOMPLETE):
            figure.savefig(path)
    return figure
