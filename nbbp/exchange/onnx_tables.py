"""ONNX operators for the columns of a table as they are, and for the results of the networks behind them."""

import itertools
from collections.abc import Sequence

import numpy as np

from nbbp.exchange.onnx_writer import Output, Writer
from nbbp.recipes.tabular import TableModel
from nbbp.tables import ClassTarget
from nbbp.tables.categorical import UNKNOWN, Categories
from nbbp.tables.numeric import LIMIT, Dates, Numbers

OF_TEXT = "ai.onnx.ml", 2  # the operators that know text, and their first opset whose LabelEncoder takes it
MISSING_DATE = int(np.datetime64("NaT", "us").astype(np.int64))
DAY, HOUR = 86_400_000_000, 3_600_000_000  # microseconds
MARCH_1_OF_0 = 719_468  # days before 1970
DTYPES = {"number": np.dtype(np.float64), "date": np.dtype(np.int64), "category": np.dtype(object)}


def inputs(model: TableModel) -> dict[str, Output]:
    """The inputs: a tensor (rows,) for each column."""
    return {column.name: (column.name, DTYPES[column.kind], []) for column in model.encoder.columns}


def encoded(writer: Writer, model: TableModel) -> dict[str, str]:
    """Add the operators that encode the columns; returns the inputs of the members by their names."""
    features: list[tuple[str, str]] = []
    for column in model.encoder.columns:
        writer.scope = f"{column.name}/"
        math = Math(writer)
        if isinstance(column, Numbers):
            made = _numbers(math, column, column.name)
        elif isinstance(column, Dates):
            made = _dates(math, column)
        else:
            made = _categories(math, column)
        columns = (math.operator("Unsqueeze", feature, math.integers("axis", [1])) for feature in made)
        features += zip(column.groups, columns, strict=True)
    writer.scope = ""
    first = model.inputs(np.zeros((1, len(features))))
    if not isinstance(first, dict):
        return {"X": writer.operator("Concat", *(name for _, name in features), axis=1)}
    found = {}
    for group, example in first.items():
        joined = writer.operator("Concat", *(name for of_group, name in features if of_group == group), axis=1)
        found[group] = writer.cast(joined, example.dtype)
    return found


def answers(writer: Writer, model: TableModel, members: Sequence[str]) -> dict[str, Output]:
    """Add the operators that turn the members' predictions (rows, outputs) into the model's."""
    y = writer.operator("Mean", *members) if len(members) > 1 else members[0]
    if isinstance(model.target, ClassTarget):
        classes = np.array(model.target.classes)
        names = classes.astype(object if classes.dtype.kind in "OUS" else classes.dtype)
        chosen = writer.operator("ArgMax", y, axis=1, keepdims=0)
        label = writer.operator("Gather", writer.array("classes", names), chosen)
        return {"label": (label, names.dtype, []), "probabilities": (y, writer.dtype, [len(classes)])}
    math, target = Math(writer), model.target
    values = writer.cast(writer.operator("Squeeze", y, math.integers("axis", [1])), np.float64)
    values = math.operator("Add", math.operator("Mul", values, math.number(target.deviation)), math.number(target.mean))
    if target.low is not None and target.high is not None:
        values = math.operator("Clip", values, math.number(target.low), math.number(target.high))
    return {"predictions": (values, np.dtype(np.float64), [])}


class Math:
    """Operators with constants of float64 and of int64."""

    def __init__(self, writer: Writer) -> None:
        self._writer, self.operator, self.cast = writer, writer.operator, writer.cast

    def number(self, value: float) -> str:
        return self._writer.array(f"{value!r}", np.array(value, np.float64))

    def integers(self, name: str, values) -> str:
        return self._writer.array(name, np.array(values, np.int64))

    def whole(self, kind: str, x: str, value: int) -> str:
        """An operator of integers x and a constant; Div rounds to 0."""
        return self.operator(kind, x, self.integers(f"{value}", value))

    def features(self, *features: str) -> list[str]:
        """Features in the dtype of the network."""
        return [self.cast(feature, self._writer.dtype) for feature in features]


def _numbers(math: Math, column: Numbers, x: str) -> list[str]:
    missing = math.operator("IsNaN", x)
    x = math.operator("Where", missing, math.number(column.median), x)
    z = math.operator("Mul", math.operator("Sub", x, math.number(column.median)), math.number(column.scale))
    part = math.operator("Div", z, math.number(LIMIT))
    root = math.operator("Sqrt", math.operator("Add", math.operator("Mul", part, part), math.number(1.0)))
    features = [math.operator("Div", z, root)]
    for low, high in [*itertools.pairwise(column.edges), *column.steps]:
        share = math.operator("Div", math.operator("Sub", x, math.number(low)), math.number(high - low))
        features.append(math.operator("Clip", share, math.number(0.0), math.number(1.0)))
    return math.features(*features, *[missing] * column.indicator)


def _dates(math: Math, column: Dates) -> list[str]:
    """Microseconds since 1970 as the parts of dates, for years from 0.

    The calendar's years begin in March here, so that February, with its varying days, is the last month: as in Hinnant,
    "chrono-compatible low-level date algorithms", civil_from_days.
    """
    missing = math.whole("Equal", column.name, MISSING_DATE)
    time = math.operator("Where", missing, math.integers("then", 0), column.name)
    time = math.whole("Add", time, MARCH_1_OF_0 * DAY)
    days = math.whole("Div", time, DAY)
    hour = math.cast(math.operator("Sub", time, math.whole("Mul", days, DAY)), np.float64)
    era = math.whole("Div", days, 146_097)  # of 400 years
    day = math.operator("Sub", days, math.whole("Mul", era, 146_097))
    leaps = [math.whole("Div", day, n) for n in (1_460, 36_524, 146_096)]
    year = math.operator("Sub", math.operator("Add", math.operator("Sub", day, leaps[0]), leaps[1]), leaps[2])
    year = math.whole("Div", year, 365)
    before = math.operator("Add", math.whole("Mul", year, 365), math.whole("Div", year, 4))
    before = math.operator("Sub", before, math.whole("Div", year, 100))
    day = math.operator("Sub", day, before)
    month = math.whole("Div", math.whole("Add", math.whole("Mul", day, 5), 2), 153)  # 0 is March
    begin = math.whole("Div", math.whole("Add", math.whole("Mul", month, 153), 2), 5)
    late = math.whole("Less", month, 10)
    year = math.operator("Add", year, math.whole("Mul", era, 400))
    parts = {
        "year": math.operator("Where", late, year, math.whole("Add", year, 1)),
        "month": math.operator("Where", late, math.whole("Add", month, 3), math.whole("Sub", month, 9)),
        "day": math.whole("Add", math.operator("Sub", day, begin), 1),
        "weekday": math.whole("Mod", math.whole("Add", days, 2), 7),  # 719,468 days before 1970 was a Wednesday
    }
    values = {part: math.cast(value, np.float64) for part, value in parts.items()}
    values["hour"] = math.operator("Div", hour, math.number(float(HOUR)))
    features: list[str] = []
    for part, known in column.parts.items():
        value = math.operator("Where", missing, math.number(known.median), values[part])
        features += _numbers(math, known, value)
    return features + math.features(*[missing] * column.indicator)


def _categories(math: Math, column: Categories) -> list[str]:
    """Codes of text, in which missing is empty."""
    texts = ["" if category is None else category for category in column.categories]
    codes = math.operator(
        "LabelEncoder", column.name, domain=OF_TEXT[0], keys_strings=texts,
        values_int64s=list(range(1, len(texts) + 1)), default_int64=0,
    )  # fmt: skip
    if not column.one_hot:
        return math.features(codes)
    unknown, features = math.whole("Equal", codes, UNKNOWN), []
    for code, *numbers in column.columns:
        other, own, of_unknown = map(math.number, numbers)
        rest = math.operator("Where", unknown, of_unknown, other)
        features.append(math.operator("Where", math.whole("Equal", codes, code), own, rest))
    return math.features(*features)
