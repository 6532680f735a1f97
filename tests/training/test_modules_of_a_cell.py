"""Whether the code that a cell's training is said to depend on is the code that it really runs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from subprocess import PIPE

import pytest

from mmcontrast.config import CellConfig
from mmcontrast.methods.registry import training_modules
from mmcontrast.sources import sources
from tests.training import resuming
from tests.training.test_pretrained_encoder_cell import cell_of
from tests.training.test_pretrained_encoder_cell import checkout as clip_checkout  # noqa: F401 - a fixture

ROOT = Path(__file__).parents[2]
# each cell is trained in a fork that has torch, whose import takes seconds, and nothing yet of the package
RUN = """
import json, os, sys
import torch, torch._dynamo

for line in iter(sys.stdin.readline, ""):
    child = os.fork()
    if child == 0:
        break
    if os.waitpid(child, 0)[1]:
        print("failed", flush=True)
else:
    sys.exit()

folder, environment, text = json.loads(line)
os.chdir(folder)
os.environ.update(environment)
assert not [name for name in sys.modules if name.startswith("mmcontrast")]

from mmcontrast.config import CellConfig
from mmcontrast.paths import Layout
from mmcontrast.training.cell import run_stage

cell = CellConfig.model_validate_json(text)
for stage in cell.stages:
    run_stage(cell, stage, Layout("traced"))
files = {m.__file__ for n, m in sys.modules.items() if n.startswith("mmcontrast.") and m.__file__}
print("files", json.dumps(sorted(files)), flush=True)
"""
# tracked as values and names; an __init__ here holds nothing, or what is imported when it is asked for
ELSEWHERE = ("config/", "errors.py", "paths.py", "sources.py", "__init__.py")
CASES = [
    "synthetic/m3col/base",
    "synthetic/tuple_infonce/base",
    "synthetic/tuple_infonce/searched",
    "synthetic/comm/base",
    "synthetic/unimodal/base",
    "emoji/mxm_clr/base",
]
QUICK = ["emoji/mxm_clr/base"]


@pytest.fixture(scope="module")
def run_in_a_process_of_its_own() -> Iterator[Callable[[CellConfig], set[str]]]:
    """Files of the package that training a cell in this folder has imported, relative to src/mmcontrast."""
    package = (ROOT / "src/mmcontrast").resolve()
    with subprocess.Popen([sys.executable, "-c", RUN], stdin=PIPE, stdout=PIPE, text=True) as process:

        def run(cell: CellConfig) -> set[str]:
            asked = json.dumps([str(Path.cwd()), dict(os.environ), cell.model_dump_json()])
            print(asked, file=process.stdin, flush=True)
            said = next(line for line in process.stdout if line.startswith(("files ", "failed")))
            assert said.startswith("files "), "training failed; its traceback is in what was written to stderr"
            files = {str(Path(f).resolve().relative_to(package)) for f in json.loads(said.removeprefix("files "))}
            return {f for f in files if not f.startswith(ELSEWHERE) and not f.endswith(ELSEWHERE)}

        yield run


def said(cell: CellConfig) -> set[str]:
    return {f.removeprefix("mmcontrast/") for f in sources(*training_modules(cell))}


@pytest.mark.parametrize("case", [c if c in QUICK else pytest.param(c, marks=pytest.mark.slow) for c in CASES])
def test_what_training_imports_is_what_it_is_said_to_depend_on(
    checkout: Path, case: str, run_in_a_process_of_its_own: Callable[[CellConfig], set[str]]
) -> None:
    cell = resuming.small(case)
    assert run_in_a_process_of_its_own(cell) - said(cell) == set()


@pytest.mark.slow
@pytest.mark.parametrize("variant", ["clip_finetuned", "clip_frozen"])
def test_so_it_is_under_a_pretrained_clip(
    clip_checkout: Path,  # noqa: F811
    variant: str,
    run_in_a_process_of_its_own: Callable[[CellConfig], set[str]],
) -> None:
    cell = cell_of(variant)
    ran = run_in_a_process_of_its_own(cell)
    assert ran - said(cell) == set()
    assert {"models/pretrained.py", "data/pretrained.py"} <= ran
    assert "models/text.py" not in ran | said(cell)


def test_what_few_cells_have_concerns_them_alone() -> None:
    plain, searched, texts = (
        said(resuming.small(case))
        for case in ("synthetic/tuple_infonce/base", "synthetic/tuple_infonce/searched", "emoji/mxm_clr/base")
    )
    assert {f for f in searched - plain if "search" not in f} == set()
    assert not any("search/" in f for f in plain | texts)
    own = {"data/tokens.py", "models/text.py"}
    assert own <= texts
    assert not own & (plain | searched)
    few = {"models/pretrained.py", "data/pretrained.py", "models/sequence.py", "models/image_weights.py"}
    assert not few & (plain | searched | texts)


def test_a_paper_folder_concerns_its_own_method_alone() -> None:
    files = {case.split("/")[1]: said(resuming.small(case)) for case in CASES}
    for method, own in files.items():
        folders = {f.split("/")[1] for f in own if f.startswith("methods/") and f.count("/") > 1}
        assert folders == {"baselines" if method == "unimodal" else method}
