"""Every table and figure of the papers is a file, and its numbers are those of the source."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from mmcontrast.config import Grid, NotRun, Published, validate
from mmcontrast.errors import ConfigError
from tests.grids import grid_of

ROOT = Path(__file__).parents[2]
PAPERS = ["comm", "infmasking", "m3col", "mxm_clr", "tuple_infonce"]


@pytest.fixture(scope="module")
def grid() -> Grid:
    return grid_of()


def rows_of(grid: Grid, paper: str) -> list[Published]:
    spec = grid.papers[paper]
    return [row for table in (*spec.published.values(), *spec.not_run.values()) for row in table.rows]


def test_every_published_table_stands_beside_rows_of_ours(grid: Grid) -> None:
    assert list(grid.papers) == PAPERS
    shown = {(e.paper, e.published) for e in grid.experiments.values() if e.published}
    assert shown == {(name, table) for name, paper in grid.papers.items() for table in paper.published}


@pytest.mark.parametrize("paper", PAPERS)
def test_a_paper_says_where_numbers_were_read_and_why_something_is_not_run(grid: Grid, paper: str) -> None:
    spec = grid.papers[paper]
    for table in (*spec.published.values(), *spec.not_run.values()):
        assert all(row.source or table.source for row in table.rows)
    for part in spec.not_run.values():
        assert all(len(reason) > 10 for reason in part.why.values())
        assert {row.dataset for row in part.rows} <= set(part.why)
        assert {metric for row in part.rows for metric in row.values} <= set(part.titles)


@pytest.mark.parametrize("paper", PAPERS)
def test_every_paper_has_what_is_run_of_it(grid: Grid, paper: str) -> None:
    of_it = [e for e in grid.experiments.values() if e.paper == paper]
    assert any(e.cells for e in of_it)


@pytest.mark.parametrize(
    ("paper", "row", "column", "value", "spread"),
    [
        # two numbers of every printed table, typed from the source a second time
        ("m3col", "UniS-MMC, ViT and BERT", "n24news_headline/acc", 80.3, None),
        ("m3col", "M3CoL, ViT and RoBERTa", "n24news_abstract/acc", 84.7, 0.03),
        ("m3col", "CMA-CLIP", "food101/acc", 93.1, None),
        ("m3col", "M3CoL", "food101/acc", 94.3, 0.04),
        ("comm", "CoMM", "vision_touch_end_effector/mse", 4.55e-4, 3e-5),
        ("comm", "CoMM, fine-tuned with labels", "multibench_mosi/balanced_acc", 74.98, 0.43),
        ("comm", "FactorCL (dagger)", "mimic/balanced_acc", 67.3, 0.0),
        ("comm", "CMC, three", "vision_touch_contact_three/balanced_acc", 94.1, None),
        ("comm", "CoMM, two", "vision_touch_contact/balanced_acc", 88.1, None),
        ("comm", "CoMM on CLIP", "mmimdb/macro_f1", 54.63, 0.22),
        ("comm", "SLIP, trained", "mmimdb/weighted_f1", 56.54, 0.19),
        ("m3col", "MultiSClip alone", "tail", 83.66, None),
        ("m3col", "MOGONET", "auc", 87.4, None),
        ("m3col", "M3CoL", "macro_f1", 86.2, 0.54),
        ("tuple_infonce", "TupleInfoNCE", "miou", 48.1, None),
        ("mxm_clr", "SCA3D", "t2s_ndcg5", 28.17, None),
        ("infmasking", "InfMasking", "S", 77.0, 4.22),
        ("infmasking", "MAE", "U", 82.4, 3.09),
        ("infmasking", "InfMasking, two modalities", "mosi", 69.0, 1.2),
        ("infmasking", "InfMasking on CLIP", "macro", 55.93, 0.19),
        ("mxm_clr", "TriCoLo, pictures", "t2s_rr1", 11.67, None),
        ("mxm_clr", "CLIP ViT-B/32, not trained on it", "rsum", 504.36, None),
    ],
)
def test_printed_numbers(grid: Grid, paper: str, row: str, column: str, value: float, spread: float | None) -> None:
    *dataset, column = column.split("/")
    rows = [p for p in rows_of(grid, paper) if p.row == row and dataset in ([], [p.dataset])]
    found = [(p.values[column], p.spread.get(column)) for p in rows if column in p.values]
    assert set(found) == {(value, spread)}


def test_rsum_is_the_sum_of_its_recalls(grid: Grid) -> None:
    (clip,) = [p for p in grid.papers["mxm_clr"].not_run["flickr30k"].rows if p.values]
    assert clip.values["rsum"] == pytest.approx(sum(v for k, v in clip.values.items() if k != "rsum"), abs=0.05)


def test_what_could_not_be_found_is_left_out(grid: Grid) -> None:
    own = {"mxm_clr": "MXM-CLR", "tuple_infonce": "TupleInfoNCE"}
    printed = {paper: [p.values for p in rows_of(grid, paper) if p.row == row] for paper, row in own.items()}
    assert not any(printed["mxm_clr"])
    assert [v for v in printed["tuple_infonce"] if v] == [{"miou": 48.1}]


NOT_RUN: dict[str, Any] = {
    "title": "T",
    "caption": "C",
    "titles": {"x": "X (%)"},
    "source": "S",
    "rows": [{"row": "R", "dataset": "D", "values": {"x": 1.0}}],
    "why": {"D": "for a reason"},
}


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"why": {}}, "why: .*at least 1 item"),
        ({"source": None}, "source: say where the published numbers were read"),
        ({"rows": [{"row": "R", "dataset": "E", "values": {}}]}, r"rows \(R\): dataset: 'E' is not in `why`; known: D"),
        ({"rows": [{"row": "R", "dataset": "D", "values": {"y": 1}}]}, r"values: 'y' is not in `titles`; known: x"),
        ({"rows": [{"row": "R", "dataset": "D", "values": {}, "spread": {"x": 1}}]}, "a spread stands beside a"),
        ({"rows": [{"row": "R", "dataset": "D", "values": {}, "verified": "guessed"}]}, "'second_hand'"),
    ],
)
def test_what_is_not_run_is_checked(change: dict[str, Any], told: str) -> None:
    validate(NotRun, NOT_RUN, "here")
    with pytest.raises(ConfigError, match=told):
        validate(NotRun, NOT_RUN | change, "here")


ROW = r"params/papers/m3col.yaml: published.omics.rows\[0\] \(GRidge\): "


@pytest.mark.parametrize(
    ("file", "change", "told"),
    [
        (
            "papers/m3col",
            lambda p: omics(p).update(dataset="rosmop"),
            ROW + "dataset: no dataset 'rosmop'; did you mean",
        ),
        ("papers/m3col", lambda p: omics(p).update(values={"y": 1.0}), ROW + "values: no metric 'y'; known: acc"),
        (
            "papers/m3col",
            lambda p: omics(p).update(method="m3co"),
            ROW + "method: no method 'm3co'; did you mean 'm3col'",
        ),
        ("papers/m3col", lambda p: omics(p).update(method="m3col", variant="no"), ROW + "variant: no variant 'no'"),
        ("experiments/m3col/m3col_omics", lambda e: e.update(paper="m3cool"), "paper: no paper 'm3cool'; did you mean"),
        (
            "experiments/m3col/m3col_omics",
            lambda e: e.update(published="omic"),
            "published: no table 'omic'; did you mean",
        ),
        ("experiments/m3col/m3col_omics", lambda e: e.pop("paper"), "published: a table of the paper, and no `paper`"),
        ("experiments/m3col/m3col_omics", lambda e: e.pop("cells"), "cells: at least one, or a `sweep`"),
    ],
)
def test_what_it_names_exists(tmp_path: Path, file: str, change: Callable[[dict[str, Any]], Any], told: str) -> None:
    shutil.copytree(ROOT / "params", tmp_path / "params")
    path = tmp_path / f"params/{file}.yaml"
    content = yaml.safe_load(path.read_text())
    change(content)
    path.write_text(yaml.safe_dump(content))
    with pytest.raises(ConfigError, match=told):
        Grid(tmp_path)


def omics(paper: dict[str, Any]) -> dict[str, Any]:
    row: dict[str, Any] = paper["published"]["omics"]["rows"][0]
    return row
