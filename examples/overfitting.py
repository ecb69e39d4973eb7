"""512 relu units memorise 200 digits, a fifth of them with a random label; and what helps against it.

Nothing; dropout (Srivastava et al., 2014); weight decay (AdamW: Loshchilov and Hutter, 2019); and early stopping, which
restores the parameters of the epoch with the lowest validation loss (Prechelt, "Early stopping - but when?", 1998).
Validation and test labels are all right. Training losses of dropout are those of the thinned networks.
"""

import pathlib
import sys

import numpy as np
from matplotlib.figure import Figure

import nbbp

REMEDIES = ("nothing", "dropout", "weight decay", "early stopping")
STYLES = ("-", "--", "-.", "-")  # for readers who cannot tell red from green


def data(rows: int = 200, wrong: float = 0.2, seed: int = 0) -> tuple[tuple, tuple, tuple]:
    """(X, y) to train on, 300 rows for validation, and all others for the test."""
    X, y = nbbp.datasets.load_digits()
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(X))
    X, y = X[order], y[order]
    by_chance = rng.random(rows) < wrong
    y[:rows] = np.where(by_chance, rng.integers(0, 10, rows), y[:rows])
    end = rows + 300
    return (X[:rows], y[:rows]), (X[rows:end], y[rows:end]), (X[end:], y[end:])


def train(remedy: str, epochs: int = 100, verbose: int = 1) -> tuple[float, nbbp.History]:
    """The test accuracy, and the history."""
    (X, y), validation, test = data()
    dropout = [nbbp.Dropout(0.7)] if remedy == "dropout" else []
    hidden = [nbbp.Dense(256, activation="relu"), *dropout]
    model = nbbp.Sequential(
        [*hidden, *hidden, nbbp.Dense(10)],
        loss="softmax_cross_entropy",
        optimizer=nbbp.AdamW(0.001, weight_decay=4.0) if remedy == "weight decay" else nbbp.Adam(0.001),
        metrics=["accuracy"],
    )
    callbacks = [nbbp.callbacks.EarlyStopping(patience=10)] if remedy == "early stopping" else []
    history = model.fit(X, y, epochs, 32, validation_data=validation, verbose=verbose, callbacks=callbacks)
    return model.evaluate(*test)["accuracy"], history


def draw(results: dict[str, tuple[float, nbbp.History]], path) -> None:
    figure = Figure(figsize=(10.5, 4.2), dpi=120, layout="constrained")
    panels = figure.subplots(1, 2, sharex=True)
    for axis, name, title in zip(panels, ("loss", "val_loss"), ("training loss", "validation loss"), strict=True):
        for (remedy, (accuracy, history)), color, dashes in zip(
            results.items(), nbbp.plots.COLORS, STYLES, strict=False
        ):
            label = f"{remedy}: {accuracy:.1%}"
            axis.plot(np.arange(1, len(history) + 1), history[name], dashes, color=color, lw=1.8, label=label)
            if remedy == "early stopping":
                best = int(np.argmin(history["val_loss"]))
                axis.plot(best + 1, history[name][best], "o", color=color, markersize=9, label="its best parameters")
        axis.set(xlabel="epoch", title=title, xlim=(0, None), ylim=(0, None))
        axis.grid(alpha=0.25, linewidth=0.6)
        axis.spines[["top", "right"]].set_visible(False)
    panels[0].legend(frameon=False, title="accuracy on the test digits")
    figure.savefig(path)


if __name__ == "__main__":
    picture = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else "plots/overfitting.png")
    picture.parent.mkdir(parents=True, exist_ok=True)
    results = {remedy: train(remedy) for remedy in REMEDIES}
    for remedy, (accuracy, history) in results.items():
        best, last = min(history["val_loss"]), history["val_loss"][-1]
        print(f"{remedy}: validation loss {best:.3f} at best and {last:.3f} at last, test accuracy {accuracy:.4f}")
    draw(results, picture)
