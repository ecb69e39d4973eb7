"""The number of threads on this machine, unless the user gives another: one a physical core, within the CPU quota.

Hyperthreads share the vector units that one thread of a kernel keeps busy already, and their caches. Under a quota, the
system stops all threads of a container for the rest of each period once they have used up its time.
"""

import math
import pathlib
from collections.abc import Collection, Iterator

ROOT = pathlib.Path("/")


def default(cpus: Collection[int], root: pathlib.Path = ROOT) -> tuple[int, str]:
    """The number of threads, and why.

    Half a CPU of a quota is worth a thread: 1.5 CPUs let two threads run for three quarters of the time. With 1.2 they
    would stand still for 40 of every 100 ms, and waste on waiting for each other what the fifth of a CPU gives.

    Parameters
    ----------
    cpus : collection of int
        The logical CPUs that the process may run on.
    root : Path
        The folder that contains ``sys`` and ``proc``.
    """
    cores, share = physical(cpus, root), quota(root)
    if share + 0.5 < cores:
        return max(1, int(share + 0.5)), f"container quota of {round(share, 2)} CPUs"
    logical = f"{len(cpus)} logical CPUs, " if len(cpus) > cores else ""
    return cores, f"{logical}one a physical core"


def physical(cpus: Collection[int], root: pathlib.Path = ROOT) -> int:
    """The number of physical cores that these logical CPUs belong to; each is a core if the system does not say."""
    topology = "sys/devices/system/cpu/cpu{}/topology/thread_siblings_list"
    return len({_text(root / topology.format(cpu)).strip() or str(cpu) for cpu in cpus})


def quota(root: pathlib.Path = ROOT) -> float:
    """The CPUs whose time this process may use: the least of its control groups' quotas, infinite without one."""
    return min(map(_share, _groups(root)), default=math.inf)


def _groups(root: pathlib.Path) -> Iterator[pathlib.Path]:
    """The folders of this process's control groups that may limit its CPU time, up to where they are mounted.

    A container may have its own group mounted there and read the host's path to it: the rest of the path is missing.
    """
    for line in _text(root / "proc/self/cgroup").splitlines():
        controllers, _, path = line.partition(":")[2].partition(":")
        mount = root / "sys/fs/cgroup"
        if "cpu" in controllers.split(","):
            mount /= "cpu"
        elif controllers:  # version 2 has none here
            continue
        names = path.strip("/").split("/")
        yield from (mount.joinpath(*names[:depth]) for depth in range(len(names) + 1))


def _share(group: pathlib.Path) -> float:
    """The CPUs whose time a control group of either version may use."""
    words = _text(group / "cpu.max").split()
    try:
        allowed, period = map(int, words or [_text(group / f"cpu.cfs_{name}_us") for name in ("quota", "period")])
    except ValueError:  # "max", or no files
        return math.inf
    return allowed / period if min(allowed, period) > 0 else math.inf  # -1, in some sandboxes 0, is no limit


def _text(path: pathlib.Path) -> str:
    """The content of a file, empty if it cannot be read."""
    try:
        return path.read_text("utf-8", errors="surrogateescape")
    except OSError:
        return ""
