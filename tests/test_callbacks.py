"""What happens beside the training steps, and that these do not notice."""

import csv
import functools
import math
import os
import resource
import time
import warnings

import numpy as np
import pytest

import nbbp
from nbbp import callbacks, schedules
from nbbp.callbacks import Call, Callback, CSVLog, EarlyStopping, LearningRateLog, ReduceOnPlateau


def classifier(**settings) -> nbbp.Sequential:
    layers = [nbbp.Dense(16, activation="relu"), nbbp.BatchNorm(), nbbp.Dense(10)]
    return nbbp.Sequential(layers, **{"loss": "softmax_cross_entropy", "optimizer": nbbp.Adam(0.01)} | settings)


@pytest.fixture
def small(digits):
    return digits[0][:200], digits[1][:200]


def fit(model, data, **settings):
    return model.fit(*data, **{"batch_size": 30, "verbose": 0} | settings)


class Scripted(Callback):
    """Notes chosen values as those of each epoch; keeps parameters and state of each."""

    def __init__(self, values, name: str = "score") -> None:
        self.values, self.name, self.seen = values, name, []
        self.records = {name: name == "accuracy"}

    def on_epoch_end(self, fit):
        fit.history.note(**{self.name: self.values[len(fit.history) - 1]})
        self.seen.append((fit.model.params.tobytes(), fit.model.network.state.tobytes()))


def now(model):
    return model.params.tobytes(), model.network.state.tobytes()


@pytest.mark.parametrize(
    ("values", "settings", "epochs", "best"),
    [
        ([5, 4, 3, 3, 3, 0], {"patience": 2}, 5, 3),
        ([5, 6, 4, 5, 6, 0], {"patience": 2}, 5, 3),
        ([5, 4, 3, 2, 1, 0], {"patience": 1}, 6, 6),
        ([5, 4.9, 4.8, 4.7, 0, 0], {"patience": 3, "min_delta": 0.5}, 4, 1),
        ([5, 4.7, 4.4, 4.1, 9, 9], {"patience": 2, "min_delta": 0.5}, 5, 3),
        pytest.param(
            [math.nan, 5, math.nan, math.nan, 0, 0],
            {"patience": 2},
            4,
            2,
            marks=pytest.mark.filterwarnings("ignore:score is nan"),
        ),
        ([0.1, 0.2, 0.2, 0.1, 0.9, 0.9], {"patience": 2, "monitor": "accuracy"}, 4, 2),
    ],
)
def test_early_stopping(values, settings, epochs, best, small):
    settings = {"monitor": "score"} | settings
    model, scripted, stopping = classifier(), Scripted(values, settings["monitor"]), EarlyStopping(**settings)
    history = fit(model, small, epochs=6, callbacks=[scripted, stopping])
    assert len(history) == epochs
    assert stopping.best_epoch == best
    assert bool(history.stopped) == (epochs < 6)
    assert now(model) == scripted.seen[best - 1]


def spread(y, prediction):
    return prediction.max() - prediction.min()


def best_of(values, higher: bool) -> int:
    return int((np.argmax if higher else np.argmin)(values)) + 1


@pytest.mark.parametrize("higher", [True, False])
@pytest.mark.parametrize("wrapped", [False, True])
def test_a_metric_of_ones_own_says_which_way_is_better(higher, wrapped, small, monkeypatch):
    monkeypatch.setattr(spread, "higher_is_better", higher, raising=False)
    metric = functools.partial(spread) if wrapped else spread
    name = "partial" if wrapped else "spread"
    scripted, stopping = Scripted([0] * 6, "other"), EarlyStopping(f"val_{name}", patience=6)
    history = fit(classifier(metrics=[metric]), small, epochs=6, validation_data=small, callbacks=[scripted, stopping])
    assert stopping.best_epoch == best_of(history[f"val_{name}"], higher)
    assert 1 < best_of(history[f"val_{name}"], True) != best_of(history[f"val_{name}"], False)


@pytest.mark.parametrize("watch", [EarlyStopping, ReduceOnPlateau])
def test_a_direction_that_nobody_has_said_is_asked_for(watch, small):
    model = classifier(metrics=[spread, "f1"])
    with pytest.raises(ValueError, match=r"'val_spread': nothing says .* set spread.higher_is_better = True or False"):
        fit(model, small, validation_data=small, callbacks=[watch("val_spread")])
    noted = Call(lambda fit: fit.history.note(score=1))
    noted.records = ("score",)
    with pytest.raises(ValueError, match=r"set its callback's records\['score'\] = True or False"):
        fit(model, small, callbacks=[noted, watch("score")])
    assert model.steps == 0
    fit(model, small, callbacks=[noted, callbacks.StopBelow(0, "score"), watch("f1")])


def test_a_direction_is_true_or_false(small, monkeypatch):
    monkeypatch.setattr(spread, "higher_is_better", "max", raising=False)
    with pytest.raises(TypeError, match=r"higher_is_better of .*spread.* must be True or False, got 'max'"):
        fit(classifier(metrics=[spread]), small, callbacks=[EarlyStopping("spread")])


def test_a_monitor_that_is_nan_is_said(small):
    X, y = small[0][:, :5], (small[1] > 4).astype(float)
    yes = y == 1
    model = nbbp.Sequential([nbbp.Dense(1)], "binary_cross_entropy", metrics=["roc_auc"])
    stopping = EarlyStopping("val_roc_auc", patience=2)
    with pytest.warns(
        UserWarning, match="val_roc_auc is nan in epoch 1, which counts as no improvement: watch"
    ) as said:
        history = fit(model, (X, y), epochs=5, validation_data=(X[yes], y[yes]), callbacks=[stopping])
    assert len(said) == 1
    assert history.stopped == "val_roc_auc is nan and has not improved in any epoch"
    assert stopping.best_epoch == 0


def test_a_single_row_to_validate_on_is_said(small):
    held_out = small[0][:1], small[1][:1]
    with pytest.warns(UserWarning, match="val_loss is measured on one row"):
        fit(classifier(), small, validation_data=held_out, callbacks=[EarlyStopping()])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fit(classifier(), small, validation_data=held_out, callbacks=[EarlyStopping("loss")])


def test_early_stopping_may_leave_the_last_parameters(small):
    model, scripted = classifier(), Scripted([1, 2, 3])
    fit(model, small, epochs=3, callbacks=[scripted, EarlyStopping("score", patience=1, restore_best=False)])
    assert now(model) == scripted.seen[1]


def test_early_stopping_on_validation_data_generalises_best(digits):
    X, y, X_test, y_test = digits
    model = classifier()
    history = model.fit(X[:300], y[:300], epochs=200, validation_data=(X_test, y_test), verbose=0,
                        callbacks=[EarlyStopping(patience=5)])  # fmt: skip
    assert len(history) < 200
    assert model.evaluate(X_test, y_test)["loss"] == min(history["val_loss"])
    assert "val_loss has not improved since epoch" in history.stopped


@pytest.mark.parametrize("raised", [ZeroDivisionError, KeyboardInterrupt])
def test_an_exception_reaches_the_caller_and_the_best_parameters_are_put_back(raised, small):
    def fail(fit):
        if fit.model.steps == 25:
            raise raised("at step 25")

    model, scripted = classifier(), Scripted([1, 2, 3, 4])
    with pytest.raises(raised, match="at step 25"):
        fit(model, small, epochs=4, callbacks=[scripted, EarlyStopping("score"), Call(fail, every=5)])
    assert now(model) == scripted.seen[0]
    assert np.isfinite(model.predict(small[0])).all()
    assert np.isfinite(fit(model, small)["loss"][0])


def test_divergence_puts_the_best_parameters_back(small):
    model, scripted = classifier(optimizer=nbbp.SGD(0.01)), Scripted([1, 2, 3, 4])

    def spoil(fit):
        if len(fit.history) == 2:
            fit.model.learning_rate = 1e30

    with pytest.raises(nbbp.DivergenceError) as caught:
        fit(model, small, epochs=4, callbacks=[scripted, EarlyStopping("score"), Call(spoil)])
    assert caught.value.epoch == 3
    assert now(model) == scripted.seen[0]
    assert np.isfinite(model.predict(small[0])).all()


def test_every_end_is_told_even_if_one_fails(small):
    class Fails(Callback):
        def on_fit_end(self, fit):
            raise OSError("disk full")

    for order in (1, -1):
        model, scripted = classifier(), Scripted([1, 2])
        with pytest.raises(OSError, match="disk full"):
            fit(model, small, epochs=2, callbacks=[scripted, *[EarlyStopping("score"), Fails()][::order]])
        assert now(model) == scripted.seen[0]


def test_reduce_on_plateau(small):
    model, rates = classifier(optimizer=nbbp.SGD(0.4)), []
    values = [5, 5, 5, 5, 5, 4, 4, 4]
    plateau = ReduceOnPlateau("score", factor=0.5, patience=2, least=0.06)
    record = Call(lambda fit: rates.append(fit.model.learning_rate))
    fit(model, small, epochs=8, callbacks=[Scripted(values), plateau, record])
    assert rates == [0.4, 0.4, 0.2, 0.2, 0.1, 0.1, 0.1, 0.06]
    assert model.optimizer == nbbp.SGD(0.06)


def test_the_reduced_rate_is_the_one_that_trains(small):
    reduced, by_hand = (classifier(optimizer=nbbp.SGD(0.4)) for _ in range(2))
    fit(reduced, small, epochs=3, callbacks=[Scripted([1, 1, 1]), ReduceOnPlateau("score", 0.25, patience=1)])
    fit(by_hand, small, epochs=2)
    by_hand.learning_rate = 0.1
    fit(by_hand, small)
    assert now(reduced) == now(by_hand)


def test_reduce_on_plateau_takes_any_number_and_no_schedule(small):
    plateau = ReduceOnPlateau("score", patience=1)
    model = classifier(optimizer=nbbp.SGD(np.float32(0.5)))
    fit(model, small, epochs=2, callbacks=[Scripted([1, 1]), plateau, LearningRateLog()])
    assert model.learning_rate == 0.25
    model = classifier(optimizer=nbbp.SGD(schedules.Constant(0.1)))
    with pytest.raises(TypeError, match="schedule"):
        fit(model, small, epochs=2, callbacks=[Scripted([1, 1]), plateau])


def test_stop_below(small):
    scripted = Scripted([5, 3, 2, 1, 0, 0])
    history = fit(classifier(), small, epochs=6, callbacks=[scripted, callbacks.StopBelow(3, "score")])
    assert len(history) == 3
    assert history.stopped == "score is below 3"


def test_time_limit_ends_a_long_epoch(digits):
    X, y = np.tile(digits[0], (100, 1)), np.tile(digits[1], 100)
    model = nbbp.Sequential([nbbp.Dense(512, activation="relu"), nbbp.Dense(10)], loss="softmax_cross_entropy")
    fit(model, (X[:9], y[:9]), batch_size=1)
    begin = time.monotonic()
    history = fit(model, (X, y), batch_size=1, epochs=1000, callbacks=[callbacks.TimeLimit(0.3)])
    assert 0.3 <= time.monotonic() - begin < 5
    assert 0 < len(history.step_loss) < len(X)
    assert model.steps == 9 + len(history.step_loss)
    assert len(history) == 0
    assert history.stopped == "0.3 s are over"
    assert np.isfinite(history.step_loss).all()
    assert len(fit(model, (X[:9], y[:9]))) == 1


def test_csv_log(tmp_path, small):
    path, seen = tmp_path / "log.csv", []

    def read(fit):
        with path.open() as file:
            seen.append(len(list(csv.DictReader(file))))

    log = [CSVLog(path), Call(read)]
    history = fit(classifier(metrics=["accuracy"]), small, epochs=3, validation_data=small, callbacks=log)
    assert seen == [1, 2, 3], "readable while the fit goes on"
    with path.open() as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["epoch", "loss", "accuracy", "val_loss", "val_accuracy"]
    for name in history.epochs:
        assert [float(row[name]) for row in rows] == history[name]
    assert [row["epoch"] for row in rows] == ["1", "2", "3"]
    fit(classifier(), small, callbacks=log)
    assert path.read_text().startswith("epoch,loss\n"), "overwritten by the next fit"


def test_csv_log_leaves_out_what_is_noted_after_it(tmp_path, small):
    path = tmp_path / "log.csv"
    fit(classifier(), small, epochs=3, callbacks=[CSVLog(path), LearningRateLog()])
    with path.open() as file:
        rows = list(csv.reader(file))
    assert [len(row) for row in rows] == [2] * 4
    fit(classifier(), small, epochs=3, callbacks=[LearningRateLog(), CSVLog(path)])
    with path.open() as file:
        assert [float(row["learning_rate"]) for row in csv.DictReader(file)] == [0.01] * 3


def test_a_log_that_cannot_be_opened_says_so(tmp_path, small):
    model = classifier()
    with pytest.raises(FileNotFoundError):
        fit(model, small, callbacks=[EarlyStopping("loss"), CSVLog(tmp_path / "nowhere" / "log.csv")])
    assert model.steps == 0


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="there is no device that is always full")
@pytest.mark.parametrize("log", [CSVLog, nbbp.trackers.JSONL])
def test_a_full_disk_is_named_by_the_log_that_meets_it(log, small):
    with pytest.raises(OSError, match="No space left on device; the lines of the epochs before are in it: '/dev/full'"):
        fit(classifier(), small, epochs=2, callbacks=[log("/dev/full")])
    history = fit(classifier(), small)
    with pytest.raises(OSError, match="No space left on device; the file is not complete: '/dev/full'"):
        history.to_csv("/dev/full")


def test_a_figure_that_does_not_fit_on_the_disk_is_named(tmp_path, small):
    history, path, limits = fit(classifier(), small), tmp_path / "curve.png", resource.getrlimit(resource.RLIMIT_FSIZE)
    history.plot(path)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
    try:
        with pytest.raises(OSError, match=r"File too large; the file is not complete: .*curve.png"):
            history.plot(path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def test_learning_rate_log(small):
    schedule = schedules.Exponential(0.1, 7)
    model = classifier(optimizer=nbbp.Adam(schedule))
    histories = [fit(model, small, epochs=epochs, callbacks=[LearningRateLog()]) for epochs in (1, 2)]
    logged = [rate for history in histories for rate in history["learning_rate"]]
    np.testing.assert_array_equal(logged, schedule([6, 13, 20]))


def test_the_logged_rate_is_the_one_that_was_used(small):
    plateau, log = ReduceOnPlateau("score", patience=1), LearningRateLog()
    for order in (1, -1):
        model = classifier(optimizer=nbbp.SGD(0.4))
        history = fit(model, small, epochs=3, callbacks=[Scripted([1, 1, 1]), *[plateau, log][::order]])
        assert history["learning_rate"] == [0.4, 0.4, 0.2]


def test_plot_curve(tmp_path, small):
    path = tmp_path / "curve.png"
    fit(classifier(metrics=["accuracy"]), small, epochs=2, validation_data=small, callbacks=[callbacks.PlotCurve(path)])
    assert path.read_bytes().startswith(b"\x89PNG")
    assert path.stat().st_size > 10_000


@pytest.mark.parametrize("backend", ["numba", "numpy"])
@pytest.mark.parametrize(("batch", "every"), [(30, 4), (2, 7), (200, 1), (200, 3)])
def test_call_comes_exactly_at_multiples_and_sees_every_loss(batch, every, backend, small):
    """Also where they do not divide the steps of an epoch, and beside another callback with steps of its own."""
    calls, others = [], []
    model = classifier(backend=backend)
    fit(model, small, batch_size=40)  # 5 steps
    together = [
        Call(lambda fit: calls.append((fit.model.steps, fit.history.step_loss.copy())), every),
        Call(lambda fit: others.append(fit.model.steps), 10),
    ]
    history = fit(model, small, epochs=3, batch_size=batch, callbacks=together)
    last = 5 + 3 * -(-200 // batch)
    assert [step for step, _ in calls] == [step for step in range(6, last + 1) if step % every == 0]
    assert others == [step for step in range(6, last + 1) if step % 10 == 0]
    for step, losses in calls:
        np.testing.assert_array_equal(losses, history.step_loss[: step - 5])


def test_call_is_not_repeated_where_a_fit_diverges(small):
    steps = []

    def spoil(fit):
        steps.append(fit.model.steps)
        if fit.model.steps == 4:
            fit.model.params[:] = np.inf

    with pytest.raises(nbbp.DivergenceError) as caught:
        fit(classifier(), small, epochs=3, callbacks=[Call(spoil, every=2)])
    assert steps == [2, 4]
    assert (caught.value.epoch, caught.value.step) == (1, 5)
    assert len(caught.value.history.step_loss) == 5


def test_call_without_every_comes_after_each_epoch(small):
    seen = []
    call = Call(lambda fit: seen.append((len(fit.history), len(fit.history["val_loss"]), fit.model.steps)))
    fit(classifier(), small, epochs=3, validation_data=small, callbacks=[call])
    assert seen == [(1, 1, 7), (2, 2, 14), (3, 3, 21)]


def test_stop_within_an_epoch(small):
    model = classifier()
    history = fit(model, small, epochs=3, callbacks=[Call(lambda fit: fit.stop("enough"), every=10)])
    assert (model.steps, len(history.step_loss), len(history)) == (10, 10, 1)
    assert history.stopped == "enough"


def test_callbacks_do_not_change_the_bits(tmp_path, small):
    plain, watched = classifier(metrics=["accuracy"]), classifier(metrics=["accuracy"])
    watching = [
        EarlyStopping("loss", patience=100, restore_best=False), callbacks.TimeLimit(1000), LearningRateLog(),
        CSVLog(tmp_path / "log.csv"), callbacks.PlotCurve(tmp_path / "curve.svg"),
        Call(lambda fit: fit.model.predict(small[0]), every=5),
        Call(lambda fit: fit.model.evaluate(*small)),
    ]  # fmt: skip
    a = fit(plain, small, epochs=4)
    b = fit(watched, small, epochs=4, callbacks=watching, validation_data=small)
    assert now(plain) == now(watched)
    assert a.step_loss.tobytes() == b.step_loss.tobytes()
    assert a["loss"] == b["loss"]
    assert a["accuracy"] == b["accuracy"]
    assert fit(plain, small).step_loss.tobytes() == fit(watched, small).step_loss.tobytes()


def test_stopped_is_told_where_something_is_printed(small, capsys):
    fit(classifier(), small, epochs=3, verbose=2, callbacks=[callbacks.StopBelow(100)])
    assert capsys.readouterr().out.splitlines()[-1] == "stopped after epoch 1: loss is below 100"


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: EarlyStopping(patience=0), "patience must be 1 or more"),
        (lambda: ReduceOnPlateau(factor=1.0), "factor must be positive and below 1"),
        (lambda: callbacks.TimeLimit(0), "seconds must be positive"),
        (lambda: Call(print, every=0), "every must be 1 or more"),
    ],
)
def test_settings_that_make_no_sense_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_what_is_no_callback_is_refused(small):
    with pytest.raises(TypeError, match="callbacks must be"):
        fit(classifier(), small, callbacks=[print])


def test_the_average_of_the_best_epoch_is_put_back_with_it(small):
    averages = []
    model = classifier(averaging=nbbp.EMA(0.5))
    note = Call(lambda fit: averages.append(fit.model.update.mean.copy()))
    fit(model, small, epochs=4, callbacks=[Scripted([3, 1, 2, 2]), note, EarlyStopping("score", patience=2)])
    assert model.averaged().params.tobytes() == averages[1].tobytes()
