"""The command line: nbbp demo | compare | bench | info."""

import argparse
import dataclasses
import pathlib
import sys
import time
from collections.abc import Sequence

import numpy as np

from nbbp._version import __version__


def _digits() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Four fifths of the digits to train on, the rest to test, drawn at random."""
    from nbbp.datasets import load_digits

    X, y = load_digits()
    order = np.random.default_rng(0).permutation(len(X))
    train, test = order[: len(X) * 4 // 5], order[len(X) * 4 // 5 :]
    return X[train], y[train], X[test], y[test]


def _check_folder(path: str) -> None:
    """Before the work that would be lost."""
    folder = pathlib.Path(path).absolute().parent
    if not folder.is_dir():
        raise FileNotFoundError(f"there is no folder {folder} to write {pathlib.Path(path).name} into")


def _digits_model():
    import nbbp

    return nbbp.Sequential(
        [nbbp.Dense(128, activation="relu"), nbbp.Dense(10)],
        loss="softmax_cross_entropy",
        optimizer=nbbp.Adam(),
        metrics=["accuracy"],
    )


def demo(arguments) -> None:
    """Train 64-128-10 on real handwritten digits."""
    _check_folder(arguments.output)
    X, y, X_test, y_test = _digits()
    model = _digits_model()
    model.build(X.shape[1])
    reference = model.with_backend("numpy")
    print(f"{len(X):,} handwritten digits of 8 x 8 pixels to train on, {len(X_test)} to test; a 64-128-10 relu network")
    history = model.fit(X, y, epochs=40, batch_size=32, validation_data=(X_test, y_test))
    accuracy = model.evaluate(X_test, y_test)["accuracy"]
    seconds, reference_seconds = (
        _seconds(lambda network=network: network.fit(X, y, epochs=40, batch_size=32, verbose=0)) / 40
        for network in (model, reference)
    )
    print(f"test accuracy {accuracy:.4f}")
    print(
        f"an epoch of {len(X):,} images takes {seconds * 1e3:.1f} ms, in plain NumPy {reference_seconds * 1e3:.1f} ms: "
        f"{reference_seconds / seconds:.1f} times as fast"
    )
    history.plot(arguments.output)
    print(f"loss curve in {arguments.output}")


def _seconds(function) -> float:
    begin = time.perf_counter()
    function()
    return time.perf_counter() - begin


def compare(arguments) -> None:
    """Hold the compiled kernels against plain NumPy on the digits."""
    import nbbp

    _check_folder(arguments.output)
    X, y, _, _ = _digits()
    result = nbbp.compare(_digits_model(), X, y, steps=arguments.steps)
    print(result)
    result.plot(arguments.output)
    print(f"curves in {arguments.output}")


def bench(arguments) -> None:
    """Time training steps and predictions side by side with the peers that are installed; and nbbp's own behaviour."""
    from nbbp.bench.peers import PEERS
    from nbbp.bench.workloads import PREDICTIONS, WORKLOADS

    names = [*WORKLOADS, "training", "prediction", "conditions", "products", "startup"]
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


def info(arguments) -> None:
    """What nbbp finds on this machine."""
    import platform

    import numba
    from llvmlite import binding

    import nbbp
    from nbbp.kernels import gemm, threads
    from nbbp.program import cache_folder

    rows = {
        "nbbp": nbbp.__version__,
        "python": platform.python_version(),
        "numba": numba.__version__,
        "numpy": np.__version__,
        "processor": f"{platform.machine()}, {binding.get_host_cpu_name()}",
        "vector width": f"{gemm.VECTOR_BYTES * 8} bits",
        "threads": str(threads.count()),
        "threading layer": threads.layer(),
        "kernel cache": cache_folder(),
    }
    for name, value in rows.items():
        print(f"{name:16} {value}")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="nbbp", description="Neural networks trained by compiled backpropagation.")
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def command(name, function):
        sub = commands.add_parser(name, help=function.__doc__, description=function.__doc__)
        sub.set_defaults(function=function)
        return sub

    command("demo", demo).add_argument("--output", default="nbbp-demo.png", help="the loss curve (%(default)s)")
    sub = command("compare", compare)
    sub.add_argument("--steps", type=int, default=200, help="mini-batches to train (%(default)s)")
    sub.add_argument("--output", default="nbbp-compare.png", help="the curves (%(default)s)")
    sub = command("bench", bench)
    sub.add_argument(
        "names",
        nargs="*",
        metavar="NAME",
        help="a workload, training (the default), prediction, conditions, products or startup",
    )
    sub.add_argument("--peers", nargs="+", default=[], metavar="PEER", help="all that are installed when none is named")
    sub.add_argument("--rounds", type=int, default=7, help="interleaved rounds (%(default)s)")
    sub.add_argument("--json", metavar="FILE", help="write every round's figures")
    sub.add_argument("--chart", metavar="FILE", help="draw the ratios")
    command("info", info)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit code."""
    arguments = _parser().parse_args(argv)
    try:
        arguments.function(arguments)
    except KeyboardInterrupt:
        print("\nstopped", file=sys.stderr)
        return 130
    except (ValueError, TypeError, OSError) as error:
        print(f"nbbp {arguments.command}: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
