"""One DAG, two engines: each does only what is needed, and knows what the other has done."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import polars as pl
import pytest
from dvc.repo import Repo
from polars.testing import assert_frame_equal

from tests.pipeline.conftest import M3COL_AND_CONCAT, Checkout

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.slow

CELLS = ["synthetic/concat/base", "synthetic/m3col/base", "synthetic/m3col/pretrained"]
REPORT = ["report page", "report results", "report tiny"]
EVERYTHING = sorted(
    [
        "data prepare synthetic",
        "pretrain synthetic/m3col/pretrained",
        *(f"{stage} {cell}" for stage in ("finetune", "evaluate") for cell in CELLS),
        *REPORT,
    ]
)
M3COL_ONLY = sorted(
    [
        "pretrain synthetic/m3col/pretrained",
        *(f"{stage} {cell}" for stage in ("finetune", "evaluate") for cell in CELLS if "m3col" in cell),
        *REPORT,
    ]
)
CONCAT_ONLY = ["evaluate synthetic/concat/base", "finetune synthetic/concat/base", *REPORT]
BETA = ("params/methods/m3col.yaml", "objective", "beta")


def results(checkout: Checkout) -> pl.DataFrame:
    return pl.read_parquet(checkout.root / "reports/results.parquet")


def m3col_history(checkout: Checkout) -> pl.DataFrame:
    return pl.read_parquet(checkout.root / "runs/synthetic/m3col/base/finetune/history.parquet")


def stages_of_dvc(root: Path) -> dict[str, list[str]]:
    """Command -> outputs, of every stage that dvc.yaml makes of grid.yaml."""
    with Repo(str(root)) as repo:
        found = {
            stage.cmd.removeprefix("PYTHONPATH=src:$PYTHONPATH "): [o.def_path for o in stage.outs]
            for stage in repo.index.stages
        }
    return {cmd: outs for cmd, outs in found.items() if not cmd.endswith(("mmcontrast plan", "sync snakemake"))}


def stages_of_snakemake(root: Path) -> dict[str, list[str]]:
    """The same of the Snakefile's jobs, as a dry run prints them."""
    command = ["snakemake", "-n", "-p", "--forceall", "--nolock", "--cores", "1", "--quiet", "host"]
    printed = subprocess.run(command, cwd=root, text=True, capture_output=True, check=True).stdout
    found = {}
    for job in printed.split("\n\n"):
        lines = [line.strip() for line in job.splitlines()]
        outs = [line.removeprefix("output: ").split(", ") for line in lines if line.startswith("output: ")]
        ran = [line.removeprefix("Shell command: ") for line in lines if line.startswith("Shell command: ")]
        if outs and ran:
            found[ran[0].split(" > ")[0]] = outs[0]
    return {cmd: outs for cmd, outs in found.items() if not cmd.endswith("sync dvc")}


def test_artifacts_that_dvc_names_are_outputs_of_its_stages() -> None:
    outs = [Path(out) for found in stages_of_dvc(ROOT).values() for out in found]
    with Repo(str(ROOT)) as repo:
        artifacts = repo.artifacts.read()["dvc.yaml"]
    assert len(artifacts) > 4
    for name, artifact in artifacts.items():
        assert any(Path(artifact.path).is_relative_to(out) for out in outs), name


def test_both_engines_have_the_same_stages() -> None:
    """One command a stage; DVC holds whole folders of which Snakemake watches the files that are read."""
    ours, theirs = stages_of_snakemake(ROOT), stages_of_dvc(ROOT)
    assert ours.keys() == theirs.keys()
    assert len(ours) > 240
    for command, outs in theirs.items():
        files = {out for out in ours[command] if any(Path(out).is_relative_to(of) for of in outs)}
        assert files == set(ours[command]), command
        for of in outs:
            assert any(Path(file).is_relative_to(of) for file in files), f"{command}: {of}"


def test_a_day_with_both_engines(finished: Checkout) -> None:
    """Snakemake first, then DVC; a parameter changed and changed back; a clone that pulls."""
    assert finished.executed() == EVERYTHING
    finished.assert_both_idle()
    finished("dvc", "repro")
    assert finished.executed() == []
    finished.commit("results")
    before, history = results(finished), m3col_history(finished)
    files = (finished.root / BETA[0]).read_text()

    finished.edit(*BETA, value=30.0)
    assert "30.0" in finished("dvc", "params", "diff")
    finished("dvc", "repro")
    assert finished.executed() == M3COL_ONLY
    finished.assert_both_idle()
    after = results(finished)
    concat = pl.col("method") == "concat"
    assert_frame_equal(before.filter(concat), after.filter(concat))
    assert not history.equals(m3col_history(finished))
    assert "synthetic" in finished("dvc", "metrics", "diff")

    (finished.root / BETA[0]).write_text(files)
    finished("dvc", "repro")
    assert finished.executed() == []
    finished.assert_both_idle()
    assert_frame_equal(results(finished), before)


def test_dvc_plots_show_every_cell_on_its_dataset(finished: Checkout) -> None:
    """The two plots of `dvc plots show`: what the templates ask for is there, and nothing of them is left unfilled."""
    finished("dvc", "plots", "show", "-o", "plots_shown")
    page = (finished.root / "plots_shown/index.html").read_text()
    found = [json.JSONDecoder().raw_decode(part)[0] for part in page.split("var spec = ")[1:]]
    specs = {spec["title"]["text"]: spec for spec in found}
    assert sorted(specs) == ["Test score, selected epoch", "Validation score by epoch"]
    for spec in specs.values():
        rows = spec["data"]["values"]
        assert sorted({row["cell"] for row in rows}) == CELLS
        assert "<DVC" not in json.dumps(spec)
        made = {step["as"] for step in spec["transform"]}
        asked = fields(spec["spec"]) | fields(spec["facet"])
        assert asked <= made | set(rows[0])
        assert {"dataset", "value", "rev"} <= asked


def fields(of: object) -> set[str]:
    """Every field that a part of a Vega-Lite specification reads."""
    if isinstance(of, dict):
        own = {of["field"]} if isinstance(of.get("field"), str) else set()
        return own.union(*map(fields, of.values()))
    return set().union(*map(fields, of)) if isinstance(of, list) else set()


def test_the_page_follows_what_is_not_run_and_the_suite(finished: Checkout) -> None:
    """Why a paper's figures are not run, and what the suite is: each changes what the page is planned to be."""
    # of a paper without experiments nothing is shown
    finished.edit("params/experiments/tiny.yaml", "paper", value="m3col")
    finished.snakemake()
    finished.executed()
    why = {"All figures": "Drawings alone."}
    finished.edit("params/papers/m3col.yaml", "not_run", "figures", "why", value=why)
    assert "plan/report/page.json" in finished.mmcontrast("plan").split()
    finished.edit("params/suites/default.yaml", "description", value="a short one")
    assert "plan/report/page.json" in finished.mmcontrast("plan").split()
    finished.snakemake()
    assert finished.executed() == ["report page"]
    pages = [finished.root / "reports/index.html", *(finished.root / "reports/pages").glob("*.html")]
    text = "".join(page.read_text() for page in pages)
    assert "Drawings alone." in text
    assert "a short one" in text
    finished.assert_both_idle()


def test_a_clone_pulls_and_has_nothing_to_do(finished: Checkout, tmp_path: Path) -> None:
    remote = tmp_path / "remote"
    finished("dvc", "remote", "add", "-d", "-f", "here", str(remote))
    finished("dvc", "push")
    finished.commit("remote")
    finished.executed()
    finished("git", "clone", "-q", str(finished.root), str(tmp_path / "clone"))
    clone = Checkout(tmp_path / "clone")
    clone("dvc", "pull")
    clone.mmcontrast("sync", "snakemake")
    clone.assert_both_idle()
    clone("dvc", "repro")
    assert clone.executed() == []
    assert_frame_equal(results(clone), results(finished))


def test_data_that_may_not_be_redistributed_stay_out_of_the_remote(checkout: Checkout, tmp_path: Path) -> None:
    checkout.keep_cells("concat/base")
    checkout.edit("params/datasets/synthetic.yaml", "redistribute", value=False)
    checkout.mmcontrast("plan")
    checkout("dvc", "remote", "add", "-d", "here", str(tmp_path / "remote"))
    checkout.snakemake()
    checkout.commit("results")
    checkout.executed()
    checkout("dvc", "push")
    pushed = {p.read_bytes() for p in (tmp_path / "remote").rglob("*") if p.is_file()}
    assert (checkout.root / "reports/results.parquet").read_bytes() in pushed
    assert (checkout.root / "data/prepared/synthetic/train.parquet").read_bytes() not in pushed

    checkout("git", "clone", "-q", str(checkout.root), str(tmp_path / "clone"))
    clone = Checkout(tmp_path / "clone")
    clone("dvc", "pull", "--allow-missing")
    clone.mmcontrast("sync", "snakemake")
    assert clone.executed() == ["data prepare synthetic"]
    clone.assert_both_idle()


@pytest.mark.parametrize(
    ("target", "told"),
    [
        ("runs/synthetic/m3col/bsae/metrics.parquet", "synthetic/m3col/bsae: no such cell in this suite; did you mean"),
        ("data/prepared/synthetik/val.parquet", "synthetik: no such dataset in this suite; did you mean 'synthetic'?"),
    ],
)
def test_a_target_that_is_misspelt_is_named_with_the_nearest(template: Checkout, target: str, told: str) -> None:
    text = template("snakemake", "-n", "--cores", "1", target, ok=False)
    assert told in text
    assert "KeyError" not in text


@pytest.mark.parametrize(("more", "limit"), [([], 2), (["--resources", "gpu=7"], 7)])
def test_the_gpus_of_this_machine_are_a_limit(checkout: Checkout, more: list[str], limit: int) -> None:
    checkout.edit("params/suites/default.yaml", "engine", "device", value="cuda")
    checkout.env["CUDA_VISIBLE_DEVICES"] = "0,1"
    val = "data/prepared/synthetic/val.parquet"
    text = checkout("snakemake", "--workflow-profile", "none", "--cores", "1", val, *more)
    assert f'Provided resources: gpu=Resource("gpu", {limit})' in text


def test_killed_in_mid_training_it_ends_with_the_same_results(checkout: Checkout) -> None:
    """Two cells are trained when it comes; after it every row of the results is the same."""
    checkout.keep_cells(*M3COL_AND_CONCAT)
    checkout.edit("params/suites/default.yaml", "overrides", "finetune", "epochs", value=60)
    undisturbed = Checkout(checkout.root.parent / "undisturbed")
    shutil.copytree(checkout.root, undisturbed.root, symlinks=True)
    to_results = ["snakemake", "--cores", "2", "reports/results.parquet"]
    undisturbed(*to_results)

    checkout.kill_when(".state/synthetic/*/*/finetune/seed0/checkpoint-*")
    checkout("snakemake", "--unlock")
    checkout(*to_results)
    assert any("resumed after epoch" in log.read_text() for log in (checkout.root / "logs/finetune").rglob("*.log"))
    assert_frame_equal(results(checkout), results(undisturbed))
    assert not (checkout.root / ".state").exists() or not list((checkout.root / ".state").rglob("checkpoint-*"))


def test_experiments_and_metrics_of_dvc(finished: Checkout) -> None:
    if finished("git", "status", "--porcelain"):
        finished.commit("before the experiment")
    shown = json.loads(finished("dvc", "metrics", "show", "--json"))
    assert "synthetic" in json.dumps(shown)
    finished.executed()
    finished("dvc", "exp", "run", "-S", "params/methods/concat.yaml:objective.beta=20.0", "-n", "strong")
    assert finished.executed() == CONCAT_ONLY
    assert "strong" in finished("dvc", "exp", "show", "--csv")


def test_a_failed_cell_is_reported_among_the_others_and_leaves_nothing_stale(
    reproduced: Checkout, tmp_path: Path
) -> None:
    """A loss that is not finite stops its own cell, of which an older run left scores and a finished report."""
    root = tmp_path / "checkout"
    shutil.copytree(reproduced.root, root, symlinks=True)
    checkout = Checkout(root)
    method, before = root / "params/methods/concat.yaml", results(checkout)
    kept = method.read_text()
    checkout.edit("params/methods/concat.yaml", "finetune", value={"optimizer": {"lr": 1e30}})
    done = subprocess.run(
        ["snakemake", "--cores", "2", "reproduce"],
        cwd=root,
        env=checkout.env,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    text = done.stdout + done.stderr
    assert "1 of 3 cells have no result:\n  synthetic/concat/base: failed: " in text
    partial = root / "reports/partial"
    page = "".join(p.read_text() for p in [partial / "index.html", *(partial / "pages").glob("*.html")])
    assert "This report is partial: 1 of 3 cells have no result." in page
    assert "the loss is not finite at epoch" in page
    assert "| Concatenation | failed |" in (partial / "tables/tiny/tiny.md").read_text()
    others = pl.col("method") != "concat"
    assert_frame_equal(pl.read_parquet(partial / "results.parquet"), before.filter(others))
    # what an older run made of the failed cell, and its report, would pass for this run's
    assert not list((root / "runs/synthetic/concat/base").glob("*.parquet"))
    assert not (root / "reports/index.html").exists()
    assert "Nothing to be done" not in checkout.snakemake("-n")
    assert "up to date" not in checkout("dvc", "status")

    method.write_text(kept)
    checkout.executed()
    assert "\n6/6 steps · " in checkout.snakemake()
    assert checkout.executed() == CONCAT_ONLY
    checkout.assert_both_idle()
    assert not partial.exists()
    assert_frame_equal(results(checkout), before)
