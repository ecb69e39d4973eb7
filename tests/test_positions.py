"""Positions before the features, elements of a loss, and masks."""

import numpy as np
import pytest
from toys import ToyRecurrence, ToyTokens

import nbbp
from nbbp.engine.planner import number_of_shards

LAYERS = {
    "dense": nbbp.Dense(3, "tanh", l2=0.01), "relu": nbbp.Activation("relu"), "softmax": nbbp.Activation("softmax"),
    "column_embedding": nbbp.ColumnEmbedding({1: 5, 3: 2}, 3), "batch_norm": nbbp.BatchNorm(),
    "layer_norm": nbbp.LayerNorm(), "dropout": nbbp.Dropout(0.4), "gaussian_noise": nbbp.GaussianNoise(0.3),
}  # fmt: skip


@pytest.mark.parametrize("positions", [(6,), (2, 3), (1, 3, 2)], ids=str)
@pytest.mark.parametrize("name", LAYERS)
def test_positions_are_rows_to_layers_of_features(name, positions, rng):
    layer, rows = LAYERS[name], 8
    entry, flat_entry = nbbp.Input((*positions, 4)), nbbp.Input(4)
    model, flat = (nbbp.Model(x, nbbp.Dense(2)(layer(x)), seed=4, dtype="float64") for x in (entry, flat_entry))
    X, y = rng.standard_normal((rows, *positions, 4)), rng.standard_normal((rows, *positions, 2))
    X[..., 1], X[..., 3] = rng.integers(0, 5, X.shape[:-1]), rng.integers(0, 2, X.shape[:-1])
    X_flat, y_flat = X.reshape(-1, 4), y.reshape(-1, 2)
    np.testing.assert_array_equal(model.predict(X).reshape(-1, 2), flat.predict(X_flat))
    assert model.evaluate(X, y) == flat.evaluate(X_flat, y_flat)
    slopes, expected = model.gradients(X, y), flat.gradients(X_flat, y_flat)
    for key in expected:
        np.testing.assert_array_equal(slopes[key], expected[key])
    dX = model.input_gradients(X, y)
    assert dX.shape == X.shape
    np.testing.assert_array_equal(dX.reshape(-1, 4), flat.input_gradients(X_flat, y_flat))
    np.testing.assert_array_equal(model.network.state, flat.network.state)
    assert max(nbbp.check_gradients(model, X, y).values()) < 1e-6
    losses = [
        m.fit(a, b, epochs=3, batch_size=len(a), shuffle=False, verbose=0).step_loss
        for m, a, b in ((model, X, y), (flat, X_flat, y_flat))
    ]
    np.testing.assert_array_equal(*losses)


def sequences(rng, rows: int = 30, time: int = 6):
    """Inputs, labels and a mask; what is masked is nan, and a label that there is not."""
    X, y = rng.standard_normal((rows, time, 4)), rng.integers(0, 3, (rows, time))
    mask = rng.random((rows, time)) < 0.6
    mask[:, 0] = True
    X[~mask], y[~mask] = np.nan, -100
    return X, y, mask


def tagger(**settings) -> nbbp.Model:
    """A softmax at each time."""
    x = nbbp.Input((6, 4))
    settings = {"loss": "softmax_cross_entropy", "optimizer": nbbp.SGD(0.1), "dtype": "float64"} | settings
    return nbbp.Model(x, nbbp.Dense(3)(nbbp.Dense(5, "tanh")(x)), **settings)


def of_torch(torch, model, X, y, mask, weights=None):
    """Loss and gradients of `tagger`."""
    p = {name: torch.tensor(value.copy(), requires_grad=True) for name, value in model.named_params().items()}
    h = (torch.tensor(np.nan_to_num(X)) @ p["dense_0.w"] + p["dense_0.b"]).tanh()
    z = (h @ p["dense_1.w"] + p["dense_1.b"]).permute(0, 2, 1)
    labels = torch.tensor(y if mask is None else np.where(mask, y, -100))
    loss = torch.nn.functional.cross_entropy(z, labels, ignore_index=-100, reduction="none")
    count = y.size if mask is None else mask.sum()
    loss = (loss if weights is None else loss * torch.tensor(weights)).sum() / count
    loss.backward()
    return loss.item(), {name: value.grad.numpy() for name, value in p.items()}


@pytest.mark.parametrize("backend", ["numba", "numpy"])
@pytest.mark.parametrize("masked", [False, True], ids=["whole", "masked"])
@pytest.mark.parametrize("weights", [None, "rows", "elements"])
def test_softmax_at_each_time_agrees_with_pytorch(weights, masked, backend, rng):
    torch = pytest.importorskip("torch")
    X, y, mask = sequences(rng)
    if not masked:
        X, y, mask = np.nan_to_num(X), np.maximum(y, 0), None
    given = {None: None, "rows": rng.uniform(0, 2, 30), "elements": rng.uniform(0, 2, (30, 6))}[weights]
    each = given[:, None] if weights == "rows" else given
    model = tagger(backend=backend)
    loss, slopes = of_torch(torch, model, X, y, mask, each)
    assert model.evaluate(X, y, given, mask=mask)["loss"] == pytest.approx(loss, rel=1e-12)
    if given is None:
        for name, got in model.gradients(X, y, mask).items():
            np.testing.assert_allclose(got, slopes[name], rtol=1e-9, atol=1e-13)
    before = model.params.copy()
    history = model.fit(X, y, batch_size=30, sample_weight=given, mask=mask, verbose=0)
    assert history.step_loss[0] == pytest.approx(loss, rel=1e-12)
    change = model.network.layout.named(before - model.params)
    for name, got in change.items():
        np.testing.assert_allclose(got / 0.1, slopes[name], rtol=1e-8, atol=1e-13)


def test_one_hot_targets_have_the_numbers_of_labels(rng):
    X, y, mask = sequences(rng)
    one_hot = np.where(mask[..., None], np.eye(3)[np.maximum(y, 0)], np.nan)
    losses = [tagger().fit(X, t, epochs=2, batch_size=8, mask=mask, verbose=0).step_loss for t in (y, one_hot)]
    np.testing.assert_allclose(*losses, rtol=1e-12)


@pytest.mark.parametrize("loss", ["mse", "mae", "huber", "binary_cross_entropy", "poisson"])
def test_masked_targets_do_no_harm(loss, rng):
    """0 times nan is nan: what is masked is selected away, in both backends."""
    X, _, mask = sequences(rng)
    y = rng.integers(0, 2, (30, 6, 3)).astype(float)
    y[~mask] = np.nan
    clean = np.nan_to_num(X), np.nan_to_num(y, nan=1.0)
    runs = []
    for given, backend in ((clean, "numba"), ((X, y), "numba"), ((X, y), "numpy")):
        model = tagger(loss=loss, metrics=["mse"], backend=backend)
        history = model.fit(*given, epochs=3, batch_size=8, mask=mask, validation_data=(*given, None, mask), verbose=0)
        assert np.isfinite(model.params).all()
        assert history["val_loss"][-1] == model.evaluate(*given, mask=mask)["loss"]
        runs.append(np.concatenate([history.step_loss, *(history[name] for name in history.epochs)]))
    np.testing.assert_array_equal(runs[0], runs[1])
    np.testing.assert_allclose(runs[2], runs[1], rtol=1e-10)


@pytest.mark.parametrize("built", [True, False])
def test_a_model_that_is_new_takes_masked_inputs_that_are_nan(built, rng):
    X, y, mask = rng.standard_normal((6, 4, 3)), rng.standard_normal((6, 4, 2)), rng.random((6, 4)) < 0.7
    X[~mask] = np.nan
    model = nbbp.Sequential([nbbp.Dense(2)], dtype="float64", backend="numpy")
    if built:
        model.build((4, 3))
    history = model.fit(X, y, mask=mask, verbose=0)
    assert np.isfinite([*history["loss"], *model.params]).all()


@pytest.mark.parametrize("weights", [False, True], ids=["counted", "weighed"])
def test_denominators_are_those_of_the_whole_batch(weights, rng):
    """In one piece, in shards, and in micro-batches of which some have far fewer elements than others."""
    X, y, mask = sequences(rng, 1024)
    mask[:128, 1:] = False
    given = {"mask": mask, "sample_weight": rng.uniform(0, 2, mask.shape) if weights else None, "shuffle": False}
    in_shards = tagger().fit(X, y, epochs=2, batch_size=512, verbose=0, **given).step_loss
    assert number_of_shards(512, 50) == 8
    in_parts = tagger().fit(X, y, epochs=2, batch_size=128, accumulate=4, verbose=0, **given).step_loss
    in_one = tagger().fit(X, y, epochs=2, batch_size=512, shards=1, verbose=0, **given).step_loss
    np.testing.assert_allclose(in_shards, in_one, rtol=1e-12)
    np.testing.assert_allclose(in_parts, in_one, rtol=1e-12)


def test_metrics_see_what_is_there_alone(rng):
    X, y, mask = sequences(rng, 700)
    model = tagger(metrics=["accuracy"])
    p = model.predict(X, mask=mask)
    assert p.shape == (700, 6, 3)
    right = p.argmax(axis=-1) == y
    values = model.evaluate(X, y, mask=mask)
    assert values["accuracy"] == right[mask].mean()
    weights = rng.uniform(0, 2, (700, 6))
    expected = np.average(right[mask], weights=weights[mask])
    assert model.evaluate(X, y, weights, mask=mask)["accuracy"] == pytest.approx(expected, rel=1e-12)
    again = (X[:90], y[:90], None, mask[:90])
    history = model.fit(X, y, batch_size=700, mask=mask, validation_data=again, verbose=0)
    assert history["accuracy"][0] == values["accuracy"]
    assert history["loss"][0] == pytest.approx(values["loss"], rel=1e-12)
    assert history["val_accuracy"][0] == model.evaluate(*again[:2], mask=mask[:90])["accuracy"]


def test_class_weights_count_what_is_there(rng):
    X, y, mask = sequences(rng)
    counts = np.bincount(y[mask], minlength=3)
    by_hand = {label: mask.sum() / (3 * count) for label, count in enumerate(counts)}
    losses = [
        tagger().fit(X, y, epochs=2, mask=mask, class_weight=weight, verbose=0).step_loss
        for weight in ("balanced", by_hand)
    ]
    np.testing.assert_allclose(*losses, rtol=1e-12)


def test_blocks_of_rows_and_their_masks(rng):
    X, _, mask = sequences(rng, 1100)
    x = nbbp.Input((6, 4))
    model = nbbp.Model(x, nbbp.Dense(3)(ToyRecurrence(5)(x)), "softmax_cross_entropy")
    whole = model.predict(X, mask=mask)
    for part in (slice(0, 1), slice(500, 530), slice(1024, 1100)):
        assert model.predict(X[part], mask=mask[part]).tobytes() == whole[part].tobytes()
    assert not np.array_equal(model.predict(np.nan_to_num(X)), whole)


def test_each_input_has_its_mask(rng):
    a, b = nbbp.Input((6, 4)), nbbp.Input((6, 4))
    h, g = ToyRecurrence(5)(a), ToyRecurrence(5)(b)
    model = nbbp.Model({"a": a, "b": b}, {"c": h, "d": nbbp.Add()(g, h)}, dtype="float64")
    X, _, mask = sequences(rng)
    both = {"a": X, "b": rng.standard_normal(X.shape)}
    y = {"c": rng.standard_normal((30, 6, 5)), "d": rng.standard_normal((30, 6, 5))}
    z, given = model.predict(both, mask={"a": mask, "b": None}), {"a": mask, "b": None}
    y["c"][~mask] = np.nan
    values = model.evaluate(both, y, mask=given)
    assert values["c_loss"] == pytest.approx(np.mean((z["c"] - y["c"])[mask] ** 2), rel=1e-12)
    assert values["d_loss"] == pytest.approx(np.mean((z["d"] - y["d"]) ** 2), rel=1e-12), "that of the first input"
    assert max(nbbp.check_gradients(model, both, y, mask=given).values()) < 1e-6


def test_tokens_are_elements(rng):
    x = nbbp.Input(6, dtype="int32")
    model = nbbp.Model(x, nbbp.Dense(3)(ToyTokens(9, 4)(x)), "softmax_cross_entropy", dtype="float64")
    X, (_, y, mask) = rng.integers(0, 9, (30, 6)), sequences(rng)
    X[~mask] = 1_000_000
    p = model.predict(X, mask=mask)[mask]
    expected = -np.log(p[np.arange(len(p)), y[mask]]).mean()
    assert model.evaluate(X, y, mask=mask)["loss"] == pytest.approx(expected, rel=1e-12)
    assert max(nbbp.check_gradients(model, X, y, mask=mask).values()) < 1e-6
    history = model.fit(X, y, epochs=3, batch_size=8, mask=mask, verbose=0)
    other = model.with_backend("numpy").fit(X, y, epochs=1, batch_size=8, mask=mask, verbose=0)
    assert np.isfinite(history.step_loss).all()
    assert np.isfinite(other.step_loss).all()


def test_masks_that_cannot_be(rng):
    X, y, mask = sequences(rng)
    model = tagger()
    for wrong, words in (
        (mask.astype(int), r"mask must be an array of bool \(rows, \*\(6,\)\), got int64 \(30, 6\)"),
        (mask[:, :5], r"got bool \(30, 5\)"),
        (mask[:9], "X has 30 rows and its mask 9"),
        (np.zeros_like(mask), "mask leaves no element"),
    ):
        with pytest.raises(ValueError, match=words):
            model.fit(X, y, mask=wrong, verbose=0)
    with pytest.raises(ValueError, match="X must be finite, got nan in row"):
        model.predict(X, mask=np.ones_like(mask))
    with pytest.raises(ValueError, match="labels must lie in 0 to 2"):
        model.evaluate(np.nan_to_num(X), y)
    with pytest.raises(ValueError, match="a sample without positions has no mask"):
        nbbp.Sequential([nbbp.Input(4), nbbp.Dense(2)]).predict(X[:, 0], mask=mask[:, :1])
    with pytest.raises(ValueError, match="batchnorm_0: BatchNorm takes no mask"):
        nbbp.Sequential([nbbp.Input((6, 4)), nbbp.BatchNorm()]).predict(X, mask=mask)


def test_a_masked_code_may_be_anything(rng):
    model = nbbp.Sequential([nbbp.Input((3, 1)), nbbp.ColumnEmbedding({0: 4}, 2)], dtype="float64")
    X, mask = (
        np.array([[[1.0], [2], [np.nan]], [[3], [77], [0.5]]]),
        np.array([[True, True, False], [True, False, False]]),
    )
    table = model.named_params()["columnembedding_0.table_0"]
    np.testing.assert_array_equal(model.predict(X, mask=mask)[mask], table[[1, 2, 3]])
    with pytest.raises(ValueError, match="whole numbers from 0 to 3; got 77"):
        model.predict(X, mask=np.array([[True, True, False], [True, True, False]]))
