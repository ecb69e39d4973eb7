"""Norms of parameters and of their gradients, one by one and layer by layer."""

from collections.abc import Mapping

import numpy as np


def norms(arrays: dict[str, np.ndarray]) -> dict[str, float]:
    """The Euclidean norm of each array in float64, without BLAS, whose threads would wait for those of the kernels."""
    return {name: float(np.sqrt(np.square(array, dtype=np.float64).sum())) for name, array in arrays.items()}


def by_layer(norms: Mapping[str, np.ndarray | float]) -> dict[str, np.ndarray]:
    """Norms of parameters combined into one per layer, from input to output: ``dense_0.w`` into ``dense_0``."""
    squares: dict[str, np.ndarray] = {}
    for name, values in norms.items():
        layer = name.rpartition(".")[0]
        squares[layer] = squares.get(layer, 0) + np.square(values)
    return {layer: np.sqrt(total) for layer, total in squares.items()}
