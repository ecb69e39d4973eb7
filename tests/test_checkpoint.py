"""A fit that was ended, however that was, goes on from its checkpoint to the bytes of one that was not."""

import contextlib
import itertools
import os
import resource
import signal
import subprocess
import sys
import threading
import time
import warnings

import numpy as np
import pytest

import nbbp
from nbbp import callbacks as cb
from nbbp.storage import files
from nbbp.training.measure import Measure

EPOCHS, ROWS, BATCH = 6, 50, 8
STEPS = EPOCHS * 7


class Broken(Exception):
    pass


def at_step(number: int, action) -> cb.Callback:
    """Do it when the model has made so many steps."""
    return cb.Call(lambda fit: action() if fit.model.steps == number else None, every=1)


def fail() -> None:
    raise Broken


def build() -> nbbp.Sequential:
    layers = [
        nbbp.Dense(6, "tanh", l2=1e-3),
        nbbp.BatchNorm(),
        nbbp.Dropout(0.2),
        nbbp.GaussianNoise(0.1),
        nbbp.Dense(3),
    ]
    return nbbp.Sequential(
        layers, "softmax_cross_entropy", nbbp.Adam(0.05, gradient_noise=0.01, clip_norm=1.0), ["accuracy"],
        averaging=nbbp.EMA(0.9), seed=3,
    )  # fmt: skip


def data():
    X = np.random.default_rng(4).standard_normal((ROWS, 4))
    return X, (X[:, 0] > 0) + (X[:, 1] > 0)


def watching() -> list[cb.Callback]:
    return [
        cb.EarlyStopping("val_accuracy", patience=4),
        cb.ReduceOnPlateau("val_loss", patience=1, min_delta=0.05),
        cb.LearningRateLog(),
        nbbp.Inspect(every=5),
    ]


def fit(folder, *more: cb.Callback, every: int | None = 3, keep: int = 3, **settings):
    """A model with its history."""
    model = build()
    X, y = data()
    settings = {"epochs": EPOCHS, "batch_size": BATCH, "validation_data": (X[:20], y[:20]), "resume": folder} | settings
    with contextlib.suppress(Broken):
        model.fit(X, y, verbose=0, callbacks=[nbbp.Checkpoint(folder, every, keep), *watching(), *more], **settings)
    return model, model.history


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """What a fit gives that nobody ended."""
    return fit(tmp_path_factory.mktemp("whole"))


def assert_same(one, other) -> None:
    (model, history), (expected, expected_history) = one, other
    assert model.params.tobytes() == expected.params.tobytes()
    assert model.network.state.tobytes() == expected.network.state.tobytes()
    assert model.update.mean.tobytes() == expected.update.mean.tobytes()
    for mine, theirs in zip(model.update.moments, expected.update.moments, strict=True):
        assert mine.tobytes() == theirs.tobytes()
    assert (model.steps, model.epochs, model.optimizer) == (expected.steps, expected.epochs, expected.optimizer)
    assert list(history.epochs.items()) == list(expected_history.epochs.items())
    assert history.step_loss.tobytes() == expected_history.step_loss.tobytes()
    assert history.stopped == expected_history.stopped
    for kind, series in vars(expected_history.inspected).items():
        np.testing.assert_equal(getattr(history.inspected, kind), series)


@pytest.mark.parametrize("every", [None, 1, 3])
@pytest.mark.parametrize("step", [1, 7, 8, 20, 27, 28])
def test_a_fit_that_failed_goes_on(step, every, whole, tmp_path):
    fit(tmp_path, at_step(step, fail), every=every)
    model, history = fit(tmp_path, every=every)
    assert_same((model, history), whole)


def test_a_fit_that_is_ended_again_and_again_goes_on(whole, tmp_path):
    for step in range(2, STEPS, 5):
        fit(tmp_path, at_step(step, fail), every=100)
    assert_same(fit(tmp_path), whole)


def test_a_complete_fit_is_not_trained_again(whole, tmp_path):
    fit(tmp_path)
    newest = sorted(tmp_path.iterdir())[-1]
    before = newest.stat().st_mtime_ns
    assert_same(fit(tmp_path), whole)
    assert newest.stat().st_mtime_ns == before


def test_more_epochs_can_be_asked_for(tmp_path):
    longer = fit(tmp_path / "longer", epochs=EPOCHS + 3)
    fit(tmp_path / "shorter")
    assert_same(fit(tmp_path / "shorter", epochs=EPOCHS + 3), longer)


def test_accumulation_goes_on(tmp_path):
    whole = fit(tmp_path / "whole", accumulate=2)
    fit(tmp_path / "ended", at_step(9, fail), accumulate=2)
    assert_same(fit(tmp_path / "ended", accumulate=2), whole)


def test_a_fit_without_callbacks_takes_up_a_checkpoint(tmp_path):
    X, y = data()

    def model():
        return nbbp.Sequential([nbbp.Dense(3)], "softmax_cross_entropy", seed=1)

    expected = model()
    expected.fit(X, y, epochs=5, batch_size=BATCH, verbose=0)
    ended = model()
    with contextlib.suppress(Broken):
        ended.fit(X, y, 5, BATCH, verbose=0, callbacks=[at_step(10, fail), nbbp.Checkpoint(tmp_path)])
    resumed = model()
    history = resumed.fit(X, y, epochs=5, batch_size=BATCH, verbose=0, resume=tmp_path)
    assert resumed.params.tobytes() == expected.params.tobytes()
    assert len(history) == 5
    assert history.steps == expected.history.steps


def test_a_csv_log_has_all_epochs(tmp_path):
    log = cb.CSVLog(tmp_path / "log.csv")
    fit(tmp_path / "run", at_step(20, fail), log)
    _, history = fit(tmp_path / "run", log)
    history.to_csv(tmp_path / "history.csv")
    assert (tmp_path / "log.csv").read_text() == (tmp_path / "history.csv").read_text()


def test_the_newest_files_are_kept_and_leftovers_are_swept(tmp_path):
    leftover = tmp_path / f".step_000000001.safetensors.abc{files.PARTIAL}"
    leftover.write_bytes(b"0")
    fit(tmp_path)
    steps = sorted(tmp_path.iterdir())
    assert [path.name for path in steps] == [f"step_0000000{k}.safetensors" for k in (36, 39, 42)]
    assert nbbp.load(steps[-1]).steps == 42


@pytest.mark.parametrize("keep", [1, 3])
@pytest.mark.parametrize("begin", ["anew", "from a file"])
def test_a_run_loses_nothing_to_a_longer_one_of_before(begin, keep, whole, tmp_path):
    fit(tmp_path / "long", epochs=2 * EPOCHS)
    others = {path.name: path.read_bytes() for path in (tmp_path / "long").iterdir()}
    fit(tmp_path / "short", at_step(20, fail))
    resume = None if begin == "anew" else max((tmp_path / "short").iterdir())
    with pytest.warns(UserWarning, match=r"had checkpoints of more steps .* are in .*older_1 now, .*step_000000084"):
        fit(tmp_path / "long", at_step(30, fail), keep=keep, resume=resume)
    assert {path.name: path.read_bytes() for path in (tmp_path / "long" / "older_1").iterdir()} == others
    mine = sorted(path.name for path in (tmp_path / "long").glob("*.safetensors"))
    assert mine == [f"step_0000000{k}.safetensors" for k in (24, 27, 30)][-keep:]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert_same(fit(tmp_path / "long"), whole)
        assert len(fit(tmp_path / "long" / "older_1", epochs=2 * EPOCHS)[1]) == 2 * EPOCHS


def test_fits_of_one_model_share_a_folder_and_other_files_are_left_alone(tmp_path):
    (tmp_path / "step_best.safetensors").touch()
    model = nbbp.Sequential([nbbp.Dense(3)], "softmax_cross_entropy")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for _ in range(2):
            model.fit(*data(), 2, BATCH, verbose=0, callbacks=[nbbp.Checkpoint(tmp_path)])
    names = ["step_000000014", "step_000000021", "step_000000028", "step_best"]
    assert sorted(path.stem for path in tmp_path.iterdir()) == names


def test_a_damaged_checkpoint_is_passed_over(whole, tmp_path):
    fit(tmp_path, at_step(20, fail))
    newest = sorted(tmp_path.iterdir())[-1]
    newest.write_bytes(newest.read_bytes()[:-1])
    with (
        pytest.warns(UserWarning, match="damaged.*an older checkpoint is taken"),
        pytest.warns(UserWarning, match=f"older_1 now, and resume=.* the newest, {newest.name}"),
    ):
        resumed = fit(tmp_path)
    assert_same(resumed, whole)
    for path in tmp_path.glob("*.safetensors"):
        path.write_bytes(b"0")
    with pytest.raises(nbbp.ModelFileError, match="no checkpoint that can be read"), pytest.warns(match="is taken"):
        fit(tmp_path)


def test_what_has_to_be_the_same_is_checked(tmp_path):
    fit(tmp_path, at_step(20, fail))
    with pytest.raises(ValueError, match="batch_size was 8, and is 9"):
        fit(tmp_path, batch_size=9)
    with pytest.raises(ValueError, match="shuffle was True"):
        fit(tmp_path, shuffle=False)
    with pytest.raises(ValueError, match=r"callbacks was .*, and is \['EarlyStopping'"):
        fit(tmp_path, cb.EarlyStopping())
    X, y = data()
    other = nbbp.Sequential([nbbp.Dense(4, "tanh"), nbbp.Dense(3)], "softmax_cross_entropy")
    with pytest.raises(ValueError, match="cannot be resumed here: layers was"):
        other.fit(X, y, resume=tmp_path)
    with pytest.raises(FileNotFoundError, match="there is no checkpoint"):
        fit(tmp_path, resume=tmp_path / "step_1.safetensors")
    other.save(tmp_path / "model.safetensors")
    with pytest.raises(nbbp.ModelFileError, match="a model without its fit"):
        fit(tmp_path, resume=tmp_path / "model.safetensors")


def other_rate(model, X, y, held_out, weights):
    model.learning_rate = 0.01


def other_y(model, X, y, held_out, weights):
    y[7] = not y[7]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (other_rate, "learning_rate was 0.05, and is 0.01"),
        (other_y, "y was SHA-256 [0-9a-f]{16}, and is SHA-256 [0-9a-f]{16}"),
        (lambda model, X, y, held_out, weights: X.fill(0), "X was SHA-256 .*, and is SHA-256"),
        (lambda model, X, y, held_out, weights: weights.fill(1), "weights was SHA-256 .*, and is SHA-256"),
        (lambda model, X, y, held_out, weights: held_out[0].fill(0), "validation X was SHA-256 .*, and is SHA-256"),
    ],
)
def test_another_rate_and_other_data_are_told_and_may_be_allowed(change, message, tmp_path):
    def fit(folder, change=None, epochs=EPOCHS, **settings):
        model, (X, y) = build(), data()
        held_out, weights = (X[:20].copy(), y[:20].copy()), np.linspace(1, 2, ROWS)
        if change:
            change(model, X, y, held_out, weights)
        model.build(4)
        before = model.params.copy()
        try:
            callbacks = [cb.ReduceOnPlateau("val_loss", patience=1, min_delta=9), nbbp.Checkpoint(folder)]
            settings |= {"sample_weight": weights, "callbacks": callbacks, "resume": folder}
            model.fit(X, y, epochs, BATCH, held_out, verbose=0, **settings)
        except ValueError:
            assert model.params.tobytes() == before.tobytes()
            assert model.steps == 0
            raise
        return model

    fit(tmp_path, epochs=3)
    with pytest.raises(ValueError, match=rf"cannot be resumed here: {message}.*\. If .* allow_changes=True goes on"):
        fit(tmp_path, change)
    changed = fit(tmp_path, change, epochs=4, allow_changes=True)
    if change is other_rate:
        assert changed.learning_rate == 0.01 / 2
        assert fit(tmp_path, change).steps == STEPS
    else:
        assert changed.learning_rate == 0.05 / 2**3


@pytest.mark.parametrize("rate", [0.02, nbbp.schedules.Step(0.1, every=10)])
def test_what_is_given_now_trains_on(rate, tmp_path):
    """As in a fit by hand that begins with the parameters of the checkpoint."""
    X, y = data()

    def model(rate):
        return nbbp.Sequential([nbbp.Dense(3)], "softmax_cross_entropy", nbbp.SGD(rate), seed=1)

    begun = model(0.1)
    begun.fit(X, y, 2, BATCH, verbose=0, callbacks=[nbbp.Checkpoint(tmp_path)])
    begun.learning_rate = rate
    begun.fit(X[::-1], y[::-1], 2, BATCH, verbose=0)
    resumed = model(rate)
    with pytest.raises(ValueError, match=r"learning_rate was 0.1, and is (0.02|Step\(initial=0.1, every=10\))\. If"):
        resumed.fit(X, y, 4, BATCH, verbose=0, resume=tmp_path)
    resumed.fit(X[::-1], y[::-1], 4, BATCH, verbose=0, resume=tmp_path, allow_changes=True)
    assert resumed.params.tobytes() == begun.params.tobytes()


def test_the_model_that_was_trained_goes_on_with_the_rate_that_callbacks_left(tmp_path):
    X, y = data()
    model = nbbp.Sequential([nbbp.Dense(3)], "softmax_cross_entropy", nbbp.SGD(0.4), seed=1)
    callbacks = [cb.ReduceOnPlateau("loss", patience=1, min_delta=9), nbbp.Checkpoint(tmp_path)]
    for epochs in (2, 4):
        model.fit(X, y, epochs, BATCH, verbose=0, callbacks=callbacks, resume=tmp_path)
    assert model.learning_rate == 0.05
    again = nbbp.Sequential([nbbp.Dense(3)], "softmax_cross_entropy", nbbp.SGD(0.4), seed=1)
    again.fit(X, y, 5, BATCH, verbose=0, callbacks=callbacks, resume=tmp_path)
    assert again.learning_rate == 0.025


def test_checkpoints_that_do_not_know_rate_and_data_are_resumed(whole, tmp_path):
    fit(tmp_path, at_step(20, fail))
    for path in tmp_path.iterdir():
        arrays, description = files.read(path)
        del description["fit"]["given"]
        kept = {name: a for name, a in arrays.items() if not name.endswith("/pruned")}
        files.write(path, kept, description)
    assert_same(fit(tmp_path), whole)


def test_a_stream_is_told_from_others_by_its_first_chunk(tmp_path):
    X, y = np.random.default_rng(0).standard_normal((2000, 100)), np.arange(2000) % 3

    def fit(stream, epochs):
        model = nbbp.Sequential([nbbp.Dense(3)], "softmax_cross_entropy", seed=1)
        model.fit(stream, epochs=epochs, verbose=0, callbacks=[nbbp.Checkpoint(tmp_path)], resume=tmp_path)

    fit(nbbp.streams.from_arrays(X, y, buffer_rows=1000), 1)
    with pytest.raises(ValueError, match=r"here: X of the first chunk was SHA-256 \w+, and is SHA-256 \w+\. If"):
        fit(nbbp.streams.from_arrays(-X, y, buffer_rows=1000), 2)
    with pytest.raises(ValueError, match="buffer_rows was 1000, and is 500"):
        fit(nbbp.streams.from_arrays(X, y, buffer_rows=500), 2)
    fit(nbbp.streams.from_arrays(X, y, buffer_rows=1000), 2)


@pytest.mark.parametrize("failing", ["fsync", "replace"])
def test_an_error_while_writing_leaves_the_old_checkpoint(failing, whole, tmp_path, monkeypatch):
    fit(tmp_path, at_step(20, fail))
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}

    def full(*_):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, failing, full)
        with pytest.raises(OSError, match=r"No space left .*; files .* before are intact: .*step_00") as caught:
            fit(tmp_path)
    assert caught.value.errno == 28
    assert caught.value.filename == str(tmp_path / "step_000000021.safetensors")
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
    assert_same(fit(tmp_path), whole)


def test_a_file_that_may_not_grow_leaves_the_old_checkpoint(whole, tmp_path):
    fit(tmp_path, at_step(20, fail))
    before = {path.name for path in tmp_path.iterdir()}
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
    try:
        with pytest.raises(OSError, match=r"File too large; files .* intact: .*step_000000021.safetensors'"):
            fit(tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert {path.name for path in tmp_path.iterdir()} == before
    assert_same(fit(tmp_path), whole)


def test_a_folder_that_cannot_be_written_is_an_error_before_training(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match="file"):
        fit(tmp_path / "file" / "run", resume=None)


KILLED = """
import os, pathlib, random, signal, sys, time
import test_checkpoint as t
folder, kind, number = pathlib.Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])

def kill(*_):
    os.kill(os.getpid(), signal.SIGKILL)

def killing(function, call):
    calls = iter(range(10**9))
    return lambda *arguments: kill() if next(calls) == call else function(*arguments)

rng = random.Random(number)
for attempt in range(1000):
    child = os.fork()
    if not child:
        if kind == "time":  # most of a fit goes into writing
            signal.setitimer(signal.ITIMER_REAL, rng.uniform(0.001, 0.2 * 1.3**attempt))
            signal.signal(signal.SIGALRM, kill)
        else:
            setattr(os, kind, killing(getattr(os, kind), rng.randrange(20)))
        model, history = t.fit(folder, every=2)
        (folder / "done").write_bytes(model.params.tobytes() + history.step_loss.tobytes())
        os._exit(0)
    _, status = os.waitpid(child, 0)
    if os.WIFEXITED(status):
        print(attempt)
        sys.exit(os.WEXITSTATUS(status))
"""


def killed(folder, kind: str, number: int) -> int:
    """Fits in processes of their own, killed and begun again until one is through; how many were killed."""
    run = subprocess.run([sys.executable, "-c", KILLED, str(folder), kind, str(number)], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    return int(run.stdout)


@pytest.mark.slow
@pytest.mark.parametrize("runs", [1, pytest.param(12, marks=pytest.mark.soak)])
@pytest.mark.parametrize("kind", ["time", "fsync", "replace", "unlink"])
def test_killed_fits_go_on(kind, runs, whole, tmp_path):
    model, history = whole
    count = 0
    for k in range(runs):
        folder = tmp_path / str(k)
        folder.mkdir()
        count += killed(folder, kind, k)
        assert (folder / "done").read_bytes() == model.params.tobytes() + history.step_loss.tobytes()
    assert count
    print(f"{count} processes killed, {runs} fits complete")


@pytest.mark.parametrize(("number", "expected"), [(signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, SystemExit)])
def test_a_signal_ends_a_long_epoch(number, expected, tmp_path):
    X, y = data()
    model, times = build(), []

    def send():
        times.append(time.monotonic())
        os.kill(os.getpid(), number)

    timer = threading.Timer(0.1, send)
    with pytest.raises(expected):
        model.fit(
            np.tile(X, (40_000, 1)), np.tile(y, 40_000), epochs=2, batch_size=2, verbose=0,
            callbacks=[nbbp.Checkpoint(tmp_path), at_step(10, timer.start)],
        )  # fmt: skip
    waited = time.monotonic() - times[0]
    print(f"{waited:.3f} s from the signal to the end")
    assert waited < 5
    assert len(model.history) == 0
    assert 10 < model.history.steps == model.steps
    (path,) = tmp_path.iterdir()
    assert nbbp.load(path).params.tobytes() == model.params.tobytes()
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    model.fit(X, y, batch_size=2, verbose=0)


def interrupt() -> None:
    os.kill(os.getpid(), signal.SIGINT)


def test_a_signal_at_the_end_of_an_epoch_waits_for_the_callbacks(whole, tmp_path):
    ends = cb.Call(lambda running: interrupt() if len(running.history) == 2 else None)
    with pytest.raises(KeyboardInterrupt):
        fit(tmp_path, ends, every=100)
    resumed = fit(tmp_path, every=100)
    assert_same(resumed, whole)


def test_a_signal_in_the_validation_ends_it(whole, tmp_path, monkeypatch):
    measure, counts = Measure.__call__, itertools.count()

    def interrupted(self, *arguments, **named):
        if next(counts) == 3:
            interrupt()
        return measure(self, *arguments, **named)

    with monkeypatch.context() as patch:
        patch.setattr(Measure, "__call__", interrupted)
        with pytest.raises(KeyboardInterrupt):
            fit(tmp_path, every=100)
    assert [path.name for path in tmp_path.iterdir()] == ["step_000000028.safetensors"]
    assert_same(fit(tmp_path, every=100), whole)


def test_a_second_signal_does_not_wait(tmp_path):
    def stubborn():
        interrupt()
        interrupt()
        pytest.fail("it waited")

    with pytest.raises(KeyboardInterrupt):
        fit(tmp_path, at_step(20, stubborn), every=3)
    assert max(path.name for path in tmp_path.iterdir()) == "step_000000018.safetensors"


def test_a_time_limit_is_not_the_end(whole, tmp_path):
    late = cb.TimeLimit(1e-9)
    _, history = fit(tmp_path, late)
    assert "s are over" in history.stopped
    assert_same(fit(tmp_path), whole)


def test_signals_are_left_alone_in_other_threads(tmp_path):
    results = []
    thread = threading.Thread(target=lambda: results.append(fit(tmp_path)[1]))
    thread.start()
    thread.join()
    assert len(results[0]) == EPOCHS


NOTEBOOK = """
import numpy as np, nbbp
X = np.random.default_rng(0).standard_normal((200_000, 4))
model = nbbp.Sequential([nbbp.Dense(1)])
ready = lambda fit: print("ready", flush=True) if fit.model.steps == 1_000 else None
training = nbbp.callbacks.Call(ready, every=1_000)
model.fit(X, X[:, 0], epochs=1_000, batch_size=4, verbose=0, callbacks=[training])
"""


def test_the_stop_button_of_a_notebook_ends_a_fit():
    manager = pytest.importorskip("jupyter_client.manager")
    pytest.importorskip("ipykernel")
    kernel, client = manager.start_new_kernel(kernel_name="python3")
    stopped: list[float] = []

    def output(message):
        if message["msg_type"] == "stream" and "ready" in message["content"]["text"]:
            threading.Timer(0.5, lambda: (stopped.append(time.monotonic()), kernel.interrupt_kernel())).start()

    try:
        reply = client.execute_interactive(NOTEBOOK, output_hook=output, timeout=120)
        print(f"{time.monotonic() - stopped[0]:.3f} s from the button to the end")
        assert reply["content"]["ename"] == "KeyboardInterrupt"
        after = client.execute_interactive(
            "assert model.history.steps == model.steps > 0; model.predict(X)", timeout=60
        )
        assert after["content"]["status"] == "ok"
    finally:
        client.stop_channels()
        kernel.shutdown_kernel(now=True)


@pytest.mark.parametrize("step", [8, 12, 17])
def test_a_rate_that_changes_within_an_epoch_goes_on(step, tmp_path):
    def fit(*more, **settings):
        def fall(fit):
            fit.model.learning_rate *= 0.7

        model = build()
        callbacks = [cb.Call(fall, every=5), *more]
        model.fit(*data(), EPOCHS, BATCH, verbose=0, callbacks=callbacks, **settings)
        return model

    with pytest.raises(Broken):
        fit(at_step(step, fail), nbbp.Checkpoint(tmp_path, every=1))
    assert fit(resume=tmp_path).params.tobytes() == fit().params.tobytes()


class Losses(cb.Callback):
    """Remembers nothing at first."""

    def on_fit_begin(self, fit):
        self.seen: list[float] = []

    def state(self):
        return {f"loss_{k}": loss for k, loss in enumerate(self.seen)}

    def restore(self, fit, state):
        self.seen = [float(state[f"loss_{k}"]) for k in range(len(state))]

    def on_epoch_end(self, fit):
        self.seen.append(fit.history["loss"][-1])


@pytest.mark.parametrize("step", [3, 20])
def test_a_callback_that_remembers_nothing_at_first_is_resumed(step, tmp_path):
    for action in (fail, lambda: None):
        losses, model = Losses(), build()
        with contextlib.suppress(Broken):
            callbacks = [losses, at_step(step, action), nbbp.Checkpoint(tmp_path)]
            model.fit(*data(), EPOCHS, BATCH, verbose=0, callbacks=callbacks, resume=tmp_path)
    assert losses.seen == model.history["loss"]


def test_sigterm_at_the_end_of_a_fit_that_fails_is_not_lost():
    class Slow(cb.Callback):
        def on_fit_end(self, fit):
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(SystemExit):
        build().fit(*data(), EPOCHS, BATCH, verbose=0, callbacks=[Slow(), at_step(3, fail)])
