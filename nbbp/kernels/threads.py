"""The threading layer: which one is loaded, how many threads there are, and when they are worth a fork.

OpenMP comes first: between two kernels its threads wait awake for about 10 us, where TBB's fall asleep and take longer
to wake than a small kernel runs (a step of a 2-64-64-64-1 network: 62 us against 91). GNU OpenMP would spin for much
longer by default, and steal the processor from a busy neighbour.
"""

import contextlib
import os
import threading

import numba

os.environ.setdefault("GOMP_SPINCOUNT", "3000")  # read when the library is loaded
if "NUMBA_THREADING_LAYER_PRIORITY" not in os.environ:
    numba.config.THREADING_LAYER_PRIORITY = ["omp", "tbb", "workqueue"]  # type: ignore[attr-defined]


def layer() -> str:
    """Name of the threading layer in use: omp, tbb or workqueue."""
    numba.get_num_threads()  # launches the threads
    return numba.threading_layer()


def count() -> int:
    """Threads that a parallel kernel may use."""
    return numba.get_num_threads()


def most() -> int:
    """Threads that there can ever be in this process."""
    return numba.config.NUMBA_NUM_THREADS  # type: ignore[attr-defined]


def worthwhile(cycles: float) -> bool:
    """Whether work of so many processor cycles gains from being shared among threads.

    A fork and join takes about 5,000 cycles, and 400,000 in Numba's workqueue; beside a busy process it takes far more,
    which short kernels would not make up for.
    """
    return count() > 1 and cycles > (1_000_000 if layer() == "workqueue" else 40_000)


_one_at_a_time = threading.Lock()


def guard() -> contextlib.AbstractContextManager:
    """Held while kernels run: Numba's workqueue aborts the process when two Python threads enter it at once."""
    return _one_at_a_time if layer() == "workqueue" else contextlib.nullcontext()
