"""The folder of a run: what `nbbp train` writes and other commands read."""

import json
import pathlib
from collections.abc import Sequence
from typing import Any

from nbbp.recipes.tabular import TableModel, file_of_member
from nbbp.storage import files
from nbbp.training.history import History

HISTORY, CURVE, REPORT, PAGE, NUMBERS = "history.csv", "curve.png", "report.md", "report.html", "report.json"


def write_run(
    folder: pathlib.Path, model: TableModel, histories: Sequence[History], report: str, page: str,
    numbers: dict[str, Any],
) -> list[str]:  # fmt: skip
    """Write all files of a run, in place of those of an earlier one; returns their names."""
    from nbbp.plots.curves import loss_curves

    written = model.save(folder)
    for path in folder.glob(file_of_member(HISTORY, "*")):
        path.unlink()
    names = [file_of_member(HISTORY, k) for k in range(1, len(histories) + 1)]
    for name, history in zip(names, histories, strict=True):
        history.to_csv(folder / name)
    several = {f"network {k}": history for k, history in enumerate(histories, 1)}
    loss_curves(several if len(several) > 1 else histories[0], folder / CURVE)
    _write_text(folder / REPORT, report)
    _write_text(folder / PAGE, page)
    _write_text(folder / NUMBERS, json.dumps(numbers, indent=1, ensure_ascii=False) + "\n")
    return [*written, *names, CURVE, REPORT, PAGE, NUMBERS]


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
