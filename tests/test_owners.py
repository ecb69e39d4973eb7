"""Weights that stand in blocks by owner during a run: nobody sees it, neither in values nor in bits."""

import numba
import numpy as np
import pytest

import nbbp

pytestmark = pytest.mark.skipif(numba.config.NUMBA_NUM_THREADS < 2, reason="one core owns everything")

ROWS, BATCH = 600, 64  # the last mini-batch is shorter


def data():
    rng = np.random.default_rng(0)
    return rng.standard_normal((ROWS, 90), dtype=np.float32), rng.integers(0, 7, ROWS)


def model(**more):
    layers = [nbbp.Dense(200, activation="relu"), nbbp.Dense(100, activation="tanh"), nbbp.Dense(7)]
    return nbbp.Sequential(layers, loss="softmax_cross_entropy", **{"optimizer": nbbp.Adam(0.01)} | more)


def on_threads(count, function):
    before = numba.get_num_threads()
    numba.set_num_threads(count)
    try:
        return function()
    finally:
        numba.set_num_threads(before)


def owned(network) -> list[tuple[int, ...]]:
    """Shapes of the matrices whose columns are owned, and the widths of their blocks."""
    X, y = data()
    trainer = network.built.trainer(network.prepare(X, y), BATCH)
    return [(*m.flat[0].shape, *(b.columns.stop - b.columns.start for b in m.blocks)) for m in trainer.owners.matrices]


def test_large_matrices_are_cut_into_columns_that_fill_vectors():
    network = model()
    network.build(90)
    assert on_threads(2, lambda: owned(network)) == [(90, 200, 96, 104), (200, 100, 48, 52)]
    network = model()
    network.build(90)
    assert on_threads(1, lambda: owned(network)) == []


@pytest.mark.parametrize("more", [{}, {"optimizer": nbbp.SGD(0.05, momentum=0.9)}, {"dtype": "float64"}])
def test_bits_are_those_of_one_thread(more):
    X, y = data()

    def run():
        network = model(**more)
        history = network.fit(X, y, epochs=3, batch_size=BATCH, verbose=0)
        return history["loss"], network.params.tobytes(), network.grads.tobytes(), network.update.moments[0].tobytes()

    assert on_threads(2, run) == on_threads(1, run)


@pytest.mark.parametrize("parametrization", ["standard", "ntk"])
def test_matrices_that_begin_within_a_cache_line(parametrization):
    X, y = data()

    def made():
        dense = [nbbp.Dense(units, "relu", parametrization=parametrization) for units in (200, 100)]
        return nbbp.Sequential([nbbp.Scale(rate=6.0), *dense, nbbp.Dense(7)], "softmax_cross_entropy", nbbp.Adam(0.01))

    def run():
        network = made()
        losses = network.fit(X, y, epochs=3, batch_size=BATCH, verbose=0)["loss"]
        return losses, network.params.tobytes(), network.update.moments[1].tobytes()

    network = made()
    network.build(90)
    assert on_threads(2, lambda: owned(network)) == [(90, 200, 96, 104), (200, 100, 48, 52)]
    assert on_threads(2, run) == on_threads(1, run)


class Meddler(nbbp.callbacks.Callback):
    """Reads and writes what the user may see, after each epoch and each step."""

    def __init__(self):
        self.seen = []

    def on_epoch_end(self, fit):
        self.seen.append(fit.model.params.copy())
        fit.model.params *= 0.9
        fit.model.update.moments[1][:] *= 2
        if len(self.seen) == 2:
            fit.model.learning_rate = 0.003


def test_a_callback_sees_and_changes_parameters_and_moments():
    X, y = data()

    def run():
        network, meddler = model(), Meddler()
        network.fit(X, y, epochs=4, batch_size=BATCH, verbose=0, callbacks=[meddler])
        return np.array(meddler.seen).tobytes(), network.params.tobytes()

    assert on_threads(2, run) == on_threads(1, run)


@pytest.mark.parametrize(
    "more",
    [
        {"optimizer": nbbp.Adam(0.01, clip_norm=0.5)},
        {"optimizer": nbbp.Adam(0.01, clip_value=0.01)},
        {"averaging": nbbp.EMA(0.9)},
        {"optimizer": nbbp.AdamW(0.01)},
    ],
)
def test_what_reads_whole_arrays_leaves_the_bits(more):
    X, y = data()

    def run():
        network = model(**more)
        network.fit(X, y, epochs=2, batch_size=BATCH, verbose=0)
        return network.params.tobytes()

    assert on_threads(2, run) == on_threads(1, run)


def test_a_network_pruned_between_fits_stays_pruned():
    X, y = data()

    def run():
        network = model()
        network.fit(X, y, epochs=1, batch_size=BATCH, verbose=0)
        nbbp.prune(network, 0.5)
        network.fit(X, y, epochs=2, batch_size=BATCH, verbose=0)
        assert np.mean(network.named_params()["dense_0.w"] == 0) > 0.3
        return network.params.tobytes()

    assert on_threads(2, run) == on_threads(1, run)


class Spoiler(nbbp.callbacks.Callback):
    def on_epoch_end(self, fit):
        fit.model.named_params()["dense_1.w"][0] = np.inf


def test_a_fit_that_diverges_leaves_the_parameters_of_the_last_step():
    X, y = data()

    def run():
        network = model()
        with pytest.raises(nbbp.DivergenceError) as raised:
            network.fit(X, y, epochs=3, batch_size=BATCH, verbose=0, callbacks=[Spoiler()])
        assert (raised.value.epoch, raised.value.step) == (2, 1)
        return network.params.tobytes()

    assert on_threads(2, run) == on_threads(1, run)
