"""What convolutions have learned, and what they make of an image."""

from typing import TYPE_CHECKING, TypeVar

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.ticker import MaxNLocator

from nbbp.engine.evaluator import values
from nbbp.engine.graph import Graph
from nbbp.engine.node import Edge
from nbbp.layers import Activation, Conv2DTranspose
from nbbp.layers.convolution import Convolution
from nbbp.plots.figure import finish, new_figure

if TYPE_CHECKING:
    from nbbp.model import Model

T = TypeVar("T")

COLUMNS = 3  # layers beside each other
WIDTH, LEAST, MOST = 7.5, 2.2, 10.0  # inches: the width of a figure of filters, and its height
GREY = "0.7"  # between filters, whose zeros are white


def filters(model: "Model", layer: int | str = 0, path=None) -> Figure:
    """The weights of a convolution as small images, from blue for negative to red, with one scale for all.

    Of several channels, filters and channels are the rows and columns of a table of images, the more numerous ones
    beside each other. In one dimension each filter is an image, with time to the right and channels downwards.

    Parameters
    ----------
    model : Model
    layer : int or str
        The number of the layer among the convolutions, or its name, such as ``conv2d_0``.
    path : path-like, optional

    Returns
    -------
    matplotlib.figure.Figure
    """
    places = {place.name: place for place in model.network.layout.places if isinstance(place.layer, Convolution)}
    name, place = _chosen("convolution", places, layer)
    w = place.views(model.params).w
    if isinstance(place.layer, Conv2DTranspose):
        w = w.swapaxes(-1, -2)
    *size, channels, count = w.shape
    tiles, columns = _tiles(w)
    high, wide = -(-len(tiles) // columns) * tiles.shape[1], columns * tiles.shape[2]
    in_time = len(size) == 1
    height = 0.25 * high + 1 if in_time else 0.8 * (WIDTH * high / wide + 1)
    figure, (axis,) = new_figure(width=WIDTH, height=float(np.clip(height, LEAST, MOST)))
    largest = float(np.abs(w[np.isfinite(w)]).max(initial=0)) or 1.0
    drawn = _mosaic(
        axis, tiles, columns, GREY, cmap=mpl.colormaps["RdBu_r"].with_extremes(bad=GREY), vmin=-largest, vmax=largest,
        aspect="auto" if in_time else "equal",
    )  # fmt: skip
    if in_time:
        axis.set(xlabel="time", ylabel="filter" if channels == 1 else "channels of each filter")
    elif channels > 1:
        below, beside = sorted([(channels, "channel"), (count, "filter")])
        _number(axis.yaxis, size[0], *below)
        _number(axis.xaxis, size[1], *beside)
    shape = " x ".join(map(str, size))
    axis.set_title(f"{name}: {count} filters of {shape}, {channels} channel{'s' * (channels > 1)}", fontsize="medium")
    figure.colorbar(drawn, label="weight", ax=axis, shrink=0.9)
    return finish(figure, path)


def feature_maps(model: "Model", x, layer: int | str | None = None, path=None) -> Figure:
    """The outputs of layers for one image, a small image for each channel; of a series, time by channels.

    An activation that alone reads a layer's outputs counts as part of the layer: what is drawn follows it. Layers
    behave as in prediction.

    Parameters
    ----------
    model : Model
    x : array_like (*input_shape)
        One sample.
    layer : int or str, optional
        The number of the layer among those whose outputs have positions, or its name, such as ``conv2d_0``; by default
        all of them.
    path : path-like, optional

    Returns
    -------
    matplotlib.figure.Figure
    """
    graph = model.network.graph
    if len(graph.inputs) > 1:
        raise ValueError("feature maps are drawn for models of one input")
    found = _outputs(graph)
    if layer is not None or not found:
        name, one = _chosen("layer whose outputs have positions", found, layer or 0)
        found = {name: one}
    data = model.prepare(np.asarray(x)[np.newaxis])
    arrays = values(model.network, model.backend, [edge for _, edge in found.values()], data)
    rows = -(-len(found) // COLUMNS)
    columns = -(-len(found) // rows)
    figure, axes = new_figure(len(found), 3.8 * columns, 3.4 * rows, rows)
    for axis, (title, edge), (y,) in zip(axes, found.values(), arrays, strict=True):
        *positions, channels = edge.shape
        if len(positions) == 1:
            drawn = axis.imshow(y.T, aspect="auto", interpolation="nearest")
            axis.grid(False)
            axis.set(xlabel="time", ylabel="channel")
            for ticks in (axis.xaxis, axis.yaxis):
                ticks.set_major_locator(MaxNLocator(5, integer=True))
        else:
            tiles = y.transpose(2, 0, 1)
            drawn = _mosaic(axis, tiles, _columns(tiles.shape, 1), "white")
        size = " x ".join(map(str, positions))
        axis.set_title(f"{title}\n{channels} channel{'s' * (channels > 1)} of {size}", fontsize="small")
        figure.colorbar(drawn, ax=axis, shrink=0.9).ax.tick_params(labelsize="small")
    return finish(figure, path)


def _outputs(graph: Graph) -> dict[str, tuple[str, Edge]]:
    """By name of the layer, a title and the edge of its outputs, if these have one or two axes of positions."""
    found, within = {}, set()
    for node in graph.nodes:
        name, edge = graph.names[node], node.outputs[0]
        if node in within or node.spec.view or len(edge.shape) not in (2, 3):
            continue
        readers = graph.consumers.get(edge, [])
        if len(readers) == 1 and isinstance(readers[0].layer, Activation):
            within.add(readers[0])
            found[name] = f"{name}, {readers[0].layer.name}", readers[0].outputs[0]
        else:
            found[name] = name, edge
    return found


def _chosen(kind: str, found: dict[str, T], which: int | str) -> tuple[str, T]:
    """The name and the value of a layer, by number or name."""
    if not found:
        raise ValueError(f"the model has no {kind}")
    names = list(found)
    name = which if isinstance(which, str) else names[which] if which in range(len(names)) else None
    if name not in found:
        raise ValueError(f"layer must be a {kind}: 0 to {len(names) - 1}, or one of {', '.join(names)}; got {which!r}")
    return name, found[name]


def _tiles(w: np.ndarray) -> tuple[np.ndarray, int]:
    """The images (count, height, width) of weights (*size, channels, filters), and in how many columns they stand."""
    *size, channels, count = w.shape
    if len(size) == 1:
        return w.T, 1 if channels == 1 else _columns(w.T.shape, 2)
    table = w.transpose(2, 3, 0, 1) if channels <= count else w.transpose(3, 2, 0, 1)
    tiles = table.reshape(-1, *size)
    return tiles, _columns(tiles.shape, 2) if channels == 1 else table.shape[1]


def _columns(shape: tuple[int, ...], ratio: float) -> int:
    """In how many columns images (count, height, width) fill a rectangle of about this ratio with the fewest gaps."""
    count, height, width = shape
    wanted = np.sqrt(ratio * count * height / width)
    near = range(max(1, min(count, round(0.9 * wanted))), max(1, min(count, int(np.ceil(1.5 * wanted)))) + 1)
    return min(near, key=lambda columns: (-count % columns, abs(columns - wanted)))


def _mosaic(axis, tiles: np.ndarray, columns: int, between: str, **settings) -> AxesImage:
    """Draw images (count, height, width) row by row in one, with lines of a colour between them."""
    count, height, width = tiles.shape
    rows = -(-count // columns)
    filled = np.full((rows * columns, height, width), np.nan)
    filled[:count] = tiles
    table = filled.reshape(rows, columns, height, width).swapaxes(1, 2).reshape(rows * height, columns * width)
    drawn = axis.imshow(table, **settings)
    axis.grid(False)
    axis.spines[:].set_visible(False)
    axis.set(xticks=[], yticks=[])
    line = {"color": between, "linewidth": float(np.clip(30 / max(rows, columns), 0.5, 4))}
    for row in range(1, rows):
        axis.axhline(row * height - 0.5, **line)
    for column in range(1, columns):
        axis.axvline(column * width - 0.5, **line)
    return drawn


def _number(axis, size: int, count: int, label: str) -> None:
    """Number the `count` images of a size along an axis of a mosaic."""
    shown = range(0, count, -(-count // 16))
    axis.set_ticks([k * size + (size - 1) / 2 for k in shown], [str(k) for k in shown])
    axis.set_tick_params(length=0, labelsize="small")
    axis.set_label_text(label)
