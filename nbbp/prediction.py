"""Outputs of a network for any number of rows, a block at a time through bound programs."""

import threading

import numpy as np

from nbbp.activations import ACTIVATIONS
from nbbp.losses import Loss
from nbbp.network import Network
from nbbp.program import Program, Runner
from nbbp.training import Data

BLOCK_ROWS = 512


class Predictor:
    """Forward passes of blocks of 1, 2, 4, ... rows, each bound when it is first needed.

    Parameters
    ----------
    network : Network
    backend : {"numba", "numpy"}
    link : str
        The activation that the outputs go through, "linear" for none.
    """

    def __init__(self, network: Network, backend: str, link: str = "linear") -> None:
        self.network, self.backend, self.link = network, backend, ACTIVATIONS[link]
        self._bound: dict[int, tuple[np.ndarray, np.ndarray, Runner]] = {}
        self._lock = threading.Lock()  # blocks are shared, and kernels let go of the GIL

    def __call__(self, x: np.ndarray) -> np.ndarray:
        """Outputs (rows, outputs) of x (rows, *input_shape)."""
        with self._lock:
            return self._predict(x)

    def _predict(self, x: np.ndarray) -> np.ndarray:
        rows = len(x)
        block = min(BLOCK_ROWS, 1 << (rows - 1).bit_length())
        bound = self._bound.get(block)
        if bound is None:
            bound = self._bound[block] = self._bind(block)
        x_block, z_block, runner = bound
        if rows == block:
            x_block[:] = x
            runner.once()
            return z_block.copy()
        z = np.empty((rows, z_block.shape[1]), x.dtype)
        for begin in range(0, rows, block):
            end = min(begin + block, rows)
            x_block[: end - begin] = x[begin:end]
            runner.once()
            z[begin:end] = z_block[: end - begin]
        return z

    def _bind(self, rows: int) -> tuple[np.ndarray, np.ndarray, Runner]:
        program = Program(self.backend, self.network.params.dtype, rows, training=False)
        x = self.network.input(program)
        z = self.network.forward(program, x).y.reshape(rows, -1)
        if self.link.name != "linear":
            program.call(self.link.forward, self.link.shaped(z))
        return x, z, Runner(program)


def linked(z: np.ndarray, loss: Loss, backend: str) -> np.ndarray:
    """Predictions: outputs (rows, outputs) after the loss's link, overwritten."""
    link = ACTIVATIONS[loss.link]
    if link.name != "linear":
        program = Program(backend, z.dtype, len(z), training=False)
        program.call(link.forward, link.shaped(z))
        Runner(program).once()
    return z


def mean_loss(z: np.ndarray, data: Data, loss: Loss, backend: str) -> float:
    """Mean loss of outputs z (rows, outputs), each row's times its weight."""
    program = Program(backend, z.dtype, len(z), training=False)
    row_loss = program.buffer(len(z))
    scale, target = np.ones(len(z), z.dtype), data.target
    loss.bind(program, row_loss, program.buffer(*z.shape), z, target, scale)
    Runner(program).once()
    return float(np.mean(row_loss if data.weights is None else row_loss * data.weights, dtype=np.float64))
