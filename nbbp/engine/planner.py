"""How a step is cut: which rows go through the network by themselves, and on how many cores."""

import itertools
import math

from nbbp.engine.graph import Graph
from nbbp.engine.network import Network
from nbbp.engine.program import Program, Shards
from nbbp.kernels import threads

SHARD_ROWS = 64  # in a shard, at least
SHARD_PARAMETERS = 32_768  # beyond this, adding the shards' gradients costs more than the forks


def uses(graph: Graph) -> float:
    """How many times a row uses each parameter on average: 1 in dense layers of features, many in convolutions."""
    parameters = products = 0
    for node in graph.nodes:
        size = sum(math.prod(parameter.shape) for parameter in node.spec.parameters.values())
        ends = node.inputs[0].shape, node.outputs[0].shape
        parameters, products = parameters + size, products + size * min(math.prod(shape[:-1]) for shape in ends)
    return products / max(parameters, 1)


def cut(rows: int, parameters: int, uses: float = 1.0) -> list[slice]:
    """The shards of a mini-batch: rows that go through the whole network by themselves, one thread to a shard.

    With several shards, a step has one fork and join instead of one for each kernel, and what a shard computes
    stays in its core's cache; but every shard has its own gradients, which must be added. The cut depends on
    shapes alone, never on threads: it determines the order in which gradients are summed, and thus their bits. Rows
    that use each parameter several times count as so many.
    """
    count = 1
    while (
        parameters <= SHARD_PARAMETERS * uses
        and count < 16
        and rows >= 2 * count
        and rows * uses >= 2 * count * SHARD_ROWS
    ):
        count *= 2
    edges = [rows * i // count for i in range(count + 1)]
    return [slice(a, b) for a, b in itertools.pairwise(edges)]


def shards(network: Network, rows: int) -> list[slice]:
    """The shards of a mini-batch of this network; a single one if its rows depend on each other."""
    graph = network.graph
    return [slice(0, rows)] if graph.couples_rows else cut(rows, network.layout.size, uses(graph))


FORK_CYCLES, CYCLES_A_CORE = 5_000, 1_000  # of a fork and join, and for each core more: lines that travel


def expected_cycles(program: Program, cores: int) -> float:
    """The approximate number of processor cycles of one run on so many cores."""
    total = 0.0
    for bound in program.calls:
        cycles, most = bound.cycles(), float(cores)
        if isinstance(bound, Shards):
            count = len(bound.programs)
            most = count / -(-count // cores)  # with more programs than cores, the last ones leave some idle
        shared = cores > 1 and (threads.is_long(cycles) or getattr(bound, "awake", False))
        total += cycles / most + FORK_CYCLES + CYCLES_A_CORE * cores if shared else cycles
    return total


def cores(program: Program) -> int:
    """The number of cores on which a run of the program is expected to take the least time."""
    most = threads.count()
    numbers = [*(2**k for k in range(most.bit_length()) if 2**k < most), most]
    return min(numbers, key=lambda number: expected_cycles(program, number))
