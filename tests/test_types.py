"""What the package's annotations are worth to those who check their own programs."""

import pathlib
import subprocess
import sys

import pytest
import runs

import nbbp

pytestmark = pytest.mark.slow

PACKAGE = pathlib.Path(nbbp.__file__).parent
PROGRAM = runs.TESTS / "user_program.py"
SETTINGS = """
[mypy]
strict = true

# as of an installed package: what a program sees of it, and no word of what is within
[mypy-nbbp.*]
follow_imports = silent

# nothing of theirs is in the annotations, and reading them takes minutes
[mypy-torch.*,onnx.*,onnxruntime.*,keras.*,optuna.*,pandas.*,polars.*,pyarrow.*,narwhals.*,sklearn.*,scipy.*]
follow_imports = skip
ignore_missing_imports = true
"""


def test_mypy_accepts_a_users_program(tmp_path):
    pytest.importorskip("mypy")
    assert (PACKAGE / "py.typed").exists()
    (tmp_path / "nbbp").symlink_to(PACKAGE)
    (tmp_path / "program.py").write_text(PROGRAM.read_text())
    (tmp_path / "mypy.ini").write_text(SETTINGS)
    done = subprocess.run([sys.executable, "-m", "mypy", "program.py"], cwd=tmp_path, capture_output=True, text=True)
    assert done.stdout.startswith("Success"), done.stdout + done.stderr


def test_a_users_program_runs(tmp_path):
    pytest.importorskip("sklearn")
    done = subprocess.run([sys.executable, PROGRAM, tmp_path], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
