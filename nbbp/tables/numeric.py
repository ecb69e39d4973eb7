"""What is learned of a column of numbers, and of a column of dates, whose parts are numbers."""

import dataclasses
import itertools
from collections.abc import Mapping
from typing import Any, Self

import numpy as np

from nbbp.tables import dates
from nbbp.tables.cells import Cells
from nbbp.tables.steps import steps

LIMIT = 3.0  # no scaled number is farther than this from 0
MOST_STEPS = 31


@dataclasses.dataclass(frozen=True)
class Numbers:
    """A column of numbers, scaled and smoothly clipped, beside its shares of bins and steps and whether it is missing.

    With z = scale (x - median), the first feature is z / sqrt(1 + (z / 3)^2): Holzmueller, Grinsztajn and Steinwart,
    "Better by default", 2024, section 3. Bin k's is (x - edge_k) / (edge_k+1 - edge_k) within 0 and 1: Gorishniy,
    Rubachev and Babenko, "On embeddings for numerical features in tabular deep learning", 2022, equation 1; bins
    are between quantiles, or, if the target has classes, between steps. A step is a bin between two neighbouring
    numbers where the target changes, see `nbbp.tables.steps`. A missing number becomes the median, and the last
    feature 1.

    Attributes
    ----------
    name : str
    median, scale : float
        The scale is 1 / (distance of the quartiles), 2 / (distance of the extremes) if the quartiles are equal, 0 for a
        constant.
    edges : tuple of float
        The edges of the bins; empty without bins.
    indicator : bool
        Whether there is a feature for missing numbers.
    steps : tuple of (float, float)
        The two numbers of each step.
    """

    name: str
    median: float
    scale: float
    edges: tuple[float, ...] = ()
    indicator: bool = False
    steps: tuple[tuple[float, float], ...] = ()

    kind = "number"

    @classmethod
    def fit(cls, column: Cells, bins: int, target: np.ndarray | None = None) -> Self:
        """Learn from a column of numbers."""
        return cls.of(column.name, column.values, bins, target)

    @classmethod
    def of(cls, name: str, values: np.ndarray, bins: int, target: np.ndarray | None = None) -> Self:
        """Learn from values (rows,), nan for missing ones, of which one is a number, and a target (rows,), if given."""
        missing = np.isnan(values)
        present = values[~missing]
        low, first, median, third, high = np.quantile(present, [0, 0.25, 0.5, 0.75, 1]).tolist()
        scale = 1 / (third - first) if third > first else 2 / (high - low) if high > low else 0.0
        edges: Any = []
        found: list[tuple[float, float]] = []
        if len(np.unique(present)) > 2:  # of two values, the shares of bins would be the first feature again
            found = [] if target is None else steps(values, target, MOST_STEPS)
            if target is not None and target.dtype.kind == "i":
                edges = [low, *(a / 2 + b / 2 for a, b in found), high]
            else:
                edges = np.quantile(present, np.linspace(0, 1, bins + 1))
        edges = np.unique(edges if bins else []).tolist()
        return cls(name, median, scale, tuple(edges) if len(edges) > 2 else (), bool(missing.any()), tuple(found))

    @property
    def features(self) -> list[str]:
        bins = [f"{self.name} in bin {k}" for k in range(1, len(self.edges))]
        steps = [f"{self.name} above {low}" for low, _ in self.steps]
        return [self.name, *bins, *steps, *[f"{self.name} is missing"] * self.indicator]

    @property
    def groups(self) -> list[str]:
        """For each feature, "numbers", "one_hot" or "codes"."""
        return ["numbers"] * (max(1, len(self.edges)) + len(self.steps)) + ["one_hot"] * self.indicator

    @property
    def description(self) -> str:
        beside = [f"its share of {len(self.edges) - 1} bins"] if self.edges else []
        if self.steps:
            beside.append(f"{len(self.steps)} {'step' if len(self.steps) == 1 else 'steps'} where the target changes")
        bins = f", beside {' and '.join(beside)}" if beside else ""
        missing = "; missing ones are the median, and marked" if self.indicator else ""
        return f"number, scaled by median {self.median:.4g} and quartiles and clipped smoothly{bins}{missing}"

    def encode(self, column: Cells) -> np.ndarray:
        return self.encode_numbers(column.as_numbers())

    def encode_numbers(self, values: np.ndarray) -> np.ndarray:
        """The features (rows, features) of values (rows,)."""
        missing = np.isnan(values)
        values = np.where(missing, self.median, values)
        z = (values - self.median) * self.scale
        features = [z / np.sqrt(1 + (z / LIMIT) ** 2)]
        ramps = [*itertools.pairwise(self.edges), *self.steps]
        features += [np.clip((values - low) / (high - low), 0, 1) for low, high in ramps]
        features += [missing] * self.indicator
        return np.stack(features, axis=1).astype(np.float64)

    def to_dict(self) -> dict[str, Any]:
        lists = {"edges": list(self.edges), "steps": [list(step) for step in self.steps]}
        return {"kind": self.kind} | dataclasses.asdict(self) | lists

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        edges, steps = tuple(values["edges"]), tuple((low, high) for low, high in values.get("steps", ()))
        return cls(values["name"], values["median"], values["scale"], edges, bool(values["indicator"]), steps)


@dataclasses.dataclass(frozen=True)
class Dates:
    """A column of dates, whose year, month, day, weekday and hour are numbers, each unless it is always the same.

    Attributes
    ----------
    name : str
    form : str or None
        The form of dates in text, as strptime has it; None if the column had dates.
    parts : dict of str to Numbers
        What is learned of each part.
    indicator : bool
        Whether there is a feature for missing dates.
    """

    name: str
    form: str | None
    parts: Mapping[str, Numbers]
    indicator: bool = False

    kind = "date"

    @classmethod
    def fit(cls, column: Cells, form: str | None, bins: int, target: np.ndarray | None = None) -> Self:
        """Learn from a column of dates, which were text in a form, or None."""
        present = column.present
        target = None if target is None else target[~np.isnat(column.values)]
        parts = {part: values for part, values in dates.parts(present).items() if values.min() < values.max()}
        known = {part: Numbers.of(f"{column.name}, {part}", values, bins, target) for part, values in parts.items()}
        return cls(column.name, form, known, len(present) < len(column))

    @property
    def features(self) -> list[str]:
        of_parts = [feature for part in self.parts.values() for feature in part.features]
        return [*of_parts, *[f"{self.name} is missing"] * self.indicator]

    @property
    def groups(self) -> list[str]:
        return [group for part in self.parts.values() for group in part.groups] + ["one_hot"] * self.indicator

    @property
    def description(self) -> str:
        return f"date, as the numbers {', '.join(self.parts)}"

    def encode(self, column: Cells) -> np.ndarray:
        if column.kind == "number" and not np.isnan(column.values).all():
            raise TypeError(f"{column.table}: column {self.name!r} held dates when it was learned, now numbers")
        if column.kind == "text":
            values = dates.instants(column, self.form or dates.FORMS[0], "as the model wants them in this column")
        elif column.kind == "date":
            values = column.values
        else:
            values = np.full(len(column), np.datetime64("NaT", "us"))
        numbers = dates.parts(values)
        features = [known.encode_numbers(numbers[part]) for part, known in self.parts.items()]
        features += [np.isnat(values)[:, np.newaxis].astype(np.float64)] * self.indicator
        return np.concatenate(features, axis=1)

    def to_dict(self) -> dict[str, Any]:
        parts = {part: known.to_dict() for part, known in self.parts.items()}
        return {"kind": self.kind, "name": self.name, "form": self.form, "parts": parts, "indicator": self.indicator}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        parts = {part: Numbers.from_dict(known) for part, known in values["parts"].items()}
        return cls(values["name"], values["form"], parts, bool(values["indicator"]))
