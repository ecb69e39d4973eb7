"""Deep convolutional networks, with skip connections and without: a deeper plain network is worse even in training.

He, Zhang, Ren and Sun, "Deep residual learning for image recognition", 2015. On ImageNet plain networks of 18 and 34
layers are wrong on 27.94 and 28.54 % of the validation images, residual ones on 27.88 and 25.03 % (table 2), and the
deeper plain network is worse throughout training (figure 4), batch normalization or not. Figure 6 shows the same for 20
to 110 layers on CIFAR-10, where networks with skip connections become better up to 110 layers: 8.75 % wrong with 20,
6.43 % with 110 (table 6).

Here the same appears in small, on the package's digits: images of 8 x 8, 16 and then 32 filters of 3 x 3, and 11 or 35
layers. As in the paper the rate is a tenth after half of the steps, and a hundredth after three quarters.
"""

import numpy as np
from matplotlib.figure import Figure

import nbbp
from nbbp.papers import Claim, InSteps, Outcome, main

BLOCKS = (2, 8)  # of two convolutions each, at either size of the image
KINDS = ("plain", "residual")
TABLE_2 = {("plain", 2): 27.94, ("plain", 8): 28.54, ("residual", 2): 27.88, ("residual", 8): 25.03}
"""Wrong in %, for 18 and 34 layers."""


def layers(kind: str, blocks: int) -> list[nbbp.Layer]:
    """A network of 4 blocks + 3 layers with weights."""
    relu = nbbp.Activation("relu")

    def convolution(filters: int, strides: int = 1) -> list[nbbp.Layer]:
        settings = {"padding": "same", "use_bias": False, "initializer": "he_uniform"}
        return [nbbp.Conv2D(filters, 3, strides, **settings), nbbp.BatchNorm()]

    def block(filters: int) -> list[nbbp.Layer]:
        f = [*convolution(filters), relu, *convolution(filters)]
        return [nbbp.Residual(f), relu] if kind == "residual" else [*f, relu]

    large = [nbbp.Reshape((8, 8, 1)), *convolution(16), relu, *block(16) * blocks]
    small = [*convolution(32, strides=2), relu, *block(32) * blocks]
    return [*large, *small, nbbp.GlobalAveragePool(), nbbp.Dense(10)]


def train(kind: str, blocks: int, epochs: int = 12) -> tuple[nbbp.History, np.ndarray]:
    """The history and the weights."""
    X, y = nbbp.datasets.load_digits()
    order = np.random.default_rng(0).permutation(len(X))
    X, y = X[order], y[order]
    model = nbbp.Sequential(
        layers(kind, blocks),
        loss="softmax_cross_entropy",
        optimizer=nbbp.SGD(InSteps(0.05, epochs * 22), momentum=0.9),
        metrics=["accuracy"],
    )
    history = model.fit(X[:1400], y[:1400], epochs, 64, validation_data=(X[1400:], y[1400:]), verbose=0)
    return history, model.params


def reproduce() -> Outcome:
    results = {(kind, blocks): train(kind, blocks) for blocks in BLOCKS for kind in KINDS}
    histories = {key: history for key, (history, _) in results.items()}
    loss = {key: history["loss"][-1] for key, history in histories.items()}
    wrong = {key: 100 - 100 * history["val_accuracy"][-1] for key, history in histories.items()}
    shallow, deep = BLOCKS
    claims = [
        Claim(
            "a deeper plain network has a larger training loss",
            "figures 4 and 6: 34 against 18 layers, 56 against 20",
            f"{loss['plain', deep]:.3f}, {loss['plain', shallow]:.3f} with {4 * deep + 3} and {4 * shallow + 3} layers",
            loss["plain", deep] > loss["plain", shallow],
        ),
        Claim(
            "a deeper residual network has a smaller one",
            "figures 4 and 6",
            f"{loss['residual', deep]:.4f}, {loss['residual', shallow]:.4f}",
            loss["residual", deep] < loss["residual", shallow],
        ),
        Claim(
            "the deeper plain network is more often wrong on the test, too, the deeper residual one is not",
            ", ".join(f"{kind} {TABLE_2[kind, shallow]} and {TABLE_2[kind, deep]} %" for kind in KINDS) + " (table 2)",
            ", ".join(f"{kind} {wrong[kind, shallow]:.1f} and {wrong[kind, deep]:.1f} %" for kind in KINDS),
            wrong["plain", deep] > wrong["plain", shallow] and wrong["residual", deep] <= wrong["residual", shallow],
        ),
    ]
    curves = [curve for history, params in results.values() for curve in (history.step_loss, params)]
    return Outcome(claims, curves, lambda path: draw(histories, path))


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
    main(reproduce)
