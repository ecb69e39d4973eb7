"""Sequential at its public door: training, prediction, history, bits."""

import concurrent.futures
import copy
import csv
import pickle
import re
import sys

import numpy as np
import pytest

import nbbp
from nbbp import INITIALIZERS, OPTIMIZERS


def classifier(**settings) -> nbbp.Sequential:
    layers = [nbbp.Dense(16, activation="relu"), nbbp.Dense(10)]
    return nbbp.Sequential(layers, **{"loss": "softmax_cross_entropy", "optimizer": nbbp.Adam()} | settings)


def test_digits_are_learnt(digits):
    X, y, X_test, y_test = digits
    layers = [nbbp.Dense(128, activation="relu"), nbbp.Dense(10)]
    model = nbbp.Sequential(layers, loss="softmax_cross_entropy", optimizer="adam", metrics=["accuracy"])
    history = model.fit(X, y, epochs=40, batch_size=32, validation_data=(X_test, y_test), verbose=0)
    assert history["val_accuracy"][-1] >= 0.97
    assert model.evaluate(X_test, y_test)["accuracy"] == history["val_accuracy"][-1]
    probabilities = model.predict(X_test)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, rtol=1e-5)
    assert np.mean(probabilities.argmax(axis=1) == y_test) == history["val_accuracy"][-1]


@pytest.mark.parametrize("backend", ["numba", "numpy"])
def test_the_short_last_batch_is_trained_on(backend, rng):
    X, y = rng.standard_normal((10, 3)), rng.standard_normal((10, 2))
    model = nbbp.Sequential([nbbp.Dense(2)], optimizer=nbbp.SGD(0.1), dtype="float64", backend=backend)
    model.build(3)
    w, b = (p.copy() for p in model.named_params().values())
    history = model.fit(X, y, epochs=2, batch_size=4, shuffle=False, verbose=0)
    losses = []
    for begin in (0, 4, 8) * 2:
        x, t = X[begin : begin + 4], y[begin : begin + 4]
        difference = x @ w + b - t
        losses.append(np.mean(difference**2))
        dz = 2 * difference / difference.size
        w, b = w - 0.1 * x.T @ dz, b - 0.1 * dz.sum(axis=0)
    np.testing.assert_allclose(history.step_loss, losses, rtol=1e-12)
    np.testing.assert_allclose(model.named_params()["dense_0.w"], w, rtol=1e-12)
    weighted = np.array(losses).reshape(2, 3) @ [0.4, 0.4, 0.2]
    np.testing.assert_allclose(history["loss"], weighted, rtol=1e-12)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_backends_agree_for_every_optimizer(name, digits):
    X, y = digits[0][:203], digits[1][:203]
    model = classifier(optimizer=name, dtype="float64", metrics=["accuracy"])
    model.build(64)
    other = model.with_backend("numpy")
    a, b = (m.fit(X, y, epochs=3, batch_size=32, verbose=0) for m in (model, other))
    np.testing.assert_allclose(a.step_loss, b.step_loss, rtol=1e-9)
    np.testing.assert_allclose(a["accuracy"], b["accuracy"], atol=1e-12)
    np.testing.assert_allclose(model.params, other.params, rtol=1e-7, atol=1e-10)


def test_rows_in_lanes_give_the_gradients_of_the_whole_batch(digits):
    """A large mini-batch through a narrow network is cut into lanes; `gradients` computes it in one piece."""

    X, y = digits[0][:999], digits[1][:999]
    model = classifier(optimizer=nbbp.SGD(1.0), dtype="float64", metrics=["accuracy"])
    model.build(64)
    from nbbp.engine.planner import number_of_shards

    assert number_of_shards(999, len(model.params)) == 8
    other = model.with_backend("numpy")
    for m in (model, other):
        before, loss = m.params.copy(), m.evaluate(X, y)
        gradient = (m.gradients(X, y), m.grads.copy())[1]
        history = m.fit(X, y, batch_size=999, verbose=0)
        np.testing.assert_allclose(before - m.params, gradient, rtol=1e-9, atol=1e-14)
        assert history["loss"][0] == pytest.approx(loss["loss"], rel=1e-12)
        assert history["accuracy"][0] == pytest.approx(loss["accuracy"], rel=1e-12)


TORCH_OPTIMIZERS = {
    "plain": (nbbp.SGD(0.05), lambda o, p: o.SGD(p, 0.05)),
    "momentum": (nbbp.SGD(0.05, momentum=0.9), lambda o, p: o.SGD(p, 0.05, momentum=0.9)),
    "nesterov": (nbbp.SGD(0.05, 0.9, True), lambda o, p: o.SGD(p, 0.05, momentum=0.9, nesterov=True)),
    "adagrad": (nbbp.Adagrad(0.05), lambda o, p: o.Adagrad(p, 0.05)),
    "rmsprop": (nbbp.RMSprop(0.01, rho=0.95), lambda o, p: o.RMSprop(p, 0.01, alpha=0.95)),
    "adadelta": (nbbp.Adadelta(), lambda o, p: o.Adadelta(p)),
    "adam": (nbbp.Adam(0.01), lambda o, p: o.Adam(p, 0.01)),
    "adamw": (nbbp.AdamW(0.01, weight_decay=0.1), lambda o, p: o.AdamW(p, 0.01, weight_decay=0.1)),
}


@pytest.mark.parametrize("name", TORCH_OPTIMIZERS)
def test_optimizers_agree_with_pytorch_step_by_step(name, rng):
    torch = pytest.importorskip("torch")
    optimizer, theirs = TORCH_OPTIMIZERS[name]
    X, y = rng.standard_normal((40, 3)), rng.standard_normal((40, 2))
    layer = nbbp.Dense(2, use_bias=False)
    model = nbbp.Sequential([layer], optimizer=optimizer, dtype="float64")
    model.build(3)
    w = torch.tensor(model.named_params()["dense_0.w"].copy(), requires_grad=True)
    stepper = theirs(torch.optim, [w])
    for begin in range(0, 40, 4):
        rows = slice(begin, begin + 4)
        model.fit(X[rows], y[rows], batch_size=4, shuffle=False, verbose=0)
        stepper.zero_grad()
        torch.nn.functional.mse_loss(torch.tensor(X[rows]) @ w, torch.tensor(y[rows])).backward()
        stepper.step()
        np.testing.assert_allclose(model.named_params()["dense_0.w"], w.detach().numpy(), rtol=1e-10)


def test_fit_goes_on_where_it_stopped(digits):
    X, y = digits[0][:100], digits[1][:100]
    whole, parts = classifier(), classifier()
    whole.fit(X, y, epochs=4, batch_size=32, verbose=0)
    for epochs in (1, 3):
        parts.fit(X, y, epochs=epochs, batch_size=32, verbose=0)
    assert whole.params.tobytes() == parts.params.tobytes()


def test_seed_decides_everything(digits):
    X, y = digits[0][:100], digits[1][:100]
    runs = [classifier(seed=seed) for seed in (5, 5, 6)]
    histories = [model.fit(X, y, epochs=2, verbose=0) for model in runs]
    assert histories[0].step_loss.tobytes() == histories[1].step_loss.tobytes()
    assert runs[0].params.tobytes() == runs[1].params.tobytes()
    assert runs[0].params.tobytes() != runs[2].params.tobytes()


def test_nothing_compiles_for_a_new_architecture_of_known_layers(digits):
    X, y = digits[0][:64], digits[1][:64]
    classifier().fit(X, y, verbose=0)
    from nbbp.kernels.jit import KERNELS

    def compiled():
        twins = [vars(kernel).get(twin) for kernel in KERNELS.values() for twin in ("serial", "parallel")]
        return sum(len(twin.overloads) for twin in twins if twin is not None)

    before = compiled()
    deeper = [nbbp.Dense(n, activation="relu") for n in (9, 16, 23, 5)]
    model = nbbp.Sequential([*deeper, nbbp.Dense(10)], loss="softmax_cross_entropy", optimizer=nbbp.Adam(0.1))
    model.fit(X, y, epochs=2, batch_size=17, verbose=0)
    assert compiled() == before


def test_divergence_stops_at_once_and_keeps_the_history(digits):
    X, y = digits[0] * 1000, digits[1]
    layers = [nbbp.Dense(16), nbbp.Dense(10)]
    model = nbbp.Sequential(layers, loss="mse", optimizer=nbbp.SGD(10.0))
    with pytest.raises(nbbp.DivergenceError, match=r"epoch 1, step \d") as caught:
        model.fit(X, np.eye(10)[y], epochs=3, batch_size=32, verbose=0)
    error = caught.value
    assert error.epoch == 1
    assert len(error.history.step_loss) == error.step
    assert not np.isfinite(error.history.step_loss[-1])
    assert np.isfinite(error.history.step_loss[:-1]).all()


def test_an_interrupt_leaves_a_usable_model(digits, monkeypatch):
    X, y = digits[0], digits[1]
    model = classifier()

    from nbbp.engine.runner import Runner

    train, calls = Runner.run, []

    def interrupted(self):
        calls.append(1)
        if len(calls) == 4:
            raise KeyboardInterrupt
        train(self)

    monkeypatch.setattr(Runner, "run", interrupted)
    with pytest.raises(KeyboardInterrupt):
        model.fit(X, y, epochs=50, batch_size=1, verbose=0)
    monkeypatch.undo()
    assert np.isfinite(model.params).all()
    assert np.isfinite(model.fit(X, y, verbose=0)["loss"][0])


def test_gradients_are_views(digits):
    model = classifier()
    gradients = model.gradients(digits[0][:8], digits[1][:8])
    assert set(gradients) == {"dense_0.w", "dense_0.b", "dense_1.w", "dense_1.b"}
    assert all(np.shares_memory(g, model.grads) for g in gradients.values())
    assert all(np.shares_memory(p, model.params) for p in model.named_params().values())
    assert sum(g.size for g in gradients.values()) == model.grads.size


def test_in_place_activations_leave_what_others_read(rng):
    """tanh keeps its output for backward, so a relu behind it must not overwrite it."""
    layers = [nbbp.Dense(4), nbbp.Activation("tanh"), nbbp.Activation("relu"), nbbp.Activation("gelu"), nbbp.Dense(2)]
    X, y = rng.standard_normal((5, 3)), rng.standard_normal((5, 2))
    assert max(nbbp.check_gradients(nbbp.Sequential(layers), X, y).values()) < 1e-6


def test_summary_counts_parameters():
    model = classifier()
    model.build(64)
    assert "1,040" in model.summary()
    *_, total, memory = model.summary().splitlines()
    assert total.split() == ["total", "1,210"]
    assert re.fullmatch(r"training needs 18.9 KiB, and at most \d+ bytes for each row of a mini-batch", memory)


def test_history(tmp_path, digits):
    X, y = digits[0][:100], digits[1][:100]
    history = classifier(metrics=["accuracy"]).fit(X, y, epochs=3, batch_size=30, validation_data=(X, y), verbose=0)
    assert history.steps_per_epoch == 4
    assert history.step_loss.shape == (12,)
    history.to_csv(tmp_path / "history.csv")
    with (tmp_path / "history.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [float(row["val_loss"]) for row in rows] == history["val_loss"]
    assert [row["epoch"] for row in rows] == ["1", "2", "3"]
    with pytest.raises(KeyError, match="there is loss, accuracy, val_loss, val_accuracy"):
        history["val_mae"]


@pytest.mark.parametrize("name", INITIALIZERS)
def test_initializers(name):
    from nbbp.initializers import INITIALIZERS as table

    w = table[name]((300, 200), np.random.default_rng(0))
    assert w.shape == (300, 200)
    deviations = {
        "zeros": 0, "ones": 0, "constant": 0, "normal": 0.05, "uniform": 0.05 / 3**0.5, "sparse": (15 / 300) ** 0.5,
        "glorot": (2 / 500) ** 0.5, "he": (2 / 300) ** 0.5, "lecun": (1 / 300) ** 0.5, "orthogonal": 300**-0.5,
        "unit": (1 / 300) ** 0.5, "hull": 0, "signs": 1,
    }  # fmt: skip
    expected = deviations.get(name, deviations[name.split("_")[0]])
    assert w.std() == pytest.approx(expected, rel=0.02)
    if name == "orthogonal":
        np.testing.assert_allclose(w.T @ w, np.eye(200), atol=1e-12)
    if name == "sparse":
        assert (np.count_nonzero(w, axis=0) == 15).all()
    if name == "constant":
        assert (w == 0.1).all()


def test_verbose_2_prints_a_line_for_each_epoch(digits, capsys):
    classifier(metrics=["accuracy"]).fit(digits[0][:50], digits[1][:50], epochs=2, verbose=2)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2
    assert re.match(r"Epoch 2/2 - \d+\.\ds - loss: ", lines[1])
    assert "accuracy: " in lines[1]


@pytest.mark.parametrize("copied", [copy.deepcopy, copy.copy, lambda m: pickle.loads(pickle.dumps(m))])
def test_copies_and_pickles_are_models_of_their_own(copied, digits):
    X, y = digits[0][:100], digits[1][:100]
    model = classifier()
    model.fit(X, y, epochs=2, verbose=0)
    before = model.predict(X)
    twin = copied(model)
    assert twin.predict(X).tobytes() == before.tobytes()
    histories = [m.fit(X, y, epochs=2, verbose=0).step_loss.tobytes() for m in (model, twin)]
    assert histories[0] == histories[1]
    twin.params[:] = 0
    np.testing.assert_allclose(twin.predict(X), 0.1, rtol=1e-6)
    assert model.predict(X).tobytes() != twin.predict(X).tobytes()


def test_two_threads_may_predict_with_one_model(digits):
    model = nbbp.Sequential([nbbp.Dense(512, activation="relu"), nbbp.Dense(512), nbbp.Dense(10)], loss="mse")
    parts = digits[0][:400], digits[0][400:800]
    expected = [model.predict(part).tobytes() for part in parts]
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        results = list(pool.map(lambda part: model.predict(part).tobytes(), parts * 20))
    assert results == expected * 20


def test_a_prediction_does_not_depend_on_the_rows_beside_it(digits):
    X = np.concatenate([digits[0]] * 2)
    model = classifier()
    model.build(64)
    whole = model.predict(X)
    for rows in (1, 3, 512, 700):
        parts = np.concatenate([model.predict(X[i : i + rows]) for i in range(0, len(X), rows)])
        assert parts.tobytes() == whole.tobytes()


@pytest.mark.parametrize("backend", ["numba", "numpy"])
@pytest.mark.parametrize("units", [16, 600])
def test_many_rows_are_predicted_in_blocks(backend, units, rng):
    """In lanes where the parameters are few, whole blocks where they are many; the caller's array is let go."""
    X = rng.standard_normal((1300, 500)).astype(np.float32)
    model = nbbp.Sequential([nbbp.Dense(units, "relu"), nbbp.Dense(3)], "softmax_cross_entropy", backend=backend)
    model.build(500)
    one_by_one = np.concatenate([model.predict(X[i : i + 100]) for i in range(0, 1300, 100)])
    np.testing.assert_allclose(model.predict(X), one_by_one, rtol=1e-5, atol=1e-7)
    again = rng.standard_normal((2000, 500)).astype(np.float32)
    again[:1300] = X
    references = sys.getrefcount(again)
    np.testing.assert_allclose(model.predict(again)[:1300], model.predict(X), rtol=1e-5, atol=1e-7)
    assert sys.getrefcount(again) == references


@pytest.mark.parametrize("backend", ["numba", "numpy"])
def test_parameters_that_are_assigned_are_written_into_the_flat_array(backend):
    X = np.random.default_rng(0).standard_normal((6, 3))
    model, other = (nbbp.Sequential([nbbp.Dense(2)], backend=backend, seed=seed) for seed in range(2))
    other.predict(X)
    before = model.predict(X)
    params = model.params
    model.params += 0.5
    np.testing.assert_allclose(model.predict(X), before + 0.5 * X.sum(axis=1, keepdims=True) + 0.5, rtol=1e-5)
    model.params = other.params
    assert model.params is params
    assert model.predict(X).tobytes() == other.predict(X).tobytes()
    other.params *= 2
    assert (params != other.params).any()
    for wrong in (0, np.zeros(3), np.zeros((2, 4))):
        with pytest.raises(ValueError, match=r"params must have the shape \(8,\), got"):
            model.params = wrong
