"""What training allocates: nothing in a step, and beside the data what the README says."""

import gc
import tracemalloc
import weakref

import numpy as np
import pytest
from numba.core.runtime import _nrt_python, rtsys

import nbbp
from nbbp.engine.recent import FEW_ROWS
from nbbp.kernels import arrays

SIZES = {"lanes": (4, 32, 16, 4), "by operation": (600, 512, 10)}


def model_and_data(name: str, rows: int = 1000):
    sizes, rng = SIZES[name], np.random.default_rng(0)
    hidden = [nbbp.Dense(n, activation="relu") for n in sizes[1:-1]]
    model = nbbp.Sequential([*hidden, nbbp.Dense(sizes[-1])], loss="softmax_cross_entropy", optimizer="adam")
    X = rng.random((rows, sizes[0]), dtype=np.float32)
    return model, X, rng.integers(0, sizes[-1], rows)


@pytest.mark.parametrize("name", SIZES)
def test_a_step_allocates_nothing(name):
    model, X, y = model_and_data(name)
    model.build(X.shape[1])
    trainer = model.built.trainer(model.prepare(X, y), 256)
    trainer.train(1, 0)
    allocated = []
    _nrt_python.memsys_enable_stats()
    try:
        for steps in (1, 4):
            trainer.clock.set(batches=4, end=steps)
            before = rtsys.get_allocation_stats()
            trainer.runner.run()
            after = rtsys.get_allocation_stats()
            allocated.append((after.alloc - before.alloc, after.mi_alloc - before.mi_alloc))
    finally:
        _nrt_python.memsys_disable_stats()
    assert trainer.clock.step == 4
    assert allocated[0] == allocated[1]  # what the call of the runner itself takes


@pytest.mark.parametrize("name", SIZES)
def test_memory_is_what_the_readme_says(name):
    """(2 + moments) x parameters, three times the activations of a mini-batch, 24 bytes a row, half a megabyte."""
    model, X, y = model_and_data(name, rows=20_000)
    model.copy().fit(X, y, batch_size=256, verbose=0)  # compiles
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        model.fit(X, y, batch_size=256, epochs=3, verbose=0)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    activations = 256 * 4 * sum(SIZES[name])
    assert peak - before < (2 + 2) * model.params.nbytes + 3 * activations + 24 * len(X) + 500_000


def test_arrays_begin_on_a_cache_line_and_large_ones_spread_over_pages():
    """Whatever malloc gives: Adam on four arrays takes 9 or 25 us, depending on where they begin."""
    model, X, y = model_and_data("by operation")
    model.fit(X, y, batch_size=256, verbose=0)
    flat = [model.params, model.grads, *model.update.moments]
    buffers = [arrays.zeros(n, np.float32) for n in (1, 7, 1000, 5000, 5000)]
    assert [array.ctypes.data % arrays.LINE for array in [*flat, *buffers]] == [0] * 9
    assert len({array.ctypes.data % arrays.PAGE for array in flat}) == 4


def test_a_program_binds_no_array_of_its_own_off_a_line():
    """Scalars aside, which one vector holds."""
    model, X, y = model_and_data("by operation")
    model.build(X.shape[1])
    trainer = model.built.trainer(model.prepare(X, y), 256)
    data = *trainer.source.data.inputs, *trainer.source.data.targets
    bound = {id(a): a for call in trainer.runner.program.calls for a in call.arrays if a.nbytes >= arrays.LINE}
    own = [a for a in bound.values() if not any(np.shares_memory(a, given) for given in (*data, *flat_arrays(model)))]
    assert len(own) > 5
    assert [a.shape for a in own if a.ctypes.data % arrays.LINE] == []


def flat_arrays(model):
    """Within which parameters lie one after another."""
    return model.params, model.grads


def test_a_model_does_not_hold_many_rows():
    """What was bound to few stays; of many, neither the data nor the activations do."""
    X, y = np.zeros((FEW_ROWS + 1, 4), np.float32), np.zeros((FEW_ROWS + 1, 1), np.float32)
    model = nbbp.Sequential([nbbp.Dense(64), nbbp.Dense(1)])
    model.fit(X[:8], y[:8], verbose=0)
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        model.fit(X, y, verbose=0)
        model.gradients(X, y)
        model.input_gradients(X, y)
        held = weakref.ref(X)
        del X
        gc.collect()
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert held() is None
    assert after - before < 4 * 64 * FEW_ROWS  # of the hidden layer


def test_a_trainer_that_is_reused_takes_the_weights_of_its_data(rng):
    X, y = rng.standard_normal((96, 4)), rng.standard_normal((96, 1))
    weights = rng.random((6, 96)) + 0.1
    again, anew = nbbp.Sequential([nbbp.Dense(1)]), nbbp.Sequential([nbbp.Dense(1)])
    for model in (again, anew):
        model.build(4)
    for weight in weights:
        again.built.trainer(again.prepare(X, y, weight), 32, mean_weight=1.0).train(1, again.epochs)
        other = anew.copy()
        other.built.trainer(other.prepare(X, y, weight), 32, mean_weight=1.0).train(1, anew.epochs)
        anew.take(other)
        again.epochs, anew.epochs = again.epochs + 1, anew.epochs + 1
        assert again.params.tobytes() == anew.params.tobytes()
