"""Find a learning rate, then ride it up and down in one cycle.

Left, the loss while the rate grows in one short run (Smith, "Cyclical learning rates for training neural networks",
2017). Right, the same network with the suggested rate kept, and with one cycle up to twice that rate and down again
(Smith and Topin, "Super-convergence", 2018).
"""

import pathlib

import numpy as np
from matplotlib.figure import Figure

import nbbp

PLOTS = pathlib.Path(__file__).parent.parent / "plots"
BATCH = 32


def network(rate) -> nbbp.Sequential:
    layers = [nbbp.Dense(64, "relu"), nbbp.Dense(64, "relu"), nbbp.Dense(10)]
    return nbbp.Sequential(layers, "softmax_cross_entropy", nbbp.SGD(rate, momentum=0.9), ["accuracy"])


def data():
    X, y = nbbp.datasets.load_digits()
    order = np.random.default_rng(0).permutation(len(X))
    X, y = X[order], y[order]
    return X[:1400], y[:1400], (X[1400:], y[1400:])


def train(epochs: int = 20, verbose: int = 1):
    """What the finder saw, and a history for each way to use it."""
    X, y, test = data()
    found = nbbp.find_learning_rate(network(0.01), X, y, batch_size=BATCH)
    steps = epochs * -(-len(X) // BATCH)
    rates = {
        f"kept at {found.suggestion:.3f}": found.suggestion,
        f"one cycle up to {2 * found.suggestion:.3f}": nbbp.schedules.OneCycle(2 * found.suggestion, steps),
    }
    return found, {
        name: network(rate).fit(X, y, epochs=epochs, batch_size=BATCH, validation_data=test, verbose=verbose)
        for name, rate in rates.items()
    }


if __name__ == "__main__":
    found, histories = train()
    figure = Figure(figsize=(9, 4.2), dpi=120, layout="constrained")
    left, right = figure.subplots(1, 2)
    left.plot(found.rates, found.losses, color=nbbp.plots.COLORS[0])
    left.axvline(
        found.suggestion, color=nbbp.plots.COLORS[1], linestyle="--", label=f"suggested: {found.suggestion:.3f}"
    )
    left.set(xscale="log", xlabel="learning rate", ylabel="loss", title="one short run")
    for (name, history), color in zip(histories.items(), (nbbp.plots.COLORS[1], nbbp.plots.COLORS[0]), strict=True):
        text = f"{name}: {history['val_accuracy'][-1]:.1%}"
        right.plot(range(1, len(history) + 1), history["val_loss"], color=color, label=text)
        print(text)
    right.set(yscale="log", xlabel="epoch", ylabel="validation loss", title="the rate kept, and one cycle")
    for axis in (left, right):
        axis.grid(alpha=0.25)
        axis.legend()
    figure.savefig(PLOTS / "learning_rate.png")
