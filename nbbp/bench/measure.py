"""Side by side: every peer in a process of its own, rounds interleaved (A B C, A B C, ...), ratios from one round.

A noisy machine slows neighbouring measurements alike, so the median of the rounds' ratios is stable when times are not.
"""

import dataclasses
import json
import os
import signal
import statistics
import subprocess
import sys
from collections.abc import Callable, Sequence

from nbbp.bench.peers import PEERS
from nbbp.bench.workloads import WORKLOADS


@dataclasses.dataclass
class Result:
    """One workload: seconds per step of every peer in every round, and why a peer is missing.

    `mebibytes` is the peak size of each peer's process, data, imports and compilation included.
    """

    workload: str
    rounds: dict[str, list[float]] = dataclasses.field(default_factory=dict)
    missing: dict[str, str] = dataclasses.field(default_factory=dict)
    mebibytes: dict[str, float] = dataclasses.field(default_factory=dict)

    def median(self, peer: str) -> float:
        """The median of the seconds per step."""
        return statistics.median(self.rounds[peer])

    def best(self, peer: str) -> float:
        """The least of the seconds per step."""
        return min(self.rounds[peer])

    def ratio(self, peer: str, to: str = "nbbp") -> float:
        """Median over the rounds of the peer's time divided by that of `to`."""
        pairs = zip(self.rounds[peer], self.rounds[to], strict=True)
        return statistics.median(ours / theirs for ours, theirs in pairs)


class Worker:
    """A peer's process, with additional environment variables."""

    def __init__(self, peer: str, **environment: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "nbbp.bench.worker", peer], env=os.environ | environment,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
        )  # fmt: skip

    def ask(self, line: str) -> dict:
        """The answer to a line; between answers the process is stopped, so that its threads disturb no other peer."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.send_signal(signal.SIGCONT)
        try:
            self.process.stdin.write(line + "\n")
            self.process.stdin.flush()
            return json.loads(self.process.stdout.readline())
        except (BrokenPipeError, json.JSONDecodeError):
            return {"missing": f"its process ended with {self.process.wait()}"}
        finally:
            self.process.send_signal(signal.SIGSTOP)

    def close(self) -> None:
        self.process.kill()
        self.process.wait()


def measure(
    workloads: Sequence[str] = tuple(WORKLOADS),
    peers: Sequence[str] = PEERS,
    rounds: int = 7,
    report: Callable[[Result], None] = lambda result: None,
) -> list[Result]:
    """Time every peer on every workload.

    Parameters
    ----------
    workloads, peers
        Names from a table of `nbbp.bench.workloads`, `convolutions`, `sequences` or `estimators`, and from
        `nbbp.bench.peers.PEERS`.
    rounds : int
    report
        Called with each result as soon as it is available.
    """
    results = []
    for name in workloads:
        workers = {peer: Worker(peer) for peer in peers}
        result = Result(name)
        try:
            for peer, worker in workers.items():
                reply = worker.ask(name)
                if "missing" in reply:
                    result.missing[peer] = reply["missing"]
                else:
                    result.rounds[peer] = []
            for _ in range(rounds):
                for peer, times in list(result.rounds.items()):
                    answer = workers[peer].ask("")
                    times.append(answer["seconds"])
                    result.mebibytes[peer] = answer["mebibytes"]
        finally:
            for worker in workers.values():
                worker.close()
        results.append(result)
        report(result)
    return results
