"""Dropout: a network that is too large for its images learns to do without any of its units.

Srivastava, Hinton, Krizhevsky, Sutskever and Salakhutdinov, "Dropout: a simple way to prevent neural networks from
overfitting", JMLR 15, 2014. Table 2: on MNIST 1.60 % of the test digits are wrong without dropout, 1.35 % with it and
logistic units, 1.25 % with rectified ones, 1.06 % if the weights of each unit have a largest norm too. Figure 9a: if
the number of units is given, the test error is flat where 0.4 to 0.8 of them are retained, and higher beyond either
end.

Here 784-512-512-10 networks learn 2,000 images of MNIST, and 1,500 others are the test. As in the paper, pixels are
retained with 0.8 wherever units are dropped, momentum is 0.95 and the largest norm 2.
"""

import dataclasses

import numpy as np
from matplotlib.figure import Figure

import nbbp
from nbbp.papers import Claim, Outcome, main, mnist

RETAINED = (0.1, 0.25, 0.4, 0.6, 0.8, 1.0)  # of the hidden units; 1 is a network without dropout
TABLE_2 = (1.60, 1.25)


def network(retained: float, seed: int) -> nbbp.Sequential:
    hidden = [nbbp.Dense(512, "relu", initializer="he_uniform", max_norm=2.0), nbbp.Dropout(1 - retained)]
    return nbbp.Sequential(
        [nbbp.Dropout(0.2 if retained < 1 else 0.0), *hidden * 2, nbbp.Dense(10, initializer="glorot_uniform")],
        "softmax_cross_entropy", nbbp.SGD(0.01, momentum=0.95), ["accuracy"], seed=seed,
    )  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Result:
    """Errors in % in each epoch, on the test and in training with units dropped (seeds, epochs); curves and weights."""

    test: np.ndarray
    training: np.ndarray
    curves: list[np.ndarray]

    @property
    def last(self) -> np.ndarray:
        """Test errors, means of the last five epochs (seeds,)."""
        return self.test[:, -5:].mean(axis=1)


def train(retained: float, seeds: int = 2, epochs: int = 60) -> Result:
    X, y = mnist()
    X = X.reshape(len(X), -1)
    networks = nbbp.Ensemble(seeds, lambda seed: network(retained, seed))
    histories = networks.fit(X[:2000], y[:2000], epochs, 100, validation_data=(X[3500:], y[3500:]), verbose=0)
    wrong = (100 - 100 * np.array([history[name] for history in histories]) for name in ("val_accuracy", "accuracy"))
    pairs = zip(networks.members, histories, strict=True)
    return Result(*wrong, [curve for model, history in pairs for curve in (history.step_loss, model.params)])


def reproduce() -> Outcome:
    results = {retained: train(retained) for retained in RETAINED}
    means = {retained: result.last.mean() for retained, result in results.items()}
    best, flat = min(means[retained] for retained in RETAINED[:-1]), [means[0.4], means[0.6], means[0.8]]
    claims = [
        Claim(
            "dropout makes the test error smaller",
            f"{TABLE_2[0]:.2f} % without, {TABLE_2[1]:.2f} % with it and rectified units (table 2)",
            f"{means[1.0]:.1f} % without, {best:.1f} % with it, means of {len(results[1.0].last)} networks",
            bool(best < 0.9 * means[1.0]),
        ),
        Claim(
            "the error is flat where 0.4 to 0.8 of the units are retained",
            "figure 9a",
            f"{', '.join(f'{error:.1f}' for error in flat)} % with 0.4, 0.6 and 0.8",
            max(flat) < 1.15 * min(flat),
        ),
        Claim(
            "and higher beyond either end",
            "figure 9a",
            f"{means[0.1]:.1f} % with 0.1, {means[1.0]:.1f} % with all",
            bool(min(means[0.1], means[1.0]) > max(flat)),
        ),
    ]
    curves = [curve for result in results.values() for curve in result.curves]
    return Outcome(claims, curves, lambda path: draw(results, path))


def draw(results: dict[float, Result], path) -> None:
    figure = Figure(figsize=(10.5, 4.2), dpi=120, layout="constrained")
    left, right = figure.subplots(1, 2)
    for retained, color, name in ((1.0, nbbp.plots.COLORS[1], "without"), (0.6, nbbp.plots.COLORS[0], "with dropout")):
        epochs = np.arange(1, results[retained].test.shape[1] + 1)
        left.plot(epochs, results[retained].test.T, color=color, linewidth=1)
        left.plot([], color=color, label=f"{name}: {len(results[retained].test)} networks")
    left.set(xlabel="epoch", title="wrong test digits, %", yscale="log")
    left.yaxis.set_major_formatter("{x:g}")
    left.yaxis.set_minor_formatter("{x:g}")
    left.legend(frameon=False)
    last = np.array([result.last for result in results.values()])
    right.plot(list(results), last.mean(axis=1), "-", color=nbbp.plots.COLORS[0], label="test: mean, and networks")
    right.plot(list(results), last, "o", color=nbbp.plots.COLORS[0], markersize=4)
    training = [result.training[:, -5:].mean() for result in results.values()]
    right.plot(list(results), training, "--", color="gray", label="training, with units dropped")
    right.axvspan(0.4, 0.8, color="gray", alpha=0.12, linewidth=0, label="flat in figure 9a")
    right.set(xlabel="share of the hidden units that is retained", title="wrong digits in the end, %", ylim=(0, None))
    right.legend(frameon=False)
    for axis in (left, right):
        axis.grid(alpha=0.25, linewidth=0.6, which="both")
        axis.spines[["top", "right"]].set_visible(False)
    figure.savefig(path)


if __name__ == "__main__":
    main(reproduce)
