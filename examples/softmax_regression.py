"""Softmax regression, 2 features to 3 classes, trained on the squared error: three clouds of points in the plane."""

import pathlib
import sys

import numpy as np

import nbbp


def clouds(rows: int = 300, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Points around three centres, and the class of each."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 3, rows)
    centres = np.array([[0.0, 2.0], [-1.7, -1.0], [1.7, -1.0]])
    return centres[labels] + rng.normal(0, 0.7, (rows, 2)), labels


def train(epochs: int = 60, verbose: int = 1) -> nbbp.History:
    X, labels = clouds()
    model = nbbp.Sequential(
        [nbbp.Dense(3, activation="softmax")],
        loss="mse",
        optimizer=nbbp.SGD(0.5),
        metrics=["accuracy"],
    )
    return model.fit(X, np.eye(3)[labels], epochs=epochs, batch_size=10, verbose=verbose)


if __name__ == "__main__":
    picture = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else "plots/softmax_regression.png")
    picture.parent.mkdir(parents=True, exist_ok=True)
    history = train()
    history.plot(picture)
    print(f"accuracy {history['accuracy'][-1]:.3f}")
