"""Compilation in several processes: what workers compile is loaded, and trouble with them costs a compilation."""

import os
import pathlib
import subprocess
import sys

import pytest
import runs

pytestmark = pytest.mark.slow

COMPILE = """
import atexit, subprocess, sys, time
import numpy as np, nbbp
from nbbp.kernels import cache, threads, workers
from nbbp.kernels.jit import KERNELS, machine_code, signature
threads.count = lambda: 2
{before}
x = np.zeros(3, np.float32)
names = ["relu_forward", "tanh_forward", "sigmoid_forward", "softplus_forward", "silu_forward"]
codes = [(KERNELS[name].serial, signature([x] * len(KERNELS[name].arguments.names))) for name in names]
for number, (function, kinds) in enumerate(workers.Divided(codes)):
    deadline = time.monotonic() + 60
    while number == 0 and workers._pool._workers and not cache.counts["shared"] and time.monotonic() < deadline:
        time.sleep(0.01)  # the worker has begun
    assert machine_code(function, kinds)
threads.count = lambda: 1
assert len(workers.Divided(codes)) == len(list(workers.Divided(codes))) == 5
print(*(cache.counts[kind] for kind in ("written", "shared", "read", "lost")))
"""


def run(script: str, cache: pathlib.Path, **environment: str) -> tuple[str, str]:
    """What a process prints and warns of."""
    where = {"NUMBA_CACHE_DIR": str(cache), "PYTHONPATH": runs.path()}
    done = subprocess.run(
        [sys.executable, "-W", "always", "-c", script], env={**os.environ, **where, **environment}, cwd=runs.TESTS,
        capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout.strip(), done.stderr


def test_what_a_worker_has_compiled_is_loaded(tmp_path):
    printed, warnings = run(COMPILE.format(before=""), tmp_path)
    written, shared, read, lost = map(int, printed.split())
    assert shared > 0
    assert (written + shared, read, lost) == (5, shared, 0)
    assert not warnings
    assert len(list(tmp_path.rglob("*.nbc"))) == 5
    assert run(COMPILE.format(before=""), tmp_path) == ("0 0 5 0", "")


WORKER = """
def start():
    return subprocess.Popen([sys.executable, "-c", WORKER], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
workers._start = start
"""
TROUBLES = {
    "it ends at once": WORKER.replace("WORKER", repr("")),
    "it ends when it has work": WORKER.replace("WORKER", repr("import sys; sys.stdin.buffer.read(1)")),
    "it answers and has compiled nothing": WORKER.replace("WORKER", repr("print('.', flush=True); input()")),
    "it cannot be started": "sys.executable = '/nowhere/python'",
    "it finds no package": "workers.WORKER = 'nbbp.kernels.nothing'",
    "this program is not an interpreter": "sys.executable = '/usr/bin/env'",
}


@pytest.mark.parametrize("trouble", TROUBLES)
def test_trouble_with_a_worker_costs_a_compilation(trouble, tmp_path):
    assert run(COMPILE.format(before=TROUBLES[trouble]), tmp_path)[0] == "5 0 0 0"


def test_no_worker_without_a_folder(tmp_path):
    """The kernels that it would compile are lost."""
    (tmp_path / "file").touch()
    printed, said = run(COMPILE.format(before=""), tmp_path / "file")
    assert printed == "0 0 0 5"
    assert "nbbp compiles its kernels anew in every process" in said


TRAIN = """
import runs, nbbp
from nbbp.kernels import cache
X, y = runs.rows(64, 4)
model = nbbp.Sequential([nbbp.Dense(3, "tanh"), nbbp.Dense(2)], "mse", "adam")
history = model.fit(X, y, batch_size=8, epochs=2, verbose=0)
print(runs.digest(model.params, history.step_loss), dict(cache.counts))
"""


def test_a_fit_shares_its_compilation_with_the_same_bits(tmp_path):
    together, warnings = run(TRAIN, tmp_path / "together", NUMBA_NUM_THREADS="2")
    alone, _ = run(TRAIN, tmp_path / "alone", NUMBA_NUM_THREADS="1")
    assert together.split()[0] == alone.split()[0]
    assert "shared" in together
    assert "shared" not in alone
    assert not warnings


FORK = """
import os
threads.count = lambda: 2
more = [(KERNELS[name.replace("forward", "backward")].serial, signature([x] * 2)) for name in names]
for function, kinds in workers.Divided(more):
    break  # a worker has some
child = os.fork()
if not child:
    for function, kinds in workers.Divided(more):
        machine_code(function, kinds)
    os._exit(0)
print(os.waitpid(child, 0)[1])
"""


@pytest.mark.skipif(sys.platform == "win32", reason="no fork")
def test_a_forked_child_waits_for_no_worker_of_its_parent(tmp_path):
    script = COMPILE.format(before="") + FORK
    printed, _ = run(script, tmp_path)
    assert printed.splitlines()[-1] == "0"
