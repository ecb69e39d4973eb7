"""RealMLP: a multi-layer perceptron for tables with tuned defaults."""

from collections.abc import Sequence
from typing import Any

from nbbp import checks
from nbbp.engine.node import Edge, Input
from nbbp.initializers import normal
from nbbp.layers import (
    Clamp,
    ColumnEmbedding,
    Concatenate,
    Dense,
    Dropout,
    ParametricActivation,
    PeriodicEmbedding,
    Scale,
)
from nbbp.losses import Loss
from nbbp.model import Model
from nbbp.optimizers import Adam, AdamW
from nbbp.schedules import CosLog, FlatCosine

EPOCHS = BATCH_SIZE = 256
UNITS, HIDDEN_LAYERS, EMBEDDING = 256, 3, 8
RATES = {("TD", True): 0.04, ("TD", False): 0.2, ("TD-S", True): 0.04, ("TD-S", False): 0.07}  # classes or values


def realmlp(
    outputs: int,
    steps: int,
    numbers: int = 0,
    one_hot: int = 0,
    categories: Sequence[int] = (),
    classes: bool = False,
    preset: str = "TD",
    output_range: tuple | None = None,
    loss: str | Loss | None = None,
    metrics: Any = (),
    seed: int = 0,
    backend: str = "numba",
) -> Model:
    """The network of RealMLP-TD or RealMLP-TD-S with its optimizer and schedules, to be fitted for `steps` steps.

    Holzmueller, Grinsztajn and Steinwart, "Better by default: strong pre-tuned MLPs and boosted trees on tabular data",
    NeurIPS 2024, Table A.1, and pytabkit, its implementation; weight decay, as there, has the square of a parameter's
    factor of the learning rate. TD has periodic embeddings of numbers, parametric activations, first values from data,
    dropout and weight decay; TD-S is simpler, and its first values do not depend on data. The paper trains both for 256
    epochs with mini-batches of 256 rows, and takes the last of the best epochs:
    ``EarlyStopping("val_accuracy", patience=256, ties="last")``.

    Parameters
    ----------
    outputs : int
        The number of classes, or of values for each row.
    steps : int
        The number of updates of the whole fit: epochs times ceil(rows / batch size).
    numbers, one_hot : int
        Columns of the input "numbers", float32, robustly scaled; and of the input "one_hot", of two values each, which
        `nbbp.tables.TableEncoder` scales likewise if it is told to. An input without columns is left out of the model,
        and of the dict of arrays that `fit` and `predict` take.
    categories : sequence of int
        For each column of the input "codes", int32, the number of its categories, which count from 0; each has an
        embedding of length 8.
    classes : bool
        Whether targets are classes: labels, with softmax cross-entropy and label smoothing 0.1. Otherwise values of
        mean 0 and standard deviation 1, with the mean squared error.
    preset : {"TD", "TD-S"}
    output_range : (low, high), optional
        The range of the targets in training, within which predictions of values then stay, with TD; numbers, or
        sequences with one for each output.
    loss : str or Loss, optional
        Another loss than the default, such as ``nbbp.losses.Pinball(quantiles)``; without label smoothing.
    metrics, seed, backend
        As for `nbbp.Model`.

    Examples
    --------
    >>> import nbbp
    >>> X, y = nbbp.datasets.load_digits()
    >>> model = nbbp.recipes.realmlp(10, steps=4 * 7, numbers=64, classes=True, metrics=["accuracy"])
    >>> history = model.fit({"numbers": X[:1600] - 0.5}, y[:1600], epochs=4, batch_size=256, verbose=0)
    >>> model.evaluate({"numbers": X[1600:] - 0.5}, y[1600:])["accuracy"] > 0.9
    True
    """
    outputs, steps = checks.positive_integer("outputs", outputs), checks.positive_integer("steps", steps)
    numbers, one_hot = checks.integer("numbers", numbers, 0), checks.integer("one_hot", one_hot, 0)
    checks.choose("preset", preset, {"TD": None, "TD-S": None})
    checks.boolean("classes", classes)
    tuned = preset == "TD"
    inputs, parts = _inputs(numbers, one_hot, categories, tuned)
    h = Scale(rate=6.0, decay=6.0)(parts[0] if len(parts) == 1 else Concatenate()(*parts))
    activation = "selu" if classes else "mish"
    for _ in range(HIDDEN_LAYERS):
        if tuned:
            h = _from_data(UNITS)(h)
            h = ParametricActivation(activation, rate=0.1, decay=0.1)(h)
            h = Dropout(FlatCosine(0.15, steps))(h)
        else:
            h = Dense(UNITS, activation, True, "lecun_normal", bias_initializer=normal(1.0), parametrization="ntk")(h)
    last = _from_data(outputs) if tuned else Dense(outputs, initializer="zeros", parametrization="ntk")
    h = last(h)
    if tuned and output_range is not None and not classes:
        h = Clamp(*output_range)(h)
    rate = CosLog(RATES[preset, classes], steps)
    optimizer = AdamW(rate, beta2=0.95, weight_decay=FlatCosine(0.02, steps)) if tuned else Adam(rate, beta2=0.95)
    smoothing = 0.1 if classes and loss is None else 0.0
    loss = loss or ("softmax_cross_entropy" if classes else "mse")
    return Model(inputs, h, loss, optimizer, metrics, seed=seed, backend=backend, label_smoothing=smoothing)


def _from_data(units: int) -> Dense:
    return Dense(units, initializer="unit_variance", bias_initializer="hull", parametrization="ntk")


def _inputs(
    numbers: int, one_hot: int, categories: Sequence[int], tuned: bool
) -> tuple[dict[str, Input], list[Edge]]:  # fmt: skip
    """The inputs by name, and what the network begins with: they themselves, or their embeddings."""
    inputs: dict[str, Input] = {}
    parts: list[Edge] = []
    if numbers:
        inputs["numbers"] = Input(numbers)
        parts.append(PeriodicEmbedding(0.1, rate=0.1, decay=0.1)(inputs["numbers"]) if tuned else inputs["numbers"])
    if one_hot:
        inputs["one_hot"] = Input(one_hot)
        parts.append(inputs["one_hot"])
    if len(categories):
        inputs["codes"] = Input(len(categories), dtype="int32")
        embedding = ColumnEmbedding(dict(enumerate(categories)), EMBEDDING, initializer=normal(1.0))
        parts.append(embedding(inputs["codes"]))
    if not inputs:
        raise ValueError("realmlp needs columns: numbers, one_hot or categories")
    return inputs, parts
