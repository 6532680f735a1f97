"""Results on the pages: nothing is typed, all is read from docs/results/ and params/papers/ when the site is built."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import ClassVar

from docutils.parsers.rst import directives
from earlier import mark
from sphinx.application import Sphinx
from sphinx.errors import ExtensionError
from written import Written

from mmcontrast.config import Grid, Published
from mmcontrast.config.metrics import measure
from mmcontrast.errors import DataError, nearest
from mmcontrast.report.text.wording import metric_title, published_text
from workflow.publish import section

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "docs/results"
FOLDER = "results/"


class Result(Written):
    """The findings of a page of results, `suite/experiment`, or with `table` the first table with this in its heading.

    With `rows`, those of its rows that have one of these words. With `planned`, where the suite was not published yet,
    that it was not, and the command that runs it.
    """

    required_arguments = 1
    option_spec: ClassVar[dict[str, Callable[[str], str]] | None] = {
        "table": directives.unchanged,
        "rows": directives.unchanged_required,
        "planned": directives.flag,
    }

    def markdown(self) -> Iterator[str]:
        page = self.arguments[0]
        file = RESULTS / f"{page}.md"
        self.env.note_dependency(str(file))
        if "planned" in self.options and not file.parent.is_dir():
            yield planned(file)
            return
        yield shown(file, self.options.get("table"), self.options.get("rows", "").split(";"))
        yield f"\nFrom [{title(file)}](/{FOLDER}{page}.md), published with the suite `{file.parent.name}`."
        yield f"\n{mark(file.parent)}"


def planned(file: Path) -> str:
    """What stands for the results of a suite that was not published: the experiment's title, and its command.

    Raises:
        ExtensionError: there is no such suite, or it has no such experiment.
    """
    suites = sorted(p.stem for p in (ROOT / "params/suites").glob("*.yaml"))
    if file.parent.name not in suites:
        raise ExtensionError(f"no suite '{file.parent.name}'; {nearest(file.parent.name, suites)}")
    grid = Grid(ROOT, file.parent.name)
    if file.stem not in (found := grid.active_experiments):
        raise ExtensionError(f"suite '{file.parent.name}': no experiment '{file.stem}'; {nearest(file.stem, found)}")
    command = f"snakemake --cores all reproduce --config suite={file.parent.name}"
    what = grid.experiments[file.stem].title
    return f"*{what}* is not among the published results. This runs it:\n\n```sh\n{command}\n```\n"


def shown(file: Path, table: str | None, words: list[str]) -> str:
    """The findings, or the first table whose heading has the words in `table`; of its rows those with one of `words`.

    Raises:
        ExtensionError: there is no such file, section or row.
    """
    where = file.relative_to(ROOT)
    if not file.is_file():
        raise ExtensionError(f"{where}: no such page; {nearest(file.stem, [p.stem for p in file.parent.glob('*.md')])}")
    text = file.read_text(encoding="utf-8")
    headings = [line[3:] for line in text.splitlines() if line.startswith("## ")]
    heading = "Findings" if table is None else next((h for h in headings if table in h), "")
    if not heading:
        raise ExtensionError(f"{where}: no table whose heading has '{table}'; its headings: {'; '.join(headings)}")
    try:
        lines = section(text, heading).splitlines()
    except DataError as e:
        raise ExtensionError(f"{where}: {e}") from None
    head = 0 if table is None else 2
    kept = [line for line in lines[head:] if any(word.strip() in line for word in words)]
    if not kept:
        raise ExtensionError(f"{where}: no row of '{heading}' has any of {words}")
    return "\n".join([*([] if table is None else [f"*{heading}*\n"]), *lines[:head], *kept])


def title(file: Path) -> str:
    """The heading at the top of a page."""
    return file.read_text(encoding="utf-8").partition("\n")[0].removeprefix("# ")


class PublishedNumbers(Written):
    """What a paper printed, from params/papers/; arguments: the paper, and the tables of it that are shown."""

    required_arguments = 1
    optional_arguments = 20

    def markdown(self) -> Iterator[str]:
        paper, *names = self.arguments
        grid = Grid(ROOT)
        self.env.note_dependency(str(ROOT / grid.files.where("papers", paper)))
        tables = {**grid.papers[paper].published, **grid.papers[paper].not_run}
        for name in names:
            if name not in tables:
                raise ExtensionError(f"params/papers/{paper}.yaml: no table '{name}'; {nearest(name, tables)}")
            titles = {k: f"{k} (%)" for k in "RUS"} | getattr(tables[name], "titles", {})
            for dataset in dict.fromkeys(p.dataset for p in tables[name].rows):
                yield from _printed(grid, [p for p in tables[name].rows if p.dataset == dataset], titles)
            yield f"Source: {_plain(tables[name].source or 'as each row says')}.\n"
            yield from (f"- {_plain(note)}" for note in tables[name].notes)
            yield ""


def _printed(grid: Grid, rows: list[Published], titles: dict[str, str]) -> Iterator[str]:
    data = grid.datasets.get(rows[0].dataset)
    metrics = list(dict.fromkeys(m for p in rows for m in p.values)) or list(titles)
    heads = [titles.get(m) or f"{metric_title(m, data)}{measure(m).heading}" for m in metrics]
    yield f"| {data.title if data else rows[0].dataset} | {' | '.join(heads)} |"
    yield "|---|" + "---:|" * len(heads)
    for p in rows:
        values = [published_text(p, m) if m in p.values else "" for m in metrics]
        yield f"| {_plain(p.row)} | {' | '.join(values)} |"
    yield ""


def _plain(text: str) -> str:
    return " ".join(text.split()).removesuffix(".").replace("--", r"\--")


class Suites(Written):
    """Every published suite with the pages of its results."""

    def markdown(self) -> Iterator[str]:
        for folder in sorted((p for p in RESULTS.iterdir() if p.is_dir()), key=lambda p: (p.name != "default", p.name)):
            yield f"## {folder.name}\n\n{Grid(ROOT, folder.name).suite.description}\n"
            pages = sorted(p.stem for p in folder.glob("*.md"))
            yield "```{toctree}\n:maxdepth: 1\n" + "\n".join(f"/{FOLDER}{folder.name}/{p}" for p in pages) + "\n```\n"


def _with_figures(app: Sphinx, docname: str, content: list[str]) -> None:
    """Add an experiment's figures below its tables, and say what command gives the page."""
    if not docname.startswith(FOLDER):
        return
    folder, own = RESULTS / Path(docname).parent.name, Path(docname).name
    stems = sorted((p.stem for p in folder.glob("*.md")), key=len, reverse=True)
    by = {p: next(s for s in stems if p.name.startswith(s)) for p in sorted(folder.glob("*.png"))}
    figures = [p for p, stem in by.items() if stem == own]
    lines = [f"![{p.stem.removeprefix(f'{own}_').replace('_', ' ')}]({p.name})\n" for p in figures]
    command = f"snakemake --cores all reproduce --config suite={folder.name}"
    again = f"\n## Run it again\n\n```sh\n{command}\n```\n"
    content[0] += "\n## Figures\n\n" + "\n".join(lines) + again if lines else again


def setup(app: Sphinx) -> dict[str, bool]:
    app.add_directive("result", Result)
    app.add_directive("published", PublishedNumbers)
    app.add_directive("suites", Suites)
    app.connect("source-read", _with_figures)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
