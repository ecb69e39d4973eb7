"""Random combinations of everything that goes into a fit: both backends, the same numbers."""

import re

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import nbbp

RNG = np.random.default_rng(0)
X = RNG.standard_normal((37, 6))
X[:, 2] = RNG.integers(0, 4, 37)
VALUES, LABELS, ANSWERS = RNG.standard_normal((37, 3)), RNG.integers(0, 3, 37), RNG.integers(0, 2, (37, 3))
TARGETS = {
    "mse": VALUES, "half_mse": VALUES, "mae": VALUES, "huber": VALUES, "poisson": np.abs(VALUES).round(),
    "softmax_cross_entropy": LABELS, "binary_cross_entropy": ANSWERS,
}  # fmt: skip

units = st.sampled_from([1, 3, 8])
activations = st.sampled_from(
    ["linear", "sigmoid", "tanh", "softplus", "silu", "mish", "elu", "softmax"]
)  # without kinks
dense = st.builds(
    nbbp.Dense, units, activations, use_bias=st.booleans(), l1=st.sampled_from([0.0, 0.01]),
    l2=st.sampled_from([0.0, 0.1]), max_norm=st.sampled_from([None, 1.0]),
)  # fmt: skip
simple = st.one_of(
    dense,
    st.builds(nbbp.Activation, activations),
    st.builds(nbbp.Dropout, st.sampled_from([0.0, 0.2, 0.5])),
    st.builds(nbbp.GaussianNoise, st.sampled_from([0.0, 0.1])),
    st.builds(nbbp.BatchNorm, st.sampled_from([0.0, 0.9]), st.sampled_from([0.01, 0.1])),
    st.builds(nbbp.LayerNorm, st.sampled_from([0.01, 0.1])),
)
layers = st.lists(st.one_of(simple, st.builds(nbbp.Residual, st.lists(simple, min_size=1, max_size=2))), max_size=4)
first = st.sampled_from([[], [nbbp.ColumnEmbedding({2: 4}, 2)]])
rates = st.sampled_from(
    [0.01, nbbp.schedules.Cosine(0.02, 10), nbbp.schedules.WarmUp(nbbp.schedules.Constant(0.01), 4)]
)
treatments = st.fixed_dictionaries(
    {
        "clip_value": st.sampled_from([None, 0.5]),
        "clip_norm": st.sampled_from([None, 1.0]),
        "gradient_noise": st.sampled_from([0.0, 0.01]),
    }
)
optimizers = st.builds(
    lambda kind, rate, treatment: kind(rate, **treatment),
    st.sampled_from([nbbp.SGD, nbbp.Adagrad, nbbp.RMSprop, nbbp.Adam, nbbp.AdamW, nbbp.Nadam]),
    rates,
    treatments,
)
fits = st.fixed_dictionaries(
    {
        "batch_size": st.sampled_from([5, 16, 37]),
        "accumulate": st.sampled_from([1, 2]),
        "shuffle": st.booleans(),
        "sample_weight": st.sampled_from([None, np.arange(37.0)]),
    }
)
averages = st.sampled_from([None, nbbp.EMA(0.9), nbbp.SWA(3, 2)])


@settings(max_examples=60, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
@given(first, layers, st.sampled_from(sorted(TARGETS)), optimizers, fits, averages, st.sampled_from([0.0, 0.1]))
def test_any_combination_trains_alike_in_both_backends(first, layers, loss, optimizer, fit, averaging, smoothing):
    if loss not in ("softmax_cross_entropy", "binary_cross_entropy"):
        smoothing = 0.0
    model = nbbp.Sequential(
        [*first, *layers, nbbp.Dense(3)], loss, optimizer, seed=1, dtype="float64",
        label_smoothing=smoothing, averaging=averaging,
    )  # fmt: skip
    model.build(6)
    single, reference = model.copy(dtype="float32"), model.with_backend("numpy")
    compiled, expected = (m.fit(X, TARGETS[loss], epochs=2, verbose=0, **fit) for m in (model, reference))
    np.testing.assert_allclose(compiled.step_loss, expected.step_loss, rtol=1e-7, atol=1e-10)
    np.testing.assert_allclose(model.predict(X), reference.predict(X), rtol=1e-5, atol=1e-7)
    if averaging is not None:
        np.testing.assert_allclose(model.update.mean, reference.update.mean, rtol=1e-5, atol=1e-7)
    assert np.isfinite(single.fit(X, TARGETS[loss], epochs=2, verbose=0, **fit).step_loss).all()


def mistakes():
    X, y = np.ones((8, 3)), np.arange(8) % 2

    def fit(**settings):
        nbbp.Sequential([nbbp.Dense(2)], "softmax_cross_entropy").fit(X, y, verbose=0, **settings)

    def model(**settings):
        return nbbp.Sequential([nbbp.Dense(2)], **settings)

    early, plateau = nbbp.callbacks.EarlyStopping, nbbp.callbacks.ReduceOnPlateau
    return {
        "Dropout: rate must be 0 or more and below 1, got 1.0": lambda: nbbp.Dropout(1.0),
        "Dropout: rate must be 0 or more and below 1, got -0.1": lambda: nbbp.Dropout(-0.1),
        "patience must be 1 or more, got 0": lambda: early(patience=0),
        "monitor 'val_loss' needs validation_data; without, there is loss": lambda: fit(callbacks=[early("val_loss")]),
        "unknown monitor 'accuracy'. Choose one of loss": lambda: fit(callbacks=[plateau("accuracy")]),
        "unknown metric 'acuracy'. Did you mean 'accuracy'": lambda: model(metrics=["acuracy"]),
        "weights must be finite, 0 or more": lambda: fit(sample_weight=-np.ones(8)),
        "weights must not be zero for all rows": lambda: fit(sample_weight=np.zeros(8)),
        "sample_weight must have one number for each of 8 rows, got (7,)": lambda: fit(sample_weight=np.ones(7)),
        "class_weight has no entry for class 1": lambda: fit(class_weight={0: 1.0}),
        "unknown class_weight 'even'. Choose one of balanced": lambda: fit(class_weight="even"),
        "BatchNorm: momentum must be 0 or more and below 1, got 1": lambda: nbbp.BatchNorm(momentum=1),
        "Adam: clip_norm must be positive and finite, got 0": lambda: nbbp.Adam(clip_norm=0),
        "SGD: momentum must be 0 or more and below 1, got 1.5": lambda: nbbp.SGD(momentum=1.5),
        "EMA: decay must be 0 or more and below 1, got 2": lambda: nbbp.EMA(2),
        "Cosine: steps must be 1 or more, got 0": lambda: nbbp.schedules.Cosine(0.1, 0),
        "accumulate must be 1 or more, got 0": lambda: fit(accumulate=0),
        "label_smoothing is for classes; mse has none": lambda: model(label_smoothing=0.1),
        "ColumnEmbedding: there is no column 7 among 3 features": lambda: nbbp.Sequential(
            [nbbp.ColumnEmbedding({7: 2})]
        ).build(3),
        "column 1 must hold whole numbers from 0 to 1; got 2 in row 0": lambda: nbbp.Sequential(
            [nbbp.ColumnEmbedding({1: 2})]
        ).predict(2 * X),
    }  # fmt: skip


@pytest.mark.parametrize("message", mistakes())
def test_bad_values_are_a_value_error_that_says_what_is_possible(message):
    with pytest.raises(ValueError, match=re.escape(message)):
        mistakes()[message]()


def test_a_metric_of_ones_own():
    def worst(y, prediction):
        return np.max(np.abs(y - prediction))

    model = nbbp.Sequential([nbbp.Dense(3)], metrics=["mae", worst])
    history = model.fit(X, VALUES, epochs=2, validation_data=(X, VALUES), verbose=0)
    assert history["val_worst"][-1] == pytest.approx(np.max(np.abs(VALUES - model.predict(X))))
    assert len(history["worst"]) == 2
