"""A user's program with types, over the public names: `mypy --strict` accepts it, and it runs."""

import dataclasses
import math
import pathlib
import sys
from typing import Any, assert_type

import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure
from numba import prange

import nbbp
from nbbp.engine.layer import Binding
from nbbp.training.observed import ObservedFit

Floats = npt.NDArray[np.float32]


class HalveRate(nbbp.callbacks.Callback):
    def __init__(self, epochs: int) -> None:
        self.epochs = epochs

    def on_epoch_end(self, fit: ObservedFit) -> None:
        rate = fit.model.learning_rate
        if len(fit.history) % self.epochs == 0 and isinstance(rate, float):
            fit.model.learning_rate = rate / 2


class LoudStopping(nbbp.callbacks.EarlyStopping):
    def on_epoch_end(self, fit: ObservedFit) -> None:
        super().on_epoch_end(fit)
        if fit.history["loss"][-1] < 0.01:
            fit.stop("good enough")


class Lines(nbbp.trackers.Tracker):
    def __init__(self) -> None:
        self.lines: list[str] = []

    def log(self, epoch: int, values: dict[str, float]) -> None:
        self.lines.append(f"{epoch}: {values['loss']:.3g}")


def twice_reference(y: Floats, x: Floats) -> None:
    np.multiply(x, 2, out=y)


@nbbp.kernel(twice_reference, "(b,n) (b,n)")
def twice(y: Floats, x: Floats) -> None:
    for i in prange(x.shape[0]):
        for j in range(x.shape[1]):
            y[i, j] = x[i, j] + x[i, j]


@dataclasses.dataclass(frozen=True)
class Twice(nbbp.Layer):
    """Returns 2 x."""

    reads = ()

    def spec(self, *shapes: tuple[int, ...]) -> nbbp.Spec:
        return nbbp.Spec(shapes[0])

    def forward(self, b: Binding) -> None:
        b.call(twice, b.y.reshape(b.rows, -1), b.x.reshape(b.rows, -1))

    def backward(self, b: Binding) -> None:
        if b.dx is not None:
            b.call(twice, b.dx.reshape(b.rows, -1), b.dy.reshape(b.rows, -1))


def worst(y: np.ndarray, prediction: np.ndarray) -> float:
    return float(np.max(np.abs(y - prediction)))


def network(seed: int = 0) -> nbbp.Sequential:
    layers = [nbbp.Dense(8, "tanh", l2=1e-4, initializer=nbbp.initializers.orthogonal), nbbp.Dropout(0.1)]
    return nbbp.Sequential(
        [*layers, nbbp.LayerNorm(), nbbp.Residual([nbbp.Dense(8)]), nbbp.Dense(10)],
        loss="softmax_cross_entropy",
        optimizer=nbbp.AdamW(nbbp.schedules.OneCycle(0.01, steps=100), clip_norm=1.0),
        metrics=["accuracy"],
        seed=seed,
        averaging=nbbp.EMA(0.9),
        backend="numpy",
    )


def train(folder: pathlib.Path) -> nbbp.History:
    X, y = nbbp.datasets.load_digits()
    assert_type(X, np.ndarray)
    model = network()
    history = model.fit(
        X[:500],
        y[:500],
        epochs=2,
        batch_size=64,
        validation_data=(X[500:600], y[500:600]),
        class_weight=dict.fromkeys(range(10), 1.0),
        callbacks=[
            HalveRate(10),
            LoudStopping("val_accuracy", patience=3),
            Lines(),
            nbbp.callbacks.CSVLog(folder / "log.csv"),
            nbbp.callbacks.Call(lambda fit: print(len(fit.history))),
            nbbp.Inspect(every=4),
            nbbp.Checkpoint(folder / "run"),
            nbbp.trackers.JSONL(folder / "lines.jsonl"),
        ],
        verbose=0,
    )
    assert_type(history, nbbp.History)
    assert_type(history["loss"], list[float])
    assert_type(history.plot(folder / "curve.png", log=True), Figure)
    assert_type(nbbp.plots.loss_curves({"first": history}), Figure)
    assert_type(nbbp.plots.confusion_matrix(y, model.predict(X), path=folder / "confusion.png"), Figure)
    assert_type(nbbp.plots.images(X.reshape(-1, 8, 8), y, model.predict(X), path=folder / "images.png"), Figure)
    print(nbbp.diagnose(history))

    predictions: np.ndarray = model.predict(X)
    assert len(predictions) == len(X)
    assert_type(model.evaluate(X, y), dict[str, float])
    assert_type(model.gradients(X, y), dict[str, np.ndarray])
    assert_type(model.averaged(), nbbp.Sequential)
    assert_type(nbbp.check_gradients(model, X[:8], y[:8], most=3), dict[str, float])

    model.save(folder / "model.safetensors")
    assert_type(nbbp.load(folder / "model.safetensors"), nbbp.Model)
    nbbp.prune(model, 0.5)
    return history


def train_many(X: np.ndarray, y: np.ndarray) -> float:
    ensemble = nbbp.Ensemble(2, network)
    histories = ensemble.fit(X, y, epochs=1, verbose=0)
    assert_type(histories, list[nbbp.History])
    spread: np.ndarray = ensemble.spread(X)
    assert len(spread) == len(X)
    student = nbbp.Sequential([nbbp.Dense(10)], "softmax_cross_entropy", backend="numpy")
    assert_type(nbbp.distill(student, ensemble.members[0], X, y, epochs=1, verbose=0), nbbp.History)
    return histories[0]["loss"][-1]


def own_layer(X: np.ndarray) -> np.ndarray:
    model = nbbp.Sequential([Twice(), nbbp.Dense(1)], metrics=[worst], backend="numpy")
    model.fit(X, X[:, :1], callbacks=[nbbp.callbacks.TimeLimit(60.0)], verbose=0)
    found = nbbp.find_learning_rate(model, X, X[:, :1])
    assert_type(found.plot(), Figure)
    predictions: np.ndarray = model.predict(X)
    return predictions


def streamed(X: np.ndarray, y: np.ndarray) -> nbbp.streams.Stream:
    stream = nbbp.streams.from_arrays(X, y, buffer_rows=100)
    network().fit(stream, epochs=1, verbose=0)
    assert_type(nbbp.streams.from_batches([(X, y)]), nbbp.streams.Stream)
    return stream


def exchanged(folder: pathlib.Path, X: np.ndarray) -> None:
    model = nbbp.Sequential([nbbp.Dense(4, "relu"), nbbp.Dense(2)], backend="numpy")
    model.build(X.shape[1])
    nbbp.exchange.to_numpy_file(model, folder / "model.py")
    nbbp.exchange.to_safetensors(model, folder / "weights.safetensors")
    nbbp.exchange.from_torch(model, folder / "weights.safetensors")


def estimators(X: np.ndarray, y: np.ndarray) -> float:
    from nbbp.sklearn import MLPClassifier, MLPRegressor

    classifier = MLPClassifier((8,), dropout=0.1, max_iter=2, class_weight="balanced")
    assert_type(classifier.fit(X, y), MLPClassifier)
    assert_type(classifier.predict_proba(X), np.ndarray)
    regressor = MLPRegressor((8,), max_iter=2).fit(X, y)
    assert_type(regressor.predict(X), np.ndarray)
    return float(classifier.score(X, y))


def encoded(table: Any) -> np.ndarray:
    encoder = nbbp.tables.TableEncoder.fit(table)
    assert_type(encoder, nbbp.tables.TableEncoder)
    assert_type(encoder.layers(), list[nbbp.Layer])
    return encoder.encode(table)


def by_name() -> float:
    rates = {name: kind().learning_rate for name, kind in nbbp.OPTIMIZERS.items()}
    assert nbbp.LOSSES["mse"].description
    assert math.isfinite(nbbp.METRICS["mae"](np.zeros((2, 1)), np.ones((2, 1))))
    return nbbp.schedules.WarmUp(nbbp.schedules.Cosine(0.1, 10), 5).value(3) + len(rates)


def main(folder: pathlib.Path) -> None:
    X, y = nbbp.datasets.load_digits()
    X, y = X[:500], y[:500]
    assert train(folder).stopped == ""
    assert train_many(X, y) > 0
    assert own_layer(X).shape == (500, 1)
    assert streamed(X, y).rows == 500
    exchanged(folder, X)
    assert estimators(X, y) > 0
    assert by_name() > 0


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]))
