"""Shards of a mini-batch whose number the user gives: which rows they have, and how their gradients are added."""

import numba
import numpy as np
import pytest

import nbbp
from nbbp import streams
from nbbp.engine import planner
from nbbp.engine.network import Network
from nbbp.engine.planner import SHARD_NUMBERS, number_of_shards
from nbbp.engine.program import Shards
from nbbp.insight.summary import settings
from nbbp.kernels import threads
from nbbp.kernels.batches import gather
from nbbp.kernels.gemm import affine

ROWS = 195  # the last mini-batch of 64 has 3 rows


def data():
    rng = np.random.default_rng(0)
    return rng.standard_normal((ROWS, 9), dtype=np.float32), rng.integers(0, 3, ROWS)


def network(units: int = 20, *more, **given) -> nbbp.Sequential:
    layers = [nbbp.Dense(units, "tanh"), *more, nbbp.Dropout(0.2), nbbp.Dense(3)]
    model = nbbp.Sequential(layers, "softmax_cross_entropy", nbbp.Adam(0.01), ["accuracy"], **given)
    model.build(9)
    return model


def bits(model, *given, **how) -> tuple:
    given = given or data()
    history = model.fit(*given, verbose=0, **{"epochs": 3, "batch_size": 64} | how)
    return history.step_loss.tobytes(), model.params.tobytes(), model.grads.tobytes()


@pytest.mark.parametrize("backend", ["numba", "numpy"])
@pytest.mark.parametrize(
    ("rows", "shards"), [(rows, s) for rows in (1, 3, 7, 12, 16) for s in SHARD_NUMBERS if rows <= 2 * s]
)
def test_gradients_are_added_as_a_balanced_tree_of_the_shards(rows, shards, backend, rng):
    """With powers of two no product is rounded, and a shard of two rows at most has one sum."""
    X, y = (np.ldexp(rng.choice([-1, 1], (rows, 1)), rng.integers(-9, 9, (rows, 1))) for _ in range(2))
    model = nbbp.Sequential([nbbp.Dense(1, use_bias=False)], backend=backend)
    model.build(1)
    model.params[:] = 0
    model.fit(X, y, batch_size=rows, shuffle=False, shards=shards, verbose=0)
    slopes = (-2 * X * y).astype(np.float32) * (np.float32(1) / np.float32(rows))
    sums = [slopes[rows * i // shards : rows * (i + 1) // shards].sum(dtype=np.float32) for i in range(shards)]
    while len(sums) > 1:
        sums = [a + b for a, b in zip(sums[::2], sums[1::2], strict=True)]
    assert model.grads.tolist() == sums


@pytest.mark.skipif(numba.config.NUMBA_NUM_THREADS < 2, reason="there is one thread")
@pytest.mark.parametrize("shards", [1, 4, 16])
@pytest.mark.parametrize("units", [20, 4000], ids=["narrow", "wide"])
def test_bits_do_not_change_with_threads(units, shards):
    every, runs = numba.get_num_threads(), []
    try:
        for threads in (1, 2):
            numba.set_num_threads(threads)
            runs.append(bits(network(units), batch_size=24, shards=shards))
    finally:
        numba.set_num_threads(every)
    assert runs[0] == runs[1]


def test_the_number_of_shards_moves_the_last_bits_alone():
    one, two = network(), network()
    a, b = (m.fit(*data(), epochs=3, batch_size=64, shards=s, verbose=0) for m, s in ((one, 1), (two, 2)))
    assert one.params.tobytes() != two.params.tobytes()
    np.testing.assert_allclose(one.params, two.params, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(a.step_loss, b.step_loss, rtol=1e-5)
    np.testing.assert_allclose(a["accuracy"], b["accuracy"])


def test_shapes_decide_by_default():
    model = network()
    assert number_of_shards(128, model.params.size) == 2
    X, y = (array[:128] for array in data())
    expected = bits(model.copy(), X, y, batch_size=128)
    assert bits(model.copy(), X, y, batch_size=128, shards=2) == expected
    assert bits(model.copy(), X, y, batch_size=128, shards=4) != expected


def blocks(*given) -> list[nbbp.Layer]:
    return [nbbp.TransformerBlock(*given) for _ in range(3)]


def filters(number: int) -> list[nbbp.Layer]:
    return [nbbp.Conv2D(number, 5), nbbp.MaxPool2D(2)]


CUT = {  # layers, shape, rows of a mini-batch, and its shards
    "text": ([nbbp.Embedding(65, 128), *blocks(4), nbbp.Dense(65)], (64,), 12, 4),
    "table": ([nbbp.FeatureTokens(192), *blocks(8, 256), nbbp.TakeFirst()], (9,), 256, 2),
    "last step": ([nbbp.LSTM(64), nbbp.Dense(10)], (30, 1), 32, 2),
    "every step": ([nbbp.LSTM(128, return_sequences=True), nbbp.Dense(65)], (64, 65), 50, 2),
    "images": ([*filters(6), *filters(16), nbbp.Flatten(), nbbp.Dense(120)], (28, 28, 1), 100, 8),
    "features": ([nbbp.Dense(256), nbbp.Dense(256)], (54,), 256, 1),
}


@pytest.mark.parametrize("name", CUT)
def test_weights_that_a_row_uses_often_are_cut_into_more_shards(name):
    """Unless their gradients are long; a shard of a recurrent layer has rows for its tiles at every step."""
    layers, shape, rows, expected = CUT[name]
    model = nbbp.Sequential(layers)
    model.build(shape)
    assert len(planner.shards(model.network, rows)) == expected


def test_a_model_is_fitted_with_one_number_and_then_another():
    model = network()
    bits(model, shards=1)
    expected = bits(model.copy(), shards=16)
    assert bits(model, shards=16) == expected


@pytest.mark.parametrize("backend", ["numba", "numpy"])
@pytest.mark.parametrize("shards", [1, 2, 8])
@pytest.mark.parametrize(("batch", "parts"), [(8, 4), (7, 3), (5, 2), (200, 3)])
def test_micro_batches_have_their_share_of_rows_in_each_shard(batch, parts, shards, backend, rng):
    weights = rng.uniform(0, 2, ROWS)
    whole, in_parts = (network(dtype="float64", backend=backend) for _ in range(2))
    a = whole.fit(*data(), 2, batch * parts, sample_weight=weights, shards=shards, verbose=0)
    b = in_parts.fit(*data(), 2, batch, accumulate=parts, sample_weight=weights, shards=shards, verbose=0)
    np.testing.assert_allclose(a.step_loss, b.step_loss, rtol=1e-11)
    np.testing.assert_allclose(a["accuracy"], b["accuracy"], rtol=1e-12)
    np.testing.assert_allclose(whole.params, in_parts.params, rtol=1e-8, atol=1e-11)


def test_a_stream_has_the_bits_of_memory():
    stream = streams.from_arrays(*data(), buffer_rows=128)
    expected = bits(network(), shards=8, shuffle=False)
    assert bits(network(), stream, shards=8, shuffle=False) == expected
    assert bits(network(), stream, shards=2, shuffle=False) != expected


@pytest.mark.parametrize("shards", [0, -1, 3, 32, True, 4.0, "auto"])
def test_other_numbers_are_refused(shards):
    model = network()
    with pytest.raises(ValueError, match=f"shards must be 1, 2, 4, 8 or 16, or None; got {shards!r}"):
        model.fit(*data(), shards=shards)
    with pytest.raises(ValueError, match="shards must be 1, 2, 4, 8 or 16"):
        nbbp.Ensemble([model]).fit(*data(), shards=shards)
    assert model.steps == 0


def test_rows_that_depend_on_each_other_are_cut_only_if_the_user_says_so():
    model = network(20, nbbp.BatchNorm())
    expected = bits(model.copy())
    for given in (data(), [streams.from_arrays(*data())]):
        with pytest.raises(ValueError, match=r"a mini-batch of 3 rows has fewer in some of 2 shards"):
            model.fit(*given, shards=2, batch_size=64)
    assert bits(model, shards=1) == expected


@pytest.mark.parametrize("backend", ["numba", "numpy"])
@pytest.mark.parametrize("parts", [1, 2])
def test_running_averages_are_the_mean_of_the_shards(backend, parts):
    """Of one step without micro-batches; with two of them, each shard goes through both."""
    X, y = (array[:64] for array in data())
    layers = [nbbp.BatchNorm(momentum=0.75), nbbp.Dense(3)]
    model = nbbp.Sequential(layers, "softmax_cross_entropy", nbbp.SGD(0.1), backend=backend)
    model.fit(X, y, batch_size=64 // parts, accumulate=parts, shards=4, shuffle=False, verbose=0)
    expected = []
    for shard in X.astype(float).reshape(4, parts, 16 // parts, 9):
        mean, variance = 0, 1
        for rows in shard:
            mean = mean + 0.25 * (rows.mean(axis=0) - mean)
            variance = variance + 0.25 * (rows.var(axis=0, ddof=1) - variance)
        expected.append([mean, variance])
    found = model.network.state.reshape(2, 9)
    np.testing.assert_allclose(found, np.mean(expected, axis=0), rtol=2e-6, atol=1e-6)


def test_a_fit_is_resumed_with_its_shards(tmp_path):
    def fit(epochs, folder, **how):
        model = network()
        return bits(model, epochs=epochs, callbacks=[nbbp.Checkpoint(folder)], resume=folder, **how)

    expected = fit(5, tmp_path / "whole", shards=8)
    fit(2, tmp_path / "ended", shards=8)
    with pytest.raises(ValueError, match="shards was 8, and is 4"):
        fit(5, tmp_path / "ended", shards=4)
    assert fit(5, tmp_path / "ended") == expected


def test_settings_name_the_shards():
    seen = []
    noting = nbbp.callbacks.Call(lambda fit: seen.append(settings(fit)["shards"]))
    model = network()
    model.fit(*data(), shards=4, callbacks=[noting], verbose=0)
    model.fit(*data(), callbacks=[noting], verbose=0)
    assert seen == [4, None]


@pytest.mark.parametrize(
    ("shards", "threads", "expected"),
    [(16, 2, [8, 8]), (16, 1, [16]), (16, 12, [2] * 8), (16, 6, [2, 3, 3, 2, 3, 3]), (4, 8, [1] * 4), (0, 2, [0])],
)
def test_there_are_as_few_lanes_as_take_no_longer(shards, threads, expected):
    assert [lane.stop - lane.start for lane in planner.lanes(shards, threads)] == expected


def test_the_longest_lane_decides_how_long_shards_take():
    X, y = data()
    model = network(64)
    with threads.assuming(12):
        program = model.built.trainer(model.prepare(X, y), ROWS, shards=16).runner.program
    once, twelve = (planner.expected_cycles(program, cores) for cores in (1, 12))
    assert twelve > once / 8
    assert planner.expected_cycles(program, 8) < twelve


@pytest.mark.skipif(numba.config.NUMBA_NUM_THREADS < 2, reason="there is one thread")
def test_shards_of_one_thread_share_buffers_and_those_of_others_do_not():
    X, y = data()
    model = network()
    trainer = model.built.trainer(model.prepare(X[:64], y[:64]), 64, shards=4)
    found = next(bound for bound in trainer.runner.program.calls if isinstance(bound, Shards))
    assert [lane.stop - lane.start for lane in found.lanes] == [2, 2]
    places = [[call.arrays[0].ctypes.data for call in part.calls if call.kernel is affine] for part in found.programs]
    assert places[0] == places[1] != places[2] == places[3]
    assert not set(places[0]) & set(places[2])


@pytest.mark.parametrize(("shards", "parts"), [(1, 1), (1, 3), (4, 1), (4, 3), (16, 2)])
def test_the_rows_that_must_fit_into_memory_are_those_of_the_buffers(shards, parts, monkeypatch):
    """Shards of 48 and 49 rows, and micro-batches of which the last has fewer."""
    counted = []
    monkeypatch.setattr(Network, "check_rows", lambda network, rows: counted.append(rows))
    model = network()
    trainer = model.built.trainer(model.prepare(*data()), -(-ROWS // parts), parts=parts, shards=shards)
    calls = trainer.runner.program.calls
    found = next((bound for bound in calls if isinstance(bound, Shards)), None)
    programs = [part.calls for part in found.programs] if found else [calls]
    inputs = {
        call.arrays[0].ctypes.data: len(call.arrays[0]) for calls in programs for call in calls if call.kernel is gather
    }
    assert counted == [sum(inputs.values())]
