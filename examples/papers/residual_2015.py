"""Deep convolutional networks for the digits, with and without skip connections.

He et al., "Deep residual learning for image recognition", 2016, show that a deeper plain network can have a larger
training loss than a shallow one, batch normalization or not, and that a skip connection around every two convolutions
mends this. Here the same appears in small: images of 8 x 8, 16 and then 32 filters of 3 x 3, and twice as many
convolutions again and again.
"""

import pathlib
import sys

import numpy as np
from matplotlib.figure import Figure

import nbbp

BLOCKS = (2, 8)  # of two convolutions each, at either size of the image
KINDS = ("plain", "residual")


def layers(kind: str, blocks: int) -> list[nbbp.Layer]:
    """A network of 4 blocks + 3 layers with weights."""
    relu = nbbp.Activation("relu")

    def convolution(filters: int, strides: int = 1) -> list[nbbp.Layer]:
        settings = {"padding": "same", "use_bias": False, "initializer": "he_normal"}
        return [nbbp.Conv2D(filters, 3, strides, **settings), nbbp.BatchNorm()]

    def block(filters: int) -> list[nbbp.Layer]:
        f = [*convolution(filters), relu, *convolution(filters)]
        return [nbbp.Residual(f), relu] if kind == "residual" else [*f, relu]

    large = [nbbp.Reshape((8, 8, 1)), *convolution(16), relu, *block(16) * blocks]
    small = [*convolution(32, strides=2), relu, *block(32) * blocks]
    return [*large, *small, nbbp.GlobalAveragePool(), nbbp.Dense(10)]


def train(kind: str, blocks: int, epochs: int = 12, verbose: int = 1) -> nbbp.History:
    X, y = nbbp.datasets.load_digits()
    order = np.random.default_rng(0).permutation(len(X))
    X, y = X[order], y[order]
    model = nbbp.Sequential(
        layers(kind, blocks),
        loss="softmax_cross_entropy",
        optimizer=nbbp.SGD(nbbp.schedules.Cosine(0.05, steps=epochs * 22), momentum=0.9),
        metrics=["accuracy"],
    )
    return model.fit(X[:1400], y[:1400], epochs, 64, validation_data=(X[1400:], y[1400:]), verbose=verbose)


def draw(histories: dict[tuple[str, int], nbbp.History], path) -> None:
    figure = Figure(figsize=(10.5, 4.2), dpi=120, layout="constrained")
    left, right = figure.subplots(1, 2, sharex=True)
    colors = dict(zip(KINDS, nbbp.plots.COLORS[1::-1], strict=False))
    for (kind, blocks), history in histories.items():
        style = {"color": colors[kind], "linestyle": "-" if blocks == max(BLOCKS) else "--", "linewidth": 1.8}
        epochs = np.arange(1, len(history) + 1)
        left.plot(epochs, history["loss"], label=f"{kind}, {4 * blocks + 3} layers", **style)
        right.plot(epochs, 100 * (1 - np.array(history["val_accuracy"])), **style)
    left.set(xlabel="epoch", title="training loss", yscale="log")
    right.set(xlabel="epoch", title="wrong test digits, %", yscale="log")
    right.set_yticks([1, 3, 10, 30, 90], ["1", "3", "10", "30", "90"], minor=False)
    right.minorticks_off()
    for axis in (left, right):
        axis.grid(alpha=0.25, linewidth=0.6)
        axis.spines[["top", "right"]].set_visible(False)
    left.legend(frameon=False)
    figure.savefig(path)


if __name__ == "__main__":
    picture = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else "plots/residual_digits.png")
    picture.parent.mkdir(parents=True, exist_ok=True)
    histories = {(kind, blocks): train(kind, blocks) for blocks in BLOCKS for kind in KINDS}
    for (kind, blocks), history in histories.items():
        loss, accuracy = history["loss"][-1], history["val_accuracy"][-1]
        print(f"{kind}, {4 * blocks + 3} layers: training loss {loss:.4f}, test accuracy {accuracy:.4f}")
    draw(histories, picture)
