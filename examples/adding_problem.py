"""The adding problem: two numbers of a long sequence are marked, what is their sum?

Hochreiter and Schmidhuber, "Long short-term memory", 1997, experiment 4, in the form of Le, Jaitly and Hinton, "A
simple way to initialize recurrent networks of rectified linear units", 2015: each step has a number from 0 to 1 and a
mark; one step of each half is marked. The answer is asked for after the last step, so that a network has to keep a
number for hundreds of steps, with nothing in them that matters. Who always answers 1 has a mean squared error of 1/6.

A recurrent network without gates, a GRU and an LSTM of 32 units each train on the same 10,000 sequences, until the
error on 1,000 others is below 0.003 or after 25 epochs.
"""

import pathlib
import sys

import numpy as np
from matplotlib.figure import Figure

import nbbp

LENGTHS = (50, 100, 200, 400)
LAYERS = {"SimpleRNN": nbbp.SimpleRNN, "GRU": nbbp.GRU, "LSTM": nbbp.LSTM}
SOLVED = 0.003


def data(rows: int, steps: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Numbers and marks (rows, steps, 2), and sums (rows, 1)."""
    rng = np.random.default_rng(seed)
    X = np.zeros((rows, steps, 2), np.float32)
    X[:, :, 0] = rng.random((rows, steps))
    for begin, end in ((0, steps // 2), (steps // 2, steps)):
        X[np.arange(rows), rng.integers(begin, end, rows), 1] = 1
    return X, (X[:, :, 0] * X[:, :, 1]).sum(axis=1, keepdims=True)


def train(name: str, steps: int, rows: int = 10_000, epochs: int = 25, verbose: int = 1) -> np.ndarray:
    """The mean squared error on other sequences after each epoch."""
    model = nbbp.Sequential(
        [LAYERS[name](32), nbbp.Dense(1)], loss="mse", optimizer=nbbp.Adam(0.005, clip_norm=1.0), seed=0
    )
    history = model.fit(
        *data(rows, steps, seed=0), epochs, batch_size=50, validation_data=data(1000, steps, seed=1),
        callbacks=[nbbp.callbacks.StopBelow(SOLVED, "val_loss")], verbose=verbose,
    )  # fmt: skip
    return np.array(history["val_loss"])


def draw(results: dict[tuple[str, int], np.ndarray], path) -> None:
    figure = Figure(figsize=(11.5, 3.9), dpi=120, layout="constrained")
    names = list(dict.fromkeys(name for name, _ in results))
    axes = figure.subplots(1, len(names), sharex=True, sharey=True, squeeze=False)[0]
    for axis, name in zip(axes, names, strict=True):
        lengths = [steps for other, steps in results if other == name]
        for steps, color in zip(lengths, nbbp.plots.COLORS, strict=False):
            errors = results[name, steps]
            axis.plot(np.arange(1, len(errors) + 1), errors, "o-", color=color, markersize=4, label=f"{steps} steps")
        axis.axhline(1 / 6, color="gray", linestyle=":", label="always 1")
        axis.set(xlabel="epoch of 10,000 sequences", title=name, yscale="log")
        axis.grid(alpha=0.25, linewidth=0.6)
        axis.spines[["top", "right"]].set_visible(False)
    axes[0].set_ylabel("mean squared error on others")
    axes[0].legend(frameon=False, loc="lower left")
    figure.savefig(path)


if __name__ == "__main__":
    picture = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else "plots/adding_problem.png")
    picture.parent.mkdir(parents=True, exist_ok=True)
    results = {}
    for name in LAYERS:
        for steps in LENGTHS:
            errors = results[name, steps] = train(name, steps, verbose=0)
            print(f"{name}, {steps} steps: error {errors[-1]:.5f} after {len(errors)} epochs", flush=True)
    draw(results, picture)
