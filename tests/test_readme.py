"""The commands of the README and of docs/ are ones that exist, on selections that exist."""

from __future__ import annotations

import hashlib
import io
import json
import re
import shlex
import subprocess
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import torch
import yaml
from snakemake.cli import get_argument_parser, parse_config

from mmcontrast.cli import _parser
from mmcontrast.config import Grid
from mmcontrast.pipeline.selection import named_selection, selection
from mmcontrast.report.results import headline_metrics
from mmcontrast.report.summary import CELL, summarise

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = [README, *(p.read_text(encoding="utf-8") for p in sorted((ROOT / "docs").glob("*.md")))]
FENCED = [
    line.split("#")[0].strip()
    for block in re.findall(r"```sh\n(.*?)```", README, re.DOTALL)
    for line in block.splitlines()
]
QUOTED = [command for page in PAGES for command in re.findall(r"`(mmcontrast [a-z][^`]*)`", page)]
OWN = [*(line for line in FENCED if line.startswith("mmcontrast")), *QUOTED]
SNAKEMAKE = [line for line in FENCED if line.startswith("snakemake")]
TARGETS = [line.split()[1] for line in FENCED if line.startswith("make")]


@pytest.mark.parametrize("command", sorted(set(OWN)))
def test_our_own_commands_parse(command: str) -> None:
    words = shlex.split(command)[1:]
    assert _parser().parse_args(words).command == words[0]


@pytest.mark.parametrize("command", SNAKEMAKE)
def test_snakemake_is_given_selections_that_exist(monkeypatch: pytest.MonkeyPatch, command: str) -> None:
    monkeypatch.chdir(ROOT)
    arguments = get_argument_parser().parse_args(shlex.split(command)[1:])
    assert arguments.targets == ["reproduce"]
    grid, _ = selection(*named_selection(parse_config(arguments.config)))
    assert grid.cells


@pytest.mark.parametrize("target", TARGETS)
def test_make_has_the_targets(target: str) -> None:
    assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text(), re.MULTILINE)


def test_parameters_it_names_exist() -> None:
    """`dvc exp run -S params/methods/m3col.yaml:objective.alpha=...`"""
    file, key = re.findall(r"-S params/methods/(\w+)\.yaml:objective\.(\w+)=", README)[0]
    assert key in Grid(ROOT).cell("tcga_brca", file).objective


def test_figures_and_links_into_the_repository_resolve() -> None:
    for link in re.findall(r"\]\(([^)#]+)\)", README):
        if not link.startswith("http"):
            assert (ROOT / link).exists(), link


def test_the_python_of_the_readme_runs() -> None:
    (block,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    generator = torch.Generator().manual_seed(0)
    images, texts = torch.randn(2, 8, 4, generator=generator, requires_grad=True)
    found = {"image_embeddings": images, "text_embeddings": texts}
    exec(block, found)
    assert found["loss"].shape == ()
    assert found["loss"].requires_grad


def committed(file: str) -> bytes:
    """As git has it: a run leaves other results in the tree, and that is no fault."""
    command = ["git", "show", f"HEAD:./{file}"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, check=False)
    if done.returncode:
        pytest.skip(f"git has no {file} ({done.stderr.decode().strip()})")
    return done.stdout


def test_the_committed_metrics_and_lock_are_of_the_published_run() -> None:
    stages = yaml.load(committed("dvc.lock"), Loader=yaml.CSafeLoader)["stages"]
    outs = {out["path"]: out["md5"] for out in stages["results"]["outs"]}
    for file in ("docs/results/default/results.parquet", "reports/metrics.json"):
        found = hashlib.md5(committed(file)).hexdigest()
        assert found == outs[f"reports/{Path(file).name}"], f"{file}: not of dvc.lock's run"


def test_the_committed_metrics_are_of_the_committed_results() -> None:
    """Of intervals, whose definition is that of the code which made them, the means between their ends."""

    def means(found: Any) -> Any:
        return found["mean"] if "mean" in found else {key: means(of) for key, of in found.items()}

    results = pl.read_parquet(io.BytesIO(committed("docs/results/default/results.parquet")))
    selected = summarise(results).filter(protocol="selected")
    summary = selected.unique([*CELL, "metric"], keep="first", maintain_order=True)
    assert means(headline_metrics(summary)) == means(json.loads(committed("reports/metrics.json")))
