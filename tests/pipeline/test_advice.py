"""Every advice of the form "run `...`" in the source, run as it is printed, heals the fault that it is printed for."""

from __future__ import annotations

import ast
import contextlib
import io
import re
import shlex
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import polars as pl
import pytest
import yaml

from mmcontrast.cli import _parser, main
from tests.pipeline.conftest import EXPERIMENT, SUITE

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "src/mmcontrast"
ADVICE = re.compile(r"run\s+`([^`]+)`(?:, then `([^`]+)`)?")
CELL = "synthetic/concat/base"
RUN = f"build/tiny/runs/{CELL}"
PREPARED = "data/prepared/synthetic"
PREPARE, GONE = "mmcontrast data prepare {path.parent.name}", "mmcontrast data prepare {Path(file).parent.name}"
TRAIN = f"finetune {CELL} --suite tiny"
REPORT = "report results --suite tiny"
OWN = {
    "title": "Own", "description": "Two tables in one.", "licence": "own", "redistribute": False, "citation": "none",
    "sources": [{"kind": "local", "path": "all.csv"}], "reader": "table",
    "prepare": {
        "tables": {"all": "all.csv"}, "id": "id", "label": "state",
        "modalities": {"rna": {"prefix": "g"}, "mir": {"prefix": "m"}},
    },
    "modalities": {m: {"kind": "vector", "shape": [2]} for m in ("rna", "mir")},
    "classes": ["ill", "well"], "metrics": ["acc"], "rows": 20, "scaling": "none",
    "split": {"kind": "random", "train": 0.5, "val": 0.25, "test": 0.25, "seed": 0},
}  # fmt: skip


class Case(NamedTuple):
    """What is spoiled, the command that then fails, and where in the source its advice stands."""

    file: str
    advice: str
    spoil: Callable[[], object]
    fails: str


def gone(*files: str) -> Callable[[], object]:
    return lambda: [Path(file).unlink() for file in files]


def no_text(file: str) -> Callable[[], object]:
    return lambda: Path(file).write_bytes(b"\xff" + Path(file).read_bytes()[1:])


def better() -> None:
    """Scores that the stored numbers do not give, under a right seal."""
    from mmcontrast.evaluation.evaluate import write_frame

    file = Path("build/tiny/reports/results.parquet")
    write_frame(pl.read_parquet(file).with_columns(pl.col("value") + 0.01), file)


def own_rows(first: float) -> None:
    rows = {f"{m}{j}": [first + i * (1 + j) for i in range(20)] for m in "gm" for j in range(2)}
    file = Path("data/raw/own/all.csv")
    file.parent.mkdir(parents=True, exist_ok=True)
    pl.DataFrame({"id": range(20), **rows, "state": ["ill", "well"] * 10}).write_csv(file)


CASES = [
    Case("pipeline/plan.py", "{_again(path)}", gone("build/tiny/plan/index.json"), REPORT),
    Case("pipeline/plan.py", "{_again(path)}", no_text(f"build/tiny/plan/cells/{CELL}/finetune.json"), TRAIN),
    Case(
        "pipeline/plan.py",
        "{_again(plan)}",
        gone(f"build/tiny/plan/cells/{CELL}/finetune.json"),
        f"evaluate {CELL} --suite tiny",
    ),
    Case(
        "pipeline/plan.py",
        "mmcontrast {stage} {name}{layout.select}",
        gone(f"{RUN}/finetune/predictions.parquet"),
        f"evaluate {CELL} --suite tiny",
    ),
    Case(
        "pipeline/plan.py",
        "mmcontrast {stage} {name}{layout.select}",
        no_text(f"{RUN}/finetune/cost.json"),
        f"evaluate {CELL} --suite tiny",
    ),
    Case("data/files.py", PREPARE, no_text(f"{PREPARED}/train.parquet"), TRAIN),
    Case("training/cell.py", GONE, gone(f"{PREPARED}/val.parquet"), TRAIN),
    Case("training/cell.py", GONE, gone(f"{PREPARED}/fitted.json"), TRAIN),
    Case("data/manifest.py", "mmcontrast data fetch {dataset_name}", lambda: own_rows(1.0), "data prepare own"),
    Case("data/fetch.py", "mmcontrast data fetch {dataset_name}", gone("data/raw/own/all.csv"), "data fetch own"),
    Case("report/results.py", "{command}", gone(f"{RUN}/metrics.parquet"), REPORT),
    Case("report/results.py", "{command}", no_text(f"{RUN}/intervals.parquet"), REPORT),
    Case(
        "report/evidence.py",
        "{command}",
        no_text("build/tiny/reports/evidence/tiny.parquet"),
        "report tiny --suite tiny",
    ),
    Case(
        "report/evidence.py",
        "mmcontrast data prepare {d}",
        no_text(f"{PREPARED}/datasheet.json"),
        "report tiny --suite tiny",
    ),
    Case("report/page.py", "{again}", gone("build/tiny/reports/figures/tiny/tiny_synthetic_scores.svg"), "page"),
    Case(
        "pipeline/verify.py",
        "mmcontrast evaluate {cell.name}{select}",
        better,
        "verify --suite tiny",
    ),
]
DVC = "DVC: tests/pipeline/test_verify.py and test_edits.py"
WHOLE = "all of the pipeline: tests/pipeline/test_engines.py"
READERS = "verified_manifest says it before any reader, with the name of the dataset"
SPOILED = "tests/pipeline/test_damaged_records.py and test_verify.py, by --repair"
DEEP = "said of what has passed its checksum, or is said before: the same advice as of plan.py and files.py"
LEFT = {
    ("cli.py", "dvc repro"): DVC,
    ("pipeline/workflow.py", "dvc repro"): DVC,
    ("pipeline/verify.py", "dvc repro"): DVC,
    ("pipeline/verify.py", "dvc commit -f"): DVC,
    ("pipeline/verify.py", "git checkout dvc.lock"): "git",
    ("pipeline/verify.py", "mmcontrast sync dvc"): DVC,
    ("pipeline/verify.py", "mmcontrast data prepare {path.parent.name}"): SPOILED,
    ("pipeline/verify.py", "mmcontrast report results{select}"): SPOILED,
    ("pipeline/verify.py", "mmcontrast {stage} {cell.name}{layout.select}"): SPOILED,
    ("cli.py", "{reproduce(layout)}"): WHOLE,
    ("pipeline/compare.py", "{reproduce(layout)}"): WHOLE,
    ("pipeline/push.py", "{reproduce(layout)}"): WHOLE,
    ("config/merging.py", "mmcontrast tune {name} --datasets {tried_on}"): "minutes: tests/pipeline/test_tune.py",
    ("config/methods.py", "mmcontrast tune"): "minutes, and the model of a choice does not know its recipe's name",
    ("data/splitting.py", "mmcontrast data prepare {name}"): DEEP,
    ("data/prepare/emoji.py", "mmcontrast data fetch emoji"): READERS,
    ("data/prepare/readers.py", "git lfs pull"): "in another repository, where the file is from",
    ("data/download.py", "{sys.executable} -m ensurepip"): "changes the environment",
    ("data/pretrained.py", "mmcontrast data encoders"): "the network",
    ("trackers.py", "pip install {name}"): "changes the environment",
    ("errors.py", "pip install {library}"): "the network, and changes the environment",
    ("evaluation/stored.py", "mmcontrast {cell.last_stage} {cell.name}"): "of a function; the command says it before",
    ("training/cell.py", "mmcontrast pretrain {cell.name}{layout.select}"): "two stages: tests/training/test_cell.py",
}
# of these the words after the backticks say the rest
NOT_WHOLE = {"mmcontrast tune"}


def text_of(node: ast.expr) -> str:
    if isinstance(node, ast.JoinedStr):
        return "".join(map(text_of, node.values))
    return f"{{{ast.unparse(node.value)}}}" if isinstance(node, ast.FormattedValue) else str(getattr(node, "value", ""))


def advice_of(file: Path) -> Iterator[str]:
    tree = ast.parse(file.read_text())
    parts = {id(part) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for part in node.values}
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr | ast.Constant) and id(node) not in parts:
            yield from (found[1] for found in ADVICE.finditer(text_of(node)))


def test_every_advice_is_tried_or_left_for_a_reason() -> None:
    found = {(f.relative_to(PACKAGE).as_posix(), advice) for f in PACKAGE.rglob("*.py") for advice in advice_of(f)}
    assert found == {(case.file, case.advice) for case in CASES} | LEFT.keys()


def test_every_advice_is_a_command_that_there_is() -> None:
    parser = _parser()
    for advice in {advice for f in PACKAGE.rglob("*.py") for advice in advice_of(f)} - NOT_WHOLE:
        words = re.sub(r"\{(layout\.)?select\}", " --suite x", re.sub(r"\{(cell\.last_)?stage\}", "finetune", advice))
        words = re.sub(r"\{[^}]+\}", "x", words).split()
        if words[0] == "mmcontrast":
            assert parser.parse_args(words[1:])


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the results of one cell, and a user's dataset that is fetched."""
    root = tmp_path_factory.mktemp("made")
    shutil.copytree(ROOT / "params", root / "params", ignore=shutil.ignore_patterns("experiments", "suites"))
    tiny = EXPERIMENT | {"cells": EXPERIMENT["cells"][2:], "kind": "table", "reference": None}
    for file, content in {"experiments/tiny": tiny, "suites/tiny": SUITE, "datasets/own": OWN}.items():
        (root / f"params/{file}.yaml").parent.mkdir(exist_ok=True)
        (root / f"params/{file}.yaml").write_text(yaml.safe_dump(content))
    with contextlib.chdir(root):
        own_rows(0.0)
        for words in ("plan --suite tiny", "data fetch own", "data prepare synthetic", TRAIN):
            assert main(words.split()) == 0, words
        for words in (f"evaluate {CELL} --suite tiny", REPORT, "report tiny --suite tiny"):
            assert main(words.split()) == 0, words
    return root


def said(words: str) -> tuple[int, str]:
    """Exit status of a command, and what it prints."""
    with contextlib.redirect_stdout(io.StringIO()) as out, contextlib.redirect_stderr(io.StringIO()) as err:
        status = main(shlex.split(words))
    return status, out.getvalue() + err.getvalue()


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.file} {case.fails.split()[0]}")
def test_an_advice_heals_what_it_is_printed_for(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, case: Case
) -> None:
    shutil.copytree(made, tmp_path / "work")
    monkeypatch.chdir(tmp_path / "work")
    fails = "report page --suite tiny" if case.fails == "page" else case.fails
    case.spoil()
    status, text = said(fails)
    assert status == 1, text
    found = ADVICE.search(text)
    assert found, text
    if case.file == "data/fetch.py":
        assert "Put it there" in text
        own_rows(0.0)
    for advice in filter(None, found.groups()):
        assert re.match(r"mmcontrast ", advice)
        status, text = said(advice.removeprefix("mmcontrast "))
        assert status == 0, f"{advice}: {text}"
    status, text = said(fails)
    assert status == 0, text
