"""The README: its links lead somewhere, its index has every public name, and its code runs."""

import re
import shlex
import tomllib

import pytest
import runs

import nbbp
from nbbp.cli import main

pytestmark = runs.in_repository

README = runs.REPOSITORY / "README.md"
TEXT = README.read_text(encoding="utf-8") if README.exists() else ""

BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
COMMAND = "$ nbbp "


def blocks(text: str) -> list[tuple[str, str]]:
    """Those of Python and of commands of nbbp: language and code."""
    return [(kind, code) for kind, code in BLOCK.findall(text) if kind == "python" or code.startswith(COMMAND)]


SECTIONS = {text.partition("\n")[0]: blocks(text) for text in TEXT.split("\n## ") if blocks(text)}
NEEDS = {
    "A file and a question": ["narwhals", "onnx", "pandas", "pyarrow", "sklearn"],
    "With scikit-learn": ["sklearn"],
    "Several processes, and machines": ["mpi4py"],
    "Tables, and data larger than memory": ["narwhals", "pandas", "pyarrow"],
    "Other programs": ["onnx", "torch"],
}


def run(language: str, code: str, names: dict) -> None:
    if language == "python":
        before = TEXT[: TEXT.index(code)].count("\n")  # lines, so that an error names the README's
        exec(compile("\n" * before + code, "README.md", "exec"), names)
    else:
        for line in code.splitlines():
            assert main(shlex.split(line.removeprefix(COMMAND))) == 0, line


@pytest.mark.parametrize("section", SECTIONS)
def test_the_code_of_each_section_runs_after_the_first_block(section, tmp_path, monkeypatch):
    for module in NEEDS.get(section, ()):
        pytest.importorskip(module)
    monkeypatch.chdir(tmp_path)
    names: dict = {}
    first, *_ = SECTIONS["Use"]
    for block in dict.fromkeys([first, *SECTIONS[section]]):
        run(*block, names)


def test_every_block_of_python_and_every_command_runs():
    run_of = [block for section in SECTIONS.values() for block in section]
    assert sum(language == "python" for language, _ in run_of) == TEXT.count("```python\n") > 8
    assert sum(code.count(COMMAND) for _, code in run_of) == TEXT.count(COMMAND) > 3
    assert set(NEEDS) < set(SECTIONS)


def links(text: str) -> list[str]:
    """Those into the repository."""
    return [link for link in re.findall(r"\]\(([^)]+)\)", text) if not link.startswith("http")]


def test_links_lead_somewhere():
    assert len(links(TEXT)) > 50
    assert [link for link in links(TEXT) if not (runs.REPOSITORY / link).exists()] == []


def test_a_package_index_shows_no_link_into_the_repository():
    text = TEXT
    settings = tomllib.loads((runs.REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))
    for entry in settings["tool"]["hatch"]["metadata"]["hooks"]["fancy-pypi-readme"]["substitutions"]:
        text = re.sub(entry["pattern"], entry["replacement"], text)
    assert links(text) == []
    assert "](https://doi.org/" in text
    assert "*Picture: Loss and accuracy of the demo*" in text
    assert "| models | `Sequential`, `load`" in text


def test_the_index_has_every_public_name():
    index = TEXT[TEXT.index("## API") :]
    assert [name for name in nbbp.__all__ if name != "__version__" and f"`{name}`" not in index] == []


def test_every_example_and_its_picture_are_named():
    for path in (runs.REPOSITORY / "examples").rglob("*"):
        if path.suffix in (".py", ".ipynb"):
            assert path.name in TEXT, path.name
