"""What pools share: the settings and the bounds of their windows; the mask of those over all positions."""

import dataclasses
import functools
from typing import ClassVar

import numpy as np

from nbbp.engine.layer import Layer, Spec
from nbbp.layers.windows import Numbers, Padding, Windows, check_padding, each_axis, over


@functools.lru_cache(maxsize=256)
def bounds(windows: Windows) -> tuple[np.ndarray, np.ndarray]:
    """The first and the end of the rows, and of the columns, of each window, without padding."""
    windows = windows.on_two_axes()
    axes = zip(windows.lengths, windows.size, windows.strides, windows.padding, windows.outputs, strict=True)
    found = []
    for length, size, stride, (before, _), count in axes:
        first = np.arange(count) * stride - before
        found.append(np.stack([first.clip(0), (first + size).clip(max=length)], axis=1))
    down, across = found
    return down, across


def images(array: np.ndarray, lengths: Numbers) -> np.ndarray:
    """An array (rows, *lengths, channels) as images, of height 1 if it has one axis of positions."""
    height, width = lengths if len(lengths) == 2 else (1, *lengths)
    return array.reshape(-1, height, width, array.shape[-1])


@dataclasses.dataclass(frozen=True)
class Pool(Layer):
    """The settings of a pool; each kind says how many axes of positions it has."""

    axes: ClassVar[int] = 2

    pool_size: int | Numbers = 2
    strides: int | Numbers | None = None
    padding: Padding = "valid"

    reads = ()

    def __post_init__(self) -> None:
        kind = type(self).__name__
        object.__setattr__(self, "pool_size", each_axis(f"{kind}: pool_size", self.pool_size, self.axes))
        if self.strides is not None:
            object.__setattr__(self, "strides", each_axis(f"{kind}: strides", self.strides, self.axes))
        object.__setattr__(self, "padding", check_padding(f"{kind}: padding", self.padding, self.axes))

    def windows(self, shape) -> Windows:
        """The windows of samples of this shape; ValueError if there may be one of nothing but padding."""
        name = type(self).__name__
        strides = self.pool_size if self.strides is None else self.strides
        windows = over(name, shape, self.pool_size, strides, self.padding, axes=self.axes)
        for size, added in zip(windows.size, windows.padding, strict=True):
            if max(added) >= size:
                raise ValueError(
                    f"{name}: padding {added} must be less than the window's {size} positions, "
                    f"else a window would be nothing but padding"
                )
        return windows

    def spec(self, shape):
        return Spec((*self.windows(shape).outputs, shape[-1]))


def channels_of(name: str, shape) -> tuple[int]:
    """The channels of samples (*positions, channels); ValueError if they have no positions."""
    if len(shape) < 2:
        raise ValueError(f"{name} takes samples (*positions, channels), got {shape}")
    return shape[-1:]


def there(b) -> np.ndarray:
    """The mask (rows, positions) of the input, True everywhere if it has none."""
    mask = b.inputs[0].mask
    return np.ones(b.x.shape[:-1], bool).reshape(b.rows, -1) if mask is None else mask.reshape(b.rows, -1)
