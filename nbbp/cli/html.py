"""The page of a report: one HTML file that needs no other file and no network."""

import math
import pathlib
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any

import numpy as np

from nbbp.cli.scores import is_error, shown

TILES = 3  # scores in large letters
BARS = 20  # columns whose importance is shown at first
FEW = 4  # classes of a matrix that stands beside another figure
FULL = 0.55  # share from which the colour of a cell is dark

PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>
{style}</style>
</head>
<body>
<header>
<h1>{target}</h1>
<p class="quiet">predicted from <code>{file}</code>: {task}</p>
{warnings}
<div class="tiles">{tiles}</div>
</header>
<main>
{sections}
</main>
<footer>nbbp {version}</footer>
</body>
</html>
"""


def page(report: Mapping[str, Any], figures: Mapping[str, Any]) -> str:
    """The page.

    Parameters
    ----------
    report : mapping
        The report as plain values, as in report.json. All text in it is escaped.
    figures : mapping
        SVG: "losses"; by title, "predictions"; and "columns", the names of their curves and SVG by column.
    """
    rows = report["rows"]
    sections = {
        "Scores": (f"On {rows['test']:,} rows that the model has not seen, {report['split']}.", _scores(report)),
        "Right and wrong": ("The predictions for the same rows.", _predictions(report, figures["predictions"])),
        "Importance of the columns": (
            f"How much the {_error(report)} of the model grows if the cells of one column are shuffled: the mean of "
            "a few shuffles, and their range. Columns that say the same share their importance.",
            _importance(report["importance"]),
        ),
        "Predictions by column": (
            f"{_predicted(report)} if all rows had the same value in one column, at values that occur (partial "
            "dependence), for the most important columns.",
            _dependence(*figures["columns"]),
        ),
        "Training": (_chosen(report), _training(report, figures["losses"])),
        "Columns": (_rows(rows, report["target"]["column"]), _columns(report["columns"], report["left_out"])),
        "Commands": ("This model again, and its predictions for new rows:", _commands(report)),
    }
    return PAGE.format(
        title=escape(f"{report['target']['column']}, predicted from {report['file']}"),
        style=pathlib.Path(__file__).with_name("report.css").read_text(encoding="utf-8"),
        target=escape(report["target"]["column"]),
        file=escape(report["file"]),
        task=escape(report["task"]),
        warnings="".join(f'<p class="warning">{escape(text)}</p>' for text in report["warnings"]),
        tiles=_tiles(report),
        sections="\n".join(
            f'<section>\n<h2>{title}</h2>\n<p class="quiet">{escape(text)}</p>\n{content}\n</section>'
            for title, (text, content) in sections.items()
        ),
        version=escape(report["nbbp"]),
    )


def _tiles(report: Mapping[str, Any]) -> str:
    scores = list(report["scores"].items())[:TILES]
    tiles = [
        (name, shown(name, s["model"]), f"{report['baseline']}: {shown(name, s['baseline'])}") for name, s in scores
    ]
    epochs = f"{max(report['epochs'])} epochs"
    if (members := report["members"]) > 1:
        epochs = f"{members} networks, {epochs}"
    tiles.append(("training", _seconds(report["seconds"]), epochs))
    return "".join(
        f"<div><span>{escape(name)}</span><strong>{escape(value)}</strong><span>{escape(beside)}</span></div>"
        for name, value, beside in tiles
    )


def _scores(report: Mapping[str, Any]) -> str:
    titles = {"model": "model", "linear": "linear model", "baseline": report["baseline"]}
    models = [model for model in titles if model in next(iter(report["scores"].values()))]
    lines = []
    for name, found in report["scores"].items():
        best = (min if is_error(name) else max)(found[model] for model in models)
        cells = "".join(
            f'<td class="{"best" if found[model] == best else ""}">{escape(shown(name, found[model]))}</td>'
            for model in models
        )
        lines.append(f"<tr><th>{escape(name)}</th>{cells}</tr>")
    return _table("numbers", ["", *(titles[model] for model in models)], lines)


def _predictions(report: Mapping[str, Any], drawn: Mapping[str, str]) -> str:
    notes = {
        "Calibration": "A model whose probabilities are right is on the dotted line; 95 % intervals.",
        "Predicted and true": "A perfect model is on the dotted line.",
        "Residuals": "What the predictions lack.",
    }
    figures = {title: (svg, notes[title]) for title, svg in drawn.items()}
    if report["confusions"] is not None:
        table = _confusions(report["target"]["classes"], np.array(report["confusions"]))
        note = "Rows are true classes, with their shares; columns are predicted."
        figures = {"Confusion matrix": (table, note)} | figures
    return _figures(figures)


def _confusions(classes: Sequence[Any], counts: np.ndarray) -> str:
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    lines = []
    for name, row, of_row in zip(classes, counts.tolist(), shares.tolist(), strict=True):
        cells = "".join(
            f'<td class="{"full" if share >= FULL else ""}" style="--share: {share:.0%}">{count:,}'
            f"<small>{share:.0%}</small></td>"
            for count, share in zip(row, of_row, strict=True)
        )
        lines.append(f"<tr><th>{escape(str(name))}</th>{cells}</tr>")
    return _table(
        "confusions many" if len(classes) > FEW else "confusions", ["true, predicted:", *map(str, classes)], lines
    )


def _error(report: Mapping[str, Any]) -> str:
    """What the importance is measured in."""
    return next(name for name in ("log loss", "root of mean square error") if name in report["scores"])


def _predicted(report: Mapping[str, Any]) -> str:
    """What the curves of columns show."""
    target = report["target"]
    if "classes" not in target:
        return f"The mean predicted {target['column']}"
    if len(target["classes"]) > 2:
        return "The mean probabilities of the classes"
    return f"The mean probability of {target['classes'][1]}"


def _importance(importance: Mapping[str, Sequence[float]]) -> str:
    most = max(max(errors) for errors in importance.values())
    scale = 100 / most if most > 0 else 0.0
    decimals = max(0, 2 - math.floor(math.log10(most))) if most > 0 else 3
    lines = []
    for name, errors in importance.items():
        mean = sum(errors) / len(errors)
        low, middle, high = (max(0.0, value * scale) for value in (min(errors), mean, max(errors)))
        growth = round(mean, decimals) + 0.0  # no -0.000
        lines.append(
            f'<dt title="{escape(name)}">{escape(name)}</dt><dd class="bar"><b style="width: {middle:.1f}%"></b>'
            f'<i style="left: {low:.1f}%; width: {high - low:.1f}%"></i></dd><dd>{growth:.{decimals}f}</dd>'
        )
    first, rest = (f'<dl class="bars">{"".join(part)}</dl>' for part in (lines[:BARS], lines[BARS:]))
    return first + f"<details><summary>{len(lines) - BARS:,} more</summary>{rest}</details>" * (len(lines) > BARS)


def _dependence(names: Sequence[str], drawn: Mapping[str, str]) -> str:
    legend = "".join(f'<span style="--color: var(--color-{k})">{escape(name)}</span>' for k, name in enumerate(names))
    return f'<p class="legend">{legend}</p>{_figures({name: (svg, "") for name, svg in drawn.items()})}'


def _training(report: Mapping[str, Any], losses: str) -> str:
    facts = {name: report[name] for name in ("network", "training")}
    lines = [f"<tr><th>{name}</th><td>{escape(fact)}</td></tr>" for name, fact in facts.items()]
    lines.append(f"<tr><th>time</th><td>{_seconds(report['seconds'])}</td></tr>")
    return _figures({"Losses": (losses, ""), "Settings": (_table("", [], lines), "")})


def _chosen(report: Mapping[str, Any]) -> str:
    best, epochs = report["best_epochs"], report["epochs"]
    chosen = f"The model is that of epoch {best[0]} of {epochs[0]}, the best on validation."
    if len(best) > 1:
        chosen = f"The members are those of the epochs {', '.join(map(str, best))}, the best on validation."
    stopped = f" Stopped by {report['stopped']}." if report["stopped"] else ""
    return chosen + stopped


def _rows(rows: Mapping[str, int], target: str) -> str:
    without = f"; {rows['without target']:,} without a {target} are left out" if rows["without target"] else ""
    return f"{rows['train']:,} rows to train, {rows['validation']:,} to validate, {rows['test']:,} to test{without}."


def _columns(columns: Iterable[Mapping[str, Any]], left_out: Mapping[str, str]) -> str:
    lines = [(column["name"], column["encoding"]) for column in columns]
    lines += [(name, f"left out: {why}") for name, why in left_out.items()]
    return _table(
        "columns",
        ["column", "what the network sees of it"],
        [f'<tr><th>{escape(name)}</th><td class="quiet">{escape(what)}</td></tr>' for name, what in lines],
    )


def _commands(report: Mapping[str, Any]) -> str:
    return "".join(f"<pre>{escape(report[name])}</pre>" for name in ("command", "predict"))


def _table(kind: str, heading: Iterable[str], lines: Iterable[str]) -> str:
    titles = "".join(f"<th>{escape(title)}</th>" for title in heading)
    head = f"<thead><tr>{titles}</tr></thead>" if titles else ""
    return f'<div class="scroll"><table class="{kind}">{head}<tbody>{"".join(lines)}</tbody></table></div>'


def _figures(drawn: Mapping[str, tuple[str, str]]) -> str:
    """Figures with titles and notes beside each other, where there is room."""
    figures = (
        f"<figure><figcaption>{escape(title)}<span>{escape(note)}</span></figcaption>{content}</figure>"
        for title, (content, note) in drawn.items()
    )
    return f'<div class="figures">{"".join(figures)}</div>'


def _seconds(seconds: float) -> str:
    return f"{seconds:.1f} s" if seconds < 100 else f"{seconds / 60:.1f} min"
