"""Machine code on disk: never stale, and trouble with it costs a compilation, a warning at most."""

import os
import pathlib
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterable

import pytest
import runs

import nbbp

pytestmark = pytest.mark.slow

PREDICT = """
import sys
import numpy as np, nbbp
dtype = sys.argv[1] if len(sys.argv) > 1 else "float64"
model = nbbp.Sequential([nbbp.Activation("relu")], loss="mse", dtype=dtype)
print(model.predict(np.array([[-2.0, 3.0]]))[0].tolist())
"""
TRAIN = """
import runs, nbbp
X, y = runs.rows(8, 4)
model = nbbp.Sequential([nbbp.Dense(2)], "mse", "sgd")
history = model.fit(X, y, batch_size=4, verbose=0)
print(runs.digest(model.params, history.step_loss))
"""


def start(script: str, cache: pathlib.Path, *arguments: str, package=None, **environment: str) -> subprocess.Popen:
    where = {"NUMBA_CACHE_DIR": str(cache), "PYTHONPATH": runs.path(package), "NUMBA_NUM_THREADS": "1"}
    return subprocess.Popen(
        [sys.executable, "-W", "always", "-c", script, *arguments],
        env={**os.environ, **where, **environment}, cwd=runs.TESTS,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def finished(processes: Iterable[subprocess.Popen]) -> tuple[list[str], str]:
    """What they printed, and all that they warned of; they must have ended well."""
    ended = [(*process.communicate(timeout=600), process) for process in processes]
    for _, errors, process in ended:
        assert process.returncode == 0, errors
    return [printed.strip() for printed, *_ in ended], "".join(errors for _, errors, _ in ended)


def files(cache: pathlib.Path) -> dict[pathlib.Path, int]:
    """Every file and when it was written."""
    return {path: path.stat().st_mtime_ns for path in cache.rglob("*") if path.is_file()}


@pytest.fixture
def package(tmp_path) -> pathlib.Path:
    """The folder of a copy of the package that a test may edit."""
    shutil.copytree(pathlib.Path(nbbp.__file__).parent, tmp_path / "nbbp", ignore=shutil.ignore_patterns("__pycache__"))
    return tmp_path


def test_an_upgrade_of_a_shared_file_never_runs_old_machine_code(package):
    cache = package / "cache"
    assert finished([start(PREDICT, cache, package=package)])[0] == ["[0.0, 3.0]"]
    shared = package / "nbbp" / "kernels" / "vector_math.py"
    text = shared.read_text()
    edited = text.replace("constant(c) for c in (0.0, 0.5", "constant(c) for c in (1.0, 0.5")  # ZERO is now 1
    assert edited != text
    shared.write_text(edited)
    assert finished([start(PREDICT, cache, package=package)])[0] == ["[1.0, 3.0]"]


OWN = """
import numpy as np, nbbp
from numba import prange
from helpers import scaled

def stretch_reference(y, x):
    y[:] = scaled.py_func(x)

@nbbp.kernel(stretch_reference, "(b,n) (b,n)")
def stretch(y, x):
    for i in prange(x.shape[0]):
        for j in range(x.shape[1]):
            y[i, j] = scaled(x[i, j])

class Stretch(nbbp.Layer):
    def forward(self, program, y, x, p):
        program.call(stretch, y, x)

print(nbbp.Sequential([Stretch()]).predict(np.ones((1, 1)))[0, 0])
"""
HELPERS = """
import numba
import numpy as np
FACTORS = np.array([2.0, 3.0], np.float32)

@numba.njit
def scaled(x):
    def times(a):
        return a * FACTORS[0]
    return times(x)
"""


def test_an_edit_of_what_ones_own_kernel_calls_is_seen(tmp_path):
    """In a function that is imported from another file, and there in an array and in a function within it."""
    helpers = tmp_path / "helpers.py"
    (tmp_path / "own.py").write_text(OWN)
    answers = []
    for text in (HELPERS, HELPERS.replace("[2.0", "[5.0"), HELPERS.replace("a * F", "4 + a * F")):
        helpers.write_text(text)
        script = f"import sys; sys.dont_write_bytecode = True; sys.path.insert(0, {str(tmp_path)!r}); import own"
        answers += finished([start(script, tmp_path / "cache")])[0]
    assert answers == ["2.0", "5.0", "6.0"]


DAMAGES = [
    lambda content: content[: len(content) // 2],
    lambda content: content[:-100] + bytes(100),
    lambda content: bytes(200) + content[200:],
    lambda content: bytes((7 * i) % 256 for i in range(len(content))),
    lambda content: b"",
]


@pytest.mark.parametrize("script", [PREDICT, pytest.param(TRAIN, marks=pytest.mark.soak)], ids=["predict", "train"])
def test_damaged_files_cost_a_warning_and_a_compilation(script, tmp_path):
    right, _ = finished([start(script, tmp_path)])
    for first in range(0, len(DAMAGES), 2):
        for k, path in enumerate(sorted(files(tmp_path))):
            path.write_bytes(DAMAGES[(first + k) % len(DAMAGES)](path.read_bytes()))
        again, warnings = finished([start(script, tmp_path)])
        assert again == right
        assert "compiles again what it could not read" in warnings
    before = files(tmp_path)
    assert finished([start(script, tmp_path)]) == (right, "")
    assert files(tmp_path) == before


def test_no_folder_for_a_cache(package):
    """Neither the one that is asked for, nor one beside the package, nor one in the home directory."""
    blocked = package / "file"
    blocked.touch()
    for folder in ("", "kernels", "layers"):
        (package / "nbbp" / folder / "__pycache__").touch()
    homes = {"HOME": "/proc/nonexistent", "XDG_CACHE_HOME": "/proc/nonexistent/cache", "LOCALAPPDATA": str(blocked)}
    printed, warnings = finished([start(PREDICT, blocked / "cache", package=package, **homes)])
    assert printed == ["[0.0, 3.0]"]
    assert "nbbp compiles its kernels anew in every process" in warnings


TROUBLE = {
    "a full disk": "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))",
    "a folder that vanishes": "import nbbp, shutil; shutil.rmtree(CACHE); open(CACHE, 'w').close()",
    "a folder that becomes read-only": """
import pathlib
def refused(*arguments):
    raise PermissionError(13, "Permission denied")

pathlib.Path.write_bytes = pathlib.Path.replace = refused
""",
    "files that may not be read": """
import pathlib
def refused(*arguments):
    raise PermissionError(13, "Permission denied")
read_bytes = pathlib.Path.read_bytes
pathlib.Path.read_bytes = lambda path: refused() if path.suffix == ".nbc" else read_bytes(path)
""",
}


@pytest.mark.skipif(sys.platform == "win32", reason="limits of POSIX")
@pytest.mark.parametrize("trouble", TROUBLE)
def test_trouble_with_the_folder_costs_a_warning(trouble, tmp_path):
    cache = tmp_path / "cache"
    script = TROUBLE[trouble].replace("CACHE", repr(str(cache))) + "\n" + PREDICT
    printed, warnings = finished([start(script, cache)])
    assert printed == ["[0.0, 3.0]"]
    assert "nbbp c" in warnings
    if cache.is_dir():
        assert not [path for path in files(cache) if path.suffix == ".tmp"]
        assert finished([start(PREDICT, cache)]) == (["[0.0, 3.0]"], "")


@pytest.mark.parametrize(
    ("script", "count"), [(PREDICT, 4), pytest.param(TRAIN, 20, marks=pytest.mark.soak)], ids=["predict", "train"]
)
def test_processes_that_start_together_on_an_empty_cache(script, count, tmp_path):
    """In two precisions: Numba's own index gives files of the same name to both. Later ones find all of it."""
    dtypes = ("float32", "float64") * (count // 2)
    together, warnings = finished([start(script, tmp_path, dtype) for dtype in dtypes])
    assert len(set(together)) == 1
    assert "nbbp" not in warnings
    before = files(tmp_path)
    assert finished([start(script, tmp_path, dtype) for dtype in dtypes[:2]]) == (together[:2], "")
    assert files(tmp_path) == before
    assert {path.suffix for path in before} == {".nbc"}


KILLED = """
import os, pathlib, signal
def killed(path, content):
    with open(path, "wb") as file:
        file.write(content[: len(content) // 2])
    os.kill(os.getpid(), signal.SIGKILL)
def replaced(path, other):
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="no SIGKILL")
def test_a_process_killed_while_it_writes_harms_no_other(tmp_path):
    for moment in ("pathlib.Path.write_bytes = killed", "pathlib.Path.replace = replaced"):
        victim = start(KILLED + moment + PREDICT, tmp_path)
        victim.communicate(timeout=300)
        assert victim.returncode == -signal.SIGKILL
        assert files(tmp_path)
    for _ in range(2):
        assert finished([start(PREDICT, tmp_path)]) == (["[0.0, 3.0]"], "")


@pytest.mark.soak
@pytest.mark.skipif(sys.platform == "win32", reason="no SIGKILL")
def test_processes_killed_at_any_moment_harm_no_other(tmp_path):
    right, _ = finished([start(TRAIN, tmp_path / "whole")])
    for tenths in range(10, 90, 4):
        victim = start(TRAIN, tmp_path / "cache")
        try:
            victim.wait(timeout=tenths / 10)
        except subprocess.TimeoutExpired:
            victim.kill()
        victim.communicate()
        assert finished([start(TRAIN, tmp_path / "cache")])[0] == right
        shutil.rmtree(tmp_path / "cache")
