"""The figures of a report, as SVG for its page."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from nbbp.plots.curves import loss_curves
from nbbp.plots.svg import inline, page_style
from nbbp.plots.tables import dependence, predicted_and_true, reliability, residuals
from nbbp.recipes.presets import Target
from nbbp.tables import ClassTarget
from nbbp.training.history import History

SCALE = 0.66  # of the curves; text stays as large
MOST_CLASSES = 6  # with a curve of their own
MARGIN = 0.05


def of_losses(histories: Sequence[History]) -> str:
    """Losses over epochs."""
    several = len(histories) > 1
    with page_style():
        figure = loss_curves({f"network {k}" if several else "training": h for k, h in enumerate(histories, 1)})
        width, height = figure.get_size_inches()
        figure.set_size_inches(SCALE * width, SCALE * height)
        return inline(figure, "Losses over epochs")


def of_predictions(target: Target, truth: np.ndarray, prediction: np.ndarray) -> dict[str, str]:
    """By title, how good the predictions of test rows are.

    Parameters
    ----------
    truth : ndarray (rows,)
        The encoded target.
    prediction : ndarray (rows, classes) or (rows,)
    """
    with page_style():
        if isinstance(target, ClassTarget):
            return {"Calibration": inline(reliability(truth, prediction), "Calibration")}
        values = target.in_units(truth)
        drawn = {"Predicted and true": predicted_and_true, "Residuals": residuals}
        return {title: inline(draw(values, prediction), title) for title, draw in drawn.items()}


def of_columns(
    target: Target, curves: Mapping[str, tuple[Sequence[Any], np.ndarray]]
) -> tuple[list[str], dict[str, str]]:
    """The names of the curves if there are several, and by column how predictions depend on it, all on the same axis.

    `curves` has values and mean predictions. Of many classes, those are drawn whose predictions move most.
    """
    names, kept = [], [-1]
    if isinstance(target, ClassTarget) and len(target.classes) > 2:
        movement = np.max([np.ptp(prediction, axis=0) for _, prediction in curves.values()], axis=0)
        kept = sorted(np.argsort(-movement, kind="stable")[:MOST_CLASSES].tolist())
        names = [str(target.classes[k]) for k in kept]
    shown = {column: (values, prediction[:, kept]) for column, (values, prediction) in curves.items()}
    low, high = (f([f(prediction) for _, prediction in shown.values()]) for f in (np.min, np.max))
    limits = (low - MARGIN * (high - low), high + MARGIN * (high - low)) if high > low else None
    with page_style():
        return names, {
            column: inline(dependence(values, prediction, limits=limits), f"Predictions by {column}")
            for column, (values, prediction) in shown.items()
        }
