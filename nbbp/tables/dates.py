"""Dates in text: their forms, and the numbers that say when they are."""

import datetime
import re

import numpy as np

from nbbp.tables.cells import MISSING, Cells

FORMS = ("%Y-%m-%d", "%Y/%m/%d", "%d.%m.%Y", "%m/%d/%Y", "%d/%m/%Y")  # the first that reads most values is taken
TIMES = ("", " %H:%M", " %H:%M:%S", "T%H:%M", "T%H:%M:%S", " %H:%M:%S.%f", "T%H:%M:%S.%f")
LOOKS_LIKE_ONE = re.compile(r"\d{1,4}[-/.]\d{1,2}[-/.]\d{1,4}([ T].*)?")
PARTS = ("year", "month", "day", "weekday", "hour")


def read(text: str, form: str) -> datetime.datetime | None:
    """The date in a text, with or without a time behind it; None if the text is no such date."""
    if not LOOKS_LIKE_ONE.fullmatch(text):
        return None
    text = text.removesuffix("Z")
    for time in TIMES:
        try:
            return datetime.datetime.strptime(text, form + time)
        except ValueError:
            continue
    return None


def form_of(texts: list[str]) -> str | None:
    """The form in which more than half of some texts are dates; None if there is none."""
    tried = texts[:: max(1, len(texts) // 1000)]
    counts = [sum(read(text, form) is not None for text in tried) for form in FORMS]
    best = int(np.argmax(counts))
    return FORMS[best] if counts[best] > len(tried) / 2 else None


def instants(column: Cells, form: str, rest: str) -> np.ndarray:
    """The dates of a column of text (rows,), datetime64[us]; CellError, which ends with `rest`, for any other text."""
    known: dict[str, datetime.datetime] = {}
    values = np.full(len(column), np.datetime64("NaT", "us"))
    for row, text in enumerate(column.values):
        if text is None or text.lower() in MISSING:
            continue
        if text not in known:
            found = read(text, form)
            if found is None:
                example = datetime.date(2020, 1, 31).strftime(form)
                raise column.error(row, f"{text!r} is not a date such as {example}, {rest}")
            known[text] = found
        values[row] = known[text]
    return values


def parts(instants: np.ndarray) -> dict[str, np.ndarray]:
    """Year, month, day, weekday (Monday is 0) and hour (with its fraction) of dates (rows,), float64; nan for NaT."""
    years, months, days = (instants.astype(f"datetime64[{unit}]") for unit in "YMD")
    numbers = {
        "year": years.astype(np.int64) + 1970,
        "month": (months - years).astype(np.int64) + 1,
        "day": (days - months).astype(np.int64) + 1,
        "weekday": (days.astype(np.int64) + 3) % 7,
        "hour": (instants - days) / np.timedelta64(1, "h"),
    }
    missing = np.isnat(instants)
    return {part: np.where(missing, np.nan, numbers[part]) for part in PARTS}
