"""When more machines pay: a step of 1 to 64 machines, from this one's speed and a network's latency and bandwidth.

A step on M machines takes the time of its rows, and that of adding the gradients of all: recursive halving sends
2 (M - 1) / M of them in 2 log2 M messages. The rows are as many on each machine (weak scaling), or M times fewer of the
same mini-batch (strong scaling). Dashed lines show what it gains to send the last layers' gradients while those of the
first layers are computed, if the network needs no core for that; nbbp begins early with those of 4 MB or more.
"""

import itertools
import pathlib
import sys
import time

import numpy as np
from matplotlib.figure import Figure

import nbbp

NETWORKS = {  # widths, and rows of a mini-batch
    "200-2048-2048-20": ([200, 2048, 2048, 20], 512),
    "54-256-256-7": ([54, 256, 256, 7], 256),
    "784-128-10": ([784, 128, 10], 128),
}
LINKS = {  # seconds a message, and bytes a second
    "cores of one machine": (2e-6, 4e9),
    "InfiniBand, 100 Gbit/s": (2e-6, 12e9),
    "Ethernet, 10 Gbit/s": (25e-6, 1.2e9),
    "Ethernet, 1 Gbit/s": (50e-6, 0.12e9),
}
MACHINES = 2 ** np.arange(7)


def seconds_a_step(widths: list[int], rows: int) -> float:
    """The time of a step on this machine, in the best of some epochs."""
    rng = np.random.default_rng(0)
    X = rng.standard_normal((8 * rows, widths[0]), dtype=np.float32)
    y = rng.integers(0, widths[-1], 8 * rows)
    layers = [*(nbbp.Dense(units, "relu") for units in widths[1:-1]), nbbp.Dense(widths[-1])]
    model = nbbp.Sequential(layers, "softmax_cross_entropy", nbbp.Adam())
    best = np.inf
    for _ in range(8):
        begin = time.perf_counter()
        model.fit(X, y, batch_size=rows, verbose=0)
        best = min(best, (time.perf_counter() - begin) / 8)
    return best


def seconds_of_sums(machines: np.ndarray, parameters: int, latency: float, bandwidth: float) -> np.ndarray:
    """The time in which so many machines add float32 gradients by recursive halving, and send each other the sums."""
    return 2 * np.log2(machines) * latency + 2 * (machines - 1) / machines * 4 * parameters / bandwidth


def overlapped(step: np.ndarray, sums: np.ndarray, of_first: float) -> np.ndarray:
    """The time of a step whose sums run beside the backward pass, two thirds of it, but for the first layer's."""
    hidden = np.minimum((1 - of_first) * sums, step * 2 / 3)
    return step + sums - hidden


def measure() -> dict[str, tuple[float, list[int]]]:
    """For each network the seconds of a step, and the parameters of its layers."""
    found = {}
    for name, (widths, rows) in NETWORKS.items():
        sizes = [(n_in + 1) * n_out for n_in, n_out in itertools.pairwise(widths)]
        found[name] = seconds_a_step(widths, rows), sizes
        print(f"{name}, {rows} rows: {1e6 * found[name][0]:.0f} us a step, {4e-6 * sum(sizes):.1f} MB of gradients")
    return found


def draw(measured: dict[str, tuple[float, list[int]]], path) -> None:
    figure = Figure(figsize=(11, 6.6), layout="constrained")
    axes = figure.subplots(2, len(measured), sharex=True, sharey=True)
    for column, (name, (step, sizes)) in enumerate(measured.items()):
        for row, computed in enumerate((np.full(len(MACHINES), step), step / MACHINES)):
            for k, (link, (latency, bandwidth)) in enumerate(LINKS.items()):
                sums = seconds_of_sums(MACHINES, sum(sizes), latency, bandwidth)
                with_overlap = computed / overlapped(computed, sums, sizes[0] / sum(sizes))
                axes[row, column].plot(MACHINES, computed / (computed + sums), f"C{k}o-", markersize=3, label=link)
                axes[row, column].plot(MACHINES, with_overlap, f"C{k}--", linewidth=0.8)
        axes[0, column].set_title(f"{name}\n{NETWORKS[name][1]} rows, {1e3 * step:.3g} ms a step", fontsize=10)
        axes[1, column].set_xlabel("machines")
    for row, title in enumerate(("as many rows on each", "one mini-batch divided")):
        axes[row, 0].set_ylabel(f"share of its speed,\n{title}")
        axes[row, 0].set_xscale("log", base=2)
        axes[row, 0].set_xticks(MACHINES, [str(m) for m in MACHINES])
    axes[0, 0].set_ylim(0, 1.03)
    axes[0, 0].legend(fontsize=8, loc="lower left")
    for each in axes.flat:
        each.grid(alpha=0.3)
    figure.suptitle(
        "What a machine keeps of its speed, by latency and bandwidth (dashed: sums beside the backward pass)"
    )
    figure.savefig(path, dpi=110)


if __name__ == "__main__":
    picture = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else "plots/many_machines.png")
    picture.parent.mkdir(parents=True, exist_ok=True)
    draw(measure(), picture)
    print(f"wrote {picture}")
