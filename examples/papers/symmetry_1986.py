"""A network of two hidden units that tells symmetric patterns from others.

Rumelhart, Hinton and Williams, "Learning representations by back-propagating errors", Nature 323, 1986, figure 1: is a
pattern of six bits the same from both ends? One hidden unit cannot tell; the two that backpropagation finds have
weights that are opposite in sign and equal in size on either side of the middle, in the ratio 1 : 2 : 4. Symmetric
patterns, and no others, then add up to 0 in both, and both have a negative bias, which keeps them off.

The paper's learning: the gradient of all 64 patterns, added up; v = 0.9 v - 0.1 gradient; weights and biases that
begin between -0.3 and 0.3; 1,425 sweeps through the patterns. The paper shows one network. Here are 24: a fifth of them
are right on all patterns after as many sweeps, three quarters after seven times as many, most in that ratio and some in
2 : 3 : 4, whose sums with the right signs differ as well. The others say "not symmetric", which is right for 56 of the
patterns, so surely that their gradient is nearly 0.
"""

import dataclasses
import itertools

import numpy as np
from matplotlib.figure import Figure

import nbbp
from nbbp.papers import Claim, Outcome, main

SWEEPS = 1425
X = np.array(list(itertools.product((0, 1), repeat=6)))
Y = (X[:, ::-1] == X).all(axis=1, keepdims=True).astype(int)


def network(seed: int) -> nbbp.Sequential:
    layers = [nbbp.Dense(2, "sigmoid"), nbbp.Dense(1, "sigmoid")]
    optimizer = nbbp.SGD(0.1 * len(X), momentum=0.9)  # half_mse is a mean over patterns, the paper's error their sum
    model = nbbp.Sequential(layers, loss="half_mse", optimizer=optimizer)
    model.build(6)
    model.params[:] = np.random.default_rng(seed).uniform(-0.3, 0.3, len(model.params))
    return model


@dataclasses.dataclass(frozen=True)
class Result:
    """A trained network, and its error, added up over the patterns, in each sweep (sweeps,)."""

    model: nbbp.Sequential
    errors: np.ndarray

    @property
    def right(self) -> int:
        """The number of patterns for which the output is on the right side of 1/2."""
        return int(np.sum((self.model.predict(X) > 0.5) == Y))

    @property
    def weights(self) -> np.ndarray:
        """Of the two hidden units (2, 6)."""
        return self.model.named_params()["dense_0.w"].T

    def ratios(self) -> np.ndarray:
        """Sizes of each hidden unit's weights, means over both sides, as multiples of the smallest (2, 3)."""
        sizes = np.sort((np.abs(self.weights)[:, :3] + np.abs(self.weights)[:, :2:-1]) / 2)
        return sizes / sizes[:, :1]

    def asymmetry(self) -> float:
        """The largest sum of two weights on either side of the middle, as a share of the largest weight."""
        return float(np.abs(self.weights + self.weights[:, ::-1]).max() / np.abs(self.weights).max())


def train(seed: int, sweeps: int = SWEEPS) -> Result:
    model = network(seed)
    history = model.fit(X, Y, epochs=sweeps, batch_size=len(X), shuffle=False, verbose=0)
    return Result(model, len(X) * np.array(history["loss"]))


def reproduce(seeds: int = 24) -> Outcome:
    early, late = ([train(seed, sweeps) for seed in range(seeds)] for sweeps in (SWEEPS, 7 * SWEEPS))
    shown = min(early, key=lambda result: result.errors[-1])
    solved_early, solved = ([result for result in some if result.right == len(X)] for some in (early, late))
    binary = sum(np.allclose(result.ratios(), [1, 2, 4], rtol=0.05) for result in solved)
    ratios = shown.ratios().mean(axis=0)
    claims = [
        Claim(
            "two hidden units learn which of 64 patterns are symmetric (figure 1)",
            f"one network, {SWEEPS:,} sweeps",
            f"{len(solved_early)} of {seeds} networks after as many, {len(solved)} after {7 * SWEEPS:,}",
            len(solved_early) > 0,
        ),
        Claim(
            "their weights are opposite in sign and equal in size on either side of the middle",
            "so in figure 1",
            f"equal to {shown.asymmetry():.2%} of the largest, in the network of least error",
            shown.asymmetry() < 0.02,
        ),
        Claim(
            "their sizes are as 1 : 2 : 4",
            "1 : 2 : 4",
            f"{' : '.join(f'{ratio:.2f}' for ratio in ratios)} in that network; so in {binary} of {len(solved)}",
            bool(np.allclose(ratios, [1, 2, 4], rtol=0.05)),
        ),
    ]
    curves = [*(result.errors for result in late), shown.model.params]
    return Outcome(claims, curves, lambda path: draw(shown, late, path))


def draw(shown: Result, results: list[Result], path) -> None:
    """One network, and the errors of all."""
    figure = Figure(figsize=(11.5, 4.6), dpi=120, layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=(1.35, 1))
    draw_network(left, shown)
    solved = [result for result in results if result.right == len(X)]
    for result in results:
        color = nbbp.plots.COLORS[0 if result in solved else 1]
        right.plot(np.arange(1, len(result.errors) + 1), result.errors, color=color, linewidth=1)
    right.plot([], color=nbbp.plots.COLORS[0], label=f"{len(solved)} networks that solve it")
    right.plot([], color=nbbp.plots.COLORS[1], label=f"{len(results) - len(solved)} that do not")
    right.axvline(SWEEPS, color="gray", linestyle=":", label=f"{SWEEPS:,} sweeps")
    right.set(xlabel="sweep", xscale="log", yscale="log", xlim=(100, None), ylim=(None, 8))
    right.set_title("error, added up over the patterns")
    right.grid(alpha=0.25, linewidth=0.6)
    right.spines[["top", "right"]].set_visible(False)
    right.legend(frameon=False, loc="lower left")
    figure.savefig(path)


def draw_network(axis, result: Result) -> None:
    p = result.model.named_params()
    inputs, hidden, output = [(0.0, 5.0 - k) for k in range(6)], [(-3.0, 2.5), (3.0, 2.5)], (0.0, 6.6)
    for j, place in enumerate(hidden):
        for i, begin in enumerate(inputs):
            arc(axis, begin, place, p["dense_0.w"][i, j])
        arc(axis, place, output, p["dense_1.w"][j, 0])
        node(axis, place, f"{p['dense_0.b'][j]:.1f}")
    for k, place in enumerate(inputs):
        node(axis, place, f"bit {k + 1}")
    node(axis, output, f"{p['dense_1.b'][0]:.1f}")
    axis.axhline(2.5, 0.2, 0.8, color="gray", linestyle=":", zorder=0)
    axis.set(xlim=(-4, 4), ylim=(-0.6, 7.2), title=f"after {SWEEPS:,} sweeps: weights on arcs, biases within units")
    axis.set_axis_off()


def node(axis, place, text: str) -> None:
    axis.plot(*place, "o", markersize=30, markerfacecolor="white", markeredgecolor="black", zorder=3)
    axis.text(*place, text, ha="center", va="center", fontsize=9, zorder=4)


def arc(axis, begin: tuple[float, float], end: tuple[float, float], weight: float) -> None:
    """A line from one unit to another with its weight in the middle; black if it is positive."""
    color = "black" if weight > 0 else nbbp.plots.COLORS[1]
    axis.plot(*np.transpose([begin, end]), color=color, linewidth=0.8 + abs(weight) / 5, zorder=1)
    label = {"ha": "center", "va": "center", "fontsize": 9, "color": color, "zorder": 2}
    label["bbox"] = {"facecolor": "white", "edgecolor": "none", "pad": 1}
    axis.text(*np.mean([begin, end], axis=0), f"{weight:.1f}", **label)


if __name__ == "__main__":
    main(reproduce)
