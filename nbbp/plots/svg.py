"""Figures as SVG within an HTML page: its fonts, and its colours in light and dark themes."""

import contextlib
import io
import re
import warnings
from collections.abc import Iterator
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure

from nbbp.plots.figure import COLORS

INK = "#777776"  # of text and axes; a colour that nothing else has, in place of the page's
SIZE = 9.0  # points
OF_DRAWING = r"""<\?xml.*?\?>|<!DOCTYPE.*?>|<metadata>.*?</metadata>|<!--.*?-->| xmlns(:\w+)?="[^"]*"| version="1.1\""""


@contextlib.contextmanager
def page_style() -> Iterator[None]:
    """Figures that are made here and drawn by `inline` follow the page."""
    inked = ("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color")
    settings: dict[Any, Any] = dict.fromkeys(inked, INK)
    settings |= {"svg.fonttype": "none", "font.size": SIZE, "axes.titlesize": SIZE, "font.sans-serif": ["DejaVu Sans"]}
    with mpl.rc_context(settings), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from font")  # the browser's fonts have it
        yield


def inline(figure: Figure, title: str) -> str:
    """A figure as an ``<svg>`` element, whose text is text; `title` says to those who do not see it what it is.

    Text and axes have the page's ``color``, curves its variables ``--color-0``, ``--color-1``, ..., or else `COLORS`.
    """
    file = io.StringIO()
    with mpl.rc_context({"svg.hashsalt": title}):  # no two figures of a page use one id, and each run writes the same
        figure.savefig(file, format="svg", transparent=True)
    svg = re.sub(OF_DRAWING, "", file.getvalue(), flags=re.DOTALL)
    svg = re.sub(r'<g id="[^"]*"', "<g", svg)  # names that every figure has, to which nothing refers
    svg = svg.replace(INK, "currentColor").replace("'DejaVu Sans', sans-serif", "system-ui, sans-serif")
    for k, color in enumerate(COLORS):
        svg = svg.replace(color, f"var(--color-{k}, {color})")
    label = title.replace("&", "&amp;").replace('"', "&quot;").replace("<", "&lt;")
    return re.sub(r"<svg [^>]*?viewBox", f'<svg role="img" aria-label="{label}" viewBox', svg.strip(), count=1)
