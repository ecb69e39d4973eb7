"""Every kernel pair, compiled against NumPy, at odd shapes; and how kernels are declared and compiled."""

import re
import subprocess
import sys
import zlib

import numpy as np
import pytest
import runs

from nbbp.kernels import packed_gemm
from nbbp.kernels.arguments import below, positive, scratch
from nbbp.kernels.clock import Clock
from nbbp.kernels.gemm import ADDED_ROWS
from nbbp.kernels.jit import KERNELS, TwinError, kernel
from nbbp.kernels.threads import PIECE

LENGTHS = (1, 7, 8, 9, 63, 100)
FLAT_LENGTHS = (*LENGTHS, PIECE, 2 * PIECE + 3)  # of arrays that threads take in pieces
TOLERANCE = {np.float32: 2e-5, np.float64: 1e-13}  # relative to the largest element
TOLERANCE_OF_STEPS = 1e-2  # of those that round to bfloat16 what they have computed: it may go to either side


def lengths_of(pair, case: int, rng) -> dict[str, int]:
    """A length for each letter of a kernel's shapes: one after another where there is one, else drawn."""
    letters = pair.arguments.free_letters()
    if letters == ["n"]:
        return {"n": FLAT_LENGTHS[case]}
    lengths = {k: int(rng.choice(LENGTHS)) for k in letters}
    return lengths | {k: lengths.get("b", 1) + 200 for k in letters if k.isupper()}  # beyond the mini-batch


def plain(array: np.ndarray) -> np.ndarray:
    """A clock as its integers, any other array as it is."""
    return array.view(np.int64) if array.dtype.fields else array


@pytest.mark.parametrize(
    ("name", "dtype"),
    [(name, dtype) for name in sorted(KERNELS) for dtype in TOLERANCE if np.dtype(dtype).name in KERNELS[name].dtypes],
)
def test_compiled_kernel_agrees_with_its_reference(name, dtype):
    pair = KERNELS[name]
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    for case in range(len(FLAT_LENGTHS)):
        lengths = lengths_of(pair, case, rng)
        given = pair.arguments.random(rng, lengths, dtype)
        expected = [a.copy() for a in given]
        with np.errstate(all="ignore"):
            pair.reference(*expected)
        for compiled in (pair.serial, pair.parallel):
            got = [a.copy() for a in given]
            compiled(*got)
            for index in pair.arguments.compared():
                a, b = plain(got[index]), plain(expected[index])
                if b.dtype.kind == "f":
                    relative = TOLERANCE_OF_STEPS if re.search("steps.*_rounded", name) else TOLERANCE[dtype]
                    bound = relative * max(1.0, float(np.max(np.abs(b), initial=0)))
                    assert np.max(np.abs(a - b), initial=0) <= bound, (compiled, index, lengths)
                else:
                    np.testing.assert_array_equal(a, b)
        serial, parallel = [a.copy() for a in given], [a.copy() for a in given]
        pair.serial(*serial)
        pair.parallel(*parallel)
        same = (serial[index].tobytes() == parallel[index].tobytes() for index in pair.arguments.compared())
        assert all(same), lengths


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", ["sum_parts", "batch_squares", "batch_slopes"])
def test_rows_are_summed_in_blocks(name, dtype, rng):
    pair = KERNELS[name]
    lengths = dict.fromkeys(pair.arguments.free_letters(), 2 * ADDED_ROWS + 45) | {"n": 70}
    given = pair.arguments.random(rng, lengths, dtype)
    expected, *got = ([a.copy() for a in given] for _ in range(3))
    pair.reference(*expected)
    assert 3 in expected[0].shape
    for arrays, compiled in zip(got, (pair.serial, pair.parallel), strict=True):
        compiled(*arrays)
        for a, b in zip(arrays, expected, strict=True):
            np.testing.assert_allclose(a, b, rtol=0, atol=1000 * np.finfo(dtype).eps)
    assert [a.tobytes() for a in got[0]] == [a.tobytes() for a in got[1]]


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


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_products_of_many_rows_have_the_bits_of_those_of_single_rows(dtype, rng):
    m, k, n = 131, 600, 93
    x, w, b = (rng.standard_normal(shape).astype(dtype) for shape in ((m, k), (k, n), (n,)))
    y, rows = np.empty((m, n), dtype), np.empty((m, n), dtype)
    columns, block, first = y.copy(), np.ascontiguousarray(w[:, 8:80]), np.array([8])
    KERNELS["affine"].parallel(y, x, w, b)
    KERNELS["affine_columns"].serial(columns, x, block, b, first)
    for i in range(m):
        KERNELS["affine"].serial(rows[i : i + 1], x[i : i + 1], w, b)
    assert y.tobytes() == rows.tobytes()
    assert columns[:, 8:80].tobytes() == rows[:, 8:80].tobytes()
    for length in (200, k):  # the products of more rows are added in float64
        a, sums = np.ascontiguousarray(x[:, :length].T), b.copy()
        dy = rng.standard_normal((length, n)).astype(dtype)
        own = np.empty((m, 72), dtype)
        KERNELS["product_of_transposed"].parallel(y, sums, a, dy)
        KERNELS["product_with_columns"].serial(own, b.copy(), a, dy, first)
        for i in range(m):
            KERNELS["product_of_transposed"].serial(rows[i : i + 1], sums, a[:, i : i + 1].copy(), dy)
        assert y.tobytes() == rows.tobytes()
        assert own.tobytes() == np.ascontiguousarray(rows[:, 8:80]).tobytes()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(
    ("m", "k", "n"), [(1, 9, 3), (61, 600, 1), (100, 131, 2), (205, 20, 3), (49, 16, 4), (64, 300, 7)]
)
def test_few_columns_have_the_bits_of_single_rows(m, k, n, dtype, rng):
    x, w, b = (rng.standard_normal(shape).astype(dtype) for shape in ((m, k), (k, n), (n,)))
    y, rows = np.full((m, n), np.nan, dtype), np.empty((m, n), dtype)
    KERNELS["affine"].serial(y, x, w, b)
    for i in range(m):
        KERNELS["affine"].serial(rows[i : i + 1], x[i : i + 1], w, b)
    assert y.tobytes() == rows.tobytes()
    a, c = np.ascontiguousarray(x.T), np.full((m, n), np.nan, dtype)  # k rows are summed
    KERNELS["product_of_transposed"].serial(c, b, a, w)
    for i in range(m):
        KERNELS["product_of_transposed"].serial(rows[i : i + 1], b.copy(), a[:, i : i + 1].copy(), w)
    assert c.tobytes() == rows.tobytes()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("n", [3, 16, 20, 40, 70, 150])
def test_columns_that_are_summed_together_have_the_bits_of_single_ones(n, dtype, rng):
    for rows in (100, 300, 1290):
        x, sums = rng.standard_normal((rows, n)).astype(dtype), np.empty(n, dtype)
        KERNELS["column_sums"].serial(sums, x)
        for j in range(n):
            alone = np.empty(1, dtype)
            KERNELS["column_sums"].serial(alone, x[:, j : j + 1].copy())
            assert alone[0] == sums[j]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("classes", [1, 2, 3, 4, 7, 8, 10, 16, 17])
def test_cross_entropy_of_rows_side_by_side_has_the_bits_of_single_rows(classes, dtype, rng):
    rows = 75
    z, scale = (4 * rng.standard_normal((rows, classes))).astype(dtype), rng.random(rows).astype(dtype)
    z[3, 0] = np.inf
    z[70, 0] = np.nan
    target = rng.integers(0, classes, (rows, 1))
    together, alone = ([np.empty(rows, dtype), np.empty((rows, classes), dtype)] for _ in range(2))
    KERNELS["softmax_cross_entropy_labels"].serial(*together, z, target, scale)
    for i in range(rows):
        own = slice(i, i + 1)
        parts = (array[own] for array in (*alone, z, target, scale))
        KERNELS["softmax_cross_entropy_labels"].serial(*parts)
    for a, b in zip(together, alone, strict=True):
        np.testing.assert_array_equal(a, b)


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


def test_binding_checks_lengths_that_follow_from_others():
    g, limit = np.zeros(PIECE + 1), np.ones(1)
    assert KERNELS["clip_norm"].lengths([g, np.zeros(2), limit])["P"] == 2
    for wrong in (1, 3):
        with pytest.raises(ValueError, match=r"clip_norm takes .*\(n\) \(P\) \(1\)"):
            KERNELS["clip_norm"].lengths([g, np.zeros(wrong), limit])


@pytest.mark.parametrize(
    ("declared", "message"),
    [
        ({"shapes": "(n)"}, r"f takes y, x; it is declared with shapes \(n\)"),
        ({"shapes": "(n) (n)", "values": {"z": positive}}, "f takes y, x; it is declared with values of z"),
        ({"shapes": "(b,n) (b,n)", "elementwise": True}, r"f is elementwise: it takes arrays of shape \(n\)"),
    ],
)
def test_declarations_fit_the_function(declared, message):
    def f(y, x):
        pass

    with pytest.raises(ValueError, match=message):
        kernel(f, **declared)(f)


@pytest.fixture
def forgotten():
    """What a test declares is gone afterwards."""
    before = dict(KERNELS)
    yield
    KERNELS.clear()
    KERNELS.update(before)


def rooted_reference(y, variance, label, rate, memory, clock):
    y[:] = np.sqrt(variance)[label] * rate[clock["step"][0]]


def rooted(y, variance, label, rate, memory, clock):
    for i in range(y.shape[0]):
        memory[i] = rate[clock[0].step]
        y[i] = np.sqrt(variance[label[i]]) * memory[i]


def rooted_by_the_first_rate(y, variance, label, rate, memory, clock):
    for i in range(y.shape[0]):
        y[i] = np.sqrt(variance[label[i]]) * rate[0]


@pytest.mark.usefixtures("forgotten")
def test_a_kernel_is_held_against_its_reference_on_what_its_arguments_may_hold():
    values = {"variance": positive, "label": below("c"), "memory": scratch}
    declare = kernel(rooted_reference, "(n) (c) (n) (S) (n) (1)", values=values)
    arrays = np.zeros(90), np.zeros(4), np.zeros(90, np.int64), np.zeros(50), np.zeros(90), Clock().record
    right = declare(rooted)
    right.check(*arrays)
    _, variance, label, _, _, clock = right.arguments.redrawn(np.random.default_rng(0), right.lengths(arrays), arrays)
    assert variance.min() > 0
    assert set(label) == {0, 1, 2, 3}
    assert 0 < clock["step"][0] < 50
    with pytest.raises(TwinError, match="kernel rooted_by_the_first_rate: argument 0"):
        declare(rooted_by_the_first_rate).check(*arrays)


def test_functions_that_kernels_share_have_names_of_their_own():
    """Made in one place with one name, those from the caches of two processes were taken for each other."""
    from nbbp.kernels import few_columns, sums

    of_rows = [few_columns._four_whole, few_columns._four_parts]
    made = [sums.total, sums.sum_of_sizes, sums.sum_of_squares, *of_rows]
    assert len({function.py_func.__qualname__ for function in made}) == len(made)
    code = "from nbbp.kernels import sums; print(sums.total.py_func.__qualname__)"
    again = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert again.stdout.strip() == sums.total.py_func.__qualname__


WITHOUT_MASKED_STORES = """
import numpy as np
import nbbp
from nbbp.kernels.jit import KERNELS

for name in ("relu_forward", "leaky_relu_forward", "elu_forward", "linear_backward"):
    pair = KERNELS[name]
    pair.serial(*(np.ones(64, np.float32) for _ in pair.arguments.names))
    assert "maskmov" not in next(iter(pair.serial.inspect_asm().values())), name
"""


def test_avx2_code_of_activations_has_no_masked_stores(tmp_path):
    from llvmlite import binding

    if not binding.get_host_cpu_features().get("avx2"):
        pytest.skip("no AVX2")
    runs.run(WITHOUT_MASKED_STORES, NUMBA_CACHE_DIR=str(tmp_path), **runs.HASWELL)
