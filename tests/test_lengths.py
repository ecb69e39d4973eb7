"""Rows of different lengths: an array with lengths."""

import numpy as np
import pytest
from toys import ToyRecurrence, ToyTokens

import nbbp
from nbbp.training.order import BY_LENGTH

TIME = 6


def tagger(**settings) -> nbbp.Model:
    """A softmax at each time."""
    x = nbbp.Input((TIME, 4))
    settings = {"loss": "softmax_cross_entropy", "optimizer": nbbp.SGD(0.1)} | settings
    return nbbp.Model(x, nbbp.Dense(3)(ToyRecurrence(5)(x)), **settings)


def reader(time: int = TIME, **settings) -> nbbp.Model:
    """A softmax for each row."""
    x = nbbp.Input((time, 4))
    h = nbbp.GlobalAveragePool()(nbbp.Dense(5, "tanh")(x))
    return nbbp.Model(x, nbbp.Dense(3)(h), **{"loss": "softmax_cross_entropy", "optimizer": "adam"} | settings)


def padded(rng, rows: int = 30, padding: float = np.nan):
    """Inputs, a label for each row, a label at each time, lengths and the mask that says the same."""
    X, lengths = rng.standard_normal((rows, TIME, 4)), rng.integers(1, TIME + 1, rows)
    labels, steps = rng.integers(0, 3, rows), rng.integers(0, 3, (rows, TIME))
    mask = np.arange(TIME) < lengths[:, None]
    X[~mask], steps[~mask] = padding, -100
    return X, labels, steps, lengths, mask


def run(model: nbbp.Model, X, y, **where) -> list:
    """The numbers that everything which takes a mask gives."""
    weights = np.linspace(0.5, 2, len(X))
    given = (X, y, None, where.get("mask"), where.get("lengths"))
    history = model.fit(X, y, 2, 8, validation_data=given, sample_weight=weights, verbose=0, **where)
    step = model.step(len(X))
    found = [history.step_loss, history["val_loss"], step.forward(X, **where).copy()]
    found += [model.predict(X, **where), list(model.evaluate(X, y, weights, **where).values())]
    found += [model.gradients(X, y, **where)["dense_0.w"].copy(), model.input_gradients(X, y, **where)]
    found += [model.jacobian(X[:2], **{name: given[:2] for name, given in where.items()})]
    return [*found, [model.train_on_batch(X, y, **where)], model.params.copy()]


def assert_same_bytes(left: list, right: list):
    for a, b in zip(left, right, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("backend", ["numba", "numpy"])
@pytest.mark.parametrize("make", [reader, tagger])
def test_lengths_say_what_a_mask_says(make, backend, rng):
    X, labels, steps, lengths, mask = padded(rng)
    y = labels if make is reader else steps
    by_mask = run(make(backend=backend), X, y, mask=mask)
    assert all(np.isfinite(values).all() for values in by_mask)
    for given in (lengths, lengths.tolist(), lengths.astype(float), lengths.astype("uint8")):
        assert_same_bytes(run(make(backend=backend), X, y, lengths=given), by_mask)


def test_full_lengths_change_no_bit(rng):
    X, labels, _, _, _ = padded(rng)
    X = np.nan_to_num(X)
    assert_same_bytes(run(reader(), X, labels, lengths=np.full(30, TIME)), run(reader(), X, labels))


def test_padding_changes_no_bit(rng):
    X, labels, _, lengths, _ = padded(rng)
    longer = np.full((30, 11, 4), np.inf)
    longer[:, :TIME] = X
    short, long = (run(reader(a.shape[1]), a, labels, lengths=lengths) for a in (X, longer))
    for k in (0, 1, 2, 3, 4, 8):  # losses and predictions
        np.testing.assert_array_equal(short[k], long[k])
    np.testing.assert_array_equal(short[6], long[6][:, :TIME])
    assert not long[6][:, TIME:].any()
    one = reader()
    row = one.predict(X[3:4], lengths=lengths[3:4])
    np.testing.assert_array_equal(row, one.predict(X, lengths=lengths)[3:4])
    np.testing.assert_array_equal(row, one.predict(np.nan_to_num(X), lengths=lengths)[3:4])


def test_each_input_has_its_lengths(rng):
    X, labels, _, lengths, mask = padded(rng)
    a, b = nbbp.Input((TIME, 4)), nbbp.Input(2)
    pool = nbbp.GlobalMaxPool()(nbbp.Dense(5, "tanh")(a))
    model = nbbp.Model([a, b], nbbp.Dense(3)(nbbp.Concatenate()(pool, b)), "softmax_cross_entropy")
    both = [X, rng.standard_normal((30, 2))]
    expected = model.predict(both, mask=[mask, None])
    np.testing.assert_array_equal(model.predict(both, lengths=[lengths, None]), expected)
    assert np.isfinite(model.fit(both, labels, lengths=[lengths, None], verbose=0)["loss"]).all()
    with pytest.raises(ValueError, match=r"lengths\['input_1'\]: a sample without positions has no length"):
        model.predict(both, lengths=[lengths, lengths])
    with pytest.raises(ValueError, match=r"X\['input_0'\] has a mask and lengths"):
        model.predict(both, mask=[mask, None], lengths=[lengths, None])
    other = nbbp.Input((TIME, 4))
    two = nbbp.Model({"p": a, "q": other}, nbbp.Add()(nbbp.Dense(3)(a), nbbp.Dense(3)(other)))
    whole = np.nan_to_num(X)
    got = two.predict({"p": X, "q": whole}, mask={"p": mask, "q": None}, lengths={"p": None, "q": lengths})
    np.testing.assert_array_equal(got, two.predict({"p": X, "q": whole}, mask={"p": mask, "q": mask}))


def test_padding_holds_any_token(rng):
    x = nbbp.Input(TIME, dtype="int32")
    model = nbbp.Model(x, nbbp.Dense(3)(ToyTokens(9, 4)(x)), "softmax_cross_entropy", dtype="float64")
    _, _, steps, lengths, mask = padded(rng)
    X = rng.integers(0, 9, (30, TIME))
    for padding in (-1, 2**31 - 1, 2**40):
        X[~mask] = padding
        assert np.isfinite(model.fit(X, steps, lengths=lengths, verbose=0).step_loss).all()
        np.testing.assert_array_equal(model.predict(X, lengths=lengths), model.predict(X, mask=mask))
    assert max(nbbp.check_gradients(model, X, steps, lengths=lengths).values()) < 1e-6


def test_the_first_axis_of_several_has_lengths(rng):
    X, lengths = rng.standard_normal((5, 3, 2, 4)), np.array([1, 3, 2, 3, 1])
    mask = np.repeat(np.arange(3) < lengths[:, None], 2, axis=1).reshape(5, 3, 2)
    model = nbbp.Sequential([nbbp.Dense(3), nbbp.GlobalMaxPool()])
    expected = model.predict(X, mask=mask)
    np.testing.assert_array_equal(model.predict(X, lengths=lengths), expected)


def test_a_new_model_takes_padding_of_nan(rng):
    X, labels, _, lengths, _ = padded(rng)
    model = nbbp.Sequential([nbbp.Dense(3), nbbp.GlobalAveragePool()], loss="softmax_cross_entropy")
    assert np.isfinite(model.fit(X.tolist(), labels, lengths=lengths, verbose=0)["loss"]).all()


def test_few_rows(rng):
    X, labels, _, lengths, mask = padded(rng)
    model = reader()
    assert model.predict(X[:0], lengths=lengths[:0]).shape == (0, 3)
    np.testing.assert_array_equal(model.predict(X[:1], lengths=lengths[:1]), model.predict(X[:1], mask=mask[:1]))
    assert np.isfinite(model.fit(X[:1], labels[:1], lengths=lengths[:1], verbose=0)["loss"]).all()


def test_lengths_that_cannot_be(rng):
    X, labels, _, lengths, mask = padded(rng)
    model = reader()
    words = "lengths must be whole numbers from 1 to 6, got {} in row 7"
    for value in (0, -1, 7, 2.5, np.nan, np.inf):
        wrong = lengths.astype(float if isinstance(value, float) else int)
        wrong[7] = value
        for act in (
            lambda: model.fit(X, labels, lengths=wrong),  # noqa: B023
            lambda: model.predict(X, lengths=wrong),  # noqa: B023
            lambda: model.step(30).forward(X, lengths=wrong),  # noqa: B023
        ):
            with pytest.raises(ValueError, match=words.format(value)):
                act()
    for wrong, shape in ((lengths[:9], r"\(9,\)"), (mask, r"\(30, 6\)"), (lengths[:, None], r"\(30, 1\)")):
        with pytest.raises(ValueError, match=f"lengths must be a whole number for each of 30 rows, got shape {shape}"):
            model.predict(X, lengths=wrong)
    with pytest.raises(TypeError, match="lengths must hold numbers"):
        model.predict(X, lengths=["long"] * 30)
    with pytest.raises(ValueError, match="X has a mask and lengths: give one of them"):
        model.fit(X, labels, mask=mask, lengths=lengths)
    with pytest.raises(ValueError, match="X must be finite, got nan in row"):
        model.predict(X, lengths=np.full(30, TIME))
    with pytest.raises(ValueError, match="from 1 to 6, got 7 in row 0"):
        model.fit(np.nan_to_num(X), labels, validation_data=(X, labels, None, None, [7] * 30), verbose=0)
    with pytest.raises(ValueError, match="a sample without positions has no length"):
        nbbp.Sequential([nbbp.Input(4), nbbp.Dense(2)]).predict(X[:, 0], lengths=lengths)
    with pytest.raises(TypeError, match="a stream has y and the weights itself"):
        model.fit(nbbp.streams.from_arrays(np.nan_to_num(X), labels), lengths=lengths, verbose=0)


def test_ensembles_and_lbfgs_take_lengths(rng):
    X, labels, _, lengths, mask = padded(rng)
    results = []
    for where in ({"mask": mask}, {"lengths": lengths}):
        ensemble = nbbp.Ensemble([reader(seed=0), reader(seed=1)])
        ensemble.fit(X, labels, folds=True, verbose=0, **where)
        model = reader(dtype="float64")
        nbbp.fit_lbfgs(model, X, labels, 5, verbose=0, **where)
        found = [each(X, **where) for each in (ensemble.predict, ensemble.spread, ensemble.vote, ensemble.out_of_fold)]
        results.append([*found, list(ensemble.evaluate(X, labels, **where).values()), model.params])
    assert_same_bytes(*results)


@pytest.mark.parametrize("outputs", [1, 2])
def test_the_loss_of_an_epoch_is_the_mean_over_what_is_there(outputs, rng):
    """With a learning rate of 0 it is the loss of `evaluate`, whatever the steps have of each row."""
    X, labels, steps, lengths, _ = padded(rng, 45)
    x = nbbp.Input((TIME, 4))
    h = nbbp.Dense(5, "tanh", l2=0.01)(x)
    ends = {"step": nbbp.Dense(3)(h), "row": nbbp.Dense(3)(nbbp.GlobalAveragePool()(h))}
    y = {"step": steps, "row": labels}
    settings = {"loss": "softmax_cross_entropy", "optimizer": nbbp.SGD(1e-30), "dtype": "float64"}
    if outputs == 1:
        ends, y = ends["step"], steps
    else:
        settings["loss_weights"] = {"step": 0.3, "row": 2.0}
    model = nbbp.Model(x, ends, **settings)
    history = model.fit(X, y, 2, 8, lengths=lengths, validation_data=(X, y, None, None, lengths), verbose=0)
    for name, value in model.evaluate(X, y, lengths=lengths).items():
        np.testing.assert_allclose(history[name], value, rtol=1e-12)
        np.testing.assert_allclose(history[f"val_{name}"], value, rtol=1e-12)
    if outputs == 1:
        rows, targets = (nbbp.Ragged([a[:n] for a, n in zip(b, lengths, strict=True)]) for b in (X, y))
        stream = nbbp.streams.from_arrays(rows, targets, buffer_rows=16)
        np.testing.assert_allclose(model.fit(stream, epochs=2, batch_size=8, verbose=0)["loss"], value, rtol=1e-12)


def orders(model: nbbp.Model, data, epochs: int, **settings) -> np.ndarray:
    """The order of the rows in each epoch."""
    trainer = model.built.trainer(data, 8, **settings)
    found = []
    for epoch in range(epochs):
        trainer.begin(1, epoch)
        found.append(trainer.order[: data.rows].copy())
    return np.array(found)


def test_mini_batches_of_similar_lengths(rng):
    X, labels, _, lengths, _ = padded(rng, 1003)
    model = reader()
    data = model.prepare(X, labels, lengths=lengths)
    plain, grouped = (orders(model, data, 3, shuffle=shuffle) for shuffle in (True, BY_LENGTH))
    assert (np.sort(grouped, axis=1) == np.arange(1003)).all()
    assert len({order.tobytes() for order in grouped}) == 3
    assert not np.array_equal(grouped, plain)

    def spread(order):
        batches = lengths[order[:1000]].reshape(-1, 8)
        return np.ptp(batches, axis=1).mean(), batches.mean(axis=1)

    for one, other in zip(grouped, plain, strict=True):
        (near, means), (far, _) = spread(one), spread(other)
        assert near < 0.3 < 3 < far
        assert np.abs(np.corrcoef(np.arange(125), means)[0, 1]) < 0.3, "mini-batches are in no order of length"
    np.testing.assert_array_equal(grouped, orders(reader(), data, 3, shuffle=BY_LENGTH))


def test_a_fit_by_length_is_resumed(rng, tmp_path):
    X, labels, _, lengths, _ = padded(rng, 100)
    settings = {"batch_size": 8, "lengths": lengths, "group_by_length": True, "verbose": 0}
    whole = reader()
    history = whole.fit(X, labels, 4, **settings)
    assert not np.array_equal(history.step_loss, reader().fit(X, labels, 4, 8, lengths=lengths, verbose=0).step_loss)
    save = nbbp.Checkpoint(tmp_path, every=7)
    stop = nbbp.callbacks.Call(lambda fit: fit.stop("enough") if fit.model.steps == 21 else None, every=7)
    reader().fit(X, labels, 4, callbacks=[save, stop], **settings)
    with pytest.raises(ValueError, match="shuffle"):
        reader().fit(X, labels, 4, 8, lengths=lengths, callbacks=[save, stop], resume=tmp_path, verbose=0)
    model = reader()
    model.fit(
        X, labels, 4, callbacks=[save, nbbp.callbacks.Call(lambda fit: None, every=7)], resume=tmp_path, **settings
    )
    np.testing.assert_array_equal(model.params, whole.params)
    ensemble = nbbp.Ensemble([reader()])
    ensemble.fit(X, labels, 4, **settings)
    np.testing.assert_array_equal(ensemble.members[0].params, whole.params)


def test_grouping_needs_lengths(rng):
    X, labels, _, lengths, _ = padded(rng)
    with pytest.raises(ValueError, match="group_by_length needs the lengths of rows"):
        reader().fit(np.nan_to_num(X), labels, group_by_length=True, verbose=0)
    with pytest.raises(ValueError, match="shuffle=False leaves them as they are"):
        reader().fit(X, labels, lengths=lengths, group_by_length=True, shuffle=False, verbose=0)
    with pytest.raises(TypeError, match="group_by_length must be True or False"):
        reader().fit(X, labels, lengths=lengths, group_by_length="yes", verbose=0)


def test_weights_of_padding_may_be_anything(rng):
    X, _, steps, lengths, mask = padded(rng)
    weights = rng.uniform(0.5, 2, (30, TIME))
    results = []
    for given in (weights, np.where(mask, weights, np.nan)):
        model = tagger(metrics=["accuracy"])
        history = model.fit(X, steps, 2, 8, lengths=lengths, sample_weight=given, verbose=0)
        values = model.evaluate(X, steps, given, lengths=lengths)
        results.append([history.step_loss, *(history[name] for name in history.epochs), list(values.values())])
    assert_same_bytes(*results)
    weights[3, 0] = np.nan
    with pytest.raises(ValueError, match="weights must be finite"):
        tagger().fit(X, steps, lengths=lengths, sample_weight=weights, verbose=0)
    with pytest.raises(ValueError, match="weights must not be zero for all rows"):
        tagger().fit(X, steps, lengths=lengths, sample_weight=np.where(mask, 0, 1), verbose=0)


def test_students_learn_from_rows_of_different_lengths(rng):
    X, labels, _, lengths, _ = padded(rng)
    rows = nbbp.Ragged([row[:n] for row, n in zip(X, lengths, strict=True)])
    results = []
    for given, where in ((X, {"lengths": lengths}), (rows, {})):
        teacher, student = reader(), reader(seed=1)
        held_out = (given, labels, None, None, where.get("lengths"))
        history = nbbp.distill(student, teacher, given, labels, validation_data=held_out, verbose=0, **where)
        results.append([history.step_loss, history["val_loss"], student.params])
    assert_same_bytes(*results)
