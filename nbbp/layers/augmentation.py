"""Random changes of images in training: whole numbers drawn for each row, and images moved by them."""

import numpy as np
from numba import prange

from nbbp.engine.layer import Binding, Layer, Spec
from nbbp.kernels.arguments import any_bits
from nbbp.kernels.jit import kernel
from nbbp.kernels.random import bits, random_bits

LENGTHS = range(1, 1 << 40)  # of an image, any


def _few(low: int, high: int):
    return lambda rng, shape, dtype, lengths: rng.integers(low, high + 1, shape)


def draw_numbers_reference(numbers, least, counts, draw, clock):
    key = bits(draw[:1], np.array([clock["before"][0] + clock["step"][0]], np.uint64))
    drawn = bits(key, draw[1] + np.arange(len(numbers), dtype=np.uint64))
    halves = np.stack([drawn >> np.uint64(32), drawn & np.uint64(2**32 - 1)], axis=1)
    numbers[:] = least + (halves * counts.astype(np.uint64) >> np.uint64(32)).astype(np.int64)


@kernel(
    draw_numbers_reference, "(b,2) (2) (2) (2) (1)", cycles=8.0,
    values={"numbers": _few(0, 0), "least": _few(-3, 3), "counts": _few(1, 9), "draw": any_bits},
)  # fmt: skip
def draw_numbers(numbers, least, counts, draw, clock):
    """Two of counts[k] numbers from least[k] on for each row, from the random bits of row draw[1] + i in this step.

    draw: the key of the stream, the index of the first row in the mini-batch.
    """
    key, first, half = random_bits(draw[0], np.uint64(clock[0].before + clock[0].step)), draw[1], np.uint64(32)
    for i in range(numbers.shape[0]):
        drawn = random_bits(key, first + np.uint64(i))
        numbers[i, 0] = least[0] + np.int64(((drawn >> half) * np.uint64(counts[0])) >> half)
        numbers[i, 1] = least[1] + np.int64((((drawn << half) >> half) * np.uint64(counts[1])) >> half)


def drawn(b: Binding, least: tuple[int, int], counts: tuple[int, int]) -> np.ndarray:
    """Two numbers (rows, 2) for each row, drawn anew in each step: one of counts[k] from least[k] on."""
    numbers = b.buffer(b.rows, 2, dtype=np.int64)
    draw = np.array([b.stream(), b.first_row], np.uint64)
    b.call(draw_numbers, numbers, np.array(least, np.int64), np.array(counts, np.int64), draw, b.clock)
    return numbers


def move_images_reference(y, x, offsets, sign):
    y[:] = 0
    (height, width), (rows, columns) = y.shape[1:3], x.shape[1:3]
    for own, image, (top, left) in zip(y, x, offsets * sign, strict=True):
        up, down = max(0, -top), min(height, rows - top)
        first, last = max(0, -left), min(width, columns - left)
        if up < down and first < last:
            own[up:down, first:last] = image[up + top : down + top, first + left : last + left]


@kernel(
    move_images_reference, "(b,h,w,c) (b,R,S,c) (b,2) (1)", cycles=0.3,
    values={"offsets": _few(-5, 5), "sign": lambda rng, shape, dtype, lengths: rng.choice([-1, 1], shape)},
    lengths=dict.fromkeys("hwRS", lambda: LENGTHS),
)  # fmt: skip
def move_images(y, x, offsets, sign):
    """y is the image x from row sign offsets[i, 0] and column sign offsets[i, 1] on, and 0 outside of it."""
    height, width, channels = y.shape[1:]
    rows, columns = x.shape[1:3]
    for i in prange(y.shape[0]):
        top, left = sign[0] * offsets[i, 0], sign[0] * offsets[i, 1]
        first = min(max(0, -left), width) * channels
        last = max(first, min(width, columns - left) * channels)
        own, image = y[i].reshape(height, width * channels), x[i].reshape(rows, columns * channels)
        for r in range(height):
            there = 0 <= r + top < rows
            begin, end = (first, last) if there else (0, 0)
            line, source = own[r], image[r + top if there else 0]
            for k in range(begin):
                line[k] = 0
            for k in range(begin, end):
                line[k] = source[left * channels + k]
            for k in range(end, width * channels):
                line[k] = 0


class Augmentation(Layer):
    """A layer that changes images at random, in training alone."""

    reads = ()

    def spec(self, shape):
        if len(shape) != 3:
            raise ValueError(
                f"{type(self).__name__} takes images (height, width, channels), got samples of shape {shape}"
            )
        return Spec(shape)

    def refuse_mask(self, b: Binding) -> None:
        if b.inputs[0].mask is not None:
            raise ValueError(f"{b.name}: {type(self).__name__} takes no mask, which would not move with the image")
