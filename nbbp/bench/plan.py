"""What is planned for machines with other numbers of cores: shards, owners, and the time that is expected."""

import dataclasses
from collections.abc import Sequence

from nbbp.bench.peers import nbbp
from nbbp.bench.workloads import WORKLOADS
from nbbp.engine import planner
from nbbp.kernels import threads

CORES = (1, 2, 4, 8, 16, 64)


@dataclasses.dataclass(frozen=True)
class Plan:
    """A training step on some number of cores.

    Attributes
    ----------
    shards : int
        Parts of the mini-batch that go through the network by themselves; with one, cores share operations.
    owners : list of int
        For each matrix of weights that is cut, the number of cores that own its columns.
    used : int
        The number of cores on which training begins.
    gain : float
        How many times as fast as on one core a step is expected to be.
    """

    workload: str
    cores: int
    shards: int
    owners: list[int]
    used: int
    gain: float


def plans(names: Sequence[str] = tuple(WORKLOADS), cores: Sequence[int] = CORES) -> list[Plan]:
    """The plans of some workloads; nothing is run."""
    found = []
    for name in names:
        for number in cores:
            with threads.assuming(number):
                trainer = nbbp.trainer(WORKLOADS[name])
                program = trainer.runner.program
                used = planner.cores(program)
                gain = planner.expected_cycles(program, 1) / planner.expected_cycles(program, used)
            shards = len(planner.shards(trainer.network, program.rows))
            owners = [len(matrix.blocks) for matrix in trainer.owners.matrices]
            found.append(Plan(name, number, shards, owners, used, gain))
    return found
