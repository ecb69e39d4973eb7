"""Elementary functions against NumPy and the standard library, in units in the last place."""

import math

import numpy as np
import pytest
from numba import njit

from nbbp.kernels import vector_math
from nbbp.kernels.denormals import copy_flushed, flushed
from nbbp.kernels.pointers import at

NORMAL = np.vectorize(lambda x: 0.5 * math.erfc(-x / math.sqrt(2)))


def turned(function, x):
    """function(2 pi x), from at most an eighth of a turn, where 2 pi times it has no digits to lose."""
    x = x - np.rint(x)
    n = np.rint(4 * x)
    r = 2 * np.pi * (x - n / 4)
    sine = function is np.sin
    return np.choose((n.astype(int) - sine) % 4, [np.cos(r), -np.sin(r), -np.cos(r), np.sin(r)])


FUNCTIONS = {
    "exp": np.exp,
    "expm1": np.expm1,
    "log": np.log,
    "log1p": np.log1p,
    "tanh": np.tanh,
    "sigmoid": lambda x: np.where(x < 0, np.exp(np.minimum(x, 0)), 1) / (1 + np.exp(-np.abs(x))),
    "softplus": lambda x: np.logaddexp(x, 0),
    "normal_distribution": NORMAL,
    "gelu": lambda x: x * NORMAL(x),
    "cos_of_turns": lambda x: turned(np.cos, x),
    "sin_of_turns": lambda x: turned(np.sin, x),
}
DOMAINS = {"expm1": (-np.inf, 0), "log1p": (0, 1)}
UNITS = {"tanh": 5.3}  # in the last place, at most; of the others 4


def looped(function):
    @njit(error_model="numpy")
    def loop(y, x):
        for i in range(x.shape[0]):
            y[i] = function(x[i])

    return loop


@pytest.mark.slow
@pytest.mark.parametrize("name", FUNCTIONS)
def test_float32_is_within_some_units_in_the_last_place(name):
    step = 100_003 if name in ("normal_distribution", "gelu") else 4_099
    x = np.arange(0, 1 << 32, step, dtype=np.uint64).astype(np.uint32).view(np.float32)
    low, high = DOMAINS.get(name, (-np.inf, np.inf))
    x = x[np.isfinite(x) & (x >= low) & (x <= high)]
    y = np.empty_like(x)
    looped(getattr(vector_math, name))(y, x)
    with np.errstate(all="ignore"):
        exact = FUNCTIONS[name](x.astype(np.float64))
        rounded = exact.astype(np.float32)
        error = np.abs(y.astype(np.float64) - exact) / np.spacing(np.abs(rounded)).astype(np.float64)
    same = (y == rounded) | (np.isnan(y) & np.isnan(rounded))
    assert np.max(np.where(same, 0, error)) <= UNITS.get(name, 4)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_float64_is_near_numpy(name, rng):
    x = rng.standard_normal(20_000) * 5
    if name in ("log", "expm1", "log1p"):
        x = {"log": np.exp(x), "expm1": -np.abs(x), "log1p": rng.random(20_000)}[name]
    y = np.empty_like(x)
    looped(getattr(vector_math, name))(y, x)
    np.testing.assert_allclose(
        y, FUNCTIONS[name](x), rtol=4e-14 if name in ("normal_distribution", "gelu") else 1.5e-15
    )


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("exp", [np.inf, 0, np.nan, 1]),
        ("log", [np.inf, np.nan, np.nan, -np.inf]),
        ("tanh", [1, -1, np.nan, 0]),
        ("sigmoid", [1, 0, np.nan, 0.5]),
        ("normal_distribution", [1, 0, np.nan, 0.5]),
    ],
)
def test_special_values(name, expected, dtype):
    x = np.array([np.inf, -np.inf, np.nan, 0], dtype)
    y = np.empty_like(x)
    looped(getattr(vector_math, name))(y, x)
    np.testing.assert_allclose(y, np.array(expected, dtype), rtol=1e-6)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_tanh_lies_between_its_limits_and_has_the_sign_of_its_argument(dtype):
    x = np.concatenate([np.linspace(0, 25, 100_001), np.geomspace(1e-30, 1e30, 1001)]).astype(dtype)
    y, negative = np.empty_like(x), np.empty_like(x)
    looped(vector_math.tanh)(y, x)
    looped(vector_math.tanh)(negative, -x)
    np.testing.assert_array_equal(negative, -y)
    assert y.min() >= 0
    assert y.max() == 1


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_denormal_numbers_are_flushed(dtype):
    tiny = np.finfo(dtype).tiny
    x = np.array([tiny, -tiny, tiny / 2, -tiny / 4, 0, 1, -3, np.inf, -np.inf, np.nan, *np.arange(13)], dtype)
    expected, y, copied = np.where(np.abs(x) < tiny, 0, x), np.empty_like(x), np.empty_like(x)
    looped(flushed)(y, x)
    np.testing.assert_array_equal(y, expected)

    @njit
    def copy(y, x):
        copy_flushed(at(y, 0), at(x, 0), x.shape[0])

    copy(copied, x)
    assert copied.tobytes() == y.tobytes()
