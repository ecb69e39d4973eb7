"""The folder of a run: what `nbbp train` writes and other commands read."""

import dataclasses
import json
import pathlib
from collections.abc import Sequence
from typing import Any

from nbbp.plots.curves import loss_curves
from nbbp.recipes.tabular import TableModel
from nbbp.sequential import load
from nbbp.storage import files
from nbbp.tables import TableEncoder, target_from_dict
from nbbp.training.history import History

MODEL, PREPROCESSING, HISTORY = "model.safetensors", "preprocessing.json", "history.csv"
CURVE, REPORT, NUMBERS = "curve.png", "report.md", "report.json"
FORMAT = 2


@dataclasses.dataclass(frozen=True)
class Run:
    """Trained networks with the encoders of their input and their target, and the target's column."""

    model: TableModel
    target_name: str

    def write(
        self, folder: pathlib.Path, histories: Sequence[History], report: str, numbers: dict[str, Any]
    ) -> list[str]:
        """Write all files, in place of those of an earlier run; returns their names."""
        folder.mkdir(exist_ok=True)
        members = len(self.model.members)
        for name in (MODEL, HISTORY):
            for path in folder.glob(_of_member(name, "*")):
                path.unlink()
        for k, (member, history) in enumerate(zip(self.model.members, histories, strict=True), 1):
            member.save(folder / _of_member(MODEL, k))
            history.to_csv(folder / _of_member(HISTORY, k))
        content = {
            "format": FORMAT,
            "target": {"column": self.target_name, **self.model.target.to_dict()},
            "table": self.model.encoder.to_dict(),
            "members": members,
        }
        _write_json(folder / PREPROCESSING, content)
        drawn = histories[0] if members == 1 else {f"network {k}": h for k, h in enumerate(histories, 1)}
        loss_curves(drawn, folder / CURVE)
        _write_text(folder / REPORT, report)
        _write_json(folder / NUMBERS, numbers)
        named = [_of_member(name, k) for name in (MODEL, HISTORY) for k in range(1, members + 1)]
        return [*named, PREPROCESSING, CURVE, REPORT, NUMBERS]

    @classmethod
    def read(cls, path: str) -> "Run":
        """The run in a folder; ValueError or OSError if there is none."""
        folder = pathlib.Path(path)
        for name in (MODEL, PREPROCESSING):
            if not (folder / name).is_file():
                raise FileNotFoundError(f"{path} is not a folder that nbbp train has written: there is no {name} in it")
        try:
            content = json.loads((folder / PREPROCESSING).read_text(encoding="utf-8"))
            if content["format"] != FORMAT:
                raise ValueError(f"format {content['format']!r}, and this version of nbbp reads {FORMAT}: train again")
            target, encoder = content["target"], TableEncoder.from_dict(content["table"])
            members = [load(folder / _of_member(MODEL, k)) for k in range(1, content["members"] + 1)]
            run = cls(TableModel(encoder, target_from_dict(target), members), target["column"])
            features = len(encoder.features)
            if any((features,) != member.network.graph.inputs[0].shape for member in members):
                raise ValueError(f"it makes {features} features, and the model takes other ones")
        except (ValueError, LookupError, TypeError, AttributeError) as error:
            reason = f"{error} is missing" if isinstance(error, KeyError) else error
            raise ValueError(f"{folder / PREPROCESSING} does not fit: {reason}") from None
        return run


def _of_member(name: str, number: int | str) -> str:
    """The file of a member, counted from 1; the first has the plain name."""
    stem, suffix = name.rsplit(".", 1)
    return name if number == 1 else f"{stem}_{number}.{suffix}"


def read_history(path: str) -> History:
    """The history of a run's folder, or of a CSV file that `History.to_csv` wrote."""
    place = pathlib.Path(path)
    if place.is_dir():
        place = place / HISTORY
    if not place.is_file():
        raise FileNotFoundError(f"there is no file {place}")
    return History.from_csv(place)


def _write_json(path: pathlib.Path, content: dict[str, Any]) -> None:
    _write_text(path, json.dumps(content, indent=1, ensure_ascii=False) + "\n")


def _write_text(path: pathlib.Path, text: str) -> None:
    with files.writing(path, files.INCOMPLETE):
        path.write_text(text, encoding="utf-8")
