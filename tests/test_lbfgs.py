"""L-BFGS: that it finds the minimum, and that it is a fit to its callbacks."""

import csv
import os
import signal

import numpy as np
import pytest

import nbbp
from nbbp import callbacks as cb

pytest.importorskip("scipy")


def test_lbfgs_finds_the_least_squares_solution(rng):
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
    X = rng.standard_normal((50, 4))
    model = nbbp.Sequential([nbbp.Dense(4, "tanh"), nbbp.Dense(2)], dtype="float64")
    y = np.tanh(X @ rng.standard_normal((4, 2)))
    history = nbbp.fit_lbfgs(model, X, y, iterations=5000, tolerance=tolerance)
    model.gradients(X, y)
    assert tolerance / 1000 < np.abs(model.grads).max() <= tolerance
    assert "NORM OF PROJECTED GRADIENT" in history.stopped


def network(**settings) -> nbbp.Sequential:
    layers = [nbbp.Dense(12, "tanh"), nbbp.Dense(10)]
    return nbbp.Sequential(layers, "softmax_cross_entropy", metrics=["accuracy"], **settings)


def test_lbfgs_measures_every_iteration(digits):
    X, y, X_test, y_test = digits
    model, seen = network(dtype="float64"), []

    def note(fit):
        values = {name: column[-1] for name, column in fit.history.epochs.items()}
        here = fit.model.evaluate(X, y) | {
            f"val_{name}": value for name, value in fit.model.evaluate(X_test, y_test).items()
        }
        assert values == pytest.approx(here, rel=1e-12)
        assert (fit.data.rows, fit.validation.rows, fit.recorded["val_loss"]) == (len(X), len(X_test), False)
        seen.append(len(fit.history))

    history = nbbp.fit_lbfgs(model, X, y, 8, validation_data=(X_test, y_test), callbacks=[cb.Call(note)], verbose=0)
    assert seen == list(range(1, 9))
    assert list(history.epochs) == ["loss", "accuracy", "val_loss", "val_accuracy"]
    assert model.history is history
    assert "ITERATIONS" in history.stopped


def test_lbfgs_stops_early_and_puts_the_best_back(digits, tmp_path):
    X, y, X_test, y_test = digits
    model, patient = network(averaging=nbbp.EMA()), cb.EarlyStopping(patience=2)
    log = cb.CSVLog(tmp_path / "log.csv")
    history = nbbp.fit_lbfgs(
        model, X[:100], y[:100], 500, validation_data=(X_test, y_test), callbacks=[patient, log], verbose=0
    )
    assert history.stopped.startswith("val_loss has not improved since epoch")
    assert len(history) == patient.best_epoch + 2
    assert model.evaluate(X_test, y_test)["loss"] == pytest.approx(min(history["val_loss"]), rel=1e-6)
    assert model.averaged().params.tobytes() == model.params.tobytes()
    rows = list(csv.DictReader((tmp_path / "log.csv").open()))
    assert [float(row["val_loss"]) for row in rows] == history["val_loss"]


def test_lbfgs_ends_below_a_loss_at_a_time_and_by_steps(digits):
    X, y, *_ = digits
    assert nbbp.fit_lbfgs(network(), X, y, callbacks=[cb.StopBelow(1.0)], verbose=0)["loss"][-1] < 1.0
    history = nbbp.fit_lbfgs(network(), X, y, callbacks=[cb.TimeLimit(1e-9)], verbose=0)
    assert (len(history), history.stopped) == (1, "1e-09 s are over")
    history = nbbp.fit_lbfgs(network(), X, y, callbacks=[cb.Call(lambda fit: fit.stop("six"), every=6)], verbose=0)
    assert (len(history), history.stopped) == (6, "six")


def test_lbfgs_shows_its_iterations(digits, capsys):
    nbbp.fit_lbfgs(network(), digits[0], digits[1], 5)
    output = capsys.readouterr()
    assert "L-BFGS: 100%" in output.err.splitlines()[-1]
    assert "stopped after iteration 5: STOP" in output.out
    nbbp.fit_lbfgs(network(), digits[0], digits[1], 2, verbose=2)
    assert capsys.readouterr().out.splitlines()[1].startswith("Epoch 2/2 - ")


def test_lbfgs_weighs_classes(digits):
    X, y = digits[0], np.minimum(digits[1], 1)
    counts = np.bincount(y)
    models = [network(dtype="float64") for _ in range(2)]
    nbbp.fit_lbfgs(models[0], X, y, 5, class_weight="balanced", verbose=0)
    nbbp.fit_lbfgs(models[1], X, y, 5, sample_weight=len(y) / (2 * counts[y]), verbose=0)
    np.testing.assert_allclose(models[0].params, models[1].params, rtol=1e-9)


def test_lbfgs_of_several_outputs_and_masks(rng):
    x, extra = nbbp.Input((4, 6), name="x"), nbbp.Input(5, name="extra")
    outputs = {"steps": nbbp.Dense(1)(x), "value": nbbp.Dense(1)(extra)}
    model = nbbp.Model({"x": x, "extra": extra}, outputs, "mse", loss_weights={"steps": 2.0, "value": 0.5},
                       dtype="float64")  # fmt: skip
    X = {"x": rng.standard_normal((60, 4, 6)), "extra": rng.standard_normal((60, 5))}
    y = {"steps": rng.standard_normal((60, 4, 1)), "value": rng.standard_normal((60, 1))}
    there = rng.random((60, 4)) < 0.6
    X["x"][~there] = y["steps"][~there] = 1e6  # what is masked does not count
    mask = {"x": there, "extra": None}
    history = nbbp.fit_lbfgs(model, X, y, 200, tolerance=1e-9, mask=mask, validation_data=(X, y, None, mask), verbose=0)
    for name, inputs, targets in (("steps", X["x"][there], y["steps"][there]), ("value", X["extra"], y["value"])):
        columns = np.hstack([inputs, np.ones((len(inputs), 1))])
        squares = np.linalg.lstsq(columns, targets, rcond=None)[1]
        assert history[f"{name}_loss"][-1] == pytest.approx(squares[0] / len(inputs), rel=1e-9)
    weighed = 2 * history["steps_loss"][-1] + 0.5 * history["value_loss"][-1]
    assert history["loss"][-1] == pytest.approx(weighed, rel=1e-12)
    assert history["val_loss"][-1] == pytest.approx(weighed, rel=1e-9)


@pytest.mark.parametrize(
    "callback",
    [nbbp.Checkpoint("folder"), cb.ReduceOnPlateau("loss"), cb.LearningRateLog(), nbbp.Inspect()],
    ids=lambda callback: type(callback).__name__,
)
def test_lbfgs_refuses_what_needs_mini_batches(callback, digits):
    with pytest.raises(TypeError, match=f"fit_lbfgs takes no {type(callback).__name__}: "):
        nbbp.fit_lbfgs(network(), digits[0], digits[1], callbacks=[callback], verbose=0)


def test_lbfgs_refuses_callbacks_that_change_parameters(digits):
    for change in (lambda fit: nbbp.prune(fit.model, 0.5), lambda fit: fit.model.params.fill(0)):
        model = network()
        with pytest.raises(RuntimeError, match="a callback changed the parameters"):
            nbbp.fit_lbfgs(model, digits[0], digits[1], callbacks=[cb.Call(change)], verbose=0)


@pytest.mark.parametrize(("number", "expected"), [(signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, SystemExit)])
def test_a_signal_ends_lbfgs_after_a_complete_iteration(number, expected, digits):
    X, y, *_ = digits
    model, kept = network(), []

    def third(fit):
        kept[:] = [fit.model.params.copy()]
        if len(fit.history) == 3:
            os.kill(os.getpid(), number)

    with pytest.raises(expected):
        nbbp.fit_lbfgs(model, X, y, callbacks=[cb.Call(third)], verbose=0)
    assert len(model.history) == model.history.steps == 3
    assert model.params.tobytes() == kept[0].tobytes()
    assert signal.getsignal(number) in (signal.default_int_handler, signal.SIG_DFL)
