"""Tables from CSV, Parquet and NumPy files, with the positions of their rows in the file."""

import codecs
import contextlib
import csv
import dataclasses
import difflib
import pathlib
import re
import zipfile
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from nbbp.tables import CellError
from nbbp.tables.cells import MISSING, NUMBER

if TYPE_CHECKING:
    import pyarrow

DELIMITERS = ",;\t|"
INTEGER = r"^[+-]?\d{1,18}$"


@dataclasses.dataclass(frozen=True)
class TableFile:
    """A table that was read from a file.

    Attributes
    ----------
    path : pathlib.Path
        The path as the user gave it.
    table : pyarrow.Table
        The data; the columns of a CSV are text, as in the file.
    delimiter : str
        The delimiter of a CSV; empty for other files.
    encoding : str
        The encoding of a CSV, as Python names it.
    """

    path: pathlib.Path
    table: "pyarrow.Table"
    delimiter: str = ""
    encoding: str = ""

    @property
    def columns(self) -> list[str]:
        return self.table.column_names

    def check_column(self, name: str, wanted_by: str) -> None:
        """ValueError, with the file's columns and a near match, if it has none of this name."""
        if name not in self.columns:
            near = difflib.get_close_matches(name.lower(), [column.lower() for column in self.columns], n=1)
            meant = next((column for column in self.columns if near and column.lower() == near[0]), None)
            hint = f" Did you mean {meant!r}?" if meant else ""
            known = ", ".join(self.columns)
            raise ValueError(f"{self.path} has no column {name!r} ({wanted_by}).{hint} Its columns are {known}.")

    @contextlib.contextmanager
    def located(self) -> Iterator[None]:
        """Turn a CellError into a ValueError with the file, the line and the column."""
        try:
            yield
        except CellError as error:
            place = f"{self.path}, {self._place(error.row)}, column {error.column!r}"
            problem = error.problem.replace("categorical=[", "--categorical [")
            raise ValueError(f"{place}: {problem}") from None

    def _place(self, row: int) -> str:
        if not self.delimiter:
            return f"row {row} (the first is 0)"
        lines = (line for line, _ in _records(self.path, self.encoding, self.delimiter))
        return f"line {next(line for k, line in enumerate(lines, -1) if k == row)}"

    def typed(self, columns: Sequence[str], text: Sequence[str] = (), numbers: Sequence[str] = ()) -> "pyarrow.Table":
        """Some of the columns; those of a CSV become numbers if most values are.

        Columns in `text` stay text, those in `numbers` must be numbers. CellError if a value is not a number.
        """
        table = self.table.select(columns)
        if not self.delimiter:
            return table
        for k, name in enumerate(columns):
            column = self._typed(name, table[name], name in text, name in numbers)
            table = table.set_column(k, name, column)
        return table

    def _typed(self, name: str, values, text: bool, numbers: bool) -> Any:
        import pyarrow as pa
        import pyarrow.compute as pc

        values = pc.utf8_trim_whitespace(values)
        points = pc.replace_substring(values, ",", ".") if self.delimiter == ";" else values  # 3,14 beside semicolons
        is_number = pc.match_substring_regex(points, f"^{NUMBER.pattern}$")
        missing = pc.is_in(pc.utf8_lower(values), pa.array(["", *MISSING]))
        right, wrong = pc.sum(is_number).as_py(), pc.invert(pc.or_(is_number, missing))
        others = pc.sum(wrong).as_py()
        if text or (not numbers and others and right <= others):
            return pc.if_else(pc.equal(values, ""), pa.scalar(None, pa.string()), values)
        if others:
            row = pc.index(wrong, True).as_py()
            rest = "as the model wants them in this column" if numbers else f"and {right:,} of the column's values are"
            way = "" if numbers else f"; correct it, or take all of them as categories: --categorical {name}"
            raise CellError(str(self.path), name, row, f"{values[row].as_py()!r} is not a number, {rest}{way}")
        plain = pc.replace_substring_regex(pc.if_else(missing, pa.scalar(None, pa.string()), points), r"^\+", "")
        whole = pc.all(pc.match_substring_regex(plain, INTEGER)).as_py()
        return pc.cast(plain, pa.int64() if whole else pa.float64())


def read(path: str) -> TableFile:
    """Read a .csv, .tsv, .txt, .parquet or .npz file; ValueError or OSError if that fails."""
    try:
        import pyarrow as pa
    except ImportError:
        raise ImportError('reading files needs pyarrow: pip install "nbbp[data]"') from None
    place = pathlib.Path(path)
    if not place.is_file():
        raise FileNotFoundError(f"there is no file {path}")
    kind = place.suffix.lower()
    if kind not in READERS:
        raise ValueError(f"{path}: only {', '.join(READERS)} are read")
    try:
        file = READERS[kind](place)
    except pa.ArrowException as error:
        raise ValueError(f"{path} cannot be read: {error}") from None
    if not file.table.num_rows:
        raise ValueError(f"{path} has no rows")
    return file


def _read_csv(path: pathlib.Path) -> TableFile:
    import pyarrow as pa
    from pyarrow import csv as arrow_csv

    encoding = _encoding(path)
    _check_quotes(path, encoding)
    delimiter, names = _header(path, encoding)
    try:
        table = arrow_csv.read_csv(
            path,
            arrow_csv.ReadOptions(column_names=names, encoding="utf8" if encoding == "utf-8-sig" else encoding),
            arrow_csv.ParseOptions(delimiter=delimiter, newlines_in_values=True),
            arrow_csv.ConvertOptions(column_types=dict.fromkeys(names, pa.string())),
        )
    except pa.ArrowInvalid:
        for line, fields in _records(path, encoding, delimiter):
            if len(fields) != len(names):
                raise ValueError(
                    f"{path}, line {line}: {len(fields)} fields, and line 1 names {len(names)} columns"
                ) from None
        raise
    return TableFile(path, table.slice(1), delimiter, encoding)  # without the header


def _encoding(path: pathlib.Path) -> str:
    """UTF-8; UTF-16 if a mark at the beginning says so, or every other byte is 0; otherwise that of Windows or Latin-1.

    Every file is text in Latin-1, so that other encodings of single bytes are read with wrong letters.
    """
    content = path.read_bytes()
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return "utf-16"
    start = content[:4096]
    if b"\0" in start:
        return "utf-16-le" if start[1::2].count(0) > start[::2].count(0) else "utf-16-be"
    for encoding in ("utf-8-sig", "cp1252"):
        with contextlib.suppress(UnicodeDecodeError):
            content.decode(encoding)
            return encoding
    return "latin-1"


def _header(path: pathlib.Path, encoding: str) -> tuple[str, list[str]]:
    """The delimiter and the names of the columns."""
    with path.open(encoding=encoding, newline="") as file:
        first = re.sub(r'"[^"]*"', "", next((line for line in file if line.strip()), ""))
    delimiter = max(DELIMITERS, key=first.count)
    _, fields = next(_records(path, encoding, delimiter), (1, []))
    names = [name.strip() for name in fields]
    if not names:
        raise ValueError(f"{path} is empty")
    if all(map(NUMBER.fullmatch, names)):
        raise ValueError(f"{path}, line 1: the first line must name the columns, and holds numbers")
    for k, name in enumerate(names):
        if not name:
            names[k] = f"column {k + 1}"  # as the index has that pandas writes
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise ValueError(f"{path}, line 1: two columns are called {twice!r}")
    return delimiter, names


def _records(path: pathlib.Path, encoding: str, delimiter: str) -> Iterator[tuple[int, list[str]]]:
    """The line, counted from 1, and the fields of each record, the header first; a quoted field may span lines."""
    with path.open(encoding=encoding, newline="") as file:
        reader = csv.reader(file, delimiter=delimiter)
        line = 1
        for fields in reader:
            if fields:
                yield line, fields
            line = reader.line_num + 1


def _check_quotes(path: pathlib.Path, encoding: str) -> None:
    """Check that quotes are closed: a field without its closing quote would take in all lines after it."""
    if path.read_bytes().count(b'"') % 2 == 0:
        return
    with path.open(encoding=encoding, newline="") as file:
        reader = csv.reader(file, strict=True)
        line = 1
        try:
            for _ in reader:
                line = reader.line_num + 1
        except csv.Error as error:
            raise ValueError(f"{path}, line {line}: a quote that is not closed, or not at the end ({error})") from None


def _read_parquet(path: pathlib.Path) -> TableFile:
    from pyarrow import parquet

    return TableFile(path, parquet.read_table(path))


def _read_npz(path: pathlib.Path) -> TableFile:
    """X as columns x0, x1, ..., and y if the file has it."""
    import pyarrow as pa

    try:
        with np.load(path) as arrays:
            given = dict(arrays)
    except (ValueError, TypeError, zipfile.BadZipFile):
        raise ValueError(f"{path} is no npz file, or has arrays of Python objects") from None
    X, y = given.get("X"), given.get("y")
    if X is None or X.ndim != 2:
        found = f"X has the shape {X.shape}" if X is not None else f"it has {', '.join(given) or 'no array'}"
        raise ValueError(f"{path} must have an array X with rows and columns, and y with a value a row; {found}")
    columns = {f"x{k}": X[:, k] for k in range(X.shape[1])}
    if y is not None:
        if y.size != len(X):
            raise ValueError(f"{path}: X has {len(X)} rows, and y has the shape {y.shape}")
        columns["y"] = y.reshape(-1)
    return TableFile(path, pa.table(columns))


READERS = {".csv": _read_csv, ".tsv": _read_csv, ".txt": _read_csv, ".parquet": _read_parquet, ".npz": _read_npz}
