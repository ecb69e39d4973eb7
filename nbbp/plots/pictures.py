"""Images with their classes, and what a model sees in them."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.figure import Figure

from nbbp import checks
from nbbp.engine.graph import Graph
from nbbp.engine.node import Shape
from nbbp.engine.passes import Passes
from nbbp.kernels import arrays
from nbbp.plots.classes import labels
from nbbp.plots.figure import COLORS, finish, new_figure

if TYPE_CHECKING:
    from nbbp.model import Model

WRONG = COLORS[1]
SIDE, LETTER, LINE = 1.1, 0.085, 0.2  # inches of the side of an image at least, and of a letter and a line of text
LEAST = 3.9  # inches of the width of a figure: its title has room
MOST_IMAGES = 200  # of a figure
PAIRS = 4  # of an image and its saliency beside each other


def images(X, y=None, predicted=None, names: Sequence[str] | None = None, count: int = 25, path=None) -> Figure:
    """Images with their true classes above, and the predicted ones below where they differ, in orange.

    Parameters
    ----------
    X : array_like (rows, height, width), (rows, height, width, 1) or (rows, height, width, 3)
        Bytes, or floats from 0 to 1; other floats are drawn from the smallest to the largest among them.
    y : array_like (rows,) or (rows, classes), optional
        Labels, or a class for each row, as `fit` takes them.
    predicted : array_like (rows, classes), (rows, 1) or (rows,), optional
        Probabilities from `Model.predict`, or predicted labels. Without y, they are above the images.
    names : sequence of str, optional
        The names of the classes.
    count : int
        The number of images that are drawn, the first of X.
    path : path-like, optional

    Returns
    -------
    matplotlib.figure.Figure
    """
    pictures = _pictures("X", X)
    classes = None if names is None else len(names)
    truth, guess = (
        None if given is None else labels(name, given, len(pictures), classes)
        for name, given in (("y", y), ("predicted", predicted))
    )
    pictures = pictures[: checks.positive_integer("count", count)]
    _check_number(len(pictures))
    above = truth if truth is not None else guess
    text = [""] * len(pictures) if above is None else [_name(k, names) for k in above[: len(pictures)]]
    below = [""] * len(pictures)
    if truth is not None and guess is not None:
        below = ["" if a == b else _name(b, names) for a, b in zip(truth, guess, strict=True)][: len(pictures)]
    side = max(SIDE, LETTER * max(map(len, (*text, *below))))
    figure, axes = _grid(pictures, int(np.ceil(np.sqrt(len(pictures)))), side, lines=1 + any(below))
    for axis, picture, name, wrong in zip(axes, pictures, text, below, strict=True):
        _draw(axis, picture)
        axis.set_title(name, fontsize="small", pad=2)
        axis.set_xlabel(wrong, fontsize="small", color=WRONG, labelpad=2)
    if truth is not None and guess is not None:
        wrong = "; wrong predictions are orange" if any(below) else ""
        figure.suptitle(f"{below.count('')} of {len(pictures)} right{wrong}", fontsize="medium")
    return finish(figure, path)


def saliency(model: "Model", X, y=None, path=None) -> Figure:
    """For each image, how much the output of its class, before the activation, changes with each pixel.

    This is the size of the gradient, its largest among the channels; each map has a scale of its own, from black for 0.
    Simonyan, Vedaldi and Zisserman, "Deep inside convolutional networks: visualising image classification models and
    saliency maps", 2014, section 3. Layers behave as in prediction.

    Parameters
    ----------
    model : Model
        A classifier of one input: images, or features that a `Reshape` makes images of.
    X : array_like (rows, *input_shape)
        All images are drawn: choose some.
    y : array_like (rows,) or (rows, classes), optional
        The classes; by default those that the model predicts.
    path : path-like, optional

    Returns
    -------
    matplotlib.figure.Figure
    """
    graph = model.network.graph
    if len(graph.inputs) > 1 or len(graph.outputs) > 1 or len(graph.outputs[0].shape) > 1:
        raise ValueError("saliency takes a model of one input, with one output for each class")
    data = model.prepare(X)
    _check_number(data.rows)
    pictures = _pictures("X", data.inputs[0].reshape(data.rows, *_image_shape(graph)))
    passes = Passes(model.network, arrays.zeros(len(model.grads), model.dtype), model.backend, data.rows, False)
    passes.inputs[0][:] = data.inputs[0]
    passes.forward.once()
    z, slope, dx = passes.outputs[0], passes.slopes[0], passes.input_slopes[0]
    if dx is None:
        raise TypeError("the inputs are integers, and outputs have no gradient with respect to them")
    classes = z.shape[1]
    if y is None:
        chosen = z.argmax(axis=1) if classes > 1 else (z[:, 0] > 0).astype(int)
    else:
        chosen = labels("y", y, data.rows, max(2, classes))
    slope[:] = np.arange(classes) == chosen[:, np.newaxis] if classes > 1 else 1
    passes.backward(add=False).once()
    maps = np.abs(dx).reshape(*pictures.shape[:3], -1).max(axis=3)
    width = maps.shape[2]
    figure, axes = _grid(maps, min(PAIRS, data.rows), SIDE, beside=2)
    for axis, picture, slopes, label in zip(axes, pictures, maps, chosen, strict=True):
        _draw(axis, picture)
        _draw(axis, slopes / (slopes.max() or 1), cmap="inferno", begin=1.05 * width)
        axis.set_xlim(-0.5, 2.05 * width - 0.5)
        axis.set_title(f"class {label}", fontsize="small", pad=2)
    figure.suptitle("image, and gradient of its class's output", fontsize="medium")
    return finish(figure, path)


def _grid(pictures: np.ndarray, columns: int, side: float, lines: int = 1, beside: int = 1) -> tuple[Figure, Sequence]:
    """A figure and axes for images (count, height, width, ...) of a side in inches, with lines of text at each.

    There are some `beside` each other in each of the axes.
    """
    count, height, width = pictures.shape[:3]
    rows = -(-count // columns)
    columns = -(-count // rows)
    across = max(LEAST, 1.1 * beside * side * columns)
    tall = across / columns / beside * min(height / width, 4)
    return new_figure(count, across, 2 * LINE + (tall + lines * LINE) * rows, rows)


def _pictures(name: str, X) -> np.ndarray:
    """The images (rows, height, width) or (rows, height, width, 3), as bytes or as floats from 0 to 1."""
    given = checks.array(name, X)
    checks.finite(name, given, given)
    if given.ndim == 4 and given.shape[3] == 1:
        given = given[..., 0]
    if given.ndim != 3 and (given.ndim != 4 or given.shape[3] != 3):
        raise ValueError(
            f"{name} must be images (rows, height, width), or with 1 or 3 channels (rows, height, width, channels); "
            f"got {given.shape}: {name}.reshape(-1, height, width) makes images of flat rows"
        )
    low, high = given.min(), given.max()
    if given.dtype == np.uint8 or (low >= 0 and high <= 1):
        return given
    return (given.astype(float) - low) / (float(high) - low or 1)


def _check_number(count: int) -> None:
    if count > MOST_IMAGES:
        raise ValueError(f"a figure has room for {MOST_IMAGES} images, and these would be {count:,}")


def _image_shape(graph: Graph) -> Shape:
    """The shape of the images that go in, or that the input is first reshaped to."""
    views = [node.outputs[0] for node in graph.consumers[graph.inputs[0]] if node.spec.view]
    shapes = [edge.shape for edge in (graph.inputs[0], *views) if len(edge.shape) > 1]
    if not shapes:
        raise ValueError(f"saliency takes a model of images, and the input's shape is {graph.inputs[0].shape}")
    return shapes[0]


def _name(label: int, names: Sequence[str] | None) -> str:
    return str(label if names is None else names[label])


def _draw(axis, picture: np.ndarray, cmap: str = "gray", begin: float = 0) -> None:
    """Draw an image (height, width) or (height, width, 3), without axes, from a place on to the right."""
    height, width = picture.shape[:2]
    extent = begin - 0.5, begin + width - 0.5, height - 0.5, -0.5
    axis.imshow(picture, cmap=cmap, vmin=0, vmax=255 if picture.dtype == np.uint8 else 1, extent=extent)
    axis.grid(False)
    axis.set(xticks=[], yticks=[])
    axis.spines[:].set_visible(False)
