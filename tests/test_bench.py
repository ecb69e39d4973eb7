"""Benchmarks: the machine's limits, and the breakdown of a step."""

import json
import math

import numpy as np
import pytest

from nbbp.bench import limits, profile
from nbbp.bench.roofline import roofline
from nbbp.bench.workloads import WORKLOADS
from nbbp.cli import main

pytestmark = pytest.mark.slow


def test_limits_are_positive():
    measured = limits.measure()
    assert 0 < measured.fma_peak < math.inf
    assert measured.one_thread.keys() == measured.all_threads.keys() >= {"memory"}
    assert all(0 < speed < math.inf for speed in (*measured.one_thread.values(), *measured.all_threads.values()))
    assert math.isnan(measured.core_to_core) or 0 < measured.core_to_core < 1e-4
    assert measured.or_better(measured).all_threads == measured.all_threads


def test_threads_that_wait_in_vain_stop():
    assert not limits._take_turns_compiled(np.zeros(8, np.int64), 1, 3, 1000)


def test_caches_of_linux_and_without_them(tmp_path, monkeypatch):
    monkeypatch.setattr(limits, "CACHES", tmp_path)
    assert [cache.name for cache in limits.caches()] == ["L2", "L3"]
    for index, (level, size, mask) in enumerate(
        [("1", "48K", "3"), ("2", "2048K", "3"), ("3", "32768K", "00000000,ffffffff")]
    ):
        folder = tmp_path / f"index{index}"
        folder.mkdir()
        for name, text in (("level", level), ("size", size), ("shared_cpu_map", mask)):
            (folder / name).write_text(f"{text}\n")
    second, third = limits.caches()
    assert second == limits.Cache("L2", 2 << 20, 2)
    assert third == limits.Cache("L3", 32 << 20, 32)
    assert second.share(1) == 2 * second.share(2) == 2 * second.share(64)
    assert limits.sizes(2) == {"L2": 1 << 19, "L3": 8 << 20, "memory": 64 << 20}


def test_roofline_of_a_step():
    speeds = {"L2": 4e11, "L3": 2e11, "memory": 4e10}
    measured = limits.Limits(5e11, 4e-8, speeds, speeds)
    few, many = (roofline(WORKLOADS[name], measured, 1) for name in ("toy", "wide"))
    assert few.products == pytest.approx(WORKLOADS["toy"].flops / 5e11)
    assert few.bytes == pytest.approx((28 * 121 + 4 * 1000 * 10) / speeds[few.level])
    assert few.seconds == few.products + few.bytes < many.seconds


def test_the_calls_of_a_profile_add_up_to_the_step(monkeypatch):
    monkeypatch.setattr(profile, "SECONDS", 0.005)
    measured = profile.measure(WORKLOADS["toy"])
    names = [row.name for row in measured.rows]
    assert any(name.startswith("8 shards: affine 125x10 125x10") for name in names)
    assert names[-1] == "adam 121 121 121 121 8"
    total = sum(row.one_thread for row in measured.rows)
    assert measured.step_on_one_thread / 2 < total < 2 * measured.step_on_one_thread
    assert all(row.running >= 0 for row in measured.rows if "wait" not in row.name)
    assert all(row.repeated > 0 for row in measured.rows if "wait" not in row.name)


def test_commands_print_what_the_processor_allows(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(profile, "SECONDS", 0.005)
    assert main(["bench", "profile", "xor"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert any(line.startswith("adam 12 12 12 12 8") for line in lines)
    assert any(line.startswith("total") for line in lines)
    assert lines[-2].startswith("FMA peak ")
    assert main(["bench", "xor", "--peers", "nbbp", "--rounds", "1", "--json", str(tmp_path / "bench.json")]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert sum(line.startswith("FMA peak ") and "; core to core " in line for line in lines) == 1
    assert lines[-1].startswith("xor ")
    assert lines[-1].endswith("%")
    written = json.loads((tmp_path / "bench.json").read_text())
    assert written["limits"]["before"].keys() == written["limits"]["after"].keys() >= {"fma_peak", "core_to_core"}
    assert written["peers"][0]["roofline"]["products"] > 0
