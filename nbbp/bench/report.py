"""A benchmark's results as a table and as JSON."""

import datetime
import json
import math
import pathlib
import platform
from collections.abc import Sequence

from llvmlite import binding

import nbbp
from nbbp.bench.measure import Result
from nbbp.bench.peak import fma_peak
from nbbp.bench.workloads import WORKLOADS
from nbbp.kernels import threads


def header(peers: Sequence[str]) -> str:
    return f"{'workload':13}" + "".join(f"{peer:>24}" for peer in peers)


def line(result: Result, peers: Sequence[str]) -> str:
    """Microseconds per step, and in brackets the ratio to nbbp's time."""
    cells = []
    for peer in peers:
        if peer in result.missing:
            cells.append("-")
        elif peer == "nbbp" or "nbbp" not in result.rounds:
            cells.append(f"{result.median(peer) * 1e6:,.2f}")
        else:
            cells.append(f"{result.median(peer) * 1e6:,.2f} ({result.ratio(peer):.2f}x)")
    return f"{result.workload:13}" + "".join(f"{cell:>24}" for cell in cells)


def missing(results: Sequence[Result]) -> list[str]:
    """The peers that were left out, and why."""
    reasons: dict[tuple[str, str], list[str]] = {}
    for result in results:
        for peer, why in result.missing.items():
            reasons.setdefault((peer, why), []).append(result.workload)
    return [f"{peer} left out of {', '.join(names)}: {why}" for (peer, why), names in reasons.items()]


def fastest_peer(result: Result) -> str | None:
    """The fastest peer other than nbbp, or None."""
    others = [peer for peer in result.rounds if peer not in ("nbbp", "numpy")]
    return min(others, key=result.ratio, default=None)


def geometric_mean(results: Sequence[Result]) -> float:
    """The geometric mean of the ratios of the fastest peers to nbbp."""
    ratios = [result.ratio(peer) for result in results if (peer := fastest_peer(result))]
    return math.exp(sum(map(math.log, ratios)) / len(ratios)) if ratios else math.nan


def machine() -> dict[str, str | int | float]:
    """The machine on which the results were measured."""
    return {
        "date": datetime.date.today().isoformat(),
        "processor": f"{platform.machine()}, {binding.get_host_cpu_name()}",
        "threads": threads.count(),
        "threading layer": threads.layer(),
        "FMA peak, GFLOP/s": round(fma_peak(threads.count()) / 1e9, 1),
        "nbbp": nbbp.__version__,
    }


def memory(results: Sequence[Result]) -> list[str]:
    """The peak size of every peer's process."""
    return [
        f"{result.workload:13}" + ", ".join(f"{peer} {size:,.0f}" for peer, size in result.mebibytes.items())
        for result in results
    ]


def as_json(result: Result) -> dict:
    """Every round's seconds per step, ratios and sizes."""
    return {
        "workload": result.workload,
        "seconds": result.rounds,
        "ratio": {peer: result.ratio(peer) for peer in result.rounds} if "nbbp" in result.rounds else {},
        "flops": WORKLOADS[result.workload].flops if result.workload in WORKLOADS else None,
        "mebibytes": result.mebibytes,
        "missing": result.missing,
    }


def write_json(parts: dict, path) -> None:
    """Write the machine and the results of each benchmark."""
    pathlib.Path(path).write_text(json.dumps({"machine": machine()} | parts, indent=1) + "\n")
