"""A 64-32-10 network in NumPy, written out by hand, beside the same network in nbbp.

Both train on real digits from equal parameters, in the same order of rows; the losses are equal to rounding.
"""

import pathlib
import sys
import time

import numpy as np

import nbbp

RATE, BATCH = 0.1, 32


def train_by_hand(X, labels, w1, b1, w2, b2, epochs):
    """Forward pass, loss, chain rule, update."""
    losses = []
    for _ in range(epochs):
        for begin in range(0, len(X), BATCH):
            x, y = X[begin : begin + BATCH], labels[begin : begin + BATCH]
            rows = np.arange(len(x))

            h = np.maximum(x @ w1 + b1, 0)
            z = h @ w2 + b2
            p = np.exp(z - z.max(axis=1, keepdims=True))
            p /= p.sum(axis=1, keepdims=True)
            losses.append(-np.log(p[rows, y]).mean())

            dz = p
            dz[rows, y] -= 1
            dz /= len(x)
            dh = dz @ w2.T * (h > 0)
            w2 -= RATE * (h.T @ dz)
            b2 -= RATE * dz.sum(axis=0)
            w1 -= RATE * (x.T @ dh)
            b1 -= RATE * dh.sum(axis=0)
    return np.array(losses)


def compare(epochs: int = 20) -> nbbp.Comparison:
    """Train both networks, with their times."""
    X, y = nbbp.datasets.load_digits()
    model = nbbp.Sequential(
        [nbbp.Dense(32, activation="relu"), nbbp.Dense(10)],
        loss="softmax_cross_entropy",
        optimizer=nbbp.SGD(RATE),
    )
    model.build(64)
    model.with_backend("numba").fit(X, y, batch_size=BATCH, verbose=0)  # compiles
    by_hand = [p.copy() for p in model.named_params().values()]
    begin = time.perf_counter()
    history = model.fit(X, y, epochs=epochs, batch_size=BATCH, shuffle=False, verbose=0)
    middle = time.perf_counter()
    losses = train_by_hand(X, y, *by_hand, epochs)
    times = (middle - begin) / len(losses), (time.perf_counter() - middle) / len(losses)
    return nbbp.Comparison({}, history.step_loss, losses, *times)


if __name__ == "__main__":
    picture = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else "plots/by_hand.png")
    picture.parent.mkdir(parents=True, exist_ok=True)
    result = compare()
    result.plot(picture)
    print(result)
