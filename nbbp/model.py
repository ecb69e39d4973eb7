"""Sequential: what the user holds."""

import dataclasses
import math
import os
import warnings
from collections.abc import Callable, Sequence

import numpy as np

from nbbp import checks, files, memory, notebook, saving, tables
from nbbp.averaging import Averaging
from nbbp.callbacks import Callback
from nbbp.fitting import Fit
from nbbp.history import History
from nbbp.kernels import arrays
from nbbp.layers import Activation, Layer
from nbbp.layers.base import Shape
from nbbp.layout import lay_out
from nbbp.losses import LOSSES, Loss
from nbbp.metrics import OF_CLASSES, check_classes, named
from nbbp.network import Network
from nbbp.optimizers import OPTIMIZERS, Optimizer
from nbbp.prediction import Predictor, linked, mean_loss
from nbbp.program import BACKENDS, Program, Runner
from nbbp.schedules import Schedule
from nbbp.streams import Piece, Stream
from nbbp.summary import table
from nbbp.training import Data
from nbbp.updating import Update

NOT_BUILT = "the model does not know its input yet: call fit, or build(number_of_features)"


class Sequential:
    """A network of layers in a row, with its loss and optimizer.

    Parameters
    ----------
    layers : sequence of Layer
    loss : str or Loss
        One of `nbbp.LOSSES`, or its name.
    optimizer : Optimizer or str
        One of `nbbp.OPTIMIZERS`, or its name for the default settings.
    metrics : sequence of str or callable
        From `nbbp.METRICS`, or functions ``f(y, prediction)`` that give a number, recorded under their names. One that
        a callback watches says which way is better: ``f.higher_is_better = True``, or False.
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
        layers: Sequence[Layer],
        loss: str | Loss = "mse",
        optimizer: Optimizer | str = "sgd",
        metrics: Sequence[str | Callable] = (),
        seed: int = 0,
        dtype: str = "float32",
        backend: str = "numba",
        label_smoothing: float = 0.0,
        averaging: Averaging | None = None,
    ) -> None:
        if isinstance(layers, Layer):
            raise TypeError(f"layers must be a list, such as [{layers!r}]")
        self.layers = list(layers)
        if not self.layers:
            raise ValueError("a model needs at least one layer")
        for layer in self.layers:
            if not isinstance(layer, Layer):
                raise TypeError(f"layers must be nbbp layers, such as nbbp.Dense(10); got {layer!r}")
        self.loss = loss if isinstance(loss, Loss) else checks.choose("loss", loss, LOSSES)
        if isinstance(optimizer, Optimizer):
            self._optimizer: Optimizer = optimizer
        else:
            self._optimizer = checks.choose("optimizer", optimizer, OPTIMIZERS)()
        self._check_link()
        if isinstance(metrics, str):
            raise TypeError(f"metrics must be a list of names, such as [{metrics!r}]")
        self._chosen_metrics = list(metrics)
        self.metrics = dict(map(named, metrics))
        if len(self.metrics) < len(self._chosen_metrics):
            raise ValueError(f"metrics must have names of their own, got {[named(given)[0] for given in metrics]}")
        if isinstance(seed, bool) or not isinstance(seed, int | np.integer) or seed < 0:
            raise ValueError(f"seed must be an integer, 0 or more; got {seed!r}")
        self.seed = int(seed)
        if dtype not in ("float32", "float64", np.float32, np.float64):
            raise ValueError(f"dtype must be float32 or float64, got {dtype!r}")
        self.dtype = np.dtype(dtype)
        self.backend = backend
        if backend not in BACKENDS:
            raise ValueError(f"backend must be {' or '.join(map(repr, BACKENDS))}, got {backend!r}")
        self._network: Network | None = None
        self._update: Update | None = None
        self.averaging = averaging
        if averaging is not None and not isinstance(averaging, Averaging):
            raise TypeError(f"averaging must be nbbp.EMA(...) or nbbp.SWA(...), got {averaging!r}")
        checks.number("label_smoothing", label_smoothing, high=1.0)
        if label_smoothing and self.loss.link not in ("softmax", "sigmoid"):
            raise ValueError(f"label_smoothing is for classes; {self.loss.name} has none")
        self.label_smoothing = label_smoothing
        self._fitting = False
        self.epochs = 0  # begun
        self.history: History | None = None  # of the last fit, also of one that was broken off
        self.feature_names: tuple[str, ...] | None = None  # columns of the table it learned from

    def _check_link(self) -> None:
        """A loss from probabilities needs them; one that has a link of its own should not get a second."""
        last = self.layers[-1].expand()[-1]
        ending = last.name if isinstance(last, Activation) else "linear"
        if self.loss.from_probabilities and ending not in ("softmax", "sigmoid"):
            raise ValueError(
                f"{self.loss.name} takes probabilities: end the network with softmax, or use softmax_cross_entropy"
            )
        if self.loss.link == ending != "linear":
            warnings.warn(
                f"{self.loss.name} applies {ending} to the outputs itself; the last layer should not", stacklevel=3
            )

    def __repr__(self) -> str:
        layers = "".join(f"        {layer!r},\n" for layer in self.layers)
        return f"Sequential(\n    [\n{layers}    ],\n    loss={self.loss.name!r},\n    optimizer={self.optimizer!r},\n)"

    def _repr_html_(self) -> str:
        return notebook.model_html(self)

    def build(self, input_shape: int | Shape) -> None:
        """Lay out the parameters and draw their first values; `fit` and `predict` do it when they see data.

        Parameters
        ----------
        input_shape : int or tuple of int
            Number of features, or a sample's shape.

        Raises
        ------
        MemoryError
            When parameters, gradients and the optimizer's moments take more memory than there is.
        RuntimeError
            While the model is being fitted, as from a callback.
        """
        if self._fitting:
            raise RuntimeError(
                "build gives the model other parameters than those that the fit under way trains: build it before or "
                "after the fit, and from a callback change model.params in place"
            )
        self._build(input_shape)

    def _build(self, input_shape: int | Shape, params=None, state=None) -> None:
        """Build with these numbers, or draw them."""
        lengths = input_shape if isinstance(input_shape, tuple) else (input_shape,)
        shape = tuple(checks.positive_integer("input_shape", n) for n in lengths)
        layout = lay_out(self.layers, shape)
        arrays = 2 + self._optimizer.moments + (self.averaging is not None)
        memory.check_room(layout.size, arrays, self.dtype)
        self._network = Network(layout, self.dtype, self.seed, params, state)
        self._update = Update(self._network, self._optimizer, self.averaging)
        self._outputs = Predictor(self._network, self.backend)
        self._predictions = Predictor(self._network, self.backend, self.loss.link)

    @property
    def network(self) -> Network:
        """Parameters, gradients and layout of a built model."""
        if self._network is None:
            raise RuntimeError(NOT_BUILT)
        return self._network

    @property
    def update(self) -> Update:
        """The optimizer with its arrays, of a built model."""
        if self._update is None:
            raise RuntimeError(NOT_BUILT)
        return self._update

    @property
    def optimizer(self) -> Optimizer:
        """The optimizer and its settings."""
        return self._optimizer

    @property
    def learning_rate(self) -> float | Schedule:
        """The optimizer's; a new one holds from the next step on that a callback is told of."""
        return self._optimizer.learning_rate

    @learning_rate.setter
    def learning_rate(self, value: float | Schedule) -> None:
        self._optimizer = dataclasses.replace(self._optimizer, learning_rate=value)
        if self._update is not None:
            self._update.optimizer = self._optimizer

    @property
    def steps(self) -> int:
        """Updates that were made."""
        return 0 if self._update is None else self._update.steps

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
        """The gradient of the last mini-batch, one flat array."""
        return self.network.grads

    def named_params(self) -> dict[str, np.ndarray]:
        """Views into `params` by name, such as ``dense_0.w``."""
        return self.network.layout.named(self.params)

    def fit(
        self,
        X,
        y=None,
        epochs: int = 1,
        batch_size: int = 32,
        validation_data: tuple | None = None,
        shuffle: bool = True,
        verbose: int = 1,
        callbacks: Sequence[Callback] = (),
        sample_weight=None,
        class_weight: dict | str | None = None,
        accumulate: int = 1,
        resume=None,
        allow_changes: bool = False,
    ) -> History:
        """Train. Called again, it goes on where it stopped.

        Parameters
        ----------
        X : array_like (rows, features), a table of numbers, or nbbp.streams.Stream
            A table is of pandas, polars or pyarrow; its column names are remembered as `feature_names`, and other
            tables are held against them. `nbbp.tables` makes numbers of text. A stream is for data larger than memory;
            metrics are then those of `validation_data` alone.
        y : array_like (rows,) or (rows, outputs), or a table of numbers
            Integer labels, or values; left out where X is a stream, which has them.
        epochs, batch_size : int
            The last mini-batch of an epoch has the rows that are left.
        validation_data : (X, y) or (X, y, sample_weight), optional
            Measured after every epoch.
        shuffle : bool
            Whether each epoch has an order of its own.
        verbose : {0, 1, 2}
            Nothing, a progress bar, or a line for each epoch.
        callbacks : sequence of Callback
            From `nbbp.callbacks`, or your own.
        sample_weight : array_like (rows,), optional
            How much each row counts: in the loss, of which the mean over the batch is taken as without, and in metrics.
        class_weight : dict of label to float, or "balanced", optional
            How much the rows of each class count; balanced: rows / (classes x rows of the class).
        accumulate : int
            Mini-batches from whose gradients together an update is made; they take the memory of one.
        resume : path, optional
            A checkpoint, or a folder of them: see `nbbp.Checkpoint`. The fit goes on from the newest and has its
            history; `epochs` counts all. Where the folder has none yet, it begins at the beginning.
        allow_changes : bool
            Whether a fit is resumed even if the learning rate or the data differ from those it was begun with; it goes
            on with what is given now. Of a stream, only its first chunk and how it is cut are compared.

        Ctrl-C (and SIGTERM) end a fit between two mini-batches: the model stays as it is then, `history` has what was
        measured, and a `Checkpoint` is written.

        Kernels run on as many threads as Numba has: one for each processor, or ``NUMBA_NUM_THREADS``, an environment
        variable that is read when nbbp is imported. ``numba.set_num_threads(n)`` allows fewer; it holds for the Python
        thread that calls it. The bits are the same.

        Returns
        -------
        History

        Raises
        ------
        DivergenceError
            When the loss is no longer finite.
        ValueError
            Among others when a fit is resumed with other layers, settings or callbacks, or, without `allow_changes`,
            with another learning rate or other data; the model stays as it is.
        """
        epochs = checks.positive_integer("epochs", epochs)
        batch_size = checks.positive_integer("batch_size", batch_size)
        accumulate = checks.positive_integer("accumulate", accumulate)
        if verbose not in (0, 1, 2):
            raise ValueError(f"verbose must be 0, 1 or 2, got {verbose!r}")
        if isinstance(callbacks, Callback):
            raise TypeError(f"callbacks must be a list, such as [{type(callbacks).__name__}(...)]")
        callbacks = list(callbacks)
        for callback in callbacks:
            if not isinstance(callback, Callback):
                raise TypeError(f"callbacks must be nbbp.callbacks, such as EarlyStopping(); got {callback!r}")
        data: Data | Stream
        if isinstance(X, Stream):
            if y is not None or sample_weight is not None or class_weight is not None:
                raise TypeError("a stream has y and the weights itself")
            data = X
            self._features("X", data.first()[0])
        elif y is None:
            raise TypeError("fit needs y, unless X is a stream")
        else:
            data = self._data("X", X, "y", y, sample_weight, class_weight)
        validation = None
        if validation_data is not None:
            if not isinstance(validation_data, tuple | list) or len(validation_data) not in (2, 3):
                raise TypeError("validation_data must be a pair (X, y), or (X, y, sample_weight)")
            held_out, known, *weights = validation_data
            validation = self._data("validation X", held_out, "validation y", known, *weights)
        fit = Fit(
            self, data, validation, epochs, batch_size, accumulate, shuffle, callbacks, verbose, resume, allow_changes
        )
        self._fitting = True
        try:
            return fit.run()
        finally:
            self._fitting = False

    def predict(self, X) -> np.ndarray:
        """Predictions (rows, outputs): probabilities, or values for regression.

        Parameters
        ----------
        X : array_like (rows, features), or a table
            No rows have no predictions: (0, outputs).
        """
        x = self._features("X", X, least_rows=0)
        return self._predictions(x)

    def evaluate(self, X, y, sample_weight=None) -> dict[str, float]:
        """The loss, penalties included, and every metric on these data: ``{"loss": ..., "accuracy": ...}``."""
        return self.measure(self._data("X", X, "y", y, sample_weight))

    def gradients(self, X, y) -> dict[str, np.ndarray]:
        """Gradient of the mean loss over all rows: views into `grads` by name, such as ``dense_0.w``.

        Examples
        --------
        >>> import nbbp
        >>> X, y = nbbp.datasets.load_digits()
        >>> model = nbbp.Sequential([nbbp.Dense(10)], loss="softmax_cross_entropy")
        >>> {name: gradient.shape for name, gradient in model.gradients(X, y).items()}
        {'dense_0.w': (64, 10), 'dense_0.b': (10,)}
        """
        self._bound_gradients(self._data("X", X, "y", y))()
        return self.network.layout.named(self.grads)

    def _bound_gradients(self, data: Data) -> Callable[[], float]:
        """A function that computes `grads` on these data, layers as in training, and returns the loss."""
        rows = len(data.x)
        program = Program(self.backend, self.dtype, rows, seed=self.seed)
        weights = np.ones(rows, self.dtype) if data.weights is None else data.weights
        row_loss, penalty = program.buffer(rows), program.buffer(1)
        self.network.gradients(program, self.loss, data.x, data.target, row_loss, weights / rows, self.grads)
        self.network.penalize(program, penalty, self.grads)
        runner = Runner(program)

        def run() -> float:
            penalty[0], state = 0, self.network.state.copy()
            runner.once()
            self.network.state[:] = state
            return float(np.sum(np.multiply(row_loss, weights / rows, dtype=np.float64))) + float(penalty[0])

        return run

    def with_backend(self, backend: str) -> "Sequential":
        """A copy with the same parameters and optimizer state, computed by the other backend."""
        return self._copy(backend=backend)

    def _copy(self, **changed) -> "Sequential":
        copy = Sequential.__new__(Sequential)
        state = self.__getstate__()
        copy.__setstate__(state | {"settings": state["settings"] | changed})
        return copy

    def __getstate__(self) -> dict:
        """Settings and numbers, without the bound programs: they hold addresses of this model's arrays."""
        settings = {
            "layers": self.layers, "loss": self.loss, "optimizer": self.optimizer, "metrics": self._chosen_metrics,
            "seed": self.seed, "dtype": self.dtype.name, "backend": self.backend,
            "label_smoothing": self.label_smoothing, "averaging": self.averaging,
        }  # fmt: skip
        state = {"settings": settings, "epochs": self.epochs, "feature_names": self.feature_names}
        if self._update is not None:
            update, network = self._update, self.network
            arrays = {"params": self.params, "state": network.state, "moments": update.moments, "mean": update.mean}
            arrays |= {"mask": network.mask}
            state |= arrays | {"input_shape": network.layout.input_shape, "steps": update.steps}
        return state

    def __setstate__(self, state: dict) -> None:
        self.__init__(**state["settings"])  # type: ignore[misc]
        if "params" in state:
            self._build(state["input_shape"], state["params"], state["state"])
            self.network.mask = None if state["mask"] is None else arrays.copied(state["mask"])
            update = self.update
            for mine, theirs in zip(update.moments, state["moments"], strict=True):
                mine[:] = theirs
            if update.mean is not None:
                update.mean[:] = state["mean"]
            update.steps = state["steps"]
        self.epochs = state["epochs"]
        self.feature_names = state.get("feature_names")

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
        files.write(path, *saving.pack(self.__getstate__()))

    @classmethod
    def load(cls, path) -> "Sequential":
        """The model that `save` wrote. Nothing in the file is run.

        Layers, losses and activations of your own have to be defined before.

        Raises
        ------
        ModelFileError
            When the file is no model, damaged, or of a later format.
        """
        if os.path.isdir(path):
            raise IsADirectoryError(f"{path} is a folder: load one of its files, such as model.safetensors")
        arrays, description = files.read(path)
        model = cls.__new__(cls)
        with saving.refusing(path):
            model.__setstate__(saving.unpack(arrays, description))
        return model

    def summary(self) -> str:
        """The layers with their outputs and numbers of parameters, as text."""
        rows = table(self.layers, self.network.layout)
        widths = [max(len(row[i]) for row in rows) for i in range(3)]
        return "\n".join(f"{a:{widths[0]}}  {b:{widths[1]}}  {c:>{widths[2]}}" for a, b, c in rows)

    def _features(self, name: str, X, least_rows: int = 1) -> np.ndarray:
        if isinstance(X, Stream):
            raise TypeError(f"{name} is a stream, from which fit can train and nothing else: take arrays, part by part")
        if tables.is_table(X):
            X = self._columns(name, X)
        shape = self._network.layout.input_shape if self._network else None
        x = checks.features(name, X, self.dtype, shape, least_rows)
        if self._network is None:
            self.build(x.shape[1:])
        self.network.layout.places[0].layer.check_input(name, x)
        return x

    def _columns(self, name: str, table) -> np.ndarray:
        """A table as an array; a model that has not learned anything yet remembers the names of its columns."""
        given = tables.names(name, table)
        if self.feature_names is not None:
            tables.check_names(name, given, self.feature_names)
        columns = tables.array(name, table, self.dtype)
        if not self.steps:
            self.feature_names = given
        return columns

    def _data(
        self, x_name: str, X, y_name: str, y, sample_weight=None, class_weight: dict | str | None = None,
        whole: bool = True,
    ) -> Data:  # fmt: skip
        """What the user gave, checked and in the form that kernels take; of a whole, some row has to count."""
        x = self._features(x_name, X)
        if tables.is_table(y):
            y = tables.array(y_name, y, np.float64)
        outputs = math.prod(self.network.layout.output_shape)
        truth = target = checks.targets(y_name, y, self.loss, self.dtype, len(x), outputs)
        if class_weight is not None and not self.loss.of_classes:
            raise ValueError(f"class_weight is for classes; {self.loss.name} has none")
        self._check_metrics(truth)
        weights = checks.weights(truth, sample_weight, class_weight, self.dtype, whole)
        if self.label_smoothing:
            answers = outputs if self.loss.link == "softmax" else 2  # else each output is a yes/no question
            target = _smoothed(truth, outputs, answers, self.label_smoothing, self.dtype)
        return Data(x, target, truth, weights)

    def _check_metrics(self, truth: np.ndarray) -> None:
        """ValueError where metrics of classes would be measured on values."""
        names = sorted(OF_CLASSES & self.metrics.keys())
        if names and not self.loss.of_classes:
            check_classes(truth)
            fraction = truth != np.round(truth)
            if fraction.any():
                raise ValueError(
                    f"{names[0]} is for classes, and with {self.loss.name} y is taken for values, such as "
                    f"{truth[fraction][0]:g}: take mse, mae or r2, or a loss for classes"
                )

    def check_piece(self, piece: Piece) -> Data:
        """Rows of a stream, checked and in the form that kernels take."""
        X, y, weights = piece
        return self._data("X", X, "y", y, weights, whole=False)

    def measure(self, data: Data, prefix: str = "") -> dict[str, float]:
        """Loss and metrics of checked data."""
        z = self._outputs(data.x)
        values = {"loss": mean_loss(z, data, self.loss, self.backend) + self._penalty()}
        predictions = linked(z, self.loss, self.backend)
        for name, metric in self.metrics.items():
            values[name] = metric(data.truth, predictions, data.weights)
        return {prefix + name: value for name, value in values.items()}

    def _penalty(self) -> float:
        """Of all layers together."""
        program = Program(self.backend, self.dtype, 1)
        total = program.buffer(1)
        self.network.penalize(program, total, np.zeros_like(self.grads))
        Runner(program).once()
        return float(total[0])

    def averaged(self) -> "Sequential":
        """A copy with the averaged parameters that `averaging` asked for."""
        if self.update.mean is None:
            raise RuntimeError("there is no average: give the model averaging=nbbp.EMA() or nbbp.SWA(...)")
        copy = self._copy()
        copy.params[:] = self.update.mean
        return copy


def _smoothed(truth: np.ndarray, outputs: int, answers: int, share: float, dtype: np.dtype) -> np.ndarray:
    """Targets (rows, outputs) of which `share` is spread evenly over the answers that each could be."""
    if truth.dtype.kind == "i":
        truth = np.eye(outputs, dtype=dtype)[truth[:, 0]]
    return (truth * (1 - share) + share / answers).astype(dtype)
