"""A peer in a process of its own: reads a workload's name to prepare it, and an empty line to time a round.

Answers are lines of JSON.
"""

import importlib
import json
import os
import sys
import time
from collections.abc import Callable

from nbbp.bench.convolutions import CONVOLUTION_PREDICTIONS, CONVOLUTIONS
from nbbp.bench.estimators import ESTIMATIONS
from nbbp.bench.peers import Unsupported
from nbbp.bench.sequences import SEQUENCES, STEPS
from nbbp.bench.workloads import PREDICTIONS, WORKLOADS

SECONDS = 0.2  # per round, at least


def answer(stream, **content) -> None:
    print(json.dumps(content), file=stream, flush=True)


def peak_mebibytes() -> float:
    """The peak size of this process; getrusage would include its parent's before exec. Linux only, else nan."""
    try:
        with open("/proc/self/status") as status:
            return next(int(line.split()[1]) / 1024 for line in status if line.startswith("VmHWM"))
    except OSError:
        return float("nan")


def prepared(module, name: str) -> tuple[Callable, int]:
    """The function to time, and the number of steps that one call takes."""
    tables: dict[str, dict] = {
        "prepare": WORKLOADS, "prepare_prediction": PREDICTIONS, "prepare_estimation": ESTIMATIONS,
        "prepare_convolution": CONVOLUTIONS, "prepare_convolution_prediction": CONVOLUTION_PREDICTIONS,
        "prepare_sequences": SEQUENCES, "prepare_steps": STEPS,
    }  # fmt: skip
    function, table = next((function, table) for function, table in tables.items() if name in table)
    if not hasattr(module, function):
        raise Unsupported("it does not do this")
    return getattr(module, function)(table[name]), table[name].steps


def main(peer: str) -> None:
    stream = os.fdopen(os.dup(1), "w")  # libraries may print to standard output
    os.dup2(2, 1)
    module = importlib.import_module(f"nbbp.bench.peers.{peer}")
    epoch, steps = None, 1
    for line in sys.stdin:
        if name := line.strip():
            try:
                begin = time.perf_counter()
                epoch, steps = prepared(module, name)
                epoch()
                answer(stream, first=time.perf_counter() - begin)
            except (ImportError, Unsupported) as error:
                answer(stream, missing=str(error))
            except Exception as error:
                answer(stream, missing=f"{type(error).__name__}: {str(error).splitlines()[0][:120]}")
            continue
        assert epoch is not None
        epochs, begin = 0, time.perf_counter()
        while (taken := time.perf_counter() - begin) < SECONDS or epochs < 2:
            epoch()
            epochs += 1
        answer(stream, seconds=taken / (epochs * steps), mebibytes=peak_mebibytes())


if __name__ == "__main__":
    main(sys.argv[1])
