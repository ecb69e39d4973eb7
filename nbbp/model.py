"""Model: a network with its losses and its optimizer."""

import dataclasses
from collections.abc import Callable
from typing import Any, Self

import numpy as np

from nbbp import tables
from nbbp.engine.data import Data
from nbbp.engine.forms import Form
from nbbp.engine.graph import Graph
from nbbp.engine.layer import Layer
from nbbp.engine.network import Network
from nbbp.engine.node import Shape
from nbbp.engine.state import Numbers, State
from nbbp.insight import summary
from nbbp.insight.notebook import model_html
from nbbp.kernels import arrays
from nbbp.optimizers import Optimizer
from nbbp.schedules import Schedule
from nbbp.storage.saving import save
from nbbp.training.averaging import Averaging
from nbbp.training.built import Built, check_idle
from nbbp.training.by_hand import step, train_on_batch
from nbbp.training.copies import averaged, blend, copy, take, with_backend
from nbbp.training.evaluation import evaluate, gradients, input_gradients, jacobian, predict
from nbbp.training.fit import fit
from nbbp.training.history import History
from nbbp.training.intake import refuse_stream
from nbbp.training.settings import Settings
from nbbp.training.update import Update


class Model:
    """A network with its losses and its optimizer: the layers between some inputs and outputs.

    Parameters
    ----------
    inputs : Input, or list or dict of them
    outputs : Edge, or list or dict of them
        Outputs of layers that were called on the inputs.
    loss : str or Loss, or list or dict of them
        One of `nbbp.LOSSES`, or its name; one for each output, or one for all.
    optimizer : Optimizer or str
        One of `nbbp.OPTIMIZERS`, or its name for the default settings.
    metrics : sequence of str or callable, or dict of them by output
        Names in `nbbp.METRICS`, or functions ``f(y, prediction)`` that return a number, recorded under their names. A
        function that a callback watches says whether higher is better: ``f.higher_is_better = True``, or False.
    loss_weights : list or dict of float, optional
        The factors of the outputs' losses in the sum that is minimised.
    seed : int
        Determines the initial parameters and the order of rows.
    dtype : {"float32", "float64"}
    backend : {"numba", "numpy"}
        Compiled kernels, or their plain NumPy references.
    label_smoothing : float in [0, 1)
        Share of each target that is spread evenly over the classes, or over yes and no (Szegedy et al., "Rethinking the
        Inception architecture", 2016), for softmax_cross_entropy and binary_cross_entropy.
    averaging : nbbp.EMA or nbbp.SWA, optional
        An average of the parameters, updated in training; `averaged` returns the model with it.
    precision : {"full", "bfloat16"}
        "bfloat16": products with weights, but for the gradients of recurrent ones, are of bfloat16, sums of float32,
        twice as fast with AVX512_BF16 (Kalamkar et al., "A study of BFLOAT16 for deep learning training", 2019).

    Examples
    --------
    >>> import nbbp, numpy as np
    >>> x = nbbp.Input(64)
    >>> h = nbbp.Dense(32, activation="relu")(x)
    >>> model = nbbp.Model(x, {"digit": nbbp.Dense(10)(h), "odd": nbbp.Dense(1)(h)},
    ...                    loss={"digit": "softmax_cross_entropy", "odd": "binary_cross_entropy"},
    ...                    optimizer="adam", loss_weights={"odd": 0.5, "digit": 1.0})
    >>> X, y = nbbp.datasets.load_digits()
    >>> history = model.fit(X, {"digit": y, "odd": y % 2}, epochs=3, verbose=0)
    >>> list(history.epochs)
    ['loss', 'digit_loss', 'odd_loss']
    """

    is_fitting = False  # whether a fit is under way

    def __init__(
        self, inputs: Any, outputs: Any, loss: Any = "mse", optimizer: Optimizer | str = "sgd", metrics: Any = (),
        loss_weights: Any = None, seed: int = 0, dtype: Any = "float32", backend: str = "numba",
        label_smoothing: float = 0.0, averaging: Averaging | None = None, precision: str = "full",
    ) -> None:  # fmt: skip
        forms = Form("input", inputs), Form("output", outputs)
        graph = Graph(forms[0].things, forms[1].things)
        given = loss, optimizer, metrics, loss_weights, seed, dtype, backend, label_smoothing, averaging, precision
        self._begin(*forms, Settings(forms[1], *given))
        self._settings.check_endings([edge.node.layer if edge.node else None for edge in graph.outputs])
        self._build(graph)

    def _begin(self, inputs: Form, outputs: Form, settings: Settings) -> None:
        self.inputs, self.outputs, self._settings = inputs, outputs, settings
        self.seed, self.dtype = settings.seed, settings.dtype
        self.backend, self.precision = settings.backend, settings.precision
        self.label_smoothing, self.averaging = settings.label_smoothing, settings.averaging
        self._built: Built | None = None
        self.epochs = 0  # epochs begun
        self.history: History | None = None  # of the last fit, even if it was interrupted
        self.feature_names: tuple[str, ...] | None = None  # columns of the table it was trained on

    def _build(self, graph: Graph, numbers: Numbers | None = None, params=None, state=None) -> None:
        """Lay out the parameters, and draw them or copy those that are given."""
        check_idle(self)
        self._built = Built(graph, self._settings, self.inputs, self.outputs, numbers, params, state)

    @property
    def built(self) -> Built:
        """What depends on the inputs: the network with its arrays, the update, the bound programs."""
        if self._built is None:
            raise RuntimeError("the model does not know its input yet: call fit, or build(number_of_features)")
        return self._built

    @property
    def is_built(self) -> bool:
        """Whether the model knows its inputs, and has parameters."""
        return self._built is not None

    @property
    def loss(self) -> Any:
        """The loss, or those of several outputs as a list or dict."""
        return self.outputs.packed(self._settings.losses)

    @property
    def metrics(self) -> Any:
        """The metrics by name, or those of several outputs as a list or dict."""
        return self.outputs.packed(self._settings.metrics)

    @property
    def layers(self) -> list[Layer]:
        """The layers of the graph, in the order in which they were called."""
        return [node.layer for node in self.network.graph.nodes]

    @property
    def optimizer(self) -> Optimizer:
        """The optimizer and its settings."""
        return self._settings.optimizer

    @property
    def learning_rate(self) -> float | Schedule:
        """The optimizer's learning rate; a change takes effect when the run of steps next returns to Python."""
        return self.optimizer.learning_rate

    @learning_rate.setter
    def learning_rate(self, value: float | Schedule) -> None:
        self._settings.optimizer = dataclasses.replace(self.optimizer, learning_rate=value)

    @property
    def network(self) -> Network:
        """Parameters, gradients and layout of a built model."""
        return self.built.network

    @property
    def update(self) -> Update:
        """The optimizer with its arrays, of a built model."""
        return self.built.update

    @property
    def steps(self) -> int:
        """The number of updates made."""
        return 0 if self._built is None else self._built.update.steps

    @property
    def params(self) -> np.ndarray:
        """All parameters in one flat array; assigned values are written into it."""
        return self.network.params

    @params.setter
    def params(self, values) -> None:
        arrays.assign("params", self.params, values)

    @property
    def grads(self) -> np.ndarray:
        """The gradient of the last mini-batch in one flat array; assigned values are written into it."""
        return self.network.grads

    @grads.setter
    def grads(self, values) -> None:
        arrays.assign("grads", self.grads, values)

    def named_params(self) -> dict[str, np.ndarray]:
        """Views into `params` by name, such as ``dense_0.w``."""
        return self.network.layout.named(self.params)

    fit, predict, evaluate, save = fit, predict, evaluate, save
    gradients, input_gradients, jacobian = gradients, input_gradients, jacobian
    step, train_on_batch = step, train_on_batch
    copy, with_backend, averaged, blend, take = copy, with_backend, averaged, blend, take

    def prepare(
        self, X, y=None, sample_weight=None, class_weight=None, mask=None, lengths=None, name: str = "",
        whole: bool = True, chosen: np.ndarray | None = None,
    ) -> Data:  # fmt: skip
        """The user's data, checked and in the form that kernels take; builds the model if it is not built.

        Without y, only the inputs. `name` precedes X and y in messages; if the rows are `whole`, one must count. With
        `chosen`, only the rows with these indices, as if no others had been given.
        """
        if self._built is None or type(X) is not np.ndarray:
            X = self._arrays(f"{name}X", X, masked=mask is not None or lengths is not None)
        return self.built.intake.data(
            f"{name}X", X, f"{name}y", y, sample_weight, class_weight, whole, mask, lengths, chosen
        )

    def _arrays(self, name: str, X, masked: bool) -> Any:
        """A table as an array; a model that is not trained yet remembers the names of its columns."""
        refuse_stream(name, X)
        if tables.is_table(X):
            X, names = tables.columns(name, X, self.dtype, self.feature_names)
            if not self.steps:
                self.feature_names = names
        return X

    @property
    def state(self) -> State:
        """Settings and arrays, without the bound programs, which hold addresses of this model's arrays."""
        numbers = None if self._built is None else self._built.numbers()
        return State(self._arguments(), self.epochs, self.feature_names, numbers)

    def _arguments(self) -> dict[str, Any]:
        return {"inputs": self.inputs.given, "outputs": self.outputs.given} | self._settings.arguments()

    @classmethod
    def from_state(cls, state: State) -> Self:
        """The model that `state` describes."""
        model = cls.__new__(cls)
        model.restore(state)
        return model

    def __reduce__(self) -> tuple[Callable, tuple[State]]:
        return self.from_state, (self.state,)

    def restore(self, state: State) -> None:
        """Become the model that `state` describes."""
        check_idle(self)
        self.__init__(**state.settings)  # type: ignore[misc]
        if state.numbers is not None:
            self._build(self._graph(state.numbers.input_shape), state.numbers)
        self.epochs, self.feature_names = state.epochs, state.feature_names

    def _graph(self, input_shape: Shape) -> Graph:
        return self.network.graph

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {len(self.network.graph.nodes)} layers, {len(self.params):,} parameters>"

    summary, _repr_html_ = summary.described, model_html
