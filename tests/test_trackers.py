"""Trackers write what the library of each reads back."""

import json
import struct
import sys

import numpy as np
import pytest

import nbbp
from nbbp import summary, trackers

X = np.random.default_rng(0).normal(size=(12, 3))
Y = np.arange(12) % 2
BLOCK = 1 << 15


class Scripted(nbbp.callbacks.Callback):
    """Notes values that were thought up, and raises what it is told at the end of the second epoch."""

    def __init__(self, values=(1.0, 2.0, 3.0), error=None) -> None:
        self.records = {"score": False}
        self.values, self.error = values, error

    def on_epoch_end(self, fit):
        fit.history.note(score=self.values[len(fit.history) - 1])
        if self.error and len(fit.history) == 2:
            raise self.error


def train(*callbacks, epochs: int = 3) -> nbbp.History:
    model = nbbp.Sequential(
        [nbbp.Dense(4, "relu", l2=1e-4), nbbp.Dense(2)], "softmax_cross_entropy",
        nbbp.AdamW(nbbp.schedules.Cosine(0.01, 100)), ["accuracy"], seed=7, backend="numpy",
    )  # fmt: skip
    data = {"validation_data": (X, Y), "batch_size": 6, "verbose": 0}
    return model.fit(X, Y, epochs=epochs, callbacks=list(callbacks), **data)


def lines(path) -> list[dict]:
    def refuse(name):
        raise AssertionError(f"{name} is not JSON")

    return [json.loads(line, parse_constant=refuse) for line in path.read_text(encoding="utf-8").splitlines()]


def test_jsonl_has_settings_and_every_epoch(tmp_path):
    path = tmp_path / "log.jsonl"
    seen = []
    look = nbbp.callbacks.Call(lambda fit: seen.append(len(lines(path))))
    history = train(Scripted((1.0, float("nan"), float("inf"))), trackers.JSONL(path), look)
    first, *epochs = lines(path)
    assert seen == [2, 3, 4]  # each line is there at once
    settings = first["settings"]
    assert settings["layers"] == ["Dense(units=4, activation='relu', l2=0.0001)", "Dense(units=2)"]
    assert settings["optimizer"]["name"] == "AdamW"
    assert settings["optimizer"]["learning_rate"] == "Cosine(initial=0.01, steps=100)"
    assert settings["optimizer"]["beta1"] == 0.9
    expected = {"batch_size": 6, "epochs": 3, "seed": 7, "dtype": "float32", "rows": 12, "parameters": 26}
    assert settings | expected == settings
    assert [line.pop("epoch") for line in epochs] == [1, 2, 3]
    assert [line.pop("score") for line in epochs] == [1.0, None, None]
    assert epochs == [{name: history[name][i] for name in history.epochs if name != "score"} for i in range(3)]


def test_settings_have_no_addresses():
    layer = nbbp.Dense(3, initializer=nbbp.initializers.constant(0.5))
    text = summary.brief(nbbp.Residual([layer, nbbp.Dropout(np.float64(0.25))]))
    assert text == "Residual(layers=[Dense(units=3, initializer=constant), Dropout(rate=0.25)])"
    assert summary.plain(np.float32(0.5)) == 0.5


def test_flat_settings():
    flat = summary.flat({"layers": ["a", "b"], "optimizer": {"name": "SGD"}, "seed": 0})
    assert flat == {"layers.0": "a", "layers.1": "b", "optimizer.name": "SGD", "seed": 0}


ERRORS = [None, ValueError("a callback failed"), KeyboardInterrupt()]


def train_until(error, tracker) -> nbbp.History | None:
    if error is None:
        return train(tracker)
    with pytest.raises(type(error)):
        train(tracker, Scripted(error=error))
    return None


@pytest.mark.parametrize("error", ERRORS)
def test_jsonl_is_closed_however_the_fit_ends(error, tmp_path):
    tracker = trackers.JSONL(tmp_path / "log.jsonl")
    train_until(error, tracker)
    assert tracker._file.closed


@pytest.mark.parametrize("error", ERRORS)
def test_the_end_is_told_how_the_fit_ended(error):
    class Ends(trackers.Tracker):
        def end(self, error):
            ends.append(error)

    ends = []
    train_until(error, Ends())
    try:
        raise RuntimeError("handled by the caller, while it fits")
    except RuntimeError:
        train_until(error, Ends())
    assert ends == [error, error]


@pytest.mark.parametrize("error", [None, ERRORS[1]])
def test_tensorboard_reads_its_event_files(error, tmp_path):
    pytest.importorskip("tensorboardX")
    accumulators = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    hparams = pytest.importorskip("tensorboard.plugins.hparams.metadata")
    history = train_until(error, trackers.TensorBoard(tmp_path / "run"))
    accumulator = accumulators.EventAccumulator(str(tmp_path / "run"))
    accumulator.Reload()
    if history is not None:
        assert set(accumulator.Tags()["scalars"]) == set(history.epochs)
        for name, values in history.epochs.items():
            events = accumulator.Scalars(name)
            assert [event.step for event in events] == [1, 2, 3]
            np.testing.assert_allclose([event.value for event in events], values, rtol=1e-6)
    else:
        assert len(accumulator.Scalars("loss")) == 2
    content = accumulator.PluginTagToContent("hparams")
    start = hparams.parse_session_start_info_plugin_data(content[hparams.SESSION_START_INFO_TAG])
    assert start.hparams["batch_size"].number_value == 6
    assert start.hparams["optimizer.name"].string_value == "AdamW"
    assert start.hparams["layers.1"].string_value == "Dense(units=2)"
    assert (hparams.SESSION_END_INFO_TAG in content) == (error is None)


def test_mlflow_reads_its_database(tmp_path):
    mlflow = pytest.importorskip("mlflow")
    pytest.importorskip("alembic")
    before = mlflow.get_tracking_uri()
    mlflow.set_tracking_uri(f"sqlite:///{tmp_path / 'mlflow.db'}")
    try:
        client = mlflow.MlflowClient()
        for error, status in zip(ERRORS, ("FINISHED", "FAILED", "KILLED"), strict=True):
            tracker = trackers.MLflow("digits", name="first")
            history = train_until(error, tracker)
            run = client.get_run(tracker.run_id)
            assert run.info.status == status
            assert run.info.run_name == "first"
            assert run.data.params["seed"] == "7"
            assert run.data.params["optimizer.learning_rate"] == "Cosine(initial=0.01, steps=100)"
            if history is not None:
                metrics = client.get_metric_history(tracker.run_id, "val_loss")
                assert [(metric.step, metric.value) for metric in metrics] == list(enumerate(history["val_loss"], 1))
                assert set(run.data.metrics) == set(history.epochs)
        assert len(client.search_runs([client.get_experiment_by_name("digits").experiment_id])) == 3
    finally:
        mlflow.set_tracking_uri(before)


@pytest.fixture
def wandb(monkeypatch, tmp_path):
    library = pytest.importorskip("wandb")
    for name, value in {"WANDB_MODE": "offline", "WANDB_SILENT": "true", "WANDB_DIR": str(tmp_path)}.items():
        monkeypatch.setenv(name, value)
    yield library
    library.teardown()  # it remembers its folder


def offline_records(wandb, folder) -> list:
    wandb.teardown()  # its process writes late
    (path,) = folder.glob("wandb/offline-run-*/*.wandb")
    return wandb_records(path)


def wandb_records(path) -> list:
    """Messages of a .wandb file, a log of LevelDB: blocks of 32 kB, in which records lie in one or more pieces."""
    from wandb.proto.wandb_internal_pb2 import Record

    content, position, message, records = path.read_bytes(), 7, b"", []
    while position + 7 <= len(content):
        if position % BLOCK > BLOCK - 7:
            position += BLOCK - position % BLOCK
            continue
        _, length, kind = struct.unpack("<IHB", content[position : position + 7])
        message += content[position + 7 : position + 7 + length]
        position += 7 + length
        if kind in (1, 4):  # whole, or the last piece
            records.append(Record.FromString(message))
            message = b""
    return records


def rows_of(records) -> list[dict]:
    items = [record.history.item for record in records if record.WhichOneof("record_type") == "history"]
    return [{item.key or item.nested_key[0]: json.loads(item.value_json) for item in row} for row in items]


@pytest.mark.parametrize(("error", "code"), list(zip(ERRORS, (0, 1, 1), strict=True)))
def test_wandb_keeps_a_run_on_the_disk(error, code, wandb, tmp_path):
    history = train_until(error, trackers.WandB("digits", name="first"))
    records = offline_records(wandb, tmp_path)
    (run,) = (record.run for record in records if record.WhichOneof("record_type") == "run")
    assert (run.project, run.display_name) == ("digits", "first")
    config = {update.key: json.loads(update.value_json) for record in records for update in record.config.update}
    assert config["batch_size"] == 6
    assert config["optimizer"]["name"] == "AdamW"
    rows = rows_of(records)
    assert [row["epoch"] for row in rows] == [1, 2, 3][: len(rows)]
    if history is not None:
        assert [[row[name] for row in rows] for name in history.epochs] == list(history.epochs.values())
    assert [record.exit.exit_code for record in records if record.WhichOneof("record_type") == "exit"] == [code]


def test_wandb_logs_into_an_open_run(wandb, tmp_path):
    run = wandb.init(project="mine")
    for _ in range(2):
        train(trackers.WandB(run=run), epochs=1)
    run.log({"after": 1})
    run.finish()
    rows = rows_of(offline_records(wandb, tmp_path))
    assert [row.get("epoch") for row in rows] == [1, 1, None]
    with pytest.raises(ValueError, match="either run, or project and name"):
        trackers.WandB("digits", run=run)


@pytest.mark.parametrize(
    ("make", "name"),
    [(lambda: trackers.TensorBoard("x"), "tensorboardX"), (trackers.MLflow, "mlflow"), (trackers.WandB, "wandb")],
)
def test_a_missing_library_is_named(make, name, monkeypatch):
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ImportError, match=rf'{name} is missing: pip install "nbbp\[tracking\]"'):
        make()


def test_optuna_prunes():
    optuna = pytest.importorskip("optuna")
    optuna.logging.set_verbosity(optuna.logging.WARNING)

    def objective(trial):
        values = [(1, 1, 1), (1, 2, 3), (3, 1, 1)][trial.number]
        return train(Scripted(values), trackers.OptunaPruning(trial, "score"))["score"][-1]

    study = optuna.create_study(pruner=optuna.pruners.ThresholdPruner(upper=1.5))
    study.optimize(objective, n_trials=3)
    assert [trial.state.name for trial in study.trials] == ["COMPLETE", "PRUNED", "PRUNED"]
    assert [trial.intermediate_values for trial in study.trials] == [{1: 1, 2: 1, 3: 1}, {1: 1, 2: 2}, {1: 3}]
    with pytest.raises(ValueError, match="unknown monitor"):
        train(trackers.OptunaPruning(study.ask(), "f1"))


def test_optuna_prunes_the_way_that_the_study_goes():
    optuna = pytest.importorskip("optuna")
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    studies = {way: optuna.create_study(direction=way) for way in ("minimize", "maximize")}
    train(trackers.OptunaPruning(studies["minimize"].ask()))
    train(trackers.OptunaPruning(studies["maximize"].ask(), "val_accuracy"))
    train(trackers.OptunaPruning(optuna.trial.FixedTrial({}), "val_accuracy"))
    with pytest.raises(ValueError, match=r"'val_accuracy' is better the higher.*create_study\(direction='maximize'\)"):
        train(trackers.OptunaPruning(studies["minimize"].ask(), "val_accuracy"))
