"""Exported models of tables: the columns go in as they are, and the predictions are those of nbbp."""

import numpy as np
import pytest

pytest.importorskip("narwhals")
pytest.importorskip("pandas")
pytest.importorskip("pyarrow")

import pandas as pd

from nbbp import exchange
from nbbp.recipes.presets import Plain, RealMLP
from nbbp.recipes.tabular import TableModel, TableTraining
from nbbp.tables import ClassTarget, TableEncoder, ValueTarget

PRESETS_TRIED = {
    "plain": Plain(epochs=2, hidden=(8,), one_hot=6),
    "td": RealMLP(epochs=2),
    "td-s": RealMLP(epochs=2, variant="TD-S"),
}


def table(rows: int = 120) -> pd.DataFrame:
    """Numbers, few and many categories, dates back to the year 1, all of them with missing values."""
    rng = np.random.default_rng(0)
    days = np.datetime64("0001-03-01", "us") + rng.integers(0, 700_000 * 86_400, rows) * np.timedelta64(1_000_000, "us")
    made = pd.DataFrame(
        {
            "size": rng.lognormal(0, 3, rows).round(2),
            "yes": rng.random(rows) < 0.3,
            "town": rng.choice(["Bern", "Chur", "Zürich"], rows),
            "sold": rng.choice(["new", "used"], rows),
            "code": rng.integers(0, 10, rows).astype(str),
            "day": days.astype(str),
        }
    )
    made["yes"] = made["yes"].astype(object)
    for column in made:
        made.loc[rng.choice(rows, 9, replace=False), column] = None
    return made


def trained(preset, target, members: int, columns: pd.DataFrame) -> TableModel:
    y = np.argsort(np.argsort(columns["size"].fillna(0.0))) // (len(columns) // 3)  # which has steps
    fitted = target.fit(np.array(["a", "b", "c"])[y] if target is ClassTarget else y * 1000.0)
    labels = fitted.encode(np.array(["a", "b", "c"])[y] if target is ClassTarget else y * 1000.0)
    learned = labels if preset.steps else None
    encoder = TableEncoder.fit(columns, bins=preset.bins, one_hot=preset.one_hot, target=learned, scaled=preset.scaled)
    assert bool(encoder.columns[0].steps) == preset.steps
    X = encoder.encode(columns)
    training = TableTraining(encoder, fitted, X, labels, preset, members)
    training.run()
    return training.model


def new() -> pd.DataFrame:
    """Rows with unknown categories and large numbers."""
    rows = table(40)
    rows.loc[0, ["size", "town", "sold", "code"]] = [1e12, "Genf", "lent", "12"]
    return rows


@pytest.mark.parametrize("preset", PRESETS_TRIED)
@pytest.mark.parametrize(("target", "members"), [(ClassTarget, 1), (ValueTarget, 2)])
def test_columns_as_they_are_in_onnx(preset, target, members, tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime")
    model = trained(PRESETS_TRIED[preset], target, members, table())
    exchange.to_onnx(model, tmp_path / "model.onnx")
    rows = new()
    given = {
        "size": rows["size"].to_numpy(np.float64),
        "yes": rows["yes"].astype(float).to_numpy(),
        "town": rows["town"].fillna("").to_numpy(object),
        "sold": rows["sold"].fillna("").to_numpy(object),
        "code": rows["code"].fillna("").to_numpy(object),
        "day": rows["day"].to_numpy("datetime64[us]").astype(np.int64),
    }
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx", providers=["CPUExecutionProvider"])
    outputs = dict(zip((o.name for o in session.get_outputs()), session.run(None, given), strict=True))
    expected = model.outputs(rows)
    if target is ClassTarget:
        np.testing.assert_allclose(outputs["probabilities"], expected, rtol=1e-4, atol=1e-6)
        assert outputs["label"].tolist() == model.target.decode(expected.argmax(axis=1))
    else:
        np.testing.assert_allclose(outputs["predictions"], expected, rtol=1e-4, atol=0.01)


@pytest.mark.parametrize("preset", PRESETS_TRIED)
@pytest.mark.parametrize(("target", "members"), [(ClassTarget, 1), (ValueTarget, 2)])
@pytest.mark.parametrize("form", [lambda rows: rows, lambda rows: rows.to_dict("list")], ids=["pandas", "dict"])
def test_columns_as_they_are_in_numpy(form, preset, target, members, tmp_path):
    model = trained(PRESETS_TRIED[preset], target, members, table())
    exchange.to_numpy_file(model, tmp_path / "model.py")
    written: dict = {}
    exec((tmp_path / "model.py").read_text(), written)
    rows = new()
    expected = model.outputs(rows)
    if target is ClassTarget:
        np.testing.assert_allclose(written["outputs"](form(rows)), expected, rtol=1e-4, atol=1e-6)
        assert written["predict"](form(rows)) == model.target.decode(expected.argmax(axis=1))
    else:
        np.testing.assert_allclose(written["predict"](form(rows)), expected, rtol=1e-4, atol=0.01)


def test_a_date_that_a_file_cannot_read(tmp_path):
    model = trained(PRESETS_TRIED["plain"], ValueTarget, 1, table())
    exchange.to_numpy_file(model, tmp_path / "model.py")
    written: dict = {}
    exec((tmp_path / "model.py").read_text(), written)
    with pytest.raises(ValueError, match="'soon' is not a date such as 2020-01-31"):
        written["predict"](new().assign(day="soon"))
