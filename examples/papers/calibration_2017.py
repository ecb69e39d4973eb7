"""How sure a network is, and how often it is right: temperature scaling.

Guo, Pleiss, Sun and Weinberger, "On calibration of modern neural networks", 2017. A modern network is surer than it is
right. The expected calibration error is the mean gap between the two, over 15 bins of confidence. Table 1: 16.53 % for
a residual network of 110 layers on CIFAR-100, and 4.6 % on CIFAR-10. One number, by which the outputs are divided
before the softmax and which makes the likelihood of held-out rows largest, takes it down to 1.26 and 0.83 %; which
class is the likeliest does not change.

Here four networks with batch normalization learn 500 images of MNIST until each is certain of all; 1,000 others choose
the temperature, 3,500 are the test.
"""

import dataclasses

import numpy as np
from matplotlib.figure import Figure

import nbbp
from nbbp.papers import Claim, Outcome, main, mnist

BINS = 15
GAP = {"color": nbbp.plots.COLORS[1], "edgecolor": nbbp.plots.COLORS[1], "alpha": 0.35, "hatch": "//", "linewidth": 0}
TABLE_1 = {"CIFAR-100": (16.53, 1.26), "CIFAR-10": (4.6, 0.83)}  # %, ResNet-110, before and after


def network(seed: int) -> nbbp.Sequential:
    hidden = [nbbp.Dense(256, use_bias=False, initializer="he_uniform"), nbbp.BatchNorm(), nbbp.Activation("relu")]
    layers = [*hidden * 3, nbbp.Dense(10, initializer="glorot_uniform")]
    return nbbp.Sequential(layers, "softmax_cross_entropy", nbbp.SGD(0.1, momentum=0.9), seed=seed)


def softmax(z: np.ndarray) -> np.ndarray:
    p = np.exp(z - z.max(axis=1, keepdims=True))
    return p / p.sum(axis=1, keepdims=True)


def temperature(z: np.ndarray, y: np.ndarray) -> float:
    """That of the largest likelihood, by golden section over its logarithm."""

    def loss(log_t: float) -> float:
        return -np.mean(np.log(softmax(z / np.exp(log_t))[np.arange(len(y)), y]))

    low, high, ratio = np.log(0.1), np.log(20), (np.sqrt(5) - 1) / 2
    while high - low > 1e-4:
        left, right = high - ratio * (high - low), low + ratio * (high - low)
        low, high = (low, right) if loss(left) < loss(right) else (left, high)
    return float(np.exp((low + high) / 2))


@dataclasses.dataclass(frozen=True)
class Reliability:
    """Of predictions in bins of confidence: their number, how sure they are and how often right, of those not empty."""

    counts: np.ndarray
    confidence: np.ndarray
    accuracy: np.ndarray

    @property
    def error(self) -> float:
        """The expected calibration error in %: equation 3 of the paper."""
        return float(100 * np.sum(self.counts * np.abs(self.accuracy - self.confidence)) / self.counts.sum())


def reliability(p: np.ndarray, y: np.ndarray) -> Reliability:
    sure, right = p.max(axis=1), p.argmax(axis=1) == y
    bins = np.minimum((sure * BINS).astype(int), BINS - 1)
    counts, of_sure, of_right = (np.bincount(bins, w, BINS) for w in (None, sure, right))
    filled = counts > 0
    return Reliability(counts[filled], of_sure[filled] / counts[filled], of_right[filled] / counts[filled])


@dataclasses.dataclass(frozen=True)
class Result:
    """Outputs before the softmax of all networks on the rows that choose the temperature, and on the test; curves."""

    held_out: list[np.ndarray]
    test: list[np.ndarray]
    y: tuple[np.ndarray, np.ndarray]
    curves: list[np.ndarray]


def train(seeds: int = 4, epochs: int = 100) -> Result:
    X, y = mnist()
    X = X.reshape(len(X), -1)
    networks = nbbp.Ensemble(seeds, network)
    histories = networks.fit(X[:500], y[:500], epochs, batch_size=50, verbose=0)
    logits = [np.log(np.maximum(model.predict(X[500:]), 1e-30)) for model in networks.members]  # up to a constant
    pairs = zip(networks.members, histories, strict=True)
    curves = [curve for model, history in pairs for curve in (history.step_loss, model.params)]
    return Result([z[:1000] for z in logits], [z[1000:] for z in logits], (y[500:1500], y[1500:]), curves)


def reproduce() -> Outcome:
    result = train()
    y_held_out, y = result.y
    temperatures = np.array([temperature(z, y_held_out) for z in result.held_out])
    scaled = [softmax(z / t) for z, t in zip(result.test, temperatures, strict=True)]
    before = [reliability(softmax(z), y) for z in result.test]
    after = [reliability(p, y) for p in scaled]
    errors = np.array([[one.error for one in some] for some in (before, after)])
    wrong = 100 * np.mean([z.argmax(axis=1) != y for z in result.test])
    same = all(np.array_equal(z.argmax(axis=1), p.argmax(axis=1)) for z, p in zip(result.test, scaled, strict=True))
    sure = 100 * np.mean([softmax(z).max(axis=1).mean() for z in result.test])
    claims = [
        Claim(
            "a network is surer than it is right",
            f"calibration error {TABLE_1['CIFAR-100'][0]} % on CIFAR-100, {TABLE_1['CIFAR-10'][0]} % on CIFAR-10",
            f"{errors[0].mean():.1f} %: {sure:.1f} % sure, {100 - wrong:.1f} % right, means of {len(before)} networks",
            bool(sure > 100 - wrong and errors[0].min() > 1),
        ),
        Claim(
            "a temperature takes most of that error away",
            f"{TABLE_1['CIFAR-100'][1]} and {TABLE_1['CIFAR-10'][1]} % (table 1)",
            f"{errors[1].mean():.1f} %, with temperatures from {temperatures.min():.1f} to {temperatures.max():.1f}",
            bool(errors[1].mean() < errors[0].mean() / 2 and temperatures.min() > 1),
        ),
        Claim(
            "and changes no prediction",
            "by its form",
            f"{wrong:.2f} % wrong before and after" if same else "it does",
            same,
        ),
    ]
    return Outcome(claims, result.curves, lambda path: draw(before, after, path))


def draw(before: list[Reliability], after: list[Reliability], path) -> None:
    figure = Figure(figsize=(9.5, 5.3), dpi=120, layout="constrained")
    axes = figure.subplots(1, 2, sharey=True)
    for axis, some, name in zip(axes, (before, after), ("as trained", "after temperature scaling"), strict=True):
        counts, sure, right = (
            np.concatenate([getattr(one, field.name) for one in some]) for field in dataclasses.fields(Reliability)
        )
        axis.plot([0, 1], [0, 1], color="gray", linewidth=0.8)
        for k in range(BINS):
            there = np.minimum((sure * BINS).astype(int), BINS - 1) == k
            if there.any():
                height = np.average(right[there], weights=counts[there])
                gap = (k + 0.5) / BINS - height
                axis.bar((k + 0.5) / BINS, height, 0.9 / BINS, color=nbbp.plots.COLORS[0])
                axis.bar((k + 0.5) / BINS, gap, 0.9 / BINS, bottom=height, **GAP)
        axis.set(xlabel="confidence", title=f"{name}: error {np.mean([one.error for one in some]):.1f} %")
        axis.set(xlim=(0, 1), ylim=(0, 1), aspect="equal")
        axis.spines[["top", "right"]].set_visible(False)
    axes[0].set_ylabel("share that is right")
    axes[0].bar([0], [0], color=nbbp.plots.COLORS[0], label="right")
    axes[0].bar([0], [0], label="gap", **GAP)
    axes[0].legend(frameon=False, loc="upper left")
    figure.savefig(path)


if __name__ == "__main__":
    main(reproduce)
