"""Checks of the values that callbacks watch: that they are recorded, which way is better, and that they are numbers."""

import math
import warnings
from typing import TYPE_CHECKING

from nbbp import checks

if TYPE_CHECKING:
    from nbbp.training.observed import ObservedFit


def check(name: str, fit: "ObservedFit") -> None:
    """ValueError unless the history of the fit will have the value."""
    if name.startswith("val_") and fit.validation is None:
        raise ValueError(f"monitor {name!r} needs validation_data; without, there is {', '.join(fit.recorded)}")
    checks.choose("monitor", name, fit.recorded)


def check_direction(name: str, fit: "ObservedFit") -> None:
    """The same, and ValueError unless it is known whether higher is better; a warning if only one row is measured."""
    check(name, fit)
    if fit.recorded[name] is None:
        metric = name.removeprefix("val_")
        where = f"{metric}.higher_is_better =" if metric in fit.model.metrics else f"its callback's records[{name!r}] ="
        raise ValueError(f"monitor {name!r}: nothing says whether higher or lower is better; set {where} True or False")
    if name.startswith("val_") and fit.validation is not None and fit.validation.rows == 1:
        warnings.warn(f"{name} is measured on one row, which says little of others: hold out more", stacklevel=7)


def latest(name: str, fit: "ObservedFit") -> float:
    """The epoch's value if higher is better, otherwise its negative; a warning when it becomes nan."""
    values = fit.history[name]
    if math.isnan(values[-1]) and not (len(values) > 1 and math.isnan(values[-2])):
        warnings.warn(
            f"{name} is nan in epoch {len(values)}, which counts as no improvement: watch another value, or measure it "
            f"on rows for which it is defined, as roc_auc is if there are both yes and no",
            stacklevel=8,
        )
    return values[-1] if fit.recorded[name] else -values[-1]


def standstill(name: str, fit: "ObservedFit") -> str:
    """The beginning of the reason for which a fit is stopped."""
    value = fit.history[name][-1]
    return f"{name} has not improved" if math.isfinite(value) else f"{name} is {value} and has not improved"
