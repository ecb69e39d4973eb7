"""Declaration, compilation, caching and addresses of kernels; the only file with njit.

A kernel is a pair of functions with the same arguments: one that Numba compiles, and its plain NumPy reference.

    def scale_reference(y, x):
        np.multiply(x, 2, out=y)

    @kernel(scale_reference, "(n) (n)", elementwise=True)
    def scale(y, x):
        for i in range(x.shape[0]):
            y[i] = x[i] + x[i]

Arguments are C-contiguous arrays, outputs first; a number that changes between steps is an array of one element.
The string gives their shapes: every letter is a length, the same wherever it occurs, a capital one if the kernel
does not loop over all of it. One source gives a serial and a parallel twin, compiled when first bound: threads share
the elements of an elementwise kernel, and the iterations of `prange` (`range` in the serial twin) in any other.
"""

import collections
import contextlib
import functools
import gc
import types as python_types
from collections.abc import Callable, Mapping
from typing import Any

import numba
import numpy as np
from numba import njit, prange, types
from numba.core.codegen import JITCodeLibrary
from numba.core.compiler import Compiler
from numba.core.compiler_lock import global_compiler_lock

from nbbp.kernels import threads
from nbbp.kernels.arguments import Arguments, Derived, Values
from nbbp.kernels.cache import SOURCES, KernelCache, fingerprint, is_ours
from nbbp.kernels.forks import cached_property
from nbbp.kernels.threads import PIECE

if numba.config.DISABLE_JIT:  # type: ignore[attr-defined]
    raise ImportError("nbbp is compiled code: unset NUMBA_DISABLE_JIT; backend='numpy' shows plain NumPy at work")

# error_model: with Python's, a division is a branch and its loop does not vectorise.
# No fastmath: it lets the compiler reorder sums, and then bits differ between runs, caches and processors.
FLAGS: dict[str, Any] = {"error_model": "numpy", "nogil": True, "no_cfunc_wrapper": True}


def _copy(function: Callable, name: str, **replaced) -> python_types.FunctionType:
    """The same code under another name, with some of its globals replaced.

    Numba's cache distinguishes functions by file, name and line: twins need different names.
    """
    names = {**function.__globals__, **replaced} if replaced else function.__globals__
    copy = python_types.FunctionType(function.__code__, names, name, function.__defaults__, function.__closure__)
    used = [getattr(names.get(part), "py_func", None) for part in function.__code__.co_names]
    foreign = [fingerprint(part) for part in (function, *used) if part is not None and not is_ours(part)]
    copy.__qualname__, copy.__module__ = "_".join([name, SOURCES, *foreign]), function.__module__
    return copy


def compiled(function: Callable, name: str | None = None, parallel: bool = False):
    """A compiled function, cached on disk."""
    dispatcher = njit(_copy(function, name or function.__name__), parallel=parallel, **FLAGS)
    dispatcher._cache = KernelCache(dispatcher.py_func)  # type: ignore[attr-defined]
    _COMPILED[dispatcher.py_func.__name__] = dispatcher
    return dispatcher


_COMPILED: dict[str, Any] = {}
"""The compiled functions, by name."""

Code = tuple[Any, tuple[types.Type, ...]]
"""A compiled function, and the types of its arguments: what there is machine code of."""


def function(name: str):
    """The compiled function of this name, after its module is imported; a twin of a kernel is made if necessary."""
    if name not in _COMPILED:
        pair, _, twin = name.rpartition("_")
        getattr(KERNELS[pair], twin)
    return _COMPILED[name]


def is_available(code: Code) -> bool:
    """Whether there is machine code already, in this process or on disk."""
    dispatcher, signature = code
    return signature in dispatcher.overloads or dispatcher._cache.holds(signature, dispatcher.targetctx)


_devices: collections.Counter[str] = collections.Counter()


class _LinkedLibrary(JITCodeLibrary):
    """LLVM code that is only linked into that of kernels.

    Numba would optimise it and make machine code of it, although nothing calls that; and again of its copies in all
    kernels, which takes as long as all the rest.
    """

    @property
    def codegen(self):
        """In place of the generator of machine code: there is none that could refer to an environment."""
        return python_types.SimpleNamespace(set_env=lambda name, environment: None)

    def _optimize_final_module(self) -> None:
        pass

    def _finalize_final_module(self) -> None:
        self._finalize_dynamic_globals()
        self._verify_declare_only_symbols()
        self._finalized = True

    def get_pointer_to_function(self, name: str) -> int:
        self._ensure_finalized()
        return 0  # null, since there is none


class _DeviceCompiler(Compiler):
    """Numba's compiler for functions that only kernels call."""

    def __init__(self, typing_context, target_context, library, *settings) -> None:
        library = _LinkedLibrary(target_context.codegen(), "device")
        super().__init__(typing_context, target_context, library, *settings)


def device(function: Callable, inline: bool = False):
    """A function that only kernels call; its machine code is a part of theirs.

    Each has a unique name: kernels from the caches of several processes are linked into one, and functions that
    were made at the same place, such as lambdas, would be confused.
    """
    foreign = "" if is_ours(function) else fingerprint(function)
    _devices[function.__module__] += 1
    number = _devices[function.__module__]  # within its file, which SOURCES covers; the order of imports may change
    function.__qualname__ = f"{function.__qualname__}_{SOURCES}_{function.__module__}_{number}_{foreign}"
    flags = FLAGS | {"no_cpython_wrapper": True, "pipeline_class": _DeviceCompiler}
    return njit(function, forceinline=inline, **flags)


def address(dispatcher, arrays) -> int:
    """The address of a function's machine code for C-contiguous arrays of these dtypes and numbers of axes."""
    return machine_code(dispatcher, signature(arrays))


def signature(arrays) -> tuple[types.Type, ...]:
    """The types of C-contiguous arrays."""
    return _signature(tuple((a.dtype, a.ndim) for a in arrays))


@functools.cache
def _signature(kinds: tuple[tuple[np.dtype, int], ...]) -> tuple[types.Type, ...]:
    return tuple(types.Array(numba.from_dtype(dtype), axes, "C") for dtype, axes in kinds)


@global_compiler_lock
@functools.cache  # Numba takes half a millisecond to find a compiled function
def machine_code(dispatcher, signature: tuple[types.Type, ...]) -> int:
    """The address of a function's machine code for arguments of these types, compiled or loaded if necessary."""
    name = dispatcher.py_func.__name__.removesuffix("_serial").removesuffix("_parallel")
    with _named_errors(name), _without_collection():
        dispatcher.compile(signature)
    result = dispatcher.overloads[signature]
    return result.library.get_pointer_to_function(result.fndesc.llvm_func_name)


@contextlib.contextmanager
def _without_collection():
    """No search for garbage in cycles: a compilation makes so many objects that it would take a tenth of the time."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


@contextlib.contextmanager
def _named_errors(name: str):
    """Turn Numba's errors, pages long, into a TypeError that names the kernel and the cause."""
    try:
        yield
    except numba.errors.NumbaError as error:
        lines = [line.strip() for line in str(error).splitlines()]
        lines = [line for line in lines if line and not line.startswith("Failed in")]
        cause = " ".join(lines[: 2 if lines[0].endswith(":") else 1])
        raise TypeError(f"kernel {name} does not compile: {cause}") from error


class TwinError(ValueError):
    """The compiled function of a kernel and its NumPy reference give different results."""


def _in_pieces(function, arguments: Arguments):
    """A function that shares the elements of flat arrays among threads, a piece of every array at a time.

    Pieces begin on cache lines; `prange` over elements would begin anywhere, and Adam would take 2.5 times as long.
    Numba has no loop over arrays of several types, so the code is generated for the given number of arrays.
    """
    names = [f"a{k}" for k in range(len(arguments.names))]
    flat = [letters == ["n"] for letters in arguments.letters]
    parts = [f"{name}[begin:end]" if cut else name for name, cut in zip(names, flat, strict=True)]
    source = f"""
def in_pieces({", ".join(names)}):
    n = {names[flat.index(True)]}.shape[0]
    for q in prange((n + PIECE - 1) // PIECE):
        begin, end = q * PIECE, min(n, (q + 1) * PIECE)
        function({", ".join(parts)})
"""
    own = function.py_func  # its module and file are the cache's key
    visible: dict[str, Any] = {"prange": prange, "PIECE": PIECE, "function": function, "__name__": own.__module__}
    exec(compile(source, own.__code__.co_filename, "exec"), visible)
    return visible["in_pieces"]


class Kernel:
    """A compiled function and its NumPy reference: the same name, the same arguments, the same meaning.

    Kernels from outside the package are compared with their references when they are first bound.
    """

    def __init__(
        self, function: Callable, reference: Callable, arguments: Arguments, cycles: float, elementwise: bool,
        dtypes: tuple[str, ...],
    ) -> None:  # fmt: skip
        self.name, self.arguments, self.reference, self.dtypes = function.__name__, arguments, reference, dtypes
        self._function, self._cycles, self._elementwise = function, cycles, elementwise
        self.trusted = is_ours(function)

    @global_compiler_lock
    def check(self, *arrays: np.ndarray) -> None:
        """Run both on random arrays like these; TwinError if they differ.

        Parameters
        ----------
        *arrays : ndarray
            Arguments of the kernel. Integers without a declaration stay as they are.
        """
        given = self.arguments.redrawn(np.random.default_rng(0), self.lengths(arrays), arrays)
        expected = [a.copy() for a in given]
        with np.errstate(all="ignore"):
            self.reference(*expected)
        with _named_errors(self.name):
            self.serial(*given)
        for number in self.arguments.compared():
            got, right = given[number], expected[number]
            if right.dtype.fields:  # a record
                got, right = got.view(np.int64), right.view(np.int64)
            bound = 1e-4 if right.dtype == np.float32 else 1e-9
            apart = ~np.isclose(got, right, rtol=bound, atol=bound, equal_nan=True)
            if apart.any():
                at = tuple(int(i) for i in np.argwhere(apart)[0])
                raise TwinError(
                    f"kernel {self.name}: argument {number} at {at} is {got[at]} compiled and {right[at]} in NumPy "
                    f"(both on the same random numbers); the two functions must compute the same"
                )
        self.trusted = True

    def __repr__(self) -> str:
        return f"<kernel {self.name} {self.arguments.shapes}>"

    @cached_property
    def serial(self):
        if "get_thread_id" in self._function.__code__.co_names:
            threads.layer()  # starts the threads: before, machine code from the cache would call what is not there
        return compiled(self._function, f"{self.name}_serial")

    @cached_property
    def parallel(self):
        """The parallel twin; the serial one if there is no work to share."""
        if self._elementwise:
            return compiled(_in_pieces(self.serial, self.arguments), f"{self.name}_parallel", parallel=True)
        if "prange" not in self._function.__code__.co_names:
            return self.serial
        return compiled(self._function, f"{self.name}_parallel", parallel=True)

    def lengths(self, arrays) -> dict[str, int]:
        """The length that each letter of the shapes stands for; ValueError if the arrays disagree."""
        return self.arguments.lengths(self.name, arrays)

    def cycles(self, arrays) -> float:
        """The approximate processor cycles of one call on one thread; capital letters are not looped over."""
        looped = [n for letter, n in self.lengths(arrays).items() if not letter.isupper()]
        return self._cycles * float(np.prod(looped, dtype=float))

    def code(self, arrays, parallel: bool) -> Code:
        """The twin for arrays of these dtypes."""
        return self.parallel if parallel else self.serial, signature(arrays)


KERNELS: dict[str, Kernel] = {}


def kernel(
    reference: Callable, shapes: str, *, cycles: float = 1.0, elementwise: bool = False,
    values: Mapping[str, Values] | None = None, lengths: Mapping[str, Derived] | None = None,
    dtypes: tuple[str, ...] = ("float32", "float64"), name: str | None = None, **replaced: Any,
) -> Callable[[Callable], Kernel]:  # fmt: skip
    """Declare a compiled function as the fast twin of `reference`.

    Parameters
    ----------
    reference
        The NumPy function with the same arguments.
    shapes
        The arguments' shapes, such as ``"(b,o) (b,i) (i,o)"``.
    cycles
        Approximate cost of one point of the index space that the letters span; decides whether to use threads.
    elementwise
        Whether the i-th element of each array of shape (n) depends only on the i-th elements of the others. Then the
        function is one loop over n, and each thread takes pieces of these arrays.
    values
        By argument, its values if they are not arbitrary floats: ``{"variance": positive, "labels": below("c")}``, see
        `nbbp.kernels.arguments`.
    lengths
        By letter, a function of other letters from which its length follows: ``{"D": lambda c: 2 * c}``.
    dtypes
        The dtypes of floats that it takes.
    name, **replaced
        For kernels that share their source: the name, and the globals in which this one differs.
    """

    def declare(function: Callable) -> Kernel:
        arguments = Arguments(function, shapes, values or {}, lengths or {})
        if elementwise and ["n"] not in arguments.letters:
            raise ValueError(f"{function.__name__} is elementwise: it takes arrays of shape (n), not {shapes} alone")
        own = _copy(function, name or function.__name__, **replaced)
        pair = Kernel(own, reference, arguments, cycles, elementwise, dtypes)
        if KERNELS.setdefault(pair.name, pair) is not pair:
            raise ValueError(f"there is a kernel named {pair.name} already")
        return pair

    return declare
