"""A 10-10-1 relu network with Adam on 1,000 random rows, full batch for 1,000 epochs: how much noise it can learn."""

import pathlib
import sys

import numpy as np

import nbbp


def train(epochs: int = 1000, verbose: int = 1) -> nbbp.History:
    rng = np.random.default_rng(0)
    X, y = rng.standard_normal((1000, 10)), rng.standard_normal((1000, 1))
    model = nbbp.Sequential(
        [nbbp.Dense(10, activation="relu"), nbbp.Dense(1)],
        loss="mse",
        optimizer=nbbp.Adam(0.01),
    )
    return model.fit(X, y, epochs=epochs, batch_size=1000, verbose=verbose)


if __name__ == "__main__":
    picture = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else "plots/random_regression.png")
    picture.parent.mkdir(parents=True, exist_ok=True)
    history = train()
    history.plot(picture)
    print(f"loss {history['loss'][0]:.3f} at first, {history['loss'][-1]:.3f} after {len(history)} epochs")
