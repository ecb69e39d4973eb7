"""A long-lived process does not grow, and what cannot fit into memory is refused before it is allocated."""

import gc
import pathlib
import tracemalloc

import numpy as np
import pytest

import nbbp
from nbbp.engine import memory

pytestmark = pytest.mark.slow

X, Y = np.random.default_rng(0).standard_normal((8, 4)), np.arange(8) % 3
STATUS = pathlib.Path("/proc/self/statm")
PAGE = 4096


def resident() -> int:
    """Bytes of this process that are in memory."""
    if not STATUS.exists():
        pytest.skip("needs /proc")
    gc.collect()
    return int(STATUS.read_text().split()[1]) * PAGE


def network(seed: int = 0) -> nbbp.Sequential:
    layers = [nbbp.Dense(8, "tanh"), nbbp.BatchNorm(), nbbp.Dense(3)]
    return nbbp.Sequential(layers, "softmax_cross_entropy", "adam", seed=seed, averaging=nbbp.EMA())


def models(count: int) -> None:
    for seed in range(count):
        model = network(seed)
        model.fit(X, Y, epochs=2, batch_size=5, verbose=0, callbacks=[nbbp.callbacks.EarlyStopping("loss")])
        model.predict(X)
        model.evaluate(X, Y)


def epochs(count: int) -> None:
    network().fit(X, Y, epochs=count, batch_size=8, verbose=0)


@pytest.mark.parametrize(("work", "count"), [(models, 30), (epochs, 2000)])
def test_what_python_allocates_does_not_grow(work, count):
    """One float for each epoch's loss and one for each step's are the history's."""
    work(count)
    sizes = []
    tracemalloc.start()
    try:
        for _ in range(3):
            work(count)
            gc.collect()
            sizes.append(tracemalloc.get_traced_memory()[0])
    finally:
        tracemalloc.stop()
    assert sizes[2] - sizes[1] < 20_000, sizes


@pytest.mark.soak
@pytest.mark.parametrize(("work", "count"), [(models, 1000), (epochs, 10_000)])
def test_the_process_does_not_grow(work, count):
    work(count // 10)
    before = resident()
    work(count)
    assert resident() - before < 3_000_000


def test_too_large_a_model_is_refused_with_its_bytes():
    tracemalloc.start()
    try:
        for units, message in ((10**7, "800,000,240,000,000 bytes"), (10**12, "parameters")):
            model = nbbp.Sequential([nbbp.Dense(10**7), nbbp.Dense(units)], optimizer="sgd")
            with pytest.raises(MemoryError, match=message):
                model.build(1)
        with pytest.raises(MemoryError, match=r"1,000,000,000,000,000 parameters.*4 arrays of float32"):
            nbbp.Sequential([nbbp.ColumnEmbedding({0: 10**15}, 1)], optimizer="adam").predict(np.zeros((1, 1)))
        assert tracemalloc.get_traced_memory()[1] < 1_000_000
    finally:
        tracemalloc.stop()


def test_a_mini_batch_that_does_not_fit_is_refused_before_the_fit(monkeypatch, rng):
    X, y = rng.random((20_000, 300), np.float32), rng.random((20_000, 1), np.float32)
    model = nbbp.Sequential([nbbp.Dense(4000), nbbp.Dense(1)])
    monkeypatch.setattr(memory, "available", lambda: 100 << 20)
    with pytest.raises(
        MemoryError, match=r"6\d\d.\d MiB in training, 20,000 rows at a time with 3\d.\d KiB each.*100.0 MiB"
    ):
        model.fit(X, y, batch_size=20_000, verbose=0)
    model.fit(X, y, epochs=1, batch_size=1_000, accumulate=20, verbose=0)
    assert model.steps == 1


def test_a_containers_limit_counts(monkeypatch, tmp_path):
    limit = tmp_path / "memory.max"
    monkeypatch.setattr(memory, "LIMITS", (str(limit),))
    machine = memory.available()
    limit.write_text("max\n")
    assert memory.available() == machine
    limit.write_text("1000000\n")
    assert memory.available() == 1_000_000
    with pytest.raises(MemoryError, match="there are 1,000,000"):
        nbbp.Sequential([nbbp.Dense(1000)]).build(1000)
