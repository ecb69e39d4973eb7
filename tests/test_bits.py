"""Equal bits: at any number of threads, on every threading layer, fresh and cached, in AVX2 and AVX-512 code."""

import hashlib
import platform

import numpy as np
import pytest
import runs

import nbbp
from nbbp.activations import ACTIVATIONS
from nbbp.training import row_lanes

pytestmark = pytest.mark.slow

IN_LANES = "import runs; print(runs.fitted(runs.narrow(), 2))"
TRAIN = IN_LANES + "; print(runs.fitted(runs.wide()))"


@pytest.fixture(scope="module")
def on_one_thread() -> str:
    return runs.run(TRAIN, NUMBA_NUM_THREADS="1")


def test_the_networks_run_in_lanes_and_by_operation():
    for model, lanes in ((runs.narrow(), 8), (runs.wide(), 1)):
        model.build(32)
        assert len(row_lanes(512, len(model.params))) == lanes


@pytest.mark.parametrize("threads", [2, 4])
@pytest.mark.parametrize("layer", runs.LAYERS)
def test_threads_leave_the_bits(layer, threads, on_one_thread):
    if threads == 2 and layer != "omp":
        pytest.skip("four are enough")
    assert runs.on_layer(layer, TRAIN, threads) == on_one_thread


@pytest.mark.parametrize("script", [IN_LANES, pytest.param(TRAIN, marks=pytest.mark.soak)], ids=["lanes", "both"])
def test_fresh_code_has_the_bits_of_cached(script, tmp_path, on_one_thread):
    fresh = runs.run(script, NUMBA_CACHE_DIR=str(tmp_path))
    assert fresh == on_one_thread[: len(fresh)]


def test_narrower_vectors_leave_the_bits(on_one_thread):
    from llvmlite import binding

    if not binding.get_host_cpu_features().get("avx2"):
        pytest.skip("no AVX2")
    assert runs.run(TRAIN, **runs.HASWELL) == on_one_thread


# Initial values are uniform, data come from integers, and no number goes through a function of libm or of NumPy's that
# has a version for each processor: these bits are the same on every x86-64.
FIXED = {
    "optimizers": "02fafe354b9f84c0",
    "activations": "4136f5cd0540065d",
    "losses": "ca21639a44e2eb6e",
    "layers": "c2ca5e7886ee7e89",
}


def _fixed(what: str):
    """The networks of a fixed run, and their targets."""
    _, y = runs.rows(96, 8)
    labels = np.arange(96) * 7 % 2
    if what == "optimizers":
        for name in nbbp.OPTIMIZERS:
            if name != "nadam":  # np.float_power
                yield [nbbp.Dense(6, "tanh"), nbbp.Dense(2)], {"optimizer": name}, y
    if what == "activations":
        for name in ACTIVATIONS:
            yield [nbbp.Dense(6, name), nbbp.Dense(2)], {}, y
    if what == "losses":
        for name, loss in nbbp.LOSSES.items():
            if name != "distillation":
                ending = "softmax" if loss.from_probabilities else "linear"
                target = labels if ending == "softmax" or loss.link == "softmax" else np.abs(y)
                yield [nbbp.Dense(6), nbbp.Dense(2, ending)], {"loss": name}, target
    if what == "layers":
        block = nbbp.Residual([nbbp.Dense(12, "silu"), nbbp.LayerNorm()])
        noisy = [nbbp.Dense(12, l2=1e-3, max_norm=2.0), nbbp.BatchNorm(), nbbp.Dropout(0.3), nbbp.GaussianNoise(0.1)]
        settings = {"optimizer": nbbp.AdamW(clip_norm=1.0), "averaging": nbbp.EMA(0.9)}
        for dtype in ("float32", "float64"):
            yield [*noisy, block, nbbp.Dense(2)], {**settings, "dtype": dtype}, y


@pytest.mark.skipif(platform.machine().lower() not in ("x86_64", "amd64"), reason="bits of x86-64")
@pytest.mark.parametrize("what", FIXED)
def test_a_fixed_run_has_the_bits_that_it_had(what):
    """Where a change is meant to move bits, the changelog says so and the digests here are replaced."""
    X, _ = runs.rows(96, 8)
    made = hashlib.sha256()
    for layers, settings, y in _fixed(what):
        model = nbbp.Sequential(layers, seed=3, **{"optimizer": "sgd", **settings})
        history = model.fit(X, y, epochs=3, batch_size=40, verbose=0)
        made.update(runs.digest(model.params, history.step_loss, model.predict(X)).encode())
    assert made.hexdigest()[:16] == FIXED[what]
