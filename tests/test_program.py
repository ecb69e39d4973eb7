"""The command line, run as a user runs it, and the figures."""

import pathlib
import re
import subprocess
import sys

import numpy as np
import pytest
from matplotlib.figure import Figure

import nbbp

pytestmark = pytest.mark.slow


def run(*arguments: str, cwd) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-m", "nbbp", *arguments], cwd=cwd, capture_output=True, text=True, timeout=300
    )  # fmt: skip


def is_png(path: pathlib.Path) -> bool:
    return path.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"


def test_demo(tmp_path):
    done = run("demo", "--output", "curve.png", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    accuracy = next(line for line in done.stdout.splitlines() if line.startswith("test accuracy"))
    assert float(accuracy.split()[-1]) >= 0.97
    assert "times as fast" in done.stdout
    assert is_png(tmp_path / "curve.png")


def test_compare_command(tmp_path):
    done = run("compare", "--steps", "50", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "dense_1.b" in done.stdout
    assert is_png(tmp_path / "nbbp-compare.png")


def test_info(tmp_path):
    done = run("info", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert re.search(r"^threads +\d+ \(.+\)$", done.stdout, re.MULTILINE)
    for word in ("threading layer", "vector width", "compiled kernels", "numba", nbbp.__version__):
        assert word in done.stdout


def test_errors_are_one_line_and_an_exit_code(tmp_path):
    done = run("demo", "--output", "no/such/folder/curve.png", cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].startswith("nbbp demo: there is no folder ")
    assert "Traceback" not in done.stderr
    done = run("bench", "mnits", cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr.strip() == (
        "nbbp bench: unknown benchmark 'mnits'; choose from xor, online, toy, sci, mnist, tab, simplechains, wide, "
        "lenet-128, lenet-32, vgg, series, lecun-1989, lstm, gru, letters, nanogpt, ft, lstm-lengths, gru-lengths, "
        "lstm-step, training, prediction, convolution, sequences, ranks, sklearn, conditions, products, startup, plan, "
        "profile, tables"
    )


def test_bench_measures_both_backends(tmp_path):
    done = run("bench", "xor", "--peers", "nbbp", "numpy", "--rounds", "1", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    row = next(line for line in done.stdout.splitlines() if line.startswith("xor"))
    assert row.endswith("x)")


@pytest.mark.parametrize("module", ["nbbp", "nbbp.cli"])
def test_import_draws_in_nothing_that_is_slow(module):
    code = f"import sys, {module}; print([m for m in ('matplotlib', 'sklearn', 'torch', 'pandas') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_figures(tmp_path, digits):
    X, y = digits[0][:200], digits[1][:200]
    model = nbbp.Sequential([nbbp.Dense(10)], loss="softmax_cross_entropy", metrics=["accuracy"])
    history = model.fit(X, y, epochs=5, validation_data=(X, y), verbose=0)
    figure = history.plot(tmp_path / "one.png", log=True)
    assert isinstance(figure, Figure)
    assert is_png(tmp_path / "one.png")
    loss_axis, metric_axis = figure.axes
    assert loss_axis.get_yscale() == "log"
    labels = [text.get_text() for text in loss_axis.get_legend().get_texts()]
    assert labels == ["training", "validation"]
    drawn = {line.get_label(): line.get_ydata() for line in loss_axis.lines}
    np.testing.assert_allclose(drawn["validation"], history["val_loss"])
    np.testing.assert_allclose(metric_axis.lines[0].get_ydata(), history["accuracy"])
    several = nbbp.plots.loss_curves({"a": history, "b": history}, tmp_path / "two.svg")
    assert len(several.axes) == 1
    assert "<svg" in (tmp_path / "two.svg").read_text()
    result = nbbp.compare(model, X, y, steps=10)
    assert len(result.compiled) == len(result.reference) == 10
    assert len(result.plot(tmp_path / "compared.png").axes) == 2
    assert all(difference.relative < 1e-4 for difference in result.gradients.values())
    assert np.max(np.abs(result.compiled - result.reference)) < 1e-5


def test_smoothing_keeps_a_constant_and_averages_steps():
    from nbbp.plots import smoothed

    np.testing.assert_allclose(smoothed(np.full(9, 3.0), 4), 3.0)
    np.testing.assert_allclose(smoothed(np.arange(5.0), 3), [0.5, 1, 2, 3, 3.5])
