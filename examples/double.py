"""The smallest network: one relu unit learns y = 2 x by stochastic gradient descent, a row at a time."""

import pathlib
import sys

import numpy as np

import nbbp

X = np.array([[1.0], [2.0], [3.0], [4.0]])
Y = 2 * X


def train(epochs: int = 100, verbose: int = 1) -> tuple[nbbp.Sequential, nbbp.History]:
    layer = nbbp.Dense(1, activation="relu", initializer=nbbp.initializers.constant(0.5))
    model = nbbp.Sequential([layer], loss="mse", optimizer=nbbp.SGD(0.01))
    return model, model.fit(X, Y, epochs=epochs, batch_size=1, verbose=verbose)


if __name__ == "__main__":
    picture = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else "plots/double.png")
    picture.parent.mkdir(parents=True, exist_ok=True)
    model, history = train()
    history.plot(picture, log=True)
    for name, value in model.named_params().items():
        print(f"{name} = {value.item():.5f}")
    for name, gradient in model.gradients(X, Y).items():
        print(f"gradient of {name}: {gradient.item():.2e}")
