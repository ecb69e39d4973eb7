"""XOR, the first problem that backpropagation solved in print: how many sweeps it takes, and how often it gets stuck.

Rumelhart, Hinton and Williams, "Learning internal representations by error propagation", in Parallel Distributed
Processing, volume 1, chapter 8, 1986. One hidden unit suffices if the inputs reach the output too: it learned in 558
sweeps through the four patterns with rate 0.5 (page 331). Of hundreds of runs two ended in a local minimum, both with
two hidden units and nothing beside them. With more units it is faster: 280 - 33 log2(H) presentations for H hidden
units until the error is 0.01 a pattern, with rate 0.25, as we recall the text.

The chapter's momentum is 0.9; its first weights are not told, and are between -0.3 and 0.3 here, as in the paper in
Nature. The error is the chapter's, 1/2 sum (t - y)^2, added up over the patterns for each update. From these weights
the local minimum, in which two of the four outputs are right and two are 1/2, catches more runs than in 1986; and as in
1986, never one in which the inputs reach the output.
"""

import numpy as np
from matplotlib.figure import Figure

import nbbp
from nbbp.papers import Claim, Outcome, main

X = np.array([[0, 0], [0, 1], [1, 0], [1, 1]])
Y = np.array([[0], [1], [1], [0]])
SWEEPS = 558
SOLVED = 0.01  # error a pattern
HIDDEN = (2, 4, 8, 16, 32)
FIRST = nbbp.initializers.uniform(0.3)


def network(hidden: int, beside: bool, rate: float, seed: int) -> nbbp.Model:
    """With `beside`, the inputs reach the output directly too. Biases begin as weights do."""
    x = nbbp.Input(2)
    h = nbbp.Dense(hidden, "sigmoid", initializer=FIRST)(x)
    y = nbbp.Dense(1, "sigmoid", initializer=FIRST)(nbbp.Concatenate()(x, h) if beside else h)
    optimizer = nbbp.SGD(len(X) * rate, momentum=0.9)  # half_mse is a mean over patterns
    model = nbbp.Model(x, y, "half_mse", optimizer, seed=seed)
    model.params[:] = np.random.default_rng(seed).uniform(-0.3, 0.3, len(model.params))
    return model


def train(hidden: int, beside: bool = False, rate: float = 0.5, seeds: int = 100, sweeps: int = 3000) -> np.ndarray:
    """The error a pattern of each network, in each sweep (seeds, sweeps)."""
    networks = nbbp.Ensemble(seeds, lambda seed: network(hidden, beside, rate, seed))
    histories = networks.fit(X, Y, epochs=sweeps, batch_size=len(X), shuffle=False, verbose=0)
    return np.array([history.step_loss for history in histories])


def taken(errors: np.ndarray) -> np.ndarray:
    """Sweeps until each network has solved the problem; infinite where it has not (seeds,)."""
    solved = errors < SOLVED
    return np.where(solved.any(axis=1), solved.argmax(axis=1) + 1.0, np.inf)


def reproduce(seeds: int = 100) -> Outcome:
    small = {
        "1 hidden unit, inputs to output": train(1, True, seeds=seeds, sweeps=12_000),
        "2 hidden units": train(2, seeds=seeds, sweeps=12_000),
    }
    larger = {hidden: train(hidden, rate=0.25, seeds=seeds) for hidden in HIDDEN}
    one, two = (taken(errors) for errors in small.values())
    stuck = [int(np.isinf(sweeps).sum()) for sweeps in (one, two)]
    medians = [np.median(taken(errors)) for errors in larger.values()]
    formula = [280 - 33 * np.log2(hidden) for hidden in HIDDEN]
    claims = [
        Claim(
            "one hidden unit learns XOR if the inputs reach the output too",
            f"{SWEEPS} sweeps, one run",
            f"{np.median(one):.0f} sweeps in the median of {seeds} runs, from {one.min():.0f} to {one.max():.0f}",
            bool(one.min() <= SWEEPS <= one.max() < np.inf),
        ),
        Claim(
            "local minima are rare, and those of two hidden units",
            "2 of hundreds of runs, both of two hidden units",
            f"{stuck[1]} of {seeds} runs of two hidden units, {stuck[0]} of {seeds} of the others",
            stuck[0] == 0 < stuck[1] <= seeds / 100,
        ),
        Claim(
            f"the more hidden units, the faster, from {HIDDEN[0]} to {HIDDEN[-1]}",
            f"{formula[0]:.0f} down to {formula[-1]:.0f} presentations (as we recall it)",
            f"{medians[0]:.0f} down to {medians[-1]:.0f} sweeps in the median",
            bool(np.all(np.diff(medians) < 0)),
        ),
    ]
    return Outcome(claims, [*small.values(), *larger.values()], lambda path: draw(small, medians, path))


def draw(small: dict[str, np.ndarray], medians: list[float], path) -> None:
    figure = Figure(figsize=(10.5, 4.2), dpi=120, layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=(1.6, 1))
    for (name, errors), color in zip(small.items(), nbbp.plots.COLORS, strict=False):
        sweeps = np.unique(np.geomspace(1, errors.shape[1], 300).astype(int))
        left.plot(sweeps, errors[:, sweeps - 1].T, color=color, linewidth=0.7, alpha=0.35)
        left.plot([], color=color, label=f"{len(errors)} networks of {name}")
    left.axvline(SWEEPS, color="gray", linestyle=":", label=f"{SWEEPS} sweeps, as in 1986")
    left.axhline(SOLVED, color="gray", linewidth=0.8)
    left.annotate("local minimum", (9000, 1 / 16), (1500, 0.6), arrowprops={"arrowstyle": "-", "color": "gray"})
    left.set(xlabel="sweep", xscale="log", yscale="log", xlim=(30, None), ylim=(None, 1), title="error a pattern")
    left.legend(frameon=False, loc="lower left")
    right.plot(HIDDEN, medians, "o-", color=nbbp.plots.COLORS[1], label="here, median sweeps")
    formula = 280 - 33 * np.log2(HIDDEN)
    right.plot(HIDDEN, formula, "--", color="gray", label=r"1986: $280 - 33\,\log_2 H$")
    right.set_xscale("log", base=2)
    right.set(xlabel="hidden units H", xticks=HIDDEN, xticklabels=HIDDEN, ylim=(0, None))
    right.set_title(f"sweeps to an error of {SOLVED}, rate 0.25")
    right.legend(frameon=False)
    for axis in (left, right):
        axis.grid(alpha=0.25, linewidth=0.6)
        axis.spines[["top", "right"]].set_visible(False)
    figure.savefig(path)


if __name__ == "__main__":
    main(reproduce)
