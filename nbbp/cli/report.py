"""The report of `nbbp train`: how a model was trained, and its scores on rows that it has not seen."""

import dataclasses
import datetime
import functools
import shlex
from collections.abc import Sequence
from typing import Any

import numpy as np

from nbbp._version import __version__
from nbbp.cli import html
from nbbp.cli.linear import linear_prediction
from nbbp.cli.scores import constant, is_worse, scores, shown
from nbbp.insight.columns import partial_dependence, permutation_importance
from nbbp.recipes.presets import Plain, Target
from nbbp.recipes.tabular import TableModel, TableTraining
from nbbp.tables import ClassTarget, ValueTarget
from nbbp.tables.cells import Cells

SHOWN = 20  # classes in the table of confusions
CURVES = 6  # columns whose dependence is drawn
FORMAT = 1  # of report.json


@dataclasses.dataclass(frozen=True)
class Part:
    """Rows of the data: their columns, and X (rows, features) and y (rows,) in the network's form."""

    columns: Sequence[Cells]
    X: np.ndarray
    y: np.ndarray

    def take(self, rows: np.ndarray) -> "Part":
        """Some of the rows."""
        return Part([column.take(rows) for column in self.columns], self.X[rows], self.y[rows])


class Report:
    """The report of one run: `plan` before it, the rest after it.

    Parameters
    ----------
    training : TableTraining
    learned, test : Part
        The rows to train and to validate on, and those to test on.
    dropped : int
        The number of rows without a target.
    arguments : argparse.Namespace
        Those of the command.
    """

    def __init__(self, training: TableTraining, learned: Part, test: Part, dropped: int, arguments: Any) -> None:
        self.training, self.learned, self.test, self.arguments = training, learned, test, arguments
        self.dropped = dropped

    @property
    def model(self) -> TableModel:
        return self.training.model

    @property
    def target(self) -> Target:
        return self.model.target

    @property
    def plan(self) -> str:
        """The data, the task and the network, a line each."""
        lines = [f"{self.arguments.file}: {len(self.learned.y) + len(self.test.y):,} rows; {self._columns()}"]
        if self.arguments.test:
            lines = [f"{self.arguments.file}: {len(self.learned.y):,} rows; {self._columns()}"]
        if self.dropped:
            lines.append(f"without a {self.arguments.target!r}: {self.dropped:,} rows, which are left out")
        lines += [f"left out: {name}, {why}" for name, why in self.model.encoder.left_out.items()]
        rows = self._rows()
        lines += [
            f"task: {self._task()}",
            f"rows: {rows['train']:,} to train, {rows['validation']:,} to validate, {rows['test']:,} to test",
            f"network: {self._network()}",
            f"training: {self._training()}",
        ]
        return "\n".join(lines)

    def outcome(self) -> str:
        """The epochs of the members, and the scores of the model, a line each."""
        lines = self._chosen()
        for name, found in self._scores.items():
            model, base = (shown(name, found[of]) for of in ("model", "baseline"))
            lines.append(f"test {name}: {model}; {self._baseline()}: {base}")
        return "\n".join([*lines, *self._warnings()])

    def text(self, stopped: str = "") -> str:
        """The whole report in Markdown."""
        rows = self._rows()
        models = {"model": "model", "baseline": self._baseline(), "linear": "linear model"}
        models = {model: title for model, title in models.items() if model in self._predictions}
        table = [
            f"| {n} | {' | '.join(shown(n, found[model]) for model in models)} |" for n, found in self._scores.items()
        ]
        lines = [
            f"# {self.arguments.target}, predicted from {self.arguments.file}",
            "",
            f"## Scores on {rows['test']:,} rows that the model has not seen",
            "",
            f"| | {' | '.join(models.values())} |",
            f"|{'---|' * (len(models) + 1)}",
            *table,
            "",
            *(line for warning in self._warnings() for line in (warning, "")),
            *self._confusion_table(),
            "![losses](curve.png)",
            "",
            "## Data",
            "",
            f"- task: {self._task()}",
            f"- {rows['train']:,} rows to train, {rows['validation']:,} to choose the best epoch, {rows['test']:,} to",
            f"  test, {self._how_drawn()}",
            *[f"- {self.dropped:,} rows without a {self.arguments.target!r} are left out"] * bool(self.dropped),
            *(f"- {column.name}: {column.description}" for column in self.model.encoder.columns),
            *(f"- {name}: left out, {why}" for name, why in self._left_out().items()),
            "",
            "## Network",
            "",
            "```",
            self.model.members[0].summary(),
            "```",
            "",
            f"- {self._training()}",
            *(f"- {line}" for line in self._chosen()),
            *[f"- stopped: {stopped}"] * bool(stopped),
            "",
            "## Commands",
            "",
            f"    {self.command}",
            f"    {self._predict()}",
            "",
            f"nbbp {__version__}",
            "",
        ]
        return "\n".join(lines)

    def page(self, seconds: float, stopped: str = "") -> str:
        """The whole report as an HTML page, with figures."""
        from nbbp.cli import figures

        drawn = {
            "losses": figures.of_losses(self.training.histories),
            "predictions": figures.of_predictions(self.target, self.test.y, self._predictions["model"]),
            "columns": figures.of_columns(self.target, self._dependence),
        }
        return html.page(self.to_dict(seconds, stopped), drawn)

    def to_dict(self, seconds: float, stopped: str = "") -> dict[str, Any]:
        """The report as plain values for JSON; `seconds` is how long the training took."""
        classes = list(self.target.classes) if isinstance(self.target, ClassTarget) else None
        return {
            "format": FORMAT,
            "nbbp": __version__,
            "file": self.arguments.file,
            "target": {"column": self.arguments.target, **self.target.to_dict()},
            "rows": self._rows() | {"without target": self.dropped},
            "columns": [
                {"name": column.name, "kind": column.kind, "encoding": column.description, "features": column.features}
                for column in self.model.encoder.columns
            ],
            "left_out": self._left_out(),
            "task": self._task(),
            "split": self._how_drawn(),
            "scores": self._scores,
            "baseline": self._baseline(),
            "warnings": self._warnings(),
            "confusions": self._confusions().tolist() if classes and len(classes) <= SHOWN else None,
            "importance": self._importance,
            "dependence": {
                name: {"values": [str(v) if isinstance(v, datetime.date) else v for v in values], "mean": mean.tolist()}
                for name, (values, mean) in self._dependence.items()
            },
            "network": self._network(),
            "training": self._training(),
            "preset": self.arguments.preset,
            "members": len(self.model.members),
            "parameters": self.model.members[0].params.size,
            "best_epochs": self.training.best_epochs,
            "epochs": [len(history) for history in self.training.histories],
            "seconds": seconds,
            "stopped": stopped,
            "command": self.command,
            "predict": self._predict(),
        }

    def _rows(self) -> dict[str, int]:
        train, validation = self.training.folds[0]
        return {"train": len(train), "validation": len(validation), "test": len(self.test.y)}

    def _how_drawn(self) -> str:
        if self.arguments.time:
            return f"the last ones by {self.arguments.time}"
        drawn = "the classes" if isinstance(self.target, ClassTarget) else "small and large values"
        return f"with {drawn} in the same shares"

    def _task(self) -> str:
        if isinstance(self.target, ValueTarget):
            mean, deviation = self.target.mean, self.target.deviation
            return (
                f"regression, {self.arguments.target} is a number (mean {mean:.4g}, standard deviation {deviation:.4g})"
            )
        everything = self.learned.y if self.arguments.test else np.concatenate([self.learned.y, self.test.y])
        counts = np.bincount(everything, minlength=len(self.target.classes))
        named = [f"{label} ({n:,})" for label, n in zip(self.target.classes, counts, strict=True)]
        listed = ", ".join(named[:SHOWN]) + (", ..." if len(named) > SHOWN else "")
        return f"classification, {self.arguments.target} has {len(named)} classes: {listed}"

    def _columns(self) -> str:
        kinds = [column.kind for column in self.model.encoder.columns]
        counts = {"numbers": kinds.count("number"), "categories": kinds.count("category"), "dates": kinds.count("date")}
        return ", ".join(
            f"{n} columns of {what}" if k == 0 else f"{n} of {what}"
            for k, (what, n) in enumerate(counts.items())
            if n or what != "dates"
        )

    def _left_out(self) -> dict[str, str]:
        return dict.fromkeys(self.arguments.drop, "by --drop") | dict(self.model.encoder.left_out)

    def _network(self) -> str:
        member = self.model.members[0]
        layout = member.network.layout
        sizes = [sum(edge.shape[0] for edge in layout.graph.inputs)]
        sizes += [p.node.outputs[0].shape[0] for p in layout.places if p.name.startswith("dense")]
        several = f"the mean of {len(self.model.members)} networks, each " if len(self.model.members) > 1 else ""
        return f"{several}{'-'.join(map(str, sizes))}, {layout.size:,} parameters; preset {self.arguments.preset}"

    def _training(self) -> str:
        preset, member = self.training.preset, self.model.members[0]
        details = [f"{self.training.epochs} epochs", f"mini-batches of {self.training.batch_size} rows"]
        if isinstance(preset, Plain):
            details.append(f"{preset.activation}, dropout {preset.dropout_for(self.target):g}")
        return f"{type(member.optimizer).__name__}, {', '.join(details)}, seed {self.arguments.seed}"

    def _chosen(self) -> list[str]:
        epochs = [len(history) for history in self.training.histories]
        best = self.training.best_epochs
        lines = [f"the model is that of epoch {best[0]} of {epochs[0]}, the best on validation"]
        if len(best) > 1:
            lines = [f"the members are those of the epochs {', '.join(map(str, best))}, the best on validation"]
        if self.training.sharpness != 1:
            lines.append(f"logits are multiplied by {self.training.sharpness:.2f}, which fits validation best")
        return lines

    def _baseline(self) -> str:
        """A model that looks at no column."""
        if isinstance(self.target, ValueTarget):
            return "always the mean"
        return f"always {self.target.classes[np.bincount(self._trained()).argmax()]}"

    def _trained(self) -> np.ndarray:
        return self.learned.y[self.training.folds[0][0]]

    @functools.cached_property
    def _predictions(self) -> dict[str, np.ndarray]:
        """For the test rows, of the model, of the baseline, and of a linear model if scikit-learn is installed."""
        found = {
            "model": self.model.decoded(self.test.X),
            "baseline": constant(self.target, self._trained(), len(self.test.y)),
        }
        linear = linear_prediction(
            self.model.encoder, self.target, self.learned.columns, self.learned.y, self.test.columns
        )
        return found if linear is None else found | {"linear": linear}

    @functools.cached_property
    def _scores(self) -> dict[str, dict[str, float]]:
        """The scores on the test rows, of each prediction."""
        return scores(self.target, self.test.y, self._predictions)

    @functools.cached_property
    def _importance(self) -> dict[str, list[float]]:
        """By column, the most important first, how much the test error grows if it is shuffled."""
        found = permutation_importance(self.model, self.test.X, self.test.y, self.arguments.seed)
        return dict(sorted(found.items(), key=lambda item: -np.mean(item[1])))

    @functools.cached_property
    def _dependence(self) -> dict[str, tuple[list[Any], np.ndarray]]:
        """By column, the most important ones, some of its values and the mean prediction for each."""
        columns = {column.name: column for column in self.learned.columns}
        first = list(self._importance)[:CURVES]
        return {name: partial_dependence(self.model, columns[name], self.learned.X) for name in first}

    def _warnings(self) -> list[str]:
        name, found = next(iter(self._scores.items()))
        lines = [] if found["model"] > found["baseline"] else [f"The model is no better than {self._baseline()}."]
        known = self._predictions
        if "linear" in known and is_worse(self.target, self.test.y, known["model"], known["linear"]):
            values = [shown(name, found[model]) for model in ("linear", "model")]
            lines.append(f"A linear model is better: its {name} is {values[0]}, the model's {values[1]}.")
        return lines

    def _confusions(self) -> np.ndarray:
        """The number of test rows by true class (rows) and predicted class (columns)."""
        size = len(self.target.classes)  # type: ignore[union-attr]
        guess = self._predictions["model"].argmax(axis=1)
        return np.bincount(self.test.y * size + guess, minlength=size * size).reshape(size, size)

    def _confusion_table(self) -> list[str]:
        if not isinstance(self.target, ClassTarget) or len(self.target.classes) > SHOWN:
            return []
        classes = list(map(str, self.target.classes))
        lines = [f"| true, predicted: | {' | '.join(classes)} |", "|---" * (len(classes) + 1) + "|"]
        counts = zip(classes, self._confusions(), strict=True)
        return [*lines, *(f"| {name} | {' | '.join(map(str, row))} |" for name, row in counts), ""]

    def _predict(self) -> str:
        return f"nbbp predict {shlex.quote(self.arguments.output)} new.csv --output predictions.csv"

    @property
    def command(self) -> str:
        """The command that reproduces this model."""
        given = self.arguments
        options: dict[str, Any] = {
            "target": [given.target], "task": [self.target.to_dict()["task"]], "drop": given.drop,
            "categorical": given.categorical, "class-weight": [given.class_weight], "time": [given.time],
            "test": [given.test], "preset": [given.preset], "members": [given.members],
            "layers": [given.layers and ",".join(map(str, given.layers))], "activation": [given.activation],
            "dropout": [given.dropout], "optimizer": [given.optimizer], "learning-rate": [given.learning_rate],
            "epochs": [given.epochs], "batch-size": [given.batch_size], "patience": [given.patience],
            "validation-share": [given.validation_share], "seed": [given.seed], "output": [given.output],
        }  # fmt: skip
        words = [
            word
            for name, values in options.items()
            for value in values
            if value is not None
            for word in (f"--{name}", str(value))
        ]
        return shlex.join(["nbbp", "train", self.arguments.file, *words])
