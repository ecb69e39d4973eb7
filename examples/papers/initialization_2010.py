"""Activations and gradients in deep networks, by their initial weights and activations.

Glorot and Bengio, "Understanding the difficulty of training deep feedforward neural networks", 2010. With weights of
the then usual size, uniform in 1 / sqrt(n), activations and, on their way back, gradients shrink from layer to layer of
tanh (figures 6 and 7), and much less with normalized ones, uniform in sqrt(6 / (n_in + n_out)). In networks of sigmoids
the last hidden layer goes to 0 as training begins (figure 2). Table 1, five hidden layers trained at length on all of
MNIST, as we recall it: test errors of 1.76 % with tanh, 1.64 with normalized weights, 1.64 and 1.72 with softsign, 2.21
with sigmoids; and 27.15, 15.60, 16.27, 16.06 and 82.61 on small pictures of shapes.

Here layers are 1,000 wide where nothing is trained, as in the paper, and 200 wide where they are: on 4,000 images of
MNIST, ten at a time as in the paper, for a few epochs, and the test is 1,000 others.
"""

import dataclasses

import numpy as np
from matplotlib.figure import Figure

import nbbp
from nbbp.kernels.vector_math import ONE
from nbbp.papers import Claim, Outcome, main, mnist

DEPTH = 5
NETWORKS = {
    "sigmoid": ("sigmoid", "lecun"),
    "tanh": ("tanh", "lecun"),
    "tanh, normalized": ("tanh", "glorot_uniform"),
    "softsign": ("softsign", "lecun"),
    "softsign, normalized": ("softsign", "glorot_uniform"),
}
TABLE_1 = {"sigmoid": 2.21, "tanh": 1.76, "tanh, normalized": 1.64, "softsign": 1.64, "softsign, normalized": 1.72}
RATES = {"sigmoid": 0.1, "tanh": 0.02, "softsign": 0.05}

nbbp.activations.define(
    "softsign",
    lambda x: x / (ONE(x) + abs(x)),
    lambda y: (ONE(y) - abs(y)) * (ONE(y) - abs(y)),
    lambda x: x / (1 + np.abs(x)),
    lambda y: (1 - np.abs(y)) ** 2,
)
VALUE = {"sigmoid": lambda x: 1 / (1 + np.exp(-x)), "tanh": np.tanh, "softsign": lambda x: x / (1 + np.abs(x))}
SLOPE = {"sigmoid": lambda y: y * (1 - y), "tanh": lambda y: 1 - y * y, "softsign": lambda y: (1 - np.abs(y)) ** 2}


def usual(shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
    """Uniform in 1 / sqrt(n_in)."""
    return rng.uniform(-1, 1, shape) / np.sqrt(shape[0])


def network(name: str, units: int, seed: int) -> nbbp.Sequential:
    activation, initializer = NETWORKS[name]
    first = {"initializer": usual if initializer == "lecun" else initializer}
    layers = [*(nbbp.Dense(units, activation, **first) for _ in range(DEPTH)), nbbp.Dense(10, **first)]
    return nbbp.Sequential(layers, "softmax_cross_entropy", nbbp.SGD(RATES[activation]), ["accuracy"], seed=seed)


def data() -> tuple[tuple, tuple]:
    """(X, y), (X_test, y_test): X (rows, 784), from -1 to 1."""
    X, y = mnist()
    X = 2 * X.reshape(len(X), -1) - 1
    return (X[:4000], y[:4000]), (X[4000:], y[4000:])


def passed(model: nbbp.Sequential, name: str, X: np.ndarray, y: np.ndarray) -> tuple[list, list]:
    """The activations of each hidden layer, and the gradients of the loss by what goes into them (5, rows, units)."""
    activation, _ = NETWORKS[name]
    w, b = ([p for key, p in model.named_params().items() if key.endswith(kind)] for kind in (".w", ".b"))
    activations, x = [], X
    for k in range(DEPTH):
        x = VALUE[activation](x @ w[k] + b[k])
        activations.append(x)
    p = np.exp(x @ w[-1] + b[-1])
    gradients, d = [], p / p.sum(axis=1, keepdims=True) - np.eye(10)[y]
    for k in range(DEPTH)[::-1]:
        d = d @ w[k + 1].T * SLOPE[activation](activations[k])
        gradients.insert(0, d)
    return activations, gradients


@dataclasses.dataclass
class Watch(nbbp.callbacks.Callback):
    """Records the mean activation of every hidden layer for some images, after each epoch."""

    name: str
    X: np.ndarray
    y: np.ndarray
    means: list = dataclasses.field(default_factory=list)

    def on_epoch_end(self, fit):
        self.means.append([a.mean() for a in passed(fit.model, self.name, self.X, self.y)[0]])


@dataclasses.dataclass(frozen=True)
class Result:
    """Test errors in % (seeds,); loss curves and weights; the mean activations of the first network (epochs, 5)."""

    wrong: np.ndarray
    curves: list[np.ndarray]
    means: np.ndarray


def train(name: str, seeds: int = 3, epochs: int = 6, units: int = 200) -> Result:
    (X, y), test = data()
    networks = nbbp.Ensemble(seeds, lambda seed: network(name, units, seed))
    watch = Watch(name, test[0][:300], test[1][:300])
    watch.means.append([a.mean() for a in passed(built(networks.members[0]), name, watch.X, watch.y)[0]])
    histories = networks.fit(X, y, epochs, batch_size=10, verbose=0, callbacks=lambda member: [] if member else [watch])
    wrong = [100 - 100 * model.evaluate(*test)["accuracy"] for model in networks.members]
    pairs = zip(networks.members, histories, strict=True)
    curves = [curve for model, history in pairs for curve in (history.step_loss, model.params)]
    return Result(np.array(wrong), curves, np.array(watch.means))


def built(model: nbbp.Sequential) -> nbbp.Sequential:
    model.build(784)
    return model


def deviations(name: str) -> tuple[np.ndarray, np.ndarray]:
    """Standard deviations of activations and of gradients in each layer of a wide network, before training (5,)."""
    _, (X, y) = data()
    activations, gradients = passed(built(network(name, 1000, 0)), name, X[:300], y[:300])
    return np.array([a.std() for a in activations]), np.array([d.std() for d in gradients])


def reproduce() -> Outcome:
    spread = {name: deviations(name) for name in NETWORKS}
    results = {name: train(name) for name in NETWORKS}
    means = {name: result.wrong.mean() for name, result in results.items()}
    forward, backward = ({name: pair[k] for name, pair in spread.items()} for k in (0, 1))
    shrinks = {name: forward[name][0] / forward[name][-1] for name in NETWORKS}
    fades = {name: backward[name][-1] / backward[name][0] for name in NETWORKS}
    top = results["sigmoid"].means[:, -1]
    claims = [
        Claim(
            "activations shrink from the first to the last of five layers of tanh, much less with normalized weights",
            "figure 6: they narrow to the top, and hardly do",
            f"to 1 / {shrinks['tanh']:.1f} of the first layer's, and to 1 / {shrinks['tanh, normalized']:.1f}",
            bool(shrinks["tanh"] > 3 * shrinks["tanh, normalized"]),
        ),
        Claim(
            "gradients shrink on their way back, much less with normalized weights",
            "figure 7: they narrow to the bottom, and hardly do",
            f"to 1 / {fades['tanh']:.1f} of the last layer's, and to 1 / {fades['tanh, normalized']:.1f}",
            bool(fades["tanh"] > 3 * fades["tanh, normalized"]),
        ),
        Claim(
            "the last hidden layer of sigmoids goes to 0 when training begins",
            "figure 2: its mean falls from 1/2 to nearly 0",
            f"its mean falls from {top[0]:.2f} to {top.min():.2f}",
            bool(top.min() < 0.15),
        ),
        *(
            Claim(
                f"{better} is better than {worse} (table 1)",
                f"{TABLE_1[better]} and {TABLE_1[worse]} % wrong, trained at length (as we recall it)",
                f"{means[better]:.1f} and {means[worse]:.1f} % wrong, means of {len(results[better].wrong)} networks",
                bool(means[better] < means[worse]),
            )
            for better, worse in (("tanh, normalized", "tanh"), ("softsign", "tanh"), ("tanh", "sigmoid"))
        ),
    ]
    curves = [curve for result in results.values() for curve in result.curves]
    return Outcome(claims, curves, lambda path: draw(spread, results, path))


def draw(spread: dict, results: dict[str, Result], path) -> None:
    figure = Figure(figsize=(14.5, 4.2), dpi=120, layout="constrained")
    forward, backward, top, bars = figure.subplots(1, 4, width_ratios=(3, 3, 3, 4))
    layers = np.arange(1, DEPTH + 1)
    colors = dict(zip(NETWORKS, nbbp.plots.COLORS[2::-1] + nbbp.plots.COLORS[1::-1], strict=True))
    styles = {name: "-" if "normalized" in name else "--" for name in NETWORKS}
    markers = dict(zip(NETWORKS, "^oosD"[:5], strict=True))
    for name, pair in spread.items():
        for axis, values in zip((forward, backward), pair, strict=True):
            axis.plot(layers, values, styles[name], marker=markers[name], color=colors[name], label=name, markersize=5)
    forward.set(title="deviation of activations", xlabel="layer", yscale="log", xticks=layers)
    backward.set(title="deviation of gradients", xlabel="layer", yscale="log", xticks=layers)
    forward.legend(frameon=False, fontsize=8)
    for axis in (forward, backward):
        axis.yaxis.set_minor_formatter("")
        axis.yaxis.set_major_formatter("{x:g}")
    forward.set_ylim(0.01, 1)
    for k, means in enumerate(results["sigmoid"].means.T):
        top.plot(means, color=str(0.75 - 0.18 * k) if k < 4 else nbbp.plots.COLORS[2], label=f"layer {k + 1}")
    top.set(title="sigmoids: mean activation", xlabel="epoch", ylim=(0, 1))
    top.legend(frameon=False, fontsize=8)
    names = list(results)
    bars.barh(names, [result.wrong.mean() for result in results.values()], color=[colors[name] for name in names])
    for k, (name, result) in enumerate(results.items()):
        bars.plot(result.wrong, np.full(len(result.wrong), k), "o", color="black", markersize=3)
        bars.plot(TABLE_1[name], k, "*", color="black", markersize=10, label="table 1" if k == 0 else None)
    bars.invert_yaxis()
    bars.set(title="wrong test digits, %", xscale="log")
    bars.xaxis.set_major_formatter("{x:g}")
    bars.legend(frameon=False, loc="lower right")
    for axis in (forward, backward, top, bars):
        axis.grid(alpha=0.25, linewidth=0.6)
        axis.set_axisbelow(True)
        axis.spines[["top", "right"]].set_visible(False)
    figure.savefig(path)


if __name__ == "__main__":
    main(reproduce)
