"""Twenty layers of 32 units on the digits: why deep networks did not learn, and what changed that.

A gradient passes 19 hidden layers on its way back. A sigmoid's slope is 1/4 at most, so that the first layers receive
almost none of it (Hochreiter, diploma thesis, 1991; Bengio, Simard and Frasconi, "Learning long-term dependencies
with gradient descent is difficult", 1994). Initial weights of the right size preserve it (Glorot and Bengio,
"Understanding the difficulty of training deep feedforward neural networks", 2010; for relu He et al., "Delving deep
into rectifiers", 2015), as does batch normalization (Ioffe and Szegedy, 2015); residual blocks, with
skip connections, let it bypass the layers (He et al., "Deep residual learning for image recognition", 2016).
"""

import pathlib
import sys

import numpy as np
from matplotlib.figure import Figure

import nbbp


def dense(activation: str = "linear", initializer: str = "he_normal") -> nbbp.Dense:
    return nbbp.Dense(32, activation=activation, initializer=initializer)


def networks() -> dict[str, list[nbbp.layers.Layer]]:
    """19 hidden layers each; the 20th has the ten outputs."""
    normalized = [dense(), nbbp.BatchNorm(), nbbp.Activation("relu")]
    block = [*normalized, dense(), nbbp.BatchNorm()]
    return {
        "sigmoid": [dense("sigmoid", "glorot_uniform")] * 19,
        "relu": [dense("relu")] * 19,
        "relu, batch norm": normalized * 19,
        "relu, batch norm, residual": [dense("relu")] + [nbbp.Residual(block)] * 9,
    }


def train(name: str, epochs: int = 30, verbose: int = 1) -> tuple[np.ndarray, nbbp.History]:
    """The norm of each weight matrix's gradient before training, from input to output; and the history."""
    X, y = nbbp.datasets.load_digits()
    model = nbbp.Sequential([*networks()[name], nbbp.Dense(10)], loss="softmax_cross_entropy", optimizer=nbbp.SGD(0.05))
    gradients = model.gradients(X, y)
    norms = np.array([np.linalg.norm(g) for key, g in gradients.items() if key.endswith(".w")])
    return norms, model.fit(X, y, epochs=epochs, batch_size=32, verbose=verbose)


def draw(results: dict[str, tuple[np.ndarray, nbbp.History]], path) -> None:
    figure = Figure(figsize=(10.5, 4.2), dpi=120, layout="constrained")
    losses, gradients = figure.subplots(1, 2)
    for (name, (norms, history)), color, marker in zip(results.items(), nbbp.plots.COLORS, "osD^", strict=False):
        style = {"color": color, "marker": marker, "markersize": 5, "label": name}
        losses.plot(np.arange(1, len(history) + 1), history["loss"], markevery=3, **style)
        gradients.plot(np.arange(1, len(norms) + 1), norms, **style)
    losses.set(xlabel="epoch", ylabel="training loss", xlim=(0, None), ylim=(0, None))
    gradients.set(xlabel="layer, from input to output", ylabel="norm of the gradient at the start", yscale="log")
    gradients.set_xticks([1, 5, 10, 15, 20])
    for axis in (losses, gradients):
        axis.grid(alpha=0.25, linewidth=0.6)
        axis.spines[["top", "right"]].set_visible(False)
    gradients.legend(frameon=False)
    figure.savefig(path)


if __name__ == "__main__":
    picture = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else "plots/vanishing_gradients.png")
    picture.parent.mkdir(parents=True, exist_ok=True)
    results = {name: train(name) for name in networks()}
    for name, (norms, history) in results.items():
        print(f"{name}: gradient of layer 1 / layer 20 {norms[0] / norms[-1]:.1e}, last loss {history['loss'][-1]:.3f}")
    draw(results, picture)
