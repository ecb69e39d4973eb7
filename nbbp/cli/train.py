"""nbbp train: from a file to a model and its scores."""

import argparse
import contextlib
import csv
import dataclasses
import io
import os
import pathlib
import time
import warnings
from typing import Any

import numpy as np

from nbbp import activations, checks, optimizers
from nbbp.cli.commands import Command, check_folder
from nbbp.cli.reading import TableFile, read
from nbbp.cli.report import Part, Report
from nbbp.cli.rows import LEAST_ROWS, Rows, by_time, cells_for, drawn, target_of
from nbbp.cli.runs import REPORT, write_run
from nbbp.distributed import Ranks, launched
from nbbp.recipes.presets import PRESETS, Plain, Preset, Target
from nbbp.recipes.tabular import VALIDATION_SHARE, TableTraining
from nbbp.tables import ClassTarget, TableEncoder, ValueTarget
from nbbp.tables.cells import cells

STOPPED_BY = {"Ctrl-C": 130, "SIGTERM": 143}  # exit codes
OF_PRESETS = {"layers": "hidden"} | {
    name: name for name in ("activation", "dropout", "optimizer", "learning_rate", "epochs", "batch_size")
}  # options, and the preset's fields

EXAMPLES = """\
  nbbp train iris.csv --target species
  nbbp train houses.csv --target price --drop notes --categorical zip --output houses
  nbbp train sales.csv --target sold --time day --members 4
  nbbp train churn.parquet --target left --test churn-2024.parquet --class-weight balanced
  nbbp train digits.npz                     arrays X (rows, features) and y (rows,)

The first line of a CSV names its columns; commas, semicolons, tabs and bars separate; UTF-8, UTF-16 and Latin-1 are
read. Numbers, text, dates and missing values need no preparation. An empty field is a missing value, and in a column
of numbers or dates NA, nan, null, none, ? and - are too. Columns that are constant, nearly empty, or number the rows
are left out. Ctrl-C stops, and writes the best model so far."""


def register(command: Command) -> None:
    sub = command("train", train, EXAMPLES)
    sub.add_argument("file", help="CSV, Parquet or npz")
    sub.add_argument("--target", metavar="COLUMN", help="what to predict (for npz: y)")
    sub.add_argument("--task", choices=("classification", "regression"), help="judged from the target if left out")
    sub.add_argument(
        "--drop", action="append", default=[], metavar="COLUMN,...", help="columns to leave out; may be repeated"
    )
    sub.add_argument(
        "--categorical",
        action="append",
        default=[],
        metavar="COLUMN,...",
        help="columns of numbers that are categories",
    )
    sub.add_argument("--class-weight", metavar="balanced|CLASS=WEIGHT,...", help="the weight of each class in the loss")
    sub.add_argument("--output", metavar="FOLDER", help="for model, curve and report (the file's name with -nbbp)")
    rows = sub.add_argument_group("rows")
    rows.add_argument("--time", metavar="COLUMN", help="validate and test on the last rows by this number or date")
    rows.add_argument("--test", metavar="FILE", help="test on the rows of another file")
    rows.add_argument(
        "--validation-share",
        type=float,
        default=VALIDATION_SHARE,
        metavar="SHARE",
        help="of the rows that decide which epoch is best; as large a share again tests the model (%(default)s)",
    )
    rows.add_argument("--seed", type=int, default=0, help="of the split, the weights and the order (%(default)s)")
    network = sub.add_argument_group("network and training")
    network.add_argument("--preset", default="plain", metavar="NAME", help=f"{', '.join(PRESETS)} (%(default)s)")
    network.add_argument(
        "--members", type=int, default=4, metavar="N", help="networks whose mean is the model (%(default)s)"
    )
    network.add_argument("--folds", type=int, metavar="K", help="hold out each of K parts of the rows from N networks")
    network.add_argument("--layers", type=_units, metavar="UNITS,...", help="units of the hidden layers")
    network.add_argument("--activation", metavar="NAME", help="of the hidden layers")
    network.add_argument("--dropout", type=float, metavar="SHARE", help="after hidden layers")
    network.add_argument("--optimizer", metavar="NAME", help="such as sgd or adamw")
    network.add_argument(
        "--learning-rate", type=float, metavar="RATE", help="the largest; it rises and falls in cycles"
    )
    network.add_argument("--epochs", type=int, metavar="N", help="of which the best on validation is taken")
    network.add_argument("--batch-size", type=int, metavar="ROWS", help="of a mini-batch")
    network.add_argument(
        "--patience", type=int, metavar="N", help="stop after so many epochs without a better validation loss"
    )


def _units(text: str) -> tuple[int, ...]:
    try:
        units = tuple(int(number) for number in text.split(","))
    except ValueError:
        units = (0,)
    if min(units) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a list of numbers of units, such as 128,64")
    return units


def train(arguments) -> int:
    """Train networks on a table, write them into a folder, and report their scores."""
    ranks = launched()
    said = contextlib.nullcontext() if ranks.is_first else contextlib.redirect_stdout(io.StringIO())
    with ranks.together(), said:
        return _train(arguments, ranks)


def _train(arguments, ranks: Ranks) -> int:
    """The same on each of the processes that `mpiexec` has started, of which the first writes."""
    preset = _preset(arguments)
    file = read(arguments.file)
    columns = _columns(file, arguments)
    folder = _folder(file, arguments)
    with file.located():
        rows, target, parts = _rows(file, columns, arguments)
        learned = np.sort(np.concatenate([parts["train"], parts["validation"]]))
        if isinstance(target, ValueTarget):
            target = ValueTarget.fit(rows.known.take(learned), arguments.target)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the report says which columns are left out
            known = rows.take(learned)
            labels = target.encode(rows.known.take(learned), arguments.target)
            encoder = TableEncoder.fit_cells(
                known, True, arguments.categorical, arguments.file, **preset.encoding(known, labels)
            )
        data = _part(encoder, target, rows, arguments)
    tested = _tested(encoder, target, arguments) if arguments.test else data.take(parts["test"])
    data = data.take(learned)
    validation = None  # each network has rows of its own
    if arguments.time or (arguments.members == 1 and not arguments.folds):
        validation = np.searchsorted(learned, parts["validation"])
    training = TableTraining(
        encoder, target, data.X, data.y, preset, arguments.members, validation, arguments.validation_share,
        arguments.folds, _weights(target, data.y, arguments), arguments.patience, arguments.seed, arguments.target,
    )  # fmt: skip
    report = Report(training, data, tested, rows.dropped, arguments)
    print(report.plan, flush=True)
    if (folder / REPORT).exists():
        print(f"the run in {folder} is overwritten; --output FOLDER keeps it", flush=True)
    begin = time.perf_counter()
    stopped = _run(training, ranks)
    if not ranks.is_first:
        return STOPPED_BY.get(stopped, 0)
    seconds = time.perf_counter() - begin
    written = write_run(
        folder, training.model, training.histories, report.text(stopped), report.page(seconds, stopped),
        report.to_dict(seconds, stopped),
    )  # fmt: skip
    print(report.outcome())
    print(f"written to {folder}: {', '.join(written)}")
    return STOPPED_BY.get(stopped, 0)


def _rows(file: TableFile, columns: list[str], arguments) -> tuple[Rows, Target, dict[str, np.ndarray]]:
    """The rows of the file, their target, and which of them train, validate and test."""
    wanted = columns if arguments.time in (None, *columns) else [*columns, arguments.time]
    table = file.typed(wanted, text=arguments.categorical)
    rows = Rows.of(file, cells(arguments.file, table), arguments.target, arguments.task == "classification")
    if len(rows) < LEAST_ROWS:
        raise ValueError(
            f"{file.path} has {len(rows)} rows with a {arguments.target!r}; training, validation and test need "
            f"{LEAST_ROWS}"
        )
    target = target_of(rows.known, arguments.target, arguments.task)
    parts = _split(rows, target.encode(rows.known, arguments.target), arguments)
    return rows.only(columns), target, parts


def _run(training: TableTraining, ranks: Ranks) -> str:
    """Train; returns what stopped it, if something did. The members have the parameters of their best epochs."""
    try:
        training.run(verbose=1, communicator=ranks.communicator)
    except (KeyboardInterrupt, SystemExit) as signal:
        if len(training.histories) < len(training.folds) or not all(map(len, training.histories)):
            raise  # no epoch is complete
        stopped = "Ctrl-C" if isinstance(signal, KeyboardInterrupt) else "SIGTERM"
        print(f"\nstopped by {stopped}")
        return stopped
    return ""


def _preset(arguments) -> Preset:
    """The preset with the arguments' changes; checks the arguments before the file is read."""
    preset: Preset = checks.choose("preset", arguments.preset, PRESETS)
    known = {field.name for field in dataclasses.fields(preset)}
    changes = {}
    for option, field in OF_PRESETS.items():
        if (value := getattr(arguments, option)) is not None:
            if field not in known:
                name = option.replace("_", "-")
                raise ValueError(f"--{name} is an option of the preset plain, not of {arguments.preset}")
            changes[field] = value
    for option in ("epochs", "batch_size", "patience", "members"):
        if getattr(arguments, option) is not None:
            checks.positive_integer(f"--{option.replace('_', '-')}", getattr(arguments, option))
    if arguments.dropout is not None:
        checks.number("--dropout", arguments.dropout, high=1.0)
    if arguments.learning_rate is not None:
        checks.number("--learning-rate", arguments.learning_rate, open_low=True)
    checks.number("--validation-share", arguments.validation_share, high=0.5, open_low=True)
    if arguments.folds is not None:
        checks.integer("--folds", arguments.folds, least=2)
        if arguments.time:
            raise ValueError("--folds holds out all rows in turn, --time the last ones: give one of them")
    if arguments.seed < 0:
        raise ValueError(f"--seed must be 0 or more, got {arguments.seed}")
    preset = dataclasses.replace(preset, **changes)
    if isinstance(preset, Plain):
        checks.choose("activation", preset.activation, activations.ACTIVATIONS)
        checks.choose("optimizer", preset.optimizer, optimizers.OPTIMIZERS)
    return preset


def _columns(file: TableFile, arguments) -> list[str]:
    """The columns of the network's input; replaces the arguments' lists of columns by their names."""
    if arguments.target is None and file.path.suffix.lower() == ".npz":
        arguments.target = "y"
    if arguments.target is None:
        raise ValueError(f"--target is missing: which of the columns {', '.join(file.columns)} is to be predicted?")
    target = arguments.target
    arguments.drop, arguments.categorical = (_names(file, given) for given in (arguments.drop, arguments.categorical))
    wanted = [("target", [target]), ("drop", arguments.drop), ("categorical", arguments.categorical)]
    for option, names in [*wanted, ("time", [arguments.time] if arguments.time else [])]:
        for name in names:
            file.check_column(name, f"--{option}")
    if target in (*arguments.drop, *arguments.categorical, arguments.time):
        raise ValueError(f"{target!r} is the target, and cannot be in --drop, --categorical or --time")
    columns = [name for name in file.columns if name != target and name not in arguments.drop]
    if not columns:
        raise ValueError(f"{file.path} has no column beside the target to learn from")
    return columns


def _names(file: TableFile, given: list[str]) -> list[str]:
    """The columns that are named, one by one or separated by commas; quotes enclose names with commas."""
    names: list[str] = []
    for text in given:
        fields = [text] if text in file.columns else next(csv.reader([text], skipinitialspace=True), [])
        names += [field.strip() for field in fields if field.strip()]
    return names


def _folder(file: TableFile, arguments) -> pathlib.Path:
    """The folder of the run; sets the arguments' output."""
    arguments.output = arguments.output or f"{file.path.stem}-nbbp"
    folder = pathlib.Path(arguments.output)
    check_folder(arguments.output)
    if folder.exists() and not folder.is_dir():
        raise FileExistsError(f"--output: {folder} is a file")
    if not os.access(folder if folder.exists() else folder.absolute().parent, os.W_OK):
        raise PermissionError(f"--output: {folder} may not be written")
    return folder


def _split(rows: Rows, y: np.ndarray, arguments) -> dict[str, np.ndarray]:
    """The rows to train, to validate and, unless another file has them, to test."""
    parts = ["validation"] if arguments.test else ["validation", "test"]
    if arguments.time:
        return by_time(rows.only([arguments.time]).columns[0], parts, arguments.validation_share)
    return drawn(y, parts, arguments.validation_share, arguments.seed)


def _tested(encoder: TableEncoder, target: Target, arguments) -> Part:
    """The rows of the test file that have a target."""
    file = read(arguments.test)
    file.check_column(arguments.target, "--target")
    with file.located():
        text = isinstance(target, ClassTarget) and isinstance(target.classes[0], str)
        rows = Rows.of(file, cells_for(file, encoder), arguments.target, text)
        if not len(rows):
            raise ValueError(f"{file.path} has no rows with a {arguments.target!r}")
        return _part(encoder, target, rows, arguments)


def _part(encoder: TableEncoder, target: Target, rows: Rows, arguments) -> Part:
    """Rows in the network's form."""
    return Part(rows.columns, encoder.encode_cells(rows.columns), target.encode(rows.known, arguments.target))


def _weights(target: Target, y: np.ndarray, arguments) -> np.ndarray | None:
    """The weight of each row by --class-weight."""
    given = arguments.class_weight
    if given is None:
        return None
    if not isinstance(target, ClassTarget):
        raise ValueError(f"--class-weight weighs classes, and {arguments.target!r} is a number")
    weights: Any = given
    if given != "balanced":
        known = {str(label): k for k, label in enumerate(target.classes)}
        weights = dict.fromkeys(known.values(), 1.0)
        for text in next(csv.reader([given], skipinitialspace=True)):
            label, _, weight = text.rpartition("=")
            checks.choose("class", label, known)
            try:
                weights[known[label]] = float(weight)
            except ValueError:
                raise ValueError(f"--class-weight: {text!r} must be a class, =, and a number, such as yes=3") from None
    return checks.weights(y[:, np.newaxis], None, weights, np.float64)
