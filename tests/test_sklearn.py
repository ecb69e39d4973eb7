"""The scikit-learn estimators: scikit-learn's own checks, its tools, and numbers against its networks."""

import pickle
import re
import tracemalloc
import warnings

import numpy as np
import pytest

pytest.importorskip("sklearn")

import joblib
import scipy.sparse
from sklearn import config_context
from sklearn.base import clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.datasets import load_breast_cancer, load_diabetes, load_digits, load_wine, make_multilabel_classification
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import GridSearchCV, StratifiedKFold, cross_val_predict, cross_val_score
from sklearn.neural_network import MLPClassifier as TheirClassifier
from sklearn.neural_network import MLPRegressor as TheirRegressor
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks
from sklearn.utils.validation import has_fit_parameter

import nbbp
from nbbp.sklearn import MLPClassifier, MLPRegressor

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


@pytest.fixture(scope="module")
def wine():
    X, y = load_wine(return_X_y=True)
    return StandardScaler().fit_transform(X), y


@pytest.fixture(scope="module")
def diabetes():
    X, y = load_diabetes(return_X_y=True, scaled=False)
    return StandardScaler().fit_transform(X), (y - y.mean()) / y.std()


@parametrize_with_checks([MLPClassifier(), MLPRegressor()])
def test_scikit_learn_finds_nothing_to_complain(estimator, check):
    check(estimator)


# The same numbers: from the same random_state the first weights are equal, and in the same order of rows the paths.


def side_by_side(theirs, ours, X, y, epochs, loss_factor=1, **more):
    for estimator in (theirs, ours):
        estimator.set_params(max_iter=epochs).fit(X, y, **more)
    for name in ("n_iter_", "t_", "n_layers_", "n_outputs_", "out_activation_", "n_features_in_"):
        assert getattr(ours, name) == getattr(theirs, name), name
    for mine, other in zip(ours.coefs_ + ours.intercepts_, theirs.coefs_ + theirs.intercepts_, strict=True):
        np.testing.assert_allclose(mine, other, rtol=1e-6, atol=1e-9)
    np.testing.assert_allclose(ours.loss_curve_, np.multiply(loss_factor, theirs.loss_curve_), rtol=1e-6)


SAME = {"shuffle": False, "alpha": 3.0, "hidden_layer_sizes": (7, 5), "batch_size": 50, "random_state": 0}  # 178 rows
SAME |= {"epsilon": 1e-30}  # which scikit-learn adds before the second moment is corrected, and nbbp after


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"solver": "sgd", "activation": "logistic"},
        {"solver": "sgd", "nesterovs_momentum": False, "activation": ["tanh", "tanh"]},
        {"solver": "sgd", "momentum": 0.0, "activation": "identity"},
        {"beta_1": 0.8, "beta_2": 0.99},
        {"solver": "sgd", "learning_rate": "invscaling", "learning_rate_init": 0.1, "power_t": 0.3},
        {"batch_size": 89},
    ],
)
def test_classes_are_learnt_as_by_scikit_learn(wine, settings):
    theirs = settings | ({"activation": "tanh"} if isinstance(settings.get("activation"), list) else {})
    side_by_side(TheirClassifier(**SAME | theirs), MLPClassifier(**SAME | settings), *wine, epochs=20)


def test_two_classes_labels_and_values_are_learnt_as_by_scikit_learn(wine):
    X, y = wine
    side_by_side(TheirClassifier(**SAME), MLPClassifier(**SAME), X, np.array(["no", "yes"])[(y == 1) * 1], epochs=20)
    labels = np.stack([y == 0, y == 1, X[:, 0] > 0], axis=1) * 1
    sgd = SAME | {"solver": "sgd"}
    side_by_side(TheirClassifier(**sgd), MLPClassifier(**sgd), X, labels, epochs=20)
    side_by_side(TheirRegressor(**sgd), MLPRegressor(**sgd), X[:, 1:], X[:, 0], epochs=20)


@pytest.mark.skipif(not has_fit_parameter(TheirClassifier(), "sample_weight"), reason="they have none before 1.7")
def test_row_weights_count_as_in_scikit_learn(wine, rng):
    X, y = wine
    weights = rng.uniform(0, 5, len(X))
    for more in ({}, {"batch_size": "auto"}):
        settings = SAME | more
        side_by_side(TheirClassifier(**settings), MLPClassifier(**settings), X, y, epochs=20, sample_weight=weights)
    labels = np.stack([y == 0, y == 1, X[:, 0] > 0], axis=1) * 1
    side_by_side(TheirClassifier(**SAME), MLPClassifier(**SAME), X, labels, epochs=20, sample_weight=weights)
    side_by_side(TheirRegressor(**SAME), MLPRegressor(**SAME), X[:, 1:], X[:, 0], epochs=20, sample_weight=weights)


def test_a_mini_batch_of_which_no_row_counts_changes_nothing(wine):
    X, y = wine
    weights = np.repeat([0.0, 1.0], [50, 128])  # the first of four mini-batches
    settings = SAME | {"solver": "sgd", "momentum": 0.0, "max_iter": 1}
    with_them = MLPClassifier(**settings).fit(X, y, sample_weight=weights)
    without = MLPClassifier(**settings).fit(X[50:], y[50:])
    np.testing.assert_allclose(with_them.predict_proba(X), without.predict_proba(X), rtol=1e-12)


def test_rows_held_out_are_those_of_scikit_learn(diabetes):
    X, y = diabetes
    settings = SAME | {"early_stopping": True, "max_iter": 20}
    theirs, ours = TheirRegressor(**settings).fit(X, y), MLPRegressor(**settings).fit(X, y)
    np.testing.assert_allclose(ours.validation_scores_, theirs.validation_scores_, rtol=1e-6)
    assert ours.best_validation_score_ == pytest.approx(theirs.best_validation_score_) == max(ours.validation_scores_)
    np.testing.assert_allclose(ours.predict(X), theirs.predict(X), rtol=1e-6)
    assert ours.best_loss_ is theirs.best_loss_ is None
    watched = ours.set_params(early_stopping=False).fit(X, y)
    assert watched.validation_scores_ is watched.best_validation_score_ is None
    assert watched.best_loss_ == min(watched.loss_curve_)


def test_lbfgs_minimises_what_scikit_learn_does(diabetes):
    X, y = diabetes  # more rows than a mini-batch has by default
    settings = {"hidden_layer_sizes": (), "solver": "lbfgs", "alpha": 300.0, "random_state": 0, "tol": 1e-8}
    theirs, ours = TheirRegressor(**settings).fit(X, y), MLPRegressor(**settings).fit(X, y)
    np.testing.assert_allclose(ours.coefs_[0], theirs.coefs_[0], atol=1e-5)
    assert ours.t_ == theirs.t_ == 0


def test_several_values_are_learnt_as_by_scikit_learn(wine):
    X = wine[0]
    sgd = SAME | {"solver": "sgd", "alpha": 0.0}  # it reports a mean over the outputs, and trains on their sum
    side_by_side(TheirRegressor(**sgd), MLPRegressor(**sgd), X[:, 2:], X[:, :2], epochs=20, loss_factor=2)


@pytest.mark.parametrize("adaptive", ["constant", "adaptive"])
def test_training_stops_when_scikit_learn_does(wine, adaptive):
    settings = SAME | {"solver": "sgd", "learning_rate": adaptive, "learning_rate_init": 0.05, "tol": 0.01}
    theirs, ours = TheirClassifier(**settings), MLPClassifier(**settings)
    side_by_side(theirs, ours, *wine, epochs=300)
    assert ours.n_iter_ < 300


# As good as scikit-learn's, with the same settings.

DATA = {"digits": load_digits, "breast_cancer": load_breast_cancer, "wine": load_wine, "diabetes": load_diabetes}


@pytest.mark.parametrize("name", DATA)
def test_scores_are_those_of_scikit_learn(name):
    X, y = DATA[name](return_X_y=True)
    kinds = (TheirRegressor, MLPRegressor) if name == "diabetes" else (TheirClassifier, MLPClassifier)
    if name == "diabetes":
        y = (y - y.mean()) / y.std()
    settings = {"hidden_layer_sizes": (30,), "max_iter": 20, "learning_rate_init": 0.005}
    scores = np.array(
        [
            [
                cross_val_score(make_pipeline(StandardScaler(), kind(random_state=seed, **settings)), X, y, cv=3)
                for seed in range(3)
            ]
            for kind in kinds
        ]
    ).reshape(2, -1)
    difference = scores[1] - scores[0]
    assert difference.mean() > -2 * difference.std(ddof=1) / len(difference) ** 0.5 - 0.002, scores.mean(axis=1)


# What scikit-learn's networks do not have.


def test_any_activation_dropout_and_loss(diabetes):
    X, y = diabetes
    regressor = MLPRegressor((8, 4), ["gelu", "identity"], dropout=[0.2, 0.0], loss="huber", max_iter=3, random_state=0)
    regressor.fit(X, y)
    names = [type(layer).__name__ for layer in regressor.model_.layers]
    assert names == ["Dense", "Dropout", "Dense", "Dense"]
    assert [layer.activation for layer in regressor.model_.layers[::2]] == ["gelu", "linear"]
    assert regressor.model_.loss is nbbp.LOSSES["huber"]
    counts = MLPRegressor(loss="poisson", max_iter=30, random_state=0).fit(X, np.exp(y).round())
    assert counts.predict(X).min() > 0


def test_a_loss_of_values_is_one_of_probabilities_for_classes(wine):
    X, y = wine
    for labels in (y, y > 0):
        classifier = MLPClassifier((16,), loss="mse", alpha=0, max_iter=50, learning_rate_init=0.01, random_state=0)
        p = classifier.fit(X, labels).predict_proba(X)
        np.testing.assert_allclose(p.sum(axis=1), 1)
        truth = labels[:, np.newaxis] == classifier.classes_
        expected = np.mean((p[:, 1:] - truth[:, 1:]) ** 2 if p.shape[1] == 2 else (p - truth) ** 2)
        assert classifier.model_.evaluate(X, classifier._encoded(labels))["loss"] == pytest.approx(expected)
        assert classifier.score(X, labels) > 0.95


def test_any_optimizer(wine):
    X, y = wine
    for solver in ("lion", nbbp.SGD(nbbp.schedules.Cosine(0.3, 100), 0.9, clip_norm=1.0)):
        classifier = MLPClassifier((16,), solver=solver, learning_rate_init=0.01, max_iter=40, random_state=0)
        assert clone(classifier).fit(X, y).score(X, y) > 0.95


def test_lbfgs_finds_the_minimum_of_a_linear_model(wine):
    X, y = wine
    settings = {"hidden_layer_sizes": (), "solver": "lbfgs", "alpha": 1.0, "random_state": 0, "max_iter": 500}
    theirs, ours = TheirClassifier(**settings).fit(X, y), MLPClassifier(**settings).fit(X, y)
    np.testing.assert_allclose(ours.predict_proba(X), theirs.predict_proba(X), atol=1e-2)
    assert ours.loss_curve_[-1] == pytest.approx(theirs.loss_, rel=1e-4)
    ours.model_.gradients(X, y)
    assert 1e-7 < np.abs(ours.model_.grads).max() <= 1e-4  # tol
    assert "CONVERGENCE" in ours.history_.stopped
    earlier = clone(ours).set_params(tol=1e-2).fit(X, y)
    assert earlier.n_iter_ < ours.n_iter_


def test_an_eval_set_is_measured_and_stops_training(wine):
    X, y = wine
    seen, held_out = (X[::2], y[::2]), (X[1::2], y[1::2])
    watched = MLPClassifier((16,), max_iter=5, monitor="loss", random_state=0).fit(*seen, eval_set=held_out)
    assert watched.history_["val_loss"][-1] == pytest.approx(watched.model_.evaluate(*held_out)["loss"])
    assert len(watched.loss_curve_) == len(watched.history_["val_loss"]) == watched.n_iter_ == 5
    stopped = clone(watched).set_params(max_iter=500, early_stopping=True, learning_rate_init=0.03, n_iter_no_change=3)
    stopped.set_params(learning_rate_init=0.1, tol=0)
    curve = stopped.fit(*seen, eval_set=held_out).history_["val_loss"]
    assert stopped.n_iter_ < 500
    assert np.argmin(curve) < len(curve) - 1
    assert stopped.model_.evaluate(*held_out)["loss"] == pytest.approx(min(curve))
    assert stopped.validation_scores_ == curve
    assert stopped.best_validation_score_ == min(curve)


def test_rows_are_held_out_where_no_eval_set_is_given(wine, diabetes):
    classifier = MLPClassifier((8,), early_stopping=True, monitor="f1", validation_fraction=0.2, random_state=0)
    classifier.fit(*wine)
    assert len(classifier.history_["val_f1"]) == classifier.n_iter_
    assert classifier.history_.steps_per_epoch == 1
    assert "val_f1" in classifier.history_.stopped
    regressor = MLPRegressor((8,), early_stopping=True, random_state=0).fit(*diabetes)
    assert regressor.history_["val_r2"]


def test_class_weights_are_row_weights(wine):
    X, y = wine
    names = np.array(["a", "b", "c"])[y]
    settings = {"hidden_layer_sizes": (8,), "max_iter": 10, "random_state": 0}
    weights = np.array([1.0, 4.0, 2.0])[y]
    by_class = MLPClassifier(**settings, class_weight={"a": 1.0, "b": 4.0, "c": 2.0})
    by_class.fit(X, names, eval_set=(X[::2], names[::2]))
    by_row = MLPClassifier(**settings)
    by_row.fit(X, names, sample_weight=weights, eval_set=(X[::2], names[::2], weights[::2]))
    np.testing.assert_array_equal(by_class.predict_proba(X), by_row.predict_proba(X))
    assert by_class.history_["val_loss"] == by_row.history_["val_loss"]
    measured = by_row.model_.evaluate(X[::2], y[::2], weights[::2] / weights[::2].mean())
    assert by_row.history_["val_loss"][-1] == pytest.approx(measured["loss"])
    assert by_class.history_["val_accuracy"] == by_row.history_["val_accuracy"]
    balanced = MLPClassifier(**settings, class_weight="balanced").fit(X, names)
    given = dict(zip("abc", len(y) / (3 * np.bincount(y)), strict=True))
    np.testing.assert_allclose(
        balanced.predict_proba(X), balanced.set_params(class_weight=given).fit(X, names).predict_proba(X), rtol=1e-10
    )


def test_partial_fit_and_warm_starts_go_on_as_one_fit(wine):
    X, y = wine
    settings = {"hidden_layer_sizes": (8,), "batch_size": 50, "random_state": 0, "n_iter_no_change": np.inf}
    whole = MLPClassifier(**settings, max_iter=6).fit(X, y)
    warm = MLPClassifier(**settings, max_iter=2, warm_start=True)
    steps = MLPClassifier(**settings)
    for _ in range(3):
        warm.fit(X, y)
    for _ in range(6):
        steps.partial_fit(X, y, classes=[0, 1, 2])
    for other in (warm, steps):
        np.testing.assert_array_equal(other.predict_proba(X), whole.predict_proba(X))
        assert other.loss_curve_ == whole.loss_curve_
    assert (warm.n_iter_, steps.n_iter_) == (2, 1)


def test_calls_that_measure_nothing_leave_a_gap(wine):
    X, y = wine
    classifier = MLPClassifier((8,), random_state=0).partial_fit(X, y, classes=[0, 1, 2])
    classifier.partial_fit(X, y, eval_set=(X, y)).partial_fit(X, y)
    assert np.isnan(classifier.history_["val_loss"]).tolist() == [True, False, True]
    assert len(classifier.loss_curve_) == len(classifier.history_.step_loss) == 3


@pytest.mark.parametrize("higher", [True, False])
def test_the_best_epoch_is_the_one_that_the_metric_says(higher, wine, monkeypatch):
    def spread(y, prediction, weight=None):
        return float(prediction.max(axis=1).std())

    X, y = wine
    monkeypatch.setitem(nbbp.METRICS, "spread", spread)
    network = MLPClassifier(
        (16,), early_stopping=True, monitor="spread", max_iter=8, learning_rate_init=0.03, random_state=0
    )
    with pytest.raises(ValueError, match=r"set spread.higher_is_better = True or False"):
        network.fit(X, y, eval_set=(X, y))
    spread.higher_is_better = higher
    with pytest.warns(ConvergenceWarning):
        network.fit(X, y, eval_set=(X, y))
    curve = network.history_["val_spread"]
    best = max(curve) if higher else min(curve)
    assert min(curve) < max(curve)
    assert spread(y, network.predict_proba(X)) == pytest.approx(best)


def test_a_monitor_that_is_nan_or_of_one_row_is_said(wine):
    X, y = wine
    network = MLPClassifier((8,), early_stopping=True, monitor="roc_auc", n_iter_no_change=2, random_state=0)
    with pytest.warns(UserWarning, match="val_roc_auc is nan in epoch 1"):
        network.fit(X, y > 0, eval_set=(X[y > 0], y[y > 0] > 0))
    assert network.history_.stopped.startswith("val_roc_auc is nan and has not improved by")
    with pytest.raises(ValueError, match=r"validation_fraction=0.1 of 6 rows holds out one row.*take a larger one"):
        MLPRegressor((8,), early_stopping=True).fit(X[:6], y[:6])


def test_partial_fit_stops_early_and_puts_the_best_parameters_back(wine):
    X, y = wine
    seen, held_out = (X[::2], y[::2]), (X[1::2], y[1::2])
    classifier = MLPClassifier((16,), early_stopping=True, monitor="loss", learning_rate_init=0.03, n_iter_no_change=3)
    classifier.set_params(random_state=0)
    calls = 0
    while calls == 0 or (calls < 500 and not classifier.history_.stopped):
        classifier.partial_fit(*seen, classes=[0, 1, 2], eval_set=held_out)
        calls += 1
    curve = classifier.history_["val_loss"]
    assert 4 < calls == len(curve) < 500
    assert classifier.model_.evaluate(*held_out)["loss"] == pytest.approx(min(curve))
    once = clone(classifier).set_params(max_iter=500).fit(*seen, eval_set=held_out)
    assert once.history_["val_loss"] == curve


def test_a_warm_start_takes_new_settings_but_no_other_network(wine):
    X, y = wine
    classifier = MLPClassifier((8,), warm_start=True, max_iter=2, random_state=0).fit(X, y)
    moments = classifier.model_.update.moments[0].copy()
    classifier.set_params(alpha=1.0, learning_rate_init=1e-300, beta_1=0.5).fit(X, y)
    assert classifier.model_.layers[0].l2 == 1.0 / (2 * len(X))
    assert classifier.model_.update.steps == 4
    assert not np.array_equal(classifier.model_.update.moments[0], moments)
    with pytest.raises(ValueError, match="cannot go on as"):
        classifier.set_params(hidden_layer_sizes=(9,)).fit(X, y)
    with pytest.raises(ValueError, match="cannot go on as"):
        classifier.set_params(hidden_layer_sizes=(8,), solver="sgd").fit(X, y)


def test_warm_starts_want_the_same_classes(wine):
    X, y = wine
    classifier = MLPClassifier((8,), warm_start=True, max_iter=2, random_state=0).fit(X, y)
    before = classifier.predict_proba(X)
    for other in (y[y > 0], y[y > 0] + 1):
        with pytest.raises(ValueError, match=re.escape(f"Previously got [0 1 2], `y` has {np.unique(other)}")):
            classifier.fit(X[y > 0], other)
    np.testing.assert_array_equal(classifier.predict_proba(X), before)


def test_inverse_scaling_goes_on_where_the_rows_seen_stood(wine):
    X, y = wine
    settings = {"hidden_layer_sizes": (8,), "solver": "sgd", "learning_rate": "invscaling", "learning_rate_init": 0.5}
    settings |= {"random_state": 0, "batch_size": 50}
    whole = MLPClassifier(**settings, max_iter=4).fit(X, y)
    warm = MLPClassifier(**settings, max_iter=2, warm_start=True).fit(X, y).fit(X, y)
    steps = MLPClassifier(**settings)
    for _ in range(4):
        steps.partial_fit(X, y, classes=[0, 1, 2])
    for estimator in (whole, warm, steps):
        assert estimator.t_ == 4 * len(X)
        assert estimator.model_.learning_rate == 0.5 / (4 * len(X) + 1) ** 0.5
        np.testing.assert_array_equal(estimator.predict_proba(X), whole.predict_proba(X))


def test_one_class_is_predicted(wine):
    X, y = wine
    classifier = MLPClassifier((8,), max_iter=2).fit(X, np.full(len(y), "all"))
    assert set(classifier.predict(X)) == {"all"}
    np.testing.assert_array_equal(classifier.predict_proba(X), np.ones((len(X), 1)))


def test_progress(wine, capsys):
    for verbose in (2, 10):
        MLPClassifier((8,), max_iter=2, verbose=verbose).fit(*wine, eval_set=wine)
        assert re.search(r"\nIteration 2, loss = [\d.]+, accuracy = [\d.]+, val_loss = ", capsys.readouterr().out)
    MLPClassifier((8,), max_iter=2, verbose=True).fit(*wine)
    assert "2/2" in capsys.readouterr().err
    MLPClassifier((8,), max_iter=2).fit(*wine)
    assert not any(capsys.readouterr())


def test_float32_stays_float32(wine):
    X, y = wine
    for dtype in (np.float32, np.float64):
        classifier = MLPClassifier((8,), max_iter=2, random_state=0).fit(X.astype(dtype), y)
        assert classifier.model_.dtype == dtype
        assert classifier.predict_proba(X.astype(dtype)).dtype == dtype
    assert MLPClassifier((8,), max_iter=2).fit((X * 10).astype(int), y).model_.dtype == np.float64


def test_coefs_are_views(wine):
    classifier = MLPClassifier((8,), max_iter=2, random_state=0).fit(*wine)
    assert [array.shape for array in classifier.coefs_] == [(13, 8), (8, 3)]
    assert [array.shape for array in classifier.intercepts_] == [(8,), (3,)]
    classifier.intercepts_[-1][:] = [0, 1e6, 0]
    assert (classifier.predict(wine[0]) == 1).all()


def test_values_have_the_form_of_y(diabetes):
    X, y = diabetes
    regressor = MLPRegressor((8,), max_iter=2, random_state=0)
    assert regressor.fit(X, y).predict(X).shape == (len(X),)
    assert regressor.fit(X, X[:, :2]).predict(X).shape == (len(X), 2)


def test_labels_are_predicted_each():
    X, Y = make_multilabel_classification(300, n_classes=4, random_state=0)
    classifier = MLPClassifier((32,), max_iter=100, learning_rate_init=0.01, random_state=0).fit(X, Y)
    assert classifier.predict_proba(X).shape == (300, 4)
    np.testing.assert_array_equal(classifier.predict(X), classifier.predict_proba(X) > 0.5)
    assert np.mean(classifier.predict(X) == Y) > 0.9


# Sparse matrices, as OneHotEncoder makes them.


@pytest.fixture
def small_buffers(monkeypatch):
    """Of 100 rows of 13 numbers."""
    monkeypatch.setattr(nbbp.sklearn.rows, "BUFFER_BYTES", 13 * 8 * 100)
    monkeypatch.setattr(nbbp.training.stream_trainer, "BUFFER_BYTES", 13 * 8 * 100)


@pytest.mark.parametrize("kind", ["csr_matrix", "csc_array", "coo_array"])
def test_sparse_matrices_count_as_dense_ones(wine, kind):
    X, y = wine
    sparse = getattr(scipy.sparse, kind)(X)
    for solver in ("adam", "lbfgs"):
        ours = MLPClassifier((8,), solver=solver, batch_size=50, max_iter=3, early_stopping=solver == "adam")
        ours.set_params(random_state=0)
        expected = ours.fit(X, y).predict_proba(X)
        np.testing.assert_array_equal(ours.predict_proba(sparse), expected)
        np.testing.assert_array_equal(ours.fit(sparse, y).predict_proba(X), expected)


def test_large_sparse_matrices_are_made_dense_piece_by_piece(wine, rng, small_buffers):
    X, y = wine
    sparse, weights = scipy.sparse.csr_array(X), rng.uniform(0, 2, len(X))
    ours = MLPClassifier((8,), batch_size=50, max_iter=3, shuffle=False, alpha=1.0, random_state=0)
    for more in ({}, {"sample_weight": weights}):
        expected = ours.fit(X, y, **more).predict_proba(X)
        np.testing.assert_array_equal(ours.fit(sparse, y, **more).predict_proba(X), expected)
        np.testing.assert_array_equal(ours.predict_proba(sparse), expected)
    ours.set_params(shuffle=True, early_stopping=True, monitor="loss", max_iter=100, learning_rate_init=0.01)
    ours.fit(sparse, y)
    assert ours.score(sparse, y) > 0.95
    assert ours.t_ == ours.n_iter_ * 160


def test_a_sparse_matrix_takes_no_memory_of_a_dense_one(small_buffers):
    X = scipy.sparse.random(5_000, 2_000, density=0.002, format="csr", random_state=0)  # 80 MB if it were dense
    y = X[:, [0]].toarray()[:, 0] > 0
    classifier = MLPClassifier((4,), max_iter=1, random_state=0)
    tracemalloc.start()
    try:
        classifier.fit(X, y).predict(X)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 40e6


# Within scikit-learn's tools.


def test_a_pipeline_transforms_rows_to_validate_on(wine):
    X, y = load_wine(return_X_y=True)
    classifier = MLPClassifier((8,), max_iter=3, random_state=0)
    scaler = StandardScaler().fit(X[::2])
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        warnings.simplefilter("ignore", ConvergenceWarning)
        right = classifier.fit(scaler.transform(X[::2]), y[::2], eval_set=(scaler.transform(X[1::2]), y[1::2]))
        curve = right.history_["val_loss"]
        with config_context(enable_metadata_routing=True):
            classifier.set_fit_request(X_val=True, y_val=True)
            pipeline = Pipeline([("scale", StandardScaler()), ("net", classifier)], transform_input=["X_val"])
            pipeline.fit(X[::2], y[::2], X_val=X[1::2], y_val=y[1::2])
    assert pipeline[-1].history_["val_loss"] == curve


def test_rows_to_validate_on_that_were_not_transformed_are_noticed():
    X, y = load_wine(return_X_y=True)
    pipeline = make_pipeline(StandardScaler(), MLPClassifier((8,), max_iter=2, random_state=0))
    with pytest.warns(UserWarning, match=r"column 0 of the rows to validate on has values like 13.*transform_input"):
        pipeline.fit(X[::2], y[::2], mlpclassifier__eval_set=(X[1::2], y[1::2]))


@pytest.mark.slow
def test_grid_search_in_two_processes(wine):
    X, y = wine
    pipeline = make_pipeline(StandardScaler(), MLPClassifier((8,), max_iter=20, random_state=0))
    grid = {"mlpclassifier__learning_rate_init": [1e-5, 0.03], "mlpclassifier__dropout": [0.0, 0.2]}
    search = GridSearchCV(pipeline, grid, cv=2, n_jobs=2).fit(X, y)
    assert search.best_params_["mlpclassifier__learning_rate_init"] == 0.03
    assert search.score(X, y) > 0.9
    alone = GridSearchCV(pipeline, grid, cv=2).fit(X, y)
    np.testing.assert_array_equal(search.cv_results_["mean_test_score"], alone.cv_results_["mean_test_score"])


def test_calibration_and_predictions_across_folds(wine):
    X, y = wine
    classifier = MLPClassifier((8,), max_iter=30, learning_rate_init=0.01, random_state=0)
    calibrated = CalibratedClassifierCV(classifier, cv=2).fit(X, y, sample_weight=np.ones(len(X)))
    assert calibrated.score(X, y) > 0.9
    folds = StratifiedKFold(2)
    p = cross_val_predict(classifier, X, y, cv=folds, method="predict_proba")
    train, test = next(folds.split(X, y))
    np.testing.assert_array_equal(p[test], clone(classifier).fit(X[train], y[train]).predict_proba(X[test]))


def test_data_frames(wine):
    pandas = pytest.importorskip("pandas")
    X, y = wine
    frame = pandas.DataFrame(X, columns=[f"f{i}" for i in range(X.shape[1])])
    classifier = MLPClassifier((8,), max_iter=5, random_state=0)
    pipeline = make_pipeline(StandardScaler().set_output(transform="pandas"), classifier).fit(frame, pandas.Series(y))
    assert list(pipeline[-1].feature_names_in_) == list(frame.columns)
    with pytest.raises(ValueError, match="feature names"):
        pipeline[-1].predict(frame[frame.columns[::-1]])


@pytest.mark.parametrize("copy", ["pickle", "joblib"])
def test_saved_estimators_go_on(wine, tmp_path, copy):
    X, y = wine
    classifier = MLPClassifier((8,), max_iter=3, warm_start=True, random_state=0).fit(X, y)
    if copy == "pickle":
        loaded = pickle.loads(pickle.dumps(classifier))
    else:
        joblib.dump(classifier, tmp_path / "network.joblib")
        loaded = joblib.load(tmp_path / "network.joblib")
    np.testing.assert_array_equal(loaded.predict_proba(X), classifier.predict_proba(X))
    np.testing.assert_array_equal(loaded.fit(X, y).predict_proba(X), classifier.fit(X, y).predict_proba(X))
    assert loaded.loss_curve_ == classifier.loss_curve_


# What is refused, and what is warned of.


@pytest.mark.filterwarnings("default::sklearn.exceptions.ConvergenceWarning")
def test_a_fit_that_has_not_converged_warns(wine):
    for solver in ("adam", "lbfgs"):
        with pytest.warns(ConvergenceWarning, match="max_iter=2"):
            MLPClassifier((8,), solver=solver, max_iter=2).fit(*wine)
    with pytest.warns(ConvergenceWarning, match="max_fun=3"):
        assert MLPClassifier((8,), solver="lbfgs", max_fun=3).fit(*wine).n_iter_ <= 3
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        MLPClassifier((8,), tol=1.0, n_iter_no_change=2).fit(*wine)
        MLPClassifier((8,)).partial_fit(*wine, classes=[0, 1, 2])


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"activation": ["relu", "tanh"]}, ValueError, "activation has 2 values for 1 hidden layers"),
        ({"activation": "rleu"}, ValueError, "Did you mean 'relu'"),
        ({"solver": "adem"}, ValueError, "Did you mean 'adam'"),
        ({"learning_rate": "inverse"}, ValueError, "constant, invscaling, adaptive"),
        ({"learning_rate": "adaptive", "solver": nbbp.SGD(nbbp.schedules.Constant(0.1))}, ValueError, "a schedule"),
        ({"power_t": -1.0}, ValueError, "power_t must be 0 or more"),
        ({"max_fun": 0}, ValueError, "max_fun must be 1 or more"),
        ({"verbose": -1}, ValueError, "verbose must be 0 or more"),
        ({"monitor": "acuracy"}, ValueError, "Did you mean 'accuracy'"),
        ({"loss": "softmax_cross_entropy"}, ValueError, "not a loss of sigmoid outputs"),
        ({"loss": "cross_entropy"}, ValueError, "not a loss of sigmoid outputs"),
        ({"alpha": -1.0}, ValueError, "alpha must be 0 or more"),
        ({"batch_size": 0}, ValueError, "batch_size must be 1 or more"),
        ({"max_iter": 2.5}, TypeError, "max_iter must be an integer"),
        ({"n_iter_no_change": 0}, ValueError, "n_iter_no_change must be 1 or more"),
        ({"validation_fraction": 0.0}, ValueError, "validation_fraction must be positive"),
        ({"early_stopping": 1}, TypeError, "early_stopping must be True or False"),
        ({"solver": "lbfgs", "early_stopping": True}, ValueError, "no early_stopping"),
    ],
)
def test_wrong_settings_are_refused(wine, settings, error, message):
    X, y = wine
    with pytest.raises(error, match=message):
        MLPClassifier(**settings).fit(X, y > 0)


def test_wrong_calls_are_refused(wine):
    X, y = wine
    with pytest.raises(ValueError, match="without an eval_set"):
        MLPClassifier(early_stopping=True).partial_fit(X, y, classes=[0, 1, 2])
    with pytest.raises(ValueError, match="give class_weight as a dict"):
        MLPClassifier(class_weight="balanced").partial_fit(X, y, classes=[0, 1, 2])
    # Each class has its share of the rows held out; scikit-learn 1.6 does not name the one that is too small.
    with pytest.raises(ValueError, match=r"least populated class(es in y .*'odd'| in y)"):
        MLPClassifier(early_stopping=True).fit(X, np.append(y[:-1].astype(str), "odd"))
    for more in ({"X_val": X}, {"y_val": y}, {"X_val": X, "y_val": y, "eval_set": (X, y)}):
        with pytest.raises(ValueError, match="X_val and y_val, or eval_set"):
            MLPClassifier().fit(X, y, **more)
    with pytest.raises(TypeError, match="eval_set must be a pair"):
        MLPClassifier().fit(X, y, eval_set=X)
    with pytest.raises(ValueError, match="previously unseen labels"):
        MLPClassifier().fit(X, y, eval_set=(X, y + 1))
    assert not hasattr(MLPClassifier(solver="lbfgs"), "partial_fit")
    fitted = MLPClassifier(max_iter=1).fit(X, y)
    with pytest.raises(ValueError, match="from the first call on"):
        fitted.partial_fit(X, y, classes=[0, 1])


def test_classes_that_do_not_count_are_refused(wine):
    X, y = wine
    with pytest.raises(ValueError, match="must not be zero"):
        MLPClassifier((4,), class_weight=dict.fromkeys(np.unique(y).tolist(), 0), max_iter=2).fit(X, y)


def test_a_batch_size_above_the_rows_is_clipped_with_a_warning(wine):
    X, y = wine
    with pytest.warns(UserWarning, match="Got `batch_size` less than 1 or larger than sample size.*clipped to 178"):
        clipped = MLPClassifier((8,), batch_size=179, max_iter=2, random_state=0).fit(X, y)
    whole = MLPClassifier((8,), batch_size=178, max_iter=2, random_state=0).fit(X, y)
    np.testing.assert_array_equal(clipped.predict_proba(X), whole.predict_proba(X))


def test_a_loss_that_diverges_is_a_value_error(wine):
    X = wine[0]
    settings = {"hidden_layer_sizes": (8,), "activation": "identity", "solver": "sgd", "learning_rate_init": 2.0}
    regressor = MLPRegressor(**settings, random_state=0)
    with pytest.raises(ValueError, match="epoch") as caught:
        regressor.fit(X[:, 1:], X[:, 0])
    assert isinstance(caught.value, nbbp.DivergenceError)
    with pytest.raises(nbbp.DivergenceError):
        MLPRegressor((8,), solver="lbfgs").fit(X * 1e307, X[:, 0])
    with pytest.warns(ConvergenceWarning, match="the best parameters are put back"):
        regressor.set_params(early_stopping=True).fit(X[:, 1:], X[:, 0])
    *measured, last = regressor.validation_scores_
    assert np.isnan(last)
    assert regressor.best_validation_score_ == max(measured)
    assert "the loss became" in regressor.history_.stopped
    assert np.isfinite(regressor.predict(X[:, 1:])).all()
