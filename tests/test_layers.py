"""Every layer: against PyTorch, both backends, both precisions, copies, threads and lanes."""

import copy
import pickle
import tempfile

import numba
import numpy as np
import pytest

import nbbp
from nbbp import LAYERS
from nbbp.engine.graph import Graph, chain
from nbbp.engine.layer import Layer
from nbbp.engine.layout import Layout
from nbbp.engine.network import Network
from nbbp.engine.program import Program, Shards
from nbbp.engine.runner import Runner


def wide(shape, rng):
    return rng.normal(0, 0.7, shape)


def network(name: str, units: int = 9, **settings) -> nbbp.Model:
    """The example of a layer within a network; integer columns are only at the input."""
    x = nbbp.Input(4)
    h = x if name == "column_embedding" else nbbp.Dense(units, activation="tanh", initializer=wide)(x)
    return nbbp.Model(x, nbbp.Dense(2)(LAYERS[name].example(h)), **settings)


def data(rng, rows: int):
    """Rows of which columns 1 and 3 are codes."""
    X = rng.standard_normal((rows, 4))
    X[:, 1], X[:, 3] = rng.integers(0, 5, rows), rng.integers(0, 2, rows)
    return X, rng.standard_normal((rows, 2))


def states(model) -> dict[str, np.ndarray]:
    network = model.network
    return {
        f"{place.name}.{name}": getattr(place.views(network.params, network.state), name)
        for place in network.layout.places
        for name in place.state
    }


@pytest.mark.parametrize("name", LAYERS)
def test_backward_agrees_with_central_differences(name, rng):
    X, y = data(rng, 11)
    errors = nbbp.check_gradients(network(name, seed=2), X, y)
    assert max(errors.values()) < 1e-6, errors


@pytest.mark.parametrize(("dtype", "rtol"), [("float64", 1e-10), ("float32", 2e-5)])
@pytest.mark.parametrize("name", LAYERS)
def test_backends_agree(name, dtype, rtol, rng):
    """The mini-batch of 130 rows is cut into lanes where the layer allows it, the last one of 40 is not."""
    X, y = data(rng, 300)
    model = network(name, optimizer=nbbp.SGD(0.02), dtype=dtype)
    other = model.with_backend("numpy")
    losses = [m.fit(X, y, epochs=3, batch_size=130, verbose=0).step_loss for m in (model, other)]
    assert len(losses[0]) == 9
    np.testing.assert_allclose(losses[0], losses[1], rtol=rtol)
    np.testing.assert_allclose(model.predict(X), other.predict(X), rtol=100 * rtol, atol=10 * rtol)
    np.testing.assert_allclose(model.network.state, other.network.state, rtol=100 * rtol, atol=10 * rtol)


def saved_and_loaded(model: nbbp.Model) -> nbbp.Model:
    with tempfile.TemporaryDirectory() as folder:
        model.save(f"{folder}/model.safetensors")
        return nbbp.load(f"{folder}/model.safetensors")


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m)), saved_and_loaded])
@pytest.mark.parametrize("name", LAYERS)
def test_copies_have_parameters_and_state(name, copied, rng):
    X, y = data(rng, 50)
    model = network(name, optimizer=nbbp.SGD(0.02))
    model.fit(X, y, epochs=2, batch_size=20, verbose=0)
    twin = copied(model)
    assert twin.network.state.tobytes() == model.network.state.tobytes()
    assert not np.shares_memory(twin.network.state, model.network.state)
    assert twin.predict(X).tobytes() == model.predict(X).tobytes()
    for m in (model, twin):
        m.fit(X, y, batch_size=20, verbose=0)
    assert twin.params.tobytes() == model.params.tobytes()
    assert twin.network.state.tobytes() == model.network.state.tobytes()


@pytest.mark.parametrize("name", LAYERS)
def test_bits_do_not_change_with_threads(name, rng):
    X, y = data(rng, 1000)
    every, runs = numba.get_num_threads(), []
    try:
        for threads in (1, min(2, every)):
            numba.set_num_threads(threads)
            model = network(name, 200, optimizer=nbbp.SGD(0.02))
            losses = model.fit(X, y, epochs=2, batch_size=512, verbose=0).step_loss
            runs.append((losses.tobytes(), model.params.tobytes(), model.network.state.tobytes()))
    finally:
        numba.set_num_threads(every)
    assert runs[0] == runs[1]


def dense(x, p, name: str):
    return x @ p[f"{name}.w"] + p[f"{name}.b"]


def batch_norm(F, x, p, s, name: str, training: bool, momentum: float = 0.1):
    statistics = s[f"{name}.mean"], s[f"{name}.variance"]
    return F.batch_norm(x, *statistics, p[f"{name}.gamma"], p[f"{name}.beta"], training, momentum, 1e-5)


def with_batch_norm(F, x, p, s, training):
    x = F.relu(batch_norm(F, dense(x, p, "dense_0"), p, s, "batchnorm_0", training, 0.2))
    return dense(x, p, "dense_1")


def begins_with_batch_norm(F, x, p, s, training):
    return dense(batch_norm(F, x, p, s, "batchnorm_0", training), p, "dense_0")


def with_layer_norm(F, x, p, s, training):
    x = F.layer_norm(dense(x, p, "dense_0"), (5,), p["layernorm_0.gamma"], p["layernorm_0.beta"], 1e-5)
    return dense(F.gelu(x), p, "dense_1")


def begins_with_layer_norm(F, x, p, s, training):
    return dense(F.layer_norm(x, (4,), p["layernorm_0.gamma"], p["layernorm_0.beta"], 1e-5), p, "dense_0")


def with_column_embedding(F, x, p, s, training):
    codes = x.long()
    parts = [x[:, [0, 2]], p["columnembedding_0.table_3"][codes[:, 3]], p["columnembedding_0.table_1"][codes[:, 1]]]
    return dense(F.torch.cat(parts, 1), p, "dense_0")


def carried(F, x, p, s, training):
    x = dense(x, p, "dense_0")
    x = x + dense(dense(x, p, "residual_0.dense_0").tanh(), p, "residual_0.dense_1")
    return dense(x, p, "dense_1")


def projected(F, x, p, s, training):
    x = x @ p["residual_0.projection.w"] + dense(F.relu(x), p, "residual_0.dense_0")
    return dense(F.relu(x), p, "dense_0")


def nested(F, x, p, s, training):
    x = dense(x, p, "dense_0")
    z = F.relu(batch_norm(F, x, p, s, "residual_0.batchnorm_0", training))
    inner = batch_norm(F, dense(z, p, "residual_0.residual_0.dense_0"), p, s, "residual_0.residual_0.batchnorm_0",
                       training)  # fmt: skip
    z = z @ p["residual_0.residual_0.projection.w"] + inner
    x = x @ p["residual_0.projection.w"] + z
    return dense(x.tanh(), p, "dense_1")


def tanh(units: int):
    return nbbp.Dense(units, activation="tanh")


TORCH = {
    "batch_norm": (
        [nbbp.Dense(5), nbbp.BatchNorm(0.8), nbbp.Activation("relu"), nbbp.Dense(2)], with_batch_norm
    ),
    "batch_norm first": ([nbbp.BatchNorm(), nbbp.Dense(2)], begins_with_batch_norm),
    "layer_norm": (
        [nbbp.Dense(5), nbbp.LayerNorm(), nbbp.Activation("gelu"), nbbp.Dense(2)], with_layer_norm
    ),
    "layer_norm first": ([nbbp.LayerNorm(), nbbp.Dense(2)], begins_with_layer_norm),
    "column_embedding": ([nbbp.ColumnEmbedding({3: 2, 1: 5}, 3), nbbp.Dense(2)], with_column_embedding),
    "residual": ([nbbp.Dense(5), nbbp.Residual([tanh(3), nbbp.Dense(5)]), nbbp.Dense(2)], carried),
    "residual first, projected": (
        [nbbp.Residual([nbbp.Activation("relu"), nbbp.Dense(6)]), nbbp.Activation("relu"), nbbp.Dense(2)], projected
    ),
    "residual nested": (
        [
            nbbp.Dense(5),
            nbbp.Residual([
                nbbp.BatchNorm(), nbbp.Activation("relu"), nbbp.Residual([nbbp.Dense(3), nbbp.BatchNorm()]),
            ]),
            nbbp.Activation("tanh"), nbbp.Dense(2),
        ], nested
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", TORCH)
def test_layers_agree_with_pytorch(name, rng):
    """Losses, gradients and running statistics of three steps, and predictions."""
    torch = pytest.importorskip("torch")
    torch.nn.functional.torch = torch
    layers, function = TORCH[name]
    X, y = data(rng, 12)
    model = nbbp.Sequential(layers, optimizer=nbbp.SGD(0.1), dtype="float64")
    model.build(4)
    model.params[:] = rng.normal(0.3, 0.7, model.params.size)
    s = {key: torch.tensor(value.copy()) for key, value in states(model).items()}
    for _ in range(3):
        p = {key: torch.tensor(value.copy(), requires_grad=True) for key, value in model.named_params().items()}
        loss = torch.nn.functional.mse_loss(
            function(torch.nn.functional, torch.tensor(X), p, s, True), torch.tensor(y)
        )  # fmt: skip
        loss.backward()
        ours = model.fit(X, y, batch_size=12, shuffle=False, verbose=0).step_loss[0]
        assert ours == pytest.approx(loss.item(), rel=1e-12)
        for key, gradient in model.network.layout.named(model.grads).items():
            np.testing.assert_allclose(gradient, p[key].grad, rtol=1e-9, atol=1e-12, err_msg=key)
    for key, value in states(model).items():
        np.testing.assert_allclose(value, s[key], rtol=1e-12, atol=1e-14, err_msg=key)
    p = {key: torch.tensor(value) for key, value in model.named_params().items()}
    expected = function(torch.nn.functional, torch.tensor(X), p, s, False)
    np.testing.assert_allclose(model.predict(X), expected, rtol=1e-11, atol=1e-13)


def test_batch_norm_in_float32(rng):
    X = (1000 + rng.standard_normal((4000, 3))).astype(np.float32)
    model = nbbp.Sequential([nbbp.BatchNorm(0.0), nbbp.Dense(1)])
    model.fit(X, np.zeros(4000), batch_size=4000, verbose=0)
    np.testing.assert_allclose(states(model)["batchnorm_0.mean"], X.astype(float).mean(axis=0), rtol=1e-5)
    np.testing.assert_allclose(states(model)["batchnorm_0.variance"], X.astype(float).var(axis=0), rtol=1e-3)


@pytest.mark.parametrize("name", ["batch_norm", "residual"])
def test_looking_at_gradients_leaves_the_running_statistics(name, rng):
    X, y = data(rng, 20)
    model = network(name)
    before = model.network.state.copy()
    model.gradients(X, y)
    nbbp.check_gradients(model, X, y)
    nbbp.compare(model, X, y, steps=2)
    np.testing.assert_array_equal(model.network.state, before)


@pytest.mark.parametrize("couples", [nbbp.BatchNorm(), nbbp.Residual([nbbp.Residual([nbbp.BatchNorm()])])])
def test_batch_norm_is_never_cut_into_lanes(couples, rng):
    def lanes(layers) -> bool:
        model = nbbp.Sequential(layers)
        model.build(4)
        X, y = (part.astype(np.float32) for part in data(rng, 512))
        trainer = model.built.trainer(model.prepare(X, y), 512)
        return any(isinstance(call, Shards) for call in trainer.runner.program.calls)

    assert lanes([nbbp.Dense(9), nbbp.LayerNorm(), nbbp.Residual([nbbp.Dense(9)]), nbbp.Dense(2)])
    assert not lanes([nbbp.Dense(9), couples, nbbp.Dense(2)])


def passed(layer: Layer, x: np.ndarray, backend: str = "numba", step: int = 0, training: bool = True):
    """y, and dx where dy is 1, of a layer without parameters."""
    program = Program(backend, x.dtype, len(x), training=training, seed=4)
    program.clock.step = step
    network = Network(Layout(chain(nbbp.Input(x.shape[1:]), [layer])), x.dtype, seed=4)
    bound = network.forward(program, [x])
    (dx,) = network.backward(program, bound, [np.ones_like(x)], network.grads, to_inputs=True)
    Runner(program).once()
    return bound.outputs[0].array, dx


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_dropout(dtype, rng):
    x = rng.uniform(1, 2, (200, 500)).astype(dtype)
    y, dx = passed(nbbp.Dropout(0.3), x)
    kept = y != 0
    assert kept.mean() == pytest.approx(0.7, abs=5 * (0.21 / x.size) ** 0.5)
    np.testing.assert_array_equal(y, np.where(kept, x * np.asarray(1 / 0.7, dtype), 0))
    np.testing.assert_array_equal(dx, np.where(kept, np.asarray(1 / 0.7, dtype), 0), "the mask of the forward pass")
    np.testing.assert_array_equal(passed(nbbp.Dropout(0.3), x, "numpy")[0], y)
    later = passed(nbbp.Dropout(0.3), x, step=1)[0] != 0
    assert (later == kept).mean() == pytest.approx(0.58, abs=0.01), "independent from step to step"
    np.testing.assert_array_equal(passed(nbbp.Dropout(0.3), x, training=False)[0], x)
    np.testing.assert_array_equal(passed(nbbp.Dropout(0.0), x)[0], x)
    np.testing.assert_array_equal(passed(nbbp.Dropout(1e-17), x)[0], x)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_gaussian_noise(dtype):
    x = np.full((200, 500), 3, dtype)
    y, dx = passed(nbbp.GaussianNoise(0.5), x)
    noise = (y - x) / 0.5
    assert noise.mean() == pytest.approx(0, abs=5 / x.size**0.5)
    assert noise.std() == pytest.approx(1, abs=5 / (2 * x.size) ** 0.5)
    assert (noise**4).mean() == pytest.approx(3, abs=5 * (96 / x.size) ** 0.5), "of a normal distribution"
    assert (dx == 1).all()
    np.testing.assert_allclose(passed(nbbp.GaussianNoise(0.5), x, "numpy")[0], y, rtol=50 * np.finfo(dtype).eps)
    later = passed(nbbp.GaussianNoise(0.5), x, step=1)[0]
    assert np.corrcoef(y.ravel(), later.ravel())[0, 1] == pytest.approx(0, abs=5 / x.size**0.5)
    np.testing.assert_array_equal(passed(nbbp.GaussianNoise(0.5), x, training=False)[0], x)


def test_layers_of_one_network_draw_different_numbers():
    x = np.ones((200, 500))
    entry = nbbp.Input(x.shape[1:])
    network = Network(Layout(Graph([entry], [nbbp.Dropout(0.5)(entry), nbbp.Dropout(0.5)(entry)])), x.dtype, seed=4)
    program = Program("numba", x.dtype, len(x), seed=4)
    first, second = (output.array for output in network.forward(program, [x]).outputs)
    Runner(program).once()
    assert ((first != 0) == (second != 0)).mean() == pytest.approx(0.5, abs=0.01)


@pytest.mark.parametrize("backend", ["numba", "numpy"])
def test_random_numbers_in_lanes_are_those_of_the_whole_batch(backend, rng):
    X, y = data(rng, 600)
    losses = []
    for shards in (8, 1):
        layers = [tanh(8), nbbp.Dropout(0.4), nbbp.GaussianNoise(0.3), nbbp.Residual([nbbp.Dropout(0.5)]), tanh(2)]
        model = nbbp.Sequential(layers, optimizer=nbbp.SGD(0.1, gradient_noise=0.01), dtype="float64", backend=backend)
        losses.append(model.fit(X, y, epochs=3, batch_size=512, shards=shards, verbose=0).step_loss)
    np.testing.assert_allclose(losses[0], losses[1], rtol=1e-12)


def test_column_embedding_replaces_the_columns_it_names(rng):
    table = np.arange(12.0).reshape(6, 2)
    model = nbbp.Sequential([nbbp.ColumnEmbedding({0: 6}, 2)], dtype="float64")
    model.build(1)
    model.named_params()["columnembedding_0.table_0"][:] = table
    np.testing.assert_array_equal(model.predict([[5], [0], [5]]), table[[5, 0, 5]])
    for code in (6, -1, 0.5):
        with pytest.raises(ValueError, match=r"whole numbers from 0 to 5; got .* in row 1"):
            model.predict([[5], [code]])
    with pytest.raises(ValueError, match=r"whole numbers from 0 to 5; got 6 in row 0"):
        nbbp.Sequential([nbbp.Residual([nbbp.ColumnEmbedding({0: 6}, 2)])]).predict([[6]])


def test_a_penalty_and_a_bound_inside_a_residual_hold(rng):
    X, y = data(rng, 20)
    inner = nbbp.Dense(4, l2=0.1, max_norm=0.5)
    model = nbbp.Sequential([nbbp.Residual([inner]), nbbp.Dense(2)], dtype="float64")
    model.build(4)
    w = model.named_params()["residual_0.dense_0.w"]
    difference = model.predict(X) - y
    assert model.evaluate(X, y)["loss"] == pytest.approx(np.mean(difference**2) + 0.1 * np.sum(w**2), rel=1e-12)
    model.fit(X, y, verbose=0)
    assert np.linalg.norm(w, axis=0).max() <= 0.5 + 1e-12
