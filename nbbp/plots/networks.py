"""Gradients and weights of a network, layer by layer."""

from typing import TYPE_CHECKING, cast

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure

from nbbp.insight.norms import by_layer, norms
from nbbp.plots.figure import COLORS, curve, finish, legend, new_figure

if TYPE_CHECKING:
    from nbbp.sequential import Sequential
    from nbbp.training.history import History

BINS = 40
COLUMNS = 4  # panels in a row


def gradient_flow(source: "History | Sequential", path=None) -> Figure:
    """The norm of every layer's gradient, logarithmic: over a history's steps, or as bars of a model's last gradient.

    A layer's norm is that of all its parameters together. Norms that fall by orders of magnitude from the output to
    the input indicate a vanishing gradient (Glorot and Bengio, "Understanding the difficulty of training deep
    feedforward neural networks", 2010).

    Parameters
    ----------
    source : History or Sequential
        A history with records of `nbbp.Inspect`, or a trained model.
    path : path-like, optional

    Returns
    -------
    matplotlib.figure.Figure
    """
    if hasattr(source, "inspected"):
        return _flow_over_steps(cast("History", source), path)
    layers = by_layer(norms(source.network.layout.named(source.grads)))
    figure, (axis,) = new_figure(width=max(7.0, 0.4 * len(layers)))
    sizes = np.array(list(layers.values()), float)
    axis.bar(range(len(layers)), sizes, 0.7, color=COLORS[0])
    turned = {"rotation": 30, "ha": "right", "rotation_mode": "anchor"} if len(layers) > 6 else {}
    axis.set_xticks(range(len(layers)), list(layers), **turned)
    axis.set(xlabel="layer, from input to output", ylabel="norm of the gradient")
    if np.any(sizes > 0):
        axis.set_yscale("log")
        low, high = np.log10([sizes[sizes > 0].min() / 2, sizes.max()])
        axis.set_ylim(10 ** np.floor(low), 10 ** np.ceil(high))
    return finish(figure, path)


def _flow_over_steps(history: "History", path) -> Figure:
    if not history.inspected:
        raise ValueError("the history has no gradients: fit with callbacks=[nbbp.Inspect(every=...)] for some steps")
    layers = by_layer(history.inspected.gradients)
    figure, (axis,) = new_figure()
    colors = mpl.colormaps["viridis"](np.linspace(0, 0.9, len(layers)))
    for (name, sizes), color in zip(layers.items(), colors, strict=True):
        curve(axis, history.inspected.steps, np.where(sizes > 0, sizes, np.nan), color=color, label=name)
    axis.set(xlabel="step", ylabel="norm of the gradient", yscale="log")
    legend(axis, title="from input\nto output", title_fontsize="small")
    return finish(figure, path)


def weights(model: "Sequential", path=None) -> Figure:
    """A histogram of each layer's weights, without biases and other vectors.

    Parameters
    ----------
    model : Sequential
    path : path-like, optional

    Returns
    -------
    matplotlib.figure.Figure
    """
    matrices = {name: w.ravel() for name, w in model.named_params().items() if w.ndim > 1}
    if not matrices:
        raise ValueError("the model has no layer with weights")
    columns = min(COLUMNS, len(matrices))
    rows = -(-len(matrices) // columns)
    figure, axes = new_figure(len(matrices), max(4.5, 2.6 * columns), 0.6 + 2.3 * rows, rows)
    for axis, (name, w) in zip(axes, matrices.items(), strict=True):
        axis.hist(w[np.isfinite(w)], BINS, color=COLORS[0])
        axis.set_title(f"{name}\nstandard deviation {w.std():.2g}", fontsize="small")
        axis.tick_params(labelsize="small")
        axis.locator_params(nbins=4)
    figure.supxlabel("weight", fontsize="medium")
    figure.supylabel("number of weights", fontsize="medium")
    return finish(figure, path)
