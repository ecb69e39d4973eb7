"""Keras's weights in: from a Keras model, from its `get_weights()`, or from a .keras file."""

import os
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from nbbp.exchange.parts import Part, check, fill
from nbbp.layers import BatchNorm, Dense, Embedding, LayerNorm, Residual
from nbbp.sequential import Sequential

CLASSES: dict[type, str] = {
    Dense: "Dense",
    BatchNorm: "BatchNormalization",
    LayerNorm: "LayerNormalization",
    Embedding: "Embedding",
}


def from_keras(model: Sequential, source) -> Sequential:
    """Give a model the weights of a Keras network of the same architecture.

    Arrays are taken in the order of Keras's `get_weights()`: of a Dense kernel and bias, of a BatchNormalization gamma,
    beta, moving mean and moving variance, of a LayerNormalization gamma and beta. An nbbp Embedding takes one array for
    each of its columns, a Residual those of its layers and then the projection's kernel. Optimizer, averages
    and pruning begin anew.

    Keras's normalizations have epsilon 1e-3 unless told otherwise, nbbp's 1e-5. A Keras model or file is checked for
    it; a list of arrays does not have it. A model with branches may list its layers in another order: give a list
    in that of nbbp. Where a Keras model ends in a softmax or sigmoid and the loss's link is the
    same, the nbbp model has to do without that last activation.

    Parameters
    ----------
    model : Sequential
        Where it is not built, the first array says how many features there are.
    source : Keras model, sequence of array_like, or path of a .keras file

    Returns
    -------
    Sequential
        The model that was given.

    Raises
    ------
    ValueError
        Where number, kind, shape or epsilon do not fit. The model then stays as it was.
    ImportError
        For a file without Keras.
    """
    check(model)
    given = list(_read(source))
    features = given[0][1].shape[0] if given and given[0][1].ndim else None
    return fill(model, features, lambda found: _assign(found, given))


Given = tuple[str, np.ndarray, Any]
"""What errors call it, the array, and the Keras layer that has it, or None."""


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
    if hasattr(layer, "layers"):
        for inner in layer.layers:
            yield from _leaves(inner)
    else:
        yield layer


def _wanted(found: list[Part]) -> Iterator[tuple[str, Any, np.ndarray]]:
    """Name, layer and view of every array, in Keras's order."""
    for part in found:
        if isinstance(part.layer, Residual):
            within, projection = part.inside()
            yield from _wanted(within)
            if projection is not None:
                yield f"{part.name}.projection.w", Dense(projection.shape[1], use_bias=False), projection
            continue
        if part.arrays and type(part.layer) not in CLASSES:
            raise ValueError(f"{part.name}: Keras's counterpart of {type(part.layer).__name__} is not known")
        for key, array in part.arrays.items():
            yield f"{part.name}.{key}", part.layer, array


def _assign(found: list[Part], given: list[Given]) -> None:
    wanted = list(_wanted(found))
    for (label, array, theirs), (name, layer, view) in zip(given, wanted, strict=False):
        if theirs is not None:
            _compare(theirs, layer, label, name)
        if array.shape != view.shape:
            raise ValueError(f"{name} has shape {view.shape}, Keras's {label} has {array.shape}")
        view[...] = array
    if len(given) != len(wanted):
        extra = [f"no layer takes {label}" for label, _, _ in given[len(wanted) :]]
        raise ValueError("; ".join(extra + [f"nothing is given for {name}" for name, _, _ in wanted[len(given) :]]))


def _compare(theirs, layer, label: str, name: str) -> None:
    kind = CLASSES[type(layer)]
    if kind not in (base.__name__ for base in type(theirs).__mro__):
        raise ValueError(f"{label} belongs to a {type(theirs).__name__}; {name} takes that of a {kind}")
    epsilon = getattr(layer, "epsilon", None)
    if epsilon is not None and epsilon != theirs.epsilon:
        raise ValueError(
            f"{label}: Keras's epsilon is {theirs.epsilon:g}, that of {name} is {epsilon:g}; "
            f"nbbp.{type(layer).__name__}(epsilon={theirs.epsilon:g}) has the same"
        )
