"""Networks for tables as they are: columns encoded, held-out rows chosen, networks trained and averaged."""

import dataclasses
import json
import pathlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from nbbp import checks
from nbbp.model import Model
from nbbp.recipes.calibration import logits_of, sharpen, sharpness
from nbbp.recipes.ensemble import Ensemble
from nbbp.recipes.folds import Fold
from nbbp.recipes.presets import Preset, Target
from nbbp.sequential import Sequential, load
from nbbp.storage import files
from nbbp.tables import ClassTarget, TableEncoder, ValueTarget, target_from_dict
from nbbp.training.history import History
from nbbp.training.trainer import DivergenceError

VALIDATION_SHARE = 0.15
MODEL, PREPROCESSING = "model.safetensors", "preprocessing.json"
FORMAT = 2  # of the latter


@dataclasses.dataclass(frozen=True)
class TableModel:
    """Networks for the rows of a table, with what was learned of its columns and its target.

    Attributes
    ----------
    encoder : TableEncoder
    target : ClassTarget or ValueTarget
    members : sequence of Model
        The networks, whose predictions are averaged.
    target_name : str
        The column of the target.
    """

    encoder: TableEncoder
    target: Target
    members: Sequence[Model]
    target_name: str = "y"

    def outputs(self, table, name: str = "table") -> np.ndarray:
        """The probabilities (rows, classes), or the values (rows,) in the units of the target, float64."""
        return self.decoded(self.encoder.encode(table, name))

    def decoded(self, X: np.ndarray) -> np.ndarray:
        """The same for encoded rows X (rows, features)."""
        raw = np.mean([self.predictions(member, X) for member in self.members], axis=0)
        if isinstance(self.target, ClassTarget):
            return raw / raw.sum(axis=1, keepdims=True)  # in float32 they are 1 but for the last digits
        return self.target.decode(raw[:, 0])

    def inputs(self, X: np.ndarray) -> Any:
        """Encoded rows X (rows, features) in the form in which the members take them."""
        return X.astype(np.float32) if isinstance(self.members[0], Sequential) else self.encoder.grouped(X)

    def predictions(self, member: Model, X: np.ndarray) -> np.ndarray:
        """What one member predicts for encoded rows (rows, outputs), float64."""
        return member.predict(self.inputs(X)).astype(np.float64)

    def save(self, folder) -> list[str]:
        """Write the networks and what was learned of the columns into a folder; returns the names of the files.

        Files of an earlier model in the folder are removed.
        """
        place = pathlib.Path(folder)
        place.mkdir(exist_ok=True)
        for path in place.glob(file_of_member(MODEL, "*")):
            path.unlink()
        names = [file_of_member(MODEL, k) for k in range(1, len(self.members) + 1)]
        for member, name in zip(self.members, names, strict=True):
            member.save(place / name)
        content = {
            "format": FORMAT,
            "target": {"column": self.target_name, **self.target.to_dict()},
            "table": self.encoder.to_dict(),
            "members": len(self.members),
        }
        with files.writing(place / PREPROCESSING, files.INCOMPLETE):
            text = json.dumps(content, indent=1, ensure_ascii=False) + "\n"
            (place / PREPROCESSING).write_text(text, encoding="utf-8")
        return [*names, PREPROCESSING]

    @classmethod
    def load(cls, folder) -> "TableModel":
        """The model that `save` or `nbbp train` has written into a folder; ValueError or OSError if there is none."""
        place = pathlib.Path(folder)
        for name in (MODEL, PREPROCESSING):
            if not (place / name).is_file():
                raise FileNotFoundError(f"{folder} has no model of a table: there is no {name} in it")
        try:
            content = json.loads((place / PREPROCESSING).read_text(encoding="utf-8"))
            if content["format"] != FORMAT:
                raise ValueError(f"format {content['format']!r}, and this version of nbbp reads {FORMAT}: train again")
            target, encoder = content["target"], TableEncoder.from_dict(content["table"])
            members = [load(place / file_of_member(MODEL, k)) for k in range(1, content["members"] + 1)]
            features = len(encoder.features)
            taken = {sum(edge.shape[0] for edge in member.network.graph.inputs) for member in members}
            if taken != {features}:
                raise ValueError(f"it makes {features} features, and the model takes other ones")
            return cls(encoder, target_from_dict(target), members, target["column"])
        except (ValueError, LookupError, TypeError, AttributeError) as error:
            reason = f"{error} is missing" if isinstance(error, KeyError) else error
            raise ValueError(f"{place / PREPROCESSING} does not fit: {reason}") from None


def file_of_member(name: str, number: int | str) -> str:
    """The file of a member, counted from 1; the first has the plain name."""
    stem, suffix = name.rsplit(".", 1)
    return name if number == 1 else f"{stem}_{number}.{suffix}"


def held_out(y: np.ndarray, parts: int, share: float, seed: int) -> list[np.ndarray]:
    """`parts` sets of rows without a common one, each with the distribution of the classes or values y (rows,).

    Rows sorted by y are cut into as many stretches as each set has rows; a set has one row of each, drawn at random.
    """
    rng = np.random.default_rng(seed)
    order = np.lexsort((rng.random(len(y)), y))
    count = max(1, min(round(share * len(y)), len(y) // (parts + 1)))
    begins = np.arange(parts * count + 1) * len(y) // (parts * count)
    drawn = order[rng.integers(begins[:-1], begins[1:])].reshape(count, parts)
    return list(np.sort(rng.permuted(drawn, axis=1).T, axis=1))


def in_folds(y: np.ndarray, folds: int, seed: int) -> list[np.ndarray]:
    """All rows in `folds` sets, each with the distribution of the classes or values y (rows,).

    Of each `folds` rows that follow each other in the order of y, every set has one, drawn at random.
    """
    rng = np.random.default_rng(seed)
    order = np.lexsort((rng.random(len(y)), y))
    owners = rng.permuted(np.tile(np.arange(folds), (-(-len(y) // folds), 1)), axis=1).ravel()[: len(y)]
    return [np.sort(order[owners == fold]) for fold in range(folds)]


class TableTraining:
    """A fit of a `TableModel`: made from data, then `run`, which may be interrupted.

    Parameters
    ----------
    encoder : TableEncoder
    target : ClassTarget or ValueTarget
    X : ndarray (rows, features)
        The encoded rows.
    y : ndarray (rows,)
        The encoded target.
    preset : Preset
    members : int
        The number of networks, each with held-out rows of its own; with `folds`, of the networks of each fold.
    validation : ndarray of int, optional
        The rows that are held out for all members; drawn if left out.
    validation_share : float
        The share of the rows that is drawn.
    folds : int, optional
        The rows are divided into so many folds, each held out from `members` networks, so that all rows are held out
        from some and trained on by others.
    sample_weight : ndarray (rows,), optional
    patience : int, optional
        The number of epochs without a better validation loss after which a member stops; it trains on if left out.
    seed : int
    target_name : str

    Attributes
    ----------
    model : TableModel
    folds : list of (rows to train on, rows held out)
        Of each member.
    epochs : int
        The length of the training.
    sharpness : float
        The factor of the logits that `run` finds, see `nbbp.recipes.calibration`; 1 for values.
    """

    def __init__(
        self, encoder: TableEncoder, target: Target, X: np.ndarray, y: np.ndarray, preset: Preset, members: int = 1,
        validation: np.ndarray | None = None, validation_share: float = VALIDATION_SHARE, folds: int | None = None,
        sample_weight: np.ndarray | None = None, patience: int | None = None, seed: int = 0, target_name: str = "y",
    ) -> None:  # fmt: skip
        checks.positive_integer("members", members)
        checks.number("validation_share", validation_share, high=0.5, open_low=True)
        if folds is not None and checks.integer("folds", folds, 2) > len(y) // 2:
            raise ValueError(f"{folds} folds need {2 * folds} rows, got {len(y)}")
        if folds is None and len(y) < 2 * (members + 1):
            raise ValueError(
                f"{members} networks need {2 * (members + 1)} rows to train and to validate on, got {len(y)}"
            )
        if validation is not None:
            sets = [validation] * members
        elif folds is not None:
            sets = [rows for rows in in_folds(y, folds, seed) for _ in range(members)]
        else:
            sets = held_out(y, members, validation_share, seed)
        everything = np.arange(len(y))
        self.folds: list[Fold] = [(np.setdiff1d(everything, rows), rows) for rows in sets]
        self._X, self._y, self._weight = X, y, sample_weight
        self.preset = preset
        self.batch_size = preset.rows_of_batch(max(len(rows) for rows, _ in self.folds))
        updates = max(-(-len(rows) // self.batch_size) for rows, _ in self.folds)
        self.epochs = preset.length(updates, len(sets))
        networks = [preset.network(encoder, target, self.epochs * updates, seed + k) for k in range(len(sets))]
        for network in networks:
            if isinstance(network, Sequential):
                network.build(X.shape[1])
            if isinstance(target, ClassTarget):
                logits_of(network)  # refuses another ending before the training
        self.model = TableModel(encoder, target, networks, target_name)
        self._stopping = [preset.best_epoch(target, patience or self.epochs) for _ in networks]
        self.sharpness = 1.0

    def run(self, verbose: int = 0, communicator=None) -> None:
        """Train all members; each has the parameters of its best epoch then, even if an exception ends the training.

        Members train side by side, or with a communicator one after the other, each on all of its processes. In the end
        the probabilities of classes become as sure as those of the rows held out, together, were right.

        Raises
        ------
        nbbp.DivergenceError
            If the loss of a member is no longer finite.
        """
        self._train(verbose, communicator)
        if isinstance(self.model.target, ClassTarget):
            self._calibrate()

    def _train(self, verbose: int, communicator) -> None:
        members, settings = self.model.members, (self.epochs, self.batch_size)
        if len(members) > 1 and communicator is None:
            histories = Ensemble(members).fit(
                self.model.inputs(self._X), self._y, *settings, folds=self.folds, sample_weight=self._weight,
                verbose=verbose, callbacks=lambda k: [self._stopping[k]],
            )  # fmt: skip
            for history in histories:
                if not np.isfinite(history.step_loss[-1]):
                    step = (history.steps - 1) % history.steps_per_epoch + 1
                    raise DivergenceError(len(history) + 1, step, history)
            return
        for member, fold, stopping in zip(members, self.folds, self._stopping, strict=True):
            (X, y, weight), validation = (self._part(rows) for rows in fold)
            member.fit(
                X, y, *settings, validation_data=validation, sample_weight=weight, verbose=verbose,
                callbacks=[stopping], communicator=communicator,
            )  # fmt: skip

    def _calibrate(self) -> None:
        """Multiply the logits of all members by one factor, which their rows held out have chosen."""
        members = self.model.members
        predicted = [self.model.predictions(m, self._X[held]) for m, (_, held) in zip(members, self.folds, strict=True)]
        rows = np.concatenate([held for _, held in self.folds])
        weight = None if self._weight is None else self._weight[rows]
        self.sharpness = sharpness(np.concatenate(predicted), self._y[rows], weight)
        for member in members:
            sharpen(member, self.sharpness)

    def _part(self, rows: np.ndarray) -> tuple:
        """Inputs, targets and weights of some rows."""
        weight = None if self._weight is None else self._weight[rows]
        return self.model.inputs(self._X[rows]), self._y[rows], weight

    @property
    def histories(self) -> list[History]:
        """The history of each member that has begun."""
        return [member.history for member in self.model.members if member.history is not None]

    @property
    def best_epochs(self) -> list[int]:
        """The epoch whose parameters each member has, counted from 1."""
        return [stopping.best_epoch for stopping in self._stopping]

    def residuals(self) -> np.ndarray:
        """Truth minus prediction of the rows that were held out, by the members that did not train on them (rows,)."""
        counts, sums = np.zeros(len(self._y)), np.zeros(len(self._y))
        for member, (_, held) in zip(self.model.members, self.folds, strict=True):
            sums[held] += self.model.predictions(member, self._X[held])[:, 0]
            counts[held] += 1
        rows, target = np.flatnonzero(counts), self.model.target
        assert isinstance(target, ValueTarget)
        return target.decode(self._y[rows]) - target.decode(sums[rows] / counts[rows])
