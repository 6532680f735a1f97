"""What pages show is run: Python in order, commands against the parsers that take them, YAML against the models.

A block that is not run says why behind its language: ```python notest: the reason.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import dvc.cli
import pytest
import yaml
from pydantic import BaseModel
from snakemake.cli import get_argument_parser, parse_config

from mmcontrast.cli import _parser
from mmcontrast.pipeline.documents import MODELS
from mmcontrast.pipeline.workflow import named_selection, selection
from tests.grids import grid_of

ROOT = Path(__file__).parents[2]
WRITTEN = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")),
    *sorted(p for p in (ROOT / "docs").rglob("*.md") if "results" not in p.relative_to(ROOT).parts),
]
FENCE = re.compile(r"^```([^\n`]*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
# suites and files that a page has its reader make
OWN_SUITES = ("study",)
NOT_RUN = {
    "docker": "needs a container engine",
    "dvc": "only parsed: a run of the default suite takes hours, and a remote is the reader's",
    "cd": "nothing to check",
    "export": "nothing to check",
    "pip": "would change this environment",
    "tensorboard": "not installed with the project, and serves until it is stopped",
}


class Block(NamedTuple):
    page: str
    line: int
    language: str
    remark: str
    text: str


def blocks() -> Iterator[Block]:
    for page in WRITTEN:
        text = page.read_text(encoding="utf-8")
        for found in FENCE.finditer(text):
            language, _, remark = found[1].partition(" ")
            line = text.count("\n", 0, found.start()) + 1
            yield Block(str(page.relative_to(ROOT)), line, language, remark, found[2])


BLOCKS = list(blocks())
PYTHON = sorted({b.page for b in BLOCKS if b.language == "python"})
COMMANDS = [
    (f"{b.page}:{b.line}", line.partition(" #")[0].strip())
    for b in BLOCKS
    if b.language == "sh"
    for line in b.text.splitlines()
    if line.partition("#")[0].strip()
]
QUOTED = sorted(
    {(str(p.relative_to(ROOT)), c) for p in WRITTEN for c in re.findall(r"`(mmcontrast [a-z][^`<]*)`", p.read_text())}
)


def test_there_is_enough_to_test() -> None:
    assert len(PYTHON) > 6
    assert len(COMMANDS) > 40
    assert len(QUOTED) > 10


@pytest.mark.parametrize("block", BLOCKS, ids=lambda b: f"{b.page}:{b.line}")
def test_a_block_is_of_a_kind_that_is_tested_or_says_why_not(block: Block) -> None:
    assert block.language.startswith("{") or block.language in ("python", "sh", "yaml", "text"), block.language
    if block.language in ("python", "sh", "yaml"):
        assert block.remark == "" or re.fullmatch(r"notest: .{10,}", block.remark)


@pytest.mark.parametrize("page", PYTHON)
def test_python_runs(page: str) -> None:
    """The blocks of a page one after another; those that begin with the path of a file are held to it elsewhere."""
    found: dict[str, object] = {}
    ran = 0
    for b in BLOCKS:
        if b.page == page and b.language == "python" and not b.remark and not b.text.startswith("# src/"):
            with contextlib.redirect_stdout(io.StringIO()):
                exec(compile("\n" * b.line + b.text, str(ROOT / page), "exec"), found)
            ran += 1
    told = [
        b for b in BLOCKS if b.page == page and b.language == "python" and (b.remark or b.text.startswith("# src/"))
    ]
    assert ran or told


@pytest.mark.parametrize(("where", "command"), COMMANDS)
def test_a_command_is_one_that_its_program_takes(monkeypatch: pytest.MonkeyPatch, where: str, command: str) -> None:
    monkeypatch.chdir(ROOT)
    program, *words = shlex.split(command)
    if program == "mmcontrast":
        assert _parser().parse_args(words).command == words[0]
    elif program == "snakemake":
        _is_a_selection(words)
    elif program == "make":
        for target in words:
            assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text(), re.MULTILINE)
    elif program == "dvc":
        dvc.cli.parse_args(words)
    elif program == "pytest":
        assert [word for word in words if "/" in word and not (ROOT / word).exists()] == []
    else:
        assert program in NOT_RUN, f"{where}: {program}"


def _is_a_selection(words: list[str]) -> None:
    arguments = get_argument_parser().parse_args(words)
    assert arguments.targets in (["reproduce"], [], set())
    given = parse_config(arguments.config)
    if given.get("suite") not in OWN_SUITES:
        grid, _ = selection(*named_selection(given))
        assert grid.cells


@pytest.mark.parametrize(("page", "command"), QUOTED)
def test_a_command_within_a_sentence_parses(page: str, command: str) -> None:
    words = shlex.split(command)[1:]
    if words[0] == "new" and len(words) == 2:
        words += ["name", "file"][: 2 if words[1] == "dataset" else 1]
    bare = {
        "embed": ["a/b/c", "new.csv", "-o", "out.csv"],
        "predict": ["a/b/c", "new.csv", "-o", "out.csv"],
        "init": ["x"],
    }
    bare |= {"push": ["a/b/c", "owner/name"], "compare": ["HEAD"], "tune": ["shared"], "completion": ["bash"]}
    if len(words) == 1:
        words += bare.get(words[0], [])
    assert _parser().parse_args(words).command == words[0]


def test_keys_that_a_command_sets_exist() -> None:
    """`dvc exp run -S params/methods/m3col.yaml:objective.alpha=...`"""
    found = [m for _, c in COMMANDS for m in re.findall(r"-S params/methods/(\w+)\.yaml:objective\.(\w+)=", c)]
    assert found
    for method, key in found:
        assert key in grid_of().cell("tcga_brca", method).objective


@pytest.mark.parametrize("block", [b for b in BLOCKS if b.language == "yaml"], ids=lambda b: f"{b.page}:{b.line}")
def test_yaml_has_keys_of_one_kind_of_file(block: Block) -> None:
    given = yaml.safe_load(re.sub(r"<[^>]*>", "placeholder", block.text))
    known = [set(model.model_fields) for model in MODELS.values()]
    assert any(set(given) <= keys for keys in known), sorted(given)
    for key, model in ((k, f.annotation) for m in MODELS.values() for k, f in m.model_fields.items()):
        if key in given and key == "engine" and isinstance(model, type) and issubclass(model, BaseModel):
            model.model_validate(given[key])


@pytest.mark.parametrize("page", WRITTEN, ids=lambda p: str(p.relative_to(ROOT)))
def test_links_into_the_repository_resolve(page: Path) -> None:
    for link in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8")):
        if not link.startswith("http"):
            assert (page.parent / link).exists(), link


def commands_of(page: str) -> list[str]:
    return [command for where, command in COMMANDS if where.startswith(f"{page}:")]


@pytest.mark.slow
def test_the_tutorial_is_followed_in_a_folder_without_a_checkout(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its commands in order; those of Snakemake, which train, are taken by the journeys."""
    (written,) = (b.text for b in BLOCKS if b.page == "docs/tutorial/own_data.md" and b.language == "python")
    monkeypatch.chdir(tmp_path)
    exec(written, {})
    ours = f"{sys.executable} -m mmcontrast"
    script = [
        *commands_of("docs/tutorial/own_data.md"),
        *commands_of("docs/tutorial/own_method.md"),
        "python -m pytest -q -p no:cacheprovider methods/my_loss",
        *(c for c in commands_of("docs/tutorial/hyperparameter.md") if " check " in c),
    ]
    trained = ("snakemake", "mmcontrast embed", "mmcontrast predict", "mmcontrast compare")
    kept = [re.sub("^mmcontrast", ours, c) for c in script if not c.startswith(trained)]
    assert len(kept) == 6
    environment = os.environ | {"PYTHONPATH": f"{ROOT / 'src'}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"}
    done = subprocess.run(
        ["bash", "-ec", "\n".join(kept)], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert (tmp_path / "work/params/suites/study.yaml").exists()
    assert "my_loss" in (tmp_path / "work/params/experiments/study.yaml").read_text()
