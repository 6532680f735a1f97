"""A new method is one folder and one file in params/: no list is edited."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
OBJECTIVE = """
from pydantic import Field

from mmcontrast.config.objective import Objective


class NewObjective(Objective):
    tau: float = Field(default=0.1, gt=0)


OBJECTIVE = NewObjective
"""
LOSS = """
from torch import Tensor

from mmcontrast.losses.pairwise import info_nce

__all__ = ["newcomer_loss"]


def newcomer_loss(a: Tensor, b: Tensor, tau: float) -> Tensor:
    return 2 * info_nce(a, b, tau)
"""
METHOD = """
from mmcontrast.methods.newcomer.loss import newcomer_loss
from mmcontrast.methods.newcomer.objective import NewObjective
from mmcontrast.methods.self_supervised import SelfSupervised


class Newcomer(SelfSupervised):
    def training_loss(self, batch, progress):
        a, b, *_ = self.encode(batch.inputs).values()
        return {"loss": newcomer_loss(a, b, NewObjective.model_validate(self.cell.objective).tau)}


METHOD = Newcomer
"""
USE = """
import sys
from pathlib import Path

from mmcontrast.config import Grid

grid = Grid(Path("."))
cell = grid.cell("synthetic", "newcomer", "base")
assert cell.objective == {"tau": 0.3}
assert "torch" not in sys.modules
from mmcontrast.methods.registry import training_modules

assert training_modules(cell) == ["mmcontrast.training.cell", "mmcontrast.methods.newcomer.method"]
import torch
from mmcontrast import losses
from mmcontrast.methods.base import build_method

assert type(build_method(cell)).__name__ == "Newcomer"
assert losses.newcomer_loss(torch.eye(3), torch.eye(3), 0.3).shape == ()
"""


@pytest.mark.slow
def test_a_folder_and_a_file_of_params_are_all_it_takes(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "src", tmp_path / "src", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(ROOT / "params", tmp_path / "params")
    folder = tmp_path / "src/mmcontrast/methods/newcomer"
    folder.mkdir()
    for name, text in {"__init__": "", "objective": OBJECTIVE, "loss": LOSS, "method": METHOD}.items():
        (folder / f"{name}.py").write_text(text)
    (tmp_path / "params/methods/newcomer.yaml").write_text(
        "title: Newcomer\nimplementation: newcomer\nrecipe_from: comm\nobjective: {tau: 0.3}\n"
    )
    environment = os.environ | {"PYTHONPATH": str(tmp_path / "src")}
    out = subprocess.run(
        [sys.executable, "-c", USE], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert out.returncode == 0, out.stderr


def test_the_page_on_it_shows_code_and_files_that_are_there() -> None:
    page = (ROOT / "docs/add_a_method.md").read_text(encoding="utf-8")
    shown = re.findall(r"```python\n# (\S+)\n(.*?)```", page, re.DOTALL)
    assert len(shown) == 3
    for file, code in shown:
        assert code in (ROOT / file).read_text(encoding="utf-8"), file
    named = set(re.findall(r"(?:src|params|tests)/[\w/]+(?:\.\w+)?", page))
    assert len(named) > 15
    assert [path for path in named if not (ROOT / path).exists()] == []
