"""Derivatives of predictions with respect to inputs."""

from collections.abc import Sequence

import numpy as np

from nbbp.activations import ACTIVATIONS
from nbbp.engine.data import Data
from nbbp.engine.network import Network
from nbbp.engine.passes import Passes
from nbbp.kernels import arrays


class Jacobian:
    """Derivatives of predictions for a number of rows: one backward pass for each output, layers as in prediction.

    Parameters
    ----------
    network : Network
    activations : sequence of str
        The activation that turns each output into predictions.
    masked : tuple of bool
        For each input, whether it has a mask; empty if none has.
    """

    def __init__(
        self, network: Network, backend: str, rows: int, activations: Sequence[str], masked: tuple[bool, ...] = ()
    ) -> None:
        unused = arrays.zeros(len(network.grads), network.dtype)
        self._passes = Passes(network, unused, backend, rows, training=False, masked=masked)
        self._activations = [ACTIVATIONS[name] for name in activations]
        if not any(slope is not None for slope in self._passes.input_slopes):
            raise TypeError("the inputs are integers, and predictions have no derivatives by them")

    def __call__(self, data: Data) -> np.ndarray:
        """An array (rows, outputs, inputs) of the model's dtype."""
        passes, columns = self._passes, []
        for mine, given in zip(passes.inputs + passes.masks, data.inputs + data.masks, strict=True):
            if mine is not None:
                mine[:] = given
        passes.forward.once()
        rows = len(passes.inputs[0])
        for k, (z, activation) in enumerate(zip(passes.outputs, self._activations, strict=True)):
            y = z.copy()
            activation.forward.reference(activation.shaped(y))
            read = activation.shaped(y if activation.from_output else z)
            for j in range(z[0].size):
                for slope in passes.slopes:
                    slope[:] = 0
                slope = passes.slopes[k]
                slope.reshape(rows, -1)[:, j] = 1
                activation.backward.reference(activation.shaped(slope), read)
                passes.backward(add=False).once()
                found = [dx.reshape(rows, -1) for dx in passes.input_slopes if dx is not None]
                columns.append(np.concatenate(found, axis=1))
        return np.stack(columns, axis=1)
