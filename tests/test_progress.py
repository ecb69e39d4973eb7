"""What a fit shows while it runs: a bar in terminals, few lines in log files."""

import os
import re
import subprocess
import sys

import numpy as np
import pytest

import nbbp
from nbbp.training import progress

FIT = """
import time, numpy as np, nbbp
X = np.eye(4)
model = nbbp.Sequential([nbbp.Dense(2)], backend="numpy")
wait = nbbp.callbacks.Call(lambda fit: time.sleep(0.12))
model.fit(X, X[:, :2], epochs=4, batch_size=2, callbacks=[wait])
"""


def test_a_short_fit_leaves_one_line_in_a_log_file():
    run = subprocess.run([sys.executable, "-c", FIT], capture_output=True, check=True)
    assert run.stdout == b""
    (line,) = run.stderr.decode().splitlines(keepends=True)
    assert re.fullmatch(r"epoch 4/4: 100%\|.*\| 8/8 \[00:0\d<00:00, .*step/s, loss=[\d.]+\]\n", line)


def test_a_long_fit_leaves_a_line_in_ten_seconds(monkeypatch, capsys):
    seconds = 0.0
    monkeypatch.setattr("tqdm.std.time", lambda: seconds)
    with progress.bar(total=350) as bar:
        for _ in range(350):
            seconds += 0.125
            bar.update()
    lines = capsys.readouterr().err.removesuffix("\n").split("\n")
    assert [re.search(r"\d+/350", line)[0] for line in lines] == [f"{n}/350" for n in (80, 160, 240, 320, 350)]
    assert not any("\r" in line for line in lines)


def test_a_terminal_has_a_bar():
    pty, termios = pytest.importorskip("pty"), pytest.importorskip("termios")
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (24, 80))
    with subprocess.Popen([sys.executable, "-c", FIT], stderr=theirs) as run:
        os.close(theirs)
        shown = b""
        while part := _read(ours):
            shown += part
    os.close(ours)
    assert run.returncode == 0
    assert shown.count(b"\r") >= 4
    epochs = [int(epoch) for epoch in re.findall(rb"epoch (\d)/4:", shown)]
    assert epochs == sorted(epochs)
    assert (epochs[0], epochs[-1]) == (1, 4)
    assert b"100%" in shown.splitlines()[-1]


def test_a_notebook_has_a_bar_and_no_warning():
    nbformat, nbclient = pytest.importorskip("nbformat"), pytest.importorskip("nbclient")
    pytest.importorskip("ipykernel")
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(FIT + "print('done')")])
    nbclient.NotebookClient(notebook, timeout=120, kernel_name="python3").execute()
    shown = {}
    for out in notebook.cells[0].outputs:
        name, text = (out.name, out.text) if "text" in out else ("stderr", out.data["text/plain"])  # ipywidgets' bar
        shown[name] = shown.get(name, "") + text
    assert shown["stdout"] == "done\n"
    assert "8/8" in shown["stderr"]
    assert "Warning" not in shown["stderr"]


def _read(terminal: int) -> bytes:
    try:
        return os.read(terminal, 4096)
    except OSError:  # Linux: nobody holds the other end any more
        return b""


def test_calls_that_are_compiled_leave_no_line(monkeypatch, capsys):
    assert list(progress.compiling([1, 2])) == [1, 2]
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(progress, "LINE_SECONDS", 0.0)
    assert list(progress.compiling([1, 2])) == [1, 2]
    assert capsys.readouterr().err.splitlines()[-1].startswith("compiling kernels, once: 100%")


def test_the_bar_of_compilation_ends_at_100_percent_when_the_last_kernels_are_cached(monkeypatch, capsys):
    """In a log file, and on a terminal, which shows no more than ten times a second what is not asked for."""
    seconds = 0.0
    monkeypatch.setattr("tqdm.std.time", lambda: seconds)
    for terminal in (False, True):
        monkeypatch.setattr(sys.stderr, "isatty", lambda terminal=terminal: terminal, raising=False)
        for kernel in progress.compiling(range(14)):
            seconds += 4.0 if kernel < 7 else 0.001
        shown = [line for line in re.split("[\r\n]", capsys.readouterr().err) if line.strip()]
        assert re.match(r"compiling kernels, once: +\d+%.* [1-7]/14 ", shown[0])
        assert re.match(r"compiling kernels, once: 100%.* 14/14 ", shown[-1])


def test_a_kernel_is_compiled_once_however_many_calls_there_are(monkeypatch):
    """A mini-batch of 128 rows in two lanes, and a rest of 64."""
    counted = []
    monkeypatch.setattr(progress, "compiling", lambda kernels: counted.append(kernels) or kernels)
    X = np.zeros((192, 4), np.float32)
    nbbp.Sequential([nbbp.Dense(8, "relu"), nbbp.Dense(2)]).fit(X, X[:, :2], batch_size=128)
    (kernels,) = counted
    compiled = [(function.py_func.__name__, signature) for function, signature in kernels]
    assert len(set(compiled)) == len(compiled) > 10


def test_no_standard_error_at_all(monkeypatch):
    monkeypatch.setattr(sys, "stderr", None)
    X = np.eye(2)
    assert len(nbbp.Sequential([nbbp.Dense(2)], backend="numpy").fit(X, X)) == 1


def test_a_line_for_each_epoch(capsys):
    X = np.eye(4)
    model = nbbp.Sequential([nbbp.Dense(4)], optimizer=nbbp.SGD(1e-5), backend="numpy")
    history = model.fit(X, X, epochs=2, validation_data=(X, X), verbose=2)
    shown = capsys.readouterr()
    assert shown.err == ""
    pattern = r"Epoch 2/2 - \d+\.\ds - loss: (\S+) - val_loss: (\S+)"
    seen = re.fullmatch(pattern, shown.out.splitlines()[1]).groups()
    assert seen == (f"{history['loss'][1]:.4g}", f"{history['val_loss'][1]:.4g}")
