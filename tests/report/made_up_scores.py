"""Scores of every cell of a grid without data, training or probes: for what only reads the results table."""

from __future__ import annotations

import json

import numpy as np
import polars as pl

from mmcontrast.evaluation.columns import CURVES_SCHEMA, INTERVALS_SCHEMA, METRICS_SCHEMA
from mmcontrast.report.results import write_results
from mmcontrast.report.text.wording import reported_metrics
from tests.report.made_up_study import Made, seeded

COST = {
    "seconds": 31.25,
    "training_seconds": 28.5,
    "seeds": 5,
    "peak_memory_bytes": 700 * 2**20,
    "parameters": 123456,
    "ranks": 1,
    "device": "cpu",
}


def write_scores(made: Made) -> None:
    """metrics, curves, intervals and cost records of every cell, and the results table."""
    for name, cell in made.grid.cells.items():
        data = made.grid.datasets[cell.dataset]
        metrics, intervals = [], []
        probed = cell.scored_by == "probe"
        names = reported_metrics(data, ("own", "encoders") if probed else ("own",))
        names += [f"{cell.metrics[0]}{of}:{k}" for k in cell.label_counts for of in ("", "@encoders")]
        for metric in names:
            scale = 6 if metric == "rsum" else 1
            level = 0.6 + 0.05 * seeded(name, metric).normal() - 0.2 * (":" in metric)
            for protocol, gain in (("selected", 0.0), ("optimistic", 0.01)):
                if protocol == "optimistic" and probed:
                    continue
                of_seeds = [scale * (level + gain + 0.02 * seeded(name, metric, s).normal()) for s in cell.seeds]
                for s, value in zip(cell.seeds, of_seeds, strict=True):
                    metrics.append((s, protocol, "test", metric, value, 300, 0))
                    metrics.append((s, protocol, "val", metric, value + 0.02 * seeded(name, s).normal(), 80, 0))
                if ":" in metric:
                    continue
                mean = float(np.mean(of_seeds))
                influence = (0.002 * seeded(name, metric, "cases").normal(size=(len(cell.seeds), 60))).tolist()
                kept = influence if protocol == "selected" else []
                intervals.append((protocol, "test", metric, mean, mean - 0.05, mean + 0.05, len(cell.seeds), 300, kept))
        curve = [(s, 0, "val", cell.metrics[0], 0.5) for s in cell.seeds]
        for path, rows, schema in (
            (made.layout.metrics(name), metrics, METRICS_SCHEMA),
            (made.layout.intervals(name), intervals, INTERVALS_SCHEMA),
            (made.layout.curves(name), curve, CURVES_SCHEMA),
        ):
            made.path(path).parent.mkdir(parents=True, exist_ok=True)
            pl.DataFrame(rows, schema=schema, orient="row").write_parquet(made.path(path))
        for stage in cell.stages:
            file = made.path(made.layout.stage(name, stage, "cost.json"))
            file.parent.mkdir(parents=True, exist_ok=True)
            dear = 1 + len(cell.method) / 4
            changed = {"training_seconds": 28.5 * dear, "peak_memory_bytes": int(500 * dear * 2**20)}
            file.write_text(json.dumps(COST | changed | {"seeds": len(cell.seeds)}))
    write_results(made.grid, made.layout)
