"""Compilation in several processes: what workers compile is loaded, and trouble with them costs a compilation."""

import os
import pathlib
import subprocess
import sys
import time

import pytest
import runs

import nbbp
from nbbp.kernels import threads, workers
from nbbp.kernels.jit import KERNELS

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


LATER = (
    COMPILE[: COMPILE.index("for number")]
    + """
later = workers.Later(codes)
print(len(later.codes), end=" ")
while not later.done if {waits} else workers._pool._later:
    time.sleep(0.01)
assert later.done == {waits}
print(*(cache.counts[kind] for kind in ("written", "shared")))
"""
)


def are_compiled(cache: pathlib.Path, count: int) -> bool:
    """Whether within a minute there are so many functions in the cache."""
    deadline = time.monotonic() + 60
    while (found := len(list(cache.rglob("*.nbc")))) < count and time.monotonic() < deadline:
        time.sleep(0.05)
    return found == count


def test_workers_compile_while_this_process_does_something_else(tmp_path):
    assert run(LATER.format(before="", waits=True), tmp_path) == ("5 0 5", "")
    assert run(LATER.format(before="", waits=True), tmp_path) == ("0 0 0", "")


def test_workers_compile_what_is_left_when_this_process_ends(tmp_path):
    assert run(LATER.format(before="", waits=False), tmp_path) == ("5 0 0", "")
    assert are_compiled(tmp_path, 5)


@pytest.mark.parametrize("trouble", TROUBLES)
def test_nothing_waits_for_workers_in_trouble(trouble, tmp_path):
    """What is then missing is compiled by the process that needs it."""
    assert run(LATER.format(before=TROUBLES[trouble], waits=True), tmp_path)[0].endswith(" 0 0")


PREDICT = """
import numpy as np, nbbp
from nbbp.kernels import cache, threads
with threads.deciding(True):  # for several threads, however little work there is
    print(nbbp.Sequential([nbbp.Activation("relu")]).predict(np.array([[-2.0, 3.0]]))[0].tolist(), end=" ")
print(cache.counts["written"])
"""


def test_what_threads_share_is_compiled_later(tmp_path):
    printed, warnings = run(PREDICT, tmp_path, NUMBA_NUM_THREADS="2")
    assert printed.startswith("[0.0, 3.0] ")
    written = int(printed.split()[-1])
    assert are_compiled(tmp_path, written + 2)  # those of the activation, and of the copy of its input
    assert not warnings
    assert run(PREDICT, tmp_path, NUMBA_NUM_THREADS="2")[0] == "[0.0, 3.0] 0"


@pytest.mark.parametrize("steps", [0, 1, 3, 1000])
def test_the_bits_do_not_depend_on_when_threads_begin_to_share_work(steps, monkeypatch):
    def trained() -> str:
        X, y = runs.rows(64, 4)
        model = nbbp.Sequential([nbbp.Dense(3, "tanh"), nbbp.Dense(2)], "mse", "adam")
        with threads.deciding(True):
            history = model.fit(X, y, batch_size=8, epochs=4, verbose=0)
        return runs.digest(model.params, history.step_loss)

    begun = []

    class Later:
        """Functions that are there after some steps."""

        def __init__(self, codes) -> None:
            self.codes, self.left = list(codes), steps
            begun.append(self)

        @property
        def done(self) -> bool:
            self.left -= 1
            return self.left < 0

    right = trained()
    monkeypatch.setattr("nbbp.engine.runner.Later", Later)
    assert trained() == right
    assert any(later.codes and later.left < steps for later in begun)
    assert all(later.left >= 0 for later in begun) == (steps == 1000)


def test_functions_with_many_parts_are_begun_first_and_none_is_left_out():
    names = ["affine", "relu_forward", "product_of_transposed", "transpose", "affine_columns", "product_with_columns"]
    codes = [(KERNELS[name].serial, ()) for name in names]
    arranged = workers._arranged(codes)
    assert sorted(map(codes.index, arranged)) == list(range(len(codes)))
    assert [codes.index(code) for code in arranged[2:4]] == [1, 3]
    assert workers._arranged([]) == []
