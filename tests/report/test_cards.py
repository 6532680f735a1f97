"""A model card says what the results table says, and its code runs."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import yaml

from mmcontrast import load, paths
from mmcontrast.config import CellConfig, Grid
from mmcontrast.config.metrics import MEASURES
from mmcontrast.data.scaling import write_fitted
from mmcontrast.data.tokens import learn
from mmcontrast.exported import SeedExport, write_models
from mmcontrast.methods.base import build_method
from mmcontrast.report.page import write_page
from mmcontrast.report.provenance import TRAINING, _example, digest_of_code, digest_of_params, raw_checksum
from mmcontrast.report.text.wording import MINUS, PROTOCOL_SHORT
from tests.report.made_up_study import REPO, Made
from tests.scalers import fit

NUMBER = rf"{MINUS}?\d+\.\d"


def card_of(made: Made, name: str) -> str:
    return made.path(made.layout.card(name)).read_text(encoding="utf-8")


def part(card: str, heading: str) -> str:
    """The text below a heading."""
    return card.split(f"\n## {heading}\n", 1)[1].split("\n## ", 1)[0]


def rows(text: str) -> list[list[str]]:
    """A Markdown table's rows, without its head."""
    lines = [line for line in text.splitlines() if line.startswith("|")]
    return [[c.strip() for c in line.strip("|").split("|")] for line in lines[2:]]


def code_of(card: str) -> str:
    found = re.search(r"```python\n(.*?)```", card, re.DOTALL)
    assert found is not None
    return found[1]


@pytest.fixture(scope="module", params=["reported", "probed"])
def made(request: pytest.FixtureRequest) -> Made:
    made: Made = request.getfixturevalue(request.param)
    return made


def one_experiment(frame: pl.DataFrame, cell: CellConfig) -> pl.DataFrame:
    own = frame.filter(dataset=cell.dataset, method=cell.method, variant=cell.variant)
    return own.unique(["seed", "protocol", "split", "metric"]) if "seed" in own.columns else own


def test_every_score_is_that_of_the_results_table(made: Made) -> None:
    """Means by plain numpy, the wide intervals from their own table; narrow ones hold their mean."""
    results = pl.read_parquet(made.path(made.layout.report("results.parquet")))
    intervals = pl.read_parquet(made.path(made.layout.report("intervals.parquet")))
    titles = {of.title: metric for metric, of in MEASURES.items()}
    protocols = {short: protocol for protocol, short in PROTOCOL_SHORT.items()} | {"linear probe": "selected"}
    for name, cell in made.grid.cells.items():
        own = one_experiment(results, cell).filter(split="test")
        wide = one_experiment(intervals, cell)
        listed = rows(part(card_of(made, name), "Scores on the test split, in percent"))
        seen = set()
        for title, short, seeds, cases in listed:
            first, _, rest = title.partition(", task ")
            metric = (f"{rest}/" if rest else "") + titles[re.sub(" of class .*", "", first.partition(", ")[0])]
            protocol = protocols[short]
            seen.add((metric, protocol))
            values = own.filter(metric=metric, protocol=protocol)["value"].to_numpy()
            assert len(values) == len(cell.seeds)
            numbers = re.findall(NUMBER, seeds)
            assert numbers[0] == f"{100 * np.mean(values):.1f}"
            assert len(numbers) == (1 if len(set(values)) == 1 else 3)
            low, high = numbers[1:] or [numbers[0]] * 2
            assert float(low) <= float(numbers[0]) <= float(high)
            row = wide.filter(metric=metric, protocol=protocol).row(0, named=True)
            ends = ["mean"] if row["low"] == row["high"] else ["mean", "low", "high"]
            assert re.findall(NUMBER, cases) == [f"{100 * row[k]:.1f}" for k in ends]
        assert seen == {(m, p) for m, p in own.select("metric", "protocol").unique().rows() if "@" not in m}


def test_the_front_matter_is_a_hubs(made: Made) -> None:
    from huggingface_hub import ModelCard

    results = pl.read_parquet(made.path(made.layout.report("results.parquet"))).filter(split="test")
    for name, cell in made.grid.cells.items():
        data = ModelCard(card_of(made, name)).data
        assert (data.library_name, data.license, data.license_name) == ("mmcontrast", "other", "see-data")
        assert cell.method in data.tags
        assert data.model_name == name
        assert data.eval_results
        for found in data.eval_results:
            own = one_experiment(results, cell).filter(metric=found.metric_type)
            protocol = "selected" if "selected" in set(own["protocol"]) else "last"
            assert found.dataset_type == cell.dataset
            assert found.metric_value == pytest.approx(own.filter(protocol=protocol)["value"].mean())


def test_every_file_has_its_seeds_score(made: Made) -> None:
    results = pl.read_parquet(made.path(made.layout.report("results.parquet")))
    for name, cell in made.grid.cells.items():
        own = one_experiment(results, cell).filter(split="test", metric=cell.metrics[0])
        protocol = "selected" if "selected" in set(own["protocol"]) else "last"
        scores = dict(own.filter(protocol=protocol).select("seed", "value").rows())
        listed = rows(card_of(made, name).split("\n## ", 1)[0])
        assert [(int(seed), score) for seed, _, score in listed] == [
            (seed, f"{100 * scores[seed]:.1f}") for seed in cell.seeds
        ]
        folder = made.layout.stage(name, cell.last_stage, "models")
        assert [file for _, file, _ in listed] == [f"`{folder}/seed{seed}.safetensors`" for seed in cell.seeds]


def test_method_data_training_and_versions_are_the_cells_own(made: Made) -> None:
    for name, cell in made.grid.cells.items():
        card = card_of(made, name)
        method, sheet = (
            made.grid.methods[cell.method],
            json.loads(made.path(paths.datasheet(cell.dataset)).read_text()),
        )
        assert method.title in part(card, "Method")
        if method.paper is not None:
            assert made.grid.papers[method.paper].url in part(card, "Method")
        for text in (sheet["licence"], sheet["citation"], raw_checksum(sheet)):
            assert text in part(card, "Data")
        for note in [*sheet["notes"], *sheet["warnings"]]:
            assert f"- {note}\n" in part(card, "Known limits")
        found = re.search(r"```yaml\n(.*?)```", card, re.DOTALL)
        assert found is not None
        assert yaml.safe_load(found[1]) == cell.model_dump(mode="json", include=set(TRAINING))
        assert f"Seeds {', '.join(map(str, cell.seeds))};" in card
        assert digest_of_params(cell) in part(card, "Versions")
        assert digest_of_code(cell) in part(card, "Versions")


def test_a_cell_that_is_gone_leaves_no_card(reported: Made) -> None:
    old = reported.path(reported.layout.card("rosmap/gone/base"))
    old.parent.mkdir(parents=True, exist_ok=True)
    old.write_text("of an older run")
    index = reported.path(reported.layout.report("index.html"))
    kept = index.read_bytes()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("mmcontrast.report.page.FIGURE_FORMATS", ("svg",))
        write_page(reported.grid, reported.layout)
    index.write_bytes(kept)
    assert not old.exists()
    assert all(reported.path(reported.layout.card(name)).is_file() for name in reported.grid.cells)


def export(cell: CellConfig, folder: Path) -> None:
    """Weights as they are initialised, as a training would leave them."""
    draws = np.random.default_rng(0)
    scaled = {m: spec.shape[-1] for m, spec in cell.modalities.items() if spec.kind in ("vector", "sequence")}
    folder.mkdir(parents=True)
    write_fitted(folder, {m: fit(draws.normal(size=(5, width)), "standard") for m, width in scaled.items()}, {})
    words = {m: learn(["a text of words"], 40) for m, spec in cell.modalities.items() if spec.kind == "text"}
    exported = SeedExport(build_method(cell).state_dict(), 0, words)
    write_models(folder / "models", cell, {cell.seeds[0]: exported}, folder / "fitted.json")


def test_the_code_of_a_card_runs(made: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name, cell in made.grid.cells.items():
        export(cell, tmp_path / made.layout.stage(name, cell.last_stage))
        found: dict[str, Any] = {}
        exec(code_of(card_of(made, name)), found)
        assert len(found["embeddings"]) == 2
        assert np.isfinite(found["embeddings"]).all()
        if cell.scored_by == "classifier":
            assert found["probabilities"].shape == (2, len(cell.classes))


@pytest.mark.parametrize("name", ["emoji/mxm_clr/base", "emoji/clip/base", "trifeature_mid/comm/shared"])
def test_inputs_of_images_and_texts_are_what_the_model_takes(name: str, tmp_path: Path) -> None:
    cell = Grid(REPO).cells[name]
    export(cell, tmp_path / "stage")
    inputs = {m: eval(_example(spec)["code"], {"np": np}) for m, spec in cell.modalities.items()}
    embeddings = load(tmp_path / "stage").embed(inputs)
    assert len(embeddings) == 2
    assert np.isfinite(embeddings).all()
