"""Every table and figure of the papers is a file, held against the schema, the methods and the datasets."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from mmcontrast.config import Experiment, Grid, validate
from mmcontrast.errors import ConfigError

ROOT = Path(__file__).parents[2]
FILES = sorted((ROOT / "params/experiments").glob("*.yaml"))


@pytest.fixture(scope="module")
def grid() -> Grid:
    return Grid(ROOT)


@pytest.mark.parametrize("file", FILES, ids=lambda f: f.stem)
def test_a_file_says_what_it_shows_where_it_was_read_and_why_it_is_not_run(grid: Grid, file: Path) -> None:
    spec = grid.experiments[file.stem]
    for printed in spec.published:
        assert printed.source or spec.source
        assert printed.dataset in spec.not_run or printed.dataset in grid.datasets
        unknown = set(printed.values) - set(spec.titles) - {"R", "U", "S"}
        if printed.dataset in grid.datasets:
            unknown -= {*grid.datasets[printed.dataset].metrics}
        assert not unknown
    assert all(len(reason) > 10 for reason in spec.not_run.values())
    for ref in spec.cells:
        assert ref.method in grid.methods
        assert ref.variant == "base" or ref.variant in grid.methods[ref.method].variants


@pytest.mark.parametrize("paper", ["m3col", "tuple_infonce", "mxm_clr", "comm"])
def test_every_paper_has_what_is_run_of_it(grid: Grid, paper: str) -> None:
    of_it = [e for e in grid.experiments.values() if e.paper == paper]
    assert any(e.cells for e in of_it)


@pytest.mark.parametrize(
    ("paper", "row", "column", "value", "spread"),
    [
        # two numbers of every printed table, typed from the source a second time
        ("m3col", "UniS-MMC, ViT and BERT", "headline", 80.3, None),
        ("m3col", "M3CoL, ViT and RoBERTa", "abstract", 84.7, 0.03),
        ("m3col", "CMA-CLIP", "accuracy", 93.1, None),
        ("m3col", "M3CoL", "accuracy", 94.3, 0.04),
        ("m3col", "MultiSClip alone", "tail", 83.66, None),
        ("m3col", "MOGONET", "auc", 87.4, None),
        ("m3col", "M3CoL", "macro_f1", 86.2, 0.54),
        ("tuple_infonce", "TupleInfoNCE", "miou", 48.1, None),
        ("mxm_clr", "SCA3D", "t2s_ndcg5", 28.17, None),
        ("mxm_clr", "TriCoLo, pictures", "t2s_rr1", 11.67, None),
        ("mxm_clr", "CLIP ViT-B/32, not trained on it", "rsum", 504.36, None),
    ],
)
def test_printed_numbers(grid: Grid, paper: str, row: str, column: str, value: float, spread: float | None) -> None:
    found = [
        (p.values[column], p.spread.get(column))
        for e in grid.experiments.values()
        if e.paper == paper
        for p in e.published
        if p.row == row and column in p.values
    ]
    assert set(found) == {(value, spread)}


def test_rsum_is_the_sum_of_its_recalls(grid: Grid) -> None:
    (clip,) = [p for p in grid.experiments["mxm_flickr30k"].published if p.values]
    assert clip.values["rsum"] == pytest.approx(sum(v for k, v in clip.values.items() if k != "rsum"), abs=0.05)


def test_what_could_not_be_found_is_left_out(grid: Grid) -> None:
    own = {"mxm_clr": "MXM-CLR", "tuple_infonce": "TupleInfoNCE"}
    printed = {
        paper: [p.values for e in grid.experiments.values() if e.paper == paper for p in e.published if p.row == row]
        for paper, row in own.items()
    }
    assert not any(printed["mxm_clr"])
    assert [v for v in printed["tuple_infonce"] if v] == [{"miou": 48.1}]


LISTING: dict[str, Any] = {
    "title": "T",
    "paper": "m3col",
    "caption": "C",
    "kind": "listing",
    "titles": {"x": "X (%)"},
    "source": "S",
    "published": [{"row": "R", "dataset": "D", "values": {"x": 1.0}}],
    "not_run": {"D": "for a reason"},
}


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"not_run": {}}, "in `not_run` why nothing of it is run"),
        ({"paper": None}, "a listing names its `paper`"),
        ({"datasets": ["rosmap"]}, "a listing runs nothing, and datasets is given"),
        ({"kind": "table"}, "datasets and cells: at least one of each; kind: listing has neither"),
        ({"source": None}, "source: say where the published numbers were read"),
        ({"published": [{"row": "R", "dataset": "D", "values": {}, "spread": {"x": 1}}]}, "a spread stands beside a"),
        ({"published": [{"row": "R", "dataset": "D", "values": {}, "verified": "guessed"}]}, "'second_hand'"),
    ],
)
def test_a_listing_is_checked(change: dict[str, Any], told: str) -> None:
    validate(Experiment, LISTING, "here")
    with pytest.raises(ConfigError, match=told):
        validate(Experiment, LISTING | change, "here")


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (
            lambda e: e["published"][0].update(dataset="E"),
            r"published\[0\] \(R\): dataset: 'E' is neither in params/datasets/ nor in",
        ),
        (
            lambda e: e["published"][0].update(values={"y": 1.0}),
            r"published\[0\] \(R\): values: no metric or title 'y'; known: x",
        ),
        (lambda e: e["published"][0].update(method="m3co"), r"method: no method 'm3co'; did you mean 'm3col'"),
        (lambda e: e["published"][0].update(method="m3col", variant="no"), r"variant: no variant 'no'"),
        (lambda e: e.update(paper="m3cool"), r"paper: no paper 'm3cool'; did you mean 'm3col'"),
    ],
)
def test_what_it_names_exists(tmp_path: Path, change: Callable[[dict[str, Any]], None], told: str) -> None:
    for source in (ROOT / "params").rglob("*.yaml"):
        target = tmp_path / source.relative_to(ROOT)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(source.read_bytes())
    listing = yaml.safe_load(yaml.safe_dump(LISTING))
    change(listing)
    (tmp_path / "params/experiments/a_listing.yaml").write_text(yaml.safe_dump(listing))
    with pytest.raises(ConfigError, match=f"params/experiments/a_listing.yaml: .*{told}"):
        Grid(tmp_path)
