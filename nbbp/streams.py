"""Data larger than memory: rows that are read piece by piece, again in each epoch, while the kernels run.

A stream is cut into chunks, sections of a file that are read at once. Each epoch takes them in an order of its own,
fills a buffer with some, and trains on its rows in shuffled order, while a thread reads the next ones. Memory
holds a few buffers, whatever the size of the data.

`windows` is for series, which memory holds, and their windows, which it does not: see `nbbp.series`.
"""

import contextlib
import importlib
import pathlib
import queue
import threading
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from nbbp import checks
from nbbp.engine.ragged import Ragged
from nbbp.series import windows as windows
from nbbp.tables import CellError, ClassTarget, TableEncoder, ValueTarget

CHUNK_BYTES = 1 << 20  # per array
BUFFER_BYTES = 1 << 25

Piece = tuple[Any, Any, Any]
"""X, y and the weights of some rows, or None for weights that are all 1."""


class Stream:
    """Rows in chunks; made by `from_arrays`, `from_parquet`, `from_arrow` or `from_batches`, for `Sequential.fit`.

    Attributes
    ----------
    rows : int
        The number of rows in an epoch.
    chunks : int
        The number of chunks that can be read in any order; 1 if the order is fixed.
    buffer_rows : int or None
        Rows that are shuffled together; None for as many as fit in 32 MiB.
    """

    def __init__(
        self, read: Callable[[int], Iterator[Piece]], rows: int, chunks: int = 1, buffer_rows: int | None = None
    ) -> None:
        self._read, self.rows, self.chunks = read, checks.positive_integer("rows", rows), chunks
        self.buffer_rows = None if buffer_rows is None else checks.positive_integer("buffer_rows", buffer_rows)

    def __repr__(self) -> str:
        return f"<Stream of {self.rows:,} rows in {self.chunks:,} chunks>"

    def pieces(self, order: Iterable[int] = (0,)) -> Iterator[Piece]:
        """The pieces of these chunks, in order; empty ones are left out."""
        for chunk in order:
            yield from (piece for piece in self._read(chunk) if len(piece[0]))

    def first(self) -> Piece:
        """The first piece."""
        for piece in self.pieces(range(self.chunks)):
            return piece
        raise ValueError(f"the stream has no rows, and was to have {self.rows}")


def from_arrays(X, y, sample_weight=None, buffer_rows: int | None = None) -> Stream:
    """Rows of arrays that are sliced as needed: ``np.load("X.npy", mmap_mode="r")``, HDF5, Zarr.

    Parameters
    ----------
    X : array (rows, ...) or nbbp.Ragged
    y : array (rows,) or (rows, outputs), or nbbp.Ragged
    sample_weight : array (rows,), optional
    buffer_rows : int, optional
        Rows that are shuffled together; by default as many as fit in 32 MiB.

    Examples
    --------
    >>> import nbbp
    >>> X, y = nbbp.datasets.load_digits()
    >>> stream = nbbp.streams.from_arrays(X, y, buffer_rows=512)
    >>> model = nbbp.Sequential([nbbp.Dense(32, "relu"), nbbp.Dense(10)], loss="softmax_cross_entropy")
    >>> len(model.fit(stream, epochs=3, verbose=0))
    3
    """
    rows = len(X)
    for name, array in (("y", y), ("sample_weight", sample_weight)):
        if array is not None and len(array) != rows:
            raise ValueError(f"X has {rows} rows and {name} has {len(array)}")
    row_bytes = (X.values.nbytes // max(1, rows)) if isinstance(X, Ragged) else np.asarray(X[:1]).nbytes
    chunk_rows = max(1, CHUNK_BYTES // max(1, row_bytes))

    def read(chunk: int) -> Iterator[Piece]:
        part = slice(chunk * chunk_rows, (chunk + 1) * chunk_rows)
        yield X[part], y[part], None if sample_weight is None else sample_weight[part]

    return Stream(read, rows, -(-rows // chunk_rows), buffer_rows)


def from_parquet(
    paths,
    target: str | Sequence[str],
    buffer_rows: int | None = None,
    encoder: TableEncoder | None = None,
    target_encoder: ClassTarget | ValueTarget | None = None,
) -> Stream:
    """Rows of Parquet files, a row group at a time.

    Parameters
    ----------
    paths : path or sequence of paths
    target : str or sequence of str
        The column or columns of y; all others are X, in the order of the first file.
    buffer_rows : int, optional
        As for `from_arrays`.
    encoder : nbbp.tables.TableEncoder, optional
        Converts the columns that it knows, text among them, to X; without it all columns must be numbers. Fit it
        beforehand, to as many rows as memory holds.
    target_encoder : nbbp.tables.ClassTarget or nbbp.tables.ValueTarget, optional
        Converts the target's labels or values to y.

    Examples
    --------
    >>> import nbbp, pyarrow, pyarrow.parquet, tempfile
    >>> table = pyarrow.table({"mass": [3.0, 5.0], "island": ["Dream", "Biscoe"], "species": ["Adelie", "Gentoo"]})
    >>> encoder = nbbp.tables.TableEncoder.fit(table.drop_columns("species"))
    >>> species = nbbp.tables.ClassTarget.fit(table["species"])
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     pyarrow.parquet.write_table(table, f"{folder}/penguins.parquet")
    ...     stream = nbbp.streams.from_parquet(
    ...         f"{folder}/penguins.parquet", "species", encoder=encoder, target_encoder=species)
    ...     X, y, _ = stream.first()
    >>> X.tolist(), y.tolist()
    ([[-0.9486832980505138, 0.0, 1.0], [0.9486832980505138, 1.0, 0.0]], [0, 1])
    """
    parquet = _pyarrow("pyarrow.parquet")
    listed = _listed(paths)
    files = [parquet.ParquetFile(path) for path in listed]
    groups = [(path, file, k) for path, file in zip(listed, files, strict=True) for k in range(file.num_row_groups)]
    split = _splitter(files[0].schema_arrow.names, target, encoder, target_encoder)

    def read(chunk: int) -> Iterator[Piece]:
        path, file, group = groups[chunk]
        yield split(file.read_row_group(group), f"{path}, row group {group}")

    return Stream(read, sum(file.metadata.num_rows for file in files), len(groups), buffer_rows)


def from_arrow(
    paths,
    target: str | Sequence[str],
    buffer_rows: int | None = None,
    encoder: TableEncoder | None = None,
    target_encoder: ClassTarget | ValueTarget | None = None,
) -> Stream:
    """Rows of Arrow (Feather) files, a record batch at a time.

    Parameters
    ----------
    paths, target, buffer_rows, encoder, target_encoder
        As for `from_parquet`.
    """
    arrow, ipc = _pyarrow("pyarrow"), _pyarrow("pyarrow.ipc")
    listed = _listed(paths)
    files = [ipc.open_file(arrow.memory_map(str(path))) for path in listed]
    batches = [
        (path, file, k) for path, file in zip(listed, files, strict=True) for k in range(file.num_record_batches)
    ]
    split = _splitter(files[0].schema.names, target, encoder, target_encoder)

    def read(chunk: int) -> Iterator[Piece]:
        path, file, k = batches[chunk]
        yield split(arrow.Table.from_batches([file.get_batch(k)]), f"{path}, record batch {k}")

    rows = sum(file.get_batch(k).num_rows for _, file, k in batches)
    return Stream(read, rows, len(batches), buffer_rows)


def from_batches(
    batches: Iterable,
    rows: int | None = None,
    buffer_rows: int | None = None,
    encoder: TableEncoder | None = None,
    target_encoder: ClassTarget | ValueTarget | None = None,
) -> Stream:
    """Rows of anything that can be iterated over again in each epoch, such as a list or a PyTorch DataLoader.

    Parameters
    ----------
    batches : iterable of (X, y) or (X, y, sample_weight)
        Batches of any sizes, the same rows each time, all with weights or none; a function that returns an iterator is
        called for each epoch.
    rows : int, optional
        The number of rows in an epoch; by default counted in a first pass.
    buffer_rows : int, optional
        As for `from_arrays`.
    encoder, target_encoder : optional
        As for `from_parquet`, if X are tables of pandas, polars or pyarrow, and y columns.
    """
    if isinstance(batches, Iterator):
        raise TypeError(f"a {type(batches).__name__} can be read only once: give a function that returns one")

    def read(chunk: int) -> Iterator[Piece]:
        weighted = set()
        for number, batch in enumerate(batches() if callable(batches) else batches):
            if not isinstance(batch, tuple | list) or len(batch) not in (2, 3):
                raise TypeError(f"each batch must be (X, y) or (X, y, sample_weight); got {type(batch).__name__}")
            X, y, weights = (*batch, None)[:3]
            weighted.add(weights is not None)
            if len(weighted) > 1:
                raise ValueError("some batches have sample_weight and others not: give all of them weights, or none")
            if encoder:
                X = encoder.encode(X, f"batch {number}")
            if target_encoder:
                y = _encoded_target(target_encoder, y, f"batch {number}", "y")
            yield X, y, weights

    return Stream(read, sum(len(piece[0]) for piece in read(0)) if rows is None else rows, 1, buffer_rows)


def _pyarrow(module: str) -> Any:
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ImportError('Parquet and Arrow files need pyarrow: pip install "nbbp[data]"') from error


def _listed(paths) -> list:
    return [paths] if isinstance(paths, str | pathlib.Path) else list(paths)


def _splitter(
    names: list[str],
    target: str | Sequence[str],
    encoder: TableEncoder | None,
    target_encoder: ClassTarget | ValueTarget | None,
) -> Callable[[Any, str], Piece]:
    """A function that cuts a table (and its name) into X and y; every table must have the same columns."""
    wanted = [target] if isinstance(target, str) else list(target)
    for name in wanted:
        checks.choose("target", name, dict.fromkeys(names))
        if encoder and any(column.name == name for column in encoder.columns):
            raise ValueError(f"the target {name!r} is one of the encoder's columns: fit it to a table without it")
    if target_encoder and len(wanted) > 1:
        raise ValueError(f"target_encoder is for one target, got {', '.join(map(repr, wanted))}")
    features = [name for name in names if name not in wanted]

    def split(table, place: str) -> Piece:
        X = encoder.encode(table, place) if encoder else _numbers(table, features, place, "encoder")
        if target_encoder:
            return X, _encoded_target(target_encoder, table.column(wanted[0]), place, wanted[0]), None
        return X, _numbers(table, wanted, place, "target_encoder"), None

    return split


def _encoded_target(target_encoder: ClassTarget | ValueTarget, column, place: str, name: str) -> np.ndarray:
    try:
        return target_encoder.encode(column, name)
    except CellError as error:
        raise CellError(place, name, error.row, error.problem) from None


def _numbers(table, names: list[str], place: str, way_out: str) -> np.ndarray:
    """Columns side by side, (rows, columns)."""
    columns = []
    for name in names:
        column = table.column(name)
        if column.null_count:
            raise ValueError(
                f"{place}: column {name!r} has {column.null_count} missing values; fill them or leave the rows out"
            )
        values = column.to_numpy()
        if values.dtype.kind not in "biuf":
            raise ValueError(
                f"{place}: column {name!r} must be numbers, got {column.type}; {way_out}= makes some of it"
            )
        columns.append(values)
    return np.column_stack(columns)


def read_ahead(pieces: Iterator) -> Generator:
    """The same pieces; a thread reads the next one while the last is in use."""
    ready: queue.Queue = queue.Queue(maxsize=1)
    closed = threading.Event()

    def put(kind: str, value: Any) -> bool:
        while not closed.is_set():
            with contextlib.suppress(queue.Full):
                ready.put((kind, value), timeout=0.1)
                return True
        return False

    def work() -> None:
        try:
            for piece in pieces:
                if not put("piece", piece):
                    return
            put("end", None)
        except BaseException as error:
            put("error", error)

    thread = threading.Thread(target=work, name="nbbp reads ahead", daemon=True)
    thread.start()
    try:
        while (given := ready.get())[0] == "piece":
            yield given[1]
        if given[0] == "error":
            raise given[1]
    finally:
        closed.set()
        thread.join()
