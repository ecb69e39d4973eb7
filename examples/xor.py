"""XOR by a 2-2-1 sigmoid network and full-batch gradient descent, without biases and with them.

Without biases the input (0, 0) gives 1/2 in every hidden unit whatever the weights, so that the network cannot learn
all four rows; with biases it solves the problem.
"""

import pathlib
import sys

import numpy as np

import nbbp

X = np.array([[0, 0], [0, 1], [1, 0], [1, 1]])
Y = np.array([[0], [1], [1], [0]])


def train(use_bias: bool, epochs: int = 20_000, verbose: int = 1) -> tuple[nbbp.Sequential, nbbp.History]:
    layers = [
        nbbp.Dense(units, activation="sigmoid", use_bias=use_bias, initializer=nbbp.initializers.normal(1.0))
        for units in (2, 1)
    ]
    model = nbbp.Sequential(layers, loss="half_mse", optimizer=nbbp.SGD(1.0), seed=1)
    return model, model.fit(X, Y, epochs=epochs, batch_size=4, shuffle=False, verbose=verbose)


if __name__ == "__main__":
    picture = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else "plots/xor.png")
    picture.parent.mkdir(parents=True, exist_ok=True)
    histories = {}
    for use_bias, label in ((False, "without biases"), (True, "with biases")):
        model, histories[label] = train(use_bias)
        outputs = ", ".join(f"{p:.3f}" for p in model.predict(X)[:, 0])
        print(f"{label}: loss {histories[label]['loss'][-1]:.5f}, outputs {outputs}")
    nbbp.plots.loss_curves(histories, picture, log=True)
