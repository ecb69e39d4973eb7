"""nbbp bench."""

import dataclasses

from nbbp.cli.commands import Command


def register(command: Command) -> None:
    sub = command("bench", bench)
    sub.add_argument(
        "names",
        nargs="*",
        metavar="NAME",
        help="a workload, training (the default), prediction, sklearn, conditions, products or startup",
    )
    sub.add_argument("--peers", nargs="+", default=[], metavar="PEER", help="all that are installed when none is named")
    sub.add_argument("--rounds", type=int, default=7, help="interleaved rounds (%(default)s)")
    sub.add_argument("--json", metavar="FILE", help="write every round's figures")
    sub.add_argument("--chart", metavar="FILE", help="draw the ratios")


def bench(arguments) -> None:
    """Time training steps and predictions side by side with the peers that are installed; and nbbp's own behaviour."""
    from nbbp.bench.peers import PEERS
    from nbbp.bench.workloads import PREDICTIONS, WORKLOADS

    names = [*WORKLOADS, "training", "prediction", "sklearn", "conditions", "products", "startup"]
    for given, table, kind in ((arguments.names, names, "benchmark"), (arguments.peers, PEERS, "peer")):
        unknown = [name for name in given if name not in table]
        if unknown:
            raise ValueError(f"unknown {kind} {unknown[0]!r}; choose from {', '.join(table)}")
    if arguments.rounds < 1:
        raise ValueError(f"--rounds must be 1 or more, got {arguments.rounds}")
    chosen = arguments.names or ["training"]
    workloads = list(WORKLOADS) if "training" in chosen else [name for name in chosen if name in WORKLOADS]
    if "prediction" in chosen:
        workloads += PREDICTIONS
    from nbbp.bench import report

    print(", ".join(f"{name} {value}" for name, value in report.machine().items()))
    parts: dict = {}
    if workloads:
        parts["peers"] = _bench_side_by_side(workloads, arguments)
    if "sklearn" in chosen:
        parts["sklearn"] = _bench_estimators(arguments.rounds)
    if "conditions" in chosen:
        parts["conditions"] = _bench_conditions(arguments.rounds)
    if "products" in chosen:
        parts["products"] = _bench_products()
    if "startup" in chosen:
        parts["startup"] = _bench_startup()
    if arguments.json:
        report.write_json(parts, arguments.json)


def _bench_side_by_side(workloads: list[str], arguments) -> list[dict]:
    from nbbp.bench import report
    from nbbp.bench.measure import measure
    from nbbp.bench.peers import PEERS

    peers = arguments.peers or list(PEERS)
    print(f"microseconds a step, median of {arguments.rounds} rounds; in brackets how many times nbbp's")
    print(report.header(peers), flush=True)
    results = measure(workloads, peers, arguments.rounds, lambda result: print(report.line(result, peers), flush=True))
    for text in report.missing(results):
        print(text)
    if any(report.fastest_peer(result) for result in results):
        print(f"fastest peer against nbbp, geometric mean: {report.geometric_mean(results):.2f}x")
    print("largest size of the process, MiB", *report.memory(results), sep="\n")
    if arguments.chart:
        from nbbp import plots

        plots.benchmark(results, arguments.chart)
    return [report.as_json(result) for result in results]


def _bench_estimators(rounds: int) -> list[dict]:
    from nbbp.bench import report
    from nbbp.bench.estimators import ESTIMATIONS
    from nbbp.bench.measure import measure

    peers = ("nbbp", "sklearn")
    print(f"microseconds a call, median of {rounds} rounds; in brackets how many times nbbp's")
    print(report.header(peers), flush=True)
    results = measure(list(ESTIMATIONS), peers, rounds, lambda result: print(report.line(result, peers), flush=True))
    return [report.as_json(result) for result in results]


def _bench_conditions(rounds: int) -> list[dict]:
    from nbbp.bench import conditions, report

    print(f"microseconds a step, median of {rounds} rounds; in brackets how many times that on all threads")
    print(report.header(conditions.CONDITIONS), flush=True)
    results = conditions.measure(rounds, lambda result: print(report.line(result, conditions.CONDITIONS), flush=True))
    return [report.as_json(result) for result in results]


def _bench_startup() -> dict[str, float]:
    from nbbp.bench import startup

    measured = startup.measure()
    for name, value in measured.items():
        print(f"{name:26} {value:8.2f}")
    return measured


def _bench_products() -> list[dict]:
    from nbbp.bench import products

    print("share of the FMA peak; batch, inputs and outputs of one size, float32")
    print(f"{'size':>6} {'forward':>10} {'input grad':>12} {'weight grad':>12}")
    shares = []
    for size in products.SIZES:
        share = products.measure(size)
        row = f"{size:6} {share.forward:10.0%} {share.input_gradient:12.0%} {share.weight_gradient:12.0%}"
        print(row, flush=True)
        shares.append(dataclasses.asdict(share))
    return shares
