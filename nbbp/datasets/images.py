"""Images in folders, one for each class."""

import contextlib
import importlib
import pathlib
from collections.abc import Iterator
from typing import Any

import numpy as np

from nbbp import checks

SUFFIXES = {".bmp", ".gif", ".jpeg", ".jpg", ".pbm", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"}
MODES = {1: "L", 3: "RGB", 4: "RGBA"}
GRAY = {"1", "L", "LA"}


def load_images(
    folder, size: int | tuple[int, int] | None = None, channels: int | None = None
) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Images from a folder that has a folder for each class.

    Classes and files are in the order of their names, character by character, on every system. What has no suffix of an
    image, or begins with a dot, is left out. A photo is turned as its camera noted; an animation is its first image.
    This needs Pillow: ``pip install "nbbp[images]"``.

    Parameters
    ----------
    folder
        Such as ``flowers`` with ``flowers/daisy/1.jpg``, ``flowers/rose/1.jpg``.
    size : int or (int, int), optional
        The height and width to which images are scaled, whatever their proportions; needed if they differ in size.
    channels : {1, 3, 4}, optional
        Gray, red-green-blue, or with opacity in addition; by default 1 if all images are gray, and 3 otherwise.

    Returns
    -------
    X : ndarray (rows, height, width, channels), uint8
    y : ndarray (rows,), int64
        The number of each image's class.
    names : list of str
        The names of the classes.

    Raises
    ------
    FileNotFoundError
        If there are no images, or none of a class.
    ValueError
        If an image cannot be read or has another size than the first; the message names the files.
    """
    if channels is not None and channels not in MODES:
        raise ValueError(f"channels must be 1, 3 or 4, got {channels!r}")
    lengths = None if size is None else _lengths(size)
    classes = [path for path in _sorted(folder) if path.is_dir()]
    files = [[path for path in _sorted(own) if path.suffix.lower() in SUFFIXES] for own in classes]
    for own, found in zip(classes, files, strict=True):
        if not found:
            raise FileNotFoundError(f"{own} has no images; each folder is a class, and must have some")
    paths = [path for found in files for path in found]
    if not paths:
        raise FileNotFoundError(f"{folder} has no folder of images for each class")
    if channels is None:
        channels = 1 if all(_is_gray(path) for path in paths) else 3
    first = _pixels(paths[0], lengths, channels)
    X = np.empty((len(paths), *first.shape), np.uint8)
    for own, path in zip(X, paths, strict=True):
        pixels = _pixels(path, lengths, channels)
        if pixels.shape != first.shape:
            raise ValueError(
                f"{paths[0]} has {first.shape[0]} x {first.shape[1]} pixels and {path} has {pixels.shape[0]} x "
                f"{pixels.shape[1]}: give size=(height, width) to scale them"
            )
        own[:] = pixels
    y = np.repeat(np.arange(len(classes)), [len(found) for found in files])
    return X, y, [own.name for own in classes]


def _lengths(size: int | tuple[int, int]) -> tuple[int, int]:
    """Height and width."""
    height, width = size if isinstance(size, tuple) else (size, size)
    return checks.positive_integer("size", height), checks.positive_integer("size", width)


def _sorted(folder) -> list[pathlib.Path]:
    """What a folder has, in the order of the names; paths themselves have another order on each system."""
    there = [path for path in pathlib.Path(folder).iterdir() if not path.name.startswith(".")]
    return sorted(there, key=lambda path: path.name)


def _pillow(module: str) -> Any:
    try:
        return importlib.import_module(f"PIL.{module}")
    except ImportError as error:
        raise ImportError('images need Pillow: pip install "nbbp[images]"') from error


@contextlib.contextmanager
def _opened(path: pathlib.Path) -> Iterator[Any]:
    """An image of Pillow's; ValueError, which names the file, if anything goes wrong with it."""
    image_type = _pillow("Image")
    try:
        with image_type.open(path) as image:
            yield image
    except Exception as error:  # of many kinds, from as many decoders
        raise ValueError(f"{path} cannot be read as an image: {error}") from error


def _is_gray(path: pathlib.Path) -> bool:
    with _opened(path) as image:
        return image.mode in GRAY


def _pixels(path: pathlib.Path, size: tuple[int, int] | None, channels: int) -> np.ndarray:
    """The pixels (height, width, channels)."""
    with _opened(path) as image:
        if image.mode.startswith(("I", "F")):
            raise ValueError(f"its pixels, of mode {image.mode}, do not fit into bytes")
        turned = _pillow("ImageOps").exif_transpose(image).convert(MODES[channels])
        if size is not None:
            turned = turned.resize(size[::-1], _pillow("Image").Resampling.BILINEAR)
        return np.asarray(turned).reshape(turned.height, turned.width, channels)
