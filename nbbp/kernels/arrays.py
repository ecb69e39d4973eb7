"""Arrays that begin on a cache line of their own, large ones at different offsets within a page.

NumPy aligns to 16 bytes. A loop over several arrays then may take up to 2.6 times as long: its vectors cross cache
lines, and if arrays begin at the same offset in their pages, loads wait for stores to the others. All arrays that this
package allocates for kernels come from here.
"""

import functools
import itertools
import math
import weakref
from collections.abc import Callable

import numpy as np

LINE = 64  # bytes of a cache line
PAGE = 4096  # bytes after which addresses look alike to loads that wait for stores
_STRIDE = 39  # lines from one array's offset in a page to the next one's: the golden section spreads them best

_large = itertools.count()


def zeros(shape, dtype) -> np.ndarray:
    """A C-contiguous array of zeros that begins on a cache line.

    Parameters
    ----------
    shape : int or tuple of int
    dtype
    """
    dtype, shape = np.dtype(dtype), shape if isinstance(shape, tuple) else (shape,)
    size = math.prod(shape) * dtype.itemsize
    if size < PAGE:
        memory = np.zeros(size + LINE, np.uint8)
        begin = -memory.ctypes.data % LINE
    else:
        memory = np.zeros(size + PAGE, np.uint8)
        begin = (next(_large) * _STRIDE * LINE - memory.ctypes.data) % PAGE
    return memory[begin : begin + size].view(dtype).reshape(shape)


def copied(array, dtype=None) -> np.ndarray:
    """A copy that begins on a cache line, in another dtype if one is given."""
    array = np.asarray(array)
    copy = zeros(array.shape, dtype or array.dtype)
    copy[...] = array
    return copy


def split_at_line(elements: slice, itemsize: int) -> list[slice]:
    """Elements of a flat array in two parts, as far as any are in them: before the first cache line, and from there on.

    A loop over several such arrays then has its vectors within lines.
    """
    line = LINE // itemsize
    middle = min(-(-elements.start // line) * line, elements.stop)
    parts = slice(elements.start, middle), slice(middle, elements.stop)
    return [part for part in parts if part.start < part.stop]


def while_used(function: Callable) -> Callable:
    """Make a function return the same array, or tuple of arrays, for equal arguments as long as others use them."""
    made: dict[tuple, list[weakref.ref]] = {}

    @functools.wraps(function)
    def kept(*arguments):
        arrays = [reference() for reference in made.get(arguments, ())]
        if not arrays or any(array is None for array in arrays):
            for key in [key for key, references in made.items() if any(r() is None for r in references)]:
                del made[key]
            result = function(*arguments)
            arrays = list(result) if isinstance(result, tuple) else [result]
            made[arguments] = [weakref.ref(array) for array in arrays]
        return tuple(arrays) if len(arrays) > 1 else arrays[0]

    return kept


def assign(name: str, array: np.ndarray, values) -> None:
    """Overwrite an array with the user's values."""
    if np.shape(values) != array.shape:
        raise ValueError(f"{name} must have the shape {array.shape}, got {np.shape(values)}")
    array[:] = values
