"""Forks: a child trains and predicts with what it inherits, with the same bits, whatever the parent is about."""

import os

import pytest
import runs

pytestmark = [pytest.mark.slow, pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")]

# A child that hangs is ended by an alarm, one that numba or OpenMP ends has a status of its own.
CHILD = """
import os, runs, signal, threading, nbbp
from nbbp.kernels import threads

X, _ = runs.rows()
model = runs.wide()
model.build(32)
expected = runs.fitted(model)
many, one = model.predict(X).tobytes(), model.predict(X[:1]).tobytes()
members = [runs.narrow(1), runs.narrow(2)]
nbbp.Ensemble(members).fit(*runs.rows(), batch_size=512, verbose=0)

def in_child():
    assert model.predict(X).tobytes() == many, "bound in the parent, with parallel code"
    assert model.predict(X[:1]).tobytes() == one
    assert runs.fitted(runs.wide()) == expected
    together = [runs.narrow(1), runs.narrow(2)]
    nbbp.Ensemble(together).fit(*runs.rows(), batch_size=512, verbose=0)
    assert [m.params.tobytes() for m in together] == [m.params.tobytes() for m in members]

def forked(work):
    pid = os.fork()
    if pid == 0:
        signal.alarm(60)
        try:
            work()
        except BaseException:
            import traceback
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    assert os.waitpid(pid, 0)[1] == 0
"""


@pytest.mark.parametrize("layer", runs.LAYERS)
def test_a_fork_after_training(layer):
    """A child, its child, and a thread of its own; then the parent goes on."""
    script = """
def in_thread():
    failed = []
    def work():
        try:
            in_child()
        except BaseException as error:
            failed.append(error)
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert not failed, failed

forked(lambda: (in_child(), forked(in_child), in_thread()))
in_child()
assert threads.count() == 4
"""
    runs.on_layer(layer, CHILD + script)


def test_a_child_computes_a_property_that_another_thread_was_computing():
    script = """
from nbbp.kernels.forks import cached_property

begun, forked_off = threading.Event(), threading.Event()

class Slow:
    @cached_property
    def value(self):
        begun.set()
        forked_off.wait()
        return 1

slow = Slow()
thread = threading.Thread(target=lambda: slow.value)
thread.start()
begun.wait()
pid = os.fork()
if pid == 0:
    signal.alarm(20)
    forked_off.set()
    os._exit(0 if Slow().value == 1 else 1)
forked_off.set()
thread.join()
assert os.waitpid(pid, 0)[1] == 0
"""
    runs.run("import os, signal, threading" + script)


BESIDE_OTHERS = """
import numba

stop = threading.Event()

def training(make):
    while not stop.is_set():
        make().fit(*runs.rows(), batch_size=512, verbose=0)

def predicting():
    while not stop.is_set():
        model.predict(X)

def compiling():
    while not stop.is_set():
        numba.njit(lambda x: x + 1)(1)

jobs = [(training, runs.wide), (training, runs.narrow), (predicting,), (predicting,), (compiling,)]
others = [threading.Thread(target=job, args=arguments) for job, *arguments in jobs]
for thread in others:
    thread.start()
try:
    for _ in range(FORKS):
        forked(in_child)
finally:
    stop.set()
    for thread in others:
        thread.join()
in_child()
"""


@pytest.mark.parametrize("forks", [3, pytest.param(100, marks=pytest.mark.soak)])
@pytest.mark.parametrize("layer", runs.LAYERS)
def test_a_fork_while_others_train_predict_and_compile(layer, forks):
    """Another thread holds the predictor's lock, the compiler's and LLVM's again and again."""
    runs.on_layer(layer, CHILD + BESIDE_OTHERS.replace("FORKS", str(forks)), timeout=1800)


def test_a_fork_in_a_callback_goes_on_with_the_fit():
    script = """
class Fork(nbbp.callbacks.Callback):
    child = None
    def on_epoch_end(self, fit):
        if self.child is None:
            self.child = os.fork()
            if self.child == 0:
                signal.alarm(60)

fork, model = Fork(), runs.wide()
model.fit(*runs.rows(), epochs=3, batch_size=512, verbose=0, callbacks=[fork])
if fork.child == 0:
    os.write(1, runs.digest(model.params).encode() + b" ")
    os._exit(0)
assert os.waitpid(fork.child, 0)[1] == 0
print(runs.digest(model.params))
"""
    child, parent = runs.on_layer("omp", CHILD + script).split()
    assert child == parent


def test_a_child_forked_before_any_thread_starts_has_them_all():
    script = """
import os, signal
import runs, nbbp
from nbbp.kernels import threads
pid = os.fork()
if pid == 0:
    signal.alarm(60)
    os._exit(0 if threads.count() == 4 and runs.fitted(runs.narrow()) else 1)
assert os.waitpid(pid, 0)[1] == 0
"""
    runs.on_layer("omp", script)


def test_pools_of_forked_workers():
    """multiprocessing's, and joblib's on top of it."""
    pytest.importorskip("joblib")
    script = """
import multiprocessing
import joblib

def work(seed):
    in_child()
    return runs.fitted(runs.narrow(seed))

here = [runs.fitted(runs.narrow(seed)) for seed in range(3)]
with multiprocessing.get_context("fork").Pool(2) as pool:
    assert pool.map(work, range(3)) == here
with joblib.parallel_config("multiprocessing", n_jobs=2):
    assert joblib.Parallel()(joblib.delayed(work)(seed) for seed in range(3)) == here
"""
    runs.on_layer("omp", CHILD + script)


def test_workers_of_a_dataloader():
    pytest.importorskip("torch")
    script = """
import torch

class Predictions(torch.utils.data.Dataset):
    def __len__(self):
        return 6
    def __getitem__(self, i):
        return model.predict(X[i : i + 1])[0]

loader = torch.utils.data.DataLoader(Predictions(), batch_size=3, num_workers=2, multiprocessing_context="fork")
seen = torch.cat(list(loader)).numpy()
assert seen.tobytes() == model.predict(X[:6]).tobytes()
"""
    runs.on_layer("omp", CHILD + script)
