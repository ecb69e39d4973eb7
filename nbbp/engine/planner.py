"""How a step is cut: which rows go through the network by themselves, and on how many cores."""

import itertools
import math

from nbbp.engine.graph import Graph
from nbbp.engine.network import Network
from nbbp.engine.program import Program, Shards
from nbbp.kernels import threads

SHARD_NUMBERS = (1, 2, 4, 8, 16)  # that a mini-batch is cut into: their gradients are added as a balanced tree
SHARD_USES = 64  # of each parameter in a shard, at least, unless the user says how many shards there are
RECURRENT_ROWS = 16  # in a shard, at least, of layers whose products have the rows of one step: two register tiles
FEW_PARAMETERS = 32_768  # beyond this, adding the shards' gradients may cost more than the forks,
PARAMETERS_A_USE = 96  # unless each of them is used by a row and in a shard so often that these are few for each use


def uses(graph: Graph) -> float:
    """How many times a row uses each parameter on average: 1 in dense layers of features, many in convolutions."""
    parameters = products = 0
    for node in graph.nodes:
        size = sum(math.prod(parameter.shape) for parameter in node.spec.parameters.values())
        ends = [math.prod(edge.shape[:-1]) for edge in (node.inputs[0], node.outputs[0])]
        each = ends[0] if node.layer.recurrent else min(ends)  # its last step alone may be the output
        parameters, products = parameters + size, products + size * each
    return products / max(parameters, 1)


def number_of_shards(rows: int, parameters: int, uses: float = 1.0, recurrent: bool = False) -> int:
    """The number of shards of a mini-batch: rows that go through the whole network by themselves, each on one thread.

    With several shards, a step has one fork and join instead of one for each kernel, and what a shard computes
    stays in its core's cache; but every shard has its own gradients, which must be added. The number depends on
    shapes alone, never on threads: it determines the order in which gradients are summed, and thus their bits. Rows
    that use each parameter several times count as so many, except that recurrent layers need rows for each step.
    """
    most = min(rows / RECURRENT_ROWS if recurrent else rows, rows * uses / SHARD_USES)
    if parameters > FEW_PARAMETERS:
        most = min(most, rows * uses * uses * PARAMETERS_A_USE / parameters)
    return max(number for number in SHARD_NUMBERS if number <= max(1, most))


def cut(rows: int, count: int) -> list[slice]:
    """The rows of each shard, from n i // count to n (i + 1) // count; of n < count rows, some shards have none."""
    edges = [rows * i // count for i in range(count + 1)]
    return [slice(a, b) for a, b in itertools.pairwise(edges)]


def lanes(shards: int, threads: int) -> list[slice]:
    """The shards of each lane, which run one after the other in the same buffers.

    There is a lane for each thread, or as few as take no longer: 16 shards on 12 threads are 8 lanes of two.
    """
    each = max(1, -(-shards // threads))
    return cut(shards, max(1, -(-shards // each)))


def shards(network: Network, rows: int, count: int | None = None) -> list[slice]:
    """The shards of a mini-batch of this network: `count` of them, or as many as its shapes decide.

    Raises
    ------
    ValueError
        If rows depend on each other, and a shard has fewer than two.
    """
    graph = network.graph
    coupling = [type(node.layer).__name__ for node in graph.nodes if node.spec.couples_rows]
    if coupling and count is not None and count > 1 and rows < 2 * count:
        raise ValueError(
            f"{coupling[0]} takes its statistics from the rows of a shard, two at least, and a mini-batch of {rows} "
            f"rows has fewer in some of {count} shards: take fewer shards, or another batch_size"
        )
    if count is None:
        recurrent = any(node.layer.recurrent for node in graph.nodes)
        count = 1 if coupling else number_of_shards(rows, network.layout.size, uses(graph), recurrent)
    return cut(rows, count)


FORK_CYCLES, CYCLES_A_CORE = 5_000, 1_000  # of a fork and join, and for each core more: lines that travel


def expected_cycles(program: Program, cores: int) -> float:
    """The approximate number of processor cycles of one run on so many cores."""
    total = 0.0
    for bound in program.calls:
        cycles, most = bound.cycles(), float(cores)
        if isinstance(bound, Shards):
            longest = max(lane.stop - lane.start for lane in bound.lanes)
            most = len(bound.programs) / (longest * -(-len(bound.lanes) // cores))  # the last lanes leave some idle
        shared = cores > 1 and (threads.is_long(cycles) or getattr(bound, "awake", False))
        total += cycles / most + FORK_CYCLES + CYCLES_A_CORE * cores if shared else cycles
    return total


def cores(program: Program) -> int:
    """The number of cores on which a run of the program is expected to take the least time."""
    most = threads.count()
    numbers = [*(2**k for k in range(most.bit_length()) if 2**k < most), most]
    return min(numbers, key=lambda number: expected_cycles(program, number))
