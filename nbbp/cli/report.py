"""The report of `nbbp train`: how a model was trained, and its scores on rows that it has not seen."""

import dataclasses
import shlex
from typing import Any

import numpy as np

from nbbp import metrics
from nbbp._version import __version__
from nbbp.sequential import Sequential
from nbbp.tables import ClassTarget, TableEncoder, ValueTarget
from nbbp.tables.encoding import Categories, Numbers
from nbbp.training.history import History

SHOWN = 20  # classes in the table of confusions
SHARES = ("accuracy", "R2")  # shown with four decimals; other scores have the target's units


@dataclasses.dataclass(frozen=True)
class Part:
    """Rows of the data: X (rows, features), and y (rows,) in the network's form."""

    X: np.ndarray
    y: np.ndarray


@dataclasses.dataclass(frozen=True)
class Report:
    """The report of one run: `plan` before it, `outcome` and `text` after it."""

    encoder: TableEncoder
    target: ClassTarget | ValueTarget
    parts: dict[str, Part]
    model: Sequential
    arguments: Any

    @property
    def plan(self) -> str:
        """The data, the task and the network, a line each."""
        rows = {name: len(part.y) for name, part in self.parts.items()}
        return "\n".join(
            [
                f"{self.arguments.file}: {sum(rows.values()):,} rows; {self._columns()}",
                f"task: {self._task()}",
                f"rows: {rows['train']:,} to train, {rows['validation']:,} to validate, {rows['test']:,} to test",
                f"network: {self._network()}",
                f"training: {self._training()}",
            ]
        )

    def outcome(self, history: History, best_epoch: int) -> str:
        """The epoch of the model, and its scores, a line each."""
        scores = self._scores()
        lines = [_chosen(history, best_epoch)]
        lines += [f"test {name}: {score}; {self._baseline_name()}: {base}" for name, (score, base) in scores.items()]
        if warning := self._warning():
            lines.append(warning)
        return "\n".join(lines)

    def text(self, history: History, best_epoch: int) -> str:
        """The whole report in Markdown."""
        scores = "\n".join(f"| {name} | {score} | {base} |" for name, (score, base) in self._scores().items())
        rows = {name: len(part.y) for name, part in self.parts.items()}
        warning = self._warning()
        kinds = "\n".join(f"- {line}" for line in self._columns_at_length())
        return f"""\
# {self.arguments.target}, predicted from {self.arguments.file}

## Scores on {rows["test"]:,} rows that the model has not seen

| | model | {self._baseline_name()} |
|---|---|---|
{scores}

{warning + chr(10) + chr(10) if warning else ""}{self._confusions()}![losses](curve.png)

## Data

- task: {self._task()}
- {rows["train"]:,} rows to train, {rows["validation"]:,} to decide when to stop, {rows["test"]:,} to test,
  with {"the classes" if isinstance(self.target, ClassTarget) else "small and large values"} in the same shares
{kinds}

## Network

```
{self.model.summary()}
```

- {self._training()}
- {_chosen(history, best_epoch)}{f"; stopped: {history.stopped}" if history.stopped else ""}

## Commands

    {self._command()}
    nbbp predict {shlex.quote(self.arguments.output)} new.csv --output predictions.csv

nbbp {__version__}
"""

    def _task(self) -> str:
        if isinstance(self.target, ValueTarget):
            mean, deviation = self.target.mean, self.target.deviation
            return (
                f"regression, {self.arguments.target} is a number (mean {mean:.4g}, standard deviation {deviation:.4g})"
            )
        counts = np.bincount(np.concatenate([part.y for part in self.parts.values()]))
        named = [f"{label} ({n:,})" for label, n in zip(self.target.classes, counts, strict=True)]
        listed = ", ".join(named[:SHOWN]) + (", ..." if len(named) > SHOWN else "")
        return f"classification, {self.arguments.target} has {len(named)} classes: {listed}"

    def _columns(self) -> str:
        numbers = sum(isinstance(column, Numbers) for column in self.encoder.columns)
        return f"{numbers} columns of numbers, {len(self.encoder.columns) - numbers} of categories"

    def _columns_at_length(self) -> list[str]:
        """How each column was encoded."""
        columns, lines = self.encoder.columns, []
        if numbers := [column.name for column in columns if isinstance(column, Numbers)]:
            lines.append(f"standardised to mean 0 and standard deviation 1: {', '.join(numbers)}")
        for column in columns:
            if isinstance(column, Categories):
                how = "a column of 0 and 1 for each" if column.one_hot else "a trained vector for each (embedding)"
                lines.append(f"{column.name}: {len(column.categories)} categories, {how}")
        if self.arguments.drop:
            lines.append(f"left out: {', '.join(self.arguments.drop)}")
        return lines

    def _network(self) -> str:
        layout = self.model.network.layout
        sizes = [layout.graph.inputs[0].shape[0]]
        sizes += [p.node.outputs[0].shape[0] for p in layout.places if p.name.startswith("dense")]
        return f"{'-'.join(map(str, sizes))}, {self.arguments.activation}, {layout.size:,} parameters"

    def _training(self) -> str:
        given, optimizer = self.arguments, type(self.model.optimizer).__name__
        return (
            f"{optimizer} with learning rate {self.model.learning_rate:g}, mini-batches of {given.batch_size} rows, "
            f"dropout {given.dropout:g}, {given.epochs} epochs at most, seed {given.seed}"
        )

    def _baseline_name(self) -> str:
        if isinstance(self.target, ValueTarget):
            return "always the mean"
        return f"always {self.target.classes[np.bincount(self.parts['train'].y).argmax()]}"

    def _measured(self) -> dict[str, tuple[float, float]]:
        """The scores on the test rows, of the model and of the baseline."""
        test, train = self.parts["test"], self.parts["train"]
        prediction = self.model.predict(test.X).astype(np.float64)
        if isinstance(self.target, ClassTarget):
            constant = np.zeros_like(prediction)
            constant[:, np.bincount(train.y).argmax()] = 1
            truth, scores = test.y[:, np.newaxis], {"accuracy": metrics.accuracy}
        else:
            constant = self.target.decode(np.full_like(prediction, train.y.mean()))
            truth, prediction = self.target.decode(test.y)[:, np.newaxis], self.target.decode(prediction)
            scores = {"R2": metrics.r2, "mean absolute error": metrics.mae, "root of mean square error": metrics.rmse}
        return {name: (score(truth, prediction), score(truth, constant)) for name, score in scores.items()}

    def _scores(self) -> dict[str, tuple[str, ...]]:
        return {  # + 0.0: no -0.0000
            name: tuple(f"{round(value, 4) + 0.0:.4f}" if name in SHARES else f"{value:.4g}" for value in values)
            for name, values in self._measured().items()
        }

    def _warning(self) -> str:
        score, base = next(iter(self._measured().values()))
        return "" if score > base else f"The model is no better than {self._baseline_name()}."

    def _confusions(self) -> str:
        """The confusion matrix: true classes in rows, predicted ones in columns."""
        if not isinstance(self.target, ClassTarget) or len(self.target.classes) > SHOWN:
            return ""
        classes, test = list(map(str, self.target.classes)), self.parts["test"]
        size = len(classes)
        guess = self.model.predict(test.X).argmax(axis=1)
        counts = np.bincount(test.y * size + guess, minlength=size * size).reshape(size, size)
        lines = [f"| true, predicted: | {' | '.join(classes)} |", "|---" * (size + 1) + "|"]
        lines += [f"| {name} | {' | '.join(map(str, row))} |" for name, row in zip(classes, counts, strict=True)]
        return "\n".join(lines) + "\n\n"

    def _command(self) -> str:
        """The command that reproduces this model."""
        given = self.arguments
        options: dict[str, Any] = {
            "target": given.target, "task": self.target.to_dict()["task"], "drop": ",".join(given.drop),
            "categorical": ",".join(given.categorical), "layers": ",".join(map(str, given.layers)),
            "activation": given.activation, "dropout": given.dropout, "optimizer": given.optimizer,
            "learning-rate": given.learning_rate, "epochs": given.epochs, "batch-size": given.batch_size,
            "patience": given.patience, "validation-share": given.validation_share, "seed": given.seed,
            "output": given.output,
        }  # fmt: skip
        words = [
            word for name, value in options.items() if value not in ("", None) for word in (f"--{name}", str(value))
        ]
        return shlex.join(["nbbp", "train", self.arguments.file, *words])


def _chosen(history: History, best_epoch: int) -> str:
    return f"the model is that of epoch {best_epoch} of {len(history)}, the best on validation"
