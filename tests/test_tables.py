"""Tables of pandas, polars and pyarrow: names of columns, numbers from text, and errors that name the cell."""

import datetime
import json
import math
import pickle

import numpy as np
import pytest

import nbbp
from nbbp.tables import CellError, ClassTarget, TableEncoder, ValueTarget, dates, target_from_dict
from nbbp.tables.steps import steps

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


def smooth(z):
    """x / sqrt(1 + (x / 3)^2)."""
    return z / np.sqrt(1 + (np.array(z) / 3) ** 2)


def test_encoder(table):
    encoder = TableEncoder.fit(table(MIXED), bins=0)
    X = encoder.encode(table(MIXED))
    assert encoder.features == ["mass", "island=Biscoe", "island=Dream", "adult"]
    np.testing.assert_allclose(X[:, 0], smooth((np.array(MIXED["mass"]) - 2.5) / (3.75 - 1.75)), rtol=1e-15)
    np.testing.assert_array_equal(X[:, 1:3], [[0, 1], [1, 0], [0, 1], [0, 1]])
    np.testing.assert_allclose(X[:, 3], smooth([0.5, -0.5, 0.5, -0.5]))
    assert encoder.layers() == []
    same = TableEncoder.from_dict(json.loads(json.dumps(encoder.to_dict())))
    assert same == encoder
    other = table({"x": [0], "adult": [True], "island": ["Torgersen"], "mass": [1e9]})
    np.testing.assert_allclose(same.encode(other), [[3, 0, 0, smooth(0.5)]], rtol=1e-12)
    assert same.unknown(other) == {"island": ["Torgersen"]}
    assert same.unknown(table(MIXED)) == {}


def test_scaling_of_columns_with_equal_quartiles(table):
    values = [0.0] * 9 + [4.0]
    X = TableEncoder.fit(table({"spiky": values}), bins=0).encode(table({"spiky": [*values[1:], None]}))
    np.testing.assert_allclose(X[:, 0], [0] * 8 + [smooth(2.0), 0])  # 2 / (max - min)


def test_shares_of_quantile_bins(table):
    encoder = TableEncoder.fit(table({"x": [float(x) for x in range(9)]}), bins=4)
    assert encoder.features == ["x", "x in bin 1", "x in bin 2", "x in bin 3", "x in bin 4"]
    X = encoder.encode(table({"x": [-100.0, 1.0, 4.5, 100.0]}))[:, 1:]
    np.testing.assert_allclose(X, [[0, 0, 0, 0], [0.5, 0, 0, 0], [1, 1, 0.25, 0], [1, 1, 1, 1]])
    assert TableEncoder.fit(table({"x": [0.0, 1.0] * 4}), bins=4).features == ["x"]  # a share would be the same again


def test_steps_where_a_target_changes(table):
    x = np.random.default_rng(0).permutation(200) / 2
    said = {"x": x, "noise": np.random.default_rng(1).normal(size=200)}
    classes, values = (x > 36).astype(int), np.where(x > 80, 5.0, 0.0) + np.where(x > 40, 2.0, 0.0)
    encoder = TableEncoder.fit(table(said), bins=0, target=classes)
    assert encoder.features == ["x", "x above 36.0", "noise"]
    assert encoder.columns[0].steps == ((36.0, 36.5),)
    X = encoder.encode(table({"x": [-5.0, 36.0, 36.125, 36.5, None], "noise": [0.0] * 5}))
    np.testing.assert_array_equal(X[:, 1], [0, 0, 0.25, 1, 1])  # a missing one is the median, 49.75
    assert encoder.columns[0].description.endswith("1 step where the target changes")
    assert TableEncoder.from_dict(json.loads(json.dumps(encoder.to_dict()))) == encoder
    of_values = TableEncoder.fit(table(said), bins=0, target=values)
    assert of_values.features == ["x", "x above 40.0", "x above 80.0", "noise"]
    assert TableEncoder.fit(table({"x": np.sign(x - 50.25)}), bins=0, target=classes).features == ["x"]


def test_targets_of_steps_are_checked():
    x = np.arange(6.0)[:, np.newaxis]
    for wrong, error, message in (
        ([0, 1], ValueError, r"each of the 6 rows of table, got \(2,\)"),
        (list("aabbcc"), TypeError, "must be encoded"),
        ([0, 1, 0, 1, 0, -1], ValueError, "integers from 0"),
        ([0, 1, 0, 1, 0, np.nan], ValueError, "finite"),
    ):
        with pytest.raises(error, match=message):
            TableEncoder.fit(x, target=wrong)


def test_steps_are_the_best_splits():
    x = np.repeat(np.arange(8.0), 50)
    y = np.repeat([0.0, 2.0, 2.0, 5.0, 5.0, 5.0, 1.0, 1.0], 50)
    assert steps(x, y, 2) == [(2.0, 3.0), (5.0, 6.0)]
    assert steps(x, y, 9) == [(0.0, 1.0), (2.0, 3.0), (5.0, 6.0)]
    labels = np.repeat([0, 1, 1, 2, 2, 2, 1, 1], 50)
    assert steps(np.append(x, [np.nan] * 3), np.append(labels, [0, 1, 2]), 9) == [(0.0, 1.0), (2.0, 3.0), (5.0, 6.0)]
    assert steps(np.full(9, 2.0), np.arange(9), 9) == steps(np.full(9, np.nan), np.arange(9.0), 9) == []
    rng = np.random.default_rng(0)
    found = [steps(rng.normal(size=500), target, 9) for target in (rng.integers(0, 2, 500), rng.integers(0, 10, 500))]
    assert max(map(len, found)) <= 1  # where there is nothing
    many = np.arange(100_000) / 7
    ((low, high),) = steps(many, (many > 3000.1).astype(int), 1)
    assert low < high
    assert abs(low - 3000.1) < 15  # one of about a thousand candidates


HOLES = {
    "mass": [1.0, None, 3.0, 6.0, 2.0],
    "island": ["Dream", None, "Dream", " ", "Biscoe"],
    "adult": [True, False, None, False, True],
}


def test_missing_values(table):
    encoder = TableEncoder.fit(table(HOLES), bins=0)
    assert encoder.features == [
        "mass", "mass is missing", "island=Biscoe", "island=Dream", "island is missing", "adult", "adult is missing",
    ]  # fmt: skip
    X = encoder.encode(table(HOLES))
    np.testing.assert_array_equal(X[:, 1], [0, 1, 0, 0, 0])
    np.testing.assert_allclose(X[[1, 4], 0], [0, smooth(-0.5 / (3.75 - 1.75))])  # the median is 2.5
    np.testing.assert_array_equal(X[:, 2:5], [[0, 1, 0], [0, 0, 1], [0, 1, 0], [0, 0, 1], [1, 0, 0]])
    np.testing.assert_array_equal(X[:, 6], [0, 0, 1, 0, 0])
    again = TableEncoder.from_dict(json.loads(json.dumps(encoder.to_dict())))
    np.testing.assert_array_equal(again.encode(table(HOLES)), X)
    whole = TableEncoder.fit(table(MIXED), bins=0)  # which has seen no missing value
    np.testing.assert_array_equal(whole.encode(table(HOLES))[1, :3], [0, 0, 0])
    assert whole.unknown(table(HOLES)) == {}


def test_dates(table):
    days = ["2020-01-31", "2021-02-01", None, "2021-03-05"]
    when = [None if day is None else datetime.datetime.fromisoformat(day + " 06:30") for day in days]
    encoder = TableEncoder.fit(table({"day": days, "when": when}), bins=0)
    assert encoder.features[:5] == ["day, year", "day, month", "day, day", "day, weekday", "day is missing"]
    assert encoder.features[5:] == [f.replace("day,", "when,", 1) for f in encoder.features[:4]] + ["when is missing"]
    X = encoder.encode(table({"day": days, "when": when}))
    np.testing.assert_array_equal(X[:, 5:], X[:, :5])  # the hour is always the same
    weekdays = encoder.columns[0].parts["weekday"]
    assert (weekdays.median, weekdays.scale) == (4, 1 / 2)  # Friday, Monday, Friday
    np.testing.assert_allclose(X[:, 3], smooth([0, -2, 0, 0]))
    again = TableEncoder.from_dict(json.loads(json.dumps(encoder.to_dict())))
    np.testing.assert_array_equal(again.encode(table({"day": days, "when": when})), X)
    with pytest.raises(CellError, match=r"new, row 1, column 'day': 'soon' is not a date such as 2020-01-31, as the"):
        encoder.encode(table({"day": ["2020-01-31", "soon"], "when": when[:2]}), name="new")


@pytest.mark.parametrize(
    ("texts", "year_month_day"),
    [
        (["31.12.2020", "1.2.2021"], [(2020, 12, 31), (2021, 2, 1)]),
        (["12/31/2020", "02/01/2021"], [(2020, 12, 31), (2021, 2, 1)]),
        (["31/12/2020", "01/02/2021"], [(2020, 12, 31), (2021, 2, 1)]),
        (["2020/12/31 23:59", "2021/2/1 00:00"], [(2020, 12, 31), (2021, 2, 1)]),
        (["2020-12-31T23:59:58Z", "2021-02-01T00:00:00.5Z"], [(2020, 12, 31), (2021, 2, 1)]),
    ],
)
def test_forms_of_dates(texts, year_month_day):
    form = dates.form_of(texts)
    parts = dates.parts(np.array([dates.read(text, form) for text in texts], "datetime64[us]"))
    np.testing.assert_array_equal(np.stack([parts[p] for p in ("year", "month", "day")], axis=1), year_month_day)


def test_dates_that_differ_in_every_row_are_no_identifiers(table):
    seconds = [f"2020-01-{k % 28 + 1:02} {k % 9:02}:{k % 60:02}:{k // 60:02}" for k in range(200)]
    assert TableEncoder.fit(table({"when": seconds}), bins=0).features == ["when, day", "when, weekday", "when, hour"]


def test_a_text_among_dates_is_an_error(table):
    days = ["2020-01-31"] * 5 + ["2020-02-30"] + ["2020-03-01"]
    with pytest.raises(CellError, match=r"row 5, column 'day': '2020-02-30' is not a date .* categorical=\['day'\]"):
        TableEncoder.fit(table({"day": days}))
    assert len(TableEncoder.fit(table({"day": days}), categorical=["day"]).features) == 3


def test_columns_that_say_nothing_are_left_out(table):
    columns = {
        "index": list(range(200)),
        "Unnamed: 0": [7 * k + 1000 for k in range(200)],
        "customerID": [f"c-{k}" for k in range(200)],
        "always": ["same"] * 200,
        "never": [None] * 200,
        "hardly": [None] * 199 + ["x"],
        "x": [k % 7 for k in range(200)],
        "when_missing": [1.0, None] * 100,
        "year": [1800 + k for k in range(200)],
    }
    with pytest.warns(UserWarning, match=r"table: columns are left out: 'index' \(row numbers\); 'Unnamed: 0' \(an id"):
        encoder = TableEncoder.fit(table(columns), bins=0)
    assert encoder.features == ["x", "when_missing", "when_missing is missing", "year"]
    assert dict(encoder.left_out) == {
        "index": "row numbers",
        "Unnamed: 0": "an identifier by its name, with a different number in each row",
        "customerID": "an identifier or free text, 200 different texts in 200 rows",
        "always": "constant, always same",
        "never": "empty",
        "hardly": "nearly empty, 1 of 200 values are there",
    }
    assert TableEncoder.from_dict(json.loads(json.dumps(encoder.to_dict()))) == encoder
    left = table({name: columns[name] for name in ("x", "when_missing", "year")})
    assert encoder.encode(left).shape == (200, 4)  # nobody asks for them again
    with pytest.raises(ValueError, match=r"table has no column to learn from: 'always' \(constant, .* differ between"):
        TableEncoder.fit(table({name: columns[name] for name in ("always", "never")}))


def test_row_numbers_are_found_in_a_part_of_a_table(table, rng):
    chosen = rng.permutation(1000)[:600]
    with pytest.warns(UserWarning, match="row numbers"):
        encoder = TableEncoder.fit(table({"n": chosen.tolist(), "x": (chosen % 9).tolist()}))
    assert list(encoder.left_out) == ["n"]
    X = np.stack([np.arange(100), np.arange(100) % 9], axis=1)
    assert not TableEncoder.fit(X).left_out  # columns of an array have no names


def test_numbers_in_text(table):
    charges = [f"{k / 4}" for k in range(98)] + [" ", "?"]
    encoder = TableEncoder.fit(table({"charges": charges}), bins=0)
    assert encoder.features == ["charges", "charges is missing"]
    np.testing.assert_array_equal(encoder.encode(table({"charges": charges}))[:, 1], [0] * 98 + [1, 1])
    with pytest.raises(CellError, match=r"row 1, column 'charges': 'free' is not a number, as the model wants them"):
        encoder.encode(table({"charges": ["1.5", "free"]}))
    codes = [f"{k:03}" for k in range(60)] * 2
    assert len(TableEncoder.fit(table({"area": codes})).columns[0].categories) == 60  # with leading zeros


def test_columns_of_categories_are_scaled_as_those_of_numbers(table):
    towns = [*["Bern"] * 2, *["Chur"] * 5, *["Genf"] * 12, None]
    encoder = TableEncoder.fit(table({"town": towns}), scaled=True)
    ones = {town: [float(other == town) for other in towns] for town in ("Bern", "Chur", "Genf")}
    expected = TableEncoder.fit(table(ones), bins=0).encode(table(ones))
    assert len(np.unique(expected)) == 4  # two shares, a quarter between them, and 0
    np.testing.assert_array_equal(encoder.encode(table({"town": towns})), expected)
    elsewhere = encoder.encode(table({"town": ["Rom", None]}))
    np.testing.assert_array_equal(elsewhere, [expected[-1]] * 2)
    assert encoder.columns[0].description == "3 categories, a column of two values, scaled as numbers, for each"
    assert TableEncoder.from_dict(encoder.to_dict()) == encoder


@pytest.mark.parametrize("missing", [0, 1])
def test_two_categories_share_a_scaled_column(table, missing):
    smokers = ["no", "no", "no", "no", "no", "yes", *[None] * missing]
    encoder = TableEncoder.fit(table({"smoker": smokers}), scaled=True)
    numbers = {"smoker": [{"no": -1.0, "yes": 1.0, None: 0.0}[smoker] for smoker in smokers]}
    expected = TableEncoder.fit(table(numbers), bins=0).encode(table(numbers | {"smoker": [-1.0, 1.0, 0.0, 0.0]}))
    assert encoder.features == ["smoker=yes"]
    assert encoder.columns[0].description == "2 categories, a column of two values, scaled as numbers, for both"
    new = encoder.encode(table({"smoker": ["no", "yes", None, "sometimes"]}))
    np.testing.assert_allclose(new, expected, rtol=1e-15)
    assert len(np.unique(new)) == 3


def test_an_encoder_of_an_older_file(table):
    for one_hot in (50, 1):
        encoder = TableEncoder.fit(table({"town": ["Bern", "Chur", "Bern"]}), one_hot=one_hot)
        values = encoder.to_dict()
        del values["columns"][0]["columns"]
        values["columns"][0]["one_hot"] = one_hot == 50
        assert TableEncoder.from_dict(values) == encoder


def test_many_categories_become_codes_of_an_embedding(table, rng):
    towns = [f"town {k}" for k in rng.integers(0, 12, 200)]
    columns = {"size": rng.standard_normal(200).tolist(), "town": towns}
    encoder = TableEncoder.fit(table(columns), bins=0, one_hot=10)
    (embedding,) = encoder.layers()
    assert embedding == nbbp.ColumnEmbedding({1: 13}, 3)
    X = encoder.encode(table(columns))
    assert X[:, 1].tolist() == [sorted(set(towns)).index(town) + 1 for town in towns]
    assert encoder.encode(table({"size": [0.0], "town": ["elsewhere"]}))[0, 1] == 0
    assert TableEncoder.from_dict(encoder.to_dict()) == encoder
    y = np.array([sum(map(ord, town)) % 2 for town in towns])  # only the town tells
    made = nbbp.Sequential([embedding, nbbp.Dense(2)], "softmax_cross_entropy", nbbp.Adam(0.05), metrics=["accuracy"])
    assert made.fit(X, y, epochs=30, verbose=0)["accuracy"][-1] == 1


def test_the_rarest_of_5000_categories_share_a_vector(table):
    towns = [f"town {k}" for k in range(5000)] * 2 + ["town 7"]
    (column,) = TableEncoder.fit(table({"town": towns})).columns
    assert len(column.categories) == 1000
    assert "town 7" in column.categories
    assert column.description == (
        "5,000 categories, a trained vector for each (embedding); the 4,000 rarest share a vector: groups of them, "
        "such as regions of towns, may say more"
    )


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
    with pytest.raises(CellError, match=r"new, row 1, column 'mass': must be finite, got inf") as caught:
        encoder.encode(table(MIXED | {"mass": [1.0, math.inf, 2.0, 3.0]}), name="new")
    error = pickle.loads(pickle.dumps(caught.value))  # as from a worker process
    assert (error.column, error.row, str(error)) == ("mass", 1, str(caught.value))
    with pytest.raises(CellError, match="row 0, column 'mass': 'a' is not a number, as the model wants"):
        encoder.encode(table(MIXED | {"mass": ["a", "b", "c", "d"]}))
    with pytest.raises(ValueError, match="table has no rows"):
        TableEncoder.fit(table({"mass": []}))


def test_columns_of_arrays():
    X = np.array([[1, "a", True], [2, "b", None], [None, "a", False]], object)
    encoder = TableEncoder.fit(X, bins=0)
    assert encoder.features == ["x0", "x0 is missing", "x1=a", "x1=b", "x2", "x2 is missing"]
    np.testing.assert_array_equal(encoder.encode(X.tolist()), encoder.encode(X))
    with pytest.raises(ValueError, match="table has no column 'x2'; its columns are 'x0', 'x1'"):
        encoder.encode(X[:, :2])
    with pytest.raises(ValueError, match=r"must have rows and columns, got the shape \(3,\)"):
        encoder.encode(X[:, 0])


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


def test_a_constant_target_is_no_target():
    with pytest.raises(ValueError, match="two different values"):
        ValueTarget.fit([0.1] * 1000)


def test_decoded_values_lie_in_the_range_of_the_target():
    target = ValueTarget.fit([1.0, 2.0, 6.0])
    assert target.decode([-9.0, 0.0, 9.0]).tolist() == [1, 3, 6]
    assert target_from_dict(json.loads(json.dumps(target.to_dict()))) == target
    assert target_from_dict({"task": "regression", "mean": 3, "deviation": 2}).decode([5.0]).tolist() == [13]  # of 0.1


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
