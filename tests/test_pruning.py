"""A callback prunes while a fit is under way, and cannot put other parameters into its place."""

import numpy as np
import pytest

import nbbp
from nbbp.callbacks import Call, Callback, EarlyStopping, ReduceOnPlateau

SHARES = {1: 0.3, 3: 0.6}  # after which epoch


@pytest.fixture
def small(digits):
    return digits[0][:200], digits[1][:200]


def classifier(**settings) -> nbbp.Sequential:
    layers = [nbbp.Dense(16, activation="relu"), nbbp.Dropout(0.2), nbbp.Dense(10)]
    settings = {"optimizer": nbbp.Adam(0.01), "averaging": nbbp.EMA(0.9)} | settings
    return nbbp.Sequential(layers, "softmax_cross_entropy", **settings)


def gradually(fit) -> None:
    if len(fit.history) in SHARES:
        nbbp.prune(fit.model, SHARES[len(fit.history)])


def of_streams(small):
    X, y = small
    return nbbp.streams.from_arrays(X, y, buffer_rows=120), None


@pytest.mark.parametrize("backend", ["numba", "numpy"])
@pytest.mark.parametrize("given", [lambda small: small, of_streams])
def test_pruning_in_a_callback_is_that_between_fits(given, backend, small):
    at_once, in_turn = classifier(backend=backend), classifier(backend=backend)
    X, y = given(small)
    at_once.fit(X, y, epochs=5, verbose=0, callbacks=[Call(gradually)])
    for epoch in range(1, 6):
        in_turn.fit(X, y, verbose=0)
        if epoch in SHARES:
            nbbp.prune(in_turn, SHARES[epoch])
    assert at_once.params.tobytes() == in_turn.params.tobytes()
    assert at_once.averaged().params.tobytes() == in_turn.averaged().params.tobytes()
    weights = np.concatenate([w.ravel() for w in at_once.named_params().values() if w.ndim == 2])
    assert np.mean(weights == 0) == pytest.approx(0.6, abs=1e-3)


def test_pruning_within_an_epoch_holds_from_the_next_step_on(small):
    zeros = []

    def prune(fit):
        zeros.append(np.count_nonzero(fit.model.params == 0))
        nbbp.prune(fit.model, min(0.5, 0.05 * fit.model.steps))
        zeros.append(np.count_nonzero(fit.model.params == 0))

    classifier().fit(*small, epochs=2, verbose=0, callbacks=[Call(prune, every=2)])
    assert zeros[1::2][:-1] == zeros[2::2]
    assert zeros[-1] > zeros[1] > zeros[0]


class Scores(Callback):
    def __init__(self, values) -> None:
        self.values, self.records, self.rates = values, {"score": False}, []

    def on_epoch_end(self, fit):
        fit.history.note(score=self.values[len(fit.history) - 1])
        self.rates.append(fit.model.learning_rate)


@pytest.mark.parametrize("order", [1, -1])
def test_epochs_before_pruning_are_those_of_another_network(order, small):
    seen = []
    stopping, keep = EarlyStopping("score", patience=2), Call(lambda fit: seen.append(fit.model.params.copy()))
    scores, plateau = Scores([1, 2, 9, 8, 7, 7.5, 7.5, 0]), ReduceOnPlateau("score", patience=2)
    prune = Call(lambda fit: nbbp.prune(fit.model, 0.5) if len(fit.history) == 2 else None)
    model = classifier()
    callbacks = [scores, plateau, *[stopping, prune][::order], keep]
    history = model.fit(*small, epochs=8, validation_data=small, verbose=0, callbacks=callbacks)
    assert len(history) == 7
    assert stopping.best_epoch == 5
    assert model.params.tobytes() == seen[4].tobytes()
    assert scores.rates == [0.01] * 7
    assert not model.params[model.network.mask == 0].any()


def test_what_is_pruned_at_the_very_end_stays_pruned(small):
    prune = Call(lambda fit: nbbp.prune(fit.model, 0.5) if len(fit.history) == 3 else None)
    model = classifier()
    model.fit(*small, epochs=3, verbose=0, callbacks=[Scores([1, 2, 3]), EarlyStopping("score"), prune])
    assert not model.params[model.network.mask == 0].any()


@pytest.mark.parametrize("epochs", [1, 3, 4])
def test_gradual_pruning_is_resumed(epochs, small, tmp_path):
    def fit(epochs, folder):
        model, scores = classifier(), Scores([1, 2, 9, 6, 7, 7.5])
        model.fit(
            *small, epochs=epochs, verbose=0, resume=folder,
            callbacks=[scores, EarlyStopping("score"), Call(gradually), nbbp.Checkpoint(folder)],
        )  # fmt: skip
        return model

    whole = fit(6, tmp_path / "whole")
    fit(epochs, tmp_path / "ended")
    resumed = fit(6, tmp_path / "ended")
    assert resumed.params.tobytes() == whole.params.tobytes()
    assert resumed.network.mask.tobytes() == whole.network.mask.tobytes()


def test_a_model_is_not_built_anew_while_it_is_fitted(small):
    model = classifier()
    with pytest.raises(RuntimeError, match="build it before or after the fit"):
        model.fit(*small, verbose=0, callbacks=[Call(lambda fit: fit.model.build(64)), EarlyStopping("loss")])
    trained = model.params.copy()
    model.fit(*small, verbose=0)
    assert model.params.tobytes() != trained.tobytes()
    model.build(64)
    assert model.steps == 0
