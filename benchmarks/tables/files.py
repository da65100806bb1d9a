"""A table as files that people cite: CSV with every bound in a column of its own, Markdown, LaTeX (booktabs)."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Mapping
from pathlib import Path

from benchmarks.tables.table import Cell, Table

LATEX = {
    "\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "$": r"\$", "&": r"\&", "#": r"\#", "_": r"\_", "%": r"\%",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"\textless{}", ">": r"\textgreater{}",
}  # fmt: skip
MARKS = {"best": "**", "tied": "*"}


def as_csv(table: Table, provenance: Mapping[str, str] | None = None) -> str:
    """Comment lines, then one line per row: heads, and for each column its value, low, high, n and record."""
    out = io.StringIO()
    for line in _provenance(table, provenance):
        out.write(f"# {line}\n")
    parts = {column.name: _parts(table, k) for k, column in enumerate(table.columns)}
    writer = csv.writer(out, lineterminator="\n")
    names = [name if part == "value" else f"{name}_{part}" for name, kept in parts.items() for part in kept]
    writer.writerow([*(head.lower().replace(" ", "_") for head in table.heads), *names])
    for row in table.rows:
        cells = [_csv_part(row.cells[k], part) for k, kept in enumerate(parts.values()) for part in kept]
        writer.writerow([*row.labels, *cells])
    return out.getvalue()


def _parts(table: Table, k: int) -> list[str]:
    """value, and those of low, high, n, mark, reason and record that any cell of the column has."""
    cells = [row.cells[k] for row in table.rows]
    has = {
        "low": any(c.low is not None for c in cells), "high": any(c.high is not None for c in cells),
        "n": any(c.n is not None for c in cells), "mark": any(c.mark for c in cells),
        "note": any(c.note for c in cells), "reason": any(c.reason for c in cells),
        "record": any(c.record for c in cells),
    }  # fmt: skip
    return ["value", *(part for part, there in has.items() if there)]


def _csv_part(cell: Cell, part: str) -> str:
    if part == "value":
        return cell.status if cell.status != "ok" else "" if cell.value is None else str(cell.value)
    found = getattr(cell, part)
    return "" if found is None else found[:12] if part == "record" else str(found)


def as_markdown(table: Table, provenance: Mapping[str, str] | None = None) -> str:
    """A pipe table with the caption below; **best**, *tied with the best*."""

    def plain(text: str) -> str:
        return re.sub(r"([\\|`*_<>\[\]])", r"\\\1", " ".join(text.split()))

    def entry(cell: Cell) -> str:
        text = " ".join(cell.text.split())
        text = re.sub(r"([\\|`*_<>])", r"\\\1", text)
        mark = MARKS.get(cell.mark, "")
        return f"{mark}{text}{mark}"

    heads = [
        *map(plain, table.heads),
        *(plain(titled(c.title, c.unit, c.better, " (lower is better)")) for c in table.columns),
    ]
    lines = [f"**{plain(table.title)}**", "", "| " + " | ".join(heads) + " |"]
    lines.append("|" + "---|" * len(table.heads) + "--:|" * len(table.columns))
    for row in table.rows:
        lines.append("| " + " | ".join([*map(plain, row.labels), *map(entry, row.cells)]) + " |")
    said = [table.caption, *table.said_of_intervals, *table.notes]
    lines += ["", *(plain(line) for line in said if line), "", "<!--"]
    lines += [line.replace("--", "- -") for line in _provenance(table, provenance)] + ["-->", ""]
    return "\n".join(lines)


def as_latex(table: Table, provenance: Mapping[str, str] | None = None) -> str:
    """A table environment with booktabs rules; \\textbf best, \\underline tied with the best."""

    def entry(cell: Cell) -> str:
        text = latex(cell.text)
        return {"best": rf"\textbf{{{text}}}", "tied": rf"\underline{{{text}}}"}.get(cell.mark, text)

    heads = [*map(latex, table.heads), *(latex(titled(c.title, c.unit, c.better, "")) for c in table.columns)]
    lines = [f"% {line}" for line in _provenance(table, provenance)]
    lines += [r"% \usepackage{booktabs}", r"\begin{table}", r"\centering"]
    caption = " ".join([table.title + ".", table.caption, *table.said_of_intervals, *table.notes])
    lines += [rf"\caption{{{latex(caption)}}}", rf"\label{{tab:{re.sub(r'[^A-Za-z0-9:-]', '-', table.id)}}}"]
    lines.append(rf"\begin{{tabular}}{{{'l' * len(table.heads)}{'r' * len(table.columns)}}}")
    lines += [r"\toprule", " & ".join(heads) + r" \\", r"\midrule"]
    kind = table.rows[0].kind if table.rows else ""
    for row in table.rows:
        if row.kind != kind:
            lines.append(r"\midrule")
            kind = row.kind
        lines.append(" & ".join([*map(latex, row.labels), *map(entry, row.cells)]) + r" \\")
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}", r"\end{table}", ""])


def latex(text: str) -> str:
    """Text with every character that LaTeX reads as a command escaped; 1.2e-5 becomes 1.2 x 10^-5."""
    escaped = "".join(LATEX.get(character, character) for character in " ".join(text.split()))
    return re.sub(r"(?<=\d)e(-?\d+)\b|(?<=\]) e(-?\d+)\b", lambda e: rf"$\times 10^{{{e[1] or e[2]}}}$", escaped)


def titled(title: str, unit: str, better: str, lower: str) -> str:
    """The head of a column: title, unit, and which way is better."""
    arrow = {"lower": lower or " (lower)", "higher": (lower or " (higher)").replace("lower", "higher")}.get(better, "")
    return f"{title}{f' [{unit}]' if unit else ''}{arrow}"


def _provenance(table: Table, provenance: Mapping[str, str] | None) -> list[str]:
    lines = [
        f"trilemma table {table.id}",
        f"digest {table.digest}",
        *(f"{k} {v}" for k, v in (provenance or {}).items()),
    ]
    return [" ".join(line.split()) for line in lines]


def write(table: Table, folder: Path, provenance: Mapping[str, str] | None = None) -> dict[str, Path]:
    """suffix -> file. The file's name is the table's id; equal tables give equal bytes."""
    folder.mkdir(parents=True, exist_ok=True)
    made = {}
    for suffix, render in {"csv": as_csv, "md": as_markdown, "tex": as_latex}.items():
        made[suffix] = folder / f"{table.id}.{suffix}"
        text = render(table, provenance)
        if not made[suffix].is_file() or made[suffix].read_text() != text:
            made[suffix].write_text(text)
    return made
