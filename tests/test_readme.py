"""The README: its links lead somewhere, its index has every public name, and its code runs."""

import pathlib
import re

import nbbp

ROOT = pathlib.Path(__file__).parent.parent
TEXT = (ROOT / "README.md").read_text(encoding="utf-8")


def test_links_lead_somewhere():
    links = [link for link in re.findall(r"\]\(([^)]+)\)", TEXT) if not link.startswith("http")]
    assert len(links) > 50
    assert [link for link in links if not (ROOT / link).exists()] == []


def test_the_index_has_every_public_name():
    index = TEXT[TEXT.index("## API") :]
    assert [name for name in nbbp.__all__ if name != "__version__" and f"`{name}`" not in index] == []


def test_every_example_and_its_picture_are_named():
    for path in (ROOT / "examples").iterdir():
        if path.suffix in (".py", ".ipynb"):
            assert path.name in TEXT, path.name
