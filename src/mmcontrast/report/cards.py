"""reports/models/<dataset>/<method>/<variant>.md: a card for each exported model."""

from __future__ import annotations

import polars as pl
import yaml
from jinja2 import Environment

from mmcontrast.config import CellConfig, CellRef, Grid, Modality
from mmcontrast.data.files import replacing
from mmcontrast.report.evidence import Evidence
from mmcontrast.report.provenance import CellRecord
from mmcontrast.report.summary import lookup, percent, summarise
from mmcontrast.report.text.notes import ONE_SEED, TIES, overrides_note
from mmcontrast.report.text.wording import (
    PROBE_DEFINITION,
    PROTOCOL_DEFINITIONS,
    PROTOCOL_SHORT,
    cell_label,
    estimate,
    metric_title,
    points,
    reported_metrics,
    seeds_interval_name,
    wide_interval_name,
)

RECONSTRUCTION = "reconstruction"
TRAINING = ("objective", "model", "pretrain", "finetune", "selection", "recipe", "engine")
# instances of the example, and steps of a sequence whose length is free
EXAMPLE_ROWS, EXAMPLE_STEPS = 2, 8


def write_cards(evidence: Evidence, records: list[CellRecord], code: str, environment: Environment) -> None:
    """Write the card of every cell, and remove those of cells that the grid no longer has.

    Args:
        records: of every cell. code: the code's version. environment: where the template is; its autoescape does not
            concern Markdown.
    """
    grid, layout, results = evidence.grid, evidence.layout, evidence.results
    folder = grid.root / layout.report("models")
    template = environment.overlay(autoescape=False).get_template("card.md")
    written = set()
    for record in records:
        cell = grid.cells[record.name]
        text = template.render(
            cell=cell,
            record=record,
            method=grid.methods[cell.method],
            title=cell_label(grid, CellRef(method=cell.method, variant=cell.variant)),
            paper=grid.papers.get(grid.methods[cell.method].paper or ""),
            reconstruction=RECONSTRUCTION in grid.methods[cell.method].title.lower(),
            sheet=evidence.datasheets[cell.dataset],
            files=_files(evidence, cell),
            weights=_weights(_protocols(cell, results), cell),
            first_metric=metric_title(_metrics(grid, cell)[0], grid.datasets[cell.dataset]),
            definitions=_definitions(cell, results),
            scores=_scores(evidence, cell),
            training=yaml.safe_dump(cell.model_dump(mode="json", include=set(TRAINING)), sort_keys=False).strip(),
            inputs={name: _example(cell, spec) for name, spec in cell.modalities.items()},
            rows=EXAMPLE_ROWS,
            limits=_limits(grid, results, cell),
            code=code,
            points=points,
        )
        path = grid.root / layout.card(record.name)
        with replacing(path) as temp:
            temp.write_text(text, encoding="utf-8")
        written.add(path)
    for old in set(folder.rglob("*.md")) - written:
        old.unlink()


def _of(frame: pl.DataFrame, cell: CellConfig) -> pl.DataFrame:
    """A cell's rows, those of one experiment alone: a cell of several experiments has the same scores in each."""
    own = frame.filter(dataset=cell.dataset, method=cell.method, variant=cell.variant)
    return own.filter(experiment=own["experiment"][0]) if "experiment" in own.columns else own


def _metrics(grid: Grid, cell: CellConfig) -> list[str]:
    return reported_metrics(grid.datasets[cell.dataset])


def _protocols(cell: CellConfig, results: pl.DataFrame) -> list[str]:
    shown = set(_of(results, cell)["protocol"])
    return [p for p in PROTOCOL_SHORT if p in shown]


def _files(evidence: Evidence, cell: CellConfig) -> list[dict[str, str]]:
    """Each seed's exported file, with its own test score by the first metric; of a cell without a `selected` score, the
    last epoch's."""
    protocol = _protocols(cell, evidence.results)[0]
    first = _metrics(evidence.grid, cell)[0]
    own = _of(evidence.results, cell).filter(split="test", metric=first, protocol=protocol)
    scores = dict(zip(own["seed"], own["value"], strict=True))
    return [
        {
            "path": evidence.layout.stage(cell.name, cell.last_stage, f"models/seed{seed}.safetensors"),
            "seed": str(seed),
            "score": points(100 * scores[seed]),
        }
        for seed in cell.seeds
    ]


def _weights(protocols: list[str], cell: CellConfig) -> str:
    """Which epoch's weights are exported."""
    if cell.scored_by == "probe":
        return "of the last epoch; the probe that gives the scores is not part of the file"
    return "of the epoch selected on validation" if "selected" in protocols else "of the last epoch"


def _definitions(cell: CellConfig, results: pl.DataFrame) -> list[str]:
    """How each kind of score was made."""
    if cell.scored_by == "probe":
        return [f"The score is that of {PROBE_DEFINITION}."]
    return [f"{PROTOCOL_SHORT[p]}: {PROTOCOL_DEFINITIONS[p]}" for p in _protocols(cell, results)]


def _scores(evidence: Evidence, cell: CellConfig) -> list[dict[str, str]]:
    """A row per metric and protocol: the mean with both intervals, in percent."""
    grid, results = evidence.grid, evidence.results
    summary = summarise(_of(results, cell))
    ref = CellRef(method=cell.method, variant=cell.variant)
    rows = []
    for metric in _metrics(grid, cell):
        for protocol in _protocols(cell, results):
            found = lookup(summary, cell.dataset, ref, protocol, metric)
            wide = lookup(evidence.intervals, cell.dataset, ref, protocol, metric)
            if found is None:
                continue
            rows.append(
                {
                    "metric": metric_title(metric, grid.datasets[cell.dataset]),
                    "protocol": "linear probe" if cell.scored_by == "probe" else PROTOCOL_SHORT[protocol],
                    "seeds": estimate(*percent(found)),
                    "wide": estimate(*percent(wide)) if wide is not None else "",
                }
            )
    return rows


def _limits(grid: Grid, results: pl.DataFrame, cell: CellConfig) -> list[str]:
    """What the scores do not show, and known problems of the data."""
    data, n = grid.datasets[cell.dataset], int(_of(results, cell).filter(split="test")["n"][0])
    limits = overrides_note(grid)
    limits.append(
        "It was trained to compare training objectives and is evaluated only on the test split of this dataset. "
        "Performance on other data is unknown."
    )
    if len(cell.seeds) == 1:
        limits.append(ONE_SEED)
    else:
        limits.append(
            f"First brackets: {seeds_interval_name(len(cell.seeds))}. With few seeds such an interval tends to be "
            f"too narrow. Second brackets: {wide_interval_name(len(cell.seeds), n)}."
        )
    if data.retrieval is not None:
        limits.append(f"Ties are ranked {TIES[data.retrieval.ties]}. Rsum is at most 600.")
    return limits


def _example(cell: CellConfig, spec: Modality) -> dict[str, str]:
    """Code that makes an input of the right shape, and that shape in words."""
    if spec.kind == "text":
        if cell.model.text is None:
            tokens, whose = EXAMPLE_STEPS, "CLIP's own vocabulary, padded with the end-of-text token"
        else:
            tokens, whose = cell.model.text.tokens, "the vocabulary of the training texts, 0 = padding"
        return {
            "code": f"torch.ones({EXAMPLE_ROWS}, {tokens}, dtype=torch.int64)",
            "shape": f"(rows, {'pieces' if cell.model.text is None else tokens}) int64, word pieces of {whose}",
        }
    sizes = [size if size > 0 else EXAMPLE_STEPS for size in spec.shape]
    shape = ", ".join(map(str, sizes))
    free = ", ".join(str(size) if size > 0 else "steps" for size in spec.shape)
    if spec.kind == "image":
        return {
            "code": f"torch.zeros({EXAMPLE_ROWS}, {shape}, dtype=torch.uint8)",
            "shape": f"(rows, {free}) uint8, an image",
        }
    return {"code": f"torch.zeros({EXAMPLE_ROWS}, {shape})", "shape": f"(rows, {free}) float32, a {spec.kind}"}
