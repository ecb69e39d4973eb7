"""Half the bits for products: four networks on the digits learn as well with bfloat16 as in full precision.

A number of bfloat16 has the exponent of float32 and 8 of its 24 significant bits, so that gradients need no factor that
keeps them from becoming zero, as float16 needs it. Products round their operands and sum in float32; everything else
stays in float32 (Kalamkar et al., "A study of BFLOAT16 for deep learning training", 2019; Micikevicius et al.,
"Mixed precision training", 2018). A processor with AVX512_BF16 multiplies twice as fast, where products are large
enough: the networks here are small.
"""

import pathlib
import sys

import numpy as np
from matplotlib.figure import Figure

import nbbp

PRECISIONS = ("full", "bfloat16")


def networks() -> dict[str, list[nbbp.layers.Layer]]:
    """Of the digits' 64 pixels, or of 8 rows of 8."""
    images, rows = nbbp.Reshape((8, 8, 1)), nbbp.Reshape((8, 8))
    block = nbbp.TransformerBlock(4, hidden=64)
    return {
        "dense": [nbbp.Dense(128, "relu"), nbbp.Dense(128, "relu")],
        "convolutions": [images, nbbp.Conv2D(32, 3, activation="relu"), nbbp.Conv2D(32, 3, activation="relu")],
        "LSTM": [rows, nbbp.LSTM(64)],
        "transformer": [rows, nbbp.Dense(32), nbbp.PositionalEmbedding(), block],
    }


def train(name: str, precision: str, epochs: int = 20, verbose: int = 1) -> nbbp.History:
    """The history, with validation on every fifth digit."""
    X, y = nbbp.datasets.load_digits()
    held = np.arange(len(y)) % 5 == 0
    layers = [*networks()[name], nbbp.Flatten(), nbbp.Dense(10)]
    model = nbbp.Sequential(
        layers, "softmax_cross_entropy", nbbp.Adam(0.002), metrics=["accuracy"], precision=precision
    )  # fmt: skip
    return model.fit(X[~held], y[~held], epochs, 32, validation_data=(X[held], y[held]), verbose=verbose)


def draw(results: dict[str, dict[str, nbbp.History]], path) -> None:
    figure = Figure(figsize=(11, 3.4), dpi=120, layout="constrained")
    for axis, (name, histories) in zip(figure.subplots(1, len(results), sharey=True), results.items(), strict=True):
        for (precision, history), color, width in zip(histories.items(), nbbp.plots.COLORS, (3.5, 1.5), strict=False):
            epochs = np.arange(1, len(history) + 1)
            accuracy = f"{precision}: {history['val_accuracy'][-1]:.1%}"
            axis.plot(epochs, history["loss"], color=color, linewidth=width, label=accuracy)
            axis.plot(epochs, history["val_loss"], color=color, linewidth=width / 2, linestyle="--")
        axis.set(title=name, xlabel="epoch", yscale="log", ylim=(3e-5, 4))
        axis.grid(alpha=0.25, linewidth=0.6)
        axis.spines[["top", "right"]].set_visible(False)
        axis.legend(frameon=False, loc="lower left", title="validation accuracy", alignment="left")
    figure.axes[0].set_ylabel("loss in training, and dashed in validation")
    figure.savefig(path)


if __name__ == "__main__":
    picture = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else "plots/half_precision.png")
    picture.parent.mkdir(parents=True, exist_ok=True)
    results = {name: {precision: train(name, precision) for precision in PRECISIONS} for name in networks()}
    for name, histories in results.items():
        scores = ", ".join(f"{precision} {history['val_accuracy'][-1]:.3f}" for precision, history in histories.items())
        print(f"{name}: accuracy in validation {scores}")
    draw(results, picture)
