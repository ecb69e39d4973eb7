"""What is recorded inside a network, against NumPy; illnesses of networks that have them; and their pictures."""

import numpy as np
import pytest
from matplotlib.figure import Figure

import nbbp
from nbbp.insight.norms import by_layer

Dense = nbbp.Dense


def classifier(*layers, optimizer, **settings):
    return nbbp.Sequential([*layers, Dense(10)], loss="softmax_cross_entropy", optimizer=optimizer, **settings)


def diagnosis_of(model, X, y, epochs=10, every=10, **settings):
    try:
        history = model.fit(X, y, epochs=epochs, callbacks=[nbbp.Inspect(every)], verbose=0, **settings)
    except nbbp.DivergenceError as error:
        history = error.history
    return nbbp.diagnose(history)


def names(diagnosis) -> set[str]:
    return {finding.name for finding in diagnosis.findings}


@pytest.mark.parametrize("every", [1, 2, 5])
@pytest.mark.parametrize("optimizer", [nbbp.SGD(0.1, momentum=0.9), nbbp.Adam()])
def test_sizes_are_those_of_the_step(digits, every, optimizer):
    X, y = digits[0][:100], digits[1][:100]
    model = classifier(Dense(8, "relu"), optimizer=optimizer)
    seen = [{}]  # the parameters and gradients after every step
    record = nbbp.callbacks.Call(lambda fit: seen.append((fit.model.params.copy(), fit.model.grads.copy())), every=1)
    model.build(X.shape[1])
    seen[0] = model.params.copy(), model.grads.copy()
    history = model.fit(X, y, epochs=3, batch_size=32, callbacks=[record, nbbp.Inspect(every)], verbose=0)
    inspected, named = history.inspected, model.network.layout.named
    np.testing.assert_array_equal(inspected.steps, np.arange(every, 13, every))
    for k, step in enumerate(inspected.steps):
        (params, grads), (before, _) = seen[step], seen[step - 1]
        for name, w in named(params.astype(float)).items():
            change = np.linalg.norm(w - named(before)[name]) / np.linalg.norm(w)
            np.testing.assert_allclose(inspected.weights[name][k], np.linalg.norm(w), rtol=1e-6)
            np.testing.assert_allclose(inspected.gradients[name][k], np.linalg.norm(named(grads)[name]), rtol=1e-5)
            np.testing.assert_allclose(inspected.updates[name][k], change, rtol=1e-4)


def test_inspection_changes_no_bits_and_goes_on_with_the_model(digits):
    X, y = digits[0][:300], digits[1][:300]
    plain, watched = (classifier(Dense(8, "relu"), nbbp.Dropout(0.2), optimizer="adam") for _ in range(2))
    for fit in range(2):
        plain.fit(X, y, epochs=2, verbose=0)
        history = watched.fit(X, y, epochs=2, callbacks=[nbbp.Inspect(7)], verbose=0)
        np.testing.assert_array_equal(history.inspected.steps, [[7, 14], [21, 28, 35]][fit])
    np.testing.assert_array_equal(plain.params, watched.params)


def test_callbacks_are_called_at_their_own_steps(digits):
    called = {3: [], 5: []}
    calls = [nbbp.callbacks.Call(lambda fit, k=k: called[k].append(fit.model.steps), every=k) for k in called]
    model = classifier(optimizer="sgd")
    history = model.fit(digits[0][:96], digits[1][:96], epochs=5, callbacks=[*calls, nbbp.Inspect(4)], verbose=0)
    assert called == {3: [3, 6, 9, 12, 15], 5: [5, 10, 15]}
    assert history.inspected.steps.tolist() == [4, 8, 12]


@pytest.mark.parametrize("backend", ["numba", "numpy"])
def test_units_are_those_of_a_forward_pass(digits, backend):
    X, y = digits[0][:200].astype(np.float32), digits[1][:200]
    inner = nbbp.Residual([Dense(12, "sigmoid"), Dense(16)])
    layers = [Dense(16, "relu"), inner, Dense(16, "tanh"), Dense(1, "sigmoid")]
    model = nbbp.Sequential(layers, optimizer=nbbp.SGD(0.1), backend=backend)
    model.build(X.shape[1])
    model.params[:] *= 6
    model.named_params()["dense_0.b"][:5] = -1e3
    history = model.fit(X, y == 3, epochs=1, batch_size=50, callbacks=[nbbp.Inspect(4)], verbose=0)
    p = {name: w.astype(float) for name, w in model.named_params().items()}
    h = np.maximum(X @ p["dense_0.w"] + p["dense_0.b"], 0)
    s = 1 / (1 + np.exp(-(h @ p["residual_0.dense_0.w"] + p["residual_0.dense_0.b"])))
    r = h + s @ p["residual_0.dense_1.w"] + p["residual_0.dense_1.b"]
    t = np.tanh(r @ p["dense_1.w"] + p["dense_1.b"])
    inspected = history.inspected
    assert list(inspected.dead) == ["activation_0"]  # and the last sigmoid is an output, not a hidden unit
    assert list(inspected.saturated) == ["residual_0.activation_0", "activation_1"]
    assert inspected.dead["activation_0"][-1] == np.mean(~h.any(axis=0)) >= 5 / 16
    shares = [np.mean(np.abs(s - 0.5) > 0.49), np.mean(np.abs(t) > 0.99)]
    np.testing.assert_allclose([v[-1] for v in inspected.saturated.values()], shares, atol=2e-3)


def test_norms_of_layers():
    joined = by_layer({"dense_0.w": np.array([3.0]), "dense_0.b": np.array([4.0]), "residual_0.dense_0.w": 2.0})
    assert joined == {"dense_0": 5.0, "residual_0.dense_0": 2.0}


@pytest.mark.parametrize("activation", ["relu", "tanh", "sigmoid"])
def test_healthy_networks_are_not_conspicuous(digits, activation):
    X, y, X_test, y_test = digits
    model = classifier(Dense(32, activation), Dense(32, activation), optimizer=nbbp.Adam(0.003))
    diagnosis = diagnosis_of(model, X, y, epochs=15, validation_data=(X_test, y_test))
    assert str(diagnosis) == "nothing conspicuous"


def test_healthy_regression_of_single_rows(rng):
    X = rng.normal(size=(600, 4))
    y = X.sum(axis=1) + 0.5 * rng.normal(size=600)
    model = nbbp.Sequential([Dense(8, "tanh"), Dense(1)], optimizer=nbbp.SGD(0.01))
    diagnosis = diagnosis_of(model, X[:500], y[:500], batch_size=1, every=100, validation_data=(X[500:], y[500:]))
    assert not diagnosis.findings


def test_deep_sigmoid_vanishes(digits):
    model = classifier(*[Dense(16, "sigmoid") for _ in range(20)], optimizer=nbbp.SGD(0.1))
    assert "vanishing gradients" in diagnosis_of(model, *digits[:2])


def test_chaotic_tanh_and_large_relu_weights_explode(digits):
    def large(shape, generator):
        return 0.4 * generator.normal(size=shape)

    chaotic = classifier(*[Dense(64, "tanh", initializer=large) for _ in range(40)], optimizer=nbbp.SGD(1e-8))
    growing = classifier(*[Dense(64, "relu", initializer=large) for _ in range(20)], optimizer=nbbp.Adam())
    for model in (chaotic, growing):
        assert "exploding gradients" in diagnosis_of(model, *digits[:2], epochs=1)


@pytest.mark.parametrize("loss", ["softmax_cross_entropy", "mse"])
def test_rate_of_a_thousand_diverges(digits, loss):
    X, y = digits[:2]
    model = nbbp.Sequential([Dense(16, "tanh"), Dense(10)], loss=loss, optimizer=nbbp.SGD(1e3))
    diagnosis = diagnosis_of(model, X, y if loss != "mse" else np.eye(10)[y])
    assert "divergence" in diagnosis
    assert "learning rate too high" not in diagnosis


def test_high_and_low_learning_rates(digits):
    high = diagnosis_of(classifier(Dense(32, "relu"), optimizer=nbbp.Adam(0.5)), *digits[:2])
    low = diagnosis_of(classifier(Dense(32, "relu"), optimizer=nbbp.SGD(1e-5)), *digits[:2])
    assert "learning rate too high" in high
    assert names(low) == {"learning rate too low"}


def test_few_noisy_rows_overfit(digits, rng):
    X, y = digits[0] + 3 * rng.normal(size=digits[0].shape), digits[1]
    model = classifier(Dense(64, "relu"), optimizer=nbbp.Adam(0.01))
    held_out = X[60:], y[60:]
    diagnosis = diagnosis_of(model, X[:60], y[:60], epochs=40, batch_size=16, validation_data=held_out)
    assert names(diagnosis) == {"overfitting"}


def test_dead_and_saturated_units(digits):
    X, y = digits[:2]
    negative = Dense(32, "relu", initializer=lambda shape, generator: -np.abs(generator.normal(size=shape)))
    dead = diagnosis_of(classifier(negative, optimizer="adam"), X, y)
    assert names(dead) == {"dead relus"}
    saturated = diagnosis_of(classifier(Dense(32, "sigmoid"), optimizer="adam"), 100 * X, y)
    assert "saturated units" in saturated


def test_what_cannot_be_judged_is_said(digits):
    X, y = digits[0][:100], digits[1][:100]
    bare = nbbp.diagnose(classifier(optimizer="sgd").fit(X, y, verbose=0))
    assert not bare.findings
    assert [text.split(":")[0] for text in bare.not_judged] == [
        "overfitting", "trends from epoch to epoch", "gradients and units",
    ]  # fmt: skip
    assert str(bare).startswith("nothing conspicuous\nnot judged: overfitting")
    unseen = diagnosis_of(classifier(optimizer="sgd"), X, y, every=1000)
    assert "smaller every" in str(unseen)
    nbbp.diagnose(nbbp.History(1))


def test_a_fit_that_goes_on_is_not_judged_by_its_first_loss(digits):
    X, y = digits[:2]
    model = classifier(Dense(32, "relu"), optimizer=nbbp.Adam(0.003))
    first = model.fit(X, y, epochs=30, callbacks=[nbbp.Inspect()], verbose=0)
    second = model.fit(X, y, epochs=30, callbacks=[nbbp.Inspect()], verbose=0)
    alone = nbbp.diagnose(second)
    assert not alone.findings
    assert alone.not_judged[0].startswith(
        f"falls and rises of the loss: the network had been trained for {first.steps}"
    )
    first.extend(second)
    assert str(nbbp.diagnose(first)) == "nothing conspicuous\nnot judged: overfitting: the fit had no validation data"


@pytest.mark.parametrize("validated", [(True, False), (False, True), (True, True)])
def test_overfitting_is_judged_by_the_epochs_that_were_validated(validated, digits, rng):
    X, y = digits[0] + 3 * rng.normal(size=digits[0].shape), digits[1]
    model = classifier(Dense(64, "relu"), optimizer=nbbp.Adam(0.01))
    first, second = (
        model.fit(X[:60], y[:60], epochs, 16, validation_data=(X[60:], y[60:]) if seen else None, verbose=0)
        for epochs, seen in zip((2, 38), validated, strict=True)
    )
    first.extend(second)
    diagnosis = nbbp.diagnose(first)
    assert "nan" not in str(diagnosis)
    if validated[1]:
        best = 1 + int(np.nanargmin(first["val_loss"]))
        assert f"overfitting: the validation loss was lowest in epoch {best}, " in str(diagnosis)
    else:
        assert diagnosis.not_judged[0] == "overfitting: there was no validation data after epoch 2"


def test_few_epochs_with_validation_are_no_trend(digits):
    X, y = digits[0][:100], digits[1][:100]
    model = classifier(optimizer="sgd")
    first = model.fit(X, y, epochs=8, verbose=0)
    first.extend(model.fit(X, y, epochs=2, validation_data=(X, y), verbose=0))
    assert "overfitting: it needs validation data in 8 epochs, and had them in 2" in nbbp.diagnose(first).not_judged


@pytest.mark.parametrize("every", [(10, 20), (10, None), (None, 20), (10, 1000)])
def test_records_of_two_fits_are_joined(every, digits):
    X, y = digits[0][:320], digits[1][:320]
    model = classifier(Dense(8, "relu"), optimizer="sgd")
    callbacks = [[] if n is None else [nbbp.Inspect(n)] for n in every]
    first, second = (model.fit(X, y, epochs=5, callbacks=given, verbose=0) for given in callbacks)
    records = [fit.inspected.weights["dense_0.w"] for fit in (first, second) if fit.inspected]
    first.extend(second)
    inspected = first.inspected
    np.testing.assert_array_equal(inspected.weights["dense_0.w"], np.concatenate(records))
    steps = [
        s for n, begin in zip(every, (0, 50), strict=True) if n for s in range(n, 101, n) if begin < s <= begin + 50
    ]
    assert inspected.steps.tolist() == steps
    assert len(inspected.dead["activation_0"]) == len(steps)
    outdated = "gradients and units: nbbp.Inspect has recorded nothing after step 50"
    assert (outdated in nbbp.diagnose(first).not_judged) == (every[1] in (None, 1000))


def drawn(figure, path) -> bool:
    return isinstance(figure, Figure) and path.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"


def test_figures_of_networks(digits, tmp_path):
    path = tmp_path / "figure.png"
    model = classifier(Dense(8, "relu"), nbbp.LayerNorm(), optimizer="adam")
    history = model.fit(*digits[:2], epochs=2, callbacks=[nbbp.Inspect(10)], verbose=0)
    flow = nbbp.plots.gradient_flow(history, path)
    assert drawn(flow, path)
    lines = {line.get_label(): line.get_ydata() for line in flow.axes[0].lines}
    np.testing.assert_allclose(lines["dense_1"], by_layer(history.inspected.gradients)["dense_1"])
    bars = nbbp.plots.gradient_flow(model, path)
    assert drawn(bars, path)
    assert [text.get_text() for text in bars.axes[0].get_xticklabels()] == ["dense_0", "layernorm_0", "dense_1"]
    weights = nbbp.plots.weights(model, path)
    assert drawn(weights, path)
    assert len(weights.axes) == 2
    with pytest.raises(ValueError, match=r"nbbp\.Inspect"):
        nbbp.plots.gradient_flow(model.fit(*digits[:2], verbose=0))


def test_confusion_matrix_counts(tmp_path):
    path = tmp_path / "figure.png"
    y, guess = np.array([0, 0, 0, 2]), np.eye(3)[[0, 0, 1, 2]]
    for truth in (y, y[:, np.newaxis], np.eye(3)[y]):
        figure = nbbp.plots.confusion_matrix(truth, guess, ["a", "b", "c"], path)
        assert drawn(figure, path)
        texts = {text.get_position(): text.get_text() for text in figure.axes[0].texts}
        assert texts == {(0, 0): "2\n67%", (1, 0): "1\n33%", (2, 2): "1\n100%"}
    yes_no = nbbp.plots.confusion_matrix([0, 1, 1], np.array([[0.2], [0.5], [0.4]]))
    assert {t.get_position() for t in yes_no.axes[0].texts} == {(0, 0), (1, 1), (0, 1)}
    with pytest.raises(ValueError, match="3 classes and 2 names"):
        nbbp.plots.confusion_matrix(y, guess, ["a", "b"])


def counted(figure) -> dict[tuple[int, int], str]:
    """Counts by (predicted, true) class."""
    return {text.get_position(): text.get_text().split()[0] for text in figure.axes[0].texts}


@pytest.mark.parametrize("form", [np.array, list, lambda a: np.array(a, float), lambda a: np.array(a)[:, np.newaxis]])
def test_a_confusion_matrix_of_predicted_labels(form):
    y, guess = np.array([0, 0, 0, 2, 1]), [0, 0, 1, 2, 2]
    expected = {(0, 0): "2", (1, 0): "1", (2, 2): "1", (2, 1): "1"}
    for truth in (y, y[:, np.newaxis], np.eye(3)[y]):
        assert counted(nbbp.plots.confusion_matrix(truth, form(guess))) == expected
    named = nbbp.plots.confusion_matrix(y, form(guess), ["a", "b", "c", "never seen"])
    assert [label.get_text() for label in named.axes[0].get_yticklabels()] == ["a", "b", "c", "never seen"]
    assert counted(nbbp.plots.confusion_matrix([0, 1, 1], form([0, 1, 0]))) == {(0, 0): "1", (1, 1): "1", (0, 1): "1"}
    with pytest.raises(ValueError, match="3 classes and 2 names"):
        nbbp.plots.confusion_matrix(y, form(guess), ["a", "b"])
    with pytest.raises(ValueError, match="prediction: labels must lie in 0 to 2"):
        nbbp.plots.confusion_matrix(y, form([0, 0, 1, 2, -1]))
    with pytest.raises(ValueError, match="room for 200 classes"):
        nbbp.plots.confusion_matrix(y, form([0, 0, 1, 2, 10**9]))


def test_what_a_confusion_matrix_refuses(tmp_path):
    y, guess = np.array([0, 1, 2, 3, 4, 5]), np.eye(6)
    for path in ("cm.png", tmp_path / "cm.png"):
        with pytest.raises(TypeError, match=r"names must be a list of a name for each class, got .*; a file is path="):
            nbbp.plots.confusion_matrix(y, guess, path)
    with pytest.raises(ValueError, match="y must hold 0 and 1 if one column predicts, got values from 0 to 5"):
        nbbp.plots.confusion_matrix(y, np.full((6, 1), 0.3))


def test_decision_boundaries(rng, tmp_path):
    path = tmp_path / "figure.png"
    X = rng.normal(size=(60, 2))
    targets = {"softmax_cross_entropy": (X[:, 0] > 0) + 2 * (X[:, 1] > 0), "mse": X[:, 0] + X[:, 1]}
    targets["binary_cross_entropy"] = targets["softmax_cross_entropy"] > 1
    for loss, y in targets.items():
        model = nbbp.Sequential([Dense(4 if loss == "softmax_cross_entropy" else 1)], loss=loss)
        model.fit(X, y, epochs=2, verbose=0)
        figure = nbbp.plots.decision_boundary(model, X, y, path)
        assert drawn(figure, path)
        assert (figure.axes[0].get_legend() is None) == (loss == "mse")
    with pytest.raises(ValueError, match="two features"):
        nbbp.plots.decision_boundary(model, X[:, :1], y)


def test_learning_rate_figure(tmp_path):
    path = tmp_path / "figure.png"
    figure = nbbp.plots.learning_rate([1e-3, 1e-2, 1e-1, 1], [2.0, 1.0, 1.5, np.inf], 1e-2, path)
    assert drawn(figure, path)
    assert figure.axes[0].get_xscale() == "log"
    assert figure.axes[0].get_legend().get_texts()[0].get_text() == "chosen: 0.01"
