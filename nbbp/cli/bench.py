"""nbbp bench."""

import dataclasses
from typing import TYPE_CHECKING

from nbbp.cli.commands import Command

if TYPE_CHECKING:
    from nbbp.bench.limits import Limits
    from nbbp.bench.measure import Result
    from nbbp.bench.networks import Network
    from nbbp.bench.real_tables import RealTable

LEAST_ROWS = 100  # of a table, for its columns to say something


def register(command: Command) -> None:
    sub = command("bench", bench)
    sub.add_argument(
        "names",
        nargs="*",
        metavar="NAME",
        help="a workload, training (the default), prediction, convolution, sequences, ranks, sklearn, conditions, "
        "products, startup or plan; profile and workloads for the time of each call within a step; tables for errors, "
        "and names of tables, or choosing for those on which defaults are chosen",
    )
    sub.add_argument("--peers", nargs="+", default=[], metavar="PEER", help="all that are installed when none is named")
    sub.add_argument("--rounds", type=int, default=7, help="interleaved rounds, or splits of each table (%(default)s)")
    sub.add_argument("--rows", type=int, default=10_000, help="of a larger table so many are drawn (%(default)s)")
    sub.add_argument("--json", metavar="FILE", help="write every round's figures")
    sub.add_argument("--chart", metavar="FILE", help="draw the ratios")


def bench(arguments) -> None:
    """Time training steps and predictions side by side with the peers that are installed; and nbbp's own behaviour."""
    from nbbp.bench.convolutions import CONVOLUTION_PREDICTIONS, CONVOLUTIONS, PRODUCTS
    from nbbp.bench.peers import PEERS
    from nbbp.bench.real_tables import named
    from nbbp.bench.sequences import SEQUENCES, STEPS
    from nbbp.bench.tabular_peers import TABULAR_PEERS
    from nbbp.bench.trained import TRAINED
    from nbbp.bench.workloads import PREDICTIONS, WORKLOADS

    groups: dict[str, list[str]] = {name: [name] for name in (*TRAINED, *STEPS)} | {
        "training": [*WORKLOADS],
        "prediction": [*PREDICTIONS],
        "convolution": [*CONVOLUTIONS, *CONVOLUTION_PREDICTIONS],
        "sequences": [*SEQUENCES, *STEPS],
    }
    names = [*groups, "ranks", "sklearn", "conditions", "products", "startup", "plan", "profile", "tables"]
    of_tables = arguments.names[:1] == ["tables"]
    given_names, peers = (["tables"], TABULAR_PEERS) if of_tables else (arguments.names, PEERS)
    for given, table, kind in ((given_names, names, "benchmark"), (arguments.peers, peers, "peer")):
        unknown = [name for name in given if name not in table]
        if unknown:
            raise ValueError(f"unknown {kind} {unknown[0]!r}; choose from {', '.join(table)}")
    if arguments.rounds < 1:
        raise ValueError(f"--rounds must be 1 or more, got {arguments.rounds}")
    if arguments.rows < LEAST_ROWS:
        raise ValueError(f"--rows must be {LEAST_ROWS} or more, got {arguments.rows}")
    chosen = given_names or ["training"]
    if "tables" in chosen and not of_tables:
        raise ValueError("tables is a benchmark by itself; name no other beside it")
    wanted = named(arguments.names[1:]) if of_tables else {}
    workloads = list(dict.fromkeys(name for group in chosen for name in groups.get(group, [])))
    from nbbp.bench import limits, products, report

    print(", ".join(f"{name} {value}" for name, value in report.machine().items()))
    if of_tables:
        _bench_tables(arguments, wanted)
        return
    before = limits.measure()
    parts: dict = {}
    results = []
    if "profile" in chosen:
        parts["profile"] = _bench_profile([name for name in workloads if name in TRAINED] or list(WORKLOADS))
        workloads = [name for name in workloads if name not in TRAINED]
    if workloads:
        results = _bench_side_by_side(workloads, arguments)
    if "sklearn" in chosen:
        parts["sklearn"] = _bench_estimators(arguments.rounds)
    if "ranks" in chosen:
        parts["ranks"] = _bench_ranks(arguments.rounds)
    if "conditions" in chosen:
        parts["conditions"] = _bench_conditions(arguments.rounds)
    if "products" in chosen:
        print("share of the FMA peak; batch, inputs and outputs of one size, float32")
        parts["products"] = _bench_products(products.DENSE)
    if "convolution" in chosen:
        print("share of the FMA peak; images x height x width x channels and as many filters, padding same, float32")
        parts["convolution products"] = _bench_products(PRODUCTS)
    if "startup" in chosen:
        parts["startup"] = _bench_startup()
    if "plan" in chosen:
        parts["plan"] = _bench_plan()
    after = limits.measure()
    print(*report.limits(before, after), sep="\n")
    parts["limits"] = {"before": dataclasses.asdict(before), "after": dataclasses.asdict(after)}
    if results:
        parts["peers"] = _hold_against(before.or_better(after), results)
    if arguments.json:
        report.write_json(parts, arguments.json)


def _bench_side_by_side(workloads: list[str], arguments) -> "list[Result]":
    from nbbp.bench import report
    from nbbp.bench.measure import measure
    from nbbp.bench.peers import PEERS

    peers = arguments.peers or list(PEERS)
    print(f"microseconds a step, median / best of {arguments.rounds} rounds; in brackets how many times nbbp's")
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
    return results


def _hold_against(best: "Limits", results: "list[Result]") -> list[dict]:
    from nbbp.bench import report
    from nbbp.bench.roofline import roofline
    from nbbp.bench.trained import TRAINED
    from nbbp.kernels import threads

    allowed = {name: roofline(workload, best, threads.count()) for name, workload in TRAINED.items()}
    if any(result.workload in allowed and "nbbp" in result.rounds for result in results):
        print("microseconds a step that these limits allow, and their share of nbbp's best round")
        print(*report.rooflines(results, allowed), sep="\n")
    return [report.as_json(result, allowed.get(result.workload)) for result in results]


def _bench_profile(workloads: list[str]) -> list[dict]:
    from nbbp.bench import profile, report
    from nbbp.bench.trained import TRAINED

    print("microseconds of each call, in the best epoch")
    measured = []
    for name in workloads:
        measured.append(profile.measure(TRAINED[name]))
        print(*report.profile(measured[-1]), sep="\n", flush=True)
    return [dataclasses.asdict(each) for each in measured]


def _bench_estimators(rounds: int) -> list[dict]:
    from nbbp.bench import report
    from nbbp.bench.estimators import ESTIMATIONS
    from nbbp.bench.measure import measure

    peers = ("nbbp", "sklearn")
    print(f"microseconds a call, median / best of {rounds} rounds; in brackets how many times nbbp's")
    print(report.header(peers), flush=True)
    results = measure(list(ESTIMATIONS), peers, rounds, lambda result: print(report.line(result, peers), flush=True))
    return [report.as_json(result) for result in results]


def _bench_ranks(rounds: int) -> list[dict]:
    from nbbp.bench import ranks

    print(f"microseconds a step, best of {rounds} rounds; one and two ranks have a core each, and as many rows each")
    columns = "".join(f"{column:>11}" for column in ranks.COLUMNS)
    print(f"{'':10}{columns}   efficiency nbbp, torch; cost of 8 shards")

    def show(found: ranks.Scaling) -> None:
        best = "".join(f"{1e6 * found.best(column):11.1f}" for column in ranks.COLUMNS)
        shares = ", ".join(f"{found.efficiency(peer):.0%}" for peer in ("nbbp", "torch"))
        cost = found.best("8 shards") / found.best("all cores")
        print(f"{found.workload:10}{best}   {shares}; {cost:.2f}x", flush=True)

    return [dataclasses.asdict(found) for found in ranks.measure(rounds, show)]


def _bench_conditions(rounds: int) -> list[dict]:
    from nbbp.bench import conditions, report

    print(f"microseconds a step, median / best of {rounds} rounds; in brackets how many times that on all threads")
    print(report.header(conditions.CONDITIONS), flush=True)
    results = conditions.measure(rounds, lambda result: print(report.line(result, conditions.CONDITIONS), flush=True))
    return [report.as_json(result) for result in results]


def _bench_tables(arguments, wanted: "dict[str, list[RealTable]]") -> None:
    from nbbp.bench import report, tables
    from nbbp.bench.tabular_peers import REFERENCE, TABULAR_PEERS

    peers = arguments.peers or list(TABULAR_PEERS)
    parts: dict = {}
    summaries: list[tables.Summary] = []
    for use, chosen in wanted.items():
        print(f"tables for {use}: {REFERENCE}'s error, others' relative to it, of {arguments.rounds} splits (seconds)")
        print(tables.header(peers), flush=True)
        results = tables.measure(
            chosen, peers, arguments.rounds, arguments.rows, lambda r: print(tables.line(r, peers), flush=True)
        )
        summaries = tables.summaries(results)
        print(*tables.missing(results), *tables.table(summaries), sep="\n", flush=True)
        parts[use] = [tables.as_json(result) for result in results]
    if arguments.json:
        report.write_json(parts, arguments.json)
    if arguments.chart:
        from nbbp import plots

        most = max((each.tables for each in summaries), default=0)
        plots.errors_and_seconds([each for each in summaries if each.tables == most], arguments.chart)


def _bench_startup() -> dict[str, float]:
    from nbbp.bench import startup

    measured = startup.measure()
    for name, value in measured.items():
        print(f"{name:26} {value:8.2f}")
    return measured


def _bench_plan() -> list[dict]:
    from nbbp.bench import plan

    print("what is planned for so many cores, and how much faster than on one a step is expected to be; nothing is run")
    print(f"{'workload':13}{'cores':>6}{'shards':>8}{'used':>6}{'gain':>7}  owners of each matrix")
    plans = plan.plans()
    for each in plans:
        owners = ", ".join(map(str, each.owners)) or "-"
        print(f"{each.workload:13}{each.cores:6}{each.shards:8}{each.used:6}{each.gain:6.1f}x  {owners}")
    return [dataclasses.asdict(each) for each in plans]


def _bench_products(layers: "dict[str, tuple[Network, int]]") -> list[dict]:
    from nbbp.bench import products

    print(f"{'':24} {'forward':>10} {'input grad':>12} {'weight grad':>12}")
    shares = []
    for name, (layer, rows) in layers.items():
        share = products.measure(layer, rows)
        row = f"{name:24} {share.forward:10.0%} {share.input_gradient:12.0%} {share.weight_gradient:12.0%}"
        print(row, flush=True)
        shares.append({"layer": name} | dataclasses.asdict(share))
    return shares
