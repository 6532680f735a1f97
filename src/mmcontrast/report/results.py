"""The one results table that every table and figure is a view of, its extracts for DVC, and each experiment's evidence:
its part of the table and the checksums of what else it shows, so that it is drawn again only when something of its own
has changed. Scores stay as they are stored here; shares become percent where they are shown.
"""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from mmcontrast.config import Grid
from mmcontrast.config.metrics import SHARE, Measure, measure
from mmcontrast.data.files import sha256_of, write_json, write_text
from mmcontrast.errors import DataError
from mmcontrast.evaluation.columns import CURVES_SCHEMA, INTERVALS_SCHEMA, METRICS_SCHEMA
from mmcontrast.evaluation.evaluate import write_frame
from mmcontrast.evaluation.statistics import Interval, over_seeds
from mmcontrast.evaluation.stored import read_frame
from mmcontrast.paths import Layout
from mmcontrast.report.outputs import PAGE, covered, results_outputs

CELL = ("dataset", "method", "variant")
SUMMARY_SCHEMA = (
    dict.fromkeys(("experiment", *CELL, "protocol", "metric"), pl.String)
    | dict.fromkeys(("mean", "low", "high"), pl.Float64)
    | dict.fromkeys(("n_seeds", "n_instances"), pl.Int64)
)
RESULTS_COLUMNS = ("experiment", "dataset", "method", "variant", "seed", "protocol", "split", "metric", "value", "n")
# parts of an evidence file, told apart by its column `part`
SCORES, INTERVALS, FILES = "scores", "intervals", "files"
Scores = dict[int, float]  # seed -> score


def summarise(results: pl.DataFrame) -> pl.DataFrame:
    """Mean test score of every cell, protocol and metric with its interval over seeds (SUMMARY_SCHEMA)."""
    keys = ["experiment", *CELL, "protocol", "metric"]
    rows = []
    for key, part in results.filter(split="test").group_by(keys, maintain_order=True):
        values, share = part["value"].to_numpy(), measure(str(key[-1])).share
        rows.append((*key, *over_seeds(values, share), len(part), part["n"][0]))
    return pl.DataFrame(rows, schema=SUMMARY_SCHEMA, orient="row")


def shown(estimate: Iterable[float], of: Measure = SHARE) -> Interval:
    """Mean, low and high as shown; what comes after is dropped. Where nothing varied that could be seen, there are no
    ends: that says nothing of how far other runs may lie.
    """
    mean, low, high, *_ = estimate
    if high - low < 1e-9:
        low = high = float("nan")
    return Interval(of.factor * mean, of.factor * low, of.factor * high)


def shared_seeds(scores: list[Scores]) -> list[int]:
    """The seeds that every one of these has."""
    return sorted(set(scores[0]).intersection(*scores)) if scores else []


def by_shared_seed(scores: list[Scores]) -> np.ndarray:
    """(seeds that all have, scores)."""
    return np.array([[of[seed] for of in scores] for seed in shared_seeds(scores)])


def write_results(grid: Grid, layout: Layout) -> None:
    """As `write_covered`, of all cells of a grid."""
    write_covered(covered(grid, layout), layout, grid.root)


def write_covered(content: dict[str, Any], layout: Layout, root: Path) -> None:
    """Write what `results_outputs` names, and all evidence. `content`: see `covered`. Raises DataError: a cell has not
    been evaluated, or with other seeds than the suite's.
    """
    out = {key: root / path for key, path in results_outputs(layout).items()}
    results = pl.concat(_scores(content, layout, root)).select(RESULTS_COLUMNS)
    intervals = pl.concat(_intervals(content, layout, root))
    write_frame(results, out["results"])
    write_frame(intervals, out["intervals"])
    summary = headlines(results)
    write_json(out["metrics"], headline_metrics(summary))
    write_text(out["scores"], plotted_scores(content, summary).write_csv())
    write_text(out["curves"], pl.concat(_curves(content, layout, root)).write_csv())
    for part, files in content["files"].items():
        checksums = [checksum(root / file) for file in files]
        shown = pl.DataFrame({"file": files, "sha256": checksums}, schema={"file": pl.String, "sha256": pl.String})
        of_part = [shown.with_columns(part=pl.lit(FILES))]
        if part != PAGE:
            cells = pl.DataFrame([name.split("/") for name in content["experiments"][part]], schema=CELL, orient="row")
            of_part.append(results.filter(experiment=part).with_columns(part=pl.lit(SCORES)))
            own = intervals.join(cells, on=CELL, how="semi", maintain_order="left")
            of_part.append(own.with_columns(part=pl.lit(INTERVALS)))
        write_frame(pl.concat(of_part, how="diagonal"), root / layout.evidence(part))


def checksum(path: Path) -> str | None:
    """None where there is no such file; what needs it says so."""
    return sha256_of(path) if path.is_file() else None


def _scores(content: dict[str, Any], layout: Layout, root: Path) -> Iterator[pl.DataFrame]:
    for experiment, cells in content["experiments"].items():
        for name in cells:
            part = read_table(root / layout.metrics(name), METRICS_SCHEMA, f"mmcontrast evaluate {name}{layout.select}")
            seeds, planned = sorted(part["seed"].unique().to_list()), sorted(content["cells"][name]["seeds"])
            if seeds != planned:
                raise DataError(
                    f"{layout.metrics(name)}: seeds {seeds}, and the suite has {planned}; train and evaluate {name} "
                    "again"
                )
            yield _labelled(part, name, experiment=experiment)


def _intervals(content: dict[str, Any], layout: Layout, root: Path) -> Iterator[pl.DataFrame]:
    for name in content["cells"]:
        part = read_table(root / layout.intervals(name), INTERVALS_SCHEMA, f"mmcontrast evaluate {name}{layout.select}")
        yield _labelled(part, name)


def read_table(path: Path, schema: dict[str, Any], command: str) -> pl.DataFrame:
    """A Parquet file of known columns. Raises DataError: missing, damaged, other columns; with the `command` to run."""
    try:
        return read_frame(path, schema, f"run `{command}` again")
    except FileNotFoundError:
        raise DataError(f"{path}: no such file; run `{command}` first") from None


def _labelled(frame: pl.DataFrame, cell: str, **constants: str) -> pl.DataFrame:
    constants |= dict(zip(CELL, cell.split("/"), strict=True))
    return frame.select(*(pl.lit(value).alias(key) for key, value in constants.items()), pl.all())


def headlines(results: pl.DataFrame) -> pl.DataFrame:
    """The summary of the selected epoch, each cell and metric once."""
    selected = summarise(results).filter(protocol="selected")
    return selected.unique([*CELL, "metric"], keep="first", maintain_order=True)


def headline_metrics(summary: pl.DataFrame) -> dict[str, Any]:
    """dataset -> method -> variant -> metric -> mean, low, high of the selected epoch's test score, as shown."""
    out: dict[str, Any] = {}
    for row in summary.iter_rows(named=True):
        cell = out.setdefault(row["dataset"], {}).setdefault(row["method"], {}).setdefault(row["variant"], {})
        cell[row["metric"]] = {k: v for k, v in _rounded(row).items() if v == v}
    return out


def plotted_scores(content: dict[str, Any], summary: pl.DataFrame) -> pl.DataFrame:
    """The selecting metric of every cell, as shown."""
    rows = []
    for row in summary.iter_rows(named=True):
        name = "/".join(row[c] for c in CELL)
        if row["metric"] == content["cells"][name]["metric"]:
            rows.append((name, row["metric"], *_rounded(row).values()))
    return pl.DataFrame(rows, schema=["cell", "metric", "value", "low", "high"], orient="row")


def _rounded(row: dict[str, Any]) -> dict[str, float]:
    """mean, low and high: percentages with two decimals, other units with six significant digits."""
    of = measure(row["metric"])
    return {k: round(100 * row[k], 2) if of.percent else float(f"{row[k]:.6g}") for k in ("mean", "low", "high")}


def _curves(content: dict[str, Any], layout: Layout, root: Path) -> Iterator[pl.DataFrame]:
    """Mean over seeds of the selecting metric on validation, by epoch, as shown."""
    for name, cell in content["cells"].items():
        of = measure(cell["metric"])
        frame = read_table(root / layout.curves(name), CURVES_SCHEMA, f"mmcontrast evaluate {name}{layout.select}")
        yield (
            frame.filter(split="val", metric=cell["metric"])
            .group_by("epoch")
            .agg((pl.col("value").mean() * 100).round(2) if of.percent else pl.col("value").mean().round_sig_figs(6))
            .sort("epoch")
            .select(pl.lit(name).alias("cell"), pl.lit(cell["metric"]).alias("metric"), "epoch", "value")
        )
