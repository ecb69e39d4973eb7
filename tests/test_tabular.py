"""Estimators for tables as they are."""

import pickle
import warnings

import numpy as np
import pytest

pytest.importorskip("sklearn")
pytest.importorskip("narwhals")
pytest.importorskip("pandas")
pytest.importorskip("polars")
pytest.importorskip("pyarrow")

import pandas as pd
import polars as pl
import pyarrow as pa
from sklearn.base import clone
from sklearn.model_selection import cross_val_score
from sklearn.utils.estimator_checks import parametrize_with_checks

from nbbp.recipes import conformal
from nbbp.recipes.presets import Plain, RealMLP
from nbbp.recipes.tabular import held_out, in_folds
from nbbp.sklearn import TabularClassifier, TabularRegressor


@parametrize_with_checks([TabularClassifier(epochs=30), TabularRegressor(epochs=30)])
def test_scikit_learn_finds_nothing_to_complain(estimator, check):
    check(estimator)


def dirty(rows: int = 600, seed: int = 0):
    """A table as people have them, and whether the rule says yes."""
    rng = np.random.default_rng(seed)
    size, town = rng.lognormal(0, 2, rows), rng.choice(["Bern", "Chur", "Basel"], rows)
    sold = pd.Timestamp("2020-01-01") + pd.to_timedelta(rng.integers(0, 700, rows), "D")
    yes = np.where(town == "Bern", size > 1, sold.month > 6)
    table = pd.DataFrame(
        {"id": np.arange(rows), "size": size, "town": town, "sold": sold, "new": rng.random(rows) < 0.5}
    )
    table["same"] = 1
    table.loc[rng.random(rows) < 0.05, "size"] = np.nan
    table.loc[rng.random(rows) < 0.05, "town"] = None
    return table, np.where(yes, "yes", "no")


SMALL = Plain(epochs=40, hidden=(64, 64), batch_size=64)


@pytest.mark.parametrize("form", [lambda table: table, pl.from_pandas, pa.Table.from_pandas], ids=["pd", "pl", "pa"])
def test_a_dirty_table(form):
    table, y = dirty()
    with pytest.warns(
        UserWarning, match=r"X: columns are left out: 'id' \(row numbers\); 'same' \(constant, always 1\)"
    ):
        classifier = TabularClassifier(SMALL, random_state=0).fit(form(table), y)
    assert classifier.left_out_ == {"id": "row numbers", "same": "constant, always 1"}
    new, answers = dirty(seed=1)
    assert classifier.score(form(new), answers) > 0.85
    p = classifier.predict_proba(form(new))
    np.testing.assert_allclose(p.sum(axis=1), 1, rtol=1e-6)
    np.testing.assert_array_equal(classifier.classes_, ["no", "yes"])
    again = pickle.loads(pickle.dumps(classifier))
    np.testing.assert_array_equal(again.predict_proba(form(new)), p)


@pytest.mark.filterwarnings("ignore:X. columns are left out")
def test_the_same_seed_gives_the_same_bits_in_every_library():
    table, y = dirty(200)
    table = table.drop(columns="new")
    by_pandas = TabularClassifier(SMALL, epochs=3, random_state=0).fit(table, y)
    by_polars = clone(by_pandas).fit(pl.from_pandas(table), y)
    assert by_pandas.model_.members[0].params.tobytes() == by_polars.model_.members[0].params.tobytes()


@pytest.mark.filterwarnings("ignore:X. columns are left out")
def test_the_mean_of_several_networks():
    table, _ = dirty()
    y = np.log(table["size"].fillna(1)) * 10 + 50 + (table["town"] == "Bern") * 20
    regressor = TabularRegressor(SMALL, members=3, random_state=0).fit(table, y)
    members = regressor.model_.members
    assert len(members) == 3
    assert len({member.params.tobytes() for member in members}) == 3
    new, _ = dirty(seed=1)
    truth = np.log(new["size"].fillna(1)) * 10 + 50 + (new["town"] == "Bern") * 20
    assert regressor.score(new, truth) > 0.85
    X = regressor.model_.encoder.encode(new)
    raw = np.mean([member.predict(X)[:, 0].astype(np.float64) for member in members], axis=0)
    np.testing.assert_allclose(regressor.predict(new), regressor.model_.target.decode(raw), rtol=1e-5)


def test_held_out_rows_have_the_distribution_of_the_target(rng):
    y = np.sort(rng.integers(0, 4, 1000))
    sets = held_out(y, 3, 0.2, seed=0)
    assert [len(rows) for rows in sets] == [200, 200, 200]
    assert len(np.unique(np.concatenate(sets))) == 600
    for rows in sets:
        assert np.abs(np.bincount(y[rows]) - np.bincount(y) / 5).max() < 2
    assert [len(rows) for rows in held_out(y[:20], 6, 0.2, seed=0)] == [2] * 6  # there are no more


def test_class_weights_move_the_decision(rng):
    X = rng.standard_normal((400, 2))
    y = (X[:, 0] + rng.standard_normal(400) > 1).astype(int)
    shares = [
        TabularClassifier(SMALL, class_weight=weight, epochs=10, random_state=0).fit(X, y).predict(X).mean()
        for weight in ({1: 0.3}, None, "balanced")
    ]
    assert shares[0] < shares[1] < shares[2]


def test_what_is_said_of_bad_input():
    X, y = np.arange(60.0).reshape(30, 2) % 7, np.arange(30) % 2
    for given, message in (
        ((X, np.zeros(30)), r"y must have two classes or more, got 0\b.*"),
        ((X, [*[0.0, 1.0] * 14, 1.0, np.nan]), r"y, row 29, column 'y': missing value; leave out the rows without one"),
        ((np.ones((30, 2)), y), r"X has no column to learn from: 'x0' \(constant, always 1\).*differ between rows"),
        ((X[:3], y[:3]), r"1 networks need 4 rows to train and to validate on, got 3"),
        ((X, y[:20]), r"X has 30 rows and y 20"),
    ):
        with pytest.raises(ValueError, match=message):
            TabularClassifier().fit(*given)
    with pytest.raises(ValueError, match=r"y, row 3, column 'y': must be a finite number; leave out the rows"):
        TabularRegressor().fit(X, [0.0, 1.0, 2.0, np.nan, *range(26)])
    with pytest.raises(ValueError, match="Did you mean 'plain'"):
        TabularRegressor("plane").fit(X, y)
    with pytest.raises(ValueError, match="class_weight: 2 is none of the classes"):
        TabularClassifier(class_weight={2: 1}).fit(X, y)
    days = pd.DataFrame({"day": [*["2020-01-31"] * 28, "2020-02-01", "2020-02-30"], "x": X[:, 0]})
    with pytest.raises(ValueError, match=r"X, row 29, column 'day': '2020-02-30' is not a date such as 2020-01-31, as"):
        TabularClassifier().fit(days, y)


def test_in_cross_validation():
    X, y = dirty(300)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert cross_val_score(TabularClassifier(SMALL, random_state=0), X, y, cv=3, error_score="raise").mean() > 0.7


@pytest.mark.parametrize(("preset", "categories"), [("td", {"one_hot": 4, "codes": 1}), ("td-s", {"one_hot": 4 + 11})])
@pytest.mark.filterwarnings("ignore:X. columns are left out")
def test_the_presets_of_realmlp(preset, categories):
    table, y = dirty()
    table["code"] = [f"code {k % 11}" for k in range(len(table))]  # too many for a column each in td
    classifier = TabularClassifier(preset, epochs=30, random_state=0).fit(table, y)
    X = classifier.model_.inputs(classifier.model_.encoder.encode(table))
    assert {name: x.shape[1] for name, x in X.items()} == {"numbers": 6, **categories}
    assert all(x.dtype == (np.int32 if name == "codes" else np.float32) for name, x in X.items())
    assert classifier.score(table, y) > 0.8
    assert len(TabularRegressor(preset, epochs=2, members=2).fit(table, table["size"].fillna(0)).predict(table)) == 600


@pytest.mark.parametrize(("rows", "expected"), [(255, 255), (256, 256), (300, 300), (511, 511), (512, 256), (600, 300)])
def test_rows_of_mini_batches_of_realmlp(rows, expected):
    assert RealMLP().rows_of_batch(rows) == expected


@pytest.mark.parametrize("size", [8, 256])
def test_realmlp_makes_as_many_updates_as_there_are_whole_mini_batches(size):
    preset = RealMLP(batch_size=size)
    for rows in range(size, size**2 + 1):
        assert -(-rows // preset.rows_of_batch(rows)) == rows // size


def test_folds_of_realmlp_make_equal_numbers_of_updates():
    y = np.arange(321.0)
    sets = in_folds(y, 5, seed=1)
    assert {len(y) - len(rows) for rows in sets} == {256, 257}
    regressor = TabularRegressor("td-s", epochs=1, folds=5, random_state=0).fit(y[:, np.newaxis], y)
    assert {history.steps_per_epoch for history in regressor.histories_} == {1}


def test_margins_of_conformal_intervals(rng):
    assert conformal.margin(np.arange(1, 10), 0.9) == 9
    assert conformal.margin(-np.arange(1, 10), 0.5) == 5
    assert conformal.margin(np.arange(1, 9), 0.9) == np.inf  # too few
    with pytest.raises(ValueError, match="coverage must be positive and below 1"):
        conformal.margin([1.0], 1.0)
    draws = np.abs(rng.standard_cauchy((4000, 20)))  # 19 residuals, and one of a new row
    held = [new <= conformal.margin(residuals, 0.8) for *residuals, new in draws]
    assert np.mean(held) == pytest.approx(0.8, abs=0.02)  # 16 of 20 exactly, by exchangeability


@pytest.mark.parametrize("members", [1, 3])
def test_intervals_cover_new_rows(members):
    def rows(count, seed):
        rng = np.random.default_rng(seed)
        X = rng.standard_normal((count, 3))
        return X, X[:, 0] * 2 + np.sin(3 * X[:, 1]) + rng.standard_t(3, count)

    regressor = TabularRegressor(SMALL, members=members, epochs=15, random_state=0).fit(*rows(1500, 0))
    X, y = rows(4000, 1)
    for coverage in (0.5, 0.9):
        low, high = regressor.predict_interval(X, coverage).T
        np.testing.assert_allclose((low + high) / 2, regressor.predict(X))
        assert np.mean((low <= y) & (y <= high)) == pytest.approx(coverage, abs=0.04)


@pytest.mark.parametrize("rows", [12, 100, 101])
def test_folds_hold_out_every_row_once_and_share_the_values(rows, rng):
    y = rng.permutation(np.arange(rows))
    folds = in_folds(y, 4, seed=1)
    np.testing.assert_array_equal(np.sort(np.concatenate(folds)), np.arange(rows))
    for fold in folds:  # one of each four neighbours
        np.testing.assert_array_equal(np.sort(y[fold])[: rows // 4] // 4, np.arange(rows // 4))
    assert [fold.tolist() for fold in in_folds(y, 4, seed=1)] == [fold.tolist() for fold in folds]


def test_each_fold_is_held_out_from_some_networks():
    table, _ = dirty()
    y = table.pop("size").fillna(1.0)
    regressor = TabularRegressor(SMALL, members=2, folds=3, epochs=4, random_state=0).fit(table, y)
    assert len(regressor.model_.members) == len(regressor.histories_) == 6
    assert len({member.params.tobytes() for member in regressor.model_.members}) == 6
    assert len(regressor.residuals_) == len(y)  # of every row, by the two networks that did not train on it
    with pytest.raises(ValueError, match="folds must be 2 or more, got 1"):
        TabularRegressor(SMALL, folds=1).fit(table, y)
    with pytest.raises(ValueError, match="301 folds need 602 rows, got 600"):
        TabularRegressor(SMALL, folds=301).fit(table, y)


@pytest.mark.parametrize(("updates", "epochs"), [(1, 256), (5, 200), (100, 64)])
def test_small_tables_are_trained_for_more_epochs(updates, epochs):
    assert Plain().length(updates) == epochs
    assert Plain().length(updates, networks=4) == 3 * epochs / 4
    assert Plain(epochs=40).length(updates) == 40
    assert RealMLP().length(updates) == 256


@pytest.mark.parametrize(("numbers", "bins"), [(1, 32), (16, 32), (32, 16), (200, 8)])
def test_wide_tables_have_fewer_bins(numbers, bins, rng):
    """About 512 features in all, and 8 bins of each number at least."""
    X = rng.standard_normal((60, numbers))
    model = TabularRegressor(Plain(epochs=1, steps=False)).fit(X, X[:, 0])
    assert len(model.model_.encoder.features) == numbers * (1 + bins)
