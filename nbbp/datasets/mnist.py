"""MNIST from the user's files: this library downloads nothing."""

import gzip
import pathlib

import numpy as np

IDX_DTYPES = {0x08: ">u1", 0x09: ">i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
FILES = (
    ("train-images-idx3-ubyte", "train-labels-idx1-ubyte"),
    ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"),
)

Pair = tuple[np.ndarray, np.ndarray]


def load_mnist(path) -> tuple[Pair, Pair]:
    """MNIST, or data in its form such as Fashion-MNIST.

    Parameters
    ----------
    path
        A folder with the four IDX files of https://yann.lecun.com/exdb/mnist, gzipped or not, or an .npz file with
        the arrays x_train, y_train, x_test and y_test.

    Returns
    -------
    (X, y), (X_test, y_test)
        X (rows, 784), float32 in [0, 1]; y (rows,), int64.

    Raises
    ------
    FileNotFoundError, ValueError
        If a file is missing or wrong; the message names it.
    """
    path = pathlib.Path(path)
    if path.is_dir():
        train, test = ((_read_idx(_find(path, images)), _read_idx(_find(path, labels))) for images, labels in FILES)
        return _pair(*train), _pair(*test)
    with np.load(path) as file:
        missing = {"x_train", "y_train", "x_test", "y_test"} - set(file.files)
        if missing:
            raise ValueError(f"{path} has no array {', '.join(sorted(missing))}; it has {', '.join(file.files)}")
        return _pair(file["x_train"], file["y_train"]), _pair(file["x_test"], file["y_test"])


def _pair(images: np.ndarray, labels: np.ndarray) -> Pair:
    if len(images) != len(labels):
        raise ValueError(f"there are {len(images)} images and {len(labels)} labels")
    return images.reshape(len(images), -1).astype(np.float32) / 255, labels.astype(np.int64)


def _find(folder: pathlib.Path, name: str) -> pathlib.Path:
    # Some mirrors write a dot where others write a hyphen.
    for candidate in (name, f"{name}.gz", name.replace("-idx", ".idx"), name.replace("-idx", ".idx") + ".gz"):
        if (folder / candidate).is_file():
            return folder / candidate
    raise FileNotFoundError(f"{folder} has no file {name} or {name}.gz")


def _read_idx(path: pathlib.Path) -> np.ndarray:
    """An IDX file: two zero bytes, a dtype, the number of axes, their lengths, then the numbers; all big-endian."""
    content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    if len(content) < 4 or content[:2] != b"\0\0" or content[2] not in IDX_DTYPES:
        raise ValueError(f"{path} is not an IDX file: it begins with {content[:4]!r}")
    axes, dtype = content[3], np.dtype(IDX_DTYPES[content[2]])
    if len(content) < 4 + 4 * axes:
        raise ValueError(f"{path} is cut off in its header, after {len(content)} bytes")
    shape = tuple(int(n) for n in np.frombuffer(content, ">u4", axes, offset=4))
    expected = 4 + 4 * axes + int(np.prod(shape, dtype=object)) * dtype.itemsize
    if len(content) != expected:
        raise ValueError(f"{path}: its header says shape {shape}, {expected} bytes; the file has {len(content)}")
    return np.frombuffer(content, dtype, offset=4 + 4 * axes).reshape(shape)
