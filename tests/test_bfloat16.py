"""Products of bfloat16: order and roundings of the instruction, with it and without; and models that use them."""

import fractions
import math

import numba
import numpy as np
import pytest
import runs

import nbbp
from nbbp.kernels import bfloat16, tiles
from nbbp.kernels.bfloat16 import as_bfloat16
from nbbp.kernels.jit import KERNELS
from nbbp.kernels.pointers import at
from nbbp.training.settings import PRECISIONS

LANES = tiles.VECTOR_BYTES // 4
LEAST = 2.0**-126  # the least normal number of float32


def exact_sum(total: float, x: float, y: float) -> float:
    """total + x y rounded to 24 bits, to nearest even; 0 where that is below the least normal number."""
    value = fractions.Fraction(total) + fractions.Fraction(x) * fractions.Fraction(y)
    if value == 0:
        return 0.0
    exponent = abs(value).numerator.bit_length() - abs(value).denominator.bit_length()
    if abs(value) < fractions.Fraction(2) ** exponent:
        exponent -= 1
    unit = fractions.Fraction(2) ** (exponent - 23)
    rounded = round(value / unit) * unit
    return 0.0 if abs(rounded) < LEAST else float(rounded)


def tile(code: str, monkeypatch):
    """A compiled sum + pair . pair of vectors, with the instruction or with the code in its place."""
    monkeypatch.setattr(tiles, "PAIR_INSTRUCTION", code == "instruction")
    monkeypatch.setattr(bfloat16, "MAY_FLUSH", code == "flushing")
    multiply = tiles._tile

    @numba.njit
    def summed(c, a, b):
        for i in range(len(a)):
            row, start = at(c, i * LANES), i * LANES
            multiply(1, LANES, 1, at(a, i), 1, 1, at(b, start), LANES, row, LANES, row, 0)

    def run(c, a, b):
        c = c.copy()
        summed(c.reshape(-1), a, b.reshape(-1))
        return c

    run(np.zeros((1, LANES), np.float32), np.zeros(1, np.uint32), np.zeros((1, LANES), np.uint32))
    return run


def pairs(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    return (first.view(np.uint32) >> 16) | second.view(np.uint32)


def near_the_least_number(rng, rows: int):
    """Sums, and factors in bfloat16, whose results lie around the least normal number and at all other sizes."""
    exponents = rng.choice([-66, -63, -62, -60, -20, 0, 40], (4, rows, LANES))
    factors = [as_bfloat16(rng.standard_normal((rows, LANES)) * 2.0**e) for e in exponents]
    a = [factor[:, 0].copy() for factor in factors[:2]]
    b = factors[2:]
    c = (
        rng.standard_normal((rows, LANES)) * 2.0 ** rng.choice([-140, -127, -126, -120, -20, 0], (rows, LANES))
    ).astype(np.float32)
    cancelled = rng.random((rows, LANES)) < 0.3  # what is left of a sum is small
    c[cancelled] = (-(a[1][:, None] * b[1]) * (1 + 2.0**-20))[cancelled]
    a[0][0], b[0][0, 0], c[0, 0] = 0, 0, LEAST  # rounded to 24 bits below the least normal number, not to it
    a[1][0], b[1][0, 0] = -(2.0**-75), 2.0**-75
    return c, a, b


@pytest.mark.parametrize("code", ["instruction", "flushing", "comparing"])
def test_a_pair_is_added_like_two_exact_products(code, monkeypatch, rng):
    if not {"instruction": tiles.has_feature("avx512bf16"), "flushing": bfloat16.MAY_FLUSH}.get(code, True):
        pytest.skip("the processor cannot")
    c, a, b = near_the_least_number(rng, 200)
    got = tile(code, monkeypatch)(c, pairs(*a), pairs(*b))
    expected = np.empty_like(c)
    for i, j in np.ndindex(c.shape):
        start = float(c[i, j]) if abs(c[i, j]) >= LEAST else 0.0
        second = exact_sum(start, float(a[1][i]), float(b[1][i, j]))
        expected[i, j] = exact_sum(second, float(a[0][i]), float(b[0][i, j]))
    assert got[0, 0] == 0
    assert np.count_nonzero((abs(got) < 2 * LEAST) & (got != 0)) > 10
    np.testing.assert_array_equal(got, expected)


def test_rounding_is_to_nearest_even():
    bits = np.array(
        [0x3F808000, 0x3F818000, 0x3F808001, 0x7F7FFFFF, 0x007FFFFF, 0x80400000, 0x00800000, 0xFF800000], np.uint32
    )
    rounded = [0x3F800000, 0x3F820000, 0x3F810000, 0x7F800000, 0, 0x80000000, 0x00800000, 0xFF800000]
    assert as_bfloat16(bits.view(np.float32)).view(np.uint32).tolist() == rounded
    assert math.isnan(as_bfloat16(np.array([0xFFFFFFFF], np.uint32).view(np.float32))[0])


def test_kernels_round_as_numpy(rng):
    """A product with the identity is the rounded matrix."""
    bits = rng.integers(0, 2**32, (64, 96), dtype=np.uint32)
    x = bits.view(np.float32)
    x[~np.isfinite(x)] = 1.0
    y = np.empty_like(x)
    rows = np.zeros((64, 64), np.uint32)
    KERNELS["affine_rounded"].serial(y, x, np.eye(96, dtype=np.float32), np.zeros(96, np.float32), rows)
    np.testing.assert_array_equal(y, as_bfloat16(x))


# fmt: off
NETWORKS = {
    "dense": [nbbp.Dense(33, "tanh"), nbbp.Dense(2)],
    "images": [
        nbbp.Reshape((4, 8, 1)), nbbp.Conv2D(9, 3, padding="same", activation="tanh"), nbbp.Conv2D(6, (1, 3), groups=3),
        nbbp.Conv2DTranspose(5, 3, 2), nbbp.Conv2D(4, 3, 2, "same"), nbbp.Conv2D(4, 2, groups=4), nbbp.Flatten(),
        nbbp.Dense(2),
    ],
    "series": [
        nbbp.Reshape((16, 2)), nbbp.Conv1D(7, 3, dilation_rate=2), nbbp.Conv1D(4, 2, 3), nbbp.Flatten(), nbbp.Dense(2),
    ],
    "sequences": [
        nbbp.Reshape((8, 4)), nbbp.Bidirectional(nbbp.LSTM(7, return_sequences=True)),
        nbbp.GRU(9, return_sequences=True), nbbp.GRU(6, return_sequences=True, reset_after=False), nbbp.SimpleRNN(5),
        nbbp.Dense(2),
    ],
    "attention": [nbbp.Reshape((4, 8)), nbbp.TransformerBlock(2, hidden=20), nbbp.Flatten(), nbbp.Dense(2)],
}
# fmt: on


def network(layers, **settings):
    return nbbp.Sequential(layers, "softmax_cross_entropy", "adam", metrics=["accuracy"], **settings)


def gradient(model, X, y) -> np.ndarray:
    return np.concatenate([part.reshape(-1) for part in model.gradients(X, y).values()])


@pytest.mark.parametrize("name", NETWORKS)
def test_both_backends_train_alike(name, rng):
    X, y = rng.standard_normal((70, 32), np.float32), rng.integers(0, 2, 70)
    models = [network(NETWORKS[name], precision="bfloat16", backend=backend) for backend in ("numba", "numpy")]
    losses = [model.fit(X, y, epochs=3, batch_size=35, verbose=0)["loss"] for model in models]
    np.testing.assert_allclose(*losses, rtol=2e-3)  # an activation may round to either side
    same = models[0], models[0].with_backend("numpy")
    np.testing.assert_allclose(*(gradient(model, X, y) for model in same), atol=2e-3)


@pytest.mark.parametrize("name", NETWORKS)
def test_gradients_are_near_those_in_full_precision(name, rng):
    X, y = rng.standard_normal((70, 32), np.float32), rng.integers(0, 2, 70)
    full = network(NETWORKS[name])
    full.build(32)
    exact, rounded = gradient(full, X, y), gradient(full.copy(precision="bfloat16"), X, y)
    most = 5e-2 if name == "sequences" else 2e-2  # 8 bits: 2e-3 for each factor, of which steps have many
    assert 1e-4 < np.linalg.norm(rounded - exact) / np.linalg.norm(exact) < most


def test_digits_are_learned_as_in_full_precision():
    X, y = nbbp.datasets.load_digits()
    scores = []
    for precision in PRECISIONS:
        model = network([nbbp.Dense(64, "relu"), nbbp.Dense(10)], precision=precision)
        scores.append(model.fit(X, y, epochs=40, batch_size=50, verbose=0)["accuracy"][-1])
    assert min(scores) > 0.98
    assert scores[1] > scores[0] - 0.005


def test_precision_is_saved_and_copied(tmp_path, rng):
    model = network(NETWORKS["dense"], precision="bfloat16")
    model.build(5)
    model.save(tmp_path / "model.safetensors")
    loaded, X = nbbp.load(tmp_path / "model.safetensors"), rng.standard_normal((9, 5), np.float32)
    assert loaded.precision == "bfloat16"
    assert loaded.predict(X).tobytes() == model.predict(X).tobytes()
    assert loaded.copy(precision="full").predict(X).tobytes() != model.predict(X).tobytes()


def test_a_fit_is_resumed_in_its_precision(tmp_path, rng):
    X, y = rng.standard_normal((40, 5), np.float32), rng.integers(0, 2, 40)
    model = network(NETWORKS["dense"], precision="bfloat16")
    model.fit(X, y, epochs=1, verbose=0, callbacks=[nbbp.Checkpoint(tmp_path)])
    with pytest.raises(ValueError, match="precision"):
        network(NETWORKS["dense"]).fit(
            X, y, epochs=2, verbose=0, resume=tmp_path, callbacks=[nbbp.Checkpoint(tmp_path)]
        )


def test_what_has_no_such_products_is_refused():
    with pytest.raises(ValueError, match="float64"):
        network(NETWORKS["dense"], dtype="float64", precision="bfloat16")
    with pytest.raises(ValueError, match="precision"):
        network(NETWORKS["dense"], precision="float16")


def test_gradients_are_checked_in_full_precision(rng):
    model = network(NETWORKS["dense"], precision="bfloat16")
    assert max(nbbp.check_gradients(model, rng.standard_normal((9, 5)), rng.integers(0, 2, 9)).values()) < 1e-6


@pytest.mark.slow
def test_code_without_the_instruction_has_its_bits():
    script = "import runs; print(runs.fitted(runs.rounded()))"
    here = runs.run(script, NUMBA_NUM_THREADS="2")
    assert runs.run(script, NUMBA_NUM_THREADS="1", **runs.HASWELL) == here
