"""The folder of a run: what `nbbp train` writes and other commands read."""

import dataclasses
import json
import pathlib

from nbbp.model import Model
from nbbp.sequential import load
from nbbp.storage import files
from nbbp.tables import ClassTarget, TableEncoder, ValueTarget, target_from_dict
from nbbp.training.history import History

MODEL, PREPROCESSING, HISTORY = "model.safetensors", "preprocessing.json", "history.csv"
CURVE, REPORT = "curve.png", "report.md"
FILES = (MODEL, PREPROCESSING, HISTORY, CURVE, REPORT)
FORMAT = 1


@dataclasses.dataclass(frozen=True)
class Run:
    """A trained model with the encoders of its input and its target."""

    model: Model
    encoder: TableEncoder
    target: ClassTarget | ValueTarget
    target_name: str

    def write(self, folder: pathlib.Path, history: History, report: str) -> None:
        """Write all files, over those of an earlier run."""
        folder.mkdir(exist_ok=True)
        self.model.save(folder / MODEL)
        content = {
            "format": FORMAT,
            "target": {"column": self.target_name, **self.target.to_dict()},
            "table": self.encoder.to_dict(),
        }
        _write_text(folder / PREPROCESSING, json.dumps(content, indent=1, ensure_ascii=False) + "\n")
        history.to_csv(folder / HISTORY)
        history.plot(folder / CURVE)
        _write_text(folder / REPORT, report)

    @classmethod
    def read(cls, path: str) -> "Run":
        """The run in a folder; ValueError or OSError if there is none."""
        folder = pathlib.Path(path)
        for name in (MODEL, PREPROCESSING):
            if not (folder / name).is_file():
                raise FileNotFoundError(f"{path} is not a folder that nbbp train has written: there is no {name} in it")
        model = load(folder / MODEL)
        try:
            content = json.loads((folder / PREPROCESSING).read_text(encoding="utf-8"))
            if content["format"] != FORMAT:
                raise ValueError(f"format {content['format']!r}, and this version of nbbp reads {FORMAT}")
            target = content["target"]
            run = cls(model, TableEncoder.from_dict(content["table"]), target_from_dict(target), target["column"])
            features = len(run.encoder.features)
            if (features,) != model.network.graph.inputs[0].shape:
                raise ValueError(f"it makes {features} features, and the model takes other ones")
        except (ValueError, LookupError, TypeError, AttributeError) as error:
            reason = f"{error} is missing" if isinstance(error, KeyError) else error
            raise ValueError(f"{folder / PREPROCESSING} does not fit: {reason}") from None
        return run


def read_history(path: str) -> History:
    """The history of a run's folder, or of a CSV file that `History.to_csv` wrote."""
    place = pathlib.Path(path)
    if place.is_dir():
        place = place / HISTORY
    if not place.is_file():
        raise FileNotFoundError(f"there is no file {place}")
    return History.from_csv(place)


def _write_text(path: pathlib.Path, text: str) -> None:
    with files.writing(path, files.INCOMPLETE):
        path.write_text(text, encoding="utf-8")
