"""How a step is cut into shards."""

import itertools

from nbbp.engine.network import Network

SHARD_ROWS = 64  # in a shard, at least
SHARD_PARAMETERS = 32_768  # beyond this, adding the shards' gradients costs more than the forks


def cut(rows: int, parameters: int) -> list[slice]:
    """The shards of a mini-batch: rows that go through the whole network by themselves, one thread to a shard.

    With several shards, a step has one fork and join instead of one for each kernel, and what a shard computes
    stays in its core's cache; but every shard has its own gradients, which must be added. The cut depends on
    shapes alone, never on threads: it determines the order in which gradients are summed, and thus their bits.
    """
    count = 1
    while parameters <= SHARD_PARAMETERS and count < 16 and rows >= 2 * count * SHARD_ROWS:
        count *= 2
    edges = [rows * i // count for i in range(count + 1)]
    return [slice(a, b) for a, b in itertools.pairwise(edges)]


def shards(network: Network, rows: int) -> list[slice]:
    """The shards of a mini-batch of this network; a single one if its rows depend on each other."""
    return [slice(0, rows)] if network.graph.couples_rows else cut(rows, network.layout.size)
