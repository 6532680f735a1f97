"""How far a run is: costs that were measured, the line that lives, and what Snakemake's events become."""

from __future__ import annotations

import io
import json
import logging
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from mmcontrast import progress
from mmcontrast.cli import EpochPrinter
from mmcontrast.data.files import sha256_of
from mmcontrast.paths import Layout
from mmcontrast.progress import Watch, job_of
from snakemake_logger_plugin_mmcontrast import LogHandler

LOG = "synthetic/m3col/base: seed 7 (2 of 3) epoch 14/30 loss=0.1"


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


@pytest.fixture
def suite(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Layout:
    """A folder with a plan of two cells, the journal of an earlier run, and the result of one cell."""
    monkeypatch.chdir(tmp_path)
    layout = Layout()
    journal = [
        {"command": ["finetune", "synthetic/m3col/base"], "seconds": 90.0},
        {"command": ["finetune", "synthetic/m3col/base"], "seconds": 100.0},
        {"command": ["data", "prepare", "synthetic"], "seconds": 7.0},
        {"command": ["finetune", "emoji/clip/base", "--suite", "default"], "seconds": 400.0},
    ]
    put(layout.journal, "\n".join(map(json.dumps, journal)))
    for cell in ("synthetic/m3col/base", "synthetic/concat/base"):
        for stage in ("finetune", "evaluate"):
            put(Path(layout.cell_plan(cell, stage)), f"{cell} {stage}")
    done = sha256_of(Path(layout.cell_plan("synthetic/m3col/base", "finetune")))
    put(Path(layout.stage("synthetic/m3col/base", "finetune", "cost.json")), json.dumps({"plan": done}))
    return layout


def put(file: Path, text: str) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)


@pytest.mark.parametrize(
    ("job", "seconds"),
    [
        (("finetune", "synthetic/m3col/base"), 100.0),  # its own, the last
        (("prepare", "synthetic"), 7.0),
        (("finetune", "synthetic/concat/base"), 100.0),  # its stage on its dataset
        (("finetune", "handwritten/concat/base"), 250.0),  # its stage
        (("pretrain", "synthetic/m3col/base"), None),
    ],
)
def test_what_a_job_is_expected_to_take(suite: Layout, job: progress.Job, seconds: float | None) -> None:
    assert progress.Costs(suite.journal).expected(job) == seconds


def test_a_cell_is_untrained_until_it_has_the_result_of_its_plan(suite: Layout) -> None:
    assert progress.untrained(suite) == [("finetune", "synthetic/concat/base")]
    put(Path(suite.cell_plan("synthetic/m3col/base", "finetune")), "another")
    assert progress.untrained(suite) == [("finetune", f"synthetic/{m}/base") for m in ("concat", "m3col")]


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (10, "less than a minute left"),
        (60, "about 1 min left"),
        (1270, "about 21 min left"),
        (4000, "about 1 h 7 min left"),
    ],
)
def test_time_left_in_words(seconds: float, words: str) -> None:
    assert progress.about(seconds) == words


def test_what_a_training_job_prints_is_read_back(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The one format that two parts of the program share."""
    log = tmp_path / "a.log"
    assert progress.standing(log) == ("", 0.0)
    cell = SimpleNamespace(name="synthetic/m3col/base", seeds=[5, 7, 9])
    EpochPrinter("finetune", cell, Layout())(7, 29, 30, {"loss": 0.5})  # type: ignore[arg-type]
    log.write_text("x" * progress.TAIL + "\n" + capsys.readouterr().out)
    assert progress.standing(log) == ("seed 2/3 epoch 30/30", pytest.approx(60 / 90))


def test_the_line_of_a_job_that_dvc_runs(suite: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    """The one of two cells that has no result, half done after no time."""
    monkeypatch.setenv("DVC_STAGE", "finetune@synthetic/concat/base")
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.setattr(sys, "stderr", screen := Terminal())
    cell = SimpleNamespace(name="synthetic/concat/base", seeds=[0])
    EpochPrinter("finetune", cell, suite)(0, 14, 30, {"loss": 0.5})  # type: ignore[arg-type]
    line = "1/2 cells · less than a minute left · synthetic/concat seed 1/1 epoch 15/30 · loss 0.5000"
    assert screen.getvalue() == f"\r\x1b[2K{line}"


def test_a_line_lives_on_a_terminal_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "11")
    terminal, file = progress.Screen(Terminal()), progress.Screen(io.StringIO())
    for screen in (terminal, file):
        screen.show("a line of many letters")
        screen.say("said")
    assert terminal.stream.getvalue() == "\r\x1b[2Ka line of…\r\x1b[2Ksaid\na line of…"
    assert file.stream.getvalue() == "said\n"


def handler(**settings: Any) -> LogHandler:
    asked = dict.fromkeys(("dryrun", "verbose", "printshellcmds", "debug_dag", "stdout"), False)
    return LogHandler(SimpleNamespace(**asked | settings), None)  # type: ignore[arg-type]


def events(to: LogHandler, *records: dict[str, Any]) -> None:
    """Records as Snakemake makes them."""
    for fields in records:
        record = logging.LogRecord("snakemake", logging.INFO, "", 0, fields.pop("text", None), None, None)
        record.__dict__.update(fields)
        to.emit(record)


STATS = {"event": "run_info", "stats": {"finetune": 2, "page": 1, "reproduce": 1, "total": 4}}


def started(jobid: int, cell: str) -> dict[str, Any]:
    log = [f"logs/finetune/{cell}.log"]
    return {"event": "job_info", "jobid": jobid, "rule_name": "finetune", "wildcards": {"cell": cell}, "log": log}


def test_a_run_on_a_terminal(suite: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", screen := Terminal())
    monkeypatch.setenv("COLUMNS", "120")
    put(Path("logs/finetune/synthetic/m3col/base.log"), LOG)
    terminal = handler()
    events(terminal, STATS.copy(), started(1, "synthetic/m3col/base"), started(2, "synthetic/concat/base"))
    assert terminal.terminal.watch.line().startswith("0/3 steps · ")
    assert terminal.terminal.watch.line().endswith("left · synthetic/m3col seed 2/3 epoch 14/30 · synthetic/concat")
    put(Path("logs/finetune/synthetic/concat/base.log"), "a line\nerror: the loss is not finite\n")
    events(terminal, {"event": "job_finished", "job_id": 1}, {"event": "job_error", "jobid": 2})
    terminal.close()
    log = "logs/finetune/synthetic/concat/base.log"
    failed = f"finetune synthetic/concat/base failed: the loss is not finite ({log})"
    lines = [line.rpartition("\x1b[2K")[2] for line in screen.getvalue().split("\n")]
    assert lines == [failed, "1/3 steps · less than a minute left", ""]


def test_a_run_without_a_terminal(suite: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    """One line for every job, and what Snakemake has to say, without what it says to everyone or what a cause says."""
    monkeypatch.setattr(sys, "stderr", screen := io.StringIO())
    plain = handler()
    events(plain, {"text": "Building DAG of jobs..."}, {"text": "Nothing to be done (all is up to date)."})
    events(plain, STATS.copy(), started(1, "synthetic/m3col/base"), {"event": "job_finished", "job_id": 1})
    events(plain, {"event": "error", "text": "WorkflowError: params/suites/x.yaml: no such key"})
    events(plain, {"event": "error", "text": "RuleException:\nCalledProcessError in file data.smk, line 15:"})
    plain.close()
    assert screen.getvalue().splitlines() == [
        "Nothing to be done (all is up to date).",
        "1/3 steps · less than a minute left · finetune synthetic/m3col/base: 0 s",
        "WorkflowError: params/suites/x.yaml: no such key",
    ]


def test_time_left_is_that_of_what_runs_and_of_what_waits(suite: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    """100 s for each of two cells as measured before, on one core and on two; unknown where nothing was measured."""
    watch = Watch()
    watch.waiting = {"finetune": 2}
    watch.start(1, "finetune", {"cell": "synthetic/m3col/base"}, ["logs/finetune/synthetic/m3col/base.log"])
    assert watch.left() == pytest.approx(200.0, abs=5)
    watch.cores = 2
    assert watch.left() == pytest.approx(100.0, abs=5)
    watch.costs.seconds.clear()
    assert watch.left() is None


def test_the_suite_is_known_by_its_logs(suite: Layout) -> None:
    watch = Watch()
    watch.start(1, "evaluate", {"cell": "a/b/c"}, ["build/smoke+emoji/logs/evaluate/a/b/c.log"])
    assert watch.layout is not None
    assert watch.layout.select == " --suite smoke --datasets emoji"


def test_jobs_have_the_names_of_the_journal() -> None:
    assert job_of("experiment_matrix", {}) == ("report", "matrix")
    assert job_of("results", {}) == ("report", "results")
    assert job_of("fetch", {"dataset": "emoji"}) == ("fetch", "emoji")


@pytest.mark.parametrize("asked", ["dryrun", "verbose", "printshellcmds"])
def test_who_asks_for_more_gets_snakemakes_own_lines(asked: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", screen := io.StringIO())
    own = handler(**{asked: True})
    events(own, {"text": "said"})
    assert not own.writes_to_stream
    assert screen.getvalue() == ""


def test_snakemake_takes_the_plugin(root: Path) -> None:
    """Every snakemake imports it, so that an error in it would break them all; torch must not come with it."""
    code = (
        "import sys; from snakemake_interface_logger_plugins.registry import LoggerPluginRegistry; "
        "found = LoggerPluginRegistry(); found.collect_plugins(); found.get_plugin('mmcontrast'); "
        "assert not {'torch', 'polars', 'numpy'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=root, timeout=300)


def test_the_cause_of_an_error_of_several_lines_is_its_first(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text("epoch 1\nerror: x could not be fetched:\n  - pip: no network\nAccepted is a file with sha256 1.\n")
    assert progress.cause(log) == "x could not be fetched: pip: no network"
    log.write_text("Traceback\nValueError: error: 3\n")
    assert progress.cause(log) == "ValueError: error: 3"
