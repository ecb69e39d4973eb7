"""Outputs of a network for any number of rows, a block at a time through bound programs."""

import numpy as np

from nbbp import program as prog
from nbbp.activations import ACTIVATIONS
from nbbp.losses import Loss
from nbbp.network import Network
from nbbp.program import Program, Runner

BLOCK_ROWS = 512


class Predictor:
    """Forward passes of blocks of 1, 2, 4, ... rows, each bound when it is first needed."""

    def __init__(self, network: Network, backend: str) -> None:
        self.network, self.backend = network, backend
        self._bound: dict[int, tuple[np.ndarray, np.ndarray, Runner]] = {}

    def outputs(self, x: np.ndarray) -> np.ndarray:
        """What the network puts out, before the loss's link: (rows, outputs)."""
        rows = len(x)
        z = np.empty((rows, int(np.prod(self.network.layout.output_shape))), x.dtype)
        block = min(BLOCK_ROWS, 1 << (rows - 1).bit_length())
        if block not in self._bound:
            self._bound[block] = self._bind(block)
        x_block, z_block, runner = self._bound[block]
        for begin in range(0, rows, block):
            end = min(begin + block, rows)
            x_block[: end - begin] = x[begin:end]
            runner.once()
            z[begin:end] = z_block[: end - begin]
        return z

    def _bind(self, rows: int) -> tuple[np.ndarray, np.ndarray, Runner]:
        program = Program(self.backend, self.network.params.dtype, rows, training=False)
        x = self.network.input(program)
        bound = self.network.forward(program, x)
        return x, bound.z, Runner(program, prog.clock())


def linked(z: np.ndarray, loss: Loss, backend: str) -> np.ndarray:
    """Predictions: outputs after the loss's link, overwritten."""
    link = ACTIVATIONS[loss.link]
    if link.name != "linear":
        program = Program(backend, z.dtype, len(z), training=False)
        program.call(link.forward, link.shaped(z))
        Runner(program, prog.clock()).once()
    return z


def mean_loss(z: np.ndarray, target: np.ndarray, loss: Loss, backend: str) -> float:
    """Mean loss of outputs z (rows, outputs)."""
    program = Program(backend, z.dtype, len(z), training=False)
    row_loss = program.buffer(len(z))
    program.call(loss.kernel(target), row_loss, program.buffer(*z.shape), z, target, np.ones(len(z), z.dtype))
    Runner(program, prog.clock()).once()
    return float(np.mean(row_loss, dtype=np.float64))
