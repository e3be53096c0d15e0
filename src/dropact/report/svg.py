"""A matplotlib figure as SVG that takes the colour, the font and the background of the page around it."""

import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from html import escape
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.figure import Figure

INK = "#010203"  # stands for the colour of the surrounding text, which matplotlib cannot name
SETTINGS: dict[Any, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "dropact",
    "font.size": 10,
    "text.color": INK,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "xtick.color": INK,
    "ytick.color": INK,
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "legend.frameon": False,
}


@contextmanager
def canvas(width: float, height: float) -> "Iterator[Figure]":
    """A figure of so many inches of 72 units, to be drawn and rendered within the context."""
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context(SETTINGS):
        yield Figure(figsize=(width, height), layout="constrained")


def render(figure: "Figure", name: str, title: str, description: str) -> str:
    """`figure` as an `<svg>` element with alternative text, no metadata, and ids that begin with `name`.

    Text stays text, in the page's font; what was drawn in `INK` becomes `currentColor`.
    """
    from matplotlib.backends.backend_svg import FigureCanvasSVG

    out = io.StringIO()
    FigureCanvasSVG(figure).print_svg(out, metadata={"Date": None})
    svg = out.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = svg.replace(INK, "currentColor")
    svg = re.sub(r"(font: [^'\";]*px )[^;\"]*", r"\1system-ui, sans-serif", svg)
    svg = re.sub(r"""\b(id|xlink:href)="(#?)""", rf'\1="\2{name}-', svg)
    svg = svg.replace("url(#", f"url(#{name}-")
    box = re.search(r'viewBox="([^"]*)"', svg)
    assert box is not None
    opening = (
        '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
        f'viewBox="{box[1]}" role="img" aria-labelledby="{name}-title {name}-desc">\n'
        f'<title id="{name}-title">{escape(title)}</title>\n<desc id="{name}-desc">{escape(description)}</desc>'
    )
    return opening + svg[svg.index(">") + 1 :].rstrip() + "\n"


def standalone(svg: str) -> str:
    """An `<svg>` of `render` as a file of its own: a panel behind it keeps it readable on any background."""
    box = re.search(r'viewBox="0 0 (\S+) (\S+)"', svg)
    assert box is not None
    panel = (
        "<style>svg{color:#1f2328}.panel{fill:#fff}"
        "@media(prefers-color-scheme:dark){svg{color:#e6edf3}.panel{fill:#161b22}}</style>\n"
        f'<rect class="panel" width="{box[1]}" height="{box[2]}" rx="8"/>'
    )
    sized = svg.replace("<svg ", f'<svg width="{box[1]}" height="{box[2]}" ', 1)
    return sized.replace("</desc>", "</desc>\n" + panel, 1)
