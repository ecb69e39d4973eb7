"""Data larger than memory: a file is read ahead by a thread while the kernels run.

The rows are those of a synthetic table of 54 columns in 7 classes, written as .npy files. A 54-256-256-7 network
is trained on them from memory and from the files, two million numbers at a time; both see every row once an epoch.
"""

import pathlib
import sys
import tempfile
import time

import numpy as np

import nbbp
from nbbp.plots import COLORS
from nbbp.plots.figure import new_figure

FEATURES, CLASSES = 54, 7


def write(folder: pathlib.Path, rows: int) -> None:
    """X.npy and y.npy; the classes are those of a random network with two hidden layers, a tenth of them wrong."""
    rng = np.random.default_rng(0)
    X = np.lib.format.open_memmap(folder / "X.npy", "w+", np.float32, (rows, FEATURES))
    y = np.lib.format.open_memmap(folder / "y.npy", "w+", np.int64, (rows,))
    weights = [rng.normal(0, 1, shape) for shape in ((FEATURES, 20), (20, 20), (20, CLASSES))]
    for begin in range(0, rows, 10_000):
        part = X[begin : begin + 10_000]
        part[:] = rng.standard_normal(part.shape, np.float32)
        logits = np.tanh(np.tanh(part @ weights[0] / 5) @ weights[1]) @ weights[2]
        wrong = rng.random(len(part)) < 0.1
        y[begin : begin + 10_000] = np.where(wrong, rng.integers(0, CLASSES, len(part)), logits.argmax(axis=1))


def network() -> nbbp.Sequential:
    layers = [nbbp.Dense(256, "relu"), nbbp.Dense(256, "relu"), nbbp.Dense(CLASSES)]
    return nbbp.Sequential(layers, "softmax_cross_entropy", nbbp.Adam())


def train(rows: int = 500_000, epochs: int = 4, verbose: int = 1):
    """Losses and seconds of every epoch, from memory and from the files."""
    results = {}
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        write(folder, rows)
        X, y = (np.load(folder / f"{array}.npy", mmap_mode="r") for array in "Xy")
        stream = nbbp.streams.from_arrays(X, y, buffer_rows=2_000_000 // FEATURES)
        for kind, data in (("memory", (np.array(X), np.array(y))), ("files", (stream,))):
            times = [time.perf_counter()]
            noting = nbbp.callbacks.Call(lambda fit, times=times: times.append(time.perf_counter()))
            history = network().fit(*data, epochs=epochs, batch_size=256, callbacks=[noting], verbose=verbose)
            results[kind] = history, np.diff(times)
    return results


def draw(results, path: pathlib.Path) -> None:
    """The loss of both against the seconds that they took."""
    figure, (axis,) = new_figure()
    for (kind, (history, seconds)), color in zip(results.items(), COLORS, strict=False):
        axis.plot(np.cumsum(seconds), history["loss"], marker="o", color=color, label=f"from {kind}")
    axis.set(xlabel="seconds", ylabel="loss of an epoch")
    axis.legend()
    figure.savefig(path)


if __name__ == "__main__":
    picture = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else "plots/larger_than_memory.png")
    picture.parent.mkdir(parents=True, exist_ok=True)
    results = train()
    memory, files = (np.median(seconds) for _, seconds in results.values())
    print(f"an epoch takes {memory:.2f} s from memory and {files:.2f} s from files: {files / memory:.2f} times as long")
    draw(results, picture)
