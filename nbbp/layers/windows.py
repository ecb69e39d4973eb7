"""Windows that move over an image or a series: their sizes, their padding, and where they begin.

Layers of one axis of positions, such as `Conv1D`, are those of two axes with a height of 1.
"""

import dataclasses
import math
from collections.abc import Sequence

from nbbp import checks
from nbbp.engine.layer import Binding, Layer

Numbers = tuple[int, ...]
Padding = str | int | Sequence[int | Sequence[int]]

PADDINGS = {"valid": "valid", "same": "same"}


def each_axis(name: str, value: int | Sequence[int], axes: int, least: int = 1) -> Numbers:
    """A number for each axis, from one for all or from one for each."""
    numbers = tuple(value) if isinstance(value, Sequence) else (value,) * axes
    if len(numbers) != axes:
        raise ValueError(f"{name} must be an integer, or {axes} of them, got {value!r}")
    return tuple(checks.integer(name, n, least) for n in numbers)


def sides(name: str, value: int | Sequence[int | Sequence[int]], axes: int, words: str = "") -> tuple[Numbers, ...]:
    """Numbers (before, after) for each axis, from one for all, or from one or two for each."""
    numbers: Sequence = tuple(value) if isinstance(value, Sequence) else (value,) * axes
    if isinstance(value, str) or len(numbers) != axes:
        raise ValueError(f"{name} must be {words}a number, or one for each of {axes} axes, got {value!r}")
    return tuple(each_axis(name, n, 2, least=0) for n in numbers)


def check_padding(name: str, padding: Padding, axes: int) -> str | tuple[Numbers, ...]:
    """The padding of a layer's settings: a word, or (before, after) for each axis."""
    if isinstance(padding, str):
        return checks.choose(name, padding, PADDINGS)
    return sides(name, padding, axes, "valid, same, ")


@dataclasses.dataclass(frozen=True)
class Windows:
    """Windows over the positions of a sample.

    Parameters
    ----------
    lengths : tuple of int
        The positions of a sample along each axis.
    size, strides, dilation : tuple of int
        Along each axis, the number of a window's positions, from one window to the next, and from one of its positions
        to the next.
    padding : tuple of (int, int)
        Positions added before and after along each axis.
    """

    lengths: Numbers
    size: Numbers
    strides: Numbers
    dilation: Numbers
    padding: tuple[Numbers, ...]

    @property
    def reach(self) -> Numbers:
        """The positions from a window's first to its last along each axis."""
        return tuple((n - 1) * d + 1 for n, d in zip(self.size, self.dilation, strict=True))

    @property
    def padded(self) -> Numbers:
        """The lengths with their padding."""
        return tuple(n + a + b for n, (a, b) in zip(self.lengths, self.padding, strict=True))

    @property
    def outputs(self) -> Numbers:
        """The number of windows along each axis."""
        return tuple((n - r) // s + 1 for n, r, s in zip(self.padded, self.reach, self.strides, strict=True))

    def on_two_axes(self) -> "Windows":
        """The same windows on images of height 1, if there is one axis."""
        if len(self.lengths) == 2:
            return self
        lengths, size, strides, dilation = (
            (1, *numbers) for numbers in (self.lengths, self.size, self.strides, self.dilation)
        )
        return Windows(lengths, size, strides, dilation, ((0, 0), *self.padding))


def positions(name: str, shape: Numbers, axes: int = 2) -> Numbers:
    """The positions of samples (*positions, channels) along each axis; ValueError, which says what fits, of others."""
    if len(shape) != axes + 1:
        wanted = "(height, width, channels)" if axes == 2 else "(time, channels)"
        hint = f"; a single channel is a last axis of 1: nbbp.Reshape({(*shape, 1)})" if len(shape) == axes else ""
        raise ValueError(f"{name} takes samples {wanted}, got {shape}{hint}")
    return shape[:-1]


def over(
    name: str, shape: Numbers, size: int | Numbers, strides: int | Numbers, padding: Padding,
    dilation: int | Numbers = 1, axes: int = 2,
) -> Windows:  # fmt: skip
    """The windows of a layer on samples (*positions, channels); ValueError, which says what fits, if there are none.

    ``same`` has ceil(length / stride) windows along each axis; if the number of added positions is odd, there is one
    more at the end, as in TensorFlow. PyTorch's numbers are those of both sides.
    """
    lengths = positions(name, shape, axes)
    size, strides, dilation = (each_axis(name, n, axes) for n in (size, strides, dilation))
    bare = Windows(lengths, size, strides, dilation, ((0, 0),) * axes)
    padding = check_padding(name, padding, axes)
    if padding == "same":
        added = [
            max((math.ceil(n / s) - 1) * s + r - n, 0) for n, s, r in zip(lengths, strides, bare.reach, strict=True)
        ]
        padding = tuple((n // 2, n - n // 2) for n in added)
    windows = bare if isinstance(padding, str) else dataclasses.replace(bare, padding=padding)
    if any(r > n for r, n in zip(windows.reach, windows.padded, strict=True)):
        reach = " x ".join(map(str, windows.reach))
        raise ValueError(
            f"{name}: a window of {reach} does not fit into {' x '.join(map(str, windows.padded))} positions; "
            f"choose a smaller one, or padding='same'"
        )
    return windows


def refuse_mask(layer: Layer, b: Binding) -> None:
    """ValueError if the input has a mask: windows would read what is masked, and the outputs would have no mask."""
    if b.inputs[0].mask is not None:
        raise ValueError(
            f"{b.name}: {type(layer).__name__} takes no mask, since what is masked would count as any other position; "
            f"make X 0 there and leave out the mask, if that is what padding means"
        )
