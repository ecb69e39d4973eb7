"""The cache of machine code on disk: its folders, its keys, and files that are complete or absent.

Numba's own cache checks only the file of one function: after a change in a file that it calls, it would load old code.
It has an index beside the code, which two processes that start together overwrite for each other. And it reads from no
folder that it cannot write to, as those of containers and shared installations often are.
"""

import collections
import hashlib
import itertools
import logging
import os
import pathlib
import pickle
import re
import sys
import types
import uuid
from collections.abc import Callable

import numba
import numpy as np
from numba.core.caching import FunctionCache
from numba.core.compiler import CompileResult
from numba.core.runtime import rtsys
from numba.core.serialize import dumps
from numba.misc.appdirs import AppDirs

_DIGEST_BYTES = hashlib.sha256().digest_size


def _sources() -> dict[str, bytes]:
    """The source files of machine code, anywhere in the package: those that declare kernels."""
    package = pathlib.Path(__file__).parent.parent
    found = {str(path): path.read_bytes() for path in sorted(package.rglob("*.py")) if path.name != "__init__.py"}
    kernels = f"{pathlib.Path(__file__).parent}{os.sep}"
    return {path: text for path, text in found.items() if path.startswith(kernels) or _DECLARES in text}


_DECLARES = b"from nbbp.kernels.jit import"
_FILES = _sources()
SOURCES = hashlib.sha256(b"".join(_FILES.values())).hexdigest()[:10]


def is_ours(function: Callable) -> bool:
    """Whether SOURCES covers the function."""
    return function.__code__.co_filename in _FILES


def _all_code(code: types.CodeType) -> list[types.CodeType]:
    """The code of a function and of those defined within it."""
    inner = [_all_code(constant) for constant in code.co_consts if isinstance(constant, types.CodeType)]
    return [code, *itertools.chain.from_iterable(inner)]


def fingerprint(function: Callable, within: tuple[Callable, ...] = ()) -> str:
    """A digest of the code of a function from outside the package, with the numbers and functions that it refers to."""
    codes = _all_code(function.__code__)
    names = [name for code in codes for name in code.co_names]
    constants = [c for code in codes for c in code.co_consts if not isinstance(c, types.CodeType)]
    parts = [*(code.co_code for code in codes), repr(names).encode(), repr(constants).encode()]
    cells = [cell.cell_contents for cell in function.__closure__ or ()]
    seen = [function.__globals__.get(name) for name in names]
    modules = [thing for thing in seen if isinstance(thing, types.ModuleType) and thing is not np]
    seen += [getattr(module, name, None) for module in modules for name in names]
    within = (*within, function)
    for thing in [*seen, *cells, *(function.__defaults__ or ())]:
        inner = getattr(thing, "py_func", thing)
        if isinstance(inner, types.FunctionType) and not is_ours(inner) and inner not in within:
            parts.append(fingerprint(inner, within).encode())
        elif isinstance(inner, np.ndarray | np.generic):
            parts.append(repr((inner.dtype, inner.shape)).encode() + inner.tobytes())
        elif isinstance(inner, int | float | tuple):
            parts.append(repr(inner).encode())
    return hashlib.sha256(b"|".join(parts)).hexdigest()[:10]


def folders() -> list[pathlib.Path]:
    """The folders in which machine code is searched; the first that can be written to receives what is compiled.

    The folder that NUMBA_CACHE_DIR names, or else one beside the package, for all its users, and the user's own.
    """
    if numba.config.CACHE_DIR:  # type: ignore[attr-defined]
        return [pathlib.Path(numba.config.CACHE_DIR, "nbbp")]  # type: ignore[attr-defined]
    beside = pathlib.Path(__file__).parent.parent / "__pycache__" / "kernels"
    own = pathlib.Path(AppDirs("nbbp", appauthor=False).user_cache_dir)
    return [beside, own] if own.is_absolute() else [beside]  # a user may have no home


def _read(path: pathlib.Path):
    """Read what `_write` wrote; ValueError if the file is damaged."""
    content = path.read_bytes()
    digest, data = content[:_DIGEST_BYTES], content[_DIGEST_BYTES:]
    if hashlib.sha256(data).digest() != digest:
        raise ValueError("a damaged file")
    return pickle.loads(data)


def _write(path: pathlib.Path, data) -> None:
    """Write `data`; an older file is read until the new one is complete."""
    path.parent.mkdir(parents=True, exist_ok=True)
    content = dumps(data)
    unfinished = path.with_suffix(f".{uuid.uuid4().hex[:16]}.tmp")
    try:
        unfinished.write_bytes(hashlib.sha256(content).digest() + content)
        unfinished.replace(path)
    except BaseException:
        unfinished.unlink(missing_ok=True)
        raise


counts: collections.Counter[str] = collections.Counter()
"""Numbers of compiled functions of this process: those "read", those "written", and those "lost" when it ends.

Those "shared" were written by workers and read by this process.
"""


class KernelCache(FunctionCache):
    """Numba's cache on disk with files of its own: an unreadable file costs a compilation, not an exception.

    There is a file for each function and signature. Its name depends on all that determines the machine code, but not
    on where or when the source was written: copies of the package share it.
    """

    def __init__(self, function: Callable) -> None:
        self._py_func, self._name = function, function.__qualname__
        self._source = "" if is_ours(function) else _digest_of_file(function)
        self._names: dict[tuple, str] = {}  # of files, by signature

    @property
    def cache_path(self) -> str:
        return str(folders()[0])

    def _file(self, signature, codegen) -> str:
        """The name of a file; the first time, this waits until LLVM has compiled what another thread gave it."""
        if signature not in self._names:
            self._names[signature] = self._name_of(signature, codegen)
        return self._names[signature]

    def _name_of(self, signature, codegen) -> str:
        known = repr((numba.__version__, self._source, self._index_key(signature, codegen)))
        code = self._py_func.__code__
        place = re.sub(r"[^\w.-]", "", f"{pathlib.Path(code.co_filename).stem}.{self._name}-{code.co_firstlineno}")
        return f"{place}.{sys.implementation.cache_tag}.{hashlib.sha256(known.encode()).hexdigest()[:16]}.nbc"

    def holds(self, sig, target_context) -> bool:
        """Whether a folder has the machine code."""
        name = self._file(sig, target_context.codegen())
        return any((folder / name).is_file() for folder in folders())

    def load_overload(self, sig, target_context):
        """The machine code from the first folder that has it, or None."""
        if is_ours(self._py_func):
            rtsys.initialize(target_context)  # what machine code refers to; Numba would import its whole compiler first
        else:
            target_context.refresh()
        name = self._file(sig, target_context.codegen())
        for folder in folders():
            try:
                result = CompileResult._rebuild(target_context, *_read(folder / name))
            except (FileNotFoundError, NotADirectoryError):
                continue
            except Exception as error:  # a damaged file, one that may not be read, or of another LLVM
                _say_once("nbbp compiles again what it could not read from %s: %r", folder, error)
            else:
                counts["read"] += 1
                return result
        return None

    def save_overload(self, sig, data):
        """Write the machine code into the first folder that can be written to."""
        if data.library.has_dynamic_globals or not all(part.can_cache for part in data.lifted):
            _say_once("nbbp compiles %s anew in every process: it holds an address or a large array", self._name)
            return
        name, troubles = self._file(sig, data.codegen), []
        for folder in folders():
            try:
                _write(folder / name, data._reduce())
            except OSError as error:
                troubles.append(f"{folder} ({error.strerror})")
            else:
                counts["written"] += 1
                return
        counts["lost"] += 1
        _say_once(
            "nbbp compiles its kernels anew in every process, since it cannot write to %s; the environment variable "
            "NUMBA_CACHE_DIR names another folder for them",
            " or ".join(troubles),
        )


def _digest_of_file(function: Callable) -> str:
    """The digest of the source file of a function from outside the package; "" in a notebook, whose cells have none."""
    try:
        return hashlib.sha256(pathlib.Path(function.__code__.co_filename).read_bytes()).hexdigest()
    except OSError:
        return ""


_said: set[str] = set()


def _say_once(sentence: str, *details) -> None:
    """Log, once, what happens to kernel after kernel.

    This is not a Python warning: no change of the calling code would fix it, and `-W error` would make it end a fit.
    """
    if sentence not in _said:
        _said.add(sentence)
        logging.getLogger("nbbp").warning(sentence, *details)
