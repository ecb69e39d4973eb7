"""Tables of pandas, polars and pyarrow: names of columns, numbers from text, and errors that name the cell."""

import json
import math
import pickle

import numpy as np
import pytest

import nbbp
from nbbp.tables import CellError, ClassTarget, TableEncoder, ValueTarget, target_from_dict

pytest.importorskip("narwhals")
pd = pytest.importorskip("pandas")
pl = pytest.importorskip("polars")
pa = pytest.importorskip("pyarrow")

LIBRARIES = {
    "pandas": pd.DataFrame,
    "pandas with nullable columns": lambda columns: pd.DataFrame(columns).convert_dtypes(),
    "pandas over pyarrow": lambda columns: pd.DataFrame(columns).convert_dtypes(dtype_backend="pyarrow"),
    "polars": lambda columns: pl.DataFrame(columns, strict=False),
    "pyarrow": pa.table,
}
COLUMNS = {"mass": [3.5, 1.0, 2.0, 8.0], "rings": [1, 0, 1, 0], "adult": [True, False, True, True]}
LABELS = [0, 1, 1, 0]


@pytest.fixture(params=LIBRARIES)
def table(request):
    return LIBRARIES[request.param]


def model() -> nbbp.Sequential:
    return nbbp.Sequential([nbbp.Dense(2)], loss="softmax_cross_entropy")


def fitted(X) -> nbbp.Sequential:
    made = model()
    made.fit(X, LABELS, verbose=0)
    return made


def test_a_table_is_its_array_with_names(table):
    X = np.array(list(COLUMNS.values()), float).T
    by_array, by_table = fitted(X), model()
    by_table.fit(table(COLUMNS), table({"y": LABELS}), validation_data=(table(COLUMNS), LABELS), verbose=0)
    assert by_table.predict(table(COLUMNS)).tobytes() == by_array.predict(X).tobytes()
    assert by_table.predict(X).tobytes() == by_array.predict(X).tobytes()
    assert by_array.predict(table(COLUMNS)).tobytes() == by_array.predict(X).tobytes()
    assert by_table.evaluate(table(COLUMNS), LABELS) == by_array.evaluate(X, LABELS)
    np.testing.assert_array_equal(
        by_table.gradients(table(COLUMNS), LABELS)["dense_0.w"], by_array.gradients(X, LABELS)["dense_0.w"]
    )
    assert by_table.feature_names == ("mass", "rings", "adult")
    assert by_array.feature_names is None


def test_names_are_kept_in_copies():
    made = fitted(pd.DataFrame(COLUMNS))
    for copy in (pickle.loads(pickle.dumps(made)), made.with_backend("numpy")):
        assert copy.feature_names == ("mass", "rings", "adult")
        with pytest.raises(ValueError, match="X lacks 'adult'"):
            copy.predict(pd.DataFrame(COLUMNS).drop(columns="adult"))


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        (["mass", "adult"], r"X lacks 'rings'; the model's columns are 'mass', 'rings', 'adult'$"),
        (["mass", "rings", "adult", "age"], r"X has 'age', which the model does not know"),
        (["mass", "ring", "adult"], r"X lacks 'rings' and has 'ring', which the model does not know"),
        (["rings", "mass", "adult"], r"in another order: column 0 is 'rings', not 'mass'; .* model.feature_names"),
    ],
)
def test_other_columns(table, columns, message):
    made, other = fitted(table(COLUMNS)), table({name: [1.0, 2.0] for name in columns})
    for call in (made.predict, lambda X: made.evaluate(X, [0, 1]), lambda X: made.fit(X, [0, 1], verbose=0)):
        with pytest.raises(ValueError, match=message):
            call(other)


@pytest.mark.parametrize(
    ("column", "values", "error", "message"),
    [
        (
            "mass",
            [1.0, None, 2.0, None],
            CellError,
            r"X, row 1, column 'mass': missing value, one of 2 in .*median",
        ),
        ("rings", [1, 2, 3, None], CellError, r"X, row 3, column 'rings': missing value, the only one"),
        ("mass", [None] * 4, CellError, r"X, row 0, column 'mass': missing value, one of 4 in"),
        ("mass", [1.0, 2.0, math.inf, 3.5], CellError, r"X, row 2, column 'mass': must be finite, got inf"),
        ("mass", [1.0, 1e300, 0.5, 3.0], CellError, r"X, row 1, column 'mass': 1e\+300 is too large for float32"),
        ("rings", ["one", "two", "one", "two"], TypeError, r"column 'rings' holds text, such as 'one'.*TableEncoder"),
    ],
)
def test_cells_without_a_number(table, column, values, error, message):
    with pytest.raises(error, match=message):
        fitted(table(COLUMNS | {column: values}))
    if math.inf in values:
        with pytest.raises(error, match=message.replace("X", "y", 1)):
            model().fit([[1.0]] * 4, table({column: values}), verbose=0)


def test_what_is_no_table_of_numbers():
    with pytest.raises(TypeError, match=r"got polars LazyFrame; collect\(\)"):
        fitted(pl.LazyFrame(COLUMNS))
    with pytest.raises(ValueError, match=r"X must have columns with names of their own: .*'a' 2 times"):
        fitted(pd.DataFrame([[1, 2]] * 4, columns=["a", "a"]))
    with pytest.raises(TypeError, match=r"column 'when' holds Datetime"):
        fitted(pd.DataFrame({"when": pd.to_datetime(["2020-01-01"] * 4)}))
    with pytest.raises(TypeError, match=r"column 'mixed' holds values of several kinds"):
        fitted(pd.DataFrame({"mixed": [1, "x", 2, 3]}))


def test_without_narwhals(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "narwhals", None)
    with pytest.raises(ImportError, match=r'pip install "nbbp\[data\]"'):
        fitted(pd.DataFrame(COLUMNS))


MIXED = {
    "mass": [1.0, 2.0, 3.0, 6.0],
    "island": ["Dream", "Biscoe", "Dream", "Dream"],
    "adult": [True, False, True, False],
}


def test_encoder(table):
    encoder = TableEncoder.fit(table(MIXED))
    X = encoder.encode(table(MIXED))
    assert encoder.features == ["mass", "island=Biscoe", "island=Dream", "adult"]
    np.testing.assert_allclose(X[:, 0], (np.array(MIXED["mass"]) - 3) / math.sqrt(3.5), rtol=1e-15)
    np.testing.assert_array_equal(X[:, 1:], [[0, 1, 1], [1, 0, -1], [0, 1, 1], [0, 1, -1]])
    assert encoder.layers() == []
    same = TableEncoder.from_dict(json.loads(json.dumps(encoder.to_dict())))
    assert same == encoder
    other = table({"x": [0], "adult": [True], "island": ["Torgersen"], "mass": [3.0]})
    np.testing.assert_array_equal(same.encode(other), [[0, 0, 0, 1]])
    assert same.unknown(other) == {"island": ["Torgersen"]}
    assert same.unknown(table(MIXED)) == {}


def test_many_categories_become_codes_of_an_embedding(table, rng):
    towns = [f"town {k}" for k in rng.integers(0, 12, 200)]
    columns = {"size": rng.standard_normal(200).tolist(), "town": towns}
    encoder = TableEncoder.fit(table(columns))
    (embedding,) = encoder.layers()
    assert embedding == nbbp.ColumnEmbedding({1: 13}, 3)
    X = encoder.encode(table(columns))
    assert X[:, 1].tolist() == [sorted(set(towns)).index(town) + 1 for town in towns]
    assert encoder.encode(table({"size": [0.0], "town": ["elsewhere"]}))[0, 1] == 0
    assert TableEncoder.from_dict(encoder.to_dict()) == encoder
    y = np.array([sum(map(ord, town)) % 2 for town in towns])  # only the town tells
    made = nbbp.Sequential([embedding, nbbp.Dense(2)], "softmax_cross_entropy", nbbp.Adam(0.05), metrics=["accuracy"])
    assert made.fit(X, y, epochs=30, verbose=0)["accuracy"][-1] == 1


def test_numbers_may_be_categories(table):
    columns = {"zip": [1010, 8010, 1010, 8010]}
    encoder = TableEncoder.fit(table(columns), categorical=["zip"])
    assert encoder.features == ["zip=1010", "zip=8010"]
    np.testing.assert_array_equal(encoder.encode(table(columns)), np.eye(2)[[0, 1, 0, 1]])
    with pytest.raises(ValueError, match="categorical: table has no column 'town'"):
        TableEncoder.fit(table(columns), categorical=["town"])


def test_encoder_errors(table):
    encoder = TableEncoder.fit(table(MIXED))
    with pytest.raises(ValueError, match="table has no column 'island'; its columns are 'mass', 'adult'"):
        encoder.encode(table({"mass": [1.0], "adult": [True]}))
    with pytest.raises(CellError, match=r"new, row 1, column 'island': missing value, .* 'unknown'") as caught:
        encoder.encode(table(MIXED | {"island": ["Dream", None, "Dream", "Biscoe"]}), name="new")
    error = pickle.loads(pickle.dumps(caught.value))  # as from a worker process
    assert (error.column, error.row, str(error)) == ("island", 1, str(caught.value))
    with pytest.raises(TypeError, match="column 'mass' held numbers when the encoder was fitted, now text"):
        encoder.encode(table(MIXED | {"mass": ["a", "b", "c", "d"]}))
    with pytest.raises(ValueError, match="column 'name' has 30 different texts in 30 rows"):
        TableEncoder.fit(table({"name": [f"name {k}" for k in range(30)]}))
    with pytest.raises(ValueError, match="table has no rows"):
        TableEncoder.fit(table({"mass": []}))


def test_a_constant_column_is_zero(table):
    constant = table({"mass": [3.0, 3.0]})
    np.testing.assert_array_equal(TableEncoder.fit(constant).encode(constant), [[0], [0]])


@pytest.mark.parametrize(
    "labels", [["b", "a", "c", "a"], [10, 9, 10, -1], [True, False, True, True], [2.0, 3.5, 2.0, 5]]
)
@pytest.mark.parametrize("form", [list, np.array, pd.Series, pl.Series, lambda y: pa.chunked_array([y])])
def test_classes(labels, form):
    if len({type(label) for label in labels}) > 1:
        labels = [float(label) for label in labels]
    target = ClassTarget.fit(form(labels))
    assert list(target.classes) == sorted(set(labels))
    assert target.decode(target.encode(form(labels))) == labels
    again = target_from_dict(json.loads(json.dumps(target.to_dict())))
    assert again.decode(again.encode(labels)) == labels


def test_values_are_standardised_and_put_back(rng):
    y = rng.standard_normal(50) * 7 + 100
    target = ValueTarget.fit(pl.Series("price", y))
    encoded = target.encode(pd.Series(y))
    assert encoded.mean() == pytest.approx(0, abs=1e-12)
    assert encoded.std() == pytest.approx(1)
    np.testing.assert_allclose(target_from_dict(target.to_dict()).decode(encoded), y)


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: ClassTarget.fit(["a", None, "b"]), CellError, "y, row 1, column 'y': missing value"),
        (lambda: ClassTarget.fit(pd.Series([1.0, np.nan])), CellError, "row 1, column 'y': missing value"),
        (lambda: ClassTarget.fit(["a", "a"]), ValueError, "two classes or more, got 'a'"),
        (lambda: ClassTarget.fit([1, "a"]), TypeError, "labels of one kind"),
        (
            lambda: ClassTarget(("a", "b")).encode(["a", "z"]),
            CellError,
            "row 1, column 'y': 'z' is none of the classes",
        ),
        (lambda: ValueTarget.fit([1.0, np.nan]), CellError, "row 1, column 'y': must be a finite number"),
        (lambda: ValueTarget.fit([2.0, 2.0]), ValueError, "two different values or more, got .2.0."),
        (lambda: ValueTarget.fit(["a", "b"]), TypeError, "y must hold numbers"),
        (lambda: ValueTarget.fit([[1.0], [2.0]]), ValueError, r"one value a row, got the shape \(2, 1\)"),
    ],
)
def test_bad_targets(make, error, message):
    with pytest.raises(error, match=message):
        make()


def test_a_constant_whose_mean_is_rounded_is_constant(table):
    constant = table({"a": [0.1] * 1000})
    encoder = TableEncoder.fit(constant)
    assert not encoder.encode(constant).any()
    assert encoder.encode(table({"a": [0.2]}))[0, 0] == pytest.approx(0.1)
    with pytest.raises(ValueError, match="two different values"):
        ValueTarget.fit([0.1] * 1000)


def test_categories_of_whole_numbers_are_the_same_as_integers_and_as_floats(table):
    encoder = TableEncoder.fit(table({"zone": [1.0, 2.0, 1.0, 2.0]}), categorical=["zone"])
    assert encoder.features == ["zone=1", "zone=2"]
    assert encoder.encode(table({"zone": [2, 1]})).tolist() == [[0, 1], [1, 0]]


def test_a_table_of_no_rows_has_no_predictions(table):
    columns = COLUMNS | {"island": ["a", "b", "a", "b"]}
    encoder = TableEncoder.fit(table(columns))
    made = fitted(table(COLUMNS))
    assert made.predict(table(COLUMNS)[:0]).shape == (0, 2)
    made = fitted(encoder.encode(table(columns)))
    assert made.predict(encoder.encode(table(columns)[:0])).shape == (0, 2)
