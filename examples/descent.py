"""Gradient descent with the gradient of all rows, of mini-batches and of single rows: one network, the same digits.

Each trains until its loss is below 0.01. The gradient of a single row is the worst estimate but gives the most steps an
epoch: the fewest epochs. The gradient of all rows is exact, and every small step costs a pass over the data.
Mini-batches take more epochs than single rows but less time: a matrix product computes 32 rows in much less than
32 times the time of one. Each variant has its own learning rate, which grows with the batch: the mean over more rows is
a better estimate.
"""

import pathlib
import sys
import time

import numpy as np
from matplotlib.figure import Figure

import nbbp

BATCH_AND_RATE = {"full batch": (1797, 1.0), "mini-batches of 32": (32, 0.5), "online, row by row": (1, 0.05)}
STYLES = ("-", "--", "-.")  # for readers who cannot tell red from green


def train(name: str, until: float = 0.01, verbose: int = 1) -> tuple[nbbp.History, list[float]]:
    """The history, and the seconds until the end of each epoch."""
    X, y = nbbp.datasets.load_digits()
    batch_size, rate = BATCH_AND_RATE[name]
    seconds: list[float] = []
    model = nbbp.Sequential(
        [nbbp.Dense(128, activation="tanh"), nbbp.Dense(10)],
        loss="softmax_cross_entropy",
        optimizer=nbbp.SGD(rate),
    )
    watch = nbbp.callbacks.Call(lambda fit: seconds.append(time.perf_counter() - begin))
    callbacks = [watch, nbbp.callbacks.StopBelow(until)]
    begin = time.perf_counter()
    history = model.fit(X, y, epochs=5000, batch_size=batch_size, verbose=verbose, callbacks=callbacks)
    return history, seconds


def draw(results: dict[str, tuple[nbbp.History, list[float]]], path) -> None:
    figure = Figure(figsize=(10.5, 4.2), dpi=120, layout="constrained")
    by_epoch, by_second = figure.subplots(1, 2, sharey=True)
    for (name, (history, seconds)), color, dashes in zip(results.items(), nbbp.plots.COLORS, STYLES, strict=False):
        for axis, x, end in (
            (by_epoch, np.arange(1, len(history) + 1), f"{len(history):,}"),
            (by_second, np.array(seconds), f"{seconds[-1]:.2g} s"),
        ):
            axis.plot(x, history["loss"], dashes, color=color, linewidth=1.8, label=name)
            axis.plot(x[-1], history["loss"][-1], "o", color=color, clip_on=False)
            axis.annotate(end, (x[-1], history["loss"][-1]), (4, -15), textcoords="offset points", ha="right")
    by_epoch.set(xlabel="epochs: passes over the data", ylabel="training loss", ylim=(0.003, None))
    by_second.set(xlabel="seconds")
    for axis in (by_epoch, by_second):
        axis.set(xscale="log", yscale="log")
        axis.grid(alpha=0.25, linewidth=0.6)
        axis.spines[["top", "right"]].set_visible(False)
    by_epoch.legend(frameon=False)
    figure.savefig(path)


if __name__ == "__main__":
    picture = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else "plots/descent.png")
    picture.parent.mkdir(parents=True, exist_ok=True)
    for name in BATCH_AND_RATE:
        train(name, until=1.0, verbose=0)  # compiles
    runs = {name: [train(name, verbose=0) for _ in range(3)] for name in BATCH_AND_RATE}
    results = {name: min(three, key=lambda run: run[1][-1]) for name, three in runs.items()}  # the fastest of three
    for name, (history, seconds) in results.items():
        print(f"{name}: {len(history)} epochs, {len(history.step_loss)} steps, {seconds[-1]:.3f} s")
    draw(results, picture)
