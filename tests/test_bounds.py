"""Every kernel's serial twin with Numba's bounds checks, at odd shapes, in a process of its own.

Products run on pointers, which nothing checks: `affine` and `product_of_transposed` are left out. Of kernels that share
their source, such as the activations, one is run.
"""

import os
import subprocess
import sys

import numpy as np
import pytest
from test_kernels import lengths_of

from nbbp.kernels.jit import KERNELS, compiled

pytestmark = pytest.mark.slow

UNCHECKED = {"affine", "product_of_transposed"}


def run() -> None:
    """IndexError where a kernel leaves an array."""
    pairs = {pair._function.__code__: pair for pair in KERNELS.values() if pair.name not in UNCHECKED}
    for pair in pairs.values():
        for case in range(8):
            rng = np.random.default_rng(case)
            pair.serial(*pair.arguments.random(rng, lengths_of(pair, case, rng), np.float32))


def beyond(y):
    y[y.shape[0]] = 0


def run_beyond() -> None:
    compiled(beyond)(np.zeros(3, np.float32))


@pytest.mark.parametrize(("function", "last_line"), [("run", ""), ("run_beyond", "IndexError: index is out of bounds")])
def test_no_kernel_leaves_its_arrays(function, last_line, tmp_path):
    environment = os.environ | {"NUMBA_BOUNDSCHECK": "1", "NUMBA_CACHE_DIR": str(tmp_path)}
    script = f"import test_bounds; test_bounds.{function}()"
    done = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True)
    assert done.stderr.strip().rpartition("\n")[2] == last_line
    assert done.returncode == (1 if last_line else 0)
