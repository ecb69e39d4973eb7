"""Many threads at once, the user's own parallel code beside, and the choice between all threads and one."""

import contextlib
import sys

import pytest
import runs

import nbbp
from nbbp.kernels import threads

pytestmark = pytest.mark.slow


@pytest.mark.skipif(threads.default()[0] < 2, reason="one thread")
def test_a_slow_neighbour_is_avoided_and_forgotten(monkeypatch):
    now, speed = [100.0], {}
    monkeypatch.setattr(threads.time, "perf_counter", lambda: now[0])
    ran: list[tuple[int, int]] = []

    def steps(most: int) -> int:
        ran.append((threads.count(), most))
        now[0] += most * speed[threads.count()]
        return most

    def share_of_one_thread(seconds: float) -> float:
        """Of the steps run in this time."""
        ran.clear()
        end = now[0] + seconds
        while now[0] < end:
            pace.run(steps)
        return sum(n for t, n in ran if t == 1) / sum(n for _, n in ran)

    everyone = threads.count()
    pace = threads.Pace(0.05)
    speed |= {everyone: 1e-4, 1: 1.6e-4}
    assert share_of_one_thread(5.0) < 0.01
    assert max(n for _, n in ran) == pytest.approx(500, rel=0.1)
    speed[everyone] = 8e-4  # a neighbour comes
    share_of_one_thread(1.0)
    assert share_of_one_thread(2.0) > 0.9
    speed[everyone] = 1e-4  # and goes
    share_of_one_thread(0.5)
    assert share_of_one_thread(2.0) < 0.02
    assert threads.count() == everyone


@pytest.mark.parametrize("least", [0, 1])
def test_a_run_is_one_call_and_runs_of_few_steps_settle(monkeypatch, least):
    now, ran, speed = [0.0], [], {8: 1e-3, 4: 2e-3, 2: 4e-3, 1: 8e-3}
    monkeypatch.setattr(threads.time, "perf_counter", lambda: now[0])
    monkeypatch.setattr(threads, "limited", contextlib.nullcontext)
    monkeypatch.setattr(threads, "processors", lambda: 8)
    monkeypatch.setattr(threads, "count", lambda: 8)
    pace = threads.Pace(0.05)

    def steps(most: int) -> int:
        done = least if len(ran) % 3 == 0 else 1  # now and then nothing was left to do
        ran.append(trying())
        now[0] += 1e-5 + done * speed[ran[-1]]
        return done

    def trying() -> int:
        return pace._threads if pace._other is None else pace._other

    for k in range(600):
        pace.run(steps)
        assert len(ran) == k + 1
    assert ran[-200:].count(8) > 190


def test_a_callback_misses_no_step_and_penalties_are_counted_once():
    X, y = runs.rows()

    class Fifth(nbbp.callbacks.Callback):
        every, seen = 5, 0

        def on_step(self, fit):
            self.seen += 1

    counter, model = Fifth(), nbbp.Sequential([nbbp.Dense(64, l2=0.5), nbbp.Dense(2)])
    model.fit(X, y, epochs=40, batch_size=32, verbose=0, callbacks=[counter])
    assert counter.seen == 40 * 32 // 5
    gradient = model.built.gradient(model.prepare(X, y))
    assert len({gradient() for _ in range(400)}) == 1


AT_ONCE = """
import concurrent.futures
import runs, nbbp

X, y = runs.rows()
shared = runs.wide()
shared.build(32)

def fit(seed):
    return runs.fitted((runs.wide, runs.narrow)[seed % 2](seed))

def predict(seed):
    return runs.digest(shared.predict(X[: 1000 + seed]), shared.predict(X[: seed + 1]))

def together(seed):
    ensemble = nbbp.Ensemble([runs.narrow(seed), runs.narrow(seed + 1)])
    histories = ensemble.fit(X, y, epochs=2, batch_size=512, verbose=0)
    return runs.digest(ensemble.predict(X), *(history.step_loss for history in histories))

def compare(seed):
    return runs.digest(nbbp.compare(runs.narrow(seed), X[:128], y[:128], steps=4).compiled)

def gradients(seed):
    model = runs.wide(seed)
    model.gradients(X, y)
    return runs.digest(model.grads)

jobs = [(job, seed) for seed in range(SEEDS) for job in (fit, predict, together, compare, gradients)]

def run(job):
    return job[0](job[1])

with concurrent.futures.ThreadPoolExecutor(8) as pool:
    at_once = list(pool.map(run, jobs))  # first, so that threads bind, load and compile at once
for job, bits in zip(jobs, at_once):
    assert run(job) == bits, job
"""


@pytest.mark.parametrize("seeds", [2, pytest.param(50, marks=pytest.mark.soak)])
@pytest.mark.parametrize("layer", runs.LAYERS)
def test_eight_threads_give_the_bits_of_one_after_the_other(layer, seeds):
    runs.on_layer(layer, AT_ONCE.replace("SEEDS", str(seeds)), timeout=1800)


@pytest.mark.soak
@pytest.mark.parametrize("layer", runs.LAYERS)
def test_eight_threads_compile_at_once(layer, tmp_path):
    runs.on_layer(layer, AT_ONCE.replace("SEEDS", "2"), timeout=1800, NUMBA_CACHE_DIR=str(tmp_path))


PARALLEL_CODE_OF_ONES_OWN = """
import threading
import numpy as np, numba
import runs, nbbp

X, y = runs.rows()
model = runs.wide()
model.build(32)
many, few, fitted = model.predict(X), model.predict(X[:3]), runs.fitted(runs.wide())

def ask(i):
    if i == 0:
        return float(runs.fitted(runs.wide()) == fitted)
    return float(np.array_equal(model.predict(X), many) and np.array_equal(model.predict(X[:3]), few))

@numba.njit(parallel=True)
def inside(right):
    for i in numba.prange(right.shape[0]):
        with numba.objmode(answer="float64"):
            answer = ask(i)
        right[i] = answer

right = np.zeros(8)
inside(right)
assert right.all(), right
"""

BESIDE = """
@numba.njit(parallel=True, nogil=True)
def sines(x):
    for i in numba.prange(x.shape[0]):
        for j in range(2000):
            x[i] += np.sin(x[i] + j)

sines(np.zeros(8))
stop, times = threading.Event(), []
def own():
    while not stop.is_set():
        sines(np.zeros(64))
        times.append(1)
thread = threading.Thread(target=own)
thread.start()
try:
    while len(times) < 20:
        assert ask(0) and ask(1)
finally:
    stop.set()
    thread.join()
"""


@pytest.mark.parametrize("layer", runs.LAYERS)
def test_predictions_and_fits_inside_and_beside_ones_own_parallel_code(layer):
    """Beside it not on Numba's workqueue, which says why and aborts the process when two threads enter it."""
    beside = "" if layer == "workqueue" else BESIDE
    runs.on_layer(layer, PARALLEL_CODE_OF_ONES_OWN + beside)


def test_joblib_threads():
    joblib = pytest.importorskip("joblib")
    jobs = [joblib.delayed(runs.fitted)(runs.narrow(seed)) for seed in range(6)]
    assert joblib.Parallel(n_jobs=3, backend="threading")(jobs) == [runs.fitted(runs.narrow(s)) for s in range(6)]


def test_other_threads_run_while_steps_do():
    """A run without an end, which a thread in Python ends: it would wait for ever if steps held the GIL."""
    script = """
import threading, time
import numpy as np
from nbbp.engine.program import Program
from nbbp.engine.runner import Runner
from nbbp.kernels.batches import copy

endless = Program("numba", "float32", 4)
endless.call(copy, np.zeros(4), np.ones(4))
endless.clock.set(end=1, batches=1)
runner = Runner(endless)
runner.run()
endless.clock.end = 1 << 60
turns = 0

def stop():
    global turns
    end = time.perf_counter() + 0.3
    while time.perf_counter() < end:
        turns += 1
    endless.clock.stop = 1

thread = threading.Thread(target=stop)
thread.start()
runner.run()
assert turns > 10_000 and endless.clock.step > 10_000, (turns, endless.clock)
"""
    runs.run(script, timeout=60)


ONE_CORE = """
from nbbp.kernels import threads
threads.default = lambda: (1, "one core")
deciding = threads.deciding(True)  # the kernels for several threads, which nothing else holds back
deciding.__enter__()
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
@pytest.mark.parametrize(("before", "threads", "shared"), [
    ("", "2", True),
    ("", "1", False),
    ("import numba; numba.set_num_threads(1)", "2", False),
    (ONE_CORE, "2", False),
])  # fmt: skip
def test_a_fit_takes_the_number_of_threads_that_numba_is_told(before, threads, shared):
    """Seconds that other threads than the one which calls have run."""
    script = f"""
{before}
import glob, os, runs

def others() -> float:
    tasks = set(glob.glob("/proc/self/task/*/schedstat")) - {{f"/proc/self/task/{{os.getpid()}}/schedstat"}}
    return sum(int(open(task).read().split()[0]) for task in tasks) / 1e9

X, y = runs.rows()
model = runs.wide()
model.build(X.shape[1])
before = others()
for _ in range(20):
    model.fit(X, y, batch_size=512, verbose=0)
    model.predict(X)
print(others() - before)
"""
    assert (float(runs.run(script, NUMBA_NUM_THREADS=threads, OPENBLAS_NUM_THREADS="1")) > 0.01) == shared
