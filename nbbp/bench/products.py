"""The three products of a dense layer as a share of the FMA peak: forward, input gradient, weight gradient."""

import dataclasses
import time

import numpy as np

import nbbp
from nbbp.bench.peak import fma_peak
from nbbp.engine import program as prog
from nbbp.engine.layer import Views
from nbbp.engine.program import Program, Runner
from nbbp.kernels import threads

SIZES = (16, 48, 63, 64, 96, 127, 128, 192, 255, 256, 384, 511, 512, 768, 1023, 1024, 1536, 2047, 2048)
SECONDS = 0.05  # of a measurement
REPEATS = 5


@dataclasses.dataclass(frozen=True)
class Share:
    """Shares of the FMA peak of all threads, for a batch, inputs and outputs of one size."""

    size: int
    forward: float
    input_gradient: float
    weight_gradient: float


def _flops(runner: Runner, operations: int) -> float:
    """Operations a second, best of some repeats."""
    runner.once()
    begin = time.perf_counter()
    runner.once()
    steps = max(1, int(SECONDS / (time.perf_counter() - begin)))
    best = np.inf
    for _ in range(REPEATS):
        runner.clock[:] = 0
        runner.clock[prog.END], runner.clock[prog.BATCHES] = steps, steps + 1
        begin = time.perf_counter()
        runner.run()
        best = min(best, (time.perf_counter() - begin) / steps)
    return operations / best


def measure(size: int, dtype: str = "float32") -> Share:
    """Time the calls that a dense layer of size x size binds for `size` rows."""
    rng = np.random.default_rng(0)
    x, dy, w = (rng.standard_normal((size, size)).astype(dtype) for _ in range(3))
    y, dx, dw = (np.zeros((size, size), dtype) for _ in range(3))
    p, g = Views(w=w, b=np.zeros(size, dtype)), Views(w=dw, b=np.zeros(size, dtype))
    layer = nbbp.Dense(size)

    def bound(forward: bool, dx: np.ndarray | None = None) -> Program:
        program = Program("numba", dtype, size)
        if forward:
            layer.forward(program, y, x, p)
        else:
            layer.backward(program, dx, dy, x, y, p, g, None)
        return program

    weights, both, inputs = bound(False), bound(False, dx), Program("numba", dtype, size)
    inputs.calls += both.calls[len(weights.calls) :]
    operations, peak = 2 * size**3, fma_peak(threads.count(), dtype)
    shares = (_flops(Runner(program), operations) / peak for program in (bound(True), inputs, weights))
    return Share(size, *shares)
