"""What CONTRIBUTING.md promises: a layer is one new file and one line."""

import os
import pathlib
import re
import shutil
import subprocess
import sys
import textwrap

import pytest
import runs

import nbbp
from nbbp.kernels import cache

pytestmark = [pytest.mark.slow, runs.in_repository]

PACKAGE = pathlib.Path(nbbp.__file__).parent
GUIDE = runs.REPOSITORY / "CONTRIBUTING.md"


def block(first: str) -> str:
    """The indented block of the guide that begins with a line."""
    text = GUIDE.read_text(encoding="utf-8")
    lines = re.search(rf"^    {re.escape(first)}\n(?:    .*\n|\n)*", text, re.MULTILINE)
    assert lines
    return textwrap.dedent(lines.group()).strip() + "\n"


def test_a_layer_is_one_file_and_one_line(tmp_path):
    """In a copy of the package, the tests that walk the layers and the kernels find it, and pass."""
    shutil.copytree(PACKAGE, tmp_path / "nbbp", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(runs.REPOSITORY / "pyproject.toml", tmp_path)
    layers = tmp_path / "nbbp" / "layers"
    (layers / "stretch.py").write_text(block('"""Stretch: every feature times a factor of its own."""'))
    (line,) = re.findall(r"`(from nbbp\.layers\.stretch import [^`]*)`", GUIDE.read_text(encoding="utf-8"))
    last = "import Residual as Residual\n"
    entries = (layers / "__init__.py").read_text()
    assert entries.count(last) == 1
    (layers / "__init__.py").write_text(entries.replace(last, f"{last}{line}\n"))
    files = ["test_layers.py", "test_gradients.py", "test_kernels.py", "test_rooms.py"]
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-k", "stretch or rooms"]
    folder = cache.folders()[0]
    kernels = folder.parent if folder.name == "nbbp" else folder  # NUMBA_CACHE_DIR names what it lies in
    done = subprocess.run(
        [*command, f"--rootdir={runs.TESTS}", *(str(runs.TESTS / name) for name in files)],
        capture_output=True, text=True, cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": runs.path(tmp_path), "NUMBA_CACHE_DIR": str(kernels)},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    passed = int(re.search(r"(\d+) passed", done.stdout).group(1))
    assert passed >= 19, done.stdout
