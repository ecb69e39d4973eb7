"""Equal bits: at any number of threads, on every threading layer, fresh and cached, in AVX2 and AVX-512 code."""

import dataclasses
import hashlib

import numpy as np
import pytest
import runs

import nbbp
from nbbp.activations import ACTIVATIONS
from nbbp.engine.planner import number_of_shards

pytestmark = pytest.mark.slow

IN_LANES = "import runs; print(runs.fitted(runs.narrow(), 2))"
TRAIN = IN_LANES + "".join(
    f"; print(runs.fitted(runs.{name}()))" for name in ("wide", "images", "recurrent", "rounded")
)


@pytest.fixture(scope="module")
def on_one_thread() -> str:
    return runs.run(TRAIN, NUMBA_NUM_THREADS="1")


def test_the_networks_run_in_lanes_and_by_operation():
    for model, lanes in ((runs.narrow(), 8), (runs.wide(), 1)):
        model.build(32)
        assert number_of_shards(512, len(model.params)) == lanes


@pytest.mark.parametrize("threads", [2, 4])
@pytest.mark.parametrize("layer", runs.LAYERS)
def test_threads_leave_the_bits(layer, threads, on_one_thread):
    if threads == 2 and layer != "omp":
        pytest.skip("four are enough")
    assert runs.on_layer(layer, TRAIN, threads) == on_one_thread


@pytest.mark.parametrize("script", [IN_LANES, pytest.param(TRAIN, marks=pytest.mark.soak)], ids=["lanes", "both"])
def test_fresh_code_has_the_bits_of_cached(script, tmp_path, on_one_thread):
    fresh = runs.run(script, NUMBA_CACHE_DIR=str(tmp_path))
    assert fresh == on_one_thread[: len(fresh)]


def test_narrower_vectors_leave_the_bits(on_one_thread):
    from llvmlite import binding

    if not binding.get_host_cpu_features().get("avx2"):
        pytest.skip("no AVX2")
    assert runs.run(TRAIN, **runs.HASWELL) == on_one_thread


# Initial values are uniform, data come from integers, and no number goes through a function of libm or of NumPy's that
# has a version for each processor: these bits are the same on every x86-64 with FMA and on aarch64.
FIXED = {
    "optimizers": "ca33ff79e28a29f5",
    "activations": "82e0922555e06b90",
    "losses": "ca21639a44e2eb6e",
    "layers": "c919f3f7c22c297f",
    "embeddings": "170f14e98696a83b",
    "tokens": "c2d174abdf5b456f",
    "projections": "d226b3062a890a67",
    "convolutions": "f2ac92142bae4652",
    "lstm": "881418e1df017c5f",
    "gru": "d8e3318c7a15e263",
    "attention": "121d5fd06dfa777e",
    "tables": "5446733e429ac2ed",
    "bfloat16": "93c7513c3dafcb4a",
}


def _fixed(what: str):
    """The networks of a fixed run, and their targets."""
    _, y = runs.rows(96, 8)
    labels = np.arange(96) * 7 % 2
    if what == "optimizers":
        for name in nbbp.OPTIMIZERS:
            if name != "nadam":  # np.float_power
                yield [nbbp.Dense(6, "tanh"), nbbp.Dense(2)], {"optimizer": name}, y
    if what == "activations":
        for name in ACTIVATIONS:
            if name in ("mish", "gaussian"):  # of RealMLP
                continue
            yield [nbbp.Dense(6, name), nbbp.Dense(2)], {}, y
    if what == "losses":
        for name, loss in nbbp.LOSSES.items():
            if name not in ("distillation", "gaussian_nll", "pinball"):
                ending = "softmax" if loss.from_probabilities else "linear"
                target = labels if ending == "softmax" or loss.link == "softmax" else np.abs(y)
                yield [nbbp.Dense(6), nbbp.Dense(2, ending)], {"loss": name}, target
    if what == "layers":
        block = nbbp.Residual([nbbp.Dense(12, "silu"), nbbp.LayerNorm()])
        noisy = [nbbp.Dense(12, l2=1e-3, max_norm=2.0), nbbp.BatchNorm(), nbbp.Dropout(0.3), nbbp.GaussianNoise(0.1)]
        settings = {"optimizer": nbbp.AdamW(clip_norm=1.0), "averaging": nbbp.EMA(0.9)}
        for dtype in ("float32", "float64"):
            yield [*noisy, block, nbbp.Dense(2)], {**settings, "dtype": dtype}, y
    if what == "projections":
        inner = nbbp.Residual([nbbp.Dense(12, "tanh"), nbbp.Dropout(0.2)])  # of one width: nothing is projected
        yield [nbbp.Residual([nbbp.Dense(12, "relu"), inner, nbbp.BatchNorm()]), nbbp.Dense(2)], {}, y
    if what == "convolutions":
        for dtype in ("float32", "float64"):
            yield [*runs.images().layers[1:-1], nbbp.Dense(2)], {"dtype": dtype}, y
    if what == "embeddings":
        yield [nbbp.ColumnEmbedding({8: 3, 9: 5}, dimension=4), nbbp.Dense(6, "relu"), nbbp.Dense(2)], {}, y
    if what == "tables":
        dense = nbbp.Dense(12, initializer="lecun_uniform", bias_initializer="uniform", parametrization="ntk")
        activated = [nbbp.ParametricActivation(name, rate=0.1, decay=0.1) for name in ("mish", "selu")]
        decay = nbbp.AdamW(nbbp.schedules.Polynomial(0.1, 9), weight_decay=nbbp.schedules.Polynomial(0.1, 9))
        noise = nbbp.Dropout(nbbp.schedules.Polynomial(0.5, 9))
        for dtype in ("float32", "float64"):
            layers = [nbbp.Scale(rate=6.0), dense, *activated, noise, nbbp.Members(3), nbbp.MemberDense(4)]
            yield layers, {"loss": "gaussian_nll", "optimizer": decay, "dtype": dtype}, y
    if what in ("lstm", "gru"):
        more = {"recurrent_initializer": "glorot_uniform"}  # the orthogonal one is LAPACK's
        last = nbbp.LSTM(40, **more) if what == "lstm" else nbbp.GRU(40, **more)
        first = nbbp.LSTM(7, **more) if what == "lstm" else nbbp.GRU(7, reset_after=False, **more)
        for dtype in ("float32", "float64"):
            sequences = dataclasses.replace(first, return_sequences=True)
            yield [nbbp.Bidirectional(sequences), last, nbbp.Dense(2)], {"dtype": dtype}, y
    if what == "attention":
        block = nbbp.TransformerBlock(2, hidden=20, causal=True, dropout=0.2)
        layers = [nbbp.Dense(16), block, nbbp.MultiHeadAttention(4), nbbp.Flatten(), nbbp.Dense(2)]
        for dtype in ("float32", "float64"):
            yield layers, {"dtype": dtype}, y
    if what == "bfloat16":
        block = nbbp.TransformerBlock(2, hidden=20)
        for layers in (
            [nbbp.Dense(41, "relu"), nbbp.Dense(2)],
            [*runs.images().layers[:-1], nbbp.Dense(2)],
            [nbbp.Reshape((4, 8)), block, nbbp.Flatten(), nbbp.Dense(2)],
            [nbbp.Reshape((8, 4)), nbbp.LSTM(40, recurrent_initializer="glorot_uniform"), nbbp.Dense(2)],
            [nbbp.Reshape((8, 4)), nbbp.GRU(7, recurrent_initializer="glorot_uniform"), nbbp.Dense(2)],
        ):
            yield layers, {"precision": "bfloat16"}, y
    if what == "tokens":
        embedding = nbbp.Embedding(23, 40)
        yield [embedding, nbbp.Dense(40, "relu"), nbbp.TiedDense(embedding), nbbp.TakeFirst(), nbbp.Dense(2)], {}, y
        embedding = nbbp.Embedding(23, 1)
        yield [embedding, nbbp.Flatten(), nbbp.FeatureTokens(5), nbbp.Flatten(), nbbp.Dense(2)], {}, y


@runs.with_the_same_bits
@pytest.mark.parametrize("what", FIXED)
def test_a_fixed_run_has_the_bits_that_it_had(what):
    """Where a change is meant to move bits, the changelog says so and the digests here are replaced."""
    X, _ = runs.rows(96, 8)
    if what == "bfloat16":
        X, _ = runs.rows(96, 32)
    if what == "convolutions":
        X = runs.rows(96, 32)[0].reshape(96, 8, 4, 1)
    if what in ("lstm", "gru"):
        X = runs.rows(96, 32)[0].reshape(96, 8, 4)
    if what == "attention":
        X = runs.rows(96, 100)[0].reshape(96, 50, 2)
    if what == "embeddings":
        X = np.column_stack([X, np.arange(96) % 3, np.arange(96) * 7 % 5])
    if what == "tokens":
        X = (np.arange(96 * 7) * 11 % 23).reshape(96, 7)
    made = hashlib.sha256()
    for layers, settings, y in _fixed(what):
        model = nbbp.Sequential(layers, seed=3, **{"optimizer": "sgd", **settings})
        history = model.fit(X, y, epochs=3, batch_size=40, verbose=0)
        made.update(runs.digest(model.params, history.step_loss, model.predict(X)).encode())
    assert made.hexdigest()[:16] == FIXED[what]


def _shards():
    X, y = runs.rows()
    return runs.narrow(), (X, y), {"batch_size": 512}


def _blocks_of_rows():
    X, y = runs.rows(900, 160)
    return nbbp.Sequential([nbbp.Dense(256, "relu"), nbbp.Dense(2)], seed=3), (X, y), {"batch_size": 600}


def _packed_products():
    X, y = runs.rows(512, 600)
    layers = [nbbp.Dense(600, "relu"), nbbp.Dense(600, "relu"), nbbp.Dense(2)]
    return nbbp.Sequential(layers, seed=3), (X, y), {"batch_size": 512}


def _packed_and_in_place():
    X, y = runs.rows(512, 384)
    layers = [nbbp.Dense(300, "relu"), nbbp.Dense(300, "relu"), nbbp.Dense(2)]
    return nbbp.Sequential(layers, seed=3), (X, y), {"batch_size": 512}


def _accumulation():
    return runs.narrow(), runs.rows(200), {"batch_size": 24, "accumulate": 3}


def _stream():
    stream = nbbp.streams.from_arrays(*runs.rows(5000), buffer_rows=700)
    return runs.narrow(), (stream,), {"batch_size": 64}


def _weights():
    X, _ = runs.rows(200)
    labels = (X[:, 0] > 0).astype(np.int64)
    settings = {"batch_size": 48, "sample_weight": np.arange(200) % 4 / 2, "class_weight": {0: 1.0, 1: 2.5}}
    model = nbbp.Sequential([nbbp.Dense(24, "relu"), nbbp.Dense(2)], "softmax_cross_entropy", "sgd", seed=3)
    return model, (X, labels), settings


WAYS = {
    _shards: "b8eac8e2cfd5024e",
    _blocks_of_rows: "8f8ad6b90a18d0f8",
    _packed_products: "b364c997473b43b3",
    _packed_and_in_place: "2461804ff03108f2",
    _accumulation: "1ba18ceb64afde70",
    _stream: "67abf9e5397f0ac8",
    _weights: "351dd689ad5d58f7",
}


@runs.with_the_same_bits
@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__.strip("_"))
def test_each_way_through_a_step_has_the_bits_that_it_had(way):
    """Sums over one shard and over several, over blocks of rows, over parts of a mini-batch, and weighted ones."""
    model, data, settings = way()
    history = model.fit(*data, epochs=2, verbose=0, **settings)
    X, _ = runs.rows(1300, model.network.graph.inputs[0].shape[0])  # two blocks, and rows that are left
    made = runs.digest(model.params, model.grads, history.step_loss, model.predict(X), model.predict(X[:3]))
    assert made[:16] == WAYS[way]


FIRST_VALUES = [
    (nbbp.BatchNorm(), "8521104ae4f06da3"),
    (nbbp.Dense(4, use_bias=False), "5250b3b6876a1605"),
    (nbbp.Dense(4, "relu", initializer="he_uniform"), "3db4869724db6f56"),
    (nbbp.ColumnEmbedding({0: 3}), "c1a909e9a524383a"),
    (nbbp.LayerNorm(), "395c8eebe92e6ad0"),
    (nbbp.Residual([nbbp.Dense(9), nbbp.BatchNorm()]), "b17f006980fc063d"),
]


@runs.with_the_same_bits
@pytest.mark.parametrize(("layer", "expected"), FIRST_VALUES, ids=lambda value: getattr(type(value), "__name__", ""))
def test_a_layer_has_the_first_values_that_it_had(layer, expected):
    """Its own, and those of the layer after it."""
    model = nbbp.Sequential([nbbp.Dense(6), layer, nbbp.Dense(3)], seed=5)
    model.build(6)
    assert runs.digest(model.params, model.network.state)[:16] == expected
