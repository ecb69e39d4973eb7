"""Model files: safetensors with a description in JSON, written completely or not at all, and checked when read.

The header's metadata have one entry, ``nbbp``, a JSON object of ``format_version``, ``nbbp_version``, which wrote the
file, ``description`` and ``sha256``: a digest of the description and of every array with its name, dtype and shape.
Equal content gives equal bytes. Nothing in a file is ever executed.
"""

import contextlib
import hashlib
import json
import os
import pathlib
import uuid
from collections.abc import Iterator
from typing import Any

import numpy as np
import safetensors
import safetensors.numpy

from nbbp._version import __version__
from nbbp.storage.earlier import renewed

FORMAT_VERSION = 1
PARTIAL = ".partial"  # suffix of a file that is being written
INCOMPLETE, LINES_BEFORE = "the file is not complete", "the lines of the epochs before are in it"  # see `writing`

Arrays = dict[str, np.ndarray]


class ModelFileError(ValueError):
    """A file that is not a model, or is damaged."""


def write(path, arrays: Arrays, description: dict) -> None:
    """Write arrays and a description and flush them to disk; an older file is intact until then."""
    arrays = {name: np.asarray(array, array.dtype.newbyteorder("<"), order="C") for name, array in arrays.items()}
    entry = {
        "format_version": FORMAT_VERSION,
        "nbbp_version": __version__,
        "description": description,
        "sha256": _digest(arrays, description),
    }
    replace(path, safetensors.numpy.save(arrays, {"nbbp": json.dumps(entry)}))


def replace(path, content: bytes) -> None:
    """Replace a file by `content`, which is written beside it and then renamed."""
    path = pathlib.Path(path)
    if not path.parent.is_dir():
        raise FileNotFoundError(f"there is no folder {path.parent} to write {path.name} into")
    partial = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}{PARTIAL}")
    with writing(path, "files that were there before are intact"):
        try:
            with open(partial, "xb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            os.replace(partial, path)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(partial)
            raise
    _flush_folder(path.parent)


@contextlib.contextmanager
def writing(path, left: str) -> Iterator[None]:
    """Make system errors name the file; if it was being written, as on a full disk, they say what is left."""
    try:
        yield
    except OSError as error:
        if error.filename is None:
            error.strerror = f"{error.strerror or error}; {left}"
        error.filename = str(path)
        with contextlib.suppress(AttributeError):
            del error.filename2  # of a rename
        raise


def _flush_folder(folder: pathlib.Path) -> None:
    """Flush the folder with the new name, if the system can."""
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def read(path) -> tuple[Arrays, dict]:
    """Read the arrays and the description of a file that `write` has written.

    Raises
    ------
    ModelFileError
        If it is not such a file, is damaged, or has a later format.
    OSError
        If it cannot be read.
    """
    content = pathlib.Path(path).read_bytes()
    try:
        arrays = safetensors.numpy.load(content)
        metadata = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")]).get("__metadata__") or {}
    except (safetensors.SafetensorError, KeyError, ValueError, RecursionError) as error:
        raise ModelFileError(f"{path} is not a safetensors file of arrays, or is damaged: {error}") from error
    if "nbbp" not in metadata:
        raise ModelFileError(f"{path} was not written by nbbp; weights of other programs come in by nbbp.exchange")
    try:
        entry = json.loads(metadata["nbbp"])
        version, description = entry["format_version"], entry["description"]
        sound = version != FORMAT_VERSION or entry["sha256"] == _digest(arrays, description)
        arrays, description = renewed(arrays, description)
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise ModelFileError(f"{path} is damaged: its description cannot be read") from error
    if version != FORMAT_VERSION:
        writer = f", written by nbbp {entry['nbbp_version']}" if "nbbp_version" in entry else ""
        raise ModelFileError(f"{path} is of format {version!r}{writer}; nbbp {__version__} reads {FORMAT_VERSION}")
    if not sound:
        raise ModelFileError(f"{path} is damaged: its SHA-256 does not fit its content")
    if not isinstance(description, dict):
        raise ModelFileError(f"{path} is damaged: its description is not an object")
    return arrays, description


def _digest(arrays: Arrays, description: Any) -> str:
    digest = hashlib.sha256(json.dumps(description, sort_keys=True, allow_nan=False).encode())
    for name, array in sorted(arrays.items()):
        digest.update(f"{name} {array.dtype.str} {array.shape}".encode(errors="surrogatepass"))
        digest.update(array.data)
    return digest.hexdigest()
