"""Steps on one and on two ranks, a core each, with as many rows on each: nbbp beside PyTorch's DistributedDataParallel.

Each measurement has processes of its own, which `mpiexec` starts: ``python -m nbbp.bench.ranks PEER WORKLOAD SHARDS``.
"""

import dataclasses
import itertools
import os
import pathlib
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

from nbbp.bench.convolutions import CONVOLUTIONS
from nbbp.bench.workloads import WORKLOADS
from nbbp.distributed.ranks import SIZES
from nbbp.engine import planner

NAMES = "mnist", "tab", "wide", "lenet-128"
SECONDS = 1.0  # of a measurement


@dataclasses.dataclass
class Scaling:
    """The seconds of a step in each round, by peer and number of ranks, and of one process with eight shards."""

    workload: str
    rounds: dict[str, list[float]]

    def best(self, column: str) -> float:
        return min(self.rounds[column], default=float("nan"))

    def efficiency(self, peer: str) -> float:
        """The share of its speed that a rank keeps beside a second one."""
        return self.best(f"{peer} 1") / self.best(f"{peer} 2")


COLUMNS = {
    "nbbp 1": (1, "nbbp", 0), "nbbp 2": (2, "nbbp", 0), "torch 1": (1, "torch", 0), "torch 2": (2, "torch", 0),
    "all cores": (0, "nbbp", 0), "8 shards": (0, "nbbp", 8),
}  # fmt: skip
"""By column the number of ranks, 0 for a process on all cores; the peer; the number of shards, 0 for the default."""


def measure(rounds: int, show: Callable[[Scaling], None]) -> list[Scaling]:
    """Measure every workload, in rounds that go through the columns in turn."""
    found = []
    for name in NAMES:
        scaling = Scaling(name, {column: [] for column in COLUMNS})
        for _, (column, how) in itertools.product(range(rounds), COLUMNS.items()):
            seconds = _measured(name, *how)
            scaling.rounds[column] += [] if seconds is None else [seconds]
        show(scaling)
        found.append(scaling)
    return found


def _measured(name: str, ranks: int, peer: str, shards: int) -> float | None:
    """The seconds of a step; None if it cannot be measured here."""
    places = os.pathsep.join([str(pathlib.Path(sys.executable).parent), os.environ.get("PATH", "")])
    started = [shutil.which("mpiexec", path=places) or "mpiexec", "-bind-to", "core", "-n", str(ranks)] if ranks else []
    command = [*started, sys.executable, "-m", __name__, peer, name, str(shards)]
    done = subprocess.run(command, capture_output=True, text=True)
    lines = done.stdout.split()
    return float(lines[-1]) if done.returncode == 0 and lines else None


def main(peer: str, name: str, shards: str) -> None:
    workload, communicator = (WORKLOADS | CONVOLUTIONS)[name], _communicator()
    prepare = _nbbp if peer == "nbbp" else _torch
    epoch = prepare(workload, communicator, int(shards) or None)
    epoch()
    seconds = [_timed(epoch)]
    count = max(3, int(SECONDS / seconds[0]))
    if communicator is not None:
        count = communicator.bcast(count)
    seconds += [_timed(epoch) for _ in range(count)]
    if communicator is None or communicator.rank == 0:
        print(min(seconds) / workload.steps, flush=True)


def _timed(epoch: Callable[[], None]) -> float:
    begin = time.perf_counter()
    epoch()
    return time.perf_counter() - begin


def _communicator() -> Any:
    """All ranks, if `mpiexec` has started this process."""
    if not any(name in os.environ for name in SIZES):
        return None
    from mpi4py import MPI

    return MPI.COMM_WORLD


def _nbbp(workload, communicator: Any, shards: int | None) -> Callable[[], None]:
    """A function that trains for an epoch in which every rank has as many rows."""
    import nbbp
    from nbbp.bench.peers.nbbp import layers
    from nbbp.distributed import ranks_of

    ranks, (X, y) = ranks_of(communicator), workload.data()
    model = nbbp.Sequential(layers(workload), loss=workload.loss, optimizer=nbbp.Adam())
    data, size = model.prepare(X, y), ranks.size * workload.batch
    if ranks.size > 1:
        shards = max(ranks.size, len(planner.shards(model.network, size)))
    trainer = model.built.trainer(data, size, shards=shards, ranks=ranks, apart=ranks.size > 1)
    epochs = itertools.count()

    def epoch() -> None:
        with ranks.together():
            trainer.train(1, next(epochs))

    return epoch


def _torch(workload, communicator: Any, shards: int | None) -> Callable[[], None]:
    import torch
    from torch import distributed

    from nbbp.bench.peers import torch as peer

    distributed.init_process_group(
        "gloo", f"tcp://127.0.0.1:{_free_port(communicator)}", rank=communicator.rank, world_size=communicator.size
    )
    prepare = peer.prepare if workload.name in WORKLOADS else peer.prepare_convolution
    return prepare(workload, threads=1, wrap=torch.nn.parallel.DistributedDataParallel)


def _free_port(communicator: Any) -> int:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        return communicator.bcast(listening.getsockname()[1])


if __name__ == "__main__":
    main(*sys.argv[1:])
