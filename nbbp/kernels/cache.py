"""Machine code on disk: what names it, and files that are whole or not there.

Numba looks at the file of one function only: after a change in a file that it calls, it would serve old code. And it
keeps an index beside the code, which two processes that start together overwrite for each other.
"""

import functools
import hashlib
import itertools
import os
import pathlib
import pickle
import types
import uuid
import warnings
from collections.abc import Callable

import numba
import numpy as np
from numba.core.caching import FunctionCache
from numba.core.serialize import dumps

_DIGEST_BYTES = hashlib.sha256().digest_size


def _sources() -> dict[str, bytes]:
    """The files that machine code is made from, wherever in the package they are: those that declare kernels."""
    package = pathlib.Path(__file__).parent.parent
    found = {str(path): path.read_bytes() for path in sorted(package.rglob("*.py")) if path.name != "__init__.py"}
    kernels = f"{pathlib.Path(__file__).parent}{os.sep}"
    return {path: text for path, text in found.items() if path.startswith(kernels) or _DECLARES in text}


_DECLARES = b"from nbbp.kernels.jit import"
_FILES = _sources()
SOURCES = hashlib.sha256(b"".join(_FILES.values())).hexdigest()[:10]


def is_ours(function: Callable) -> bool:
    """Whether SOURCES covers it."""
    return function.__code__.co_filename in _FILES


def _all_code(code: types.CodeType) -> list[types.CodeType]:
    """Of a function and of those that are written within it."""
    inner = [_all_code(constant) for constant in code.co_consts if isinstance(constant, types.CodeType)]
    return [code, *itertools.chain.from_iterable(inner)]


def fingerprint(function: Callable, within: tuple[Callable, ...] = ()) -> str:
    """Names the code of a function from outside the package, with the numbers and functions that it refers to."""
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


class _Files:
    """A file for each compiled function and signature, written under another name and checked when it is read."""

    def __init__(self, folder: str, name: str, stamp: str) -> None:
        self._folder, self._name, self._stamp = pathlib.Path(folder), name, stamp

    def _path(self, key) -> pathlib.Path:
        known = repr((numba.__version__, self._stamp, key))
        return self._folder / f"{self._name}.{hashlib.sha256(known.encode()).hexdigest()[:16]}.nbc"

    def load(self, key):
        """What was saved, or None."""
        try:
            content = self._path(key).read_bytes()
        except FileNotFoundError:
            return None
        digest, data = content[:_DIGEST_BYTES], content[_DIGEST_BYTES:]
        if hashlib.sha256(data).digest() != digest:
            raise ValueError("a damaged file")
        return pickle.loads(data)

    def save(self, key, data) -> None:
        """Keep `data` under `key`; what was there before is read until the new file is whole."""
        content, path = dumps(data), self._path(key)
        unfinished = path.with_suffix(f".{uuid.uuid4().hex[:16]}.tmp")
        try:
            unfinished.write_bytes(hashlib.sha256(content).digest() + content)
            unfinished.replace(path)
        except BaseException:
            unfinished.unlink(missing_ok=True)
            raise


class KernelCache(FunctionCache):
    """Numba's cache on disk, except that a damaged or unwritable one costs a compilation instead of an exception."""

    def __init__(self, function: Callable) -> None:
        super().__init__(function)
        impl = self._impl
        self._cache_file = _Files(self._cache_path, impl.filename_base, repr(impl.locator.get_source_stamp()))

    def load_overload(self, sig, target_context):
        try:
            return super().load_overload(sig, target_context)
        except Exception as error:  # a damaged file, one that may not be read, or of another LLVM
            warn_once(f"nbbp compiles again what it could not read from {self.cache_path}: {error!r}")
        return None

    def save_overload(self, sig, data):
        try:
            super().save_overload(sig, data)
        except Exception as error:
            warn_once(f"nbbp cannot keep compiled kernels in {self.cache_path}: {error!r}")


@functools.cache
def warn_once(message: str) -> None:
    """Warn of what happens to one kernel after the other."""
    warnings.warn(message, RuntimeWarning, stacklevel=2)
