"""The scikit-learn estimators: scikit-learn's own checks, its tools, and numbers against its networks."""

import pickle
import re
import warnings

import numpy as np
import pytest

pytest.importorskip("sklearn")

import joblib
from sklearn.base import clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.datasets import load_breast_cancer, load_diabetes, load_digits, load_wine, make_multilabel_classification
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import GridSearchCV, StratifiedKFold, cross_val_predict, cross_val_score
from sklearn.neural_network import MLPClassifier as TheirClassifier
from sklearn.neural_network import MLPRegressor as TheirRegressor
from sklearn.pipeline import make_pipeline
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


# The same numbers: from the same first weights and in the same order of rows, the paths are equal.


def side_by_side(theirs, ours, X, y, epochs, loss_factor=1, **more):
    """Both trained from the weights of `theirs` after its first epoch, with a fresh optimizer."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs.set_params(max_iter=1, warm_start=True).fit(X, y, **more)
        ours.set_params(max_iter=1, warm_start=True, learning_rate_init=1e-300).fit(X, y, **more)
        for mine, other in zip(ours.coefs_ + ours.intercepts_, theirs.coefs_ + theirs.intercepts_, strict=True):
            mine[:] = other
        for moment in ours.model_.update.moments:
            moment[:] = 0
        ours.model_.update.steps = 0
        ours.set_params(learning_rate_init=theirs.learning_rate_init, max_iter=epochs).fit(X, y, **more)
        theirs.set_params(max_iter=epochs).fit(X, y, **more)
    assert theirs.n_iter_ == ours.n_iter_
    for mine, other in zip(ours.coefs_ + ours.intercepts_, theirs.coefs_ + theirs.intercepts_, strict=True):
        np.testing.assert_allclose(mine, other, rtol=1e-6, atol=1e-9)
    np.testing.assert_allclose(ours.loss_curve_[1:], np.multiply(loss_factor, theirs.loss_curve_[1:]), rtol=1e-6)


SAME = {"shuffle": False, "alpha": 3.0, "hidden_layer_sizes": (7, 5), "batch_size": 89, "random_state": 0}  # 178 rows
SAME |= {"epsilon": 1e-30}  # which scikit-learn adds before the second moment is corrected, and nbbp after


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"solver": "sgd", "activation": "logistic"},
        {"solver": "sgd", "nesterovs_momentum": False, "activation": ["tanh", "tanh"]},
        {"solver": "sgd", "momentum": 0.0, "activation": "identity"},
        {"beta_1": 0.8, "beta_2": 0.99},
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
    whole = SAME | {"batch_size": "auto"}
    side_by_side(TheirClassifier(**whole), MLPClassifier(**whole), X, y, epochs=20, sample_weight=weights)


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
    curve = stopped.fit(*seen, eval_set=held_out).history_["val_loss"]
    assert stopped.n_iter_ < 500
    assert np.argmin(curve) < len(curve) - 1
    assert stopped.model_.evaluate(*held_out)["loss"] == pytest.approx(min(curve))
    assert stopped.best_loss_ == min(stopped.loss_curve_)


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


def test_attributes_of_scikit_learn(wine):
    X, y = wine
    theirs = TheirClassifier((8,), max_iter=3, random_state=0).fit(X, y)
    ours = MLPClassifier((8,), max_iter=3, random_state=0).fit(X, y)
    for name in ("n_layers_", "n_outputs_", "n_features_in_", "n_iter_"):
        assert getattr(ours, name) == getattr(theirs, name)
    assert ours.loss_ == ours.loss_curve_[-1] >= ours.best_loss_
    assert ours.t_ == ours.model_.steps


def test_progress(wine, capsys):
    MLPClassifier((8,), max_iter=2, verbose=2).fit(*wine)
    assert re.search(r"Epoch 2/2 - [\d.]+s - loss: ", capsys.readouterr().out)
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


# Within scikit-learn's tools.


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
        ({"learning_rate": "invscaling"}, ValueError, "constant, adaptive"),
        ({"learning_rate": "adaptive", "solver": nbbp.SGD(nbbp.schedules.Constant(0.1))}, ValueError, "has a schedule"),
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
    with pytest.raises(ValueError, match="needs an eval_set"):
        MLPClassifier(early_stopping=True).partial_fit(X, y, classes=[0, 1, 2])
    with pytest.raises(ValueError, match="give class_weight as a dict"):
        MLPClassifier(class_weight="balanced").partial_fit(X, y, classes=[0, 1, 2])
    with pytest.raises(ValueError, match="least populated class"):  # each class has its share of the rows held out
        MLPClassifier(early_stopping=True).fit(X, np.append(y[:-1], 9))
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
