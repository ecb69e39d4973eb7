"""A model of a table as one Python file that needs nothing but NumPy and takes the columns as they are."""

import datetime
import inspect
import itertools
import pprint
import textwrap
from collections.abc import Sequence

import numpy as np

from nbbp._version import __version__
from nbbp.recipes.tabular import TableModel
from nbbp.sequential import Sequential
from nbbp.tables import ClassTarget, dates
from nbbp.tables.cells import MISSING
from nbbp.tables.dates import parts, read
from nbbp.tables.numeric import LIMIT

FILE = '''"""A model of a table written by nbbp {version}: predict(table), which needs nothing but NumPy.

{summary}
"""

import base64
import datetime
import itertools
import re

import numpy as np

{predict}


def outputs(table):
    """{outputs}, (rows, {width})."""
    X = _encode(table, columns)
{grouped}    return ({networks}) / {members}


{networks_text}
{functions}

MISSING = {missing!r}
LIMIT = {limit!r}  # of scaled numbers
LOOKS_LIKE_ONE = re.compile({pattern!r})
TIMES = {times!r}
PARTS = {parts!r}
{classes}
columns = {columns}

{weights}'''

OF_CLASSES = '''def predict(table):
    """The class of each row, for a table that has a sequence of values for each name, such as a dict of lists."""
    return [classes[k] for k in outputs(table).argmax(axis=1)]'''

OF_VALUES = '''def predict(table):
    """The value of each row, for a table that has a sequence of values for each name, such as a dict of lists."""
    values = outputs(table)[:, 0].astype(float) * {deviation!r} + {mean!r}
    return np.clip(values, {low!r}, {high!r})'''


def _encode(table, columns):
    """The features (rows, features) of the columns of a table."""
    kinds = {"number": _of_numbers, "date": _of_dates, "category": _of_categories}
    return np.concatenate([kinds[column["kind"]](table[column["name"]], column) for column in columns], axis=1)


def _of_numbers(values, column):
    return _scaled(np.array([_number(value) for value in values], float), column)


def _scaled(x, column):
    """Scaled and smoothly clipped numbers, their shares of bins and steps, and whether they are missing."""
    missing = np.isnan(x)
    x = np.where(missing, column["median"], x)
    z = (x - column["median"]) * column["scale"]
    ramps = [*itertools.pairwise(column["edges"]), *column["steps"]]
    shares = [np.clip((x - low) / (high - low), 0, 1) for low, high in ramps]
    return np.stack([z / np.sqrt(1 + (z / LIMIT) ** 2), *shares, *[missing] * column["indicator"]], axis=1)


def _of_dates(values, column):
    instants = np.array([_date(value, column["form"]) for value in values], "datetime64[us]")
    numbers = parts(instants)
    features = [_scaled(numbers[part], known) for part, known in column["parts"].items()]
    return np.concatenate([*features, *[np.isnat(instants)[:, np.newaxis]] * column["indicator"]], axis=1)


def _of_categories(values, column):
    """Columns of numbers for other categories, for their own and for unknown ones; or codes from 1, 0 for others."""
    known = {category: k for k, category in enumerate(column["categories"], 1)}
    codes = np.array([known.get(_text(value), 0) for value in values])[:, np.newaxis]
    if not column["columns"]:
        return codes
    code, other, own, unknown = np.array(column["columns"]).T
    return np.where(codes == code, own, np.where(codes == 0, unknown, other))


def _text(value):
    """A cell as text, None if it is missing; whole numbers are the same as integers and as floats."""
    if value is None or value != value or type(value).__name__ == "NaTType":
        return None
    if not isinstance(value, str) and hasattr(value, "is_integer") and value.is_integer():
        value = int(value)
    return str(value).strip() or None


def _number(value):
    text = _text(value)
    return np.nan if text is None or text.lower() in MISSING else float(value)


def _date(value, form):
    text = _text(value)
    if text is None or text.lower() in MISSING:
        return np.datetime64("NaT", "us")
    if not isinstance(value, str):
        return np.datetime64(value, "us")
    if (found := read(text, form or "%Y-%m-%d")) is None:
        raise ValueError(f"{text!r} is not a date such as {datetime.date(2020, 1, 31).strftime(form or '%Y-%m-%d')}")
    return np.datetime64(found, "us")


FUNCTIONS = (
    _encode, _of_numbers, _scaled, _of_dates, _of_categories, _text, _number, _date, read, parts,
)  # fmt: skip
"""Functions whose source is copied into the file."""


def text(model: TableModel, summary: str, networks: Sequence[tuple[str, str]]) -> str:
    """The file of a model, given the source of a function and of the weights of each member."""
    target, members = model.target, range(1, len(networks) + 1)
    grouped = ""
    if not isinstance(model.members[0], Sequential):
        groups = [group for column in model.encoder.columns for group in column.groups]
        places = {group: [k for k, of in enumerate(groups) if of == group] for group in dict.fromkeys(groups)}
        grouped = f"    X = {{group: X[:, places] for group, places in {places!r}.items()}}\n"
    if isinstance(target, ClassTarget):
        predict, outputs = OF_CLASSES, "Probabilities"
    else:
        low, high = (-np.inf, np.inf) if target.low is None or target.high is None else (target.low, target.high)
        predict = OF_VALUES.format(deviation=target.deviation, mean=target.mean, low=low, high=high)
        outputs = "Standardised values"
    return FILE.format(
        version=__version__,
        summary=summary,
        predict=predict.replace("inf", 'float("inf")') if "inf)" in predict else predict,
        outputs=outputs,
        width=model.members[0].network.graph.outputs[0].shape[0],
        grouped=grouped,
        networks=" + ".join(f"network_{k}(X)" for k in members),
        members=len(networks),
        networks_text="\n\n\n".join(source for source, _ in networks),
        functions="\n\n".join(textwrap.dedent(inspect.getsource(function)) for function in FUNCTIONS),
        missing=MISSING,
        limit=LIMIT,
        pattern=dates.LOOKS_LIKE_ONE.pattern,
        times=dates.TIMES,
        parts=dates.PARTS,
        classes=f"classes = {list(target.classes)!r}\n" if isinstance(target, ClassTarget) else "",
        columns=pprint.pformat(model.encoder.to_dict()["columns"], width=116, compact=True, sort_dicts=False),
        weights="\n\n".join(weights for _, weights in networks),
    )
