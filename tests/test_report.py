"""The page that nbbp train writes: complete in itself, well-formed, and whatever the columns are called."""

import html.parser
import json
import pathlib
import re

import numpy as np
import pytest

import nbbp
from nbbp.cli import main
from nbbp.insight.columns import partial_dependence, permutation_importance
from nbbp.plots.svg import inline, page_style
from nbbp.recipes.presets import Plain
from nbbp.recipes.tabular import TableTraining
from nbbp.tables import ClassTarget, TableEncoder, ValueTarget
from nbbp.tables.cells import cells

pytest.importorskip("pyarrow")
pd = pytest.importorskip("pandas")

HOSTILE = "<script>alert(1)</script>"
VOID = {"meta", "br", "img", "link", "input", "hr"}


class Page(html.parser.HTMLParser):
    """A page's tags, attributes and text; every tag that opens must close."""

    def __init__(self, text: str):
        super().__init__()
        self.tags, self.attributes, self.texts, self.open = [], [], [], []
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.texts.append(data)


def table(rows: int = 200) -> pd.DataFrame:
    """Columns with hostile names and texts; those that `most` and `$a_1$` follow from are known."""
    rng = np.random.default_rng(0)
    names = [HOSTILE, '" onload="x', "$a_1$ $", "日付 {0}", "_hidden"]
    made = pd.DataFrame({name: rng.normal(size=rows) for name in names[:3]})
    made[names[3]] = pd.date_range("2024-01-01", periods=rows).strftime("%Y-%m-%d")
    made[names[4]] = rng.choice(["<b>", "$x$", "_y", "&amp;"], rows)
    made.loc[rng.random(rows) < 0.1, [names[1], names[4]]] = None
    made["</title><u>"] = np.where(made[HOSTILE] > 0, HOSTILE, "$ $")
    made["value"] = 10 * made[HOSTILE] + 3 * made["$a_1$ $"]
    made["constant"] = 1
    return made


@pytest.mark.parametrize("target", ["</title><u>", "value"])
@pytest.mark.parametrize("options", [[], ["--members", "2"]])
def test_the_page_is_complete_and_escaped(target, options, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    made = table()
    other = ({"</title><u>", "value"} - {target}).pop()
    made.drop(columns=other).to_csv("a&b.csv", index=False)
    assert (
        main(
            ["train", "a&b.csv", "--target", target, "--epochs", "20", "--batch-size", "16", "--layers", "16", *options]
        )
        == 0
    )
    capsys.readouterr()
    text = pathlib.Path("a&b-nbbp/report.html").read_text(encoding="utf-8")
    page = Page(text)
    assert not {"script", "u", "link", "iframe", "img", "object"} & set(page.tags)
    assert page.tags.count("title") == page.tags.count("h1") == 1
    assert not [name for name, _ in page.attributes if name.startswith("on")]
    assert "://" not in text, "nothing comes from the network"
    assert not re.findall(r"url\((?!#)", text)
    for name, value in page.attributes:
        if name in ("href", "xlink:href", "src"):
            assert value.startswith("#")
    ids = [value for name, value in page.attributes if name == "id"]
    assert len(ids) == len(set(ids))
    joined = "\n".join(page.texts)
    for name in [*made.columns.drop([other]), "a&b.csv", "left out: constant, always 1"]:
        assert name in joined
    report = json.loads(pathlib.Path("a&b-nbbp/report.json").read_text())
    assert next(iter(report["importance"])) == HOSTILE
    assert next(iter(report["dependence"])) == HOSTILE
    sections = re.findall("<h2>(.*?)</h2>", text)
    assert sections[:2] == ["Scores", "Right and wrong"]
    assert page.tags.count("svg") == 1 + 5 + (1 if target != "value" else 2)
    assert ("Confusion matrix" in joined) == (target != "value")
    assert "linear model" in joined


def trained(target_name: str) -> tuple:
    made = table()
    target = (ValueTarget if target_name == "value" else ClassTarget).fit(made[target_name])
    columns = made.drop(columns=["value", "</title><u>", "constant"])
    encoder = TableEncoder.fit(columns)
    X, y = encoder.encode(columns), target.encode(made[target_name])
    training = TableTraining(encoder, target, X, y, Plain(20, 16, hidden=(16,)))
    training.run()
    return training.model, columns, X, y


def test_importance_is_the_growth_of_the_error():
    model, columns, X, y = trained("value")
    found = permutation_importance(model, X, y)
    assert list(found) == list(columns)
    means = {name: np.mean(errors) for name, errors in found.items()}
    assert sorted(means, key=means.get)[-2:] == ["$a_1$ $", HOSTILE]
    rng, errors = np.random.default_rng(0), []
    error = lambda X: np.sqrt(np.mean((model.decoded(X) - model.target.in_units(y)) ** 2))  # noqa: E731
    width = len(model.encoder.columns[0].features)
    for _ in range(3):
        shuffled = X.copy()
        shuffled[:, :width] = X[rng.permutation(len(X)), :width]
        errors.append(error(shuffled) - error(X))
    np.testing.assert_allclose(found[HOSTILE], errors, rtol=1e-6)


def test_partial_dependence_is_the_mean_prediction_with_a_value_everywhere():
    model, columns, X, _ = trained("</title><u>")
    for column in cells("X", columns):
        values, prediction = partial_dependence(model, column, X)
        assert prediction.shape == (len(values), 2)
        for k in (0, len(values) - 1):
            changed = columns.copy()
            changed[column.name] = values[k]
            np.testing.assert_allclose(prediction[k], model.outputs(changed).mean(axis=0), rtol=1e-5)
    assert set(values) == {"<b>", "$x$", "_y", "&amp;", None}


def test_curves_of_many_classes_have_one_legend(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    x = np.linspace(0, 1, 270, endpoint=False)
    pd.DataFrame({"x": x, "kind": [f"<{int(9 * v)}>" for v in x]}).to_csv("data.csv", index=False)
    assert main(["train", "data.csv", "--target", "kind", "--epochs", "5", "--batch-size", "32", "--layers", "16"]) == 0
    text = pathlib.Path("data-nbbp/report.html").read_text(encoding="utf-8")
    legend = re.search('<p class="legend">(.*?)</p>', text)[1]
    assert len(re.findall(r"--color-\d", legend)) == len(set(re.findall(r"&lt;\d&gt;", legend))) == 6
    assert Page(text).tags.count("td") > 81  # all classes are in the matrix


def test_figures_take_the_colours_of_the_page():
    with page_style():
        svg = inline(nbbp.plots.reliability([0, 1, 1, 0], [[0.9, 0.1], [0.2, 0.8], [0.4, 0.6], [0.6, 0.4]]), '"<&')
    assert svg.startswith('<svg role="img" aria-label="&quot;&lt;&amp;" viewBox')
    assert "currentColor" in svg
    assert "var(--color-0, #0072b2)" in svg
    Page(svg)
