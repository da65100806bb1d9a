"""A matplotlib figure as a small SVG for a page: title and description, no date, no font, colours left to CSS."""

from __future__ import annotations

import hashlib
import io
import re
from collections.abc import Mapping
from contextlib import contextmanager
from html import escape
from typing import TYPE_CHECKING

from benchmarks.plots.style import INK_MARK, QUIET_MARK, RULE_MARK, VARIABLES

if TYPE_CHECKING:
    from matplotlib.figure import Figure

NO_METADATA = {"Date": None, "Creator": None, "Format": None, "Type": None}
FONT = "ui-sans-serif, system-ui, 'Segoe UI', Helvetica, Arial, sans-serif"


def _rounded(number: re.Match) -> str:
    """A coordinate to a hundredth of a point."""
    return f"{float(number[0]):.2f}".rstrip("0").rstrip(".")


def _renamed(body: str, prefix: str) -> str:
    """Ids that are referred to become prefix + a number, short as they stand in every mark; others are dropped."""
    used = dict.fromkeys(re.findall(r'(?:href="#|url\(#)([^")]+)', body))
    short = {name: f"{prefix}-{k}" for k, name in enumerate(used)}
    body = re.sub(r' id="([^"]*)"', lambda at: f' id="{short[at[1]]}"' if at[1] in short else "", body)
    return re.sub(r'(href="#|url\(#)([^")]+)', lambda at: at[1] + short[at[2]], body)


@contextmanager
def drawing(salt: str, *, letters: str = "none"):
    """Matplotlib set up for one figure, without pyplot and its global state. letters: "none" keeps text as text."""
    import matplotlib

    with matplotlib.rc_context({
        "svg.hashsalt": salt, "svg.fonttype": letters, "font.size": 9.5, "axes.labelsize": 9.5, "axes.titlesize": 10,
        "xtick.labelsize": 9, "ytick.labelsize": 9, "text.color": INK_MARK, "axes.labelcolor": INK_MARK,
        "axes.edgecolor": QUIET_MARK, "xtick.color": QUIET_MARK, "ytick.color": QUIET_MARK,
        "xtick.labelcolor": INK_MARK, "ytick.labelcolor": INK_MARK, "grid.color": RULE_MARK, "grid.linewidth": 0.6,
        "axes.linewidth": 0.8,
        "axes.spines.top": False, "axes.spines.right": False, "figure.facecolor": "none", "axes.facecolor": "none",
        "lines.linewidth": 1.4, "lines.markersize": 4.6, "axes.grid": True, "axes.axisbelow": True,
        "xtick.minor.size": 0, "ytick.minor.size": 0, "font.family": "sans-serif", "path.simplify": False,
        "mathtext.default": "regular", "axes.titlelocation": "left",
    }):  # fmt: skip
        yield


def finished(
    figure: Figure, id: str, title: str, desc: str, *, colours: Mapping[str, str] | None = None, alone: bool = False
) -> str:
    """The SVG element. colours: stand-in -> what is written instead (default: CSS variables).

    alone: as a file of its own, with a namespace; else an element that a page holds, as wide as its column.
    """
    out = io.StringIO()
    figure.savefig(out, format="svg", metadata=NO_METADATA)
    text = out.getvalue()
    body = text[text.index(">", text.index("<svg")) + 1 : text.rindex("</svg>")]
    box = re.search(r'viewBox="([^"]+)"', text)[1]
    body = re.sub(r"<metadata>.*?</metadata>\s*", "", body, flags=re.S)
    body = re.sub(r"<!--.*?-->\s*", "", body, flags=re.S)
    body = _renamed(body, "s" + hashlib.sha256(id.encode()).hexdigest()[:8])
    body = body.replace("xlink:href=", "href=")
    body = re.sub(r"<[^>]+>", lambda tag: re.sub(r"-?\d+\.\d{3,}", _rounded, tag[0]), body)
    body = re.sub(r"font: [^;\"]*?(\d[\d.]*)px [^;\"]*", rf"font: \1px {FONT}", body)
    for mark, colour in (colours or VARIABLES).items():
        body = body.replace(mark, colour)
    body = re.sub(r"\n\s*", "\n", body).strip()
    space = ' xmlns="http://www.w3.org/2000/svg"' if alone else ""
    _, _, width, height = box.split()
    size = f' width="{float(width):g}pt" height="{float(height):g}pt"' if alone else ""
    head = f'<svg{space} viewBox="{box}"{size} role="img" aria-labelledby="{id}-title {id}-desc">'
    named = f'<title id="{id}-title">{escape(title)}</title>\n<desc id="{id}-desc">{escape(desc)}</desc>'
    return f"{head}\n{named}\n{body}\n</svg>\n"
