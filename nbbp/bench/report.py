"""A benchmark's results as a table and as JSON."""

import dataclasses
import datetime
import json
import math
import pathlib
import platform
import textwrap
from collections.abc import Sequence

import numpy as np
from llvmlite import binding

import nbbp
from nbbp.bench.limits import Limits
from nbbp.bench.measure import Result
from nbbp.bench.profile import Profile
from nbbp.bench.roofline import Roofline
from nbbp.bench.trained import TRAINED
from nbbp.kernels import threads


def header(peers: Sequence[str]) -> str:
    return f"{'workload':18}" + "".join(f"{peer:>42}" for peer in peers)


def line(result: Result, peers: Sequence[str]) -> str:
    """Microseconds per step, median and best round, and in brackets the ratio to nbbp's time."""
    cells = []
    for peer in peers:
        if peer in result.missing:
            cells.append("-")
        else:
            ratio = f" ({result.ratio(peer):.2f}x)" if peer != "nbbp" and "nbbp" in result.rounds else ""
            cells.append(f"{result.median(peer) * 1e6:,.2f} / {result.best(peer) * 1e6:,.2f}{ratio}")
    return f"{result.workload:18}" + "".join(f"{cell:>42}" for cell in cells)


def missing(results: Sequence[Result]) -> list[str]:
    """The peers that were left out, and why."""
    reasons: dict[tuple[str, str], list[str]] = {}
    for result in results:
        for peer, why in result.missing.items():
            reasons.setdefault((peer, why), []).append(result.workload)
    return [f"{peer} left out of {', '.join(names)}: {why}" for (peer, why), names in reasons.items()]


def fastest_peer(result: Result) -> str | None:
    """The fastest peer in float32 other than nbbp, or None."""
    others = [peer for peer in result.rounds if peer not in ("nbbp", "numpy") and not peer.endswith("_bfloat16")]
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
        "nbbp": nbbp.__version__,
    }


def limits(before: Limits, after: Limits) -> list[str]:
    """The limits of the machine before and after a run, and the better bandwidths."""
    best = before.or_better(after)
    speeds = [
        f"{level} {best.all_threads[level] / 1e9:.0f} ({one / 1e9:.0f})" for level, one in best.one_thread.items()
    ]
    return [
        f"FMA peak {before.fma_peak / 1e9:.0f} GFLOP/s before, {after.fma_peak / 1e9:.0f} after; "
        f"core to core {before.core_to_core * 1e9:.0f} ns before, {after.core_to_core * 1e9:.0f} after",
        f"read bandwidth of all threads (of one), GB/s: {', '.join(speeds)}",
    ]


def rooflines(results: Sequence[Result], allowed: dict[str, Roofline]) -> list[str]:
    """The microseconds that the limits allow each workload, and what share of nbbp's best round they are."""
    lines = [f"{'workload':18}{'products':>12}{'share':>8}{'bytes':>12}{'from':>8}{'both':>12}{'share':>8}"]
    for result in results:
        if result.workload in allowed and "nbbp" in result.rounds:
            least, best = allowed[result.workload], result.best("nbbp")
            lines.append(
                f"{result.workload:18}{least.products * 1e6:12,.2f}{least.products / best:8.1%}"
                f"{least.bytes * 1e6:12,.2f}{least.level:>8}{least.seconds * 1e6:12,.2f}{least.seconds / best:8.1%}"
            )
    return lines


def profile(measured: Profile) -> list[str]:
    """The microseconds of each call, of all, and of a step without counts."""

    def cells(name: str, *seconds: float) -> str:
        numbers = ["-" if math.isnan(x) else f"{x * 1e6:,.2f}" for x in seconds]
        return f"{textwrap.shorten(name, 52, placeholder=' ..'):52}" + "".join(f"{x:>13}" for x in numbers)

    rows = [(row.running, row.repeated, row.one_thread) for row in measured.rows]
    return [
        f"{measured.workload:52}{'in the step':>13}{'by itself':>13}{'one thread':>13}",
        *(cells(row.name, *seconds) for row, seconds in zip(measured.rows, rows, strict=True)),
        cells("total", *np.nansum(rows, axis=0)),
        cells("the step without counts", measured.step, math.nan, measured.step_on_one_thread),
    ]


def memory(results: Sequence[Result]) -> list[str]:
    """The peak size of every peer's process."""
    return [
        f"{result.workload:18}" + ", ".join(f"{peer} {size:,.0f}" for peer, size in result.mebibytes.items())
        for result in results
    ]


def as_json(result: Result, allowed: Roofline | None = None) -> dict:
    """Every round's seconds per step, ratios, sizes, and what the limits allow."""
    return {
        "workload": result.workload,
        "seconds": result.rounds,
        "ratio": {peer: result.ratio(peer) for peer in result.rounds} if "nbbp" in result.rounds else {},
        "flops": TRAINED[result.workload].flops if result.workload in TRAINED else None,
        "roofline": dataclasses.asdict(allowed) if allowed else None,
        "mebibytes": result.mebibytes,
        "missing": result.missing,
    }


def write_json(parts: dict, path) -> None:
    """Write the machine and the results of each benchmark."""
    pathlib.Path(path).write_text(json.dumps({"machine": machine()} | parts, indent=1) + "\n")
