"""The arguments of a kernel: their shapes and their values.

A kernel declares the values of an argument, if they are not arbitrary floats, and lengths that follow from others:

    @kernel(reference, "(b) (b,c) (b,1) (P)", values={"p": positive, "label": below("c")}, lengths={"P": pieces})

An argument named `clock` is a clock. Binding checks the shapes; the random arrays on which a kernel is compared with
its reference follow the other declarations.
"""

import inspect
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from nbbp.kernels import arrays
from nbbp.kernels.clock import Clock

Lengths = dict[str, int]
Values = Callable[[np.random.Generator, tuple[int, ...], np.dtype, Lengths], np.ndarray]
"""An array of this shape, and of this dtype if it holds floats, where each letter has the given length."""
Derived = Callable[..., int | tuple[int, ...] | range]
"""A length, or the possible lengths, from the letters that the parameters name, or `itemsize`, the floats' bytes."""


def numbers(rng, shape, dtype, lengths) -> np.ndarray:
    """Floats of both signs."""
    return rng.standard_normal(shape).astype(dtype)


def positive(rng, shape, dtype, lengths) -> np.ndarray:
    """Squares, probabilities, bounds or rates."""
    return np.abs(numbers(rng, shape, dtype, lengths)) / 4 + dtype.type(0.1)


def doubles(rng, shape, dtype, lengths) -> np.ndarray:
    """Whole numbers in float64."""
    return rng.integers(0, 100, shape).astype(np.float64)


def shares(rng, shape, dtype, lengths) -> np.ndarray:
    """Numbers in [0, 1)."""
    return (rng.random(shape) * 0.99).astype(dtype)


def flags(rng, shape, dtype, lengths) -> np.ndarray:
    """True or False."""
    return rng.random(shape) < 0.7


def any_bits(rng, shape, dtype, lengths) -> np.ndarray:
    """Keys of random streams."""
    return rng.integers(0, 2**64, shape, np.uint64)


def below(letter: str) -> Values:
    """Integers from 0 to the letter's length - 1: labels, or indices of rows or columns."""
    return lambda rng, shape, dtype, lengths: rng.integers(0, lengths[letter], shape)


def up_to(letter: str) -> Values:
    """Integers from 0 to the letter's length: counts."""
    return lambda rng, shape, dtype, lengths: rng.integers(0, lengths[letter] + 1, shape)


def fitting(part: str, whole: str) -> Values:
    """Offsets at which one length fits into another."""
    return lambda rng, shape, dtype, lengths: rng.integers(0, lengths[whole] - lengths[part] + 1, shape)


def scratch(rng, shape, dtype, lengths) -> np.ndarray:
    """Memory whose content has no meaning before and after the call."""
    return arrays.zeros(shape, dtype)


def scratch_of_doubles(rng, shape, dtype, lengths) -> np.ndarray:
    """The same, of float64."""
    return arrays.zeros(shape, np.float64)


def scratch_of_integers(rng, shape, dtype, lengths) -> np.ndarray:
    """The same for integers."""
    return np.zeros(shape, np.int64)


def scratch_of_pairs(rng, shape, dtype, lengths) -> np.ndarray:
    """The same for pairs of bfloat16."""
    return arrays.zeros(shape, np.uint32)


def a_clock(rng, shape, dtype, lengths) -> np.ndarray:
    """The clock of a run of S steps on R rows, for the letters given, with b rows still to come."""
    room = min((lengths[letter] for letter in "SR" if letter in lengths), default=0) - lengths.get("b", 1)
    step, row = (int(n) for n in rng.integers(0, max(room, 0) + 1, 2))
    clock = Clock()
    clock.set(step=step, end=step + 8, row=row, batches=1, before=5)
    return clock.record


MEMORY = scratch, scratch_of_integers, scratch_of_doubles, scratch_of_pairs


class Arguments:
    """The arguments of one kernel.

    Parameters
    ----------
    function
        The kernel's function.
    shapes : str
        The shapes, such as ``"(b,o) (b,i) (i,o)"``.
    values : mapping of str to Values
        By name, the values of an argument, if they are not arbitrary floats.
    derived : mapping of str to Derived
        By letter, the lengths that follow from others.
    """

    def __init__(
        self, function: Callable, shapes: str, values: Mapping[str, Values], derived: Mapping[str, Derived]
    ) -> None:
        self.names, self.shapes = tuple(inspect.signature(function).parameters), shapes
        self.letters = [shape.strip("()").split(",") for shape in shapes.split()]
        unknown = [name for name in values if name not in self.names]
        if len(self.letters) != len(self.names) or unknown:
            about = f"values of {unknown[0]}" if unknown else f"shapes {shapes}"
            raise ValueError(f"{function.__name__} takes {', '.join(self.names)}; it is declared with {about}")
        self._values = {"clock": a_clock, **values}
        self._derived = {
            letter: (derive, tuple(inspect.signature(derive).parameters)) for letter, derive in derived.items()
        }

    def free_letters(self) -> list[str]:
        """The letters whose lengths do not follow from others."""
        return sorted({k for letters in self.letters for k in letters if k.isalpha()} - set(self._derived))

    def lengths(self, name: str, given: Sequence[np.ndarray]) -> Lengths:
        """The length that each letter stands for; ValueError, which names the kernel, if the arrays disagree."""
        lengths: Lengths = {}
        if len(self.letters) != len(given):
            raise ValueError(f"{name} takes {len(self.letters)} arrays {self.shapes}, got {len(given)}")
        for letters, array in zip(self.letters, given, strict=True):
            actual = dict(zip(letters, array.shape, strict=False))
            fits = len(letters) == array.ndim and all(
                lengths.setdefault(k, n) == n if k.isalpha() else n == int(k) for k, n in actual.items()
            )
            if not fits or not array.flags.c_contiguous:
                raise self._disagreement(name, given)
        itemsize = next((a.itemsize for a in given if a.dtype.kind == "f"), 0)
        if any(lengths[k] not in self._possible(k, lengths, itemsize) for k in self._derived):
            raise self._disagreement(name, given)
        return lengths

    def _disagreement(self, name: str, given: Sequence[np.ndarray]) -> ValueError:
        got = " ".join(str(a.shape) for a in given)
        return ValueError(f"{name} takes C-contiguous arrays {self.shapes}, got {got}")

    def _possible(self, letter: str, lengths: Lengths, itemsize: int) -> tuple[int, ...] | range:
        derive, names = self._derived[letter]
        known = {**lengths, "itemsize": itemsize}
        found = derive(*(known[name] for name in names))
        return found if isinstance(found, tuple | range) else (found,)

    def random(self, rng: np.random.Generator, lengths: Lengths, dtype) -> list[np.ndarray]:
        """Arrays with which the kernel may be called, for lengths of the free letters."""
        dtype = np.dtype(dtype)
        for letter in self._derived:
            lengths = lengths | {letter: int(rng.choice(self._possible(letter, lengths, dtype.itemsize)[:9]))}
        drawn = []
        for name, letters in zip(self.names, self.letters, strict=True):
            shape = tuple(lengths[k] if k.isalpha() else int(k) for k in letters)
            drawn.append(np.ascontiguousarray(self._values.get(name, numbers)(rng, shape, dtype, lengths)))
        return drawn

    def redrawn(self, rng: np.random.Generator, lengths: Lengths, given: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Random arrays like those given; integers without a declaration stay as they are."""
        return [
            self._values.get(name, numbers)(rng, a.shape, a.dtype, lengths).astype(a.dtype)
            if name in self._values or a.dtype.kind == "f"
            else a.copy()
            for name, a in zip(self.names, given, strict=True)
        ]

    def compared(self) -> list[int]:
        """The indices of the arguments that have a meaning after the call: all but scratch."""
        return [i for i, name in enumerate(self.names) if self._values.get(name) not in MEMORY]
