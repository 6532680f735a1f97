"""A finished grid without training: params/ of this checkout, and run folders whose predictions are made up."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import yaml

from mmcontrast import paths
from mmcontrast.config import CellConfig, Grid
from mmcontrast.data.instances import Written
from mmcontrast.data.prepare import datasheet
from mmcontrast.data.table import weight_column
from mmcontrast.evaluation import statistics
from mmcontrast.evaluation.evaluate import evaluate_cell
from mmcontrast.paths import Layout
from mmcontrast.report.evidence import Evidence

REPO = Path(__file__).parents[2]
TWO_DATASETS = """
description: Made-up predictions of two datasets.
datasets: [tcga_brca, rosmap]
experiments: [m3col_omics, m3col_parts, m3col_released_protocol]
seeds: [0, 1, 2, 3, 4]
"""
PROBED = """
description: Made-up embeddings, scored by a probe.
datasets: [weak_modality]
experiments: [tuple_handwritten]
seeds: [0, 1, 2]
"""
# enough cells for every kind of row and figure, and few enough to be drawn in seconds
FEW_CELLS = {("unimodal", "mrna"), ("concat", "base"), ("m3col", "base"), ("m3col", "released")}
ONE_DATASET = """
description: Made-up predictions & <no> training.
datasets: [rosmap]
experiments: [m3col_omics, m3col_parts]
seeds: [0, 1, 2, 3, 4]
"""
QUALITY = {"unimodal": 0.8, "concat": 1.6, "mixup": 1.4, "m3col": 1.7}


@dataclass(frozen=True)
class Made:
    """A grid whose cells are evaluated, and where its files are."""

    grid: Grid
    layout: Layout

    @property
    def evidence(self) -> Evidence:
        """With the results table as it is now."""
        return Evidence.read(self.grid, self.layout)

    def path(self, relative: str) -> Path:
        """An artifact's path."""
        return self.grid.root / relative


def seeded(*key: object) -> np.random.Generator:
    """A generator of its own for every thing that is made up."""
    return np.random.default_rng([b for part in key for b in str(part).encode()])


def softmax(logits: np.ndarray) -> np.ndarray:
    e = np.exp(logits - logits.max(-1, keepdims=True))
    return (e / e.sum(-1, keepdims=True)).astype(np.float32)


def make_up(cell: CellConfig, cases: dict[str, int]) -> dict[str, pl.DataFrame]:
    """history, embeddings and, where it has a classifier, predictions of a cell, as its training would write them."""
    last, c = getattr(cell, cell.last_stage).epochs - 1, len(cell.classes)
    evaluated = sorted({int(e) for e in np.linspace(last / 12, last, 12)})
    labels = {s: made_up_labels(cell.dataset, s, n, c) for s, n in cases.items()}
    if cell.finetune is None:
        labels["train"] = made_up_labels(cell.dataset, "train", 40, c)
    if cell.selection.holdout == 0 and cell.dataset == "rosmap":
        del labels["val"]
    quality = QUALITY.get(cell.method, 1.5) + 0.2 * seeded(cell.name).normal()
    predictions, history, embeddings = [], [], []
    for seed in cell.seeds:
        rng = seeded(cell.name, seed)
        skill = quality + 0.1 * rng.normal()
        for epoch in range(last + 1):
            loss = 0.4 + 1.2 * np.exp(-4 * epoch / max(last, 1)) + 0.02 * rng.normal()
            history.append((seed, epoch, "train/loss", loss))
            if cell.implementation == "tuple_infonce":
                history.append((seed, epoch, "train/positive_similarity", 1 - loss / 2))
                history += [(seed, epoch, f"train/own_similarity_{m}", 0.9 - loss / 2) for m in cell.modalities]
        for at in range(7) if cell.objective.get("search") else ():
            history += [(seed, at, f"search/alpha_{m}", 1 + 0.1 * rng.normal()) for m in cell.modalities]
            ends = ("", 0.5), ("_low", 0.4), ("_high", 0.6)
            history += [(seed, at, f"search/reward{end}", value) for end, value in ends if at < 6]
        for split, y in labels.items():
            noise, n = seeded(cell.dataset, split).normal(size=(len(y), c)), len(y)
            for epoch in evaluated if cell.finetune else ():
                gain = skill * (1 - np.exp(-5 * (epoch + 1) / last))
                logits = gain * np.eye(c)[y] + noise + 0.4 * rng.normal(size=(n, c))
                predictions.append(_rows(seed, split, y, "probs", softmax(2 * logits), epoch))
            centres = seeded(cell.name, "centres").normal(size=(c, 8))
            tasks = {f"label_{t}": made_up_labels(t, split, n, len(of)) for t, of in cell.tasks.items()}
            weighted = ("", *cell.tasks) if cell.case_weights else ()
            tasks |= {weight_column(t): np.ones(n) for t in weighted}
            rows = _rows(seed, split, y, "embedding", centres[y] + rng.normal(size=(n, 8)))
            embeddings.append(rows.with_columns(pl.Series(t, values) for t, values in tasks.items()))
    schema = {"seed": pl.Int64, "epoch": pl.Int64, "name": pl.String, "value": pl.Float64}
    out = {
        "history": pl.DataFrame(history, schema=schema, orient="row"),
        "embeddings": pl.concat(embeddings),
    }
    return out | ({"predictions": pl.concat(predictions)} if predictions else {})


def made_up_labels(dataset: str, split: str, n: int, classes: int) -> np.ndarray:
    """Every class in turn, in an order of their own for each split."""
    return seeded(dataset, split).permutation(np.arange(n) % classes)


def _rows(
    seed: int, split: str, labels: np.ndarray, name: str, matrix: np.ndarray, epoch: int | None = None
) -> pl.DataFrame:
    n = len(labels)
    columns = {"seed": np.full(n, seed)} | ({} if epoch is None else {"epoch": np.full(n, epoch)})
    columns |= {"split": [split] * n, "id": [f"{split}-{i}" for i in range(n)], "label": labels}
    columns[name] = pl.Series(matrix.astype(np.float32), dtype=pl.Array(pl.Float32, matrix.shape[1]))
    return pl.DataFrame(columns)


def keep_cells(root: Path, experiment: str, kept: set[tuple[str, str]]) -> None:
    """Take all other cells out of an experiment's file, in which its sweeps are written out first."""
    grid = Grid(root)
    spec = dict(grid.written_out[experiment])
    spec.pop("contrasts", None)  # of cells that are not kept
    spec["cells"] = [c for c in spec["cells"] if (c["method"], c.get("variant", "base")) in kept]
    if "sweep" in spec:
        series = spec["sweep"]["series"]
        there = {k: {c: x for c, x in line.items() if tuple(c.split("/")) in kept} for k, line in series.items()}
        spec["sweep"] = spec["sweep"] | {"series": {k: line for k, line in there.items() if line}}
    (root / grid.files.where("experiments", experiment)).write_text(yaml.safe_dump(spec, sort_keys=False))
    for method in {m for m, _ in kept}:
        variants = {v: o.model_dump(mode="json", exclude_unset=True) for v, o in grid.methods[method].variants.items()}
        declared = grid.files.raw("methods", method) | {"variants": variants}
        (root / grid.files.where("methods", method)).write_text(yaml.safe_dump(declared, sort_keys=False))


def make_study(
    root: Path,
    cases: dict[str, int],
    replicates: int,
    suite: str = TWO_DATASETS,
    kept: set[tuple[str, str]] | None = None,
) -> Made:
    """Made-up runs and datasheets of a suite under `root`, evaluated; of the experiments' cells only `kept`."""
    shutil.copytree(REPO / "params", root / "params")
    (root / "params/suites/made_up.yaml").write_text(suite)
    for experiment in yaml.safe_load(suite)["experiments"] if kept else ():
        keep_cells(root, experiment, kept or set())
    grid, layout = Grid(root, "made_up"), Layout("made_up")
    for name, cell in grid.cells.items():
        for stage in cell.stages:
            (root / layout.stage(name, stage)).mkdir(parents=True)
            cost = {
                "seconds": 31.25,
                "training_seconds": 28.5,
                "seeds": len(cell.seeds),
                "peak_memory_bytes": 700 * 2**20,
                "parameters": 123456,
                "ranks": 1,
                "device": "cpu",
            }
            (root / layout.stage(name, stage, "cost.json")).write_text(json.dumps(cost))
        for file, frame in make_up(cell, cases).items():
            frame.write_parquet(root / layout.stage(name, cell.last_stage, f"{file}.parquet"))
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(statistics, "REPLICATES", replicates)
            evaluate_cell(
                cell,
                root / layout.scored(name, cell.last_stage, cell.scored_by),
                root / layout.metrics(name),
                root / layout.curves(name),
                root / layout.intervals(name),
            )
    for name in grid.dataset_names:
        data = grid.datasets[name]
        path = root / paths.datasheet(name)
        path.parent.mkdir(parents=True)
        sizes = cases | {"train": 100}
        counts = {name: len(data.classes)} | {task: len(of) for task, of in data.tasks.items()}
        made = {t: {s: made_up_labels(t, s, n, of) for s, n in sizes.items()} for t, of in counts.items()}
        labels = {"": made.pop(name), **made}
        manifest = {
            "files": {"1_tr.csv": "ab" * 32, "1_te.csv": "cd" * 32},
            "sources": [{"source": "1_tr.csv", "pinned": True}, {"source": "1_te.csv", "pinned": False}],
        }
        constant = {next(iter(data.modalities)): ["g1", "g2"]}
        path.write_text(
            json.dumps(
                datasheet(name, data, manifest, Written(labels, {}, {}, {}, constant, {}), {"train and test": 2})
            )
        )
        for split in paths.SPLITS:
            (root / paths.prepared(name, split)).write_bytes(f"{name} {split}".encode())
    return Made(grid, layout)
