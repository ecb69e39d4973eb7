"""nbbp's own training step on one thread, and beside a busy process, compared with all threads on an idle machine."""

import subprocess
import sys
from collections.abc import Callable

from nbbp.bench.measure import Result, Worker

NAMES = ("sci", "mnist", "tab", "wide")
CONDITIONS = ("nbbp", "one thread", "busy neighbour")


def _settled(worker: Worker) -> float:
    """Seconds per step in the third round: `nbbp.kernels.threads.Pace` needs half a second to notice a change."""
    return [worker.ask("")["seconds"] for _ in range(3)][-1]


def measure(rounds: int = 7, report: Callable[[Result], None] = lambda result: None) -> list[Result]:
    """Seconds per step under each condition, rounds interleaved."""
    results = []
    for name in NAMES:
        shared, single = Worker("nbbp"), Worker("nbbp", NUMBA_NUM_THREADS="1")
        result = Result(name, {condition: [] for condition in CONDITIONS})
        try:
            for worker in (shared, single):
                worker.ask(name)
            for _ in range(rounds):
                result.rounds["nbbp"].append(_settled(shared))
                result.rounds["one thread"].append(_settled(single))
                busy = subprocess.Popen([sys.executable, "-c", "while True: pass"])
                try:
                    result.rounds["busy neighbour"].append(_settled(shared))
                finally:
                    busy.kill()
                    busy.wait()
        finally:
            shared.close()
            single.close()
        results.append(result)
        report(result)
    return results
