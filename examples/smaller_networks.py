"""Smaller networks for the digits: pruned ones, and students of a large one.

Left, weights of small magnitude are set to 0 and the rest trained on, step by step (Han et al., "Learning both weights
and connections for efficient neural networks", 2015). Right, networks of a few hidden units learn from labels, or from
the probabilities of a large one (Hinton et al., "Distilling the knowledge in a neural network", 2015).
"""

import pathlib
import sys

import numpy as np
from matplotlib.figure import Figure

import nbbp

UNITS = (4, 5, 6, 8, 10, 12)
SHARES = (0.0, 0.5, 0.7, 0.8, 0.9, 0.95, 0.97)


def network(units: int, seed: int = 0) -> nbbp.Sequential:
    layers = [nbbp.Dense(units, "relu"), nbbp.Dense(10)]
    return nbbp.Sequential(layers, "softmax_cross_entropy", nbbp.Adam(0.003), ["accuracy"], seed)


def data():
    """(X, y), (X_test, y_test); few training digits, so that a teacher helps."""
    X, y = nbbp.datasets.load_digits()
    order = np.random.default_rng(0).permutation(len(X))
    X, y = X[order], y[order]
    return (X[:400], y[:400]), (X[400:], y[400:])


def pruned(teacher: nbbp.Sequential, shares=SHARES, epochs: int = 10) -> nbbp.PruningReport:
    return nbbp.pruning_report(teacher, *data(), shares=shares, epochs=epochs)


def distilled(teacher: nbbp.Sequential, units=UNITS, epochs: int = 100, seeds: int = 5):
    """Test accuracies (students, seeds) of networks that learn from labels, and of some that learn from the teacher."""
    train, test = data()
    alone, taught = np.zeros((len(units), seeds)), np.zeros((len(units), seeds))
    for i, n in enumerate(units):
        for seed in range(seeds):
            student, pupil = network(n, seed), network(n, seed)
            student.fit(*train, epochs=epochs, verbose=0)
            nbbp.distill(pupil, teacher, *train, epochs=epochs, verbose=0)
            alone[i, seed], taught[i, seed] = (m.evaluate(*test)["accuracy"] for m in (student, pupil))
    return alone, taught


def teach(epochs: int = 40) -> nbbp.Sequential:
    teacher = network(128)
    teacher.fit(*data()[0], epochs=epochs, verbose=0)
    return teacher


def draw(report: nbbp.PruningReport, alone: np.ndarray, taught: np.ndarray, units, path) -> None:
    figure = Figure(figsize=(10.5, 4.2), dpi=120, layout="constrained")
    left, right = figure.subplots(1, 2)
    blue, orange = nbbp.plots.COLORS[:2]
    left.plot(report.kept, [values["accuracy"] for values in report.values], marker="o", color=blue)
    left.set(xscale="log", xlabel="parameters that are not 0", ylabel="test accuracy", title="pruned and trained on")
    for accuracies, name, color, dashes in (
        (taught, "taught by 128 units", blue, "-"),
        (alone, "labels alone", orange, "--"),
    ):
        right.plot(units, accuracies.mean(axis=1), dashes, marker="o", color=color, label=name)
        right.fill_between(units, accuracies.min(axis=1), accuracies.max(axis=1), color=color, alpha=0.15, linewidth=0)
    right.set(xlabel="hidden units", ylabel="test accuracy", title="students: mean, worst and best of five seeds")
    right.xaxis.get_major_locator().set_params(integer=True)
    right.legend(loc="lower right", frameon=False)
    for axis in (left, right):
        axis.grid(alpha=0.25, linewidth=0.6)
        axis.spines[["top", "right"]].set_visible(False)
    figure.savefig(path)


if __name__ == "__main__":
    picture = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else "plots/smaller_networks.png")
    picture.parent.mkdir(parents=True, exist_ok=True)
    teacher = teach()
    report = pruned(teacher)
    print(report)
    draw(report, *distilled(teacher), UNITS, picture)
