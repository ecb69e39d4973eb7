"""Networks side by side: each learns what it would alone, whatever a fit is asked for."""

import itertools
import os
import signal
import threading
import time

import numpy as np
import pytest

import nbbp
from nbbp import callbacks as cb
from nbbp.training.measure import Measure


def make(seed: int = 0, units: int = 32, **settings) -> nbbp.Sequential:
    layers = [nbbp.Dense(units, activation="tanh"), nbbp.Dense(10)]
    return nbbp.Sequential(layers, "softmax_cross_entropy", nbbp.Adam(0.005), ["accuracy"], seed, **settings)


def assert_alike(member, history, alone, own) -> None:
    """Both have learned and measured the same."""
    assert member.params.tobytes() == alone.params.tobytes()
    assert history.step_loss.tobytes() == own.step_loss.tobytes()
    assert history.epochs == own.epochs
    assert (history.stopped, history.steps, member.steps, member.epochs) == (
        own.stopped, own.steps, alone.steps, alone.epochs,
    )  # fmt: skip


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
    ensemble, measure, counts = nbbp.Ensemble(2, make), Measure.__call__, itertools.count()

    def interrupted(model, *arguments, **named):
        if next(counts) == 3:  # the second member in the second epoch
            os.kill(os.getpid(), signal.SIGINT)
        return measure(model, *arguments, **named)

    monkeypatch.setattr(Measure, "__call__", interrupted)
    with pytest.raises(KeyboardInterrupt):
        ensemble.fit(X, y, epochs=3, validation_data=(X_test, y_test), verbose=0)
    for member, epochs in zip(ensemble.members, (2, 1), strict=True):
        assert {name: len(values) for name, values in member.history.epochs.items()} == {
            "loss": epochs, "accuracy": epochs, "val_loss": epochs, "val_accuracy": epochs,
        }  # fmt: skip
        assert member.history.steps == member.steps == 2 * member.history.steps_per_epoch


def test_the_bar_of_an_ensemble_has_its_epochs_and_ends_at_100_percent(digits, capsys):
    X, y = digits[0][:300], digits[1][:300]
    nbbp.Ensemble(2, make).fit(X, y, epochs=3, validation_data=(X, y))
    assert "epoch 3/3: 100%" in capsys.readouterr().err.splitlines()[-1]


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"shuffle": False},
        {"accumulate": 3},
        {"shards": 4},
        {"validation_data": True},
        {"class_weight": "balanced"},
        {"sample_weight": np.linspace(0, 2, 300), "class_weight": dict(enumerate(range(1, 11)))},
        {"callbacks": lambda member: [cb.EarlyStopping("loss", patience=1, min_delta=0.05 * (1 + member))]},
        {"callbacks": lambda member: [cb.ReduceOnPlateau("loss", patience=1, min_delta=1.0), cb.LearningRateLog()]},
        {"callbacks": lambda member: [cb.Call(lambda fit: nbbp.prune(fit.model, 0.1 * len(fit.history)))]},
        {"callbacks": lambda member: [cb.Call(lambda fit: fit.stop("enough"), every=3 + 4 * member)]},
    ],
    ids=lambda settings: "-".join(settings) or "plain",
)
@pytest.mark.parametrize("backend", ["numba", "numpy"])
def test_a_member_learns_what_it_would_alone(settings, backend, digits):
    X, y, X_test, y_test = digits
    X, y = X[:300], y[:300]
    settings = {"epochs": 4, "batch_size": 64, "verbose": 0} | settings
    if "validation_data" in settings:
        settings["validation_data"] = X_test, y_test, np.arange(len(y_test))
    ensemble = nbbp.Ensemble([make(seed, 8 + 8 * seed, backend=backend) for seed in range(3)])
    histories = ensemble.fit(X, y, **settings)
    histories2 = ensemble.fit(X, y, **settings)
    for k, member in enumerate(ensemble.members):
        alone = make(k, 8 + 8 * k, backend=backend)
        own = [
            alone.fit(X, y, **settings | {"callbacks": settings.get("callbacks", lambda member: [])(k)})
            for _ in range(2)
        ]
        assert_alike(member, histories2[k], alone, own[1])
        assert histories[k].epochs == own[0].epochs
        assert histories[k].stopped == own[0].stopped


def test_members_train_on_rows_of_their_own_as_if_there_were_no_others(digits):
    X, y, weights = digits[0][:300], digits[1][:300], np.linspace(0, 3, 300)
    rows = [np.arange(10, 200), np.random.default_rng(0).integers(0, 300, 250), np.arange(300) % 2 == 0]
    ensemble = nbbp.Ensemble(3, make)
    settings = {"epochs": 2, "class_weight": "balanced", "verbose": 0}
    histories = ensemble.fit(X, y, rows=rows, sample_weight=weights, **settings)
    for k, (member, own) in enumerate(zip(ensemble.members, rows, strict=True)):
        alone = make(k)
        history = alone.fit(X[own], y[own], sample_weight=weights[own], **settings)
        assert_alike(member, histories[k], alone, history)


@pytest.mark.parametrize("given", ["dealt", "pairs"])
def test_folds_hold_rows_out_and_predict_them(given, digits):
    X, y, weights = digits[0][:300], digits[1][:300], np.linspace(1, 2, 300)
    split, folds = pytest.importorskip("sklearn.model_selection"), True
    if given == "pairs":
        folds = split.StratifiedKFold(3, shuffle=True, random_state=0).split(X, y)
    ensemble = nbbp.Ensemble(3, make)
    histories = ensemble.fit(
        X, y, epochs=6, sample_weight=weights, folds=folds, verbose=0,
        callbacks=lambda member: [cb.EarlyStopping("val_loss", patience=2)],
    )  # fmt: skip
    expected = np.full((300, 10), np.nan, np.float32)
    for k, (train, test) in enumerate(ensemble.folds):
        assert np.array_equal(np.sort(np.concatenate([train, test])), np.arange(300))
        assert np.ptp(np.bincount(y[test], minlength=10) - np.bincount(y, minlength=10) / 3) < 2
        alone = make(k)
        history = alone.fit(
            X[train], y[train], epochs=6, sample_weight=weights[train], verbose=0,
            validation_data=(X[test], y[test], weights[test]), callbacks=[cb.EarlyStopping("val_loss", patience=2)],
        )  # fmt: skip
        assert_alike(ensemble.members[k], histories[k], alone, history)
        expected[test] = alone.predict(X[test])
    np.testing.assert_array_equal(ensemble.out_of_fold(X), expected)


def test_out_of_fold_predictions_of_rows_held_out_twice_and_never(digits):
    X, y = digits[0][:60], digits[1][:60]
    ensemble = nbbp.Ensemble(2, make)
    with pytest.raises(RuntimeError, match="there are no folds"):
        ensemble.out_of_fold(X)
    ensemble.fit(X, y, folds=[(range(20, 60), range(20)), (range(20, 50), range(10))], verbose=0)
    p, both = ensemble.out_of_fold(X), [member.predict(X) for member in ensemble.members]
    np.testing.assert_allclose(p[:10], (both[0] + both[1])[:10] / 2, rtol=1e-6)
    np.testing.assert_allclose(p[10:20], both[0][10:20], rtol=1e-6)
    assert np.isnan(p[20:]).all()
    with pytest.raises(ValueError, match="has a row 59; got 30 rows"):
        ensemble.out_of_fold(X[:30])


def graph(seed: int, backend: str = "numba") -> nbbp.Model:
    """Two inputs, one with time steps, and two outputs."""
    x, extra = nbbp.Input((4, 6), name="x"), nbbp.Input(5, name="extra")
    h = nbbp.Dense(8, "tanh")(x)
    outputs = {"steps": nbbp.Dense(3)(h), "value": nbbp.Dense(1)(nbbp.Dense(4, "relu")(extra))}
    loss = {"steps": "softmax_cross_entropy", "value": "mse"}
    return nbbp.Model({"x": x, "extra": extra}, outputs, loss, "adam", {"steps": ["accuracy"]}, seed=seed,
                      backend=backend)  # fmt: skip


def graph_data(rng, rows: int = 120) -> tuple:
    X = {"x": rng.standard_normal((rows, 4, 6)), "extra": rng.standard_normal((rows, 5))}
    y = {"steps": rng.integers(0, 3, (rows, 4)), "value": rng.standard_normal((rows, 1))}
    return X, y, {"x": rng.random((rows, 4)) < 0.7, "extra": None}


def test_members_with_several_inputs_and_outputs_and_masks(rng):
    X, y, mask = graph_data(rng)
    ensemble = nbbp.Ensemble(2, graph)
    settings = {"epochs": 3, "mask": mask, "verbose": 0}
    histories = ensemble.fit(X, y, validation_data=(X, y, None, mask), **settings)
    for k, member in enumerate(ensemble.members):
        alone = graph(k)
        own = alone.fit(X, y, validation_data=(X, y, None, mask), **settings)
        assert_alike(member, histories[k], alone, own)
        assert "val_steps_accuracy" in own
    each = [member.predict(X, mask) for member in ensemble.members]
    for name, mean in ensemble.predict(X, mask).items():
        np.testing.assert_array_equal(mean, np.mean([p[name] for p in each], axis=0))
        np.testing.assert_array_equal(ensemble.spread(X, mask)[name], np.std([p[name] for p in each], axis=0))
    assert ensemble.vote(X, mask)["steps"].shape == (120, 4)
    values, one = ensemble.evaluate(X, y, mask=mask), nbbp.Ensemble([ensemble.members[0]])
    assert values.keys() == {"loss", "steps_loss", "value_loss", "steps_accuracy"}
    for name, value in ensemble.members[0].evaluate(X, y, mask=mask).items():
        assert one.evaluate(X, y, mask=mask)[name] == pytest.approx(value, rel=1e-5)


def checkpoints(folder, **more):
    return {
        "callbacks": lambda member: [
            cb.EarlyStopping("loss", patience=50),
            *more.get("first", lambda member: [])(member),
            nbbp.Checkpoint(folder / str(member), every=5),
        ],
        "resume": lambda member: folder / str(member),
    }  # fmt: skip


@pytest.mark.parametrize("every", [7, 11, 18])
def test_an_ensemble_that_was_interrupted_is_resumed(every, digits, tmp_path):
    X, y = digits[0][:300], digits[1][:300]
    settings = {"epochs": 4, "batch_size": 50, "rows": [np.arange(300), np.arange(120)], "verbose": 0}
    whole = nbbp.Ensemble(2, make)
    expected = whole.fit(X, y, **settings, **checkpoints(tmp_path / "whole"))

    def interrupting(member):
        return [cb.Call(lambda fit: os.kill(os.getpid(), signal.SIGINT), every=every)] if member == 0 else []

    broken = nbbp.Ensemble(2, make)
    with pytest.raises(KeyboardInterrupt):
        broken.fit(X, y, **settings, **checkpoints(tmp_path, first=interrupting))
    for k, member in enumerate(broken.members):
        assert member.history.steps == len(member.history.step_loss) == member.steps > 0
        newest = max((tmp_path / str(k)).glob("step_*"))
        assert newest.name == f"step_{member.steps:09}.safetensors"
    resumed = nbbp.Ensemble(2, make)
    histories = resumed.fit(X, y, **settings, **checkpoints(tmp_path))
    for k in range(2):
        assert_alike(resumed.members[k], histories[k], whole.members[k], expected[k])


def test_a_member_that_diverges_or_stops_leaves_the_others_running(digits):
    X, y = digits[0][:300] * 100, np.eye(10)[digits[1][:300]]
    layers, ended = [nbbp.Dense(8), nbbp.Dense(10)], []

    class Noted(cb.Callback):
        def __init__(self, member):
            self.member = member

        def on_fit_end(self, fit):
            ended.append((self.member, len(fit.history), fit.history.stopped))

    members = [nbbp.Sequential(layers, "mse", nbbp.SGD(rate), seed=1) for rate in (1e-7, 10.0, 1e-7)]
    histories = nbbp.Ensemble(members).fit(
        X, y, epochs=3, batch_size=50, verbose=0,
        callbacks=lambda member: [Noted(member)] + [cb.StopBelow(np.inf)] * (member == 2),
    )  # fmt: skip
    assert [len(history) for history in histories] == [3, 0, 1]
    assert histories[1].stopped == "the loss is no longer finite"
    assert not np.isfinite(histories[1].step_loss[-1])
    assert ended == [(1, 0, "the loss is no longer finite"), (2, 1, "loss is below inf"), (0, 3, "")]


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"callbacks": [cb.TimeLimit(1)]}, "callbacks must be a function of the member's number"),
        ({"callbacks": lambda member: cb.TimeLimit(1)}, "callbacks must be a list"),
        ({"resume": "folder"}, "resume must be a function of the member's number"),
        ({"folds": True, "validation_data": (0, 0)}, "leave out rows, validation_data"),
        ({"folds": 2}, "folds must be True, or a pair"),
        ({"folds": [([0], [1])]}, "a pair for each of 2 members, got 1"),
        ({"folds": [([0], [1]), ([0], [12])]}, "rows of fold 1 must lie in 0 to 11, got 12"),
        ({"folds": [([0], [1]), [0]]}, "fold 1 must be a pair"),
        ({"verbose": 2}, "verbose must be 0 or 1"),
    ],
)
def test_what_a_fit_of_an_ensemble_refuses(settings, expected):
    X, y = np.zeros((12, 4)), np.arange(12) % 10
    with pytest.raises((TypeError, ValueError), match=expected):
        nbbp.Ensemble(2, lambda seed: make(seed, backend="numpy")).fit(X, y, **{"verbose": 0} | settings)


def test_an_ensemble_refuses_a_stream():
    stream = nbbp.streams.from_arrays(np.zeros((8, 4)), np.zeros(8, int))
    with pytest.raises(TypeError, match="one network reads at a time"):
        nbbp.Ensemble(2, make).fit(stream, None)


def test_a_model_is_not_built_anew_while_its_ensemble_trains(digits):
    ensemble = nbbp.Ensemble(2, make)
    with pytest.raises(RuntimeError, match="build gives the model other parameters"):
        ensemble.fit(*digits[:2], verbose=0, callbacks=lambda member: [cb.Call(lambda fit: fit.model.build(64))])
    ensemble.members[0].build(64)
