"""The data that ships, and the loaders of users' files."""

import gzip
import struct

import numpy as np
import pytest

from nbbp.datasets import load_digits, load_mnist


def test_digits_are_those_of_scikit_learn():
    theirs = pytest.importorskip("sklearn.datasets").load_digits()
    X, y = load_digits()
    assert X.dtype == np.float32
    assert y.dtype == np.int64
    np.testing.assert_array_equal(X * 16, theirs.data)
    np.testing.assert_array_equal(y, theirs.target)


def idx(array: np.ndarray) -> bytes:
    return struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape) + array.astype(np.uint8).tobytes()


@pytest.fixture
def arrays(rng):
    return {
        "x_train": rng.integers(0, 256, (20, 28, 28)), "y_train": rng.integers(0, 10, 20),
        "x_test": rng.integers(0, 256, (5, 28, 28)), "y_test": rng.integers(0, 10, 5),
    }  # fmt: skip


def write(folder, arrays, suffix="", hyphen="-"):
    names = ("train-images", "train-labels", "t10k-images", "t10k-labels")
    for name, array in zip(names, arrays.values(), strict=True):
        content = idx(array)
        path = folder / f"{name}{hyphen}idx{array.ndim}-ubyte{suffix}"
        path.write_bytes(gzip.compress(content) if suffix else content)


@pytest.mark.parametrize(("suffix", "hyphen"), [("", "-"), (".gz", "-"), ("", "."), (".gz", ".")])
def test_mnist_from_idx_files(tmp_path, arrays, suffix, hyphen):
    write(tmp_path, arrays, suffix, hyphen)
    (X, y), (X_test, y_test) = load_mnist(tmp_path)
    assert X.shape == (20, 784)
    assert X.dtype == np.float32
    np.testing.assert_allclose(X * 255, arrays["x_train"].reshape(20, -1), rtol=1e-6)
    np.testing.assert_array_equal(y, arrays["y_train"])
    assert X_test.shape == (5, 784)
    np.testing.assert_array_equal(y_test, arrays["y_test"])


def test_mnist_from_npz(tmp_path, arrays):
    np.savez(tmp_path / "mnist.npz", **arrays)
    (_, y), (X_test, _) = load_mnist(tmp_path / "mnist.npz")
    np.testing.assert_array_equal(y, arrays["y_train"])
    assert X_test.max() <= 1
    del arrays["y_test"]
    np.savez(tmp_path / "part.npz", **arrays)
    with pytest.raises(ValueError, match=r"part.npz has no array y_test; it has x_train"):
        load_mnist(tmp_path / "part.npz")


@pytest.mark.parametrize(
    ("damage", "message"),
    [(lambda b: b[:-1], "the file has"), (lambda b: b"\1" + b[1:], "not an IDX file"), (lambda b: b[:6], "cut off")],
)
def test_damaged_idx_files(tmp_path, arrays, damage, message):
    write(tmp_path, arrays)
    path = tmp_path / "train-labels-idx1-ubyte"
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(ValueError, match=f"train-labels-idx1-ubyte.*{message}"):
        load_mnist(tmp_path)


def test_missing_idx_file(tmp_path):
    with pytest.raises(FileNotFoundError, match="has no file train-images-idx3-ubyte"):
        load_mnist(tmp_path)
