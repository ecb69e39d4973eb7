"""RealMLP: its parts against PyTorch and their formulas, first values from data, and its presets."""

import dataclasses
import runpy

import numba
import numpy as np
import pytest

import nbbp
from nbbp.initializers import Hull, UnitVariance
from nbbp.recipes.realmlp import realmlp


@pytest.fixture
def table(rng):
    """Numbers, one-hot columns and codes, and values that depend on them."""
    X = rng.standard_normal((300, 3))
    one_hot, codes = np.eye(2)[rng.integers(0, 2, 300)], rng.integers(0, 4, (300, 1))
    y = np.sin(2 * X[:, 0]) + X[:, 1] * one_hot[:, 0] + codes[:, 0]
    return {"numbers": X, "one_hot": one_hot, "codes": codes}, (y - y.mean()) / y.std()


def parts(steps: int, **settings) -> nbbp.Sequential:
    """The layers of RealMLP that do not draw random numbers in training, with its optimizer."""
    rate, decay = nbbp.schedules.CosLog(0.05, steps), nbbp.schedules.FlatCosine(0.3, steps)
    return nbbp.Sequential(
        [
            nbbp.PeriodicEmbedding(0.4, rate=0.1, decay=0.1), nbbp.Scale(rate=6.0, decay=6.0),
            nbbp.Dense(9, initializer="lecun_normal", bias_initializer="normal", parametrization="ntk"),
            nbbp.ParametricActivation("mish", rate=0.1, decay=0.1),
            nbbp.Dense(2, initializer="lecun_normal", parametrization="ntk"),
        ],
        optimizer=nbbp.AdamW(rate, beta2=0.95, weight_decay=decay, epsilon=1e-14), dtype="float64", **settings,
    )  # fmt: skip


@pytest.mark.parametrize("backend", ["numba", "numpy"])
def test_parts_train_as_their_literal_forms_do_in_pytorch(backend, rng):
    """With products times 1 / sqrt(n_in), phases in radians and decay apart, as Holzmueller et al. write them."""
    torch = pytest.importorskip("torch")
    X, y, steps = rng.standard_normal((64, 3)), rng.standard_normal((64, 2)), 40
    model = parts(steps, backend=backend)
    model.build(3)
    own = {name: torch.tensor(array) for name, array in model.named_params().items()}
    own["periodicembedding_0.phases"] *= 2 * np.pi
    for name in ("dense_0.w", "dense_1.w"):
        own[name] *= len(own[name]) ** 0.5
    factors = {name: (0.1, 0.0) if name.endswith(".b") and "dense" in name else (1.0, 1.0) for name in own}
    factors |= {name: (0.1, 0.1) for name in own if "periodic" in name or "activation" in name}
    factors["scale_0.s"] = (6.0, 6.0)
    p = {name: array.requires_grad_() for name, array in own.items()}
    groups = [{"params": [p[name]], "name": name} for name in p]
    adam = torch.optim.Adam(groups, betas=(0.9, 0.95), eps=1e-14)
    mish, pe = torch.nn.functional.mish, "periodicembedding_0"
    losses = []
    for step in range(steps):
        x = torch.tensor(X)
        h = torch.cos(2 * np.pi * x[:, :, None] * p[f"{pe}.frequencies"] + p[f"{pe}.phases"])
        h = torch.einsum("rnk,nek->rne", h, p[f"{pe}.w"]) + p[f"{pe}.b"]
        h = torch.cat([x[:, :, None], h], 2).reshape(64, -1) * p["scale_0.s"]
        h = h @ p["dense_0.w"] / 12**0.5 + p["dense_0.b"]
        h = h + p["parametricactivation_0.alpha"] * (mish(h) - h)
        z = h @ p["dense_1.w"] / 9**0.5 + p["dense_1.b"]
        loss = torch.nn.functional.mse_loss(z, torch.tensor(y))
        losses.append(loss.item())
        adam.zero_grad()
        loss.backward()
        rate, decay = (float(s.value(step)) for s in (model.optimizer.learning_rate, model.optimizer.weight_decay))
        for group in adam.param_groups:
            of_rate, of_decay = factors[group["name"]]
            group["lr"] = rate * of_rate
            with torch.no_grad():
                group["params"][0] *= 1 - rate * of_rate * decay * of_decay
        adam.step()
    history = model.fit(X, y, epochs=steps, batch_size=64, shuffle=False, verbose=0)
    np.testing.assert_allclose(history.step_loss, losses, rtol=1e-8)
    assert losses[-1] < 0.7 * losses[0]


@pytest.mark.parametrize("optimizer", [nbbp.SGD(0.3), nbbp.SGD(0.1, 0.9, True), nbbp.Lion(0.02), nbbp.RMSprop(0.01)])
def test_scale_is_that_of_a_parameter_that_the_layer_multiplies(optimizer, rng):
    @dataclasses.dataclass(frozen=True)
    class Scaled(nbbp.Dense):
        inverse: float = 1.0

        def spec(self, shape):
            spec = super().spec(shape)
            w = dataclasses.replace(spec.parameters["w"], scale=1 / self.inverse)
            return dataclasses.replace(spec, parameters={"w": w})

    X, y = rng.standard_normal((40, 4)), rng.standard_normal((40, 2))
    scaled = nbbp.Sequential([Scaled(2, use_bias=False, inverse=4.0)], optimizer=optimizer, dtype="float64")
    literal = nbbp.Sequential([nbbp.Dense(2, use_bias=False)], optimizer=optimizer, dtype="float64")
    for model in (scaled, literal):
        model.build(4)
    literal.params = 4 * scaled.params
    scaled.fit(X, y, epochs=5, batch_size=10, verbose=0)
    literal.fit(X / 4, y, epochs=5, batch_size=10, verbose=0)
    np.testing.assert_allclose(literal.params, 4 * scaled.params, rtol=1e-5)  # epsilon is not scaled


def test_dropout_follows_a_schedule(rng):
    X, y = np.ones((400, 50)), np.zeros((400, 50))
    rates = nbbp.schedules.Polynomial(0.8, steps=4)
    x = nbbp.Input(50)
    model = nbbp.Model(x, nbbp.Dropout(rates)(x))
    losses = model.fit(X, y, epochs=5, batch_size=400, verbose=0).step_loss
    np.testing.assert_allclose(losses, 1 / (1 - rates(np.arange(5))), rtol=0.05)  # the mean of m / (1 - rate)^2
    assert losses[-1] == pytest.approx(1, rel=1e-6)
    with pytest.raises(ValueError, match="Dropout: rate at step 0 must be 0 or more and below 1"):
        nbbp.Dropout(nbbp.schedules.Constant(1.5))


def from_data(**settings) -> nbbp.Sequential:
    dense = [nbbp.Dense(n, a, True, "unit_variance", bias_initializer="hull") for n, a in ((8, "mish"), (5, "linear"))]
    return nbbp.Sequential([*dense, nbbp.Dense(1)], **settings)


def test_first_values_depend_on_the_first_data(rng):
    """Outputs have a standard deviation of 1 over the rows, and are 0 at a mixture of 5 of them."""
    X, y = 9 * rng.standard_normal((500, 3)) + [50, 0, -9], rng.standard_normal(500)
    model = from_data(optimizer=nbbp.SGD(1e-30), dtype="float64")
    model.fit(X, y, batch_size=500, verbose=0)
    p = model.named_params()
    h = X @ p["dense_0.w"]
    np.testing.assert_allclose(h.std(axis=0), 1)
    assert ((h.min(axis=0) < -p["dense_0.b"]) & (-p["dense_0.b"] < h.max(axis=0))).all()
    assert np.unique(p["dense_0.b"]).size == 8
    h = h + p["dense_0.b"]
    h = h * np.tanh(np.log1p(np.exp(h))) @ p["dense_1.w"]
    np.testing.assert_allclose(h.std(axis=0), 1)
    assert np.isfinite(from_data().fit(np.ones((9, 3)), np.ones(9), verbose=0)["loss"][0])  # without any variance


def test_first_values_are_set_once(rng):
    X, y = rng.standard_normal((100, 3)), rng.standard_normal(100)
    model = from_data(optimizer=nbbp.SGD(1e-30), dtype="float64")
    model.fit(X, y, verbose=0)
    first = model.params.copy()
    model.fit(3 * X + 1, y, verbose=0)
    np.testing.assert_allclose(model.params, first, atol=1e-12)
    twin = from_data(optimizer=nbbp.SGD(1e-30), dtype="float64")
    twin.build(3)
    twin.train_on_batch(X, y)
    np.testing.assert_allclose(twin.params, first, atol=1e-12)


def test_first_values_have_the_same_bits_on_any_number_of_threads(rng):
    X, y = rng.standard_normal((5000, 3)), rng.standard_normal(5000)
    every, params = numba.get_num_threads(), []
    try:
        for threads in (1, min(2, every)):
            numba.set_num_threads(threads)
            model = from_data()
            model.fit(X, y, batch_size=500, verbose=0)
            params.append(model.params.tobytes())
    finally:
        numba.set_num_threads(every)
    assert params[0] == params[1]


def test_first_values_come_from_the_first_buffer_of_a_stream(rng):
    X, y = rng.standard_normal((200, 3)), rng.standard_normal(200)
    model, other = from_data(), from_data()
    model.fit(nbbp.streams.from_arrays(X, y), shuffle=False, verbose=0)
    other.fit(X, y, shuffle=False, verbose=0)
    assert model.params.tobytes() == other.params.tobytes()


def test_a_resumed_fit_has_the_bits_of_one_in_a_piece(rng, tmp_path):
    X, y = rng.standard_normal((100, 3)), rng.standard_normal(100)
    whole, begun, resumed = from_data(), from_data(), from_data()
    whole.fit(X, y, epochs=4, verbose=0)
    begun.fit(X, y, epochs=2, callbacks=[nbbp.Checkpoint(tmp_path)], verbose=0)
    resumed.fit(X, y, epochs=4, resume=tmp_path, verbose=0)
    assert resumed.params.tobytes() == whole.params.tobytes()


def test_initializers_that_cannot_adapt_say_so(rng):
    layer = nbbp.LSTM(4, initializer="unit_variance")
    with pytest.raises(ValueError, match="adapts one of its columns to each of the layer's outputs"):
        nbbp.Sequential([layer, nbbp.Dense(1)]).fit(rng.standard_normal((9, 5, 2)), np.ones(9), verbose=0)
    assert isinstance(nbbp.INITIALIZERS["unit_variance"], UnitVariance)
    assert isinstance(nbbp.INITIALIZERS["hull"], Hull)


def test_clamp_holds_predictions_within_a_range(rng):
    X = rng.standard_normal((50, 2))
    x = nbbp.Input(2)
    model = nbbp.Model(x, nbbp.Clamp((-0.5, -1.0), 0.3)(x), dtype="float64")
    np.testing.assert_array_equal(model.predict(X), np.clip(X, [-0.5, -1.0], 0.3))
    history = model.fit(X, np.zeros_like(X), batch_size=50, verbose=0)
    assert history["loss"][0] == pytest.approx((X**2).mean())  # in training it does nothing
    for low, high, message in ((1.0, 0.0, "low must not be above high"), ((0.0, 0.0, 0.0), 1.0, "3 bounds for 2")):
        with pytest.raises(ValueError, match=message):
            nbbp.Clamp(low, high)(nbbp.Input(2))


@pytest.mark.parametrize("ties", ["first", "last"])
def test_early_stopping_takes_the_first_or_the_last_of_the_best_epochs(ties, rng):
    class Played(nbbp.callbacks.Callback):
        @property
        def records(self):
            return {"score": True}

        def on_epoch_end(self, fit):
            fit.history.note(score=[1.0, 3.0, 3.0, 2.0, 3.0, 1.0, 1.0, 1.0][len(fit.history) - 1])

    stopping = nbbp.callbacks.EarlyStopping("score", patience=3, ties=ties)
    model = nbbp.Sequential([nbbp.Dense(1)])
    history = model.fit(rng.random((9, 2)), np.ones(9), epochs=8, callbacks=[Played(), stopping], verbose=0)
    assert (stopping.best_epoch, len(history)) == {"first": (2, 5), "last": (5, 8)}[ties]


@pytest.mark.parametrize("preset", ["TD", "TD-S"])
def test_presets_learn_tables(preset, table, tmp_path):
    data, y = table
    model = realmlp(1, 40 * 2, 3, 2, [4], preset=preset, output_range=(y.min(), y.max()))
    model.fit(data, y, epochs=40, batch_size=256, verbose=0)
    assert model.evaluate(data, y)["loss"] < 0.2
    model.save(tmp_path / "model.safetensors")
    assert nbbp.load(tmp_path / "model.safetensors").predict(data).tobytes() == model.predict(data).tobytes()
    if preset == "TD":
        predicted = model.predict({**data, "numbers": 20 * data["numbers"]})
        assert y.min() - 1e-6 <= predicted.min() <= predicted.max() <= y.max() + 1e-6
    classes = realmlp(2, 40 * 2, 3, 2, [4], classes=True, preset=preset, metrics=["accuracy"])
    classes.fit(data, (y > 0).astype(int), epochs=40, batch_size=256, verbose=0)
    assert classes.evaluate(data, (y > 0).astype(int))["accuracy"] > 0.9


@pytest.mark.parametrize("classes", [True, False])
def test_presets_are_exported(classes, table, tmp_path):
    data, y = table
    model = realmlp(2, 10, 3, 2, [4], classes=classes, output_range=(-0.5, [0.5, 1.0]), backend="numpy")
    targets = (y > 0).astype(int) if classes else np.column_stack([y, -y])
    model.fit(data, targets, epochs=2, batch_size=256, verbose=0)
    given, expected = {name: array[:9] for name, array in data.items()}, model.predict(data)[:9]
    nbbp.exchange.to_numpy_file(model, tmp_path / "network.py")
    predict = runpy.run_path(str(tmp_path / "network.py"))["predict"]
    np.testing.assert_allclose(predict(given), expected, rtol=1e-4, atol=1e-5)
    pytest.importorskip("onnx")
    runtime = pytest.importorskip("onnxruntime")
    nbbp.exchange.to_onnx(model, tmp_path / "network.onnx")
    session = runtime.InferenceSession(str(tmp_path / "network.onnx"))
    of_type = {"codes": np.int32, "numbers": np.float32, "one_hot": np.float32}
    (found,) = session.run(None, {name: array.astype(of_type[name]) for name, array in given.items()})
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_presets_say_what_they_need():
    with pytest.raises(ValueError, match="realmlp needs columns: numbers, one_hot or categories"):
        realmlp(1, 100)
    with pytest.raises(ValueError, match="unknown preset 'S'"):
        realmlp(1, 100, 3, preset="S")


@pytest.mark.parametrize("backend", ["numba", "numpy"])
def test_gaussian_nll_agrees_with_pytorch(backend, rng):
    torch = pytest.importorskip("torch")
    X, y = rng.standard_normal((7, 3)), rng.standard_normal((7, 2))
    layers = [nbbp.Input(3), nbbp.Dense(4)]
    model = nbbp.Sequential(layers, "gaussian_nll", metrics=["mae"], dtype="float64", backend=backend)
    w = torch.tensor(model.named_params()["dense_0.w"], requires_grad=True)
    mean, raw = (torch.tensor(X) @ w).chunk(2, 1)
    deviation = torch.nn.functional.softplus(raw) + 1e-6
    value = torch.nn.functional.gaussian_nll_loss(mean, torch.tensor(y), deviation**2, eps=0)
    value.backward()
    np.testing.assert_allclose(model.gradients(X, y)["dense_0.w"], w.grad, rtol=1e-10)
    measured = model.evaluate(X, y)
    assert measured["loss"] == pytest.approx(value.item(), rel=1e-12)
    assert measured["mae"] == pytest.approx(np.abs(mean.detach().numpy() - y).mean(), rel=1e-12)  # of the means
    np.testing.assert_allclose(model.predict(X), np.hstack([mean.detach(), deviation.detach()]), rtol=1e-12)
    with pytest.raises(ValueError, match="gaussian_nll takes 2 outputs for each target, and the model's last axis has"):
        nbbp.Sequential([nbbp.Input(3), nbbp.Dense(3)], "gaussian_nll")


def test_gaussian_nll_finds_mean_and_deviation(rng):
    y = 3 + 0.5 * rng.standard_normal(2000)
    model = nbbp.Sequential([nbbp.Dense(2)], "gaussian_nll", nbbp.Adam(0.1))
    model.fit(np.zeros((2000, 1)), y, epochs=20, batch_size=100, verbose=0)
    np.testing.assert_allclose(model.predict(np.zeros((1, 1)))[0], [3, 0.5], atol=0.1)
