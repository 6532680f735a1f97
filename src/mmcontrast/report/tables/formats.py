"""A table as plain values, and its rendering as Markdown, LaTeX and CSV. Knows nothing of experiments."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Literal

from mmcontrast.config import Published
from mmcontrast.config.metrics import SHARE, Measure
from mmcontrast.report.results import shown
from mmcontrast.report.text.wording import as_given, estimate, interval, p_value, templates

Kind = Literal["score", "interval", "difference", "p", "count", "published"]


@dataclass(frozen=True)
class Value:
    """A number with what belongs to it, as it is shown, or a word. `digits`: decimals; None = three significant digits.
    `mark`: stands behind the number, except in the CSV.
    """

    mean: float | None = None
    low: float | None = None
    high: float | None = None
    spread: float | None = None
    word: str = ""
    digits: int | None = 1
    mark: str = ""

    @classmethod
    def of(cls, found: Iterable[float] | None, of: Measure = SHARE, mark: str = "") -> Value:
        """A mean with its interval, given as it is stored; empty where there is none."""
        return cls(*shown(found, of), digits=of.decimals, mark=mark) if found else cls()

    @classmethod
    def published(cls, row: Published, metric: str) -> Value:
        """A published number, with its spread if it has one."""
        return cls(row.values[metric], spread=row.spread.get(metric))


@dataclass(frozen=True)
class Column:
    """A column; `kind` decides how its values are written, `optimistic` marks what must not be taken for a headline."""

    key: str
    title: str
    kind: Kind
    optimistic: bool = False


SEEDS = Column("seeds", "Seeds", "count")


@dataclass(frozen=True)
class Row:
    """A row; `cell` is the cell of ours it holds, if any, `own` that it is the paper's own method."""

    label: str
    values: dict[str, Value]
    cell: str | None = None
    own: bool = False

    def texts(self, columns: list[Column]) -> list[str]:
        """The label, and what is shown in each column."""
        return [self.label, *(text_of(self.values.get(c.key), c.kind) for c in columns)]


@dataclass(frozen=True)
class Block:
    """One sub-table. `keys` name it in the CSV."""

    title: str
    columns: list[Column]
    rows: list[Row]
    keys: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Table:
    """Blocks under one caption: what they show in words, then the notes."""

    name: str
    title: str
    caption: str
    blocks: list[Block]
    findings: list[str]
    notes: list[str]


def text_of(value: Value | None, kind: Kind) -> str:
    """What is shown; empty where there is nothing to show."""
    if value is None:
        return ""
    if value.word:
        return value.word
    if kind == "interval":
        return interval(value.low, value.high, digits=value.digits)
    if value.mean is None:
        return ""
    if kind == "p":
        return p_value(value.mean)
    if kind == "count":
        return str(int(value.mean))
    if kind == "published":
        return as_given(value.mean, value.spread)
    text = estimate(value.mean, value.low, value.high, sign=kind == "difference", digits=value.digits)
    return f"{text} {value.mark}".strip()


def to_markdown(table: Table) -> str:
    """GitHub Markdown: a heading, the caption, one table per block, the notes."""
    return templates().get_template("table.md").render(table=table).rstrip("\n") + "\n"


TEX_SPECIAL = {c: f"\\{c}" for c in "&%$#_{}"} | {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    "[": "{[}",
    "]": "{]}",
    "−": r"$-$",
    "±": r"$\pm$",
    "×": r"$\times$",
    "≥": r"$\geq$",
    "≤": r"$\leq$",
    "–": "--",
    "—": "---",
    "’": "'",
    "…": r"\dots{}",
    "\u00a0": "~",
}


def tex_escape(text: str) -> str:
    """Text that LaTeX sets as it stands; brackets are protected from being read as an option."""
    return "".join(TEX_SPECIAL.get(c, c) for c in text)


def to_latex(table: Table) -> str:
    """One `table` per block, for \\input into a document that loads booktabs and graphicx."""
    # braces are LaTeX's own
    env = templates().overlay("<%", "%>", "<<", ">>")
    env.filters["tex"] = tex_escape
    return env.get_template("table.tex").render(table=table)


def to_csv(table: Table) -> str:
    """A line per row, ends of intervals in own columns; percentages to 4 decimals, else 6 significant digits."""
    columns = list({c.key: c for block in table.blocks for c in block.columns}.values())
    keys = list(dict.fromkeys(k for block in table.blocks for k in block.keys))
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow([*keys, "row", "cell", *(name for c in columns for name in _csv_values(Value(), c))])
    for block in table.blocks:
        for row in block.rows:
            cells = [(row.values.get(c.key, Value()), c) for c in columns]
            values = [_number(v, value.digits) for value, c in cells for v in _csv_values(value, c).values()]
            writer.writerow([*(block.keys.get(k, "") for k in keys), row.label, row.cell or "", *values])
    return out.getvalue()


def _csv_values(value: Value, column: Column) -> dict[str, float | None]:
    key = column.key
    own, ends = {key: value.mean}, {f"{key}_low": value.low, f"{key}_high": value.high}
    by_kind = {"score": own | ends, "difference": own | ends, "interval": ends}
    return (by_kind | {"published": own | {f"{key}_spread": value.spread}}).get(column.kind, own)


def _number(value: float | None, digits: int | None) -> str:
    if value is None or value != value:
        return ""
    return f"{value:.6g}" if digits is None else f"{round(value, 4):.10g}"
