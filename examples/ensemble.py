"""An ensemble's calibration: how often a network is right when it says that it is 90 % sure.

Trained to the end on few digits, a network is too sure of itself; the mean of ten, trained side by side from other
seeds, is nearer to the truth and more often right. Lakshminarayanan et al., "Simple and scalable predictive uncertainty
estimation using deep ensembles", 2017; reliability diagrams as in Guo et al., "On calibration of modern neural
networks", 2017.
"""

import pathlib

import numpy as np
from matplotlib.figure import Figure

import nbbp

PLOTS = pathlib.Path(__file__).parent.parent / "plots"
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


if __name__ == "__main__":
    one, many, y = train()
    figure = Figure(figsize=(5.5, 4.6), dpi=120, layout="constrained")
    axis = figure.subplots()
    axis.plot([0.2, 1], [0.2, 1], color="grey", linewidth=0.8, label="as sure as right")
    for name, probabilities, color in (
        ("one network", one, nbbp.plots.COLORS[1]),
        ("mean of ten", many, nbbp.plots.COLORS[0]),
    ):
        confidence, accuracy, gap = reliability(probabilities, y)
        right = np.mean(probabilities.argmax(axis=1) == y)
        text = f"{name}: {right:.1%} right, confidence off by {gap:.1%}"
        axis.plot(confidence, accuracy, marker="o", color=color, label=text)
        print(text)
    axis.set(xlabel="confidence", ylabel="share that is right")
    axis.grid(alpha=0.25)
    axis.legend(loc="upper left", fontsize=9)
    figure.savefig(PLOTS / "ensemble.png")
