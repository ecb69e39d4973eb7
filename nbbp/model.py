"""Sequential: what the user holds."""

import math
import warnings
from collections.abc import Sequence

import numpy as np
from tqdm.auto import tqdm

from nbbp import checks
from nbbp import program as prog
from nbbp.history import History
from nbbp.layers import Activation, Layer
from nbbp.layers.base import Shape
from nbbp.layout import lay_out
from nbbp.losses import LOSSES
from nbbp.metrics import METRICS
from nbbp.network import Network
from nbbp.optimizers import OPTIMIZERS, Optimizer
from nbbp.prediction import Predictor, linked, mean_loss
from nbbp.program import BACKENDS, Program, Runner
from nbbp.training import DivergenceError, Trainer, compiling


class Sequential:
    """A network of layers in a row, with its loss and optimizer.

    Parameters
    ----------
    layers : sequence of Layer
    loss : str
        One of `nbbp.LOSSES`.
    optimizer : Optimizer or str
        One of `nbbp.OPTIMIZERS`, or its name for the default settings.
    metrics : sequence of str
        From `nbbp.METRICS`.
    seed : int
        Decides the first parameters and the order of rows.
    dtype : {"float32", "float64"}
    backend : {"numba", "numpy"}
        Compiled kernels, or the plain NumPy function that stands beside each.

    Examples
    --------
    >>> import nbbp
    >>> X, y = nbbp.datasets.load_digits()
    >>> model = nbbp.Sequential([nbbp.Dense(32, activation="relu"), nbbp.Dense(10)],
    ...                         loss="softmax_cross_entropy", optimizer=nbbp.Adam(), metrics=["accuracy"])
    >>> history = model.fit(X, y, epochs=20, batch_size=32, verbose=0)
    >>> history["accuracy"][-1] > 0.97
    True
    """

    def __init__(
        self,
        layers: Sequence[Layer],
        loss: str = "mse",
        optimizer: Optimizer | str = "sgd",
        metrics: Sequence[str] = (),
        seed: int = 0,
        dtype: str = "float32",
        backend: str = "numba",
    ) -> None:
        self.layers = list(layers)
        if not self.layers:
            raise ValueError("a model needs at least one layer")
        for layer in self.layers:
            if not isinstance(layer, Layer):
                raise TypeError(f"layers must be nbbp layers, such as nbbp.Dense(10); got {layer!r}")
        self.loss = checks.choose("loss", loss, LOSSES)
        if isinstance(optimizer, Optimizer):
            self.optimizer: Optimizer = optimizer
        else:
            self.optimizer = checks.choose("optimizer", optimizer, OPTIMIZERS)()
        self._check_link()
        if isinstance(metrics, str):
            raise TypeError(f"metrics must be a list of names, such as [{metrics!r}]")
        self.metrics = {name: checks.choose("metric", name, METRICS) for name in metrics}
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
        self._steps = 0  # that the optimizer has seen
        self._epochs = 0  # begun

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
        return f"Sequential({self.layers}, loss={self.loss.name!r}, optimizer={self.optimizer})"

    def build(self, input_shape: int | Shape) -> None:
        """Lay out the parameters and draw their first values; `fit` and `predict` do it when they see data.

        Parameters
        ----------
        input_shape : int or tuple of int
            Number of features, or a sample's shape.
        """
        lengths = input_shape if isinstance(input_shape, tuple) else (input_shape,)
        shape = tuple(checks.positive_integer("input_shape", n) for n in lengths)
        self._network = Network(lay_out(self.layers, shape), self.dtype, self.seed)
        self._moments = [np.zeros_like(self._network.params) for _ in range(self.optimizer.moments)]
        self._outputs = Predictor(self._network, self.backend)
        self._predictions = Predictor(self._network, self.backend, self.loss.link)

    @property
    def network(self) -> Network:
        """Parameters, gradients and layout of a built model."""
        if self._network is None:
            raise RuntimeError("the model does not know its input yet: call fit, or build(number_of_features)")
        return self._network

    @property
    def params(self) -> np.ndarray:
        """All parameters, one flat array."""
        return self.network.params

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
        y,
        epochs: int = 1,
        batch_size: int = 32,
        validation_data: tuple | None = None,
        shuffle: bool = True,
        verbose: int = 1,
    ) -> History:
        """Train. Called again, it goes on where it stopped.

        Parameters
        ----------
        X : array_like (rows, features)
        y : array_like (rows,) or (rows, outputs)
            Integer labels, or values.
        epochs, batch_size : int
            The last mini-batch of an epoch has the rows that are left.
        validation_data : (X, y), optional
            Measured after every epoch.
        shuffle : bool
            Whether each epoch has an order of its own.
        verbose : {0, 1, 2}
            Nothing, a progress bar, or a line for each epoch.

        Returns
        -------
        History

        Raises
        ------
        DivergenceError
            When the loss is no longer finite.
        """
        epochs = checks.positive_integer("epochs", epochs)
        batch_size = checks.positive_integer("batch_size", batch_size)
        if verbose not in (0, 1, 2):
            raise ValueError(f"verbose must be 0, 1 or 2, got {verbose!r}")
        x, target = self._checked("X", X, "y", y)
        validation = None
        if validation_data is not None:
            if not isinstance(validation_data, tuple | list) or len(validation_data) != 2:
                raise TypeError("validation_data must be a pair (X, y)")
            validation = self._checked("validation X", validation_data[0], "validation y", validation_data[1])
        trainer = self._trainer(
            x, target, batch_size, shuffle, epoch_by_epoch=validation is not None or verbose == 2,
            progress=compiling if verbose else iter,
        )  # fmt: skip
        history = History(trainer.steps_per_epoch, label=self.backend)
        bar = tqdm(total=epochs * trainer.steps_per_epoch, disable=verbose != 1, unit="step")
        with bar:
            while len(history) < epochs:
                self._fit_epochs(trainer, min(trainer.epochs_together, epochs - len(history)), history, bar)
                if validation:
                    history.add_epoch(**self._measure(*validation, prefix="val_"))
                measured = {name: values[-1] for name, values in history.epochs.items()}
                bar.set_postfix({name: f"{value:.4g}" for name, value in measured.items()}, refresh=False)
                if verbose == 2:
                    text = " - ".join(f"{name}: {value:.4f}" for name, value in measured.items())
                    print(f"Epoch {len(history)}/{epochs} - {text}", flush=True)
        return history

    def _trainer(
        self, x: np.ndarray, target: np.ndarray, batch_size: int, shuffle: bool, epoch_by_epoch: bool, progress=iter
    ) -> Trainer:
        """A training step, bound to checked data."""
        return Trainer(
            self.network, self.loss, self.optimizer, self._moments, x, target, batch_size, self.backend,
            self.seed if shuffle else None, epoch_by_epoch, record_outputs=bool(self.metrics), progress=progress,
        )  # fmt: skip

    def _fit_epochs(self, trainer: Trainer, epochs: int, history: History, bar) -> None:
        """Train for some epochs in one run and note what they measured."""
        rows, steps = trainer.rows, trainer.steps_per_epoch
        epochs_done = self._epochs
        self._epochs += epochs
        try:
            trainer.train(epochs, epochs_done, self._steps, bar.update)
        finally:  # Ctrl-C arrives here between two mini-batches
            done = int(trainer.clock[prog.STEP])
            self._steps += done
            history.add_steps(trainer.step_loss[: done + trainer.diverged])
            weights = np.minimum(trainer.batch_size, rows - np.arange(steps) * trainer.batch_size) / rows
            for epoch in range(done // steps):
                values = {"loss": float(trainer.step_loss[epoch * steps : (epoch + 1) * steps] @ weights)}
                if trainer.outputs is not None:
                    part = slice(epoch * rows, (epoch + 1) * rows)
                    predictions = linked(trainer.outputs[part].copy(), self.loss, self.backend)
                    seen = trainer.target[trainer.order[part]]
                    values |= {name: metric(seen, predictions) for name, metric in self.metrics.items()}
                history.add_epoch(**values)
        if trainer.diverged:
            raise DivergenceError(len(history) + 1, done % steps + 1, history)

    def predict(self, X) -> np.ndarray:
        """Predictions (rows, outputs): probabilities, or values for regression.

        Parameters
        ----------
        X : array_like (rows, features)
        """
        x = self._features("X", X)
        return self._predictions(x)

    def evaluate(self, X, y) -> dict[str, float]:
        """The loss and every metric on these data, ``{"loss": ..., "accuracy": ...}``."""
        return self._measure(*self._checked("X", X, "y", y))

    def gradients(self, X, y) -> dict[str, np.ndarray]:
        """Gradient of the mean loss over all rows: views into `grads` by name, such as ``dense_0.w``."""
        x, target = self._checked("X", X, "y", y)
        program = Program(self.backend, self.dtype, len(x))
        scale = np.full(len(x), 1 / len(x), self.dtype)
        self.network.gradients(program, self.loss, x, target, program.buffer(len(x)), scale, self.grads)
        Runner(program).once()
        return self.network.layout.named(self.grads)

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
            "layers": self.layers, "loss": self.loss.name, "optimizer": self.optimizer, "metrics": list(self.metrics),
            "seed": self.seed, "dtype": self.dtype.name, "backend": self.backend,
        }  # fmt: skip
        state = {"settings": settings, "steps": self._steps, "epochs": self._epochs}
        if self._network is not None:
            arrays = {"params": self.params, "moments": self._moments}
            state |= arrays | {"input_shape": self.network.layout.input_shape}
        return state

    def __setstate__(self, state: dict) -> None:
        self.__init__(**state["settings"])  # type: ignore[misc]
        if "params" in state:
            self.build(state["input_shape"])
            self.params[:] = state["params"]
            for mine, theirs in zip(self._moments, state["moments"], strict=True):
                mine[:] = theirs
        self._steps, self._epochs = state["steps"], state["epochs"]

    def summary(self) -> str:
        """The layers with their outputs and numbers of parameters, as text."""
        layout = self.network.layout
        rows = [("layer", "output", "parameters"), ("input", str(layout.input_shape), "")]
        for place in layout.places:
            size = sum(math.prod(parameter.shape) for _, parameter in place.parameters.values())
            text = f"{place.name} ({place.layer.name})" if hasattr(place.layer, "name") else place.name
            rows.append((text, str(place.output_shape), f"{size:,}"))
        rows.append(("total", "", f"{layout.size:,}"))
        widths = [max(len(row[i]) for row in rows) for i in range(3)]
        return "\n".join(f"{a:{widths[0]}}  {b:{widths[1]}}  {c:>{widths[2]}}" for a, b, c in rows)

    def _features(self, name: str, X) -> np.ndarray:
        shape = self._network.layout.input_shape if self._network else None
        x = checks.features(name, X, self.dtype, shape)
        if self._network is None:
            self.build(x.shape[1:])
        return x

    def _checked(self, x_name: str, X, y_name: str, y) -> tuple[np.ndarray, np.ndarray]:
        x = self._features(x_name, X)
        outputs = math.prod(self.network.layout.output_shape)
        return x, checks.targets(y_name, y, self.loss, self.dtype, len(x), outputs)

    def _measure(self, x: np.ndarray, target: np.ndarray, prefix: str = "") -> dict[str, float]:
        z = self._outputs(x)
        values = {"loss": mean_loss(z, target, self.loss, self.backend)}
        predictions = linked(z, self.loss, self.backend)
        values |= {name: metric(target, predictions) for name, metric in self.metrics.items()}
        return {prefix + name: value for name, value in values.items()}
