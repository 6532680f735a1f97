"""`check` tells all faults of params/ at once, each by the file and key where it was written, and passes nothing that
training refuses."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from torch import nn

from mmcontrast.config import Dataset, Grid, Suite, validate
from mmcontrast.config.datasets import TAKEN
from mmcontrast.errors import ConfigError

ROOT = Path(__file__).parents[2]


@pytest.fixture
def work(tmp_path: Path) -> Path:
    """A copy of params/ with the experiments of one suite alone."""
    shutil.copytree(ROOT / "params", tmp_path / "params", ignore=shutil.ignore_patterns("across", "comm", "mxm_clr"))
    for folder in ("mxm_clr", "tuple_infonce"):
        shutil.rmtree(tmp_path / "params/experiments" / folder, ignore_errors=True)
    return tmp_path


def change(work: Path, file: str, old: str, new: str) -> None:
    path = work / "params" / file
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


def told(work: Path) -> list[str]:
    with pytest.raises(ConfigError) as error:
        Grid(work, "smoke")
    return str(error.value).splitlines()


def test_faults_of_several_files_are_told_at_once(work: Path) -> None:
    change(work, "datasets/rosmap.yaml", "rows: 351", "rows: many")
    change(work, "methods/comm.yaml", "implementation:", "implementatoin:")
    change(work, "recipes/shared.yaml", "tuning:", "tunning:")
    lines = told(work)
    for file, key in (("datasets/rosmap", "rows"), ("methods/comm", "implementatoin"), ("recipes/shared", "tunning")):
        assert any(line.startswith(f"params/{file}.yaml: {key}: ") for line in lines), (key, lines)


def test_a_value_is_blamed_on_the_file_and_key_where_it_was_written(work: Path) -> None:
    """concat takes its stages from m3col; the suite shortens them; the recipe is of all."""
    change(work, "methods/m3col.yaml", "epochs: 100", "epochs: hundred")
    change(work, "methods/m3col.yaml", "rosmap:\n    model: {width: 1000", "rosmap:\n    model: {width: -1000")
    change(work, "methods/concat.yaml", "unimodal_heads: false", "unimodal_heads: perhaps")
    change(work, "suites/smoke.yaml", "width: 16", "width: 0")
    lines = told(work)
    text = "\n".join(lines)
    assert re.search(r"params/suites/smoke\.yaml \(tcga_brca/\w+/\w+\): overrides\.model\.width: ", text)
    assert re.search(r"params/methods/concat\.yaml \(\w+/concat/base\): objective\.unimodal_heads: ", text)
    # each once, whatever number of cells has it; the epochs of rosmap and of the suite are others
    assert len([line for line in lines if "overrides.model.width" in line]) == 1
    change(work, "suites/smoke.yaml", "width: 0", "width: 16")
    change(work, "suites/smoke.yaml", "finetune: {epochs: 4, ", "finetune: {")
    text = "\n".join(told(work))
    assert "params/methods/m3col.yaml (tcga_" in text
    assert "): finetune.epochs: " in text
    assert "params/methods/concat.yaml (tcga_brca/concat/base): finetune" not in text


@pytest.mark.parametrize(
    ("section", "value", "message"),
    [
        ("encoder_hidden", [0], "model.encoder_hidden.0: Input should be greater than 0"),
        ("encoder_hidden", [-4], "model.encoder_hidden.0: Input should be greater than 0"),
        ("head_hidden", [0], "model.head_hidden.0: Input should be greater than 0"),
    ],
)
def test_widths_are_positive(work: Path, section: str, value: list[int], message: str) -> None:
    suite = yaml.safe_load((work / "params/suites/smoke.yaml").read_text())
    suite["overrides"]["model"][section] = value
    (work / "params/suites/smoke.yaml").write_text(yaml.safe_dump(suite))
    assert message in "\n".join(told(work))


@pytest.mark.parametrize(
    ("seeds", "message"),
    [
        ([2**64], "seeds.0: Input should be less than 9223372036854775808"),
        ([True], "seeds.0: Input should be a valid integer"),
        ([-1], "seeds.0: Input should be greater than or equal to 0"),
        (["0"], "seeds.0: Input should be a valid integer"),
    ],
)
def test_seeds_are_what_everything_takes(seeds: list[Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        validate(Suite, {"description": "", "datasets": ["a"], "experiments": ["b"], "seeds": seeds}, "x")


@pytest.mark.parametrize("number", ["012", "1:30", "0b11"])
def test_a_number_that_yaml_takes_for_another_is_refused(work: Path, number: str) -> None:
    change(work, "suites/smoke.yaml", "seeds: [0, 1]", f"seeds: [{number}]")
    with pytest.raises(ConfigError, match=rf"smoke\.yaml: line \d+: {number} is not accepted as a number; write it"):
        Grid(work, "smoke")


@pytest.mark.parametrize("name", ["id", "label", "type", "keys", "a.b", "a/b", "A", "split"])
def test_names_of_modalities_that_break_later_are_refused(name: str) -> None:
    raw = yaml.safe_load((ROOT / "params/datasets/tcga_brca.yaml").read_text())
    raw["modalities"] = {name: {"kind": "vector", "shape": [2]}, "other": {"kind": "vector", "shape": [2]}}
    with pytest.raises(ConfigError, match=r"x: modalities\..*(is in use for something else|should match pattern)"):
        validate(Dataset, raw, "x")


def test_every_name_that_torch_has_is_taken() -> None:
    names = [n for n in dir(nn.ModuleDict()) if n.islower() and not n.startswith("_")]
    # another library may have given it more
    names = [n for n in names if getattr(getattr(nn.ModuleDict, n, None), "__module__", "torch").startswith("torch")]
    assert len(names) > 40
    assert [n for n in names if not TAKEN.fullmatch(n)] == []


def test_a_kind_of_modality_without_an_encoder_is_refused(work: Path) -> None:
    raw = yaml.safe_load((work / "params/datasets/tcga_brca.yaml").read_text())
    raw["modalities"]["report"] = {"kind": "text", "shape": []}
    (work / "params/datasets/tcga_brca.yaml").write_text(yaml.safe_dump(raw))
    text = "\n".join(told(work))
    assert "model.text: required, as modality 'report' of dataset 'tcga_brca' is of kind text; give its encoder" in text


def test_check_refuses_what_the_plan_refuses(work: Path) -> None:
    change(work, "datasets/tcga_brca.yaml", "reader: table", "reader: tabel")
    environment = os.environ | {"PYTHONPATH": str(ROOT / "src")}
    words = [sys.executable, "-m", "mmcontrast", "check", "--suite", "smoke"]
    done = subprocess.run(words, cwd=work, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "tcga_brca.yaml: no module in mmcontrast.data.prepare reads 'tabel'" in done.stderr
    assert "did you mean 'table'?" in done.stderr


def test_a_fault_elsewhere_keeps_no_dataset_from_being_fetched(work: Path) -> None:
    change(work, "methods/comm.yaml", "implementation:", "implementatoin:")
    code = "from mmcontrast.pipeline.plan import plan_data; plan_data('tcga_brca')"
    environment = os.environ | {"PYTHONPATH": str(ROOT / "src")}
    subprocess.run([sys.executable, "-c", code], cwd=work, env=environment, check=True)
    assert (work / "plan/data/tcga_brca.prepare.json").exists()
