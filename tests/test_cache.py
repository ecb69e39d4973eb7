"""Machine code on disk: never stale, and trouble with it costs a compilation, a warning at most."""

import functools
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterable, Sequence

import numba
import pytest
import runs

import nbbp
from nbbp.cli import main
from nbbp.cli.warmup import usual_runs
from nbbp.engine.program import Call
from nbbp.kernels.cache import is_ours
from nbbp.kernels.jit import KERNELS

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


def start(
    script: str, cache: pathlib.Path | str, *arguments: str, package=None, within: Sequence = (), **environment: str
) -> subprocess.Popen:
    """A process with a cache folder, "" for those that nobody asked for; `within` is the command that it is run by."""
    where = {"NUMBA_CACHE_DIR": str(cache), "PYTHONPATH": runs.path(package), "NUMBA_NUM_THREADS": "1"}
    return subprocess.Popen(
        [*within, sys.executable, "-W", "always", "-c", script, *arguments],
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
    def forward(self, b):
        b.call(stretch, b.y, b.x)

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


WARNINGS_ARE_ERRORS = "import warnings; warnings.simplefilter('error')"
COUNTED = f"""
{WARNINGS_ARE_ERRORS}
import atexit
from nbbp.kernels import cache
atexit.register(lambda: print(dict(cache.counts)))
{PREDICT}
"""
ALL_READ = ["[0.0, 3.0]\n{'read': 3}"]
ANEW = "nbbp compiles its kernels anew in every process, since it cannot write to "


@pytest.fixture(scope="module")
def filled(tmp_path_factory) -> pathlib.Path:
    """A cache that has what PREDICT needs, and is only read from."""
    cache = tmp_path_factory.mktemp("filled")
    assert finished([start(PREDICT, cache)]) == (["[0.0, 3.0]"], "")
    return cache


def homes(home: pathlib.Path | str) -> dict[str, str]:
    """What says where a user's caches are."""
    return {"HOME": str(home), "XDG_CACHE_HOME": str(home), "LOCALAPPDATA": str(home)}


@pytest.mark.parametrize("asked_for", [True, False])
def test_no_folder_for_a_cache(asked_for, package):
    """Neither the one that is asked for, nor else one beside the package or in the home directory."""
    blocked = package / "nbbp" / "__pycache__"
    blocked.touch()
    cache = blocked / "cache" if asked_for else ""
    script = WARNINGS_ARE_ERRORS + PREDICT
    printed, said = finished([start(script, cache, package=package, **homes(blocked))])
    assert printed == ["[0.0, 3.0]"]
    (line,) = said.splitlines()
    assert line.startswith(ANEW + str(cache or blocked / "kernels"))
    assert "NUMBA_CACHE_DIR names another folder" in line


def test_what_is_not_beside_the_package_is_in_the_home_directory(package, filled):
    beside, home = package / "nbbp" / "__pycache__" / "kernels", package / "home"
    shutil.copytree(filled / "nbbp", beside)
    first, *others = files(beside)
    (home / "nbbp").mkdir(parents=True)
    first.rename(home / "nbbp" / first.name)
    assert finished([start(COUNTED, "", package=package, **homes(home))]) == (ALL_READ, "")
    shutil.rmtree(beside)
    beside.touch()  # a file, in which no kernel can be kept
    assert finished([start(PREDICT, "", package=package, **homes(home))]) == (["[0.0, 3.0]"], "")
    assert {path.name for path in files(home)} == {path.name for path in (first, *others)}


def test_copies_of_the_package_share_what_is_compiled(package, filled):
    """Their files lie elsewhere and were written at other times, as when a container is built from a folder."""
    for path in package.rglob("*.py"):
        os.utime(path, (0, 0))
    assert finished([start(COUNTED, filled, package=package)]) == (ALL_READ, "")


REFUSED = """
import os, pathlib, tempfile
def refused(*arguments, **settings):
    raise PermissionError(13, "Permission denied")

pathlib.Path.mkdir = pathlib.Path.write_bytes = pathlib.Path.replace = tempfile.TemporaryFile = refused
os.access = lambda path, mode: mode & os.W_OK == 0
"""


def test_a_folder_that_cannot_be_written_to_is_read(filled):
    assert finished([start(REFUSED + COUNTED, filled)]) == (ALL_READ, "")


READ_ONLY = ("unshare", "--mount", "sh", "-c", 'mount --bind "$0" "$0" && mount -o remount,ro,bind "$0" && exec "$@"')


@pytest.mark.skipif(sys.platform != "linux", reason="mounts of Linux")
def test_a_read_only_mount(filled, tmp_path):
    """A filled one is as good as any; an empty one is worth a sentence."""
    if subprocess.run([*READ_ONLY, tmp_path, "true"], capture_output=True).returncode != 0:
        pytest.skip("only root may mount")
    assert finished([start(COUNTED, filled, within=[*READ_ONLY, filled])]) == (ALL_READ, "")
    printed, said = finished([start(COUNTED, tmp_path, within=[*READ_ONLY, tmp_path])])
    assert printed == ["[0.0, 3.0]\n{'lost': 3}"]
    assert said.startswith(f"{ANEW}{tmp_path / 'nbbp'} (Read-only file system)")
    assert len(said.splitlines()) == 1


WARMUP = """
import sys
from nbbp.cli import main, warmup
warmup.usual_runs = lambda model: [lambda: model([warmup.Activation("relu")]).predict([[1.0]])]
sys.exit(main(["warmup", "--dtype", "float64"]))
"""


def test_warmup_fills_a_cache_or_says_that_it_cannot(tmp_path):
    """In both twins of each kernel."""
    cache = tmp_path / "cache"
    (printed,), _ = finished([start(WARMUP, cache)])
    assert re.match(r"5 kernels compiled in \d+ s, 0 were there already\n", printed)
    assert f"{cache / 'nbbp'}: 5 kernels, " in printed
    assert finished([start(COUNTED, cache)]) == (ALL_READ, "")
    (printed,), _ = finished([start(WARMUP, cache)])
    assert re.match(r"0 kernels compiled in \d+ s, 5 were there already\n", printed)
    (tmp_path / "file").touch()
    failed = start(WARMUP, tmp_path / "file")
    printed, said = failed.communicate(timeout=300)
    assert (failed.returncode, printed) == (1, "")
    assert ANEW in said


def test_warmup_runs_every_kernel_on_arrays_of_every_kind(monkeypatch):
    """Of the numbers of axes and dtypes that the demo and a regressor give it among others."""
    bound, init = set(), Call.__init__

    def recorded(self, kernel, arrays, *more):
        bound.add((kernel.name, tuple((array.dtype, array.ndim) for array in arrays)))
        init(self, kernel, arrays, *more)

    monkeypatch.setattr(Call, "__init__", recorded)
    for run in usual_runs(functools.partial(nbbp.Sequential, backend="numpy")):
        run()
    ours = {name for name, pair in KERNELS.items() if is_ours(pair._function)} - {"clear"}  # for layers of one's own
    owned = {"affine_columns", "product_with_columns"}  # which compiled programs alone have, where there are threads
    in_place = {f"{name}_forward" for name, given in nbbp.ACTIVATIONS.items() if given.apart}
    messages = {"swap", "begin_swap", "end_swap"}  # which ranks alone send
    assert ours - owned - in_place - messages <= {name for name, _ in bound}
    warm = bound.copy()
    X, y = nbbp.datasets.load_digits()
    for units, loss, target in ((10, "softmax_cross_entropy", y), (2, "mse", X[:, :2])):
        layers = [nbbp.Dense(9, "tanh"), nbbp.Dense(units)]
        model = nbbp.Sequential(layers, loss, nbbp.Adam(), ["r2" if loss == "mse" else "accuracy"], backend="numpy")
        model.fit(X[:300], target[:300], validation_data=(X, target), verbose=0)
        model.predict(X)
    assert bound == warm


@pytest.mark.soak
def test_nothing_is_compiled_after_warmup(tmp_path):
    cache = tmp_path / "cache"
    finished([start("from nbbp.cli import main; main(['warmup'])", cache)])
    before = files(cache)
    demo = "from nbbp.cli import main; main(['demo', '--output', 'OUTPUT'])".replace("OUTPUT", str(tmp_path / "a.png"))
    for threads in ("1", "4"):
        finished([start(demo, cache, NUMBA_NUM_THREADS=threads), start(TRAIN, cache, NUMBA_NUM_THREADS=threads)])
    assert files(cache) == before


def test_info_says_where_kernels_are(filled, monkeypatch, capsys):
    monkeypatch.setattr(numba.config, "CACHE_DIR", str(filled))
    assert main(["info"]) == 0
    assert f"compiled kernels {filled / 'nbbp'}: 3 kernels, 0.1 MB\n" in capsys.readouterr().out


TROUBLE = {
    "a full disk": "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))",
    "a folder that vanishes": "import os; os.mkdir(CACHE); import nbbp; os.rmdir(CACHE); open(CACHE, 'w').close()",
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
