"""Model: what the user holds."""

import dataclasses
from typing import Any, Self

import numpy as np

from nbbp import checks, tables
from nbbp.engine.data import Data
from nbbp.engine.forms import Form
from nbbp.engine.graph import Graph
from nbbp.engine.layer import Layer
from nbbp.engine.network import Network
from nbbp.engine.node import Edge, Shape
from nbbp.engine.state import Numbers, State
from nbbp.engine.step import Step
from nbbp.insight import notebook, summary
from nbbp.optimizers import Optimizer
from nbbp.schedules import Schedule
from nbbp.storage import files, saving
from nbbp.streams import Piece
from nbbp.training.averaging import Averaging
from nbbp.training.built import Built
from nbbp.training.fit import fit
from nbbp.training.history import History
from nbbp.training.intake import refuse_stream
from nbbp.training.settings import Settings, check_ending
from nbbp.training.update import Update


class Model:
    """A network with its losses and its optimizer: the layers between some inputs and outputs.

    Parameters
    ----------
    inputs : Input, or list or dict of them
    outputs : Edge, or list or dict of them
        What layers gave that were called on the inputs.
    loss : str or Loss, or list or dict of them
        One of `nbbp.LOSSES`, or its name; for each output, or one for all.
    optimizer : Optimizer or str
        One of `nbbp.OPTIMIZERS`, or its name for the default settings.
    metrics : sequence of str or callable, or dict of them by output
        From `nbbp.METRICS`, or functions ``f(y, prediction)`` that give a number, recorded under their names. One that
        a callback watches says which way is better: ``f.higher_is_better = True``, or False.
    loss_weights : list or dict of float, optional
        What each output's loss is multiplied by in the sum that is minimised.
    seed : int
        Decides the first parameters and the order of rows.
    dtype : {"float32", "float64"}
    backend : {"numba", "numpy"}
        Compiled kernels, or the plain NumPy function that stands beside each.
    label_smoothing : float in [0, 1)
        Share of each target that is spread evenly over the classes, or over yes and no: Szegedy et al., "Rethinking
        the Inception architecture", 2016. For softmax_cross_entropy and binary_cross_entropy.
    averaging : nbbp.EMA or nbbp.SWA, optional
        An average of the parameters that is kept in training; `averaged` gives the model that has it.

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
    >>> model.predict(X)["digit"].shape
    (1797, 10)
    """

    is_fitting = False  # whether a fit is under way

    def __init__(
        self,
        inputs: Any,
        outputs: Any,
        loss: Any = "mse",
        optimizer: Optimizer | str = "sgd",
        metrics: Any = (),
        loss_weights: Any = None,
        seed: int = 0,
        dtype: Any = "float32",
        backend: str = "numba",
        label_smoothing: float = 0.0,
        averaging: Averaging | None = None,
    ) -> None:
        forms = Form("input", inputs), Form("output", outputs)
        for edge in forms[1].things:
            if not isinstance(edge, Edge):
                raise TypeError(f"outputs must be what layers gave, such as nbbp.Dense(10)(x); got {edge!r}")
        self._begin(
            *forms,
            Settings(
                forms[1], loss, optimizer, metrics, loss_weights, seed, dtype, backend, label_smoothing, averaging
            ),
        )
        for own, edge in zip(self._settings.losses, self.outputs.things, strict=True):
            if edge.node is not None:
                check_ending(own, edge.node.layer)
        self._build(Graph(self.inputs.things, self.outputs.things))

    def _begin(self, inputs: Form, outputs: Form, settings: Settings) -> None:
        self.inputs, self.outputs, self._settings = inputs, outputs, settings
        self.seed, self.dtype, self.backend = settings.seed, settings.dtype, settings.backend
        self.label_smoothing, self.averaging = settings.label_smoothing, settings.averaging
        self._built: Built | None = None
        self.epochs = 0  # begun
        self.history: History | None = None  # of the last fit, also of one that was broken off
        self.feature_names: tuple[str, ...] | None = None  # columns of the table it learned from

    def _build(self, graph: Graph, numbers: Numbers | None = None, params=None, state=None) -> None:
        """Lay out the parameters, and draw them or take those that are given."""
        self._check_idle()
        self._built = Built(graph, self._settings, self.inputs, self.outputs, numbers, params, state)

    def _check_idle(self) -> None:
        if self.is_fitting:
            raise RuntimeError(
                "build gives the model other parameters than those that the fit under way trains: build it before or "
                "after the fit, and from a callback change model.params in place"
            )

    @property
    def built(self) -> Built:
        """What there is once the inputs are known: the network with its arrays, the update, bound programs."""
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
        """The optimizer's; a new one holds from the next step on that a callback is told of."""
        return self.optimizer.learning_rate

    @learning_rate.setter
    def learning_rate(self, value: float | Schedule) -> None:
        self._settings.optimizer = dataclasses.replace(self.optimizer, learning_rate=value)
        if self._built is not None:
            self._built.update.optimizer = self.optimizer

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
        """Updates that were made."""
        return 0 if self._built is None else self._built.update.steps

    @property
    def params(self) -> np.ndarray:
        """All parameters, one flat array; what is assigned is written into it."""
        return self.network.params

    @params.setter
    def params(self, values) -> None:
        if np.shape(values) != self.params.shape:
            raise ValueError(f"params must have the shape {self.params.shape}, got {np.shape(values)}")
        self.params[:] = values

    @property
    def grads(self) -> np.ndarray:
        """The gradient of the last mini-batch, one flat array; what is assigned is written into it."""
        return self.network.grads

    @grads.setter
    def grads(self, values) -> None:
        if np.shape(values) != self.grads.shape:
            raise ValueError(f"grads must have the shape {self.grads.shape}, got {np.shape(values)}")
        self.grads[:] = values

    def named_params(self) -> dict[str, np.ndarray]:
        """Views into `params` by name, such as ``dense_0.w``."""
        return self.network.layout.named(self.params)

    fit = fit

    def prepare(
        self, X, y=None, sample_weight=None, class_weight=None, mask=None, name: str = "", whole: bool = True,
        chosen: np.ndarray | None = None,
    ) -> Data:  # fmt: skip
        """What the user gave, checked and in the form that kernels take; builds a model that is new.

        Without y, the inputs alone. `name` comes before X and y in messages; of a `whole`, some row has to count. With
        `chosen`, the rows of these numbers, as if they alone had been given.
        """
        x_name = f"{name}X"
        X = self._arrays(x_name, X, mask)
        intake = self.built.intake
        if y is None:
            return intake.inputs(x_name, X, mask, least_rows=0)
        return intake.data(x_name, X, f"{name}y", y, sample_weight, class_weight, whole, mask, chosen)

    def prepare_piece(self, piece: Piece) -> Data:
        """Rows of a stream, checked and in the form that kernels take."""
        X, y, weights = piece
        return self.prepare(X, y, weights, whole=False)

    def _arrays(self, name: str, X, mask) -> Any:
        """A table as an array; a model that has not learned anything yet remembers the names of its columns."""
        refuse_stream(name, X)
        if not tables.is_table(X):
            return X
        given = tables.names(name, X)
        if self.feature_names is not None:
            tables.check_names(name, given, self.feature_names)
        columns = tables.array(name, X, self.dtype)
        if not self.steps:
            self.feature_names = given
        return columns

    def predict(self, X, mask=None) -> Any:
        """Predictions (rows, *positions, outputs): probabilities, or values for regression.

        Parameters
        ----------
        X : array_like (rows, *input_shape), or a table; a list or a dict of arrays where there are several inputs
        mask : ndarray (rows, *positions), bool, optional
            Which elements of the input are there.
        """
        data = self.prepare(X, mask=mask)
        return self.outputs.packed(self.built.measure.predictions(data))

    def evaluate(self, X, y, sample_weight=None, mask=None) -> dict[str, float]:
        """The loss, penalties included, and every metric on these data: ``{"loss": ..., "accuracy": ...}``."""
        data = self.prepare(X, y, sample_weight, mask=mask)
        return self.built.measure(data)

    def gradients(self, X, y, mask=None) -> dict[str, np.ndarray]:
        """Gradient of the mean loss over all rows: views into `grads` by name, such as ``dense_0.w``.

        Of parameters that are frozen it is 0.

        Examples
        --------
        >>> import nbbp
        >>> X, y = nbbp.datasets.load_digits()
        >>> model = nbbp.Sequential([nbbp.Dense(10)], loss="softmax_cross_entropy")
        >>> {name: gradient.shape for name, gradient in model.gradients(X, y).items()}
        {'dense_0.w': (64, 10), 'dense_0.b': (10,)}
        """
        data = self.prepare(X, y, mask=mask)
        self.built.gradient(data)()
        return dict(self.network.named_grads)

    def input_gradients(self, X, y, mask=None) -> Any:
        """Gradient of the mean loss over all rows with respect to the inputs, (rows, *input_shape)."""
        data = self.prepare(X, y, mask=mask)
        gradient = self.built.gradient(data, to_inputs=True)
        gradient()
        return self.inputs.packed([None if dx is None else dx.copy() for dx in gradient.inputs])

    def jacobian(self, X, mask=None) -> np.ndarray:
        """Derivatives of the predictions by the inputs, (rows, outputs, inputs); shapes are flattened."""
        data = self.prepare(X, mask=mask)
        return self.built.jacobian(data)

    def step(self, batch_size: int, training: bool = True) -> Step:
        """Forward, backward and update of mini-batches in your own hands, see `nbbp.engine.step.Step`.

        Parameters
        ----------
        batch_size : int
            Rows of a mini-batch; it may have fewer.
        training : bool
            Whether layers such as dropout behave as in training.

        Examples
        --------
        >>> import nbbp
        >>> X, y = nbbp.datasets.load_digits()
        >>> model = nbbp.Sequential([nbbp.Dense(1)], optimizer=nbbp.SGD(0.03))
        >>> model.build(64)
        >>> step = model.step(32)
        >>> for _ in range(300):
        ...     z = step.forward(X[:32])
        ...     dX = step.backward(2 * (z - y[:32, None]) / 32)  # of the mean squared error
        ...     step.update()
        >>> bool(((z[:, 0] - y[:32]) ** 2).mean() < 1)
        True
        """
        return self.built.step(checks.positive_integer("batch_size", batch_size), training)

    def train_on_batch(self, X, y, sample_weight=None, mask=None) -> float:
        """One update from all rows given; returns their loss before it.

        Raises
        ------
        DivergenceError
            If the loss is not finite; nothing is updated then.
        """
        data = self.prepare(X, y, sample_weight, mask=mask)
        return self.built.train_on(data)

    def blend(self, other: "Model", share: float) -> None:
        """Move parameters and running statistics to another model's by a share of the way; moments stay.

        Parameters
        ----------
        other : Model
            With the same layers.
        share : float in [0, 1]
            1 copies.
        """
        checks.number("share", share)
        if share > 1:
            raise ValueError(f"share must be 1 or less, got {share!r}")
        mine, theirs = self.network, other.network
        if mine.layout.shapes() != theirs.layout.shapes():
            apart = [f"{k} {s}" for k, s in theirs.layout.shapes().items() if mine.layout.shapes().get(k) != s]
            raise ValueError(
                f"blend takes a model with the same layers; the other has {apart[0] if apart else 'fewer parameters'}"
            )
        for own, others in ((mine.params, theirs.params), (mine.state, theirs.state)):
            if share == 1:
                own[:] = others
            else:
                own += own.dtype.type(share) * (others - own)

    def take(self, other: "Model") -> None:
        """Become another model of the same layers in all but the settings: its arrays, copied, and what it counted."""
        self.restore(dataclasses.replace(other.state, settings=self.state.settings))

    def averaged(self) -> Self:
        """A copy with the averaged parameters that `averaging` asked for."""
        if self.update.mean is None:
            raise RuntimeError("there is no average: give the model averaging=nbbp.EMA() or nbbp.SWA(...)")
        copy = self.copy()
        copy.params[:] = self.update.mean
        return copy

    def with_backend(self, backend: str) -> Self:
        """A copy with the same parameters and optimizer state, computed by the other backend."""
        return self.copy(backend=backend)

    def copy(self, **changed) -> Self:
        """A copy, with some of the arguments that made the model changed."""
        state = self.state
        return self.from_state(dataclasses.replace(state, settings=state.settings | changed))

    @property
    def state(self) -> State:
        """Settings and arrays, without the bound programs: they hold addresses of this model's arrays."""
        numbers = None if self._built is None else self._built.numbers()
        return State(self._arguments(), self.epochs, self.feature_names, numbers)

    def _arguments(self) -> dict[str, Any]:
        return {"inputs": self.inputs.given, "outputs": self.outputs.given} | self._settings.arguments()

    @classmethod
    def from_state(cls, state: State) -> Self:
        """The model of which `state` was taken."""
        model = cls.__new__(cls)
        model.restore(state)
        return model

    def __getstate__(self) -> State:
        return self.state

    def __setstate__(self, state: State) -> None:
        self.restore(state)

    def restore(self, state: State) -> None:
        """Become the model of which `state` was taken."""
        self._check_idle()
        self.__init__(**state.settings)  # type: ignore[misc]
        if state.numbers is not None:
            self._build(self._graph(state.numbers.input_shape), state.numbers)
        self.epochs, self.feature_names = state.epochs, state.feature_names

    def _graph(self, input_shape: Shape) -> Graph:
        return self.network.graph

    def save(self, path) -> None:
        """Write everything that training or predicting goes on from into a safetensors file.

        Layers, loss, optimizer with its arrays, averages and parameters; metrics and initializers that are functions of
        your own are left out. The file is written beside an older one and then takes its place.

        Parameters
        ----------
        path
            Of the file, such as ``model.safetensors``.

        Examples
        --------
        >>> import nbbp, os, tempfile
        >>> model = nbbp.Sequential([nbbp.Dense(3)])
        >>> model.build(2)
        >>> path = os.path.join(tempfile.mkdtemp(), "model.safetensors")
        >>> model.save(path)
        >>> bool((nbbp.load(path).params == model.params).all())
        True
        """
        files.write(path, *saving.pack(self.state))

    def summary(self) -> str:
        """The layers with their outputs and numbers of parameters, as text."""
        return summary.text(self.network.layout)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {len(self.network.graph.nodes)} layers, {len(self.params):,} parameters>"

    def _repr_html_(self) -> str:
        return notebook.model_html(self)
