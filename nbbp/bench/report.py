"""A benchmark's results as a table."""

from collections.abc import Sequence

from nbbp.bench.measure import Result


def header(peers: Sequence[str]) -> str:
    return f"{'workload':13}" + "".join(f"{peer:>24}" for peer in peers)


def line(result: Result, peers: Sequence[str]) -> str:
    """Microseconds a step, and in brackets how many times nbbp's time that is."""
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
    """Who was left out, and why."""
    reasons: dict[tuple[str, str], list[str]] = {}
    for result in results:
        for peer, why in result.missing.items():
            reasons.setdefault((peer, why), []).append(result.workload)
    return [f"{peer} left out of {', '.join(names)}: {why}" for (peer, why), names in reasons.items()]
