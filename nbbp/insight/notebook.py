"""HTML of models and histories in notebooks, without colours of its own, for light and dark themes."""

import base64
import html
import io
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from nbbp.insight import summary

if TYPE_CHECKING:
    from nbbp.model import Model
    from nbbp.training.history import History

PICTURE_WIDTH = 480  # pixels in the page; the picture has twice as many


def _table(rows: Sequence[Sequence[str]]) -> str:
    """A table whose first row is the heading; the first column is text, the others are aligned to the right."""
    lines = []
    for i, row in enumerate(rows):
        cell = "td" if i else "th"
        aligned = ["left"] + ["right"] * (len(row) - 1)
        cells = zip(row, aligned, strict=True)
        lines.append("".join(f'<{cell} style="text-align:{a}">{html.escape(text)}</{cell}>' for text, a in cells))
    heading, *body = [f"<tr>{line}</tr>" for line in lines]
    return f"<table><thead>{heading}</thead><tbody>{''.join(body)}</tbody></table>"


def model_html(model: "Model") -> str:
    """The layers with their outputs and numbers of parameters, the loss and the optimizer."""
    name, *settings = summary.named_settings(model.optimizer).items()
    optimizer = ", ".join(f"{key}={value}" for key, value in settings if value is not None)
    layout = model.network.layout if model.is_built else None
    unbuilt = "" if layout else "<p>Outputs and parameters are known once it has seen data.</p>"
    return (
        f"{_table(summary.table(model.layers, layout))}{unbuilt}"
        f"<p>loss: {html.escape(str(summary.names_of(model.loss)))}<br>"
        f"optimizer: {html.escape(f'{name[1]}({optimizer})')}</p>"
    )


def history_html(history: "History") -> str:
    """The last, smallest and largest value of everything recorded, and the loss curve."""
    rows = [["", "last", "least", "greatest"]]
    for name, values in history.epochs.items():
        ends = values[-1], np.fmin.reduce(values), np.fmax.reduce(values)
        rows.append([name, *(f"{value:.4g}" for value in ends)])
    why = f", stopped: {history.stopped}" if history.stopped else ""
    epochs = f"{len(history)} epoch{'s' * (len(history) != 1)}, {len(history.step_loss):,} steps{why}"
    return f"<p>{html.escape(epochs)}</p>{_table(rows) if len(rows) > 1 else ''}{_picture(history)}"


def _picture(history: "History") -> str:
    if not len(history.step_loss):
        return ""
    from nbbp import plots

    figure, file = plots.small_curve(history), io.BytesIO()
    figure.savefig(file, format="png", transparent=True, dpi=2 * PICTURE_WIDTH / figure.get_size_inches()[0])
    data = base64.b64encode(file.getvalue()).decode()
    return f'<img width="{PICTURE_WIDTH}" alt="losses over epochs" src="data:image/png;base64,{data}">'
