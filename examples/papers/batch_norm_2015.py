"""Batch normalization makes training faster, and keeps the inputs of a layer in place.

Ioffe and Szegedy, "Batch normalization: accelerating deep network training by reducing internal covariate shift", 2015.
Figure 1: a network for MNIST, three hidden layers of 100 sigmoids, 50,000 steps on mini-batches of 60; with
normalization it is sooner right and more often, and what comes into a sigmoid of its last hidden layer, drawn by its
15th, 50th and 85th percentiles, moves less. Figure 3: a large network for ImageNet needs 31.0 million steps to be right
on 72.2 %; with normalization 13.3 million, and 2.1 million where the rate is five times as high too.

Here is the network of figure 1 on 4,000 images of MNIST, with 1,000 others as its test, and a twelfth of the steps. The
rate of the paper's network for MNIST is not told; of 0.1, 0.5 and 2, the last is best for both of ours.
"""

import dataclasses

import numpy as np
from matplotlib.figure import Figure

import nbbp
from nbbp.papers import Claim, Outcome, main, mnist

RATES = {"without": 2.0, "with": 2.0, "with, 5 x rate": 10.0}
EPOCHS = 60  # 67 steps each
SHARES = (15, 50, 85)
NAMES = dict(zip(RATES, ("without", "batch normalization", "and five times the rate"), strict=True))
COLORS = (nbbp.plots.COLORS[1], nbbp.plots.COLORS[0], nbbp.plots.COLORS[2])


def network(kind: str, seed: int, rate: float | None = None) -> nbbp.Sequential:
    first = nbbp.initializers.uniform(0.1)  # "small", says the paper
    hidden = [nbbp.Dense(100, initializer=first, use_bias=kind == "without")]
    layers = [*hidden, *([] if kind == "without" else [nbbp.BatchNorm()]), nbbp.Activation("sigmoid")] * 3
    optimizer = nbbp.SGD(rate or RATES[kind])
    return nbbp.Sequential(
        [*layers, nbbp.Dense(10, initializer=first)], "softmax_cross_entropy", optimizer, ["accuracy"], seed=seed
    )


def data() -> tuple[tuple, tuple]:
    X, y = mnist()
    X = X.reshape(len(X), -1)
    return (X[:4000], y[:4000]), (X[4000:], y[4000:])


def into_last(model: nbbp.Sequential, X: np.ndarray) -> np.ndarray:
    """What comes into the sigmoids of the last hidden layer (rows, 100), with means and variances of these rows."""
    params = list(model.named_params().values())
    size = (len(params) - 2) // 3  # of the parameters of a layer: w and b, or w, gamma and beta
    for k in range(3):
        w, *rest = params[k * size : (k + 1) * size]
        z = X @ w
        if len(rest) == 2:
            z = (z - z.mean(axis=0)) / np.sqrt(z.var(axis=0) + 1e-5) * rest[0]
        z = z + rest[-1]
        X = 1 / (1 + np.exp(-z))
    return z


@dataclasses.dataclass
class Watch(nbbp.callbacks.Callback):
    """Records percentiles of what comes into one sigmoid of the last hidden layer, after each epoch."""

    X: np.ndarray
    percentiles: list = dataclasses.field(default_factory=list)

    def on_epoch_end(self, fit):
        self.percentiles.append(np.percentile(into_last(fit.model, self.X)[:, 0], SHARES))


@dataclasses.dataclass(frozen=True)
class Result:
    """Accuracies on the test (seeds, epochs), loss curves and weights, and percentiles of one network (epochs, 3)."""

    accuracy: np.ndarray
    curves: list[np.ndarray]
    percentiles: np.ndarray


def train(kind: str, seeds: int = 2, epochs: int = EPOCHS, rate: float | None = None) -> Result:
    (X, y), test = data()
    networks, watch = nbbp.Ensemble(seeds, lambda seed: network(kind, seed, rate)), Watch(test[0])
    histories = networks.fit(
        X, y, epochs, batch_size=60, validation_data=test, verbose=0,
        callbacks=lambda member: [] if member else [watch],
    )  # fmt: skip
    pairs = zip(networks.members, histories, strict=True)
    curves = [curve for model, history in pairs for curve in (history.step_loss, model.params)]
    accuracy = np.array([history["val_accuracy"] for history in histories])
    return Result(accuracy, curves, np.array(watch.percentiles))


def reproduce() -> Outcome:
    results = {kind: train(kind) for kind in RATES}
    means = [result.accuracy.mean(axis=0) for result in results.values()]
    best = means[0].max()
    steps = [67 * (int(np.argmax(accuracy >= best)) + 1) if accuracy.max() >= best else np.inf for accuracy in means]
    moved = [float(np.ptp(result.percentiles[5:, 1])) for result in results.values()]
    claims = [
        Claim(
            "normalization reaches the best accuracy without it in fewer steps, far fewer at 5 x rate",
            "31.0 million steps to 72.2 %, 13.3 with normalization, 2.1 with 5 x rate too (figure 3)",
            f"{steps[0]:,} steps to {best:.1%}, {steps[1]:,} with normalization, {steps[2]:,} with 5 x rate too",
            steps[2] < steps[1] < steps[0] and steps[2] < steps[0] / 2,
        ),
        Claim(
            "it is more often right in the end",
            "72.2 %, 72.7 % and 73.0 % (figure 3); so for MNIST in figure 1a",
            ", ".join(f"{accuracy.max():.1%}" for accuracy in means),
            bool(best < min(accuracy.max() for accuracy in means[1:])),
        ),
        Claim(
            "what comes into a sigmoid of the last hidden layer moves less",
            "figures 1b and 1c",
            f"its median moves by {moved[0]:.1f} after the first 5 epochs, with normalization by {moved[1]:.1f}",
            moved[1] < moved[0],
        ),
    ]
    curves = [curve for result in results.values() for curve in result.curves]
    return Outcome(claims, curves, lambda path: draw(results, path))


def draw(results: dict[str, Result], path) -> None:
    figure = Figure(figsize=(12.5, 4.2), dpi=120, layout="constrained")
    left, *others = figure.subplots(1, 3, width_ratios=(1.6, 1, 1))
    for (kind, result), color, dashes in zip(results.items(), COLORS, ("--", "-", "-."), strict=True):
        steps = 67 * np.arange(1, result.accuracy.shape[1] + 1)
        left.plot(steps, 100 * result.accuracy.mean(axis=0), dashes, color=color, label=NAMES[kind])
        left.fill_between(
            steps, *(100 * f(result.accuracy, axis=0) for f in (np.min, np.max)), color=color, alpha=0.15, linewidth=0
        )
    left.set(xlabel="step", title="right on the test, %: mean and range", ylim=(70, 100))
    left.legend(frameon=False, loc="lower right")
    shown = dict(list(results.items())[:2])
    low, high = (f([result.percentiles for result in shown.values()]) for f in (np.min, np.max))
    for axis, (kind, result), color in zip(others, shown.items(), COLORS, strict=False):
        steps = 67 * np.arange(1, len(result.percentiles) + 1)
        axis.plot(steps, result.percentiles[:, 1], color=color)
        axis.fill_between(steps, *result.percentiles[:, ::2].T, color=color, alpha=0.2, linewidth=0)
        axis.set(xlabel="step", title=f"into a sigmoid: {NAMES[kind]}", ylim=(low, high))
    for axis in (left, *others):
        axis.grid(alpha=0.25, linewidth=0.6)
        axis.spines[["top", "right"]].set_visible(False)
    figure.savefig(path)


if __name__ == "__main__":
    main(reproduce)
