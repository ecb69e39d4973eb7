"""The data that ships, and the loaders of users' files."""

import gzip
import struct

import numpy as np
import pytest

from nbbp.datasets import load_digits, load_images, load_mnist


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


class TestImages:
    """Files in folders; Pillow writes them."""

    @pytest.fixture
    def write(self, tmp_path):
        image_type = pytest.importorskip("PIL.Image")

        def write(name: str, pixels, **settings):
            path = tmp_path / name
            path.parent.mkdir(exist_ok=True)
            image_type.fromarray(np.asarray(pixels, np.uint8)).save(path, **settings)
            return path

        return write

    def test_classes_and_files_are_in_the_order_of_their_names(self, write, tmp_path, rng):
        images = rng.integers(0, 256, (5, 3, 4), np.uint8)
        places = ["b/10.png", "b/2.png", "B/x.bmp", "a/é.png", "a/z.PNG"]  # in no order
        for place, pixels in zip(places, images, strict=True):
            write(place, pixels)
        (tmp_path / "a" / "Thumbs.db").write_bytes(b"no image")
        (tmp_path / ".cache").mkdir()
        (tmp_path / "labels.csv").write_text("")
        X, y, names = load_images(tmp_path)
        assert names == ["B", "a", "b"]
        assert (X.dtype, X.shape, y.dtype) == (np.uint8, (5, 3, 4, 1), np.int64)
        np.testing.assert_array_equal(y, [0, 1, 1, 2, 2])
        np.testing.assert_array_equal(X[..., 0], images[[2, 4, 3, 0, 1]])

    @pytest.mark.parametrize(("given", "channels"), [(None, 3), (1, 1), (3, 3), (4, 4)])
    def test_channels(self, given, channels, write, tmp_path, rng):
        gray, color = rng.integers(0, 256, (2, 3), np.uint8), rng.integers(0, 256, (2, 3, 3), np.uint8)
        write("a/0.png", gray), write("a/1.png", color)
        X, _, _ = load_images(str(tmp_path), channels=given)
        assert X.shape == (2, 2, 3, channels)
        np.testing.assert_array_equal(X[0, ..., 0], gray)
        if channels > 1:
            np.testing.assert_array_equal(X[1, ..., :3], color)
        if channels == 4:
            assert (X[..., 3] == 255).all()

    def test_sizes(self, write, tmp_path):
        first, other = write("a/0.png", np.full((4, 6), 7)), write("b/1.png", np.full((5, 6), 9))
        with pytest.raises(ValueError, match=r"has 4 x 6 pixels and .* has 5 x 6: give size=") as caught:
            load_images(tmp_path)
        assert str(first) in str(caught.value)
        assert str(other) in str(caught.value)
        X, _, _ = load_images(tmp_path, size=(3, 2))
        np.testing.assert_array_equal(X, np.broadcast_to([[[[7]]], [[[9]]]], (2, 3, 2, 1)))
        assert load_images(tmp_path, size=8)[0].shape == (2, 8, 8, 1)

    def test_photos_are_turned_as_their_camera_noted(self, write, tmp_path):
        exif = pytest.importorskip("PIL.Image").Exif()
        exif[0x0112] = 6  # its right side is the top of the scene
        write("a/0.png", [[1, 2, 3], [4, 5, 6]], exif=exif)
        np.testing.assert_array_equal(load_images(tmp_path)[0][0, ..., 0], [[4, 1], [5, 2], [6, 3]])

    @pytest.mark.parametrize("content", [b"", b"no image", None])
    def test_a_file_that_cannot_be_read_is_named(self, content, write, tmp_path, rng):
        write("a/0.png", rng.integers(0, 256, (20, 20)))
        path = write("a/1.png", rng.integers(0, 256, (20, 20)))
        path.write_bytes(path.read_bytes()[:200] if content is None else content)
        with pytest.raises(ValueError, match=r"1\.png cannot be read as an image"):
            load_images(tmp_path)

    def test_pixels_of_more_than_a_byte_are_refused(self, tmp_path):
        image_type = pytest.importorskip("PIL.Image")
        (tmp_path / "a").mkdir()
        image_type.fromarray(np.full((2, 2), 1000, np.uint16)).save(tmp_path / "a" / "0.png")
        with pytest.raises(ValueError, match=r"0\.png cannot be read as an image: its pixels, of mode I"):
            load_images(tmp_path)

    def test_missing_images(self, write, tmp_path):
        with pytest.raises(FileNotFoundError, match="has no folder of images for each class"):
            load_images(tmp_path)
        with pytest.raises(FileNotFoundError, match="nowhere"):
            load_images(tmp_path / "nowhere")
        write("a/0.png", np.zeros((2, 2)))
        (tmp_path / "b").mkdir()
        with pytest.raises(FileNotFoundError, match="b has no images"):
            load_images(tmp_path)

    def test_arguments(self, tmp_path):
        with pytest.raises(ValueError, match="channels must be 1, 3 or 4, got 2"):
            load_images(tmp_path, channels=2)
        with pytest.raises(ValueError, match="size must be 1 or more, got 0"):
            load_images(tmp_path, size=(4, 0))
        with pytest.raises(TypeError, match="size must be an integer"):
            load_images(tmp_path, size="large")
