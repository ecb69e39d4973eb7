"""nbbp warmup."""

import functools
import time
from collections.abc import Callable, Iterator

import numpy as np

from nbbp import optimizers
from nbbp.activations import ACTIVATIONS
from nbbp.cli.commands import Command, kernel_folders
from nbbp.engine.node import Input
from nbbp.engine.program import noting
from nbbp.engine.ragged import Ragged
from nbbp.insight.inspection import Inspect
from nbbp.kernels import cache, threads
from nbbp.kernels.jit import Code, machine_code
from nbbp.kernels.workers import Divided, finish
from nbbp.layers import (
    GRU,
    LSTM,
    Activation,
    Add,
    AveragePool2D,
    BatchNorm,
    Bidirectional,
    Clamp,
    ColumnEmbedding,
    Concatenate,
    Conv1D,
    Conv2D,
    Conv2DTranspose,
    Crop2D,
    Dense,
    Dropout,
    Embedding,
    FeatureTokens,
    Flatten,
    GaussianNoise,
    GlobalAveragePool,
    GlobalMaxPool,
    GroupNorm,
    LayerNorm,
    MaxPool2D,
    MemberDense,
    Members,
    Multiply,
    ParametricActivation,
    PeriodicEmbedding,
    PositionalEmbedding,
    RandomCrop,
    RandomFlip,
    RandomShift,
    Rescale,
    Residual,
    Scale,
    SimpleRNN,
    SpatialDropout,
    TakeFirst,
    TiedDense,
    TransformerBlock,
    UpSample2D,
    ZeroPad2D,
)
from nbbp.losses import LOSSES
from nbbp.model import Model
from nbbp.recipes.distillation import distill
from nbbp.recipes.ensemble import Ensemble
from nbbp.recipes.generation import generate
from nbbp.recipes.pruning import prune
from nbbp.schedules import FlatCosine
from nbbp.sequential import Sequential
from nbbp.streams import windows
from nbbp.training.averaging import EMA
from nbbp.training.progress import bar

EXAMPLES = """\
  nbbp warmup
  nbbp warmup --dtype float32 float64
  NUMBA_CACHE_DIR=/opt/kernels nbbp warmup"""

ROWS = 700  # more than one block of a prediction, and enough for packed products
X, VALUES, LABELS = np.zeros((ROWS, 4)), np.zeros((ROWS, 3)), np.arange(ROWS) % 3
CLASSES = np.eye(3)[LABELS]


def register(command: Command) -> None:
    sub = command("warmup", warmup, EXAMPLES)
    sub.add_argument(
        "--dtype", nargs="+", choices=("float32", "float64"), default=["float32"],
        help="of the networks; scikit-learn's tables are float64 (float32)",
    )  # fmt: skip


def warmup(arguments) -> int:
    """Compile the kernels of all layers, losses and optimizers beforehand, as for the image of a container."""
    begin = time.perf_counter()
    models = [functools.partial(Sequential, dtype=dtype) for dtype in arguments.dtype]
    for code in bar(Divided(needed(models)), desc="compiling kernels", unit="kernel", leave=False):
        machine_code(*code)
        if cache.counts["lost"]:
            return 1  # the cache has said why
    runs = [(shared, run) for shared in (False, True) for model in models for run in usual_runs(model)]
    for shared, run in bar(runs, desc="training networks", unit="network", leave=False):
        with threads.deciding(shared):
            run()
    finish()
    seconds, counts = time.perf_counter() - begin, cache.counts
    new, old = counts["written"] + counts["shared"], counts["read"] - counts["shared"]
    print(f"{new} kernels compiled in {seconds:.0f} s, {old} were there already")
    print(*kernel_folders(), sep="\n")
    return 0


def needed(models: list[functools.partial[Sequential]]) -> list[Code]:
    """Both twins of the kernels of the usual runs, which bind them to plain NumPy here.

    Some are bound by compiled programs alone: those are compiled when the networks are trained.
    """
    with noting() as kernels:
        for model in models:
            for run in usual_runs(functools.partial(model, backend="numpy")):
                run()
    twins = {(twin, kinds): None for kernel, kinds in kernels for twin in (kernel.serial, kernel.parallel)}
    return sorted(twins, key=lambda code: code[0].py_func.__module__)


def usual_runs(model: functools.partial[Sequential]) -> Iterator[Callable]:
    """Functions that together run every kernel with the arrays of usual fits; `model` makes a network from layers."""
    for optimizer in (
        *optimizers.OPTIMIZERS,
        optimizers.SGD(momentum=0.9),
        optimizers.SGD(momentum=0.9, nesterov=True),
        optimizers.SGD(clip_value=1.0, clip_norm=1.0, gradient_noise=0.1),
    ):
        yield functools.partial(_fit, model([Dense(3)], optimizer=optimizer), VALUES)
    for loss in LOSSES.values():
        ending = "softmax" if loss.from_probabilities else "linear"
        units = 2 if loss.outputs_per_target == 2 else 3
        columns = loss.target_columns(units)
        for y in (CLASSES, LABELS) if loss.labels else (CLASSES[:, :columns],):
            if columns <= 3:
                yield functools.partial(_fit, model([Dense(units, ending)], loss, metrics=[_metric]), y)
    for name in ACTIVATIONS:
        yield functools.partial(_fit, model([Dense(3), Activation(name), Dense(3)]), VALUES)
    every = [
        ColumnEmbedding({0: 5}), Dense(4, "relu", l1=0.01, l2=0.01, max_norm=1.0), Dropout(0.1), GaussianNoise(0.1),
        Residual([Dense(4)]), LayerNorm(), Dense(3),
    ]  # fmt: skip
    yield functools.partial(_fit, model(every), VALUES)
    columns_within = [Dense(4), ColumnEmbedding({0: 5}), BatchNorm(), Dense(3)]
    yield functools.partial(_fit, model(columns_within), VALUES, batch_size=ROWS - 1)  # and a single row
    yield functools.partial(_fit, model([Dense(4), BatchNorm(), Dense(3)]), VALUES, shards=2)
    yield functools.partial(_fit, model([Dense(ROWS), Dense(ROWS), Dense(3)]), VALUES, batch_size=ROWS)
    yield functools.partial(_fit, model([Dense(128), Dense(128), Dense(3)]), VALUES, batch_size=64)  # cores own weights
    yield functools.partial(_step, model([Dense(3)]))
    network = model([Dense(4), Dense(3)], "softmax_cross_entropy", averaging=EMA(), metrics=["accuracy"])
    yield functools.partial(
        _fit, network, LABELS, sample_weight=np.ones(ROWS), accumulate=2, callbacks=[Inspect(every=1)]
    )
    yield functools.partial(prune, network, 0.5)
    yield functools.partial(_fit, network, LABELS)
    yield functools.partial(distill, network, network, X, LABELS, verbose=0)
    yield functools.partial(_fit_graph, model.keywords)
    yield functools.partial(_fit_images, model)
    yield functools.partial(_fit_tokens, model)
    yield functools.partial(_fit_sequences, model)
    yield functools.partial(_fit_tables, model)
    if model.keywords.get("dtype", "float32") == "float32":
        yield functools.partial(_fit_rounded, functools.partial(model, precision="bfloat16"))
    past, future = windows(np.zeros((ROWS + 8, 4)), 6, 3, targets=0)
    yield functools.partial(model([Conv1D(4, 3), GlobalMaxPool(), Dense(3)]).fit, past, future, verbose=0)
    yield functools.partial(Ensemble(2, lambda seed: model([Dense(3)], seed=seed)).fit, X, VALUES, verbose=0)


def _fit(model: Sequential, y: np.ndarray, batch_size: int = 256, **settings) -> None:
    """Train, measure and predict with single rows, shards and blocks."""
    model.fit(X, y, batch_size=batch_size, validation_data=(X, y), verbose=0, **settings)
    model.predict(X)


def _step(model: Sequential) -> None:
    """Train in a loop by hand."""
    model.build(4)
    step = model.step(ROWS)
    step.backward(step.forward(X))
    step.update()


def _fit_images(model: functools.partial[Sequential]) -> None:
    """Train a network on images of bytes, with every kind of layer for them."""
    images, y = np.zeros((96, 12, 12, 2), np.uint8), VALUES[:96]
    network = model([
        Rescale(1 / 255), RandomFlip(vertical=True), RandomShift(1, 1), RandomCrop(10, 10),
        Conv2D(4, 3, padding="same"), GroupNorm(2), SpatialDropout(0.1), MaxPool2D(2), UpSample2D(2),
        Conv2D(24, 3, 2, padding="same"), BatchNorm(), Activation("relu"), Conv2D(24, 3, groups=24),
        AveragePool2D(2, 1), Conv2DTranspose(24, 2, 2), ZeroPad2D(2), Crop2D(1), GlobalAveragePool(), Dense(3),
    ])  # fmt: skip
    network.fit(images, y, batch_size=64, validation_data=(images, y), verbose=0)
    network.predict(images)
    best = model([Conv1D(24, 3, padding=1), Conv1D(4, 1), GlobalMaxPool(), Dense(3)])
    best.fit(images[:, 0].astype(np.float32), y, batch_size=64, verbose=0)


def _fit_tokens(model: functools.partial[Sequential]) -> None:
    """Train networks on tokens, and on the features of a table as tokens."""
    tokens, embedding = np.zeros((96, 6), np.int64), Embedding(3, 8)
    network = model([embedding, PositionalEmbedding(), Dense(8), TiedDense(embedding)], "softmax_cross_entropy")
    network.fit(tokens, tokens, batch_size=64, verbose=0)
    network.predict(tokens)
    _fit(model([Dense(4), FeatureTokens(8), TakeFirst(), Dense(3)]), VALUES)


def _fit_sequences(model: functools.partial[Sequential]) -> None:
    """Train networks on sequences of any length, and on one that goes on; let one write."""
    rows = Ragged([np.zeros((1 + n % 5, 4)) for n in range(96)])
    recurrent = [SimpleRNN(4, return_sequences=True), GRU(4, return_sequences=True), Bidirectional(LSTM(4))]
    model([*recurrent, Dense(3)]).fit(rows, VALUES[:96], batch_size=64, verbose=0)
    model([Dense(4)]).fit(rows, rows, batch_size=64, verbose=0)
    tokens = np.zeros((96, 6), np.int64)
    blocks = [Embedding(3, 8), TransformerBlock(2, causal=True, rotary=True)]
    states = [LSTM(4, return_sequences=True, stateful=True), Dense(3)]
    network = model([*blocks, *states], "softmax_cross_entropy")
    network.fit(tokens, tokens, batch_size=48, shuffle=False, verbose=0)
    generate(network, tokens[0, :2], 2)


def _fit_rounded(model: functools.partial[Sequential]) -> None:
    """Train networks whose products are of bfloat16."""
    _fit(model([Dense(4), Dense(3)]), VALUES)
    images, y = np.zeros((96, 6, 6, 2), np.float32), VALUES[:96]
    model([Conv2D(4, 3), Conv2D(4, 2), Flatten(), Dense(3)]).fit(images, y, batch_size=64, verbose=0)
    recurrent = [SimpleRNN(4, return_sequences=True), GRU(4, return_sequences=True), LSTM(4)]
    model([*recurrent, Dense(3)]).fit(images[:, :, 0], y, batch_size=64, verbose=0)


def _fit_tables(model: functools.partial[Sequential]) -> None:
    """Train networks with the layers that RealMLP and TabM have for tables."""
    activations = [ParametricActivation(name) for name in ("relu", "selu", "mish")]
    dropout = Dropout(FlatCosine(0.1, 9))
    _fit(model([Dense(4), PeriodicEmbedding(), Scale(), *activations, dropout, Dense(3), Clamp(0.0, 1.0)]), VALUES)
    members = [Dense(4), Members(2), MemberDense(3)]
    _fit(model(members), VALUES)
    _fit(model(members, "softmax_cross_entropy"), LABELS)


def _fit_graph(settings: dict) -> None:
    """Train a network with several inputs and outputs, one of them masked."""
    x, codes = Input((2, 2)), Input((2, 2), "int32")
    h = Concatenate()(Dense(4)(x), ColumnEmbedding({0: 5}, 3)(codes))
    h = Add()(h, Multiply()(h, Dense(8)(h)))
    outputs = [Dense(3)(h), Dense(3)(Dense(3, "relu")(h))]
    model = Model([x, codes], outputs, ["softmax_cross_entropy", "mse"], metrics=["accuracy"], **settings)
    data = [X.reshape(-1, 2, 2), X.reshape(-1, 2, 2).astype(np.int32)]
    y, mask = [np.stack([LABELS, LABELS], 1), np.stack([VALUES, VALUES], 1)], np.ones((ROWS, 2), bool)
    model.fit(data, y, batch_size=256, validation_data=(data, y), verbose=0, mask=[mask, None])
    model.predict(data)


def _metric(y, prediction) -> float:
    """A metric of the user's, for which the outputs are recorded."""
    return 0.0
