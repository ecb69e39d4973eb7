"""How long a new process takes: to import, and to the end of its first epoch, with an empty and a filled cache."""

import os
import subprocess
import sys
import tempfile
import time

IMPORTS = {"import numba": "import numba", "import nbbp": "import nbbp"}
FIRST_EPOCH = """
import numpy as np, nbbp
rng = np.random.default_rng(0)
X, y = rng.random((5000, 784), dtype=np.float32), rng.integers(0, 10, 5000)
model = nbbp.Sequential([nbbp.Dense(128, activation="relu"), nbbp.Dense(10)],
                        loss="softmax_cross_entropy", optimizer=nbbp.Adam())
model.fit(X, y, epochs=1, batch_size=64, verbose=0)
from nbbp.bench.worker import peak_mebibytes
print(peak_mebibytes())
"""


def _run(code: str, cache: str) -> tuple[float, str]:
    begin = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-c", code], env=os.environ | {"NUMBA_CACHE_DIR": cache}, check=True, stdout=subprocess.PIPE
    )
    return time.perf_counter() - begin, done.stdout.decode().strip()


def measure(repeats: int = 5) -> dict[str, float]:
    """Seconds from the start of the process to its end, the best of some repeats, and its peak size in MiB (Linux)."""
    with tempfile.TemporaryDirectory() as cache:
        empty, _ = _run(FIRST_EPOCH, cache)
        filled = [_run(FIRST_EPOCH, cache) for _ in range(repeats)]
        seconds = {name: min(_run(code, cache)[0] for _ in range(repeats)) for name, code in IMPORTS.items()}
    return seconds | {
        "first epoch, empty cache": empty,
        "first epoch, filled cache": min(seconds for seconds, _ in filled),
        "largest size, MiB": float(filled[-1][1]),
    }
