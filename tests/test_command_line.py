"""nbbp train, predict and plot on real tables, and what they say about files that cannot be read."""

import csv
import io
import json
import os
import pathlib
import re
import shlex
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

import nbbp
from nbbp.cli import main
from nbbp.cli.reading import read
from nbbp.training.measure import Measure

pa = pytest.importorskip("pyarrow")
pytest.importorskip("narwhals")
pd = pytest.importorskip("pandas")
datasets = pytest.importorskip("sklearn.datasets")

OF_ONE = {
    "model.safetensors",
    "preprocessing.json",
    "history.csv",
    "curve.png",
    "report.md",
    "report.html",
    "report.json",
}
FILES = OF_ONE | {f"model_{k}.safetensors" for k in (2, 3, 4)} | {f"history_{k}.csv" for k in (2, 3, 4)}


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """Commands run in a folder of their own."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def nbbp_says(capsys):
    """Runs a command; gives its exit code and what it wrote to both outputs."""

    def run(*arguments: str) -> tuple[int, str, str]:
        capsys.readouterr()
        try:
            code = main(arguments)
        except SystemExit as ended:
            code = ended.code
        return code, *capsys.readouterr()

    return run


def write(name: str, **options) -> pd.DataFrame:
    """One of scikit-learn's tables as CSV, with the names of classes."""
    found = getattr(datasets, f"load_{name}")(as_frame=True)
    table = found.frame.rename(columns={"target": "answer"})
    if "target_names" in found:
        table["answer"] = found.target_names[table["answer"]]
    table.to_csv(f"{name}.csv", index=False, **options)
    return table


def mixed(rows: int = 1000, seed: int = 0) -> pd.DataFrame:
    """A table of which the rule is known: left, by age, island and town; price, a sum."""
    rng = np.random.default_rng(seed)
    table = pd.DataFrame(
        {
            "age": rng.integers(18, 80, rows),
            "island": rng.choice(["Dream", "Biscoe", "Torgersen"], rows),
            "town": rng.choice([f"town {k}" for k in range(20)], rows),
        }
    )
    number = table["town"].str[5:].astype(int)
    table["left"] = np.where((table["age"] > 50) ^ (number % 2 == 0), "yes", "no")
    table["price"] = 10.0 * table["age"] + 200 * (table["island"] == "Dream") + 20 * number
    return table


def score(text: str) -> tuple[float, float]:
    """Of the model and of the baseline."""
    found = re.search(r"^test (?:accuracy|R2): (\S+); always .*: (\S+)$", text, re.MULTILINE)
    return float(found[1]), float(found[2])


def test_iris(nbbp_says, folder):
    table = write("iris")
    options = ["--learning-rate", "0.01", "--epochs", "80", "--members", "1", "--seed", "1"]
    code, out, _ = nbbp_says("train", "iris.csv", "--target", "answer", *options)
    assert code == 0
    assert "answer has 3 classes: setosa (50), versicolor (50), virginica (50)" in out
    assert "rows: 106 to train, 22 to validate, 22 to test" in out
    assert score(out)[0] > 0.85
    run = folder / "iris-nbbp"
    assert {path.name for path in run.iterdir()} == OF_ONE
    assert (run / "curve.png").read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    report = (run / "report.md").read_text()
    assert f"| accuracy | {score(out)[0]:.4f} | {score(out)[1]:.4f} |" in report
    confusions = re.findall(r"^\| (?:setosa|versicolor|virginica) \| (\d+) \| (\d+) \| (\d+) \|$", report, re.MULTILINE)
    counts = np.array(confusions, int)
    assert set(counts.sum(axis=1)) <= {7, 8}  # stratified
    assert np.trace(counts) / 22 == pytest.approx(score(out)[0], abs=1e-4)
    assert len(nbbp.History.from_csv(run / "history.csv")) <= 80

    code, out, err = nbbp_says("predict", "iris-nbbp", "iris.csv")
    assert (code, err) == (0, "")
    predicted = pd.read_csv(io.StringIO(out))
    assert list(predicted.columns[5:]) == [
        "predicted_answer", "probability_setosa", "probability_versicolor", "probability_virginica",
    ]  # fmt: skip
    pd.testing.assert_frame_equal(predicted[table.columns], table)
    assert np.mean(predicted["predicted_answer"] == table["answer"]) > 0.9
    np.testing.assert_allclose(predicted.iloc[:, 6:].sum(axis=1), 1, rtol=1e-5)


def test_the_command_in_the_report_gives_the_same_model(nbbp_says, folder):
    write("iris")
    nbbp_says("train", "iris.csv", "--target", "answer", "--epochs", "5", "--dropout", "0.1", "--output", "one")
    command = re.search(r"^    nbbp (train .*)$", (folder / "one/report.md").read_text(), re.MULTILINE)[1]
    assert nbbp_says(*command.replace("--output one", "--output two").split())[0] == 0
    one, two = (nbbp.load(folder / name / "model.safetensors") for name in ("one", "two"))
    assert one.params.tobytes() == two.params.tobytes()
    assert (folder / "one/history.csv").read_bytes() == (folder / "two/history.csv").read_bytes()
    nbbp_says("train", "iris.csv", "--target", "answer", "--epochs", "5", "--seed", "1", "--output", "three")
    preprocessing = [(folder / name / "preprocessing.json").read_text() for name in ("one", "two", "three")]
    assert preprocessing[0] == preprocessing[1] != preprocessing[2]  # other rows, other means


@pytest.mark.parametrize(
    ("name", "least", "options"),
    [
        ("wine", 0.9, ["--layers", "16,16", "--activation", "tanh"]),
        ("breast_cancer", 0.9, ["--optimizer", "sgd", "--learning-rate", "0.1"]),
        ("diabetes", 0.35, ["--patience", "5", "--batch-size", "32"]),
    ],
)
def test_real_tables(name, least, options, nbbp_says):
    table = write(name)
    code, out, _ = nbbp_says("train", f"{name}.csv", "--target", "answer", "--epochs", "60", *options)
    assert code == 0
    assert score(out)[0] > max(least, score(out)[1] + 0.3 * (name != "breast_cancer"))
    assert f"task: {'regression' if name == 'diabetes' else 'classification'}" in out
    nbbp_says("predict", f"{name}-nbbp", f"{name}.csv", "--output", "predictions.csv")
    predicted = pd.read_csv("predictions.csv")["predicted_answer"]
    if name == "diabetes":
        assert np.corrcoef(predicted, table["answer"])[0, 1] > 0.6
        assert abs(predicted.mean() - table["answer"].mean()) < 20  # in the table's units
    else:
        assert np.mean(predicted == table["answer"]) > least


def test_categories(nbbp_says):
    table = mixed()
    table.drop(columns="price").to_csv("mixed.csv", index=False, sep=";")
    code, out, _ = nbbp_says("train", "mixed.csv", "--target", "left", "--learning-rate", "0.01", "--epochs", "40")
    assert code == 0
    assert "1 columns of numbers, 2 of categories" in out
    assert score(out)[0] > 0.9 > 0.6 > score(out)[1]
    report = pathlib.Path("mixed-nbbp/report.md").read_text()
    assert "- island: 3 categories, a column of 0 and 1 for each" in report
    assert "- town: 20 categories, a column of 0 and 1 for each" in report
    new = mixed(300, seed=1).drop(columns=["left", "price"])
    new.to_csv("new.csv", index=False)
    new.to_parquet("new.parquet")
    assert nbbp_says("predict", "mixed-nbbp", "new.parquet", "--output", "predicted.parquet")[0] == 0
    assert nbbp_says("predict", "mixed-nbbp", "new.csv", "--output", "predicted.csv")[0] == 0
    by_csv, by_parquet = pd.read_csv("predicted.csv"), pd.read_parquet("predicted.parquet")
    assert np.mean(by_csv["predicted_left"] == mixed(300, seed=1)["left"]) > 0.9
    pd.testing.assert_frame_equal(by_csv, by_parquet, check_dtype=False, rtol=1e-6)
    new["island"] = "Elba"
    new[["town", "island", "age"]].to_csv("new.csv", index=False)
    code, out, err = nbbp_says("predict", "mixed-nbbp", "new.csv")
    assert code == 0
    assert err == "new.csv, column 'island': the model has not seen Elba\n"
    assert next(csv.reader(io.StringIO(out)))[:4] == ["town", "island", "age", "predicted_left"]


def test_values_from_parquet_with_columns_left_out(nbbp_says):
    people = mixed().assign(id=[f"person {k}" for k in range(1000)])
    people.to_parquet("people.parquet")
    arguments = ["train", "people.parquet", "--target", "price", "--epochs", "20", "--drop", "left"]
    code, out, _ = nbbp_says(*arguments, "--categorical", "age")
    assert code == 0
    assert "left out: id, an identifier or free text, 850 different texts in 850 rows\n" in out
    assert score(out)[0] > 0.9
    assert "0 columns of numbers, 3 of categories" in out  # age too is a category
    code, out, _ = nbbp_says("predict", "people-nbbp", "people.parquet", "--output", "predicted.parquet")
    assert out == "1,000 predictions written to predicted.parquet: the file's columns and predicted_price\n"
    predicted = pd.read_parquet("predicted.parquet")
    assert np.abs(predicted["predicted_price"] - predicted["price"]).mean() < 60
    people[["age", "island", "town"]].to_parquet("few.parquet")  # nobody asks for the columns that were left out
    assert nbbp_says("predict", "people-nbbp", "few.parquet")[0] == 0


def holes(rows: int = 600) -> pd.DataFrame:
    """The table with missing cells everywhere, an index, and a name with a comma."""
    table = mixed(rows).rename(columns={"price": "price, EUR"})
    rng = np.random.default_rng(1)
    table["age"] = table["age"].astype(float)
    for column in table.columns:
        table.loc[rng.random(rows) < 0.05, column] = None
    return table


@pytest.mark.parametrize(
    ("options", "written"),
    [
        ({}, {}),
        ({"encoding": "latin-1", "sep": ";", "decimal": ","}, {"Dream": "Drôme"}),
        ({"encoding": "utf-16"}, {"Dream": "Δream"}),
        ({"encoding": "utf-16-le"}, {}),
        ({"na_rep": "NA"}, {}),
    ],
)
def test_dirty_files_need_no_preparation(options, written, nbbp_says):
    table = holes().replace(written)
    table.to_csv("data.csv", **options)  # with the index
    name = ["--drop", "price, EUR"] if options else ["--drop", '"price, EUR"']
    code, out, _ = nbbp_says("train", "data.csv", "--target", "left", *name)
    assert code == 0
    lines = out.splitlines()
    if "na_rep" not in options:  # NA is a class then
        count = int(table["left"].isna().sum())
        assert f"without a 'left': {count} rows, which are left out" in lines
        assert score(out)[0] > 0.85
    assert "left out: column 1, row numbers" in lines
    assert "1 columns of numbers, 2 of categories" in lines[0]
    code, out, err = nbbp_says("predict", "data-nbbp", "data.csv", "--output", "out.csv")
    assert (code, err) == (0, "")
    assert len(pd.read_csv("out.csv", sep=options.get("sep", ","))) == 600


def test_missing_numbers_to_predict(nbbp_says):
    table = holes()
    table.to_csv("data.csv", index=False)
    code, out, _ = nbbp_says("train", "data.csv", "--target", "price, EUR", "--drop", "left", "--epochs", "30")
    assert code == 0
    assert score(out)[0] > 0.7
    report = json.loads(pathlib.Path("data-nbbp/report.json").read_text())
    assert report["rows"]["without target"] == table["price, EUR"].isna().sum()
    assert report["left_out"] == {"left": "by --drop"}
    assert [column["name"] for column in report["columns"]] == ["age", "island", "town"]
    assert set(report["scores"]) == {"R2", "mean absolute error", "root of mean square error"}
    command = re.search(r"^    nbbp (train .*)$", pathlib.Path("data-nbbp/report.md").read_text(), re.MULTILINE)[1]
    assert nbbp_says(*shlex.split(command.replace("--output data-nbbp", "--output again")))[0] == 0
    one, two = (nbbp.load(f"{folder}/model.safetensors") for folder in ("data-nbbp", "again"))
    assert one.params.tobytes() == two.params.tobytes()


def test_scores_of_two_classes(nbbp_says):
    metrics = pytest.importorskip("sklearn.metrics")
    table = mixed()
    table.to_csv("data.csv", index=False)
    mixed(300, seed=1).to_csv("new.csv", index=False)
    arguments = ["train", "data.csv", "--target", "left", "--drop", "price", "--epochs", "5", "--test", "new.csv"]
    code, out, _ = nbbp_says(*arguments)
    assert code == 0
    assert "rows: 850 to train, 150 to validate, 300 to test" in out
    scores = json.loads(pathlib.Path("data-nbbp/report.json").read_text())["scores"]
    nbbp_says("predict", "data-nbbp", "new.csv", "--output", "out.csv")
    predicted = pd.read_csv("out.csv")
    truth, p = predicted["left"], predicted["probability_yes"]
    for name, value in (
        ("accuracy", metrics.accuracy_score(truth, predicted["predicted_left"])),
        ("log loss", metrics.log_loss(truth == "yes", p)),
        ("AUC", metrics.roc_auc_score(truth == "yes", p)),
        ("precision of yes", metrics.precision_score(truth, predicted["predicted_left"], pos_label="yes")),
        ("recall of yes", metrics.recall_score(truth, predicted["predicted_left"], pos_label="yes")),
    ):
        assert scores[name]["model"] == pytest.approx(value, abs=1e-5), name
        shown = float(re.search(f"^test {name}: (\\S+);", out, re.MULTILINE)[1])
        assert shown == pytest.approx(value, abs=1e-4), name
    assert scores["AUC"]["baseline"] == 0.5
    balanced = [nbbp_says(*arguments, "--class-weight", weight)[1] for weight in ("yes=20", "no=20")]
    recalls = [float(re.search(r"test recall of yes: (\S+);", text)[1]) for text in balanced]
    assert recalls[0] > recalls[1]
    for weight, message in (("maybe=2", "unknown class 'maybe'"), ("yes=much", "must be a class, =, and a number")):
        assert message in nbbp_says(*arguments, "--class-weight", weight)[2]


def test_rows_in_the_order_of_time(nbbp_says):
    table = mixed(400)
    days = pd.Timestamp("2020-01-01") + pd.to_timedelta(np.random.default_rng(0).permutation(400), "D")
    table["day"] = days.strftime("%d.%m.%Y")
    table.to_csv("data.csv", index=False)
    code, out, _ = nbbp_says(
        "train", "data.csv", "--target", "price", "--drop", "left,day", "--time", "day", "--epochs", "2"
    )
    assert code == 0
    assert "rows: 280 to train, 60 to validate, 60 to test" in out
    scored = json.loads(pathlib.Path("data-nbbp/report.json").read_text())["scores"]["mean absolute error"]["model"]
    nbbp_says("predict", "data-nbbp", "data.csv", "--output", "out.csv")
    predicted = pd.read_csv("out.csv").iloc[np.argsort(days)[-60:]]
    assert np.abs(predicted["predicted_price"] - predicted["price"]).mean() == pytest.approx(scored, rel=1e-4)
    assert "column 'island': " in nbbp_says("train", "data.csv", "--target", "price", "--time", "island")[2]


def test_the_inputs_of_a_preset_are_counted(nbbp_says):
    mixed(100).to_csv("mixed.csv", index=False)
    options = ["--drop", "price", "--preset", "td", "--epochs", "1", "--members", "1"]
    out = nbbp_says("train", "mixed.csv", "--target", "left", *options)[1]
    assert "network: 5-256-256-256-2, " in out  # a number, three islands and the code of a town


def test_several_networks(nbbp_says, folder):
    write("iris")
    arguments = ["train", "iris.csv", "--target", "answer", "--epochs", "20"]
    code, out, _ = nbbp_says(*arguments)
    assert code == 0
    assert re.search(r"network: the mean of 4 networks, each \d+-128-128-128-3, ", out)
    assert score(out)[0] > 0.85
    run = folder / "iris-nbbp"
    assert {path.name for path in run.iterdir()} == FILES
    nbbp_says("predict", "iris-nbbp", "iris.csv", "--output", "out.csv")
    assert np.mean(pd.read_csv("out.csv")["predicted_answer"] == pd.read_csv("iris.csv")["answer"]) > 0.9
    code, out, _ = nbbp_says(*arguments, "--members", "1")
    assert "the run in iris-nbbp is overwritten; --output FOLDER keeps it\n" in out
    assert {path.name for path in run.iterdir()} == OF_ONE
    assert nbbp_says("train", "iris.csv", "--target", "answr")[:2] == (2, "")  # nothing of a run that nobody overwrites


def test_npz(nbbp_says, digits):
    X, y, X_test, y_test = digits
    np.savez("digits.npz", X=X[:600], y=y[:600])
    np.savez("new.npz", X=X_test[:100])
    code, out, _ = nbbp_says("train", "digits.npz", "--epochs", "15", "--output", "run")
    assert code == 0
    assert "y has 10 classes: 0 (" in out
    assert score(out)[0] > 0.8
    nbbp_says("predict", "run", "new.npz", "--output", "predictions.csv")
    assert np.mean(pd.read_csv("predictions.csv")["predicted_y"] == y_test[:100]) > 0.8


@pytest.mark.parametrize(
    ("target", "options", "task"),
    [
        (np.arange(200) % 5, (), "classification"),
        (np.arange(200) % 5, ("--task", "regression"), "regression"),
        (np.arange(200) % 50, (), "regression"),
        (np.arange(200) % 5 / 2, (), "regression"),
        (np.arange(200) % 5 / 2, ("--task", "classification"), "classification"),
        (np.arange(200) % 2 == 0, (), "classification"),
    ],
)
def test_the_task_is_judged_from_the_target(target, options, task, nbbp_says):
    pd.DataFrame({"x": np.arange(200) % 7, "answer": target}).to_csv("data.csv", index=False)
    code, out, _ = nbbp_says("train", "data.csv", "--target", "answer", "--epochs", "1", *options)
    assert code == 0
    assert f"task: {task}" in out


NUMBERS = ["size,age,kind"] + [f"{k / 8},{20 + k},{'xyz'[k % 3]}" for k in range(40)]
FORMS = {
    "plain": lambda lines: "\n".join(lines),
    "byte order mark": lambda lines: "\ufeff" + "\n".join(lines),
    "carriage returns": lambda lines: "\r\n".join(lines) + "\r\n",
    "tabs": lambda lines: "\n".join(lines).replace(",", "\t"),
    "decimal commas": lambda lines: "\n".join(lines).replace(",", ";").replace(".", ","),
    "quoted": lambda lines: "\n".join('"' + line.replace(",", '","') + '"' for line in lines),
    "blank lines and spaces": lambda lines: "\n\n".join(lines).replace(",", ", ") + "\n\n",
}


@pytest.mark.parametrize("form", FORMS)
def test_forms_of_csv(form):
    pathlib.Path("data.csv").write_bytes(FORMS[form](NUMBERS).encode())
    file = read("data.csv")
    table = file.typed(file.columns)
    assert table.to_pydict() == {
        "size": [k / 8 for k in range(40)],
        "age": [20 + k for k in range(40)],
        "kind": ["xyz"[k % 3] for k in range(40)],
    }


def changed(line: int, text: str) -> list[str]:
    """The table with another text on a line, counted as in an editor."""
    return [*NUMBERS[: line - 1], text, *NUMBERS[line:]]


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (changed(5, "0.5,twelve,x"), r"data.csv, line 5, column 'age': 'twelve' is not a number, and 39 of .*--categ"),
        (changed(7, "1e999,5,x"), r"data.csv, line 7, column 'size': must be finite, got inf"),
        (changed(11, "0.5,5"), r"data.csv, line 11: 2 fields, and line 1 names 3 columns"),
        (changed(11, "0.5,5,x,y"), r"data.csv, line 11: 4 fields"),
        ([*NUMBERS[:3], '1,2,"a\n\nb"', "", "1,1e999,x", *NUMBERS[3:]], r"data.csv, line 8, column 'age': must be"),
        (changed(30, '0.5,5,"x'), r"data.csv, line 30: a quote that is not closed"),
        (["a,b,a", *NUMBERS[1:]], r"data.csv, line 1: two columns are called 'a'"),
        (["1,2,3", *NUMBERS[1:]], r"data.csv, line 1: the first line must name the columns"),
        (NUMBERS[:1], r"data.csv has no rows"),
        ([], r"data.csv is empty"),
        (NUMBERS[:9], r"data.csv has 8 rows with a 'kind'; training, validation and test need 20"),
        (
            [NUMBERS[0], *[f"1,2,{'xyz'[k % 3]}" for k in range(40)]],
            r"data.csv has no column to learn .* 'age' \(constant",
        ),
        ([NUMBERS[0], *[f"{k},{k % 5},x" for k in range(40)]], r"kind must have two classes or more, got 'x'"),
        ([NUMBERS[0], *[f"{k % 3},{k % 5}," for k in range(40)]], r"data.csv has 0 rows with a 'kind'"),
        (
            ["day,x,kind", *[f"2020-01-{k % 31 + 1:02},{k % 5},{'xy'[k % 2]}" for k in range(40)], "2020-02-30,1,x"],
            r"data.csv, line 42, column 'day': '2020-02-30' is not a date such as 2020-01-31, .* --categorical",
        ),
        (
            [NUMBERS[0], *[f"{k % 3},{k % 5},class {k % 5000}" for k in range(5200)]],
            r"column 'kind' has 5,000 classes in 5,200 rows, too few to learn from: group them",
        ),
    ],
)
def test_files_that_cannot_be_learned_from(lines, message, nbbp_says, folder):
    pathlib.Path("data.csv").write_text("\n".join(lines), encoding="utf-8", errors="surrogateescape")
    code, out, err = nbbp_says("train", "data.csv", "--target", "kind")
    assert (code, out) == (2, "")
    assert re.fullmatch(f"nbbp train: {message}.*\n", err)
    assert not (folder / "data-nbbp").exists()


@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        ("", 2, "--target is missing: which of the columns size, age, kind is to be predicted?"),
        ("--target Kidn", 2, "no column 'Kidn' (--target). Did you mean 'kind'? Its columns are size, age, kind."),
        ("--target kind --drop agee", 2, "no column 'agee' (--drop). Did you mean 'age'?"),
        ("--target kind --drop age,size", 2, "no column beside the target"),
        ("--target kind --drop kind", 2, "'kind' is the target"),
        ("--target kind --task regression", 2, "column 'kind' holds text; --task regression predicts numbers"),
        ("--target kind --layers 12,x", 2, "'12,x' is not a list of numbers of units, such as 128,64"),
        ("--target kind --activation rleu", 2, "Did you mean 'relu'?"),
        ("--target kind --optimizer adm", 2, "Did you mean 'adam'?"),
        ("--target kind --preset td --layers 12", 2, "--layers is an option of the preset plain, not of td"),
        ("--target kind --preset tdd", 2, "Did you mean 'td'?"),
        ("--target kind --members 20", 2, "20 networks need 42 rows"),
        ("--target kind --folds 1", 2, "--folds must be 2 or more, got 1"),
        ("--target kind --folds 3 --time size", 2, "--folds holds out all rows in turn, --time the last ones"),
        ("--target kind --time kind", 2, "'kind' is the target"),
        ("--target size --class-weight balanced --task regression", 2, "--class-weight weighs classes"),
        ("--target kind --epochs 0", 2, "--epochs must be 1 or more"),
        ("--target kind --validation-share 0.5", 2, "--validation-share must be positive and below 0.5"),
        ("--target kind --output no/such/run", 2, "there is no folder"),
        ("--target kind --output data.csv", 2, "data.csv is a file"),
        ("--target size --optimizer sgd --learning-rate 1e30", 1, "the loss became"),
    ],
)
def test_arguments_that_do_not_fit(options, code, message, nbbp_says):
    pathlib.Path("data.csv").write_text("\n".join(NUMBERS))
    ended, _, err = nbbp_says("train", "data.csv", *options.split())
    assert ended == code
    assert message in err.splitlines()[-1]
    assert err.splitlines()[-1].startswith("nbbp train: ")


def test_files_of_other_kinds(nbbp_says, monkeypatch):
    for name, message in (
        ("data.xlsx", "only .csv, .tsv, .txt, .parquet, .npz are read"),
        ("data.parquet", "cannot be read"),
        ("data.npz", "is no npz file"),
    ):
        pathlib.Path(name).write_text("hello")
        code, _, err = nbbp_says("train", name, "--target", "y")
        assert code == 2
        assert message in err
    np.savez("data.npz", features=np.ones((3, 2)))
    assert "must have an array X" in nbbp_says("train", "data.npz")[2]
    assert nbbp_says("train", "nosuch.csv", "--target", "y") == (2, "", "nbbp train: there is no file nosuch.csv\n")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    code, _, err = nbbp_says("train", "data.npz")
    assert (code, err) == (1, 'nbbp train: reading files needs pyarrow: pip install "nbbp[data]"\n')


@pytest.fixture
def run(nbbp_says):
    """A folder that train has written, and the table it learned from."""
    pathlib.Path("data.csv").write_text("\n".join(NUMBERS))
    assert nbbp_says("train", "data.csv", "--target", "kind", "--epochs", "2", "--output", "run")[0] == 0
    return pathlib.Path("run")


def test_predictions_that_do_not_fit(run, nbbp_says):
    def error(lines: list[str], *options: str) -> str:
        pathlib.Path("new.csv").write_text("\n".join(lines))
        code, _, err = nbbp_says("predict", "run", "new.csv", *options)
        assert code == 2
        return err

    assert "new.csv has no column 'age' (the model wants it). Did you mean 'Age'?" in error(["size,Age", "1,2"])
    assert "new.csv, line 2, column 'age': 'old' is not a number, as the model" in error(["size,age", "1,old"])
    assert "has a column 'predicted_kind' already" in error(["size,age,predicted_kind", "1,2,x"])
    assert "--output must end in .csv or .parquet" in error(["size,age", "1,2"], "--output", "new.xlsx")
    assert "nosuch has no model of a table" in nbbp_says("predict", "nosuch", "data.csv")[2]
    path = run / "preprocessing.json"
    content = json.loads(path.read_text())
    for broken, message in (
        (content | {"format": 1}, "format 1, and this version of nbbp reads 2: train again"),
        ({"format": 2}, "'target' is missing"),
        (content | {"table": content["table"] | {"columns": content["table"]["columns"][:1]}}, "it makes 1 features"),
    ):
        path.write_text(json.dumps(broken))
        assert message in error(["size,age", "1,2"])
    path.write_text("{")
    assert "preprocessing.json does not fit" in error(["size,age", "1,2"])


def test_a_reader_that_has_seen_enough(run):
    pathlib.Path("new.csv").write_text("size,age\n" + "1,2\n" * 50_000)
    arguments = [sys.executable, "-m", "nbbp", "predict", "run", "new.csv"]
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout.readline().startswith(b"size,age,predicted_kind")
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait(timeout=60) == 1


def test_plot(run, nbbp_says):
    nbbp_says("train", "data.csv", "--target", "kind", "--epochs", "3", "--output", "other")
    assert nbbp_says("plot", "run", "other/history.csv", "--output", "curves.svg")[1] == "curves in curves.svg\n"
    drawn = pathlib.Path("curves.svg").read_text()
    assert all(f"<!-- {label} -->" in drawn for label in ("run", "history.csv", "dashed: validation"))
    assert nbbp_says("plot", "run")[0] == 0
    assert pathlib.Path("nbbp-plot.png").read_bytes()[:4] == b"\x89PNG"
    assert "data.csv is not a history" in nbbp_says("plot", "run", "data.csv")[2]
    assert nbbp_says("plot", "nosuch") == (2, "", "nbbp plot: there is no file nosuch\n")


def test_a_history_comes_back_from_its_file():
    history = nbbp.History(steps_per_epoch=3)
    for k in range(4):
        history.add_epoch(loss=1 / (k + 1), val_loss=2 / (k + 3))
    history.to_csv("history.csv")
    again = nbbp.History.from_csv("history.csv")
    assert again.epochs == history.epochs
    (axis,) = nbbp.plots.loss_curves({"a": again}).axes
    np.testing.assert_array_equal(axis.lines[0].get_ydata(), history["loss"])
    pathlib.Path("history.csv").write_text("epoch,loss\n1,0.5\n2,x\n")
    with pytest.raises(ValueError, match=r"history.csv, line 3: must have a number"):
        nbbp.History.from_csv("history.csv")


def test_ctrl_c_in_the_validation_keeps_the_best_epoch(nbbp_says, monkeypatch):
    pathlib.Path("data.csv").write_text("\n".join(NUMBERS))
    measure, calls = Measure.__call__, []

    def interrupted(self, *arguments, **options):
        calls.append(self.network.params.copy())
        if len(calls) == 4:
            raise KeyboardInterrupt
        return measure(self, *arguments, **options)

    monkeypatch.setattr(Measure, "__call__", interrupted)
    options = ["--target", "kind", "--members", "1", "--learning-rate", "0.01"]
    code, out, _ = nbbp_says("train", "data.csv", *options, "--output", "run")
    assert code == 130
    history = nbbp.History.from_csv("run/history.csv")
    assert len(history) == 3
    best = int(np.argmin(history["val_loss"]))
    np.testing.assert_array_equal(nbbp.load("run/model.safetensors").params, calls[best])
    assert f"stopped by Ctrl-C\nthe model is that of epoch {best + 1} of 3, the best on validation\n" in out
    del calls[:3]
    calls += calls * 2
    code, out, err = nbbp_says("train", "data.csv", *options, "--output", "none")
    assert (code, err.splitlines()[-1]) == (130, "stopped")
    assert not pathlib.Path("none").exists()


@pytest.mark.parametrize(("sent", "name", "code"), [(signal.SIGINT, "Ctrl-C", 130), (signal.SIGTERM, "SIGTERM", 143)])
def test_a_signal_ends_a_run(sent, name, code):
    pathlib.Path("data.csv").write_text("\n".join(NUMBERS))
    command = [sys.executable, "-m", "nbbp", "train", "data.csv", "--target", "kind", "--output", "run"]
    command += ["--epochs", "10000000", "--patience", "10000000"]
    environment = os.environ | {"PYTHONUNBUFFERED": "1"}
    for seconds in (1, 5, 30, 120):  # a busy machine may have no epoch after one second
        with subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
        ) as process:
            for line in process.stdout:
                if line.startswith("training:"):
                    break
            time.sleep(seconds)
            process.send_signal(sent)
            out, err = process.communicate(timeout=60)
        assert process.returncode in (code, -sent), err  # before the fit begins, SIGTERM is not held back
        assert "Traceback" not in err
        if "stopped" in out:
            break
    assert f"stopped by {name}\nthe members are those of the epochs" in out
    assert {path.name for path in pathlib.Path("run").iterdir()} == FILES


@pytest.mark.parametrize("command", ["train", "predict", "plot"])
def test_help_has_examples(command, nbbp_says):
    code, out, _ = nbbp_says(command, "--help")
    assert code == 0
    assert f"examples:\n  nbbp {command} iris" in out
    assert "130 stopped by Ctrl-C" in nbbp_says("--help")[1]


def test_a_run_is_exported(run, nbbp_says):
    code, out, _ = nbbp_says("export", "run", "--numpy", "network.py")
    assert (code, out) == (0, "network.py written\nit takes the columns as they are: size, age\n")
    written: dict = {}
    exec(pathlib.Path("network.py").read_text(), written)
    nbbp_says("predict", "run", "data.csv", "--output", "out.csv")
    assert written["predict"](pd.read_csv("data.csv")) == pd.read_csv("out.csv")["predicted_kind"].tolist()
    code, out, _ = nbbp_says("export", "run", "--torch", "weights.safetensors")
    files = ["weights.safetensors", *(f"weights_{k}.safetensors" for k in (2, 3, 4))]
    assert out.startswith(f"{', '.join(files)} written\ncolumns have to be prepared as run/preprocessing.json says")
    assert len({pathlib.Path(file).read_bytes() for file in files}) == 4
    assert nbbp_says("export", "data.csv", "--numpy", "other.py")[0] == 2
