"""Small mistakes of a user, and numbers at the edge of their dtype: told clearly, or borne."""

import re

import numpy as np
import pytest
from numba import prange

import nbbp
from nbbp import callbacks, metrics, schedules
from nbbp.kernels.forks import cached_property

X = np.random.default_rng(0).standard_normal((12, 3))
LABELS = np.arange(12) % 3
ANSWERS = (np.random.default_rng(1).random((12, 3)) < 0.5).astype(float)


def network(loss="softmax_cross_entropy", backend="numpy", **settings) -> nbbp.Sequential:
    return nbbp.Sequential([nbbp.Dense(3)], loss, backend=backend, **settings)


def inspected() -> nbbp.History:
    return network().fit(X, LABELS, callbacks=[nbbp.Inspect(1), nbbp.Inspect(2)], verbose=0)


@pytest.mark.parametrize("backend", ["numba", "numpy"])
def test_large_gradients_are_clipped_to_the_norm_they_are_given(backend):
    """The sum of squares of 1e30 is no float32."""
    model = nbbp.Sequential([nbbp.Dense(1, use_bias=False)], "mae", nbbp.SGD(1.0, clip_norm=1.0), backend=backend)
    model.build(2)
    before = model.params.copy()
    inside = nbbp.Inspect(1)
    history = model.fit([[3e30, 4e30]], [[-1e36]], batch_size=1, callbacks=[inside], verbose=0)
    np.testing.assert_allclose(before - model.params, [0.6, 0.8], rtol=1e-6)
    assert history.inspected.gradients["dense_0.w"][0] == pytest.approx(1, rel=1e-6)


@pytest.mark.parametrize("backend", ["numba", "numpy"])
def test_a_last_mini_batch_of_one_row_leaves_batch_normalization_as_it_is(backend, rng):
    x, y = rng.standard_normal((9, 3)), rng.standard_normal((9, 2))
    layers = [nbbp.Dense(4), nbbp.BatchNorm(), nbbp.Dense(2)]
    model = nbbp.Sequential(layers, dtype="float64", backend=backend)
    model.fit(x[:8], y[:8], epochs=3, batch_size=4, verbose=0)
    eight = model.copy()
    model.fit(x, y, batch_size=8, shuffle=False, verbose=0)
    eight.fit(x[:8], y[:8], batch_size=8, shuffle=False, verbose=0)
    np.testing.assert_array_equal(model.network.state, eight.network.state)
    assert (model.params != eight.params).any()
    assert max(nbbp.check_gradients(model, x[:1], y[:1]).values()) < 1e-6
    for rows, batch_size in ((9, 1), (1, 32)):
        with pytest.raises(ValueError, match=r"each has one row: take batch_size=2 or more, or LayerNorm"):
            model.fit(x[:rows], y[:rows], batch_size=batch_size, verbose=0)


def test_a_learning_rate_falls_on_a_plateau_no_further_than_it_can():
    model = network(optimizer=nbbp.SGD(1e-37))
    plateau = callbacks.ReduceOnPlateau("loss", factor=0.01, patience=1)
    model.fit(X, LABELS, epochs=20, callbacks=[plateau], verbose=0)
    assert np.float32(model.learning_rate) > 0
    with pytest.raises(TypeError, match="changes a learning rate that is a number"):
        network(optimizer=nbbp.SGD(schedules.Constant(0.1))).fit(X, LABELS, callbacks=[plateau], verbose=0)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: network().fit(X, LABELS, class_weight=[1, 2, 3]), "must be 'balanced' or a dict of label to number"),
        (
            lambda: network().fit(X, LABELS, class_weight=dict.fromkeys(range(3), "1")),
            "class_weight of class 0 must be",
        ),
        (lambda: schedules.WarmUp(0.1, 5), "WarmUp: schedule must be a schedule, such as Constant(0.01); got 0.1"),
        (lambda: schedules.Cosine(0.1, 5, restarts="no"), "Cosine: restarts must be True or False"),
        (lambda: nbbp.ColumnEmbedding({0.5: 3}), "ColumnEmbedding: a column must be an integer, got 0.5"),
        (lambda: nbbp.ColumnEmbedding({0: 3.0}), "ColumnEmbedding: categories of column 0 must be an integer, got 3.0"),
        (lambda: nbbp.Ensemble([network(), None]), "must be nbbp.Sequential or nbbp.Model, got None"),
        (lambda: nbbp.Ensemble([network()]).fit(X, LABELS, validation_data=X), "must be a pair (X, y)"),
        (lambda: ensemble_of([0.5, 1.0]), "rows of member 0 must be integers"),
    ],
)
def test_what_has_the_wrong_type_is_a_type_error(make, message):
    with pytest.raises(TypeError, match=re.escape(message)):
        make()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: network("binary_cross_entropy").fit(X, ANSWERS, class_weight="balanced"), "with sample_weight"),
        (inspected, "a fit has one record: give it one nbbp.Inspect"),
        (lambda: schedules.OneCycle(0.1, 10, rise=1.5), "OneCycle: rise must be 0 or more and below 1, got 1.5"),
        (lambda: nbbp.SGD(0.1, schedules.Constant(1.0)), "momentum must be 0 or more and below 1; at step 1 it is 1"),
        (lambda: nbbp.SGD(0.1, schedules.Exponential(0.5, 9, 2.0)), "at step 17 it is 1.71"),
        (lambda: network().fit(X, LABELS, sample_weight=np.full(12, 1e39)), "weights must be finite, 0 or more"),
        (lambda: network().fit(X, LABELS, sample_weight=np.full(12, 1e-50)), "weights must not be zero for all rows"),
        (lambda: nbbp.ColumnEmbedding({-1: 3}), "ColumnEmbedding: a column must be 0 or more, got -1"),
        (lambda: nbbp.Ensemble([network(), network(backend="numba")]), "must have one backend, got numba, numpy"),
        (lambda: ensemble_of([0, 12]), "rows of member 0 must lie in 0 to 11, got 12"),
        (lambda: ensemble_of([True]), "a bool for each of 12 rows, one of them True"),
        (lambda: ensemble_of([]), "rows of member 0 is empty: its shape is (0,)"),
        (lambda: nbbp.prune(built([nbbp.Activation("tanh"), nbbp.LayerNorm()]), 0.5), "there is nothing to prune"),
        (lambda: network("mse", metrics=["accuracy"]).fit(X, 10 * X), "are for classes; y holds values from"),
        (lambda: network("mse", metrics=["f1"]).evaluate(X, ANSWERS / 3), "f1 is for classes, and with mse"),
        (lambda: metrics.accuracy(X[:, :1], X[:, :1]), "are for classes; y holds values from"),
        (lambda: metrics.recall([[3], [0]], np.eye(2)), "labels must lie in 0 to 1"),
        (lambda: metrics.mse(X, X[:5]), "got (12, 3) and (5, 3)"),
        (lambda: metrics.mse(X, X, np.zeros(12)), "weights must not be zero for all rows"),
        (lambda: define_loss(link="bogus"), "unknown link 'bogus'"),
        (lambda: define_loss(name="mse"), "there is already loss 'mse'"),
        (lambda: nbbp.activations.define("relu", None, None, None, None), "there is already activation 'relu'"),
    ],
)  # fmt: skip
def test_what_has_no_meaning_is_a_value_error(make, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        make()


def built(layers) -> nbbp.Sequential:
    model = nbbp.Sequential(layers)
    model.build(3)
    return model


def ensemble_of(rows) -> None:
    nbbp.Ensemble([network()]).fit(X, LABELS, rows=[rows], verbose=0)


def define_loss(name="own", **settings):
    return nbbp.losses.define(name, None, None, None, None, "", **settings)


def test_classes_may_be_coded_as_any_two_values():
    model = network("mse", metrics=["accuracy"])
    coded = 2 * np.eye(3)[LABELS] - 1
    assert model.evaluate(X, coded)["accuracy"] == np.mean(model.predict(X).argmax(axis=1) == LABELS)


@pytest.mark.parametrize("share", [0.25, 0.29, 0.5])
def test_pruning_takes_the_share_it_is_asked_for_among_equals(share):
    model = nbbp.Sequential([nbbp.Dense(10, initializer="constant")])
    model.build(10)
    for asked in (share, share, 0.1):
        nbbp.prune(model, asked)
        assert np.count_nonzero(model.named_params()["dense_0.w"]) == 100 - round(100 * share)


def test_an_ensemble_is_evaluated_as_a_whole():
    for loss, y in (("softmax_cross_entropy", LABELS), ("binary_cross_entropy", ANSWERS), ("mse", ANSWERS)):
        ensemble = nbbp.Ensemble(3, lambda seed, loss=loss: network(loss, seed=seed, metrics=["accuracy"]))
        values, p = ensemble.evaluate(X, y, np.arange(12)), ensemble.predict(X).astype(np.float64)
        row_loss = {
            "softmax_cross_entropy": lambda p: -np.log(p[np.arange(12), LABELS]),
            "binary_cross_entropy": lambda p: -np.mean(ANSWERS * np.log(p) + (1 - ANSWERS) * np.log(1 - p), axis=1),
            "mse": lambda p: np.mean((p - ANSWERS) ** 2, axis=1),
        }[loss](p)
        assert values["loss"] == pytest.approx(np.mean(np.arange(12) * row_loss), rel=1e-5)
        assert 0 <= values["accuracy"] <= 1
    one = nbbp.Ensemble([network()])
    assert one.evaluate(X, LABELS)["loss"] == pytest.approx(one.members[0].evaluate(X, LABELS)["loss"], rel=1e-6)


def test_members_train_on_rows_by_number_or_by_mask():
    chosen = np.arange(12) % 2 == 0
    ensemble = nbbp.Ensemble([network(), network(), network()])
    histories = ensemble.fit(X, LABELS, rows=[chosen, np.flatnonzero(chosen), np.arange(-12, 0, 2)], verbose=0)
    assert len({history["loss"][0] for history in histories}) == 1


@pytest.fixture
def forgotten():
    before = dict(nbbp.kernels.jit.KERNELS)
    yield
    nbbp.kernels.jit.KERNELS.clear()
    nbbp.kernels.jit.KERNELS.update(before)


def scaled_reference(y, x):
    np.multiply(x, 3, out=y)


@pytest.mark.usefixtures("forgotten")
def test_a_kernel_may_be_a_closure():
    factor = 3.0

    def scaled(y, x):
        for i in prange(x.shape[0]):
            y[i] = factor * x[i]

    nbbp.kernel(scaled_reference, "(n) (n)")(scaled).check(np.zeros(5), np.zeros(5))


@pytest.mark.usefixtures("forgotten")
def test_a_kernel_that_does_not_compile_is_named_with_its_cause():
    def wrong(y, x):
        y[0] = x.no_such_attribute

    with pytest.raises(TypeError, match=r"^kernel wrong does not compile: Unknown attribute 'no_such_attribute' .*$"):
        nbbp.kernel(scaled_reference, "(n) (n)")(wrong).check(np.zeros(5), np.zeros(5))


@pytest.mark.parametrize("name", nbbp.OPTIMIZERS)
def test_moments_that_decay_do_not_stay_denormal(name):
    """Those make every step many times as long."""
    optimizer = nbbp.SGD(0.01, 0.9) if name == "sgd" else nbbp.OPTIMIZERS[name]()
    model = nbbp.Sequential([nbbp.Dense(3)], optimizer=optimizer)
    model.fit(X, np.zeros((12, 3)), verbose=0)
    model.params[:] = 0
    for moment in model.update.moments:
        moment[:] = 1.2e-38
    model.fit(np.zeros_like(X), np.zeros((12, 3)), epochs=200, verbose=0)
    for array in (*model.update.moments, model.params):
        assert not ((array != 0) & (np.abs(array) < np.finfo(np.float32).tiny)).any()


def test_unscaled_features_are_diagnosed():
    def found(x):
        return nbbp.diagnose(network().fit(x, LABELS, callbacks=[nbbp.Inspect(1)], verbose=0))

    assert "unscaled features" not in found(X)
    assert "feature 1 has mean 5e+03 and standard deviation" in str(found(X + np.array([0, 5000, 0])))


def test_a_printed_model_has_a_line_for_each_layer():
    lines = str(nbbp.Sequential([nbbp.Dense(3, "relu"), nbbp.Dropout(0.1), nbbp.Dense(1)])).splitlines()
    assert [line.strip().partition("(")[0] for line in lines[2:5]] == ["Dense", "Dropout", "Dense"]
    assert max(map(len, lines)) < 160


def test_modules_that_are_imported_on_demand_are_listed():
    assert {*nbbp.__all__, "bench", "sklearn"} <= set(dir(nbbp))


def test_a_cached_property_of_a_class_is_itself():
    class Once:
        @cached_property
        def value(self):
            """A new object."""
            return object()

    once = Once()
    assert once.value is once.value
    assert once.value is not Once().value
    assert isinstance(Once.value, cached_property)
    assert Once.value.__doc__ == "A new object."
