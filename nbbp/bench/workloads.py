"""The training workloads, in one table: each step gathers a shuffled mini-batch and ends with Adam's update."""

import dataclasses
from typing import ClassVar

import numpy as np


@dataclasses.dataclass(frozen=True)
class Workload:
    """A network of dense layers with one activation between them.

    `sizes` are the widths from input to output; `loss` is softmax_cross_entropy with labels, or mse.
    """

    name: str
    sizes: tuple[int, ...]
    activation: str
    batch: int
    rows: int
    loss: str = "softmax_cross_entropy"

    optimizer: ClassVar[str] = "Adam"

    @property
    def steps(self) -> int:
        """The number of steps in an epoch; the rows are whole mini-batches."""
        return self.rows // self.batch

    @property
    def features(self) -> int:
        """The number of a row's inputs."""
        return self.sizes[0]

    @property
    def parameters(self) -> int:
        """The number of weights and biases."""
        return sum((n_in + 1) * n_out for n_in, n_out in zip(self.sizes, self.sizes[1:], strict=False))

    @property
    def flops(self) -> int:
        """Operations of a step's products: forward, weight gradient, and input gradient beyond the first layer."""
        products = [2 * self.batch * n_in * n_out for n_in, n_out in zip(self.sizes, self.sizes[1:], strict=False)]
        return 3 * sum(products) - products[0]

    def data(self) -> tuple[np.ndarray, np.ndarray]:
        rng = np.random.default_rng(0)
        x = rng.standard_normal((self.rows, self.sizes[0]), dtype=np.float32)
        if self.loss == "mse":
            return x, rng.standard_normal((self.rows, self.sizes[-1]), dtype=np.float32)
        return x, rng.integers(0, self.sizes[-1], self.rows)


@dataclasses.dataclass(frozen=True)
class Prediction:
    """Probabilities of `rows` images from a 784-128-10 relu network, an array in and an array out."""

    name: str
    rows: int

    steps = 1

    def weights(self) -> list[tuple[np.ndarray, np.ndarray]]:
        """The weights and biases (w, b) of both layers."""
        rng = np.random.default_rng(0)
        shapes = (784, 128), (128, 10)
        return [
            (rng.standard_normal(shape, dtype=np.float32) / 16, rng.standard_normal(shape[1], dtype=np.float32))
            for shape in shapes
        ]

    def data(self) -> np.ndarray:
        return np.random.default_rng(1).random((self.rows, 784), dtype=np.float32)


PREDICTIONS = {f"predict-{rows}": Prediction(f"predict-{rows}", rows) for rows in (1, 16, 64, 256, 1_000, 10_000)}

WORKLOADS = {
    workload.name: workload
    for workload in (
        Workload("xor", (2, 2, 2), "sigmoid", 4, 20_000),
        Workload("online", (784, 30, 10), "sigmoid", 1, 5_000),
        Workload("toy", (10, 10, 1), "relu", 1000, 100_000, "mse"),
        Workload("sci", (2, 64, 64, 64, 1), "tanh", 256, 25_600, "mse"),
        Workload("mnist", (784, 128, 10), "relu", 64, 12_800),
        Workload("tab", (54, 256, 256, 7), "relu", 256, 25_600),
        Workload("simplechains", (4, 32, 16, 4), "tanh", 10_000, 200_000),
        Workload("wide", (1024, 2048, 2048, 1000), "relu", 512, 2_048),
    )
}
