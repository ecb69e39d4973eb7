"""Find a learning rate, then use it in a one-cycle schedule.

Left, the loss while the rate grows in one short run (Smith, "Cyclical learning rates for training neural networks",
2017). Right, the same network with the suggested rate held constant, and with one cycle up to twice that rate and down
again (Smith and Topin, "Super-convergence", 2018).
"""

import pathlib
import sys

import numpy as np
from matplotlib.figure import Figure

import nbbp

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
    """The result of the finder, and a history for each way to use it."""
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


def draw(found, histories: dict[str, nbbp.History], path) -> None:
    figure = Figure(figsize=(10.5, 4.2), dpi=120, layout="constrained")
    left, right = figure.subplots(1, 2)
    suggested, cycle = nbbp.plots.COLORS[1], nbbp.plots.COLORS[0]
    left.plot(found.rates, found.losses, color="black", linewidth=1.6)
    left.axvline(found.suggestion, color=suggested, linestyle="--", label=f"suggested: {found.suggestion:.3f}")
    left.set(xscale="log", xlabel="learning rate", ylabel="training loss", title="one short run, the rate growing")
    for (name, history), color, dashes in zip(histories.items(), (suggested, cycle), ("--", "-"), strict=True):
        label = f"{name}: accuracy {history['val_accuracy'][-1]:.1%}"
        right.plot(range(1, len(history) + 1), history["val_loss"], dashes, color=color, linewidth=1.8, label=label)
    right.set(
        yscale="log", xlabel="epoch", ylabel="validation loss", title="the rate kept, and one cycle", xlim=(0, None)
    )
    right.xaxis.get_major_locator().set_params(integer=True)
    for axis in (left, right):
        axis.grid(alpha=0.25, linewidth=0.6)
        axis.spines[["top", "right"]].set_visible(False)
        axis.legend(frameon=False)
    figure.savefig(path)


if __name__ == "__main__":
    picture = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else "plots/learning_rate.png")
    picture.parent.mkdir(parents=True, exist_ok=True)
    found, histories = train()
    for name, history in histories.items():
        print(f"{name}: accuracy {history['val_accuracy'][-1]:.1%}")
    draw(found, histories, picture)
