"""Metrics against scikit-learn, for every form of targets, and where scikit-learn has no answer."""

import functools

import numpy as np
import pytest
from sklearn import metrics as sk

import nbbp
from nbbp import METRICS
from nbbp.metrics import top_k_accuracy

ROWS, CLASSES = 200, 7


def macro(score, truth, guess, weight):
    average = "macro" if truth.ndim == 2 or truth.max() > 1 else "binary"
    return score(truth, guess, average=average, sample_weight=weight, zero_division=0)


def sk_accuracy(truth, guess, score, weight):
    if truth.ndim == 2:
        return 1 - sk.hamming_loss(truth, guess, sample_weight=weight)
    return sk.accuracy_score(truth, guess, sample_weight=weight)


def sk_top_k(truth, guess, score, weight, k=5):
    """With the classes in reverse, as scikit-learn takes the last of equals."""
    last = score.shape[1] - 1
    return sk.top_k_accuracy_score(last - truth, score[:, ::-1], k=k, sample_weight=weight, labels=range(last + 1))


def of_values(score):
    return lambda truth, guess, prediction, weight: score(truth, prediction, sample_weight=weight)


def sk_pinball(truth, guess, prediction, weight):
    levels = enumerate((0.1, 0.5, 0.9))
    return np.mean([sk.mean_pinball_loss(truth, prediction[:, k], sample_weight=weight, alpha=q) for k, q in levels])


CLASS_FORMS = ["yes_no", "labels", "one_hot", "several_labels"]
VALUE_FORMS = ["value", "values"]
REFERENCES = {
    "accuracy": (sk_accuracy, CLASS_FORMS),
    "top_k_accuracy": (sk_top_k, ["labels", "one_hot"]),
    "precision": (lambda t, g, s, w: macro(sk.precision_score, t, g, w), CLASS_FORMS),
    "recall": (lambda t, g, s, w: macro(sk.recall_score, t, g, w), CLASS_FORMS),
    "f1": (lambda t, g, s, w: macro(sk.f1_score, t, g, w), CLASS_FORMS),
    "roc_auc": (lambda t, g, s, w: sk.roc_auc_score(t, s, multi_class="ovr", sample_weight=w), CLASS_FORMS),
    "mae": (of_values(sk.mean_absolute_error), VALUE_FORMS),
    "mse": (of_values(sk.mean_squared_error), VALUE_FORMS),
    "rmse": (
        lambda t, g, s, w: sk.root_mean_squared_error(t.ravel(), s.ravel(), sample_weight=np.repeat(w, s.shape[1])),
        VALUE_FORMS,
    ),
    "r2": (of_values(sk.r2_score), VALUE_FORMS),
    "pinball": (sk_pinball, ["quantiles"]),
    "coverage": (lambda t, g, s, w: np.average((s[:, 0] <= t) & (t <= s[:, 2]), weights=w), ["quantiles"]),
}
CASES = [(name, form) for name in METRICS for form in REFERENCES[name][1]]


def sample(form, rng):
    """y and prediction as metrics take them, truth and guess as scikit-learn does; scores have many ties."""
    if form in VALUE_FORMS:
        shape = (ROWS, 1 if form == "value" else 3)
        y = rng.standard_normal(shape) * 2 + 5
        return y, y + rng.standard_normal(shape), y, None
    if form == "quantiles":
        y = np.round(rng.standard_normal((ROWS, 1)), 1)
        return y, np.round(y + rng.standard_normal((ROWS, 1)) + [-1, 0, 1], 1), y[:, 0], None
    if form in ("labels", "one_hot"):
        labels = rng.integers(0, CLASSES, ROWS)
        prediction = rng.multinomial(20, 0.7 / CLASSES + 0.3 * np.eye(CLASSES)[labels]) / 20
        y = labels[:, np.newaxis] if form == "labels" else np.eye(CLASSES)[labels]
        return y, prediction, labels, prediction.argmax(axis=1)
    outputs = 1 if form == "yes_no" else 3
    y = rng.integers(0, 2, (ROWS, outputs)).astype(float)
    prediction = np.round(0.3 * y + 0.7 * rng.random((ROWS, outputs)), 1)
    truth, guess = y.astype(int), (prediction >= 0.5).astype(int)
    return (y, prediction, truth[:, 0], guess[:, 0]) if outputs == 1 else (y, prediction, truth, guess)


@pytest.mark.parametrize(("name", "form"), CASES)
def test_as_in_scikit_learn(name, form, rng):
    y, prediction, truth, guess = sample(form, rng)
    reference = REFERENCES[name][0]
    weight = rng.random(ROWS)
    result = METRICS[name](y, prediction, weight)
    assert type(result) is float
    assert result == pytest.approx(reference(truth, guess, prediction, weight), rel=1e-12)
    assert METRICS[name](y, prediction) == pytest.approx(reference(truth, guess, prediction, np.ones(ROWS)), rel=1e-12)


@pytest.mark.parametrize(("name", "form"), CASES)
def test_weights_are_repeated_rows_in_any_order(name, form, rng):
    y, prediction, _, _ = sample(form, rng)
    count = rng.integers(0, 4, ROWS)
    rows = rng.permutation(np.repeat(np.arange(ROWS), count))
    repeated = METRICS[name](y[rows], prediction[rows])
    for weight in (count, (count / 3).astype(np.float32)):
        assert METRICS[name](y, prediction, weight) == pytest.approx(repeated, rel=1e-6)


@pytest.mark.parametrize(("name", "form"), CASES)
def test_float32_is_computed_in_float64_and_kept(name, form, rng):
    y, prediction, _, _ = sample(form, rng)
    given = [a.astype(np.float32) if a.dtype.kind == "f" else a for a in (y, prediction, rng.random(ROWS))]
    before = [a.copy() for a in given]
    wide = [a.astype(np.float64) if a.dtype.kind == "f" else a for a in given]
    assert METRICS[name](*given) == METRICS[name](*wide)
    assert all(np.array_equal(a, b) for a, b in zip(given, before, strict=True))


@pytest.mark.parametrize(("name", "form"), CASES)
def test_perfect_predictions(name, form, rng):
    y, _, _, _ = sample(form, rng)
    prediction = np.eye(CLASSES)[y[:, 0]] if form == "labels" else np.repeat(y, 3, axis=1) if form == "quantiles" else y
    best = 0 if name in ("mae", "mse", "rmse", "pinball") else 1
    assert METRICS[name](y, prediction, rng.random(ROWS)) == pytest.approx(best, abs=1e-12)


@pytest.mark.parametrize("name", [name for name, form in CASES if form == "value"])
def test_values_are_not_labels(name):
    with pytest.raises(ValueError, match=f"^{name} compares values; y holds class labels"):
        METRICS[name](np.array([[0], [2]]), np.ones((2, 3)))


@pytest.mark.parametrize(
    ("y", "share"),
    [
        ([[0, 1, 0], [1, 0, 0]], 1 / 2),  # one class a row
        ([[0.05, 0.9, 0.05], [0.9, 0.05, 0.05]], 1 / 2),  # smoothed
        ([[0.3, 0.4, 0.3], [0.5, 0.3, 0.2]], 1 / 2),  # distributions
        ([[0.3333, 0.3334, 0.3332], [0.5, 0.3, 0.2]], 1 / 2),  # rounded
        ([[-1, 1, -1], [-1, 1, -1]], 1),  # no probabilities
        ([[0, 1, 1], [1, 0, 0]], 4 / 6),  # one row of two labels, and each output is a question
        ([[0, 0, 0], [0, 1, 0]], 4 / 6),  # one row of none
        ([[0.05, 0.95, 0.95], [0.05, 0.05, 0.05]], 5 / 6),  # smoothed
    ],
)
def test_the_form_of_targets_decides(y, share):
    prediction = np.array([[0.2, 0.7, 0.6], [0.1, 0.5, 0.4]])
    assert METRICS["accuracy"](np.array(y, float), prediction) == pytest.approx(share)


@pytest.mark.filterwarnings("error")
def test_absent_classes_are_left_out(rng):
    y, prediction, labels, _ = sample("labels", rng)
    kept = labels != 2
    y, prediction, labels = y[kept], prediction[kept], labels[kept]
    others = np.delete(np.arange(CLASSES), 2)
    area = sk.roc_auc_score(np.eye(CLASSES)[labels][:, others], prediction[:, others])
    assert METRICS["roc_auc"](y, prediction) == pytest.approx(area, rel=1e-12)
    never_guessed = np.where(np.arange(CLASSES) == 2, 0, prediction)
    for outputs in (prediction, never_guessed):
        guess = outputs.argmax(axis=1)
        assert (2 in guess) == (outputs is prediction)
        for name in ("precision", "recall", "f1"):
            reference = REFERENCES[name][0](labels, guess, outputs, None)
            assert METRICS[name](y, outputs) == pytest.approx(reference, rel=1e-12)


@pytest.mark.filterwarnings("error")
def test_a_class_alone():
    y, prediction = np.zeros((4, 1)), np.array([[0.1], [0.2], [0.2], [0.3]])
    assert METRICS["accuracy"](y, prediction) == 1
    assert [METRICS[name](y, prediction) for name in ("precision", "recall", "f1")] == [0, 0, 0]
    for targets, outputs in ((y, prediction), (y + 1, prediction), (y.astype(int), prediction * [1, 2, 3])):
        assert np.isnan(METRICS["roc_auc"](targets, outputs))


def test_roc_auc_of_equal_scores_is_a_half():
    assert METRICS["roc_auc"](np.array([[0.0], [1], [1]]), np.full((3, 1), 0.3)) == 0.5


@pytest.mark.filterwarnings("error")
def test_r2_of_constant_targets(rng):
    y, weight = np.full((50, 1), 0.1), rng.random(50)  # their mean is not 0.1 to the last bit
    assert METRICS["r2"](y, y, weight) == 1
    assert METRICS["r2"](y, y + 1, weight) == 0
    both = np.hstack([y, np.arange(50)[:, np.newaxis]])
    assert METRICS["r2"](both, both + np.array([1, 0])) == 0.5
    y[0], weight[0] = 3, 0  # a row that does not count
    assert METRICS["r2"](y, y + 1, weight) == 0


def test_top_k_is_accuracy_for_one_and_certain_for_all(rng):
    y, prediction, truth, _ = sample("labels", rng)
    assert top_k_accuracy(y, prediction, k=1) == METRICS["accuracy"](y, prediction)
    assert top_k_accuracy(y, prediction, k=CLASSES) == top_k_accuracy(y, prediction, k=CLASSES + 1) == 1
    top_3 = functools.partial(top_k_accuracy, k=3)
    assert top_3(y, prediction) == pytest.approx(sk_top_k(truth, None, prediction, None, k=3), rel=1e-12)


def test_top_k_needs_classes(rng):
    for form in ("yes_no", "several_labels"):
        y, prediction, _, _ = sample(form, rng)
        with pytest.raises(ValueError, match="top_k_accuracy ranks classes"):
            top_k_accuracy(y, prediction)


def test_a_model_measures_them(rng):
    X, y = rng.standard_normal((20, 4)), rng.integers(0, 2, (20, 3))
    names = [name for name in METRICS if name not in ("top_k_accuracy", "pinball", "coverage")]
    model = nbbp.Sequential([nbbp.Dense(3)], loss="binary_cross_entropy", metrics=names, backend="numpy")
    measured, prediction = model.evaluate(X, y), model.predict(X)
    assert measured["accuracy"] == pytest.approx(np.mean((prediction >= 0.5) == y))
    for name in names:
        assert measured[name] == METRICS[name](y.astype(np.float32), prediction)
