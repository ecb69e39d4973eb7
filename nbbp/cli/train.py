"""nbbp train: from a file to a model and its scores."""

import argparse
import os
import pathlib
import sys

import numpy as np

from nbbp import activations, checks, optimizers
from nbbp.callbacks import EarlyStopping
from nbbp.cli.commands import Command, check_folder
from nbbp.cli.reading import TableFile, read
from nbbp.cli.report import Part, Report
from nbbp.cli.runs import FILES, Run
from nbbp.layers import Dense, Dropout, Layer
from nbbp.sequential import Sequential
from nbbp.tables import ClassTarget, TableEncoder, ValueTarget, check_complete
from nbbp.training.history import History

STOPPED_BY = {"Ctrl-C": 130, "SIGTERM": 143}  # exit codes
LEAST_ROWS = 20
MOST_CLASSES = 20  # of whole numbers; with more, they are values
ROWS_OF_CLASS = 10  # least rows of each class; with fewer, they are values

EXAMPLES = """\
  nbbp train iris.csv --target species
  nbbp train houses.csv --target price --drop id --categorical zip --output houses
  nbbp train churn.parquet --target left --layers 128,64 --dropout 0.2 --learning-rate 0.003
  nbbp train digits.npz                     arrays X (rows, features) and y (rows,)

The first line of a CSV names its columns; commas, semicolons, tabs and bars separate. Columns of numbers are
standardised, text becomes categories. An empty field is a missing value, and in a column of numbers NA, nan, null,
none, ? and - are too; they are errors that name the line. Ctrl-C stops, and writes the best model so far."""


def register(command: Command) -> None:
    sub = command("train", train, EXAMPLES)
    sub.add_argument("file", help="CSV, Parquet or npz")
    sub.add_argument("--target", metavar="COLUMN", help="what to predict (for npz: y)")
    sub.add_argument("--task", choices=("classification", "regression"), help="judged from the target if left out")
    sub.add_argument(
        "--drop", type=_names, default=[], metavar="COLUMN,...", help="columns to leave out, such as an id"
    )
    sub.add_argument(
        "--categorical", type=_names, default=[], metavar="COLUMN,...", help="columns of numbers that are categories"
    )
    sub.add_argument("--output", metavar="FOLDER", help="for model, curve and report (the file's name with -nbbp)")
    network = sub.add_argument_group("network and training")
    network.add_argument(
        "--layers", type=_units, metavar="UNITS,...", help="units of the hidden layers (from the number of rows)"
    )
    network.add_argument("--activation", default="relu", metavar="NAME", help="of the hidden layers (%(default)s)")
    network.add_argument(
        "--dropout", type=float, default=0.0, metavar="SHARE", help="after hidden layers (%(default)s)"
    )
    network.add_argument("--optimizer", default="adam", metavar="NAME", help="such as sgd or adamw (%(default)s)")
    network.add_argument("--learning-rate", type=float, metavar="RATE", help="the optimizer's own if left out")
    network.add_argument("--epochs", type=int, default=200, metavar="N", help="at most (%(default)s)")
    network.add_argument("--batch-size", type=int, metavar="ROWS", help="of a mini-batch (from the number of rows)")
    network.add_argument(
        "--patience", type=int, default=20, metavar="N", help="epochs without a better validation loss (%(default)s)"
    )
    network.add_argument(
        "--validation-share",
        type=float,
        default=0.15,
        metavar="SHARE",
        help="of the rows that decide when to stop; as large a share again tests the model (%(default)s)",
    )
    network.add_argument("--seed", type=int, default=0, help="of the split, the weights and the order (%(default)s)")


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]


def _units(text: str) -> list[int]:
    try:
        units = [int(number) for number in text.split(",")]
    except ValueError:
        units = [0]
    if min(units) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a list of numbers of units, such as 128,64")
    return units


def train(arguments) -> int:
    """Train a network on a table, write it into a folder, and report its scores."""
    _check_arguments(arguments)
    file = read(arguments.file)
    if file.table.num_rows < LEAST_ROWS:
        raise ValueError(f"{file.path} has {file.table.num_rows} rows; training, validation and test need {LEAST_ROWS}")
    columns = _columns(file, arguments)
    folder = _folder(file, arguments)
    with file.located():
        table = file.typed([*columns, arguments.target], text=_text(arguments))
        check_complete(arguments.file, table.select(columns))
        known = table[arguments.target]
        target = _target(known, arguments)
        rows = _split(target.encode(known, arguments.target), arguments.validation_share, arguments.seed)
        if isinstance(target, ValueTarget):
            target = ValueTarget.fit(known.take(rows["train"]), arguments.target)
        encoder = TableEncoder.fit(table.select(columns).take(rows["train"]), arguments.categorical, arguments.file)
        X, y = encoder.encode(table, arguments.file), target.encode(known, arguments.target)
    parts = {part: Part(X[chosen], y[chosen]) for part, chosen in rows.items()}
    _choose(arguments, len(rows["train"]))
    report = Report(encoder, target, parts, _model(encoder, target, arguments), arguments)
    print(report.plan, flush=True)
    history, best_epoch = _fit(report.model, parts, arguments)
    Run(report.model, encoder, target, arguments.target).write(folder, history, report.text(history, best_epoch))
    print(report.outcome(history, best_epoch))
    print(f"written to {folder}: {', '.join(FILES)}")
    return STOPPED_BY.get(history.stopped, 0)


def _fit(model: Sequential, parts: dict[str, Part], arguments) -> tuple[History, int]:
    """Train; returns the history and the best epoch, whose parameters the model has, also after Ctrl-C."""
    stopping = EarlyStopping("val_loss", arguments.patience)
    training, validation = parts["train"], parts["validation"]
    try:
        history = model.fit(
            training.X, training.y, arguments.epochs, arguments.batch_size, (validation.X, validation.y),
            callbacks=[stopping], verbose=int(sys.stderr.isatty()),
        )  # fmt: skip
    except (KeyboardInterrupt, SystemExit) as signal:
        if not model.history:  # no epoch is complete
            raise
        history = model.history
        history.stopped = "Ctrl-C" if isinstance(signal, KeyboardInterrupt) else "SIGTERM"
        print(f"\nstopped by {history.stopped}")
    return history, stopping.best_epoch


def _check_arguments(arguments) -> None:
    """Check the arguments before the file is read."""
    checks.positive_integer("--epochs", arguments.epochs)
    checks.positive_integer("--patience", arguments.patience)
    if arguments.batch_size is not None:
        checks.positive_integer("--batch-size", arguments.batch_size)
    checks.number("--dropout", arguments.dropout, high=1.0)
    checks.number("--validation-share", arguments.validation_share, high=0.5, open_low=True)
    checks.choose("activation", arguments.activation, activations.ACTIVATIONS)
    _optimizer(arguments)
    if arguments.seed < 0:
        raise ValueError(f"--seed must be 0 or more, got {arguments.seed}")


def _optimizer(arguments) -> optimizers.Optimizer:
    kind = checks.choose("optimizer", arguments.optimizer, optimizers.OPTIMIZERS)
    return kind() if arguments.learning_rate is None else kind(arguments.learning_rate)


def _columns(file: TableFile, arguments) -> list[str]:
    """The columns of the network's input; sets the arguments' target."""
    if arguments.target is None and file.path.suffix.lower() == ".npz":
        arguments.target = "y"
    if arguments.target is None:
        raise ValueError(f"--target is missing: which of the columns {', '.join(file.columns)} is to be predicted?")
    target = arguments.target
    for option, names in (("target", [target]), ("drop", arguments.drop), ("categorical", arguments.categorical)):
        for name in names:
            file.check_column(name, f"--{option}")
    if target in (*arguments.drop, *arguments.categorical):
        raise ValueError(f"{target!r} is the target, and cannot be in --drop or --categorical")
    columns = [name for name in file.columns if name != target and name not in arguments.drop]
    if not columns:
        raise ValueError(f"{file.path} has no column beside the target to learn from")
    return columns


def _folder(file: TableFile, arguments) -> pathlib.Path:
    """The folder of the run; sets the arguments' output."""
    arguments.output = arguments.output or f"{file.path.stem}-nbbp"
    folder = pathlib.Path(arguments.output)
    check_folder(arguments.output)
    if folder.exists() and not folder.is_dir():
        raise FileExistsError(f"--output: {folder} is a file")
    if not os.access(folder if folder.exists() else folder.absolute().parent, os.W_OK):
        raise PermissionError(f"--output: {folder} may not be written")
    if any((folder / name).exists() for name in FILES):
        print(f"the run in {folder} will be overwritten; --output FOLDER keeps it")
    return folder


def _text(arguments) -> list[str]:
    """The columns that must not be read as numbers."""
    return [*arguments.categorical, *([arguments.target] if arguments.task == "classification" else [])]


def _target(known, arguments) -> ClassTarget | ValueTarget:
    """Classes for text, and for few whole numbers if each occurs often; values otherwise."""
    name, y = arguments.target, np.asarray(known)
    if y.dtype.kind in "iuf" and arguments.task != "classification":
        different = np.unique(y)
        whole = np.all(different == np.floor(different))
        few = len(different) <= max(2, min(MOST_CLASSES, len(y) // ROWS_OF_CLASS))
        if arguments.task == "regression" or not (whole and few):
            return ValueTarget.fit(known, name)
    elif arguments.task == "regression" and y.dtype.kind != "b":
        raise ValueError(f"column {name!r} holds text; --task regression predicts numbers")
    target = ClassTarget.fit(known, name)
    if len(target.classes) > len(y) // 2:
        raise ValueError(
            f"column {name!r} has {len(target.classes):,} classes in {len(y):,} rows, too few to learn from"
        )
    return target


def _split(y: np.ndarray, share: float, seed: int) -> dict[str, np.ndarray]:
    """Rows for training, validation and testing, each with the same distribution of classes or values.

    Rows sorted by y are cut into as many stretches as rows are held out; one row of each is drawn at random, in turn
    for validation and for testing.
    """
    rng = np.random.default_rng(seed)
    order = np.lexsort((rng.random(len(y)), y))
    pairs = max(1, round(share * len(y)))
    begins = np.arange(2 * pairs + 1) * len(y) // (2 * pairs)
    held = order[rng.integers(begins[:-1], begins[1:])].reshape(pairs, 2)
    held = rng.permuted(held, axis=1)
    rest = np.setdiff1d(np.arange(len(y)), held)
    return {"train": rest, "validation": np.sort(held[:, 0]), "test": np.sort(held[:, 1])}


def _choose(arguments, rows: int) -> None:
    """Set omitted arguments by the number of rows: about fifty mini-batches an epoch, larger layers for more rows."""
    if arguments.batch_size is None:
        arguments.batch_size = int(np.clip(2 ** round(np.log2(rows / 50)), 16, 256))
    if arguments.layers is None:
        arguments.layers = [32] if rows < 500 else [64, 64] if rows < 20_000 else [256, 128]


def _model(encoder: TableEncoder, target: ClassTarget | ValueTarget, arguments) -> Sequential:
    layers: list[Layer] = encoder.layers()
    for units in arguments.layers:
        layers.append(Dense(units, arguments.activation))
        if arguments.dropout:
            layers.append(Dropout(arguments.dropout))
    if isinstance(target, ClassTarget):
        outputs, loss, metric = len(target.classes), "softmax_cross_entropy", "accuracy"
    else:
        outputs, loss, metric = 1, "mse", "r2"
    model = Sequential([*layers, Dense(outputs)], loss, _optimizer(arguments), [metric], arguments.seed)
    model.build(len(encoder.features))
    return model
