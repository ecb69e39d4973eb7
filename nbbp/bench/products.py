"""The three products of a dense layer as a share of the FMA peak: forward, input gradient, weight gradient."""

import dataclasses
import time

import numpy as np

import nbbp
from nbbp.bench.peak import fma_peak
from nbbp.engine.program import Program
from nbbp.engine.runner import Runner
from nbbp.kernels import threads

SIZES = (16, 48, 63, 64, 96, 127, 128, 192, 255, 256, 384, 511, 512, 768, 1023, 1024, 1536, 2047, 2048)
SECONDS = 0.05  # per measurement
REPEATS = 5


@dataclasses.dataclass(frozen=True)
class Share:
    """Shares of the FMA peak of all threads, for a batch, inputs and outputs of one size."""

    size: int
    forward: float
    input_gradient: float
    weight_gradient: float


def _flops(runner: Runner, operations: int) -> float:
    """Operations per second, the best of some repeats."""
    runner.once()
    begin = time.perf_counter()
    runner.once()
    steps = max(1, int(SECONDS / (time.perf_counter() - begin)))
    best = np.inf
    for _ in range(REPEATS):
        runner.clock.set(end=steps, batches=steps + 1)
        begin = time.perf_counter()
        runner.run()
        best = min(best, (time.perf_counter() - begin) / steps)
    return operations / best


def measure(size: int, dtype: str = "float32") -> Share:
    """Time the calls that a dense layer of size x size binds for `size` rows."""
    model = nbbp.Sequential([nbbp.Input(size), nbbp.Dense(size)], dtype=dtype)
    network = model.network

    def bound(backward: bool, to_inputs: bool = False) -> Program:
        program = Program("numba", dtype, size)
        forward = network.forward(program, network.inputs(program))
        if backward:
            program.calls.clear()
            slope = program.buffer(size, size)
            network.backward(program, forward, [slope], network.grads, to_inputs)
        return program

    weights, both, inputs = bound(True), bound(True, True), Program("numba", dtype, size)
    inputs.calls += [*both.once, *both.calls[len(weights.calls) :]]
    operations, peak = 2 * size**3, fma_peak(threads.count(), dtype)
    shares = (_flops(Runner(program), operations) / peak for program in (bound(False), inputs, weights))
    return Share(size, *shares)
