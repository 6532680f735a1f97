"""What stands under a table: definitions, sizes, warnings, sources, and what was not run and why."""

from typing import Any

from mmcontrast.config import Grid
from mmcontrast.config.metrics import measure
from mmcontrast.report.evidence import Evidence, Scope
from mmcontrast.report.tables.information import information_findings, information_notes
from mmcontrast.report.tables.published import reproduction_sentences, reproductions
from mmcontrast.report.text import wording

WIDE_TITLE = "Selected, over seeds and test instances"


def table_notes(evidence: Evidence, experiment: str) -> list[str]:
    """Definitions, sizes, warnings and sources, in the order a reader needs them."""
    grid, scopes = evidence.grid, evidence.scopes(experiment)
    spec = grid.experiments[experiment]
    notes = lost_notes(grid, experiment) + information_notes(grid, experiment)
    notes += protocol_notes(evidence, experiment) + interval_notes(scopes)
    if spec.reference is not None:
        notes.append(wording.told("notes", "difference"))
    notes += [note for of in scopes for note in dataset_notes(of)]
    if spec.kind == "table" and spec.information is None:
        notes += _published_notes(grid, experiment, [of.dataset for of in scopes])
    return notes + not_run_notes(grid, experiment)


def protocol_notes(evidence: Evidence, experiment: str) -> list[str]:
    """How the numbers of each column were chosen."""
    grid, shown = evidence.grid, set(evidence.summary(experiment)["protocol"])
    if grid.experiments[experiment].kind != "table":
        shown &= {"selected"}
    cells = [
        (grid.datasets[d], grid.cell(d, c.method, c.variant).scored_by == "probe")
        for d, c in grid.experiment_cells(experiment)
    ]
    return [f"{title}: {meaning}" for title, meaning in wording.definitions(shown, cells)]


def findings(evidence: Evidence, experiment: str) -> list[str]:
    """What the numbers say in words: R, U and S, or the published numbers beside ours.

    Where the suite changes every cell's parameters they say nothing, and that is the only finding.
    """
    grid = evidence.grid
    if grid.suite.overrides.given():
        return overrides_note(grid)
    if out := information_findings(evidence, experiment):
        return out
    return reproduction_sentences(reproductions(evidence, experiment))


def overrides_note(grid: Grid) -> list[str]:
    """A warning where the suite changes every cell's parameters, since nothing can be concluded then."""
    overrides = grid.suite.overrides.given()
    if not overrides:
        return []
    changed = ", ".join(f"{k} = {v}" for k, v in _flat(overrides))
    return [
        f"No conclusion can be drawn from these numbers: the suite '{grid.suite_name}' changes every cell ({changed}). "
        f"{grid.suite.description}"
    ]


def _flat(values: dict[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    out = []
    for key, value in values.items():
        out += _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else [(prefix + key, value)]
    return out


ONE_SEED = "One seed: there is no interval over seeds, and nothing can be compared."


def interval_notes(scopes: list[Scope]) -> list[str]:
    """What the brackets are, by dataset."""
    if {of.n_seeds for of in scopes} == {1}:
        return [ONE_SEED]
    wide = "; ".join(
        f"{of.data.title}: {wording.wide_interval_name(of.n_seeds, of.n_instances, of.data)}" for of in scopes
    )
    names = (wording.seeds_interval_name(of.n_seeds) for of in scopes)
    narrow = "; ".join(dict.fromkeys(names))
    return [
        f"Brackets: {narrow}.",
        f"Brackets of the column '{WIDE_TITLE}': {wide}.",
        *([wording.SCALE] if any(measure(m).share for of in scopes for m in of.reported) else []),
    ]


def dataset_notes(of: Scope) -> list[str]:
    """How much one test instance counts, and the dataset's own warnings."""
    n, retrieval = of.n_instances, of.data.retrieval
    size = f"{n} test instances."
    if retrieval is not None:
        size = (
            f"{n} test instances, which are the gallery; ties are ranked with wrong answers first. Rsum is at most 600."
        )
    elif of.data.target == "classes":
        size = f"{n} test instances; one of them is {wording.points(100 / n, digits=2)} points of accuracy."
    return [f"{of.data.title}: {note}" for note in (size, *of.data.notes)]


def _published_notes(grid: Grid, experiment: str, datasets: list[str]) -> list[str]:
    table = grid.published(experiment)
    notes = []
    here = [p for p in table.rows if p.dataset in datasets]
    if table.source and here:
        notes.append(f"Published numbers: {' '.join(table.source.split())}.")
    notes += [f"{p.row}: {' '.join((p.source or '').split())}." for p in here if p.verified == "run"]
    notes += [" ".join(note.split()) for note in table.notes if here]
    for d in datasets:
        found = {m for p in table.rows if p.dataset == d for m in p.values}
        absent = [wording.metric_title(m, grid.datasets[d]) for m in grid.datasets[d].metrics if m not in found]
        if absent and table.rows:
            notes.append(f"{grid.datasets[d].title}: no published number was found for {', '.join(absent)}.")
    return notes


def lost_notes(grid: Grid, experiment: str) -> list[str]:
    """Cells of a partial report that have no result, and why."""
    return [
        f"No result of {name}: {grid.lost[name]}"
        for d in grid.experiments[experiment].datasets
        for c in grid.cells_on(experiment, d, with_lost=True)
        if (name := f"{d}/{c.method}/{c.variant}") in grid.lost
    ]


def not_run_notes(grid: Grid, experiment: str) -> list[str]:
    """Datasets of the paper, or of the experiment, that have no rows here, and why."""
    spec = grid.experiments[experiment]
    run = set(spec.datasets) & set(grid.dataset_names)
    notes = [f"Not run: {name}: {reason}." for name, reason in spec.not_run.items() if name not in run]
    left_out = [grid.datasets[d].title for d in spec.datasets if d not in grid.dataset_names and d not in spec.not_run]
    if left_out:
        notes.append(f"Not run: {', '.join(left_out)}: not among the datasets of the suite '{grid.suite_name}'.")
    return notes
