"""Encoding of targets, classes as integers and values standardised, and decoding of predictions."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from nbbp.tables.frames import CellError

NOT_MISSING = "leave out the rows without one"


def _labels(y, name: str) -> list:
    """The labels as Python values, whole floats as integers; CellError if one is missing."""
    given = y if isinstance(y, list | tuple) else np.asarray(y).tolist()  # NumPy makes text of [1, "a"]
    labels = [label.item() if isinstance(label, np.generic) else label for label in given]
    for row, label in enumerate(labels):
        if isinstance(label, list):
            raise ValueError(f"{name} must have one label a row, got {label!r} in row {row}")
        if label is None or label != label or str(label) == "<NA>":
            raise CellError("y", name, row, f"missing value; {NOT_MISSING}")
        if isinstance(label, float) and label.is_integer():
            labels[row] = int(label)
    return labels


@dataclasses.dataclass(frozen=True)
class ClassTarget:
    """Class labels as the integers 0, 1, ...; made by `ClassTarget.fit`.

    Attributes
    ----------
    classes : tuple of str, int, float or bool
        The classes in ascending order.

    Examples
    --------
    >>> import nbbp
    >>> target = nbbp.tables.ClassTarget.fit(["no", "yes", "no"])
    >>> target.encode(["yes", "no"])
    array([1, 0])
    >>> target.decode([1, 1, 0])
    ['yes', 'yes', 'no']
    """

    classes: tuple[Any, ...]

    @classmethod
    def fit(cls, y, name: str = "y") -> "ClassTarget":
        """Find the classes of labels y (rows,): a list, an array, or a column of a table."""
        labels = set(_labels(y, name))
        kinds = {type(label).__name__ for label in labels}
        if len(kinds) > 1 and not kinds <= {"int", "float"}:
            raise TypeError(f"{name} must have labels of one kind, got {' and '.join(sorted(kinds))}")
        if len(labels) < 2:
            raise ValueError(f"{name} must have two classes or more, got {', '.join(map(repr, labels)) or 'no row'}")
        return cls(tuple(sorted(labels)))

    def encode(self, y, name: str = "y") -> np.ndarray:
        """The indices of the classes (rows,), int64; CellError for a label that is not among them."""
        number = {label: k for k, label in enumerate(self.classes)}
        labels = _labels(y, name)
        for row, label in enumerate(labels):
            if label not in number:
                raise CellError(
                    "y", name, row, f"{label!r} is none of the classes {', '.join(map(repr, self.classes))}"
                )
        return np.array([number[label] for label in labels], np.int64)

    def decode(self, numbers) -> list:
        """The labels of the classes with these indices (rows,)."""
        return [self.classes[k] for k in np.asarray(numbers).tolist()]

    def to_dict(self) -> dict[str, Any]:
        """The target as plain values for JSON."""
        return {"task": "classification", "classes": list(self.classes)}


@dataclasses.dataclass(frozen=True)
class ValueTarget:
    """Values of a regression, standardised: (y - mean) / standard deviation; made by `ValueTarget.fit`.

    Attributes
    ----------
    mean, deviation : float
    low, high : float or None
        The range of the values, in which decoded predictions lie; None for no limit.
    """

    mean: float
    deviation: float
    low: float | None = None
    high: float | None = None

    @classmethod
    def fit(cls, y, name: str = "y") -> "ValueTarget":
        """Learn mean and standard deviation of values y (rows,): a list, an array, or a column of a table."""
        values = _values(y, name)
        if not (len(values) and values.min() < values.max() and values.std() > 0):
            raise ValueError(f"{name} must have two different values or more, got {values[:1].tolist()}")
        return cls(float(values.mean()), float(values.std()), float(values.min()), float(values.max()))

    def encode(self, y, name: str = "y") -> np.ndarray:
        """The standardised values (rows,), float64."""
        return (_values(y, name) - self.mean) / self.deviation

    def decode(self, predictions) -> np.ndarray:
        """Predictions in the units of y, of the same shape, float64, none beyond the range of y."""
        values = self.in_units(predictions)
        return values if self.low is None else np.clip(values, self.low, self.high)

    def in_units(self, encoded) -> np.ndarray:
        """Encoded values in the units of y, of the same shape, float64: the reverse of `encode`."""
        return np.asarray(encoded, np.float64) * self.deviation + self.mean

    def to_dict(self) -> dict[str, Any]:
        """The target as plain values for JSON."""
        return {"task": "regression"} | dataclasses.asdict(self)


def _values(y, name: str) -> np.ndarray:
    try:
        values = np.asarray(y).astype(np.float64)
    except (TypeError, ValueError) as error:
        raise TypeError(f"{name} must hold numbers: {error}") from None
    wrong = ~np.isfinite(values)
    if values.ndim == 1 and wrong.any():
        raise CellError("y", name, int(np.argmax(wrong)), f"must be a finite number; {NOT_MISSING}")
    if values.ndim != 1:
        raise ValueError(f"{name} must have one value a row, got the shape {values.shape}")
    return values


def target_from_dict(values: Mapping[str, Any]) -> ClassTarget | ValueTarget:
    """The target that `to_dict` described."""
    if values["task"] == "classification":
        return ClassTarget(tuple(values["classes"]))
    return ValueTarget(values["mean"], values["deviation"], values.get("low"), values.get("high"))
