"""Many networks at once, smaller networks, and other ways to train."""

import itertools
import os
import signal
import threading
import time

import numpy as np
import pytest

import nbbp


def make(seed: int = 0, units: int = 32, **settings) -> nbbp.Sequential:
    layers = [nbbp.Dense(units, activation="tanh"), nbbp.Dense(10)]
    return nbbp.Sequential(layers, "softmax_cross_entropy", nbbp.Adam(0.005), ["accuracy"], seed, **settings)


def test_members_of_an_ensemble_learn_what_they_would_alone(digits):
    X, y, X_test, y_test = digits
    ensemble = nbbp.Ensemble(3, make)
    histories = ensemble.fit(X, y, epochs=2, batch_size=100, validation_data=(X_test, y_test), verbose=0)
    for seed, (member, history) in enumerate(zip(ensemble.members, histories, strict=True)):
        alone = make(seed)
        own = alone.fit(X, y, epochs=2, batch_size=100, validation_data=(X_test, y_test), verbose=0)
        assert member.params.tobytes() == alone.params.tobytes()
        assert history.step_loss.tobytes() == own.step_loss.tobytes()
        assert history["val_accuracy"] == own["val_accuracy"]
    outputs = np.stack([member.predict(X_test) for member in ensemble.members])
    np.testing.assert_array_equal(ensemble.predict(X_test), outputs.mean(axis=0))
    np.testing.assert_array_equal(ensemble.spread(X_test), outputs.std(axis=0))
    votes = outputs.argmax(axis=2)
    for chosen, row in zip(ensemble.vote(X_test), votes.T, strict=True):
        assert chosen == np.bincount(row).argmax()


def test_an_ensemble_trains_on_folds_and_goes_on_when_a_member_diverges(digits):
    X, y = digits[0][:300] * 100, np.eye(10)[digits[1][:300]]
    layers = [nbbp.Dense(8), nbbp.Dense(10)]
    members = [nbbp.Sequential(layers, "mse", nbbp.SGD(rate), seed=1) for rate in (1e-7, 10.0)]
    folds = [np.arange(200), np.arange(100, 300)]
    first, second = nbbp.Ensemble(members).fit(X, y, epochs=2, batch_size=50, rows=folds, verbose=0)
    assert second.stopped == "the loss is no longer finite"
    assert len(second) < 2
    assert not np.isfinite(second.step_loss[-1])
    alone = nbbp.Sequential(layers, "mse", nbbp.SGD(1e-7), seed=1)
    assert alone.fit(X[:200], y[:200], epochs=2, batch_size=50, verbose=0)["loss"] == first["loss"]


def test_members_need_not_be_alike(digits):
    X, y = digits[0][:130], digits[1][:130]
    members = [make(0, 8), make(1, 64)]
    nbbp.Ensemble(members).fit(X, y, epochs=2, batch_size=100, verbose=0)
    for member, alone in zip(members, (make(0, 8), make(1, 64)), strict=True):
        alone.fit(X, y, epochs=2, batch_size=100, verbose=0)
        assert member.params.tobytes() == alone.params.tobytes()


@pytest.mark.parametrize(("number", "expected"), [(signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, SystemExit)])
def test_a_signal_ends_an_ensemble_between_two_mini_batches(number, expected, digits):
    X, y = digits[0], digits[1]
    ensemble, sent = nbbp.Ensemble([make(0), make(1, 8)]), []
    first = ensemble.fit(X, y, batch_size=8, verbose=0)
    before = [member.steps for member in ensemble.members]

    def send():
        while ensemble.members[1].history is first[1]:  # the fit has not begun
            time.sleep(0.01)
        time.sleep(0.2)
        sent.append(time.monotonic())
        os.kill(os.getpid(), number)

    threading.Thread(target=send).start()
    with pytest.raises(expected):
        ensemble.fit(X, y, epochs=1_000_000, batch_size=8, verbose=0)
    assert time.monotonic() - sent[0] < 5
    assert signal.getsignal(number) in (signal.default_int_handler, signal.SIG_DFL)
    for member, begun in zip(ensemble.members, before, strict=True):
        history = member.history
        assert history.steps == len(history.step_loss) == member.steps - begun > 10
        assert len(history) == history.steps // history.steps_per_epoch > 0
        assert np.isfinite(member.predict(X)).all()
    assert [len(history) for history in ensemble.fit(X, y, batch_size=8, verbose=0)] == [1, 1]


def test_a_signal_in_the_validation_of_an_ensemble_leaves_whole_epochs(digits, monkeypatch):
    X, y, X_test, y_test = digits
    ensemble, measure, counts = nbbp.Ensemble(2, make), nbbp.Sequential.measure, itertools.count()

    def interrupted(model, *arguments, **named):
        if next(counts) == 3:  # the second member in the second epoch
            os.kill(os.getpid(), signal.SIGINT)
        return measure(model, *arguments, **named)

    monkeypatch.setattr(nbbp.Sequential, "measure", interrupted)
    with pytest.raises(KeyboardInterrupt):
        ensemble.fit(X, y, epochs=3, validation_data=(X_test, y_test), verbose=0)
    for member in ensemble.members:
        assert {name: len(values) for name, values in member.history.epochs.items()} == {
            "loss": 1, "val_loss": 1, "val_accuracy": 1,
        }  # fmt: skip
        assert member.history.steps == member.steps == 2 * member.history.steps_per_epoch


def test_the_bar_of_an_ensemble_has_its_epochs_and_ends_at_100_percent(digits, capsys):
    X, y = digits[0][:300], digits[1][:300]
    nbbp.Ensemble(2, make).fit(X, y, epochs=3, validation_data=(X, y))
    assert "epoch 3/3: 100%" in capsys.readouterr().err.splitlines()[-1]


@pytest.mark.parametrize("backend", ["numba", "numpy"])
def test_pruned_weights_stay_zero(backend, digits):
    X, y = digits[0][:300], digits[1][:300]
    model = make(backend=backend)
    model.fit(X, y, epochs=2, verbose=0)
    nbbp.prune(model, 0.75)
    weights = [w for w in model.named_params().values() if w.ndim == 2]
    size = sum(w.size for w in weights)
    zero = [w == 0 for w in weights]
    assert sum(int(z.sum()) for z in zero) == pytest.approx(0.75 * size, abs=2)
    largest_pruned = max(np.abs(w[z]).max(initial=0) for w, z in zip(weights, zero, strict=True))
    assert largest_pruned == 0
    model.fit(X, y, epochs=2, verbose=0)
    twin = model._copy()
    twin.fit(X, y, epochs=1, verbose=0)
    for trained in (model, twin):
        again = [w for w in trained.named_params().values() if w.ndim == 2]
        assert all((w[z] == 0).all() and (w[~z] != 0).any() for w, z in zip(again, zero, strict=True))


def test_pruning_report(digits):
    X, y, X_test, y_test = digits
    model = make()
    model.fit(X, y, epochs=10, verbose=0)
    before = model.params.copy()
    report = nbbp.pruning_report(model, (X, y), (X_test, y_test), shares=(0.0, 0.5, 0.9), epochs=2)
    assert (model.params == before).all()
    assert report.kept[0] == np.count_nonzero(before)
    assert report.kept[2] < 0.2 * report.kept[0]
    assert report.values[1]["accuracy"] > 0.9
    assert str(report).splitlines()[0].split() == ["pruned", "parameters", "loss", "accuracy"]


def test_distillation_teaches_what_the_teacher_knows(digits):
    """A student that never sees labels agrees with its teacher."""
    X, y, X_test, y_test = digits
    teacher, student = make(units=64), make(1, units=8)
    teacher.fit(X, y, epochs=20, verbose=0)
    wrong = np.zeros_like(y)
    history = nbbp.distill(
        student, teacher, X, wrong, share=0.999, epochs=20, validation_data=(X_test, y_test), verbose=0
    )
    agreement = np.mean(student.predict(X_test).argmax(axis=1) == teacher.predict(X_test).argmax(axis=1))
    assert agreement > 0.9
    assert history["val_accuracy"][-1] == pytest.approx(student.evaluate(X_test, y_test)["accuracy"])
    assert student.loss.name == "softmax_cross_entropy"


def test_distillation_loss_is_a_mixture(rng):
    z, soft, hard = rng.standard_normal((5, 3)), rng.dirichlet(np.ones(3), 5), np.eye(3)[[0, 1, 2, 0, 1]]

    def cross_entropy(t, z):
        return -np.sum(t * (z - np.log(np.exp(z).sum(axis=1, keepdims=True))), axis=1).mean()

    model = nbbp.Sequential([nbbp.Activation("linear")], "distillation", dtype="float64")
    expected = 0.9 * 16 * cross_entropy(soft, z / 4) + 0.1 * cross_entropy(hard, z)
    assert model.evaluate(z, np.hstack([soft, hard]))["loss"] == pytest.approx(expected, rel=1e-12)


def test_find_learning_rate(digits):
    X, y = digits[0], digits[1]
    model = make()
    found = nbbp.find_learning_rate(model, X, y)
    assert model.steps == 0
    assert 1e-4 < found.suggestion < 0.3
    assert (np.diff(found.rates) > 0).all()
    assert len(found.rates) == len(found.losses) < 200  # it ends when the loss has risen
    model.learning_rate = found.suggestion
    assert model.fit(X, y, epochs=10, verbose=0)["accuracy"][-1] > 0.9


def test_lbfgs_finds_the_least_squares_solution(rng):
    pytest.importorskip("scipy")
    X = rng.standard_normal((50, 4))
    y = X @ rng.standard_normal((4, 2)) + rng.normal(0, 0.1, (50, 2))
    model = nbbp.Sequential([nbbp.Dense(2)], dtype="float64")
    history = nbbp.fit_lbfgs(model, X, y, iterations=200)
    solution = np.linalg.lstsq(np.hstack([X, np.ones((50, 1))]), y, rcond=None)[0]
    np.testing.assert_allclose(model.named_params()["dense_0.w"], solution[:4], atol=1e-5)
    assert (np.diff(history["loss"]) <= 0).all()
    assert "CONVERGENCE" in history.stopped


@pytest.mark.parametrize("tolerance", [1e-3, 1e-9])
def test_lbfgs_goes_on_until_the_gradient_is_as_small_as_its_tolerance(tolerance, rng):
    pytest.importorskip("scipy")
    X = rng.standard_normal((50, 4))
    model = nbbp.Sequential([nbbp.Dense(4, "tanh"), nbbp.Dense(2)], dtype="float64")
    y = np.tanh(X @ rng.standard_normal((4, 2)))
    history = nbbp.fit_lbfgs(model, X, y, iterations=5000, tolerance=tolerance)
    model.gradients(X, y)
    assert tolerance / 1000 < np.abs(model.grads).max() <= tolerance
    assert "NORM OF PROJECTED GRADIENT" in history.stopped


@pytest.mark.parametrize("seed", range(3))
def test_a_suggested_rate_lies_where_the_loss_falls(seed, digits):
    """Not among the first, noisy steps."""
    model = nbbp.Sequential([nbbp.Dense(32, "relu"), nbbp.Dense(10)], "softmax_cross_entropy", "sgd", seed=seed)
    assert 0.01 < nbbp.find_learning_rate(model, digits[0], digits[1]).suggestion < 1


def test_pruned_weights_stay_zero_in_averages_and_in_lbfgs(digits):
    pytest.importorskip("scipy")
    X, y = digits[0][:200], digits[1][:200]
    model = make(averaging=nbbp.EMA(0.9))
    model.fit(X, y, verbose=0)
    nbbp.prune(model, 0.5)
    zero = model.network.mask == 0
    nbbp.prune(model, 0.3)  # what is pruned stays pruned
    assert (model.network.mask[zero] == 0).all()
    model.fit(X, y, epochs=2, verbose=0)
    assert (model.averaged().params[zero] == 0).all()
    nbbp.fit_lbfgs(model, X, y, iterations=5)
    assert (model.params[zero] == 0).all()
    assert model.averaged().params.tobytes() == model.params.tobytes()
    with pytest.raises(ValueError, match="fit_lbfgs trains no layers with running statistics"):
        nbbp.fit_lbfgs(nbbp.Sequential([nbbp.BatchNorm(), nbbp.Dense(10)], "softmax_cross_entropy"), X, y)


def test_find_learning_rate_for_losses_below_zero_and_few_steps(rng):
    X = rng.standard_normal((3000, 3))
    y = rng.poisson(np.exp(X @ [0.3, 0.5, 0.2] + 3))[:, None]
    model = nbbp.Sequential([nbbp.Dense(16, "tanh"), nbbp.Dense(1)], "poisson")
    assert nbbp.find_learning_rate(model, X, y).suggestion > 1e-4
    assert nbbp.find_learning_rate(model, X, y, batch_size=2, steps=60).suggestion > 1e-6
