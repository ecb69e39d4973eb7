"""How much memory is available, and whether a model fits into it."""

import os
import pathlib

import numpy as np

LIMITS = "/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"  # of a container, version 2 and 1


def available() -> int | None:
    """Bytes of memory of the machine or of its container; None if the system does not say."""
    try:
        known = [os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")]
    except (AttributeError, ValueError, OSError):  # Windows
        return None
    for path in map(pathlib.Path, LIMITS):
        try:
            known.append(int(path.read_text()))
        except (OSError, ValueError):  # no container; "max" is no limit
            continue
    return min(known)


def size(count: float) -> str:
    """A number of bytes as text."""
    for unit in ("bytes", "KiB", "MiB", "GiB"):
        if count < 2**10:
            return f"{count:,.0f} {unit}" if unit == "bytes" else f"{count:,.1f} {unit}"
        count /= 2**10
    return f"{count:,.1f} TiB"


def check_rows(rows: int, row: int) -> None:
    """MemoryError if so many rows of a mini-batch at a time, of so many bytes each, do not fit into memory."""
    there = available()
    if there is not None and rows * row > there:
        raise MemoryError(
            f"a mini-batch takes {size(rows * row)} in training, {rows:,} rows at a time with {size(row)} each, and "
            f"there are {size(there)}: take a smaller batch_size; accumulate=k makes one update of k of them"
        )


def check_room(parameters: int, arrays: int, dtype: np.dtype) -> None:
    """MemoryError if this many flat arrays of all parameters do not fit into memory."""
    needed, there = parameters * arrays * dtype.itemsize, available()
    if there is not None and needed > there:
        raise MemoryError(
            f"the model has {parameters:,} parameters: with gradients and what the optimizer keeps, {arrays} arrays of "
            f"{dtype.name}, they take {needed:,} bytes, and there are {there:,}; check the layers' units and the "
            f"number of features"
        )
