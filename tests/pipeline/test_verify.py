"""`mmcontrast verify` finds nothing wrong in what was just made, and each thing that is spoiled afterwards."""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import polars as pl
import pytest
import yaml
from safetensors.torch import load_file, save_file

from mmcontrast.config import Grid
from mmcontrast.data.files import read_json, sha256_of, write_json
from mmcontrast.paths import Layout
from mmcontrast.pipeline.verify import Finding, examine, model_findings
from tests.pipeline.conftest import Checkout

pytestmark = pytest.mark.slow

MODEL = "runs/synthetic/concat/base/finetune/models/seed1.safetensors"
RESULTS = "reports/results.parquet"
TRAIN = "data/prepared/synthetic/train.parquet"
KINDS = 10  # with the earlier results


def metadata(path: Path) -> dict[str, str]:
    from safetensors import safe_open

    with safe_open(path, framework="pt") as handle:
        return dict(handle.metadata())


def other_weights(path: Path) -> None:
    weights, kept = load_file(path), metadata(path)
    save_file({name: w + 0.01 for name, w in weights.items()}, path, kept)


def other_weights_sealed(path: Path) -> None:
    """As a faulty training would leave them: no checksum tells, the numbers do."""
    other_weights(path)
    sheet = path.parent / "checksums.json"
    named = read_json(sheet)
    write_json(sheet, named | {path.name: sha256_of(path)}, seal=True)


def half(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def better_score(path: Path) -> None:
    pl.read_parquet(path).with_columns(pl.col("value") + 0.01).write_parquet(path)


def cache_object(checkout: Checkout) -> Path:
    locked = yaml.safe_load((checkout.root / "dvc.lock").read_text())["stages"]
    md5 = next(o["md5"] for o in locked["generate@synthetic"]["outs"] if o["path"] == TRAIN)
    return checkout.root / ".dvc/cache/files/md5" / md5[:2] / md5[2:]


def test_a_classifier_that_a_probe_scores_is_right_without_predictions(checkout: Checkout) -> None:
    """Supervised methods on a shared recipe store embeddings alone."""
    checkout.edit("params/experiments/tiny.yaml", "cells", 2, value={"method": "concat", "variant": "shared"})
    for command in (["data", "prepare", "synthetic"], ["finetune", "synthetic/concat/shared"]):
        checkout.mmcontrast(*command)
    found = list(model_findings(Grid(checkout.root), Layout("default")))
    assert [f.state for f in found if "concat/shared" in f.name] == ["right", "right"]
    assert not [f for f in found if f.state == "wrong"]


@pytest.mark.parametrize("every", [["--all"], []])
def test_what_was_just_made_is_right(finished: Checkout, every: list[str]) -> None:
    lines = finished.mmcontrast("verify", *every).splitlines()
    if not every:
        assert lines.pop(0).startswith("computed again: per stage the model of one seed")
    text = "\n".join(lines)
    grid = Grid(finished.root)
    models = sum(len(cell.stages) * (len(cell.seeds) if every else 1) for cell in grid.cells.values())
    assert f"models: {models} checked" in text
    for line in lines:
        assert line.endswith(" 0 wrong") or ", 0 wrong (largest difference" in line, text
        assert " 0 checked" not in line
    kinds = ["plan", "prepared data", "outputs of training", "scores of cells", "report", "files of dvc.lock"]
    for kind in [*kinds, "objects in DVC's cache", "models", "scores"]:
        assert f"{kind}: " in text


@pytest.mark.parametrize("cloned", [False, True])
def test_nothing_to_look_at_is_no_clean_bill(checkout: Checkout, finished: Checkout, cloned: bool) -> None:
    """Nor are a record and the headline scores, which come with the repository."""
    if cloned:
        (checkout.root / "reports").mkdir(exist_ok=True)
        for file in ("dvc.lock", "reports/metrics.json"):
            shutil.copy(finished.root / file, checkout.root / file)
    text = checkout("sh", "-c", "PYTHONPATH=src python -m mmcontrast verify; echo status=$?")
    assert "nothing of this suite is here" in text
    assert "status=1" in text


@pytest.mark.parametrize(
    ("file", "spoil", "told"),
    [
        (
            MODEL,
            other_weights,
            ["seed1.safetensors: not what training wrote", "train the cell again", "md5"],
        ),
        (MODEL, half, ["seed1.safetensors: damaged", "train the cell again"]),
        (RESULTS, better_score, ["synthetic/concat/base: ", "mmcontrast evaluate synthetic/concat/base", "md5"]),
    ],
    ids=["other weights", "half a model", "a better score"],
)
def test_what_is_spoiled_is_found(
    finished: Checkout, file: str, spoil: Callable[[Path], None], told: list[str]
) -> None:
    path = finished.root / file
    kept = path.with_name("kept")
    shutil.copy2(path, kept)
    try:
        path.unlink()  # DVC's cache may hold the same file under another name
        shutil.copy2(kept, path)
        path.chmod(0o644)
        spoil(path)
        text = finished.mmcontrast("verify", "--all", ok=False)
    finally:
        shutil.move(kept, path)
    assert all(words in text for words in told), text


def test_other_weights_under_a_right_checksum_are_found(finished: Checkout) -> None:
    path = finished.root / MODEL
    files = [path, path.parent / "checksums.json"]
    kept = {file: file.read_bytes() for file in files}
    try:
        for file in files:
            file.unlink()  # DVC's cache may hold the same file under another name
            file.write_bytes(kept[file])
        other_weights_sealed(path)
        with contextlib.chdir(finished.root):
            found = [f for f in model_findings(Grid(finished.root), Layout("default")) if f.state == "wrong"]
    finally:
        for file, content in kept.items():
            file.unlink()
            file.write_bytes(content)
    assert [f.name for f in found] == [MODEL]
    assert "embedding of train differ by" in found[0].reason


def test_a_spoiled_object_in_the_cache_is_found(finished: Checkout) -> None:
    blob = cache_object(finished)
    content = blob.read_bytes()
    before = (finished.root / TRAIN).read_bytes()
    blob.chmod(0o644)
    try:
        blob.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
        text = finished.mmcontrast("verify", ok=False)
        spoiled_too = (finished.root / TRAIN).read_bytes() != before
    finally:
        blob.write_bytes(content)
        blob.chmod(0o444)
    assert f"{blob.relative_to(finished.root)}: md5" in text
    assert not spoiled_too, "a broken cache must not reach the workspace"


def test_a_spoiled_object_that_was_handed_out_is_refused_and_mended_as_told(finished: Checkout) -> None:
    """DVC gives it to the workspace as it is; nothing trains on it, and what is told brings the same bits back."""
    before = {file: (finished.root / file).read_bytes() for file in (TRAIN, RESULTS)}
    blob, train = cache_object(finished), finished.root / TRAIN
    content = bytearray(blob.read_bytes())
    content[len(content) // 2] ^= 1
    blob.chmod(0o644)
    blob.write_bytes(content)
    blob.chmod(0o444)
    train.unlink()
    finished("dvc", "checkout", TRAIN)
    assert train.read_bytes() == content
    refused = finished.mmcontrast("finetune", "synthetic/concat", ok=False)
    assert f"{TRAIN}: damaged" in refused
    assert "mmcontrast data prepare synthetic" in refused
    told = finished.mmcontrast("verify", ok=False)
    assert f"the copy of {TRAIN}; delete it" in told
    assert f"{TRAIN}: md5" in told
    blob.unlink()
    train.unlink()
    finished("dvc", "repro")
    assert finished.mmcontrast("verify").count(" 0 wrong") == KINDS
    assert {file: (finished.root / file).read_bytes() for file in before} == before


def test_a_command_that_finds_a_fault_fails(finished: Checkout) -> None:
    path = finished.root / RESULTS
    content = path.read_bytes()
    path.unlink()
    path.write_bytes(content[:-8] + bytes(8))
    try:
        text = finished("sh", "-c", "python -m mmcontrast verify; echo status=$?")
    finally:
        path.write_bytes(content)
    assert "status=0" not in text


def of_kind(kind: str) -> list[str]:
    """Patterns of the files of a kind of artifact, below a checkout."""
    return {
        "plan": ["plan/cells/*/*/*/*.json", "plan/report/*.json", "plan/data/synthetic.prepare.json"],
        "prepared": ["data/prepared/synthetic/*.parquet", "data/prepared/synthetic/*.json"],
        "trained": ["runs/*/*/*/*/*.parquet", "runs/*/*/*/*/cost.json"],
        "models": ["runs/*/*/*/*/models/*.safetensors", "runs/*/*/*/*/models/*.json"],
        "scores": ["runs/*/*/*/*.parquet"],
        "report": ["reports/*.parquet", "reports/evidence/*.parquet"],
    }[kind]


def spoilt(root: Path, kind: str) -> list[Path]:
    return sorted({file for pattern in of_kind(kind) for file in root.glob(pattern)})


@pytest.mark.parametrize("damage", ["cut short", "emptied", "of zeros", "gone"])
@pytest.mark.parametrize("kind", ["plan", "prepared", "trained", "models", "scores", "report"])
def test_no_damage_ends_the_examination(finished: Checkout, kind: str, damage: str) -> None:
    """One file of each name is damaged; it is told, and everything else is looked at all the same."""
    by_name = {(file.name, file.parent.name): file for file in spoilt(finished.root, kind)}
    for file in by_name.values():
        content, kept = file.read_bytes(), file.with_name(f"kept-{file.name}")
        file.rename(kept)  # DVC's cache may hold the same file under another name
        if damage != "gone":
            changed = {"cut short": content[: len(content) // 2], "emptied": b"", "of zeros": bytes(len(content))}
            file.write_bytes(changed[damage])
        try:
            found = list(cheap(finished.root))
        finally:
            file.unlink(missing_ok=True)
            kept.rename(file)
        told = [f for f in found if f.state != "right"]
        assert told, f"{file}: {damage}, and nothing is said"
        assert all(f.reason for f in told if f.state == "wrong")
        assert len(found) > 20


def cheap(root: Path) -> Iterator[Finding]:
    """All but the models and scores that are computed again, and what dvc.lock lists."""
    with contextlib.chdir(root):
        for finding in examine(Grid(root), Layout("default")):
            if finding.kind == "files of dvc.lock":
                return
            yield finding


@pytest.mark.parametrize("name", ["train.parquet", "fitted.json", "datasheet.json"])
def test_damaged_data_are_made_again_and_what_was_trained_on_them_stands(finished: Checkout, name: str) -> None:
    path, model = finished.root / Path(TRAIN).with_name(name), finished.root / MODEL
    content, trained = path.read_bytes(), model.stat().st_mtime_ns
    path.unlink()  # DVC's cache may hold the same file under another name
    path.write_bytes(content[: len(content) // 2])
    text = finished.mmcontrast("verify", "--repair", ok=False)
    assert "removed data/prepared/synthetic" in text
    assert "removed runs" not in text
    assert path.read_bytes() == content
    assert model.stat().st_mtime_ns == trained
    assert finished.mmcontrast("verify").count(" 0 wrong") == KINDS


def test_what_was_finetuned_goes_with_its_damaged_pretraining(finished: Checkout) -> None:
    """Else no run would pretrain again."""
    folder = "runs/synthetic/m3col/pretrained"
    path = finished.root / folder / "pretrain/history.parquet"
    content = path.read_bytes()
    path.unlink()
    path.write_bytes(content[:-9] + bytes(9))
    goes = {p for f in cheap(finished.root) if f.state == "wrong" for p in f.spoiled}
    path.unlink()
    path.write_bytes(content)
    assert {f"{folder}/pretrain", f"{folder}/finetune"} <= goes
    assert all(part.startswith((folder, "reports/")) for part in goes)


def test_what_is_wrong_is_removed_and_made_again(finished: Checkout) -> None:
    before = {file: (finished.root / file).read_bytes() for file in (MODEL, RESULTS)}
    for file in before:
        (finished.root / file).unlink()
        (finished.root / file).write_bytes(before[file][:-9] + bytes(9))
    told = json.loads(finished.mmcontrast("verify", "--json", ok=False))
    assert told["counts"]["wrong"] >= 2
    assert told["error"] == f"{told['counts']['wrong']} wrong"
    assert {f["state"] for f in told["rows"]} <= {"wrong", "missing"}
    text = finished.mmcontrast("verify", "--repair", ok=False)
    assert "removed runs/synthetic/concat/base/finetune" in text
    assert "removed reports/results.parquet" in text
    # nor any folder that others share, least of all what the user has written
    assert not {"removed runs", "removed params", "removed src/mmcontrast"} & set(text.splitlines())
    finished.snakemake()
    assert finished.mmcontrast("verify").count(" 0 wrong") == KINDS
    assert {file: (finished.root / file).read_bytes() for file in before} == before


def test_a_users_own_file_beside_fetched_ones_stays(finished: Checkout) -> None:
    """DVC's checksum of the folder differs by it; what is fetched has its manifest."""
    raw = finished.root / "data/raw/own"
    raw.mkdir(parents=True)
    (raw / "kept.csv").write_text("a user's own")
    lock = finished.root / "dvc.lock"
    before = lock.read_text()
    content = yaml.safe_load(before)
    content["stages"]["fetch@own"] = {"cmd": "x", "outs": [{"path": "data/raw/own", "md5": "0" * 32 + ".dir"}]}
    lock.write_text(yaml.safe_dump(content))
    try:
        text = finished.mmcontrast("verify", "--repair", ok=False)
    finally:
        lock.write_text(before)
    assert (raw / "kept.csv").read_text() == "a user's own", text
    shutil.rmtree(raw)


def test_a_lock_of_another_run_removes_nothing(finished: Checkout) -> None:
    """As after `git checkout`: every file is whole, and none is the one that dvc.lock lists."""
    lock = finished.root / "dvc.lock"
    before = lock.read_text()
    content = yaml.safe_load(before)
    for stage in content["stages"].values():
        for out in stage.get("outs", []):
            out["md5"] = "0" * 32 + (".dir" if out["md5"].endswith(".dir") else "")
    lock.write_text(yaml.safe_dump(content))
    files = {p: p.read_bytes() for d in ("data", "runs", "reports") for p in (finished.root / d).rglob("*.*")}
    try:
        text = finished.mmcontrast("verify", "--repair", ok=False)
    finally:
        lock.write_text(before)
    assert "removed" not in text
    assert "dvc.lock: of another run than what is here" in text
    assert {p: p.read_bytes() for p in files} == files


def test_a_part_is_drawn_and_said(finished: Checkout) -> None:
    """The same part of equal results, one seed of each."""
    with contextlib.chdir(finished.root):
        grid, layout = Grid(finished.root), Layout("default")
        drawn = [f.name for f in model_findings(grid, layout, every=False)]
        assert drawn == [f.name for f in model_findings(grid, layout, every=False)]
    assert len(drawn) == sum(len(cell.stages) for cell in grid.cells.values())
