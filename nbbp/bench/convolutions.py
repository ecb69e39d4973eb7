"""Convolutional networks: the workloads of their training and prediction, and the products of single layers."""

import dataclasses
import math
from typing import ClassVar

import numpy as np

from nbbp import Activation, BatchNorm, Conv1D, Conv2D, Dense, Flatten, GlobalAveragePool, MaxPool2D
from nbbp.bench.networks import Network

CLASSES = 10


@dataclasses.dataclass(frozen=True)
class Convolution:
    """A network and its mini-batches, gathered from shuffled rows.

    `loss` is softmax_cross_entropy with labels, or mse with one-hot targets.
    """

    name: str
    network: Network
    batch: int
    steps: int
    loss: str = "softmax_cross_entropy"

    optimizer: ClassVar[str] = "Adam"

    @property
    def rows(self) -> int:
        """The rows of an epoch."""
        return self.batch * self.steps

    @property
    def features(self) -> int:
        """The number of a sample's inputs."""
        return math.prod(self.network.shape)

    @property
    def parameters(self) -> int:
        """The number of trained parameters."""
        return self.network.parameters

    @property
    def flops(self) -> int:
        """Operations of a step's products: forward, weight gradient, and input gradient beyond the first layer."""
        products = self.network.products
        return self.batch * (3 * sum(products) - products[0])

    def data(self) -> tuple[np.ndarray, np.ndarray]:
        """Samples (rows, *positions, channels), and labels or targets."""
        rng = np.random.default_rng(0)
        x = rng.random((self.rows, *self.network.shape), dtype=np.float32)
        labels = rng.integers(0, CLASSES, self.rows)
        return x, np.eye(CLASSES, dtype=np.float32)[labels] if self.loss == "mse" else labels


@dataclasses.dataclass(frozen=True)
class ConvolutionPrediction:
    """Probabilities of `rows` samples, an array in and an array out."""

    name: str
    network: Network
    rows: int

    steps = 1

    def data(self) -> np.ndarray:
        """Samples (rows, *positions, channels)."""
        return np.random.default_rng(1).random((self.rows, *self.network.shape), dtype=np.float32)


LENET = Network(
    (28, 28, 1),
    (
        Conv2D(6, 5, padding="same", activation="tanh"),
        MaxPool2D(2),
        Conv2D(16, 5, activation="tanh"),
        MaxPool2D(2),
        Flatten(),
        Dense(120, activation="tanh"),
        Dense(84, activation="tanh"),
        Dense(CLASSES),
    ),
)
"""LeNet-5 with pools of maxima. LeCun et al., "Gradient-based learning applied to document recognition", 1998."""

VGG = Network(
    (32, 32, 3),
    (
        Conv2D(32, 3, padding="same", activation="relu"),
        Conv2D(32, 3, padding="same", activation="relu"),
        MaxPool2D(2),
        Conv2D(64, 3, padding="same", activation="relu"),
        Conv2D(64, 3, padding="same", activation="relu"),
        MaxPool2D(2),
        Flatten(),
        Dense(CLASSES),
    ),
)
"""A small one of the kind in Simonyan and Zisserman, "Very deep convolutional networks", 2014."""

SERIES = Network(
    (150, 1),
    (
        *(Conv1D(128, 8, padding="same"), BatchNorm(), Activation("relu")),
        *(Conv1D(256, 5, padding="same"), BatchNorm(), Activation("relu")),
        *(Conv1D(128, 3, padding="same"), BatchNorm(), Activation("relu")),
        GlobalAveragePool(),
        Dense(CLASSES),
    ),
)
"""Wang, Yan and Oates, "Time series classification from scratch with deep neural networks", 2017."""

LECUN_1989 = Network(
    (16, 16, 1),
    (
        Conv2D(12, 5, 2, padding=2, activation="tanh"),  # two on each side, as PyTorch has it too
        Conv2D(12, 5, 2, padding=2, activation="tanh"),
        Flatten(),
        Dense(30, activation="tanh"),
        Dense(CLASSES),
    ),
)
"""LeCun et al., "Backpropagation applied to handwritten zip code recognition", 1989, with all channels connected."""

CONVOLUTIONS = {
    workload.name: workload
    for workload in (
        Convolution("lenet-128", LENET, 128, 8),
        Convolution("lenet-32", LENET, 32, 16),
        Convolution("vgg", VGG, 64, 8),
        Convolution("series", SERIES, 16, 8),
        Convolution("lecun-1989", LECUN_1989, 1, 500, "mse"),
    )
}

CONVOLUTION_PREDICTIONS = {
    f"predict-{name}": ConvolutionPrediction(f"predict-{name}", CONVOLUTIONS[name].network, CONVOLUTIONS[name].batch)
    for name in ("lenet-128", "lenet-32", "vgg", "series")
}

PRODUCTS = {
    f"{rows} x {length}x{length}x{channels}, {size}x{size}": (
        Network((length, length, channels), (Conv2D(channels, size, padding="same"),)),
        rows,
    )
    for rows, length, channels, sizes in (
        (8, 56, 64, (3, 1)),
        (8, 28, 128, (3, 1)),
        (16, 14, 256, (3, 1)),
        (64, 32, 32, (3,)),
    )
    for size in sizes
}
"""A layer and the number of its images: images x height x width x channels, windows; as many filters as channels."""
