"""What an edit of params/ or of code makes stale: before a run, during one, and after a kill."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from pathlib import Path

import psutil
import pytest
from polars.testing import assert_frame_equal

from tests.pipeline.conftest import M3COL_AND_CONCAT, Checkout
from tests.pipeline.test_engines import BETA, M3COL_ONLY, results

ROOT = Path(__file__).parents[2]
SRC = "src/mmcontrast"
pytestmark = pytest.mark.slow
LOCKED = ["cannot be locked", "--unlock"]


def trained(commands: list[str]) -> list[str]:
    return [c for c in commands if c.startswith(("pretrain", "finetune"))]


def edit(checkout: Checkout, file: str, line: str = "EDITED = True") -> None:
    path = checkout.root / SRC / file
    path.write_text(path.read_text() + f"{line}\n")


def test_an_edit_of_one_methods_file_retrains_that_method_alone(finished: Checkout) -> None:
    """Snakemake trains it, to the same bits; DVC is told, and has nothing to do."""
    finished.executed()
    before = results(finished)
    edit(finished, "methods/m3col/method.py", "# a comment")
    assert "; 0 files of the plan have changed" in finished.mmcontrast("plan")
    edit(finished, "methods/m3col/method.py")
    finished.snakemake()
    assert trained(finished.executed()) == trained(M3COL_ONLY)
    assert_frame_equal(results(finished), before)
    finished.assert_both_idle()
    edit(finished, "methods/baselines/supervised.py")
    finished("dvc", "repro")
    assert trained(finished.executed()) == ["finetune synthetic/concat/base"]
    finished.assert_both_idle()


def test_an_edit_concerns_those_that_run_the_code(template: Checkout, tmp_path: Path) -> None:
    """Of the default suite's cells: those that search, those with texts, none by a file of the report."""
    checkout = Checkout(tmp_path / "checkout")
    shutil.copytree(template.root, checkout.root)
    for folder in ("params/suites", "params/experiments"):
        shutil.rmtree(checkout.root / folder)
        shutil.copytree(ROOT / folder, checkout.root / folder)
    checkout.mmcontrast("plan")

    def stale() -> set[str]:
        lines = checkout.mmcontrast("plan").splitlines()
        return {
            Path(f).parent.relative_to("plan/cells").as_posix()
            for f in lines
            if f.endswith(("train.json", "tune.json"))
        }

    assert stale() == set()
    edit(checkout, "methods/tuple_infonce/search.py")
    assert stale() == {f"{d}/tuple_infonce/searched" for d in ("weak_modality", "handwritten")}
    edit(checkout, "data/tokens.py")
    of_texts = stale()
    assert of_texts
    assert {cell.split("/")[0] for cell in of_texts} == {"emoji"}
    edit(checkout, "report/page.py")
    edit(checkout, "pipeline/plan.py")
    assert stale() == set()


def test_an_edit_during_a_run_changes_the_next_one(checkout: Checkout, reproduced: Checkout) -> None:
    """What runs is what was planned, DVC seals nothing under values that did not make it, and no second run starts."""
    checkout.keep_cells(*M3COL_AND_CONCAT)
    undisturbed = results(reproduced).filter(variant="base")
    run = start(checkout)
    when(checkout, run, "data/prepared/synthetic/datasheet.json")
    checkout.edit(*BETA, value=30.0)
    # nor does anybody who looks on plan anew
    assert "Nothing to be done" not in checkout("snakemake", "-n", "--nolock", "--cores", "1", "reproduce")
    assert "is going on in this folder" in checkout.mmcontrast("plan", ok=False)
    second = checkout.snakemake(ok=False)
    assert all(word in second for word in LOCKED), second
    assert run.wait() == 0
    assert_frame_equal(results(checkout), undisturbed)
    assert "have changed since this run was planned" in (checkout.root / "logs/dvc.log").read_text()
    assert not (checkout.root / "dvc.lock").exists()
    checkout.executed()

    checkout.snakemake()
    assert checkout.executed() == [command for command in M3COL_ONLY if "pretrained" not in command]
    assert not results(checkout).equals(undisturbed)
    checkout.assert_both_idle()


def start(checkout: Checkout) -> psutil.Popen:
    return psutil.Popen(
        ["snakemake", "--cores", "2", "reproduce"],
        cwd=checkout.root,
        env=checkout.env,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def when(checkout: Checkout, run: psutil.Popen, file: str, timeout: float = 600) -> None:
    """Wait until a file is there."""
    end = time.monotonic() + timeout
    while not (checkout.root / file).exists():
        assert run.poll() is None, f"ended before {file} was there\n{checkout.logs()}"
        assert time.monotonic() < end, f"{file} never came\n{checkout.logs()}"
        time.sleep(0.01)


@pytest.mark.exhaustive
def test_killed_while_it_tells_dvc_the_same_command_makes_it_good(checkout: Checkout) -> None:
    checkout.keep_cells("concat/base")
    checkout.kill_when(".state/dvc_times.json")
    assert not (checkout.root / ".state/dvc.json").exists()
    assert "report page" in checkout.executed()
    told = checkout.snakemake(ok=False)
    assert all(word in told for word in LOCKED), told
    checkout("snakemake", "--unlock")
    checkout.snakemake()
    assert checkout.executed() == []
    checkout.assert_both_idle()


def test_another_checkouts_package_is_refused(checkout: Checkout) -> None:
    """Both paths are named; the Snakefile and dvc.yaml run their own."""
    env = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    command = ["python", "-m", "mmcontrast", "check"]
    done = subprocess.run(command, cwd=checkout.root, env=env, text=True, capture_output=True, check=False)
    assert done.returncode == 1
    assert str(ROOT / "src/mmcontrast") in done.stderr
    assert str(checkout.root / "src/mmcontrast") in done.stderr
    assert "PYTHONPATH=src python -m mmcontrast" in done.stderr
    assert "in order" in checkout.mmcontrast("check")


def test_an_experiment_in_a_folder_of_its_own_runs_its_own_code_and_params(finished: Checkout) -> None:
    """`dvc exp run --temp`: the code of the checkout, not the package of the environment; the workspace stays."""
    file = finished.root / SRC / "methods/baselines/supervised.py"
    file.write_text(file.read_text() + '\nprint("the checkout\'s own code")\n')
    finished.commit("a change of the code")
    finished.executed()
    before = results(finished)
    change = "params/methods/concat.yaml:objective.beta=20.0"
    text = finished("dvc", "exp", "run", "--temp", "-S", change, "-n", "elsewhere")
    assert "the checkout's own code" in text
    assert finished.executed() == []
    assert_frame_equal(results(finished), before)
    finished("dvc", "exp", "apply", "elsewhere")
    after = results(finished)
    assert not after.filter(method="concat").equals(before.filter(method="concat"))
    assert_frame_equal(after.filter(method="m3col"), before.filter(method="m3col"))
