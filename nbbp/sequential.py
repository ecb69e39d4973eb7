"""Sequential: a chain of layers."""

import os
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from nbbp import checks
from nbbp.engine.forms import Form
from nbbp.engine.graph import Graph, chain
from nbbp.engine.layer import Layer
from nbbp.engine.node import Input, Shape
from nbbp.engine.ragged import Ragged
from nbbp.losses import Loss
from nbbp.model import Model
from nbbp.optimizers import Optimizer
from nbbp.storage import files, saving
from nbbp.training.averaging import Averaging
from nbbp.training.intake import features
from nbbp.training.settings import Settings


class Sequential(Model):
    """A network of layers in sequence, with its loss and optimizer: an `nbbp.Model` whose graph is a chain.

    Parameters
    ----------
    layers : sequence of Layer
        The layers in order; one that is listed twice has two sets of parameters. An `nbbp.Input` may come first.
    loss, optimizer, metrics, seed, dtype, backend, label_smoothing, averaging, precision
        As for `nbbp.Model`.

    Examples
    --------
    >>> import nbbp
    >>> X, y = nbbp.datasets.load_digits()
    >>> model = nbbp.Sequential([nbbp.Dense(32, activation="relu"), nbbp.Dense(10)],
    ...                         loss="softmax_cross_entropy", optimizer=nbbp.Adam(), metrics=["accuracy"])
    >>> history = model.fit(X, y, epochs=20, batch_size=32, verbose=0)
    >>> history["accuracy"][-1] > 0.95
    True
    """

    def __init__(
        self,
        layers: Sequence[Layer | Input],
        loss: str | Loss = "mse",
        optimizer: Optimizer | str = "sgd",
        metrics: Sequence[str | Callable] = (),
        seed: int = 0,
        dtype: Any = "float32",
        backend: str = "numba",
        label_smoothing: float = 0.0,
        averaging: Averaging | None = None,
        precision: str = "full",
    ) -> None:
        if isinstance(layers, Layer):
            raise TypeError(f"layers must be a list, such as [{layers!r}]")
        given: list = list(layers)
        self._entry: Input | None = given.pop(0) if given and isinstance(given[0], Input) else None
        self._layers: list[Layer] = given
        if not self.layers:
            raise ValueError("a model needs at least one layer")
        for layer in self.layers:
            if not isinstance(layer, Layer):
                raise TypeError(f"layers must be nbbp layers, such as nbbp.Dense(10); got {layer!r}")
        one = Form("output", None)
        self._begin(
            Form("input", self._entry), one,
            Settings(one, loss, optimizer, metrics, None, seed, dtype, backend, label_smoothing, averaging, precision),
        )  # fmt: skip
        self._settings.check_endings([self.layers[-1]])
        if self._entry is not None:
            self._build(chain(self._entry, self.layers))

    @property
    def layers(self) -> list[Layer]:
        """The layers that were given."""
        return self._layers

    def build(
        self, input_shape: int | Shape, params: np.ndarray | None = None, state: np.ndarray | None = None
    ) -> None:
        """Lay out the parameters and draw their initial values; `fit` and `predict` do so when they see data.

        Parameters
        ----------
        input_shape : int or tuple of int
            Number of features, or a sample's shape, features last.
        params, state : ndarray, optional
            Flat arrays that are copied instead of initial values.

        Raises
        ------
        MemoryError
            If parameters, gradients and the optimizer's moments do not fit into memory.
        """
        lengths = input_shape if isinstance(input_shape, tuple) else (input_shape,)
        shape = tuple(checks.positive_integer("input_shape", n) for n in lengths)
        self._build(self._graph(shape), params=params, state=state)

    def _graph(self, input_shape: Shape) -> Graph:
        entry = self._entry or Input(input_shape, self.layers[0].input_dtype(self.dtype))
        return chain(entry, self.layers)

    def _arrays(self, name: str, X, masked: bool) -> Any:
        X = super()._arrays(name, X, masked)
        if not self.is_built:
            integers = None if self._entry else self.layers[0].input_dtype(getattr(X, "dtype", self.dtype))
            if not isinstance(X, Ragged):  # masked values may be anything
                X = checks.array(name, X, 0) if masked else features(name, X, np.dtype(integers or self.dtype))
            if integers is not None:
                self._build_for_integers(X.shape[1:], integers)
                return X
            if isinstance(X, Ragged) and X.values.ndim == 1:
                raise ValueError(
                    f"{name} has a number at each position: begin the network with nbbp.Embedding for tokens, and give "
                    f"rows (length, features) for features"
                )
            self.build(X.shape[1:])
        return X

    def _build_for_integers(self, shape: Shape, dtype: str) -> None:
        entry = Input(shape, dtype)
        self._build(chain(entry, self.layers))
        self._entry, self.inputs = entry, Form("input", entry)  # once nothing has failed

    def _arguments(self) -> dict[str, Any]:
        layers = self.layers if self._entry is None else [self._entry, *self.layers]
        arguments = {"layers": layers} | self._settings.arguments()
        del arguments["loss_weights"]
        return arguments

    def __repr__(self) -> str:
        layers = "".join(f"        {layer!r},\n" for layer in self.layers)
        return f"Sequential(\n    [\n{layers}    ],\n    loss={self.loss.name!r},\n    optimizer={self.optimizer!r},\n)"


def load(path) -> Model:
    """The model that `Model.save` wrote, a `Sequential` if it was one. Nothing in the file is executed.

    Layers, losses and activations of your own must be defined before loading.

    Raises
    ------
    ModelFileError
        If the file is not a model, is damaged, or has a later format.
    """
    if os.path.isdir(path):
        raise IsADirectoryError(f"{path} is a folder: load one of its files, such as model.safetensors")
    arrays, description = files.read(path)
    with saving.refusing(path):
        state = saving.unpack(arrays, description)
        return (Sequential if "layers" in state.settings else Model).from_state(state)
