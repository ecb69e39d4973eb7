"""The smallest network: one relu unit learns y = 2 x by stochastic gradient descent, a row at a time."""

import pathlib

import numpy as np

import nbbp

PLOTS = pathlib.Path(__file__).parent.parent / "plots"
X = np.array([[1.0], [2.0], [3.0], [4.0]])
Y = 2 * X


def train(epochs: int = 100, verbose: int = 1) -> tuple[nbbp.Sequential, nbbp.History]:
    layer = nbbp.Dense(1, activation="relu", initializer=nbbp.initializers.constant(0.5))
    model = nbbp.Sequential([layer], loss="mse", optimizer=nbbp.SGD(0.01))
    return model, model.fit(X, Y, epochs=epochs, batch_size=1, verbose=verbose)


if __name__ == "__main__":
    model, history = train()
    history.plot(PLOTS / "double.png", log=True)
    for name, value in model.named_params().items():
        print(f"{name} = {value.item():.5f}")
    for name, gradient in model.gradients(X, Y).items():
        print(f"gradient of {name}: {gradient.item():.2e}")
