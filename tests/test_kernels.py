"""Every kernel pair, compiled against NumPy, at odd shapes; and how kernels are declared and compiled."""

import subprocess
import sys
import zlib

import numpy as np
import pytest

from nbbp.kernels import packed_gemm
from nbbp.kernels.jit import KERNELS, kernel

LENGTHS = (1, 7, 8, 9, 63, 100)
TOLERANCE = {np.float32: 2e-5, np.float64: 1e-13}  # relative to the largest element

POSITIVE = {"adagrad": (2,), "rmsprop": (2, 3), "adadelta": (2, 3, 4), "adam": (3, 4), "nadam": (3, 4)}
POSITIVE |= {"cross_entropy": (2, 3), "cross_entropy_labels": (2,), "clip": (1,), "clip_norm": (2,), "noise": (1,)}
POSITIVE |= {
    "limit_norms": (2,),
    "distillation_dense": (3, 5),
    "normalize": (5, 6),
    "normalize_backward": (7, 8),
    "batch_norm": (8,),
    "layer_norm": (6,),
}
"""Arguments that hold squares, probabilities, bounds or rates."""


def integers(name: str, index: int, shape: tuple[int, ...], lengths: dict[str, int], rng) -> np.ndarray | None:
    """The arguments that are integers: labels, row orders, columns, keys and clocks."""
    if name.endswith("_labels") and index == 3:
        return rng.integers(0, lengths["c"], shape)
    if KERNELS[name].shapes.split()[index] == "(8)" and name not in ("adam", "nadam"):
        return np.array([1, 9, 0, 0, 1, 0, 5, 0])
    if (name, index) in (("dropout", 2), ("gaussian_noise", 2), ("noise", 2), ("shuffle", 1)):
        return rng.integers(0, 2**64, shape, np.uint64)
    if (name, index) == ("shuffle", 0):
        return np.zeros(shape, np.int64)
    if (name, index) in (("gather", 4), ("weigh", 3)):
        return rng.permutation(lengths["R"])[: lengths["S"]]
    if name in ("embed", "embed_backward") and index == 3:
        return np.array([0, lengths["N"] - lengths["d"]])
    if name in ("take_columns", "put_columns") and index == 2:
        return rng.permutation(lengths["M"])[: lengths["k"]]
    return None


def arguments(pair, lengths: dict[str, int], dtype, rng) -> list[np.ndarray]:
    arrays = []
    for index, text in enumerate(pair.shapes.split()):
        letters = text.strip("()").split(",")
        shape = tuple(lengths[k] if k.isalpha() else int(k) for k in letters)
        array = integers(pair.name, index, shape, lengths, rng)
        if array is None:
            array = rng.standard_normal(shape).astype(dtype)
            if index in POSITIVE.get(pair.name, ()):
                array = np.abs(array) / 4 + dtype(0.1)
        arrays.append(np.ascontiguousarray(array))
    if pair.name.endswith("_packed"):
        arrays[-2:] = packed_gemm.scratch(lengths["m"], lengths["k"], dtype)
    return arrays


def results(pair, arrays: list[np.ndarray]) -> list[np.ndarray]:
    """All arrays but scratch."""
    return arrays[:-2] if pair.name.endswith("_packed") else arrays


def lengths_of(pair, case: int, rng) -> dict[str, int]:
    """A length for each letter of a kernel's shapes: one after another where there is one, else drawn."""
    letters = sorted({k for k in pair.shapes if k.isalpha()})
    lengths = {k: LENGTHS[case % len(LENGTHS)] if len(letters) == 1 else int(rng.choice(LENGTHS)) for k in letters}
    lengths |= {k: lengths.get("b", 1) + 200 for k in letters if k.isupper()}  # beyond the mini-batch
    lengths |= {"P": 1} if "P" in letters else {}  # pieces of a flat array
    lengths |= {"D": 2 * lengths["c"]} if "D" in letters else {}
    return lengths


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", sorted(KERNELS))
def test_compiled_kernel_agrees_with_its_reference(name, dtype):
    pair = KERNELS[name]
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    for case in range(8):
        lengths = lengths_of(pair, case, rng)
        given = arguments(pair, lengths, dtype, rng)
        expected = [a.copy() for a in given]
        with np.errstate(all="ignore"):
            pair.reference(*expected)
        for compiled in (pair.serial, pair.parallel):
            got = [a.copy() for a in given]
            compiled(*got)
            for index, (a, b) in enumerate(zip(results(pair, got), results(pair, expected), strict=True)):
                bound = TOLERANCE[dtype] * max(1.0, float(np.max(np.abs(b), initial=0)))
                assert np.max(np.abs(a - b), initial=0) <= bound, (compiled, index, lengths)
        serial, parallel = [a.copy() for a in given], [a.copy() for a in given]
        pair.serial(*serial)
        pair.parallel(*parallel)
        pairs = zip(results(pair, serial), results(pair, parallel), strict=True)
        assert all(a.tobytes() == b.tobytes() for a, b in pairs), lengths


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_packed_products_have_the_bits_of_those_in_place(dtype, rng):
    m, k, n = 131, 77, 203
    x, w, b = (rng.standard_normal(shape).astype(dtype) for shape in ((m, k), (k, n), (n,)))
    dy = rng.standard_normal((m, n)).astype(dtype)

    def made(name, shape, *arrays):
        result = np.full(shape, np.nan, dtype)
        KERNELS[name].parallel(result, *arrays)
        return result.tobytes()

    forward = packed_gemm.scratch(m, k, dtype)
    assert made("affine", (m, n), x, w, b) == made("affine_packed", (m, n), x, w, b, *forward)
    weights = packed_gemm.scratch(k, m, dtype)
    in_place = made("product_of_transposed", (k, n), np.empty(n, dtype), x, dy)
    assert in_place == made("product_of_transposed_packed", (k, n), x, dy, *weights)
    inputs = packed_gemm.scratch(m, n, dtype)
    in_place = made("affine", (m, k), dy, np.ascontiguousarray(w.T), np.zeros(k, dtype))
    assert in_place == made("product_with_transposed_packed", (m, k), dy, w, *inputs)


def test_kernel_names_are_taken_once():
    with pytest.raises(ValueError, match="there is a kernel named"):
        kernel(lambda y: None, "(n)", name=next(iter(KERNELS)))(lambda y: None)


@pytest.mark.parametrize(
    "arrays",
    [
        [np.zeros((3, 4)), np.zeros((3, 2)), np.zeros((2, 4))],
        [np.zeros((3, 4)), np.zeros((3, 2)), np.zeros((2, 4)), np.zeros(5)],
        [np.zeros((3, 4)), np.zeros((3, 2)), np.zeros((2, 4)), np.zeros((4, 1))],
        [np.zeros((4, 3)).T, np.zeros((3, 2)), np.zeros((2, 4)), np.zeros(4)],
    ],
    ids=["count", "length", "axes", "strides"],
)
def test_binding_checks_shapes(arrays):
    with pytest.raises(ValueError, match=r"affine takes .*\(m,n\) \(m,k\) \(k,n\) \(n\)"):
        KERNELS["affine"].lengths(arrays)


def test_functions_that_kernels_share_have_names_of_their_own():
    """Made in one place with one name, those from the caches of two processes were taken for each other."""
    from nbbp.kernels import gemm, sums

    made = [sums.total, sums.sum_of_sizes, sums.sum_of_squares, gemm._tile_8, gemm._tile_4, gemm._tile_2, gemm._tile_1]
    assert len({function.py_func.__qualname__ for function in made}) == len(made)
    code = "from nbbp.kernels import sums; print(sums.total.py_func.__qualname__)"
    again = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert again.stdout.strip() == sums.total.py_func.__qualname__
