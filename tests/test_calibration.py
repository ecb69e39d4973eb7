"""How sure a classifier should be, by rows that it has not trained on."""

import numpy as np
import pytest

import nbbp
from nbbp.recipes import calibration


def drawn(logits, factor, rng):
    """Classes whose probabilities are softmax(factor logits)."""
    noise = rng.gumbel(size=logits.shape)
    return (factor * logits + noise).argmax(axis=1)


def softmax(z):
    e = np.exp(z - z.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)


@pytest.mark.parametrize("factor", [0.5, 1.0, 1.7])
def test_the_factor_of_many_rows_is_the_one_that_drew_their_classes(factor, rng):
    logits = rng.normal(0, 2, (20_000, 4))
    found = calibration.sharpness(softmax(logits), drawn(logits, factor, rng))
    assert found == pytest.approx(factor, abs=0.05)


def test_the_factor_minimises_what_it_says(rng):
    logits = rng.normal(0, 2, (60, 3))
    labels, weights = drawn(logits, 2.0, rng), rng.random(60)

    def loss(factor):
        p = softmax(factor * logits)[np.arange(60), labels]
        return -weights @ np.log(p) + (factor - 1) ** 2 / 2 / 0.2**2

    factors = np.arange(25, 401) / 100
    best = factors[np.argmin([loss(factor) for factor in factors])]
    assert calibration.sharpness(softmax(logits), labels, weights) == best


def test_a_few_rows_that_are_all_right_do_not_ask_for_certainty():
    assert calibration.sharpness([[0.9, 0.1]] * 5, [0] * 5) < 1.1
    assert calibration.sharpness([[1.0, 0.0]] * 5, [0] * 5) == 1  # nothing is left to win
    assert calibration.sharpness([[1.0, 0.0]] * 500, [1] * 500) == calibration.LEAST


@pytest.mark.parametrize("backend", ["numba", "numpy"])
def test_logits_are_multiplied(backend, rng):
    X = rng.standard_normal((50, 4))
    model = nbbp.Sequential(
        [nbbp.Dense(5, "tanh"), nbbp.Dense(3, bias_initializer="ones")], "softmax_cross_entropy",
        dtype="float64", backend=backend,
    )  # fmt: skip
    before = np.log(model.predict(X))
    calibration.sharpen(model, 1.5)
    after = model.predict(X)
    np.testing.assert_allclose(after, softmax(1.5 * before), rtol=1e-12)


def test_a_model_that_ends_otherwise_is_refused(rng):
    model = nbbp.Sequential([nbbp.Dense(3), nbbp.Activation("tanh")])
    model.build(4)
    with pytest.raises(ValueError, match="must end with a Dense without activation, got Activation"):
        calibration.sharpen(model, 2.0)
