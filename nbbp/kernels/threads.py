"""The threading layer: which one is loaded, how many threads there are, and when they are worth a fork."""

import ctypes
import pathlib
import sys

import numba


def _load_tbb() -> None:
    """Numba does not find TBB's wheel in a virtual environment unless the library is in memory already."""
    for library in sorted((pathlib.Path(sys.prefix) / "lib").glob("libtbb.so.12*")):
        try:
            ctypes.CDLL(str(library), mode=ctypes.RTLD_GLOBAL)
            return
        except OSError:
            continue


_load_tbb()


def layer() -> str:
    """Name of the threading layer in use: tbb, omp or workqueue."""
    numba.get_num_threads()  # launches the threads
    return numba.threading_layer()


def count() -> int:
    """Threads that a parallel kernel may use."""
    return numba.get_num_threads()


def worthwhile(cycles: float) -> bool:
    """Whether work of so many processor cycles gains from being shared among threads.

    A fork and join takes about 5,000 cycles, and 400,000 in Numba's workqueue.
    """
    return count() > 1 and cycles > (1_000_000 if layer() == "workqueue" else 12_000)
