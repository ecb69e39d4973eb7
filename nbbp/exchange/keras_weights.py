"""Import of Keras's weights: from a Keras model, from its `get_weights()`, or from a .keras file."""

import functools
import os
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from nbbp.engine.layer import Layer
from nbbp.engine.layout import Layout
from nbbp.exchange.walk import check
from nbbp.exchange.weights import AnyModel, fill
from nbbp.layers import (
    GRU,
    LSTM,
    BatchNorm,
    ColumnEmbedding,
    Conv1D,
    Conv1DTranspose,
    Conv2D,
    Conv2DTranspose,
    Dense,
    Embedding,
    GroupNorm,
    LayerNorm,
    PositionalEmbedding,
    SimpleRNN,
)

CLASSES: dict[type, str] = {
    Dense: "Dense",
    Conv1D: "Conv1D",
    Conv1DTranspose: "Conv1DTranspose",
    Conv2D: "Conv2D",
    Conv2DTranspose: "Conv2DTranspose",
    BatchNorm: "BatchNormalization",
    GroupNorm: "GroupNormalization",
    LayerNorm: "LayerNormalization",
    ColumnEmbedding: "Embedding",
    Embedding: "Embedding",
    PositionalEmbedding: "PositionEmbedding",
    **{kind: kind.__name__ for kind in (SimpleRNN, GRU, LSTM)},
}


def from_keras(model: AnyModel, source) -> AnyModel:
    """Give a model the weights of a Keras network of the same architecture.

    Arrays are taken in the order of Keras's `get_weights()`: kernel and bias of a Dense or a convolution;
    gamma, beta, moving mean and moving variance of a BatchNormalization; gamma and beta of the other normalizations;
    kernel, recurrent kernel and bias of a SimpleRNN, GRU or LSTM, and of both directions of a Bidirectional. A
    ColumnEmbedding takes one array for each of its columns, a Residual those of its layers and then the projection's
    kernel; the layers of a `Model` follow in the order of their calls. Optimizer, averages and pruning are reset.

    Keras's normalizations have epsilon 1e-3 by default, nbbp's BatchNorm and LayerNorm 1e-5. The epsilon of a
    Keras model or file is checked; a list of arrays has none. A Keras model with branches may list its layers in
    another order: then give a list in nbbp's order. If a Keras model ends in a softmax or sigmoid that the loss already
    applies to its outputs, the nbbp model must not have that last activation.

    Parameters
    ----------
    model : Model or Sequential
        The model to fill; if it is not built, the first array determines the number of features.
    source : Keras model, sequence of array_like, or path of a .keras file

    Returns
    -------
    Model or Sequential
        The model that was given.

    Raises
    ------
    ValueError
        If number, kind, shape or epsilon do not match. The model then stays as it was.
    ImportError
        If a file is given and Keras is not installed.
    """
    check(model)
    given = list(_read(source))
    features = given[0][1].shape[0] if given and given[0][1].ndim in (1, 2) else None
    return fill(model, features, lambda *flat: _assign(list(_wanted(*flat)), given))


Given = tuple[str, np.ndarray, Any]
"""An array's name in errors, the array, and its Keras layer, or None."""


def _read(source) -> Iterator[Given]:
    if isinstance(source, str | os.PathLike):
        source = _load(os.fspath(source))
    if hasattr(source, "get_weights"):
        for layer in _leaves(source):
            for variable, array in zip(layer.weights, layer.get_weights(), strict=True):
                yield variable.path, np.asarray(array), layer
    elif isinstance(source, Sequence):
        for i, array in enumerate(source):
            yield f"array {i}", np.asarray(array), None
    else:
        raise TypeError(f"source must be a Keras model, a list of arrays or a .keras file, got {type(source).__name__}")


def _load(path: str):
    if not path.endswith(".keras"):
        raise ValueError(f"{path} must be a .keras file; other files: load them in Keras and give the Keras model")
    try:
        import keras
    except ImportError as error:  # of Keras, or of its backend
        raise ImportError(f'.keras files need Keras: pip install "nbbp[keras]" ({error})') from error
    return keras.saving.load_model(path, compile=False)


def _leaves(layer) -> Iterator:
    """The layers that have weights, in the order of `get_weights()`."""
    inner = getattr(layer, "layers", None) or [
        getattr(layer, name) for name in ("forward_layer", "backward_layer") if hasattr(layer, name)
    ]
    if inner:
        for one in inner:
            yield from _leaves(one)
    else:
        yield layer


Wanted = tuple[str, Layer, tuple[int, ...], Callable[[np.ndarray], None]]
"""The name, the layer and the shape of an array of a model, and a function that fills it."""


def _wanted(layout: Layout, params: np.ndarray, state: np.ndarray) -> Iterator[Wanted]:
    """The model's arrays in Keras's order."""
    for place in layout.places:
        views = vars(place.views(params, state))
        if views and type(place.layer) not in CLASSES:
            name = type(place.layer).__name__
            raise ValueError(
                f"{place.name}: Keras's counterpart of {name} is not known; enter it in "
                f"nbbp.exchange.keras_weights.CLASSES[{name}]"
            )
        second = views.pop("c", None) if isinstance(place.layer, GRU) else None
        for key, view in views.items():
            name, shape, take = f"{place.name}.{key}", view.shape, functools.partial(np.copyto, view)
            if key == "b" and second is not None:
                shape, take = (2, len(view)), functools.partial(_fill_biases, view, second)
            yield name, place.layer, shape, take


def _fill_biases(b: np.ndarray, c: np.ndarray, both: np.ndarray) -> None:
    """Keras's biases of a GRU that resets after the product: of its inputs and, in the second row, of its state."""
    b[:], c[:] = both[0], both[1, -len(c) :]
    b[: -len(c)] += both[1, : -len(c)]


def _assign(wanted: list[Wanted], given: list[Given]) -> None:
    for (label, array, theirs), (name, layer, shape, take) in zip(given, wanted, strict=False):
        if theirs is not None:
            _compare(theirs, layer, label, name)
        if array.shape != shape:
            raise ValueError(f"{name} has shape {shape}, Keras's {label} has {array.shape}")
        take(array)
    if len(given) != len(wanted):
        extra = [f"no layer takes {label}" for label, _, _ in given[len(wanted) :]]
        raise ValueError("; ".join(extra + [f"nothing is given for {name}" for name, *_ in wanted[len(given) :]]))


def _compare(theirs, layer: Layer, label: str, name: str) -> None:
    kind = CLASSES[type(layer)]
    if kind not in (base.__name__ for base in type(theirs).__mro__):
        raise ValueError(f"{label} belongs to a {type(theirs).__name__}; {name} takes that of a {kind}")
    for setting in ("epsilon", "reset_after"):
        own, given = getattr(layer, setting, None), getattr(theirs, setting, None)
        if own is not None and own != given:
            raise ValueError(
                f"{label}: Keras's {setting} is {given}, that of {name} is {own}; "
                f"nbbp.{type(layer).__name__}({setting}={given}) has the same"
            )
