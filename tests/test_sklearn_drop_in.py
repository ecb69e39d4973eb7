"""scikit-learn's own tests of its networks, run with nbbp's estimators in their place."""

import importlib.util
import os
import pathlib
import subprocess
import sys
import xml.etree.ElementTree

import pytest

pytest.importorskip("sklearn")

import sklearn

import nbbp

PRIVATE = "reads private attributes of scikit-learn's: "
NOT_PASSING = {
    "test_fit": PRIVATE + "it sets coefs_, _coef_velocity and others by hand before the first fit",
    "test_gradient": PRIVATE + "_loss_grad_lbfgs",
    "test_learning_rate_warmstart": PRIVATE + "_optimizer",
    "test_adaptive_learning_rate": PRIVATE + "_optimizer",
    "test_n_iter_no_change": PRIVATE + "_no_improvement_count",
    "test_n_iter_no_change_inf": PRIVATE + "_no_improvement_count",
    "test_early_stopping_stratified": "a class that is too small has its name in y, 1, and not that of its code, True",
}
LONG = ("test_partial_fit_classification", "test_lbfgs_regression")  # seconds each
CONFTEST = """import pytest

@pytest.fixture
def global_random_seed():
    return 42
"""


@pytest.mark.skipif(not sklearn.__version__.startswith("1.9."), reason="the list is of scikit-learn 1.9's tests")
@pytest.mark.parametrize("left_out", [LONG, pytest.param((), marks=pytest.mark.soak)], ids=["short", "all"])
def test_scikit_learns_own_tests_pass(tmp_path, left_out):
    spec = importlib.util.find_spec("sklearn.neural_network.tests.test_mlp")
    if spec is None or spec.origin is None:
        pytest.skip("this scikit-learn was installed without its tests")
    theirs = "from sklearn.neural_network import MLPClassifier, MLPRegressor"
    source = pathlib.Path(spec.origin).read_text(encoding="utf-8")
    assert source.count(theirs) == 1
    tests = source.replace(theirs, theirs.replace("sklearn.neural_network", "nbbp.sklearn"))
    (tmp_path / "test_mlp.py").write_text(tests, encoding="utf-8")
    (tmp_path / "conftest.py").write_text(CONFTEST, encoding="utf-8")
    (tmp_path / "pytest.ini").write_text("[pytest]\n", encoding="utf-8")
    left = [word for name in left_out for word in ("--deselect", f"test_mlp.py::{name}")]
    command = [sys.executable, "-m", "pytest", "-q", "--junitxml=report.xml", "-p", "no:randomly", *left, "test_mlp.py"]
    path = os.pathsep.join([str(pathlib.Path(nbbp.__file__).parents[1]), os.environ.get("PYTHONPATH", "")])
    run = subprocess.run(command, cwd=tmp_path, env=os.environ | {"PYTHONPATH": path}, capture_output=True, text=True)
    cases = xml.etree.ElementTree.parse(tmp_path / "report.xml").findall(".//testcase")
    failed = {case.get("name") for case in cases if case.find("failure") is not None or case.find("error") is not None}
    assert failed == set(NOT_PASSING), run.stdout[-3000:]
    assert len(cases) - len(failed) >= (52 if not left_out else 48)
