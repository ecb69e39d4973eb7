"""The README: its links lead somewhere, its index has every public name, and its code runs."""

import re
import tomllib

import pytest
import runs

import nbbp

pytestmark = runs.in_repository


@pytest.fixture
def text() -> str:
    return (runs.REPOSITORY / "README.md").read_text(encoding="utf-8")


def links(text: str) -> list[str]:
    """Those into the repository."""
    return [link for link in re.findall(r"\]\(([^)]+)\)", text) if not link.startswith("http")]


def test_links_lead_somewhere(text):
    assert len(links(text)) > 50
    assert [link for link in links(text) if not (runs.REPOSITORY / link).exists()] == []


def test_a_package_index_shows_no_link_into_the_repository(text):
    settings = tomllib.loads((runs.REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))
    for entry in settings["tool"]["hatch"]["metadata"]["hooks"]["fancy-pypi-readme"]["substitutions"]:
        text = re.sub(entry["pattern"], entry["replacement"], text)
    assert links(text) == []
    assert "](https://doi.org/" in text
    assert "*Picture: Loss and accuracy of the demo*" in text
    assert "| models | `Sequential`, `load`" in text


def test_the_index_has_every_public_name(text):
    index = text[text.index("## API") :]
    assert [name for name in nbbp.__all__ if name != "__version__" and f"`{name}`" not in index] == []


def test_every_example_and_its_picture_are_named(text):
    for path in (runs.REPOSITORY / "examples").iterdir():
        if path.suffix in (".py", ".ipynb"):
            assert path.name in text, path.name
