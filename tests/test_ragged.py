"""Rows of different lengths that are kept without padding."""

import pickle
import tracemalloc

import numpy as np
import pytest
from test_lengths import TIME, assert_same_bytes, padded, reader, run, tagger
from toys import ToyTokens

import nbbp


def ragged(X, lengths) -> nbbp.Ragged:
    return nbbp.Ragged([row[:length] for row, length in zip(X, lengths, strict=True)])


def test_rows_and_their_parts(rng):
    X, _, _, lengths, mask = padded(rng, padding=0.0)
    rows = ragged(X, lengths)
    assert len(rows) == 30
    assert rows.shape == (30, lengths.max(), 4)
    assert rows.dtype == np.float64
    np.testing.assert_array_equal(rows.lengths, lengths)
    np.testing.assert_array_equal(rows.values, X[mask])
    np.testing.assert_array_equal(rows.padded(TIME), X)
    np.testing.assert_array_equal(nbbp.Ragged(rows).padded(TIME), X)
    np.testing.assert_array_equal(nbbp.Ragged.from_flat(rows.values, rows.offsets).padded(TIME), X)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(rows)).padded(TIME), X)
    for k in (0, 29, -1, -30, np.int64(3)):
        np.testing.assert_array_equal(rows[k], X[k, : lengths[k]])
    for k in (30, -31):
        with pytest.raises(IndexError):
            rows[k]
    for part in (
        slice(3, 9), slice(None), slice(5, 5), slice(20, 3, -2), slice(None, None, 3), [4, 4, -1], np.array([7]),
        np.arange(30) % 3 == 0, np.zeros(0, int),
    ):  # fmt: skip
        some = rows[part]
        assert isinstance(some, nbbp.Ragged)
        np.testing.assert_array_equal(some.padded(TIME), X[part])
    assert np.shares_memory(rows[3:9].values, rows.values), "a view, as of an array"
    assert repr(rows) == f"<Ragged of 30 rows, 1 to {TIME} long, of float64 (4,)>"
    assert repr(nbbp.Ragged([[1, 2], [3]])) == "<Ragged of 2 rows, 1 to 2 long, of int64>"
    assert [len(row) for row in rows] == lengths.tolist()


def test_a_part_costs_what_it_holds():
    rows = nbbp.Ragged.from_flat(np.zeros(10**6), np.arange(10**6 + 1))
    tracemalloc.start()
    part = rows[500_000:500_010]
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(part) == 10
    assert most < 10_000


def test_a_mask_is_written_out_once(rng):
    X, _, _, lengths, mask = padded(rng)
    data = tagger().prepare(ragged(X, lengths))
    np.testing.assert_array_equal(data.elements_there(0).reshape(30, -1), mask)
    assert data.elements_there(0) is data.elements_there(0)


def test_rows_that_cannot_be(rng):
    for act, error, words in (
        (lambda: nbbp.Ragged([]), ValueError, "Ragged has no rows"),
        (lambda: nbbp.Ragged([[1, 2], [], [3]]), ValueError, "row 1 of Ragged has length 0: leave out rows"),
        (lambda: nbbp.Ragged([[1, 2], 3]), ValueError, "row 1 of Ragged must have a row for each sample"),
        (lambda: nbbp.Ragged(["ab", "c"]), TypeError, "row 0 of Ragged must hold numbers"),
        (
            lambda: nbbp.Ragged([np.ones((2, 3)), np.ones((2, 4))]), ValueError,
            r"row 1 of Ragged has shape \(2, 4\) and row 0 \(2, 3\)",
        ),
        (lambda: nbbp.Ragged([np.ones(2), np.ones((2, 4))]), ValueError, "they may differ in length only"),
        (lambda: nbbp.Ragged.from_flat([1, 2], [0, 1]), ValueError, "from 0 to the 2 values, got 0 to 1"),
        (lambda: nbbp.Ragged.from_flat([1, 2], [1, 2]), ValueError, "got 1 to 2"),
        (lambda: nbbp.Ragged.from_flat([1, 2], [0, 2, 1, 2]), ValueError, "row 1 of Ragged has length -1"),
        (lambda: nbbp.Ragged.from_flat([1, 2], [0, 2.0]), TypeError, "offsets must be integers"),
        (lambda: nbbp.Ragged([[1, 2]]).padded(1), ValueError, "length must be 2 or more, got 1"),
        (lambda: np.asarray(nbbp.Ragged([[1, 2]])), TypeError, r"padded\(\) makes one"),
    ):  # fmt: skip
        with pytest.raises(error, match=words):
            act()


@pytest.mark.parametrize("backend", ["numba", "numpy"])
def test_a_ragged_gives_the_bits_of_an_array_with_lengths(backend, rng):
    X, labels, _, lengths, mask = padded(rng)
    X[0, 0, 0] = 1e-40  # denormal in float32
    expected = run(reader(backend=backend), X, labels, lengths=lengths)
    model = reader(backend=backend)
    rows, weights = ragged(X, lengths), np.linspace(0.5, 2, 30)
    history = model.fit(rows, labels, 2, 8, validation_data=(rows, labels), sample_weight=weights, verbose=0)
    got = [history.step_loss, history["val_loss"], model.step(30).forward(rows).copy()]
    got += [model.predict(rows), list(model.evaluate(rows, labels, weights).values())]
    got += [model.gradients(rows, labels)["dense_0.w"].copy()]
    slopes = model.input_gradients(rows, labels)
    assert isinstance(slopes, nbbp.Ragged)
    np.testing.assert_array_equal(slopes.values, expected[6][mask])
    got += [slopes.padded(TIME), model.jacobian(rows[:2])]
    assert_same_bytes([*got, [model.train_on_batch(rows, labels)], model.params.copy()], expected)
    assert max(nbbp.check_gradients(model, rows, labels).values()) < 1e-6


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_targets_and_predictions_at_each_position(dtype, rng):
    X, _, steps, lengths, mask = padded(rng)
    weights = rng.uniform(0.5, 2, (30, TIME))
    by_lengths, model = (tagger(metrics=["accuracy"], dtype=dtype) for _ in range(2))
    given = {"epochs": 2, "batch_size": 8, "verbose": 0}
    history = by_lengths.fit(
        X, steps, sample_weight=weights, validation_data=(X, steps, weights, None, lengths), lengths=lengths, **given
    )
    rows, y, w = (ragged(a, lengths) for a in (X, steps, weights))
    again = model.fit(rows, y, sample_weight=w, validation_data=(rows, y, w), **given)
    assert history.epochs == again.epochs
    np.testing.assert_array_equal(model.params, by_lengths.params)
    p = model.predict(rows)
    assert isinstance(p, nbbp.Ragged)
    np.testing.assert_array_equal(p.offsets, rows.offsets)
    np.testing.assert_array_equal(p.values, model.predict(X, lengths=lengths)[mask])
    assert model.evaluate(rows, y, w) == by_lengths.evaluate(X, steps, weights, lengths=lengths)
    assert model.evaluate(X, y, lengths=lengths) == model.evaluate(rows, y)
    one_hot = nbbp.Ragged([np.eye(3)[row] for row in y])
    assert model.evaluate(rows, one_hot)["loss"] == pytest.approx(model.evaluate(rows, y)["loss"], rel=1e-6)
    row = np.argmax(lengths != lengths[::-1])
    for wrong, words in (
        (y[:9], "X has 30 rows and y has 9"),
        (y[::-1], rf"y has {lengths[29 - row]} positions in row {row}, where X has {lengths[row]}"),
    ):
        with pytest.raises(ValueError, match=words):
            model.evaluate(rows, wrong)
    with pytest.raises(ValueError, match="y is Ragged, and the output has no positions of an X that is Ragged"):
        model.evaluate(np.nan_to_num(X), y)
    with pytest.raises(ValueError, match="y is Ragged, and the output has no positions"):
        reader().evaluate(rows, y)
    with pytest.raises(ValueError, match="y is Ragged, and the output has no positions of an X that is Ragged"):
        model.evaluate(np.nan_to_num(X), y, mask=mask[:, ::-1])  # places that a mask leaves are not the first ones


def test_tokens(rng):
    x = nbbp.Input(TIME, dtype="int32")
    settings = {"loss": "softmax_cross_entropy", "dtype": "float64"}
    model, other = (nbbp.Model(x, nbbp.Dense(3)(ToyTokens(9, 4)(x)), **settings) for _ in range(2))
    _, _, steps, lengths, mask = padded(rng)
    X = rng.integers(0, 9, (30, TIME))
    for dtype in (np.int64, np.int32, np.uint8, np.float64):
        rows = ragged(X.astype(dtype), lengths)
        history = model.fit(rows, ragged(steps, lengths), 2, 8, verbose=0)
        expected = other.fit(X, steps, 2, 8, lengths=lengths, verbose=0)
        np.testing.assert_array_equal(history.step_loss, expected.step_loss)
    np.testing.assert_array_equal(model.predict(rows).values, model.predict(X, lengths=lengths)[mask])
    assert model.input_gradients(rows, ragged(steps, lengths)) is None


def test_one_of_several_inputs(rng):
    X, labels, _, lengths, _ = padded(rng)
    a, b = nbbp.Input((TIME, 4)), nbbp.Input(2)
    pool = nbbp.GlobalMaxPool()(nbbp.Dense(5, "tanh")(a))
    for names in (("a", "b"), ("b", "a")):
        entries = {name: {"a": a, "b": b}[name] for name in names}
        model, other = (
            nbbp.Model(entries, nbbp.Dense(3)(nbbp.Concatenate()(pool, b)), "softmax_cross_entropy") for _ in range(2)
        )
        both = {"a": X, "b": rng.standard_normal((30, 2))}
        rows = both | {"a": ragged(X, lengths)}
        where = {"lengths": {"a": lengths, "b": None}}
        losses = model.fit(rows, labels, 2, 8, verbose=0).step_loss
        np.testing.assert_array_equal(losses, other.fit(both, labels, 2, 8, verbose=0, **where).step_loss)
        np.testing.assert_array_equal(model.predict(rows), model.predict(both, **where))
        with pytest.raises(ValueError, match="the inputs of X have 29, 30 rows"):
            model.predict(rows | {"a": rows["a"][:29]})
    with pytest.raises(ValueError, match=r"X\['a'\] has lengths of its own"):
        model.predict(rows, **where)


def test_rows_in_bulk(rng):
    """More than a block of rows, in shards, of other lengths than those that the programs were bound to."""
    X, labels, _, lengths, _ = padded(rng, 2600)
    first, second = slice(0, 1300), slice(1300, 2600)
    model, other = reader(), reader()
    for part in (first, second):
        rows = ragged(X[part], lengths[part])
        history = model.fit(rows, labels[part], 2, 512, shuffle=False, verbose=0)
        expected = other.fit(X[part], labels[part], 2, 512, shuffle=False, lengths=lengths[part], verbose=0)
        np.testing.assert_array_equal(history.step_loss, expected.step_loss)
        np.testing.assert_array_equal(model.predict(rows), other.predict(X[part], lengths=lengths[part]))
        few = slice(part.start, part.start + 20)
        losses = [
            m.train_on_batch(a, labels[few], **w)
            for m, a, w in ((model, rows[:20], {}), (other, X[few], {"lengths": lengths[few]}))
        ]
        assert losses[0] == losses[1]


def test_the_data_are_not_padded(rng):
    rows = nbbp.Ragged.from_flat(rng.standard_normal((100_000, 16)).astype("float32"), np.r_[0, 1000:100_001:10])
    model = nbbp.Sequential([nbbp.Dense(2), nbbp.GlobalAveragePool()])
    assert len(rows) == 9901
    data = model.prepare(rows, np.zeros((9901, 2)))
    assert np.shares_memory(data.inputs[0].rows.values, rows.values)
    assert model.network.graph.inputs[0].shape == (1000, 16)
    tracemalloc.start()
    model.fit(rows, np.zeros((9901, 2)), batch_size=32, verbose=0)
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert most < 1.5 * rows.values.nbytes, "padded they have a hundred times as much, and their mask as much"


def test_longer_rows_and_wrong_values(rng):
    rows = nbbp.Ragged([rng.standard_normal((n, 4)) for n in (2, 5, 3)])
    y = np.zeros((3, 2))
    model = nbbp.Sequential([nbbp.Dense(2), nbbp.GlobalAveragePool()])
    model.fit(rows, y, verbose=0)
    longer = nbbp.Ragged([rng.standard_normal((n, 4)) for n in (2, 6, 3)])
    with pytest.raises(ValueError, match="X has 6 positions in row 1, and the model at most 5"):
        model.predict(longer)
    wider = nbbp.Ragged([rng.standard_normal((n, 5)) for n in (2, 5, 3)])
    with pytest.raises(ValueError, match=r"X: the model takes positions of shape \(4,\), got \(5,\)"):
        model.predict(wider)
    rows.values[4, 1] = np.nan
    with pytest.raises(ValueError, match=r"X must be finite, got nan in row 1, at \(2, 1\)"):
        model.predict(rows)
    assert model.predict(rows[:0]).shape == (0, 2)
    with pytest.raises(ValueError, match="X is empty"):
        model.fit(rows[:0], y[:0], verbose=0)
    lists = [rng.standard_normal((n, 4)).tolist() for n in (2, 5, 3)]
    of_lists, of_arrays = np.array([*lists, 0], object)[:3], np.array([*map(np.array, lists), 0], object)[:3]
    for different in (lists, list(of_arrays), of_lists, of_arrays):
        for one in (model, nbbp.Sequential([nbbp.Dense(2)])):
            with pytest.raises(ValueError, match=r"nbbp.Ragged\(X\) takes rows of different lengths"):
                one.fit(different, y, verbose=0)
        with pytest.raises(ValueError, match=r"nbbp.Ragged\(y\) takes rows of different lengths"):
            tagger().fit(np.zeros((3, TIME, 4)), different, verbose=0)
    for given in ({"lengths": [2, 5, 3]}, {"mask": np.ones((3, 5), bool)}):
        with pytest.raises(ValueError, match="X has lengths of its own: leave out mask and lengths"):
            model.fit(rows, y, verbose=0, **given)
    with pytest.raises(ValueError, match="X has a number at each position: begin the network"):
        nbbp.Sequential([nbbp.Dense(2)]).fit(nbbp.Ragged([[1, 2], [3]]), [1, 2])
    with pytest.raises(ValueError, match="lengths of X: a sample without positions has no length"):
        nbbp.Sequential([nbbp.Input(4), nbbp.Dense(2)]).predict(nbbp.Ragged([[1, 2], [3]]))
    codes = nbbp.Sequential([nbbp.Input((3, 1)), nbbp.ColumnEmbedding({0: 4}, 2)])
    with pytest.raises(ValueError, match=r"whole numbers from 0 to 3; got 77"):
        codes.predict(nbbp.Ragged([[[1], [2]], [[77]]]))


def test_a_fit_is_inspected(rng):
    X, labels, _, lengths, _ = padded(rng)
    make = lambda: nbbp.Sequential(  # noqa: E731
        [nbbp.Input((TIME, 4)), nbbp.Dense(5, "relu"), nbbp.GlobalMaxPool(), nbbp.Dense(3)], "softmax_cross_entropy"
    )
    found = [
        make().fit(given, labels, 3, 8, callbacks=[nbbp.Inspect(every=3)], verbose=0, **where).inspected
        for given, where in ((X, {"lengths": lengths}), (ragged(X, lengths), {}))
    ]
    assert found[0].state().keys() == found[1].state().keys()
    for name, values in found[0].state().items():
        np.testing.assert_array_equal(values, found[1].state()[name])
        assert np.isfinite(values).all()


def test_ensembles_and_lbfgs(rng):
    X, _, steps, lengths, mask = padded(rng)
    rows, y = ragged(X, lengths), ragged(steps, lengths)
    ensemble, other = (nbbp.Ensemble([tagger(seed=0), tagger(seed=1)]) for _ in range(2))
    ensemble.fit(rows, y, folds=True, verbose=0)
    other.fit(X, steps, folds=True, lengths=lengths, verbose=0)
    for each in ("predict", "spread", "vote", "out_of_fold"):
        got = getattr(ensemble, each)(rows)
        np.testing.assert_array_equal(got.values, getattr(other, each)(X, lengths=lengths)[mask])
    assert ensemble.evaluate(rows, y) == other.evaluate(X, steps, lengths=lengths)
    models = [tagger(dtype="float64") for _ in range(2)]
    nbbp.fit_lbfgs(models[0], rows, y, 5, verbose=0)
    nbbp.fit_lbfgs(models[1], X, steps, 5, lengths=lengths, verbose=0)
    np.testing.assert_array_equal(models[0].params, models[1].params)


def test_streams_take_ragged_parts(rng):
    X, _, steps, lengths, _ = padded(rng, 100)
    rows, y = ragged(X, lengths), ragged(steps, lengths)
    batches = [(rows[k : k + 9], y[k : k + 9]) for k in range(0, 100, 9)]
    make = lambda: nbbp.Sequential([nbbp.Input((TIME, 4)), nbbp.Dense(3)], loss="softmax_cross_entropy")  # noqa: E731
    losses = [
        make().fit(stream, epochs=2, batch_size=10, shuffle=False, validation_data=(rows, y), verbose=0).step_loss
        for stream in (nbbp.streams.from_arrays(rows, y, buffer_rows=40), nbbp.streams.from_batches(batches))
    ]
    np.testing.assert_array_equal(*losses)
    inner = make().fit(rows, y, epochs=2, batch_size=10, shuffle=False, verbose=0).step_loss
    np.testing.assert_array_equal(losses[0], inner)


def test_a_resumed_fit_knows_the_data(rng, tmp_path):
    X, labels, _, lengths, _ = padded(rng)
    rows = ragged(X, lengths)
    whole = reader()
    whole.fit(rows, labels, 4, 8, verbose=0)
    save = nbbp.Checkpoint(tmp_path, every=1)
    reader().fit(rows, labels, 2, 8, callbacks=[save], verbose=0)
    model = reader()
    with pytest.raises(ValueError, match="X was SHA-256"):
        model.fit(rows[::-1], labels, 4, 8, callbacks=[save], resume=tmp_path, verbose=0)
    model.fit(rows, labels, 4, 8, callbacks=[save], resume=tmp_path, verbose=0)
    np.testing.assert_array_equal(model.params, whole.params)


def test_estimators_say_that_they_take_arrays(rng):
    pytest.importorskip("sklearn")
    rows = nbbp.Ragged([[1.0, 2.0], [3.0]])
    with pytest.raises(TypeError, match="Ragged"):
        nbbp.sklearn.MLPClassifier().fit(rows, [0, 1])
