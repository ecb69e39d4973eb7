"""The benchmark of real tables: which are left out, what is compared, and what is printed and drawn."""

import dataclasses
import json
import math

import numpy as np
import pytest

from nbbp.bench import real_tables, tables
from nbbp.bench.real_tables import CHOOSING, REPORTING, RealTable
from nbbp.bench.tables import Score, TableResult
from nbbp.bench.tabular_peers import REFERENCE, TABULAR_PEERS
from nbbp.cli import main

pytest.importorskip("pandas")
pytest.importorskip("sklearn")
DIABETES = RealTable("diabetes", "target", False, "sklearn", "diabetes")
CANCER = RealTable("breast_cancer", "target", True, "sklearn", "breast_cancer")
ABSENT = RealTable("absent", "y", True, "no_such_package", "y.csv")


class Constant:
    """Predicts the mean, or the shares of the classes."""

    def __init__(self, classes, seed):
        assert isinstance(seed, int)

    def fit(self, X, y):
        self.y = y

    def predict(self, X):
        return np.full((len(X), 1), self.y.mean())

    def predict_proba(self, X):
        return np.tile(np.bincount(self.y) / len(self.y), (len(X), 1))


def not_installed(classes, seed):
    raise ImportError("No module named 'boosted'")


def test_defaults_are_chosen_on_other_tables_than_those_that_are_reported():
    names = [table.name for table in (*CHOOSING, *REPORTING)]
    assert len(set(names)) == len(names)
    for each in (CHOOSING, REPORTING):
        assert {table.classes for table in each} == {True, False}


def test_a_column_is_a_number_or_a_category(tmp_path, monkeypatch):
    (tmp_path / "shipped").mkdir()
    (tmp_path / "shipped" / "__init__.py").write_text("raise RuntimeError('not to be imported')")
    rows = "".join(f"{k},{k % 3},{'red' if k % 2 else ''},{'no' if k % 5 else 'yes'}\n" for k in range(50))
    (tmp_path / "shipped" / "answers.csv").write_text("row,size,colour,answer\n" + rows)
    monkeypatch.syspath_prepend(tmp_path)
    table = RealTable("answers", "answer", True, "shipped", "answers.csv", ("row",))
    X, y = table.load(40)
    assert [str(kind) for kind in X.dtypes] == ["int64", "category"]
    assert len(X) == len(y) == 40
    assert set(y.tolist()) == {0, 1}
    train, test, y_train, y_test = real_tables.split(table, 1, 40)
    assert (len(train), len(test), len(y_train), len(y_test)) == (32, 8, 32, 8)
    assert real_tables.split(table, 1, 40)[1].equals(test)


def test_scores_are_those_of_the_definitions(monkeypatch):
    monkeypatch.setitem(TABULAR_PEERS, "constant", Constant)
    monkeypatch.setitem(TABULAR_PEERS, "boosted", not_installed)
    values, classes, absent = tables.measure([DIABETES, CANCER, ABSENT], ["constant", "boosted"], splits=1)
    _, _, y, y_test = real_tables.split(DIABETES, 0)
    assert values.scores["constant"][0].error == pytest.approx(np.sqrt(np.mean((y_test - y.mean()) ** 2)))
    _, _, y, y_test = real_tables.split(CANCER, 0)
    share = y.mean()
    assert classes.scores["constant"][0].error == pytest.approx(1 - y_test.mean())
    expected = -np.mean(y_test * np.log(share) + (1 - y_test) * np.log(1 - share))
    assert classes.scores["constant"][0].log_loss == pytest.approx(expected)
    assert classes.relative("constant", "error") > 3
    assert absent.missing["constant"] == "no_such_package is not installed"
    assert tables.line(absent, ["constant"]).endswith("left out: no_such_package is not installed")
    assert tables.missing([values, classes, absent]) == ["boosted left out: No module named 'boosted'"]


def test_no_wrong_row_counts_as_half_of_one(monkeypatch):
    monkeypatch.setitem(TABULAR_PEERS, "constant", Constant)
    X, y = np.zeros((4, 1)), np.zeros(4, int)
    score = tables._score("constant", True, 0, X, X, y, y)
    assert score.error == 0.5 / 4
    assert score.log_loss == 0


def test_summaries_are_geometric_means_on_the_tables_that_an_estimator_has():
    both = {REFERENCE: [Score(2.0, math.nan, 1.0)], "one": [Score(1.0, math.nan, 4.0), Score(3.0, math.nan, 6.0)]}
    first = TableResult(dataclasses.replace(DIABETES), 442, {**both, "two": [Score(4.0, math.nan, 1.0)]})
    second = TableResult(CANCER, 569, {REFERENCE: [Score(0.1, 0.2, 1.0)], "one": [Score(0.025, 0.1, 1.0)]})
    best, reference, worst = tables.summaries([first, second])
    assert (best.peer, best.tables, best.seconds) == ("one", 2, 6.0)
    assert best.error == pytest.approx(0.5)
    assert best.log_loss == pytest.approx(0.5)
    assert (reference.peer, reference.error, reference.log_loss) == (REFERENCE, 1.0, 1.0)
    assert (worst.peer, worst.tables, worst.error) == ("two", 1, 2.0)
    assert math.isnan(worst.log_loss)


def test_the_command_prints_the_tables_that_are_named_and_draws(tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(TABULAR_PEERS, "constant", Constant)
    monkeypatch.setattr(real_tables, "TABLES", {"choosing": [DIABETES], "reporting": [CANCER]})
    chart, written = tmp_path / "tables.png", tmp_path / "tables.json"
    arguments = ["--peers", "constant", "--rounds", "1", "--rows", "500", "--chart", str(chart), "--json", str(written)]
    assert main(["bench", "tables", *arguments]) == 0
    assert list(json.loads(written.read_text())) == ["machine", "reporting"]
    assert "diabetes" not in capsys.readouterr().out
    assert main(["bench", "tables", "breast_cancer", "choosing", *arguments]) == 0
    printed = capsys.readouterr().out
    assert printed.index("for choosing: ") < printed.index("diabetes") < printed.index("for reporting: ")
    assert sum(line.startswith("constant ") for line in printed.splitlines()) == 2
    assert chart.stat().st_size > 1000
    figures = json.loads(written.read_text())
    assert [figures[use][0]["rows"] for use in ("choosing", "reporting")] == [442, 500]
    assert main(["bench", "tables", "--rows", "10"]) == 2
    assert main(["bench", "tables", "products"]) == 2
