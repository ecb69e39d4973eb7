"""Predictions of any number of rows: those of each row by itself, read from and written to the user's arrays."""

import numpy as np
import pytest

import nbbp
from nbbp.engine.evaluator import BLOCK_ROWS

ROWS = (1, 2, 7, 8, 9, 15, 16, 17, 40, 63, 64, 65, 100, 129, 255, 256, 300, 511, 512, 513, 777, 1500)


def network(width: int, features: int = 300, **settings) -> nbbp.Sequential:
    layers = [nbbp.Dense(width, activation="relu"), nbbp.LayerNorm(), nbbp.Dense(5)]
    model = nbbp.Sequential(layers, loss="softmax_cross_entropy", **settings)
    model.build(features)
    return model


@pytest.mark.parametrize("width", [40, 900], ids=["rows are shared", "operations are shared"])
def test_rows_have_the_bits_of_any_number_of_rows(rng, width):
    model, X = network(width), rng.random((max(ROWS), 300), dtype=np.float32)
    before, whole = X.copy(), model.predict(X)
    for rows in ROWS:
        assert model.predict(X[:rows]).tobytes() == whole[:rows].tobytes()
    assert X.tobytes() == before.tobytes()
    np.testing.assert_allclose(whole, model.with_backend("numpy").predict(X), rtol=1e-4, atol=1e-6)


def test_few_rows_with_many_features(rng):
    model, X = network(40, features=9000), rng.random((11, 9000), dtype=np.float32)
    for rows in range(1, 12):
        np.testing.assert_array_equal(model.predict(X[:rows]), model.predict(X)[:rows])


@pytest.mark.parametrize("layers", [[nbbp.Conv2D(24, 3, groups=2)], [nbbp.Conv2D(4, 1), nbbp.Conv2D(24, 3, groups=2)]])
def test_a_call_may_begin_within_the_users_array(rng, layers):
    """A convolution of several groups reads and writes at their first channels."""
    model, X = nbbp.Sequential(layers), rng.random((1300, 6, 6, 4), dtype=np.float32)
    model.build(X.shape[1:])
    np.testing.assert_array_equal(model.predict(X)[:20], model.predict(X[:20]))
    np.testing.assert_allclose(model.predict(X), model.with_backend("numpy").predict(X), rtol=1e-4, atol=1e-5)


def test_an_array_may_begin_anywhere(rng):
    model, X = network(40), rng.random((200, 300), dtype=np.float32)
    memory = np.zeros(X.nbytes + 64, np.uint8)
    for offset in (4, 20):
        moved = memory[offset : offset + X.nbytes].view(np.float32).reshape(X.shape)
        moved[:] = X
        np.testing.assert_array_equal(model.predict(moved), model.predict(X))


def test_an_output_that_is_an_input_leaves_the_users_array_alone(rng):
    x = nbbp.Input(300)
    model = nbbp.Model(x, [x, nbbp.Dense(3)(x)], loss=["softmax_cross_entropy", "mse"])
    X = rng.random((400, 300), dtype=np.float32)
    before = X.copy()
    probabilities, _ = model.predict(X)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, rtol=1e-5)
    np.testing.assert_array_equal(X, before)


def test_few_programs_are_bound_whatever_the_numbers_of_rows(rng):
    model, X = network(40), rng.random((3 * BLOCK_ROWS, 300), dtype=np.float32)
    for rows in range(30, 3 * BLOCK_ROWS, 7):
        model.predict(X[:rows])
    assert len(model.built.measure.predictions.blocks) < 60
