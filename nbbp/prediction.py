"""Outputs of a network for any number of rows, through bound programs.

Few rows go through a block of 1, 2, 4, ... rows. Many go block after block in one compiled run, each block in lanes
that copy their rows into their core's cache and take them through the whole network.
"""

import numpy as np

from nbbp import program as prog
from nbbp.activations import ACTIVATIONS
from nbbp.kernels import forks
from nbbp.losses import Loss
from nbbp.network import Network
from nbbp.program import Call, Program, Runner
from nbbp.training import Data

BLOCK_ROWS = 512
LANE_ROWS = 128  # of a block that go through the network by themselves, on one thread
LANE_BYTES = 1 << 20  # of parameters at most: they stay in the second-level cache of every core

Lane = tuple[int, np.ndarray, np.ndarray, Call, Call]
"""First row, buffers of x and z, and the calls that read into the one and record the other."""


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
        self._blocks: tuple[Runner, list[Lane]] | None = None
        self._outputs = int(np.prod(network.layout.output_shape))
        self._lock = forks.lock()  # blocks are shared, and kernels let go of the GIL

    def __call__(self, x: np.ndarray) -> np.ndarray:
        """Outputs (rows, outputs) of x (rows, *input_shape)."""
        with self._lock:
            return self._predict(x)

    def _predict(self, x: np.ndarray) -> np.ndarray:
        rows = len(x)
        if rows > BLOCK_ROWS:
            return self._predict_blocks(x)
        block = 1 << max(0, rows - 1).bit_length()
        bound = self._bound.get(block)
        if bound is None:
            bound = self._bound[block] = self._bind(block)
        x_block, z_block, runner = bound
        x_block[:rows] = x
        runner.once()
        return z_block[:rows].copy()

    def _predict_blocks(self, x: np.ndarray) -> np.ndarray:
        """Block after block in one run; the rows that are left by themselves."""
        if self._blocks is None:
            self._blocks = self._bind_blocks()
        runner, lanes = self._blocks
        x_flat, z = x.reshape(len(x), -1), np.empty((len(x), self._outputs), x.dtype)
        whole = len(x) // BLOCK_ROWS
        for begin, x_lane, z_lane, read, record in lanes:
            read.rebind(x_lane, x_flat[begin:], runner.clock)
            record.rebind(z[begin:], z_lane, runner.clock)
        runner.clock[:] = 0
        runner.clock[prog.END], runner.clock[prog.BATCHES] = whole, whole + 1
        runner.run()
        for *_, read, record in lanes:  # the caller's arrays are not kept alive
            read.arrays = record.arrays = ()
        if rest := len(x) - whole * BLOCK_ROWS:
            z[-rest:] = self._predict(x[-rest:])
        return z

    def _bind_blocks(self) -> tuple[Runner, list[Lane]]:
        """A runner from block to block, and its lanes."""
        params = self.network.params
        program = Program(self.backend, params.dtype, BLOCK_ROWS, training=False)
        rows = LANE_ROWS if params.nbytes <= LANE_BYTES else BLOCK_ROWS
        lanes, parts = [], []
        for begin in range(0, BLOCK_ROWS, rows):
            part = program.part(slice(begin, begin + rows))
            x = self.network.input(part)
            flat = x.reshape(rows, -1)
            read = part.call(prog.read_rows, flat, np.zeros((1, flat.shape[1]), params.dtype), program.clock)
            z = self._bind_forward(part, x)
            record = part.call(prog.record_rows, np.zeros((1, self._outputs), params.dtype), z, program.clock)
            lanes.append((begin, flat, z, read, record))
            parts.append(part)
        if len(parts) > 1:
            program.call_lanes(parts)
        else:
            program.calls += parts[0].calls
        return Runner(program), lanes

    def _bind(self, rows: int) -> tuple[np.ndarray, np.ndarray, Runner]:
        program = Program(self.backend, self.network.params.dtype, rows, training=False)
        x = self.network.input(program)
        z = self._bind_forward(program, x)
        return x, z, Runner(program)

    def _bind_forward(self, program: Program, x: np.ndarray) -> np.ndarray:
        z = self.network.forward(program, x).y.reshape(program.rows, -1)
        if self.link.name != "linear":
            program.call(self.link.forward, self.link.shaped(z))
        return z


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
    weights = 1.0 if data.weights is None else data.weights
    return float(np.mean(np.multiply(row_loss, weights, dtype=np.float64)))
