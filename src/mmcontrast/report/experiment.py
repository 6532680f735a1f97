"""The table of an experiment, with what is said of it and what stands under it, and its figures."""

import shutil
from collections.abc import Callable, Iterable
from pathlib import Path

from mmcontrast.config import CellRef, Grid, Published
from mmcontrast.config.metrics import measure
from mmcontrast.data.files import write_text
from mmcontrast.paths import FIGURE_FORMATS, Layout
from mmcontrast.report.evidence import Evidence, Scope
from mmcontrast.report.figures.registry import draw, figures
from mmcontrast.report.figures.style import NARROW_SUFFIX, house_style, save
from mmcontrast.report.outputs import own_cells
from mmcontrast.report.tables.contrasts import contrast_blocks, contrast_findings, contrast_notes
from mmcontrast.report.tables.formats import SEEDS, Block, Column, Row, Table, Value, to_csv, to_latex, to_markdown
from mmcontrast.report.tables.information import information_blocks, information_findings, information_notes
from mmcontrast.report.tables.matrix import build_matrix, cost_block, matrix_blocks, matrix_findings, matrix_notes
from mmcontrast.report.tables.published import reproduction_sentences, reproductions
from mmcontrast.report.text import wording
from mmcontrast.report.text.wording import PROTOCOL_TITLES, listed, metric_title, overrides_note, told

WIDE_TITLE = "Selected, over seeds and test instances"
RENDERERS: dict[str, Callable[[Table], str]] = {"md": to_markdown, "tex": to_latex, "csv": to_csv}


def build_table(evidence: Evidence, experiment: str) -> Table:
    """The experiment's table. Kind `table`: published rows, then every cell of ours under all three protocols;
    `ablation`: every cell of ours, selected epoch; both with the paired difference to the experiment's reference, where
    it names one. Kind `matrix`: a row per label, a column per score, see `matrix_blocks`.
    """
    grid, spec = evidence.grid, evidence.grid.experiments[experiment]
    notes = contrast_notes(grid, experiment)
    if spec.kind == "matrix":
        matrix = build_matrix(evidence, experiment)
        blocks, said = matrix_blocks(matrix), overrides_note(grid) or matrix_findings(matrix)
        notes = lost_notes(grid, experiment) + matrix_notes(grid, experiment, matrix, notes)
        notes += wording.rates_at_an_end(grid, experiment)
        if "cost" in (spec.figures or []):
            blocks.append(cost_block(evidence, matrix))
            notes.append(told("notes", "cost"))
        notes += listed("notes", "not_run", grid, spec)
    else:
        blocks = information_blocks(evidence, experiment) + scored_blocks(evidence, experiment)
        said = findings(evidence, experiment) if "own" in spec.views else []
        notes += table_notes(evidence, experiment)
    blocks, said = contrast_blocks(evidence, experiment) + blocks, contrast_findings(evidence, experiment) + said
    return Table(experiment, spec.title, spec.caption.strip(), blocks, said, notes)


def scored_blocks(evidence: Evidence, experiment: str) -> list[Block]:
    """A block for every dataset and metric, a row for every cell."""
    return [_block(of, metric) for of in evidence.scopes(experiment) for metric in of.reported]


def _columns(of: Scope) -> list[Column]:
    """Columns that any row can fill: a paper without numbers has none, and a probe no protocol but `selected`."""
    spec, protocols = of.spec, set(of.summary["protocol"])
    columns = [Column("selected", PROTOCOL_TITLES["selected"], "score"), Column("wide", WIDE_TITLE, "interval")]
    if spec.kind == "table":
        if of.grid.published(of.experiment).rows and spec.information is None:
            columns.insert(0, Column("published", "Published", "published"))
        for protocol in ("last", "optimistic"):
            if protocol in protocols:
                title = PROTOCOL_TITLES[protocol]
                columns.append(Column(protocol, title, "score", optimistic=protocol == "optimistic"))
    if of.reference is not None:
        columns.append(Column("difference", f"Selected, difference to {of.label(of.reference)}", "difference"))
    return [*columns, SEEDS]


def _block(of: Scope, metric: str) -> Block:
    spec, grid = of.spec, of.grid
    printed = [p for p in grid.published(of.experiment).rows if p.dataset == of.dataset and metric in p.values]
    theirs = {_cell_of(p): p for p in printed}
    rows, on_it = [], of.cells
    if spec.kind == "table":
        cells = {(c.method, c.variant) for c in on_it}
        rows = [Row(p.row, {"published": Value.published(p, metric)}) for key, p in theirs.items() if key not in cells]
    compared = of.differences(metric, spec.reference) if spec.reference is not None else {}
    for ref in grid.cells_on(of.experiment, of.dataset, with_lost=True):
        name = of.name(ref)
        if ref in on_it:
            values = _scores(of, ref, metric)
        else:
            values = {"selected": Value(word=grid.lost[name].partition(":")[0])}
        if (ref.method, ref.variant) in theirs:
            values["published"] = Value.published(theirs[ref.method, ref.variant], metric)
        if spec.reference and ref in on_it:
            if (ref.method, ref.variant) == (spec.reference.method, spec.reference.variant):
                values["difference"] = Value(word="reference")
            elif (ref.method, ref.variant) in compared:
                values["difference"] = Value.of(compared[ref.method, ref.variant], measure(metric))
        own = ref in own_cells(grid, of.experiment)[:1]
        rows.append(Row(of.label(ref), values, name if ref in on_it else None, own))
    title = f"{of.data.title}: {metric_title(metric, of.data)}{measure(metric).heading}"
    return Block(title, _columns(of), rows, {"dataset": of.dataset, "metric": metric})


def _cell_of(published: Published) -> tuple[str, str]:
    """Rows without a method of ours differ by their name, and what was not printed has a row of its own."""
    beside = published.method is not None and published.verified != "run"
    return (str(published.method), published.variant) if beside else ("", published.row)


def _scores(of: Scope, ref: CellRef, metric: str) -> dict[str, Value]:
    values = {p: Value.of(of.mean(ref, metric, p), measure(metric)) for p in PROTOCOL_TITLES}
    values["wide"] = Value.of(of.wide(ref, metric), measure(metric))
    if values["selected"].mean is None and values["last"].mean is not None:
        values["selected"] = Value(word="no validation split")
    return values | {"seeds": Value(float(of.cell_summary(ref)["n_seeds"][0]))}


def table_notes(evidence: Evidence, experiment: str) -> list[str]:
    """Definitions, sizes, warnings and sources, in the order a reader needs them."""
    grid, scopes = evidence.grid, evidence.scopes(experiment)
    spec, shown = grid.experiments[experiment], set(evidence.summary(experiment)["protocol"])
    cells = [(of.data, of.config(ref).scored_by == "probe") for of in scopes for ref in of.cells]
    chosen = wording.definitions(shown if spec.kind == "table" else shown & {"selected"}, cells)
    shares = any(measure(m).share for of in scopes for m in of.reported)
    said = listed("notes", "table", grid, spec, scopes, chosen, WIDE_TITLE, shares, grid.published(experiment))
    notes = lost_notes(grid, experiment) + information_notes(grid, experiment)
    return notes + said + wording.rates_at_an_end(grid, experiment)


def findings(evidence: Evidence, experiment: str) -> list[str]:
    """What the numbers say in words: R, U and S, or the published beside ours; where the suite changes every cell's
    parameters they say nothing, and that is the only finding.
    """
    information = overrides_note(evidence.grid) or information_findings(evidence, experiment)
    return information or reproduction_sentences(reproductions(evidence, experiment))


def lost_notes(grid: Grid, experiment: str) -> list[str]:
    """Cells of a partial report that have no result, and why."""
    return [
        f"No result of {name}: {grid.lost[name]}"
        for d in grid.experiments[experiment].datasets
        for c in grid.cells_on(experiment, d, with_lost=True)
        if (name := f"{d}/{c.method}/{c.variant}") in grid.lost
    ]


def write_experiment(grid: Grid, layout: Layout, experiment: str) -> None:
    """Fill the folders of `outputs.experiment_outputs`, and leave nothing else in them. Raises DataError: the results,
    or a file of one of its cells, are missing.
    """
    evidence = Evidence.of_experiment(grid, layout, experiment)
    write_table(evidence, experiment)
    write_figures(evidence, experiment)


def write_table(evidence: Evidence, experiment: str) -> None:
    """The experiment's table as md, tex and csv."""
    table, layout = build_table(evidence, experiment), evidence.layout
    paths = {evidence.grid.root / layout.table(experiment, s): render for s, render in RENDERERS.items()}
    for path, render in paths.items():
        write_text(path, render(table))
    leave_only(evidence.grid.root / layout.tables(experiment), paths)


def write_figures(evidence: Evidence, experiment: str) -> None:
    """The experiment's figures in every format, and in a narrow layout."""
    root, layout, written = evidence.grid.root, evidence.layout, []
    with house_style():
        for spec in figures(evidence.grid, experiment):
            for narrow in (False, True):
                suffixes = (NARROW_SUFFIX,) if narrow else FIGURE_FORMATS
                paths = [root / layout.figure(experiment, spec.name, suffix) for suffix in suffixes]
                save(draw(evidence, spec, narrow), paths)
                written += paths
    leave_only(root / layout.figures(experiment), written)


def leave_only(folder: Path, paths: Iterable[Path]) -> None:
    """A folder as it is declared: there, with these files alone."""
    folder.mkdir(parents=True, exist_ok=True)
    for old in set(folder.iterdir()) - set(paths):
        shutil.rmtree(old) if old.is_dir() else old.unlink()
