"""Smaller networks, and other ways to train."""

import numpy as np
import pytest

import nbbp


def make(seed: int = 0, units: int = 32, **settings) -> nbbp.Sequential:
    layers = [nbbp.Dense(units, activation="tanh"), nbbp.Dense(10)]
    return nbbp.Sequential(layers, "softmax_cross_entropy", nbbp.Adam(0.005), ["accuracy"], seed, **settings)


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
    twin = model.copy()
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


def test_distillation_builds_a_student_of_images(digits):
    X, y = digits[0][:100].reshape(-1, 8, 8, 1), digits[1][:100]
    teacher, student = (
        nbbp.Sequential([nbbp.Conv2D(2, 3), nbbp.Flatten(), nbbp.Dense(10)], "softmax_cross_entropy") for _ in range(2)
    )
    teacher.fit(X, y, verbose=0)
    nbbp.distill(student, teacher, X, y, verbose=0)
    assert student.network.graph.inputs[0].shape == (8, 8, 1)


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
