"""The number of threads that kernels use by default, on machines that are folders, and what overrides it."""

import math
import pathlib

import pytest
import runs

from nbbp.kernels import cores


def write(root: pathlib.Path, files: dict[str, str]) -> None:
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content + "\n")


@pytest.fixture
def hyperthreaded(tmp_path) -> pathlib.Path:
    """8 cores with two hyperthreads each: CPUs 0 and 8, 1 and 9, and so on."""
    topology = "sys/devices/system/cpu/cpu{}/topology/thread_siblings_list"
    write(tmp_path, {topology.format(cpu): f"{cpu % 8},{cpu % 8 + 8}" for cpu in range(16)})
    return tmp_path


@pytest.mark.parametrize(("cpus", "expected"), [
    (range(16), (8, "16 logical CPUs, one a physical core")),
    ([0, 1, 8, 9], (2, "4 logical CPUs, one a physical core")),
    ([3, 11], (1, "2 logical CPUs, one a physical core")),
    ([0, 1, 2, 11], (4, "one a physical core")),
])  # fmt: skip
def test_hyperthreads_that_the_process_may_run_on_share_a_thread(hyperthreaded, cpus, expected):
    assert cores.default(cpus, hyperthreaded) == expected


def test_without_files_every_cpu_is_a_core(tmp_path):
    assert cores.default(range(6), tmp_path) == (6, "one a physical core")
    assert cores.quota(tmp_path) == math.inf


@pytest.mark.parametrize(("share", "threads"), [(0.25, 1), (1.0, 1), (1.2, 1), (1.5, 2), (2.0, 2), (3.4, 3), (7.4, 7)])
def test_half_a_cpu_of_a_quota_is_a_thread(hyperthreaded, share, threads):
    write(hyperthreaded, {"proc/self/cgroup": "0::/", "sys/fs/cgroup/cpu.max": f"{round(share * 100_000)} 100000"})
    assert cores.default(range(16), hyperthreaded) == (threads, f"container quota of {share} CPUs")


@pytest.mark.parametrize("share", [7.5, 8.0, 64.0])
def test_a_quota_of_more_than_the_cores_does_not_matter(hyperthreaded, share):
    write(hyperthreaded, {"proc/self/cgroup": "0::/", "sys/fs/cgroup/cpu.max": f"{round(share * 100_000)} 100000"})
    assert cores.default(range(16), hyperthreaded) == (8, "16 logical CPUs, one a physical core")


VERSION_2 = "0::/kubepods.slice/pod:1/job"
VERSION_1 = "5:memory:/job\n4:cpu,cpuacct:/docker/job\n1:name=systemd:/job"


@pytest.mark.parametrize(("groups", "files", "quota"), [
    (VERSION_2, {"kubepods.slice/pod:1/job/cpu.max": "max 100000", "kubepods.slice/pod:1/cpu.max": "300000 100000",
                 "kubepods.slice/cpu.max": "400000 50000", "other/cpu.max": "10000 100000"}, 3.0),
    (VERSION_2, {"kubepods.slice/pod:1/job/cpu.max": "50000 100000", "cpu.max": "800000 100000"}, 0.5),
    (VERSION_2, {"kubepods.slice/pod:1/job/cpu.max": "max 100000"}, math.inf),
    ("0::/../job", {"cpu.max": "200000 100000"}, 2.0),  # outside of the process's namespace
    (VERSION_1, {"cpu/docker/job/cpu.cfs_quota_us": "-1", "cpu/docker/job/cpu.cfs_period_us": "100000",
                 "cpu/docker/cpu.cfs_quota_us": "250000", "cpu/docker/cpu.cfs_period_us": "100000",
                 "cpu/job/cpu.cfs_quota_us": "1000", "cpu/job/cpu.cfs_period_us": "100000"}, 2.5),
    (VERSION_1, {"cpu/cpu.cfs_quota_us": "150000", "cpu/cpu.cfs_period_us": "100000"}, 1.5),  # the host's path
    (VERSION_1, {"cpu/cpu.cfs_quota_us": "0", "cpu/cpu.cfs_period_us": "100000"}, math.inf),
    (f"{VERSION_1}\n0::/", {"cpu/docker/job/cpu.cfs_quota_us": "200000", "cpu/docker/job/cpu.cfs_period_us": "100000",
                            "unified/cpu.max": "max 100000"}, 2.0),
    (VERSION_1, {"cpu.max": "100000 100000"}, math.inf),
])  # fmt: skip
def test_the_smallest_quota_of_a_group_and_those_around_it_holds(tmp_path, groups, files, quota):
    write(tmp_path, {"proc/self/cgroup": groups} | {f"sys/fs/cgroup/{name}": text for name, text in files.items()})
    assert cores.quota(tmp_path) == quota


ON_A_MACHINE_OF_TWO_CORES = """
import concurrent.futures
import numba
from nbbp.kernels import threads

threads.default = lambda: (2, "two cores")

def in_kernels():
    before = numba.get_num_threads()
    with threads.guard(threads.alone()):
        number = numba.get_num_threads()
    assert numba.get_num_threads() == before, "the user's own code has what it had"
    assert number == threads.count() <= threads.most() == 4
    return number

def told(number):
    numba.set_num_threads(number)
    return in_kernels()
"""


@pytest.mark.parametrize("layer", runs.LAYERS)
def test_the_number_that_numba_is_told_is_that_of_kernels(layer):
    script = f"""{ON_A_MACHINE_OF_TWO_CORES}
assert in_kernels() == 2
with concurrent.futures.ThreadPoolExecutor(1) as pool:
    assert pool.submit(in_kernels).result() == 2
    assert [told(number) for number in (1, 2, 3)] == [1, 2, 3]
    assert pool.submit(in_kernels).result() == 2, "a number is of one Python thread"
    assert pool.submit(told, 3).result() == 3
assert told(4) == 2, "all is no limit"
"""
    runs.on_layer(layer, script, threads=4)


def test_numba_num_threads_is_the_number_of_threads():
    script = """
from nbbp.kernels import threads
assert threads.default() == (3, "NUMBA_NUM_THREADS") and threads.count() == threads.most() == 3
"""
    runs.run(script, NUMBA_NUM_THREADS="3")


def test_numba_num_threads_that_changes_too_late_changes_nothing():
    """Numba's settings follow it when something is compiled, its threads do not."""
    script = """
import os
import numba
from nbbp.kernels import threads

os.environ["NUMBA_NUM_THREADS"] = "1"
numba.njit(lambda x: x)(1)
assert numba.config.NUMBA_NUM_THREADS == 1 and threads.count() == threads.most() == 3
"""
    runs.run(script, NUMBA_NUM_THREADS="3")
