"""nbbp predict: a trained model's answers for a new file."""

import contextlib
import csv
import pathlib
import sys

import numpy as np

from nbbp.cli.commands import Command, check_folder
from nbbp.cli.reading import TableFile, read
from nbbp.cli.rows import cells_for
from nbbp.recipes.tabular import TableModel
from nbbp.tables import ClassTarget

SHOWN = 20  # unknown categories of a column

EXAMPLES = """\
  nbbp predict iris-nbbp new.csv
  nbbp predict iris-nbbp new.csv --output predictions.csv
  nbbp predict houses new.parquet --output predictions.parquet

The predictions follow the file's own columns: a class and the probability of each class, or a value. Columns are
found by their names; those that the model was not trained on are kept. Values may be missing."""


def register(command: Command) -> None:
    sub = command("predict", predict, EXAMPLES)
    sub.add_argument("folder", help="folder that nbbp train has written")
    sub.add_argument("file", help="CSV, Parquet or npz")
    sub.add_argument("--output", metavar="FILE", help=".csv or .parquet (CSV to the standard output if left out)")


def predict(arguments) -> None:
    """Predict the rows of a file with a model that nbbp train has written."""
    if arguments.output:
        check_folder(arguments.output)
        if pathlib.Path(arguments.output).suffix.lower() not in (".csv", ".parquet"):
            raise ValueError(f"--output must end in .csv or .parquet, got {arguments.output}")
    model = TableModel.load(arguments.folder)
    file = read(arguments.file)
    encoder = model.encoder
    with file.located():
        columns = cells_for(file, encoder)
        X = encoder.encode_cells(columns)
    for name, unknown in encoder.unknown_cells(columns).items():
        shown = ", ".join(unknown[:SHOWN]) + (f" and {len(unknown) - SHOWN:,} more" if len(unknown) > SHOWN else "")
        print(f"{arguments.file}, column {name!r}: the model has not seen {shown}", file=sys.stderr)
    answers = _answers(model, X)
    for name in answers:
        if name in file.columns:
            raise ValueError(f"{arguments.file} has a column {name!r} already; rename it or leave it out")
    _write(file, answers, arguments.output)
    if arguments.output:
        print(f"{len(X):,} predictions written to {arguments.output}: the file's columns and {', '.join(answers)}")


def _answers(model: TableModel, X: np.ndarray) -> dict[str, list]:
    """The new columns."""
    prediction, name, target = model.decoded(X), f"predicted_{model.target_name}", model.target
    if not isinstance(target, ClassTarget):
        return {name: prediction.tolist()}
    probabilities = {f"probability_{c}": prediction[:, k].tolist() for k, c in enumerate(target.classes)}
    return {name: target.decode(prediction.argmax(axis=1)), **probabilities}


def _write(file: TableFile, answers: dict[str, list], output: str | None) -> None:
    import pyarrow as pa
    from pyarrow import parquet

    table = file.table
    if output and output.lower().endswith(".parquet"):
        for name, values in answers.items():
            table = table.append_column(name, pa.array(values))
        parquet.write_table(table, output)
        return
    texts = {name: [f"{v:.7g}" if isinstance(v, float) else v for v in values] for name, values in answers.items()}
    columns = [*(column.to_pylist() for column in table.columns), *texts.values()]
    with (
        contextlib.nullcontext(sys.stdout) if output is None else open(output, "w", newline="", encoding="utf-8") as out
    ):
        writer = csv.writer(out, delimiter=file.delimiter or ",", lineterminator="\n")
        writer.writerow([*table.column_names, *texts])
        writer.writerows(zip(*columns, strict=True))
