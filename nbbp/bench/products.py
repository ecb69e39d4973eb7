"""The three products of a layer as a share of the FMA peak: forward, input gradient, weight gradient."""

import dataclasses
import time

import numpy as np

import nbbp
from nbbp.bench.networks import Network
from nbbp.bench.peak import fma_peak
from nbbp.engine.program import Program
from nbbp.engine.runner import Runner
from nbbp.kernels import threads

SIZES = (16, 48, 63, 64, 96, 127, 128, 192, 255, 256, 384, 511, 512, 768, 1023, 1024, 1536, 2047, 2048)
SECONDS = 0.05  # per measurement
REPEATS = 5

DENSE = {str(size): (Network((size,), (nbbp.Dense(size),)), size) for size in SIZES}
"""A dense layer and the number of its rows, by the size of a batch, of inputs and of outputs."""


@dataclasses.dataclass(frozen=True)
class Share:
    """Shares of the FMA peak of all threads."""

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


def programs(layer: Network, rows: int, dtype: str = "float32") -> tuple[Program, Program, Program]:
    """What a network of one layer binds for `rows` rows: forward, input gradient, weight gradient.

    Each pads and packs its own operands; the weight gradient reads the inputs that forward has padded.
    """
    model = nbbp.Sequential([nbbp.Input(layer.shape), *layer.layers], dtype=dtype)
    network = model.network

    def bound(backward: bool, to_inputs: bool = False) -> Program:
        program = Program("numba", dtype, rows)
        forward = network.forward(program, network.inputs(program))
        if backward:
            program.calls.clear()
            program.once.clear()
            slope = program.buffer(rows, *network.graph.outputs[0].shape)
            network.backward(program, forward, [slope], network.grads, to_inputs)
        return program

    weights, both, inputs = bound(True), bound(True, True), Program("numba", dtype, rows)
    inputs.calls += [*both.once, *both.calls[len(weights.calls) :]]
    return bound(False), inputs, weights


def measure(layer: Network, rows: int, dtype: str = "float32") -> Share:
    """Time the three products of a network of one layer for `rows` rows."""
    operations, peak = rows * sum(layer.products), fma_peak(threads.count(), dtype)
    return Share(*(_flops(Runner(program), operations) / peak for program in programs(layer, rows, dtype)))
