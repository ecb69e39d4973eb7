"""Windows of series: trained on without copies, with the bits of an array of them."""

import numpy as np
import pytest

import nbbp
from nbbp.engine.windows import Windows
from nbbp.streams import windows


@pytest.fixture
def series(rng):
    return rng.standard_normal((120, 3)).astype(np.float32)


def build(backend="numba", outputs=4, **settings) -> nbbp.Sequential:
    layers = [nbbp.Conv1D(5, 3, activation="tanh"), nbbp.Flatten(), nbbp.Dense(outputs)]
    return nbbp.Sequential(layers, "mse", "adam", backend=backend, **settings)


def test_a_window_is_the_past_and_y_what_follows(series):
    X, y = windows(series, 6, 4, targets=1, stride=3)
    assert X.shape == (37, 6, 3)
    assert y.shape == (37, 4)
    for k in range(len(X)):
        np.testing.assert_array_equal(X[k], series[3 * k : 3 * k + 6])
        np.testing.assert_array_equal(y[k], series[3 * k + 6 : 3 * k + 10, 1])
    np.testing.assert_array_equal(X[[5, 2]], np.asarray(X)[[5, 2]])
    assert repr(X) == "<Windows: 37 of 6 x 3, float32>"


def test_nothing_of_one_series_is_copied(series):
    X, _ = windows(series, 6, 4)
    assert np.shares_memory(X.flat, series)
    model = build(outputs=12)
    data = model.prepare(X, windows(series, 6, 4)[1])
    assert np.shares_memory(data.inputs[0].flat, series)
    assert np.shares_memory(data.targets[0].flat, series)


@pytest.mark.parametrize(
    ("targets", "shape"), [(None, (111, 4, 3)), (2, (111, 4)), ([2], (111, 4, 1)), ([2, -3], (111, 4, 2))]
)
def test_targets_are_columns(series, targets, shape):
    _, y = windows(series, 6, 4, targets)
    assert y.shape == shape
    columns = series if targets is None else series[:, targets]
    np.testing.assert_array_equal(y[7], columns[13:17])


def test_a_series_with_one_axis_has_one_feature_and_y_has_no_last_axis(series):
    X, y = windows(series[:, 0], 6, 4)
    assert (X.shape, y.shape) == ((111, 6, 1), (111, 4))


def test_no_window_lies_in_two_series(series):
    X, y = windows([series[:20], series[20:33], series[33:]], 6, 4, targets=0)
    each = [windows(part, 6, 4, targets=0) for part in (series[:20], series[20:33], series[33:])]
    np.testing.assert_array_equal(X, np.concatenate([np.asarray(own) for own, _ in each]))
    np.testing.assert_array_equal(y, np.concatenate([own for _, own in each]))


def test_known_columns_are_seen_in_the_future_and_static_ones_beside(series):
    parts = [series[:50], series[50:]]
    (past, ahead, static), _ = windows(parts, 6, 4, targets=0, known=[2, 1], static=[[1.0], [7.0]])
    assert (past.shape, ahead.shape, static.shape) == ((102, 6, 3), (102, 4, 2), (102, 1))
    np.testing.assert_array_equal(ahead[45], series[50 + 4 + 6 : 50 + 4 + 10, [2, 1]])
    np.testing.assert_array_equal(static, np.repeat([[1.0], [7.0]], [41, 61], axis=0))


@pytest.mark.parametrize("backend", ["numba", "numpy"])
def test_windows_give_the_bits_of_an_array(series, backend):
    X, y = windows(series, 6, 4, targets=0)
    models = build(backend, metrics=["mae"]), build(backend, metrics=["mae"])
    for model, given, target in zip(models, (X, np.asarray(X)), (y, np.asarray(y)), strict=True):
        held_out = given[90:], target[90:]
        model.fit(given, target, epochs=3, batch_size=16, validation_data=held_out, verbose=0)
    assert models[0].params.tobytes() == models[1].params.tobytes()
    assert models[0].history.epochs == models[1].history.epochs
    assert models[0].predict(X).tobytes() == models[1].predict(np.asarray(X)).tobytes()
    assert models[0].evaluate(X, y) == models[1].evaluate(np.asarray(X), np.asarray(y))
    for name, gradient in models[0].gradients(X, y).items():
        np.testing.assert_array_equal(gradient, models[1].gradients(np.asarray(X), np.asarray(y))[name])


@pytest.mark.parametrize("weighted", [False, True])
def test_inputs_and_targets_may_each_be_windows(series, weighted):
    X, y = windows(series, 6, 4)
    weights = np.arange(len(y)) % 3 if weighted else None
    params = []
    for given, target in ((X, y), (np.asarray(X), y), (X, np.asarray(y)), (np.asarray(X), np.asarray(y))):
        model = build(outputs=12)
        model.fit(given, target, epochs=2, verbose=0, sample_weight=weights)
        params.append(model.params.tobytes())
    assert len(set(params)) == 1


def test_windows_of_classes_are_labels(rng):
    X, y = windows(rng.integers(0, 3, 90), 5, 2)
    layers = [nbbp.Flatten(), nbbp.Dense(6), nbbp.Reshape((2, 3))]
    model, other = (nbbp.Sequential(layers, "softmax_cross_entropy", metrics=["accuracy"]) for _ in range(2))
    model.fit(X, y, epochs=2, verbose=0)
    other.fit(np.asarray(X), np.asarray(y), epochs=2, verbose=0)
    assert model.params.tobytes() == other.params.tobytes()
    assert model.history.epochs == other.history.epochs


def test_numpy_takes_windows_as_an_array(series):
    _, y = windows(series, 6, 4, targets=0)
    array = np.asarray(y)
    np.testing.assert_array_equal(y / 2 - array, -array / 2)
    assert np.mean(y) == array.mean()
    assert (y > 0).sum() == (array > 0).sum()
    with pytest.raises(TypeError):
        y += 1


def test_many_windows_are_predicted_in_parts(rng):
    X, _ = windows(rng.standard_normal(10_000).astype(np.float32), 12, 4)
    model = build()
    assert model.predict(X).tobytes() == model.predict(np.asarray(X)).tobytes()


def test_a_model_takes_the_past_the_known_and_the_static(series):
    X, y = windows([series[:50], series[50:]], 6, 4, targets=0, known=1, static=[[0.0], [1.0]])
    past, ahead, static = nbbp.Input((6, 3)), nbbp.Input((4, 1)), nbbp.Input(1)
    joined = nbbp.Concatenate()(nbbp.Flatten()(past), nbbp.Flatten()(ahead), static)
    model = nbbp.Model([past, ahead, static], nbbp.Dense(4)(joined), optimizer="adam")
    other = model.copy()
    model.fit(X, y, epochs=2, verbose=0)
    other.fit([np.asarray(x) for x in X], y, epochs=2, verbose=0)
    assert model.params.tobytes() == other.params.tobytes()
    assert model.predict(X).shape == (len(y), 4)


def test_a_fit_on_windows_is_resumed(series, tmp_path):
    X, y = windows(series, 6, 4, targets=0)
    whole = build()
    whole.fit(X, y, epochs=4, verbose=0)
    for epochs in (2, 4):
        model = build()
        model.fit(X, y, epochs=epochs, callbacks=[nbbp.Checkpoint(tmp_path)], resume=tmp_path, verbose=0)
    assert model.params.tobytes() == whole.params.tobytes()
    changed = series.copy()
    changed[3] += 1
    with pytest.raises(ValueError, match="X was SHA-256"):
        build().fit(windows(changed, 6, 4)[0], y, epochs=5, resume=tmp_path, verbose=0)


def test_bytes_stay_bytes_until_they_are_gathered(rng):
    X, y = windows(rng.integers(0, 256, (90, 2), np.uint8), 5, 2, targets=0)
    layers = [nbbp.Rescale(1 / 255), nbbp.Flatten(), nbbp.Dense(2)]
    model, other = (nbbp.Sequential(layers) for _ in range(2))
    model.fit(X, y / 255, epochs=2, verbose=0)
    other.fit(np.asarray(X), y / 255, epochs=2, verbose=0)
    assert model.params.tobytes() == other.params.tobytes()


def test_windows_of_another_dtype_are_cast(series):
    X, y = windows(series.astype(np.float64), 6, 4, targets=0)
    model, other = build(), build()
    model.fit(X, y, verbose=0)
    other.fit(np.asarray(X), y, verbose=0)
    assert model.params.tobytes() == other.params.tobytes()


def test_what_is_not_known_yet_may_be_nan(series):
    series = series.copy()
    series[-4:, 0] = np.nan
    X, _ = windows(series, 6, 4, targets=0)
    model = build()
    model.build((6, 3))
    assert np.isfinite(model.predict(X)).all()
    series[50, 2] = np.inf
    with pytest.raises(ValueError, match=r"X\[45\] must be finite, got inf in row 5, column 2"):
        model.predict(windows(series, 6, 4, targets=0)[0])


def test_errors_name_the_series(series):
    with pytest.raises(ValueError, match="series 1 has 9 instants, and a window takes 10"):
        windows([series, series[:9]], 6, 4)
    with pytest.raises(ValueError, match="the series has 9 instants"):
        windows(series[:9], 6, 4)
    with pytest.raises(ValueError, match="series 1 has 2 features, and series 0 has 3"):
        windows([series, series[:, :2]], 6, 4)
    with pytest.raises(ValueError, match="targets must lie in 0 to 2, got 3"):
        windows(series, 6, 4, targets=3)
    with pytest.raises(ValueError, match="static must have a row for each of 2 series"):
        windows([series, series], 6, 4, static=[[1.0]])
    model, (X, _) = build(), windows(series, 6, 4)
    model.build((5, 3))
    with pytest.raises(ValueError, match="the model takes samples of shape"):
        model.predict(X)


def test_a_window_without_a_copy_is_refused(series):
    X = Windows(series, np.arange(3), (6,))
    with pytest.raises(ValueError, match="is a copy"):
        np.asarray(X, copy=False)
