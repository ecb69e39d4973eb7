"""Bad input gets an exception that says what was expected and what came; odd but good input works."""

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import nbbp
from nbbp.synonyms import SYNONYMS

X = np.arange(12.0).reshape(6, 2) / 12
LABELS = np.array([0, 1, 2, 0, 1, 2])


def model(loss="softmax_cross_entropy") -> nbbp.Sequential:
    built = nbbp.Sequential([nbbp.Dense(3)], loss=loss)
    built.build(2)
    return built


def with_value(value, row=4, column=1):
    changed = X.copy()
    changed[row, column] = value
    return changed


@pytest.mark.parametrize(
    ("x", "y", "error", "message"),
    [
        (X[:, :1], LABELS, ValueError, r"X: the model takes 2 features, got 1"),
        (X[:, 0], LABELS, ValueError, r"two axes, samples and features, got shape \(6,\)"),
        (X[:5], LABELS, ValueError, r"X has 5 rows and y has 6"),
        (X, LABELS - 1, ValueError, r"labels must lie in 0 to 2.*got -1 in row 0"),
        (X, LABELS + 1, ValueError, r"got 3 in row 2"),
        (X, LABELS + 0.5, ValueError, r"labels must be integers, got 0.5 in row 0"),
        (X, np.eye(4)[LABELS], ValueError, r"a column for each of the model's 3 outputs.*got 4"),
        (with_value(np.nan), LABELS, ValueError, r"X must be finite, got nan in row 4, column 1"),
        (with_value(-np.inf), LABELS, ValueError, r"X must be finite, got -inf in row 4, column 1"),
        (with_value(1e300), LABELS, ValueError, r"1e\+300, too large for float32 in row 4, column 1"),
        (X, [0, 1, 2, np.nan, 1, 0], ValueError, r"y must be finite, got nan in row 3"),
        (X[:0], LABELS[:0], ValueError, r"X is empty: its shape is \(0, 2\)"),
        ([[1, 2], [3]], [0, 1], ValueError, r"X must be a rectangular array"),
        ([["a", "b"]], [0], TypeError, r"X must hold numbers"),
        (3.0, LABELS, ValueError, r"got the single number 3.0"),
        (X, np.eye(3)[LABELS] * np.nan, ValueError, r"y must be finite, got nan in row 0, column 0"),
    ],
)
def test_bad_data(x, y, error, message):
    for call in (model().evaluate, model().gradients, lambda x, y: model().fit(x, y, verbose=0)):
        with pytest.raises(error, match=message):
            call(x, y)


@pytest.mark.parametrize("backend", ["numba", "numpy"])
def test_no_rows_have_no_predictions(backend):
    networks = [nbbp.Sequential([nbbp.Dense(3)], "softmax_cross_entropy", backend=backend, seed=k) for k in range(2)]
    for empty in (X[:0], X[:0].astype(object), np.zeros((0, 2), int)):
        for answers in (networks[0].predict(empty), nbbp.Ensemble(networks).predict(empty)):
            assert answers.shape == (0, 3)
            assert answers.dtype == np.float32
    assert nbbp.Ensemble(networks).vote(X[:0]).shape == (0,)
    for wrong, message in ((X[:0, :1], "takes 2 features, got 1"), (X[:, :0], r"is empty: its shape is \(6, 0\)")):
        with pytest.raises(ValueError, match=message):
            networks[0].predict(wrong)


@pytest.mark.parametrize(("loss", "target"), [("binary_cross_entropy", 1.5), ("poisson", -1)])
def test_targets_without_meaning(loss, target):
    with pytest.raises(ValueError, match=f"{loss} takes targets .* in row 0, column 0"):
        model(loss).evaluate(X, np.full((6, 3), target))


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: nbbp.Dense(3, activation="rleu"), ValueError, r"unknown activation 'rleu'. Did you mean 'relu'\?"),
        (lambda: nbbp.Activation("Tanh"), ValueError, r"Did you mean 'tanh'\?"),
        (lambda: nbbp.Dense(3, initializer="he"), ValueError, r"unknown initializer 'he'"),
        (lambda: nbbp.Dense(0), ValueError, r"units must be 1 or more, got 0"),
        (lambda: nbbp.Dense(2.5), TypeError, r"units must be an integer, got 2.5"),
        (lambda: nbbp.Dense(True), TypeError, r"units must be an integer, got True"),
        (lambda: nbbp.SGD(0.0), ValueError, r"SGD: learning_rate must be positive and finite, got 0.0"),
        (lambda: nbbp.Adam(float("nan")), ValueError, r"Adam: learning_rate must be positive and finite, got nan"),
        (lambda: nbbp.SGD("fast"), TypeError, r"SGD: learning_rate must be a number, got 'fast'"),
        (lambda: nbbp.SGD(0.1, momentum=1.0), ValueError, r"SGD: momentum must be 0 or more and below 1, got 1.0"),
        (lambda: nbbp.SGD(0.1, nesterov=True), ValueError, r"nesterov=True needs a momentum above 0"),
        (lambda: nbbp.AdamW(weight_decay=-1.0), ValueError, r"AdamW: weight_decay must be 0 or more"),
        (lambda: nbbp.Sequential([]), ValueError, r"at least one layer"),
        (lambda: nbbp.Sequential([3]), TypeError, r"layers must be nbbp layers.*got 3"),
        (lambda: nbbp.Sequential([nbbp.Dense(1)], loss="msee"), ValueError, r"unknown loss 'msee'. Did you mean 'mse'"),
        (lambda: nbbp.Sequential([nbbp.Dense(1)], optimizer="adm"), ValueError, r"unknown optimizer 'adm'.*'adam'"),
        (lambda: nbbp.Sequential([nbbp.Dense(1)], metrics="accuracy"), TypeError, r"metrics must be a list"),
        (lambda: nbbp.Sequential([nbbp.Dense(1)], metrics=["accurcy"]), ValueError, r"Did you mean 'accuracy'"),
        (lambda: nbbp.Sequential([nbbp.Dense(1)], seed=-1), ValueError, r"seed must be an integer, 0 or more"),
        (lambda: nbbp.Sequential([nbbp.Dense(1)], dtype="int8"), ValueError, r"dtype must be float32 or float64"),
        (lambda: nbbp.Sequential([nbbp.Dense(1)], dtype="float23"), ValueError, r"dtype must be float32 or float64"),
        (lambda: nbbp.Sequential([nbbp.Dense(1)], backend="cuda"), ValueError, r"backend must be 'numba' or 'numpy'"),
        (lambda: nbbp.Sequential([nbbp.Dense(1)]).params, RuntimeError, r"call fit, or build"),
        (lambda: nbbp.Sequential([nbbp.Dense(3)], loss="cross_entropy"), ValueError, r"end the network with softmax"),
        (lambda: nbbp.Sequential([nbbp.Dense(1)], optimizer=nbbp.Adam), TypeError, r"did you mean Adam\(\)\?"),
        (lambda: nbbp.SGD(0.1, 0.9, nesterov="no"), TypeError, r"nesterov must be True or False, got 'no'"),
        (lambda: nbbp.Dense(3, use_bias="no"), TypeError, r"use_bias must be True or False, got 'no'"),
        (lambda: nbbp.compare(model(), X, LABELS, steps=0), ValueError, r"steps must be 1 or more, got 0"),
        (lambda: nbbp.check_gradients(model(), X, LABELS, step=0.0), ValueError, r"step must be positive"),
        (lambda: nbbp.check_gradients(model(), X, LABELS, most=0), ValueError, r"most must be 1 or more"),
        (lambda: model().fit(X, LABELS, epochs=0), ValueError, r"epochs must be 1 or more, got 0"),
        (lambda: model().fit(X, LABELS, batch_size=0), ValueError, r"batch_size must be 1 or more, got 0"),
        (lambda: model().fit(X, LABELS, batch_size=1.5), TypeError, r"batch_size must be an integer, got 1.5"),
        (lambda: model().fit(X, LABELS, verbose=3), ValueError, r"verbose must be 0, 1 or 2, got 3"),
        (lambda: model().fit(X, LABELS, validation_data=X), TypeError, r"validation_data must be a pair"),
        (lambda: model().fit(X, LABELS, validation_data=(X[:2], LABELS)), ValueError, r"X has 2 rows and validation y"),
    ],
)  # fmt: skip
def test_bad_settings(make, error, message):
    with pytest.raises(error, match=message):
        make()


MAKERS = {
    "loss": lambda name: nbbp.Sequential([nbbp.Dense(3)], loss=name),
    "activation": lambda name: nbbp.Dense(3, activation=name),
    "optimizer": lambda name: nbbp.Sequential([nbbp.Dense(3)], optimizer=name),
    "initializer": lambda name: nbbp.Dense(3, initializer=name),
    "metric": lambda name: nbbp.Sequential([nbbp.Dense(3)], metrics=[name]),
}


@pytest.mark.parametrize(
    ("kind", "name", "meant"),
    [
        ("loss", "CategoricalCrossentropy", "softmax_cross_entropy"),
        ("loss", "bce_with_logits", "binary_cross_entropy"),
        ("loss", "mean-squared-error", "mse"),
        ("activation", "Swish", "silu"),
        ("optimizer", "SGD", "sgd"),
        ("initializer", "kaiming_normal", "he_normal"),
        ("metric", "mean_squared_error", "mse"),
        *((kind, other, own) for kind, own_names in SYNONYMS.items() for own in own_names for other in own_names[own]),
    ],
)  # fmt: skip
def test_names_of_other_programs_are_answered_with_the_right_one(kind, name, meant):
    with pytest.raises(ValueError, match=f"unknown {kind} '{name}'. Did you mean '{meant}'\\?"):
        MAKERS[kind](name)


def read_only(array):
    array = array.copy()
    array.flags.writeable = False
    return array


VARIANTS = {
    "list": lambda a: a.tolist(),
    "tuple": lambda a: tuple(map(tuple, a.tolist())) if a.ndim == 2 else tuple(a.tolist()),
    "float64": lambda a: a.astype(np.float64),
    "float16": lambda a: a.astype(np.float16),
    "big-endian": lambda a: a.astype(a.dtype.newbyteorder(">")),
    "Fortran order": np.asfortranarray,
    "every second": lambda a: np.repeat(a, 2, axis=0)[::2],
    "reversed": lambda a: a[::-1].copy()[::-1],
    "read-only": read_only,
    "object": lambda a: a.astype(object),
}


@pytest.mark.parametrize("name", VARIANTS)
def test_other_forms_of_the_same_data_give_the_same_model(name, digits):
    data, labels = digits[0][:40], digits[1][:40]
    x, y = VARIANTS[name](data), VARIANTS[name](labels) if name != "float16" else labels
    before = np.array(x).tobytes(), np.array(y).tobytes()

    def trained(x, y):
        made = nbbp.Sequential([nbbp.Dense(10)], loss="softmax_cross_entropy")
        made.fit(x, y, epochs=2, batch_size=16, verbose=0)
        return made.predict(x)

    assert trained(x, y).tobytes() == trained(data, labels).tobytes()
    assert (np.array(x).tobytes(), np.array(y).tobytes()) == before


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    shape=st.lists(st.integers(0, 4), min_size=0, max_size=3),
    kind=st.sampled_from(["f4", "f8", "i4", "u1", "bool", "c16", "U3", "M8[s]", "O"]),
    seed=st.integers(0, 99),
)
def test_any_array_gives_a_prediction_or_a_clear_error(shape, kind, seed):
    numbers = (np.random.default_rng(seed).standard_normal(shape) * 10).astype("i8")
    array = np.array(numbers, dtype=kind)
    before = array.copy()
    if kind not in ("c16", "U3", "M8[s]") and len(shape) == 2 and shape[1] == 2:
        prediction = model().predict(array)
        assert prediction.shape == (shape[0], 3)
        assert np.isfinite(prediction).all()
    else:
        with pytest.raises((ValueError, TypeError), match=r"^X"):
            model().predict(array)
    assert np.array_equal(array, before)


def test_a_link_applied_twice_is_noticed():
    with pytest.warns(UserWarning, match="softmax_cross_entropy applies softmax to the outputs itself"):
        nbbp.Sequential([nbbp.Dense(3, activation="softmax")], loss="softmax_cross_entropy")


def test_metrics_of_values_reject_labels():
    labelled = nbbp.Sequential([nbbp.Dense(3)], loss="softmax_cross_entropy", metrics=["mae"])
    with pytest.raises(ValueError, match="mae compares values; y holds class labels"):
        labelled.evaluate(X, LABELS)


def test_single_outputs_take_flat_targets(rng):
    regression = nbbp.Sequential([nbbp.Dense(1)], loss="mse")
    assert regression.fit(X, X[:, 0], epochs=1, verbose=0).step_loss.shape == (1,)
    binary = nbbp.Sequential([nbbp.Dense(1)], loss="binary_cross_entropy", metrics=["accuracy"])
    binary.fit(X, LABELS > 0, epochs=1, verbose=0)
    assert binary.predict(X).shape == (6, 1)
