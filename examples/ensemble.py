"""An ensemble's calibration: how often a network is right when it says that it is 90 % sure.

Trained to convergence on few digits, a network is overconfident; the mean of ten, trained side by side from other
seeds, is better calibrated and more often right. Lakshminarayanan et al., "Simple and scalable predictive uncertainty
estimation using deep ensembles", 2017; reliability diagrams as in Guo et al., "On calibration of modern neural
networks", 2017.
"""

import pathlib
import sys

import numpy as np
from matplotlib.figure import Figure

import nbbp

BINS = np.linspace(0.2, 1, 9)


def network(seed: int) -> nbbp.Sequential:
    layers = [nbbp.Dense(64, "relu"), nbbp.Dense(64, "relu"), nbbp.Dense(10)]
    return nbbp.Sequential(layers, "softmax_cross_entropy", nbbp.Adam(0.003), ["accuracy"], seed)


def data():
    """150 digits to train on, the others to test; noise makes some of them hard."""
    X, y = nbbp.datasets.load_digits()
    rng = np.random.default_rng(0)
    order = rng.permutation(len(X))
    X, y = X[order] + rng.normal(0, 0.2, X.shape), y[order]
    return X[:150], y[:150], X[150:], y[150:]


def reliability(probabilities: np.ndarray, y: np.ndarray):
    """Mean confidence and accuracy of the predictions in each bin, and the mean gap over all predictions."""
    sure, right = probabilities.max(axis=1), probabilities.argmax(axis=1) == y
    bins = np.digitize(sure, BINS)
    filled = [b for b in range(len(BINS) + 1) if np.count_nonzero(bins == b) >= 10]
    confidence, accuracy = (np.array([values[bins == b].mean() for b in filled]) for values in (sure, right))
    shares = np.array([np.mean(bins == b) for b in filled])
    return confidence, accuracy, float(shares @ np.abs(confidence - accuracy))


def train(members: int = 10, epochs: int = 100, verbose: int = 1):
    """Test probabilities of one network and of the ensemble, and the test labels."""
    X, y, X_test, y_test = data()
    ensemble = nbbp.Ensemble(members, network)
    ensemble.fit(X, y, epochs=epochs, verbose=verbose)
    return ensemble.members[0].predict(X_test), ensemble.predict(X_test), y_test


def summary(probabilities: np.ndarray, y: np.ndarray) -> str:
    right = np.mean(probabilities.argmax(axis=1) == y)
    return f"{right:.1%} right, confidence off by {reliability(probabilities, y)[2]:.1%}"


def draw(one: np.ndarray, many: np.ndarray, y: np.ndarray, path) -> None:
    figure = Figure(figsize=(5.5, 4.6), dpi=120, layout="constrained")
    axis = figure.subplots()
    axis.plot([0.2, 1], [0.2, 1], color="grey", linewidth=0.8, label="as sure as right")
    blue, orange = nbbp.plots.COLORS[:2]
    for name, probabilities, color, dashes in (("one network", one, orange, "--"), ("mean of ten", many, blue, "-")):
        confidence, accuracy, _ = reliability(probabilities, y)
        axis.plot(confidence, accuracy, dashes, marker="o", color=color, label=f"{name}: {summary(probabilities, y)}")
    axis.set(xlabel="confidence", ylabel="share that is right", ylim=(0, 1.02))
    axis.grid(alpha=0.25, linewidth=0.6)
    axis.spines[["top", "right"]].set_visible(False)
    axis.legend(loc="lower right", fontsize=9, frameon=False)
    figure.savefig(path)


if __name__ == "__main__":
    picture = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else "plots/ensemble.png")
    picture.parent.mkdir(parents=True, exist_ok=True)
    one, many, y = train()
    print(f"one network: {summary(one, y)}\nmean of ten: {summary(many, y)}")
    draw(one, many, y, picture)
