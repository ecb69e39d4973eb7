"""Runs in processes of their own: on a chosen threading layer, with a cache, a processor or a limit of their own."""

import functools
import hashlib
import os
import pathlib
import platform
import subprocess
import sys

import numpy as np
import pytest

import nbbp

TESTS = pathlib.Path(__file__).parent
REPOSITORY = TESTS.parent
in_repository = pytest.mark.skipif(not (REPOSITORY / "examples").exists(), reason="needs the repository around tests/")
with_the_same_bits = pytest.mark.skipif(
    platform.machine().lower() not in ("x86_64", "amd64", "aarch64", "arm64"), reason="bits of x86-64 and aarch64"
)
LAYERS = ("omp", "tbb", "workqueue")
# TBB's wheel puts the library where the loader does not look in a virtual environment
LIBRARIES = os.pathsep.join(filter(None, [str(pathlib.Path(sys.prefix) / "lib"), os.environ.get("LD_LIBRARY_PATH")]))
HASWELL = {
    "NUMBA_CPU_NAME": "haswell",
    "NUMBA_CPU_FEATURES": "+avx,+avx2,+bmi,+bmi2,+cmov,+cx16,+f16c,+fma,+fxsr,+lzcnt,+mmx,+movbe,+pclmul,+popcnt,"
    "+rdrnd,+sse,+sse2,+sse3,+sse4.1,+sse4.2,+ssse3,+xsave,+xsaveopt",
}


def run(script: str, timeout: float = 300, **environment: str) -> str:
    """What a script prints; it may import this module. Fails with what the script wrote to stderr."""
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=timeout,
        env={**os.environ, "LD_LIBRARY_PATH": LIBRARIES, **environment},
    )  # fmt: skip
    assert done.returncode == 0, f"exit code {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def path(package: pathlib.Path | None = None) -> str:
    """PYTHONPATH for this module and the package, or a copy of it."""
    return os.pathsep.join(map(str, [package or pathlib.Path(nbbp.__file__).parent.parent, TESTS]))


@functools.cache
def missing(layer: str) -> bool:
    """Whether Numba cannot load a threading layer."""
    script = "import numba; numba.get_num_threads()"
    environment = os.environ | {"LD_LIBRARY_PATH": LIBRARIES, "NUMBA_THREADING_LAYER": layer}
    return subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True).returncode != 0


def on_layer(layer: str, script: str, threads: int = 4, **environment: str) -> str:
    """`run` on a threading layer, with more threads than there may be processors; skips where it is missing."""
    if missing(layer):
        pytest.skip(f"Numba finds no {layer}")
    return run(script, NUMBA_THREADING_LAYER=layer, NUMBA_NUM_THREADS=str(threads), **environment)


def rows(count: int = 1024, features: int = 32) -> tuple[np.ndarray, np.ndarray]:
    """X (count, features) in [-1, 1] and y (count, 2), from integers: the same on every machine."""
    i = np.arange(count * features, dtype=np.uint64) * np.uint64(2654435761)
    X = ((i >> np.uint64(7)) % np.uint64(201)).astype(np.float32).reshape(count, features) / 100 - 1
    return X, np.stack([X[:, 0] * X[:, 1], np.abs(X[:, 2])], axis=1)


def narrow(seed: int = 0) -> nbbp.Sequential:
    """A network whose steps run in lanes."""
    return nbbp.Sequential([nbbp.Dense(24, "relu"), nbbp.Dense(2)], "mse", nbbp.Adam(), seed=seed)


def wide(seed: int = 0) -> nbbp.Sequential:
    """A network whose operations are shared among threads one by one, in Numba's workqueue too."""
    return nbbp.Sequential([nbbp.Dense(512, "relu"), nbbp.Dense(512, "tanh"), nbbp.Dense(2)], "mse", "sgd", seed=seed)


def images(seed: int = 0) -> nbbp.Sequential:
    """A network of convolutions, with many filters and with few, on images of 8 x 4."""
    layers = [
        nbbp.Reshape((8, 4, 1)), nbbp.Conv2D(20, 3, padding="same", activation="relu"), nbbp.MaxPool2D(2, 1),
        nbbp.Conv2D(6, 2, activation="tanh"), nbbp.Conv2DTranspose(5, 3, 2), nbbp.AveragePool2D(2, 1),
        nbbp.Conv2D(20, 3, 2, "same", groups=5), nbbp.Conv2D(20, 2, groups=20), nbbp.Flatten(), nbbp.Dense(2),
    ]  # fmt: skip
    return nbbp.Sequential(layers, "mse", nbbp.Adam(), seed=seed)


def recurrent(seed: int = 0) -> nbbp.Sequential:
    """A network of recurrent layers, on 8 steps of 4; rows are in groups, of sizes that threads decide."""
    layers = [
        nbbp.Reshape((8, 4)), nbbp.Bidirectional(nbbp.LSTM(13, return_sequences=True)),
        nbbp.GRU(20, return_sequences=True), nbbp.GRU(9, return_sequences=True, reset_after=False), nbbp.SimpleRNN(24),
        nbbp.Dense(2),
    ]  # fmt: skip
    return nbbp.Sequential(layers, "mse", nbbp.Adam(), seed=seed)


def rounded(seed: int = 0) -> nbbp.Sequential:
    """A network whose products round to bfloat16: of one panel and of several, in one block and in several."""
    layers = [nbbp.Dense(300, "relu"), nbbp.Dense(301, "tanh"), nbbp.Dense(2)]
    return nbbp.Sequential(layers, "mse", nbbp.Adam(), seed=seed, precision="bfloat16")


def digest(*arrays: np.ndarray) -> str:
    """Of the bits of arrays."""
    return hashlib.sha256(b"".join(np.ascontiguousarray(a).tobytes() for a in arrays)).hexdigest()


def fitted(model: nbbp.Sequential, epochs: int = 1) -> str:
    """Digest of all that training and predicting give."""
    X, y = rows()
    history = model.fit(X, y, epochs=epochs, batch_size=512, verbose=0)
    return digest(model.params, history.step_loss, np.array(history["loss"]), model.predict(X), model.predict(X[:3]))
