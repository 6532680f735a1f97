"""The profile for Slurm, on a Slurm of one machine: Debian's own packages, without systemd and without accounts."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import polars as pl
import pytest

from tests.pipeline.conftest import Checkout

pytestmark = [pytest.mark.slow, pytest.mark.exhaustive]

# the one place where its programs look; SLURM_CONF does not reach the steps of a job
CONF = Path("/etc/slurm/slurm.conf")
FOLDER = Path("/run/mmcontrast-slurm")  # a socket's path is short
SETTINGS = """
ClusterName=one
SlurmctldHost={host}(127.0.0.1)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
CryptoType=crypto/munge
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
JobAcctGatherType=jobacct_gather/linux
AccountingStorageType=accounting_storage/none
MpiDefault=none
ReturnToService=2
MinJobAge=300
NodeName={host} NodeAddr=127.0.0.1 CPUs=2 RealMemory=8000 State=UNKNOWN
PartitionName=main Nodes={host} Default=YES MaxTime=INFINITE State=UP
"""


@pytest.fixture(scope="module")
def slurm() -> Iterator[None]:
    """Munge and both daemons, for as long as the module's tests run; skips where they cannot be."""
    if find_spec("snakemake_executor_plugin_slurm") is None:
        pytest.skip("the extra slurm is not installed; `make env-slurm` installs it")
    missing = [name for name in ("munged", "slurmctld", "slurmd", "sbatch") if shutil.which(name) is None]
    if missing:
        pytest.skip(f"of Slurm's programs, {missing} are missing (Debian: slurmctld, slurmd, slurm-client, munge)")
    if os.geteuid() != 0:
        pytest.skip("the daemons of Slurm are started as root")
    if CONF.exists() and str(FOLDER) not in CONF.read_text():
        pytest.skip(f"{CONF} is of a Slurm that is in use")
    shutil.rmtree(FOLDER, ignore_errors=True)
    (FOLDER / "state").mkdir(parents=True)
    (FOLDER / "key").write_bytes(os.urandom(1024))
    (FOLDER / "key").chmod(0o600)
    CONF.write_text(SETTINGS.format(host=socket.gethostname().split(".")[0], folder=FOLDER))
    parts = {"key-file": "key", "socket": "munge.socket", "pid-file": "munged.pid", "seed-file": "seed"}
    munge = [f"--{option}={FOLDER}/{file}" for option, file in parts.items()]
    try:
        for command in (["munged", "--force", f"--log-file={FOLDER}/munged.log", *munge], ["slurmctld"], ["slurmd"]):
            subprocess.run(command, check=True, timeout=60)
        end = time.monotonic() + 120
        while said("sinfo", "-h", "-o", "%t").strip() != "idle":
            assert time.monotonic() < end, (FOLDER / "slurmctld.log").read_text()[-2000:]
            time.sleep(1)
        yield
        subprocess.run(["scancel", "--user", "root"], check=True)
    finally:
        for name in ("slurmd", "slurmctld", "munged"):
            if (file := FOLDER / f"{name}.pid").exists():
                os.kill(int(file.read_text()), signal.SIGTERM)
        CONF.unlink()


def said(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def test_a_cancelled_cell_is_tried_again_and_the_scores_are_those_of_one_machine(
    slurm: None, checkout: Checkout, tmp_path: Path
) -> None:
    """Two cells of one stage each, both scored in one job; a training job is cancelled as soon as it runs."""
    cells = [f"runs/synthetic/{method}/base/metrics.parquet" for method in ("m3col", "concat")]
    # no accounts here, hence squeue; and as little waiting as can be
    options = {"slurm-status-command": "squeue", "seconds-between-status-checks": "5"}
    options |= {"slurm-init-seconds-before-status-checks": "5", "latency-wait": "10"}
    command = ["snakemake", *cells, "--workflow-profile", "profiles/slurm"]
    command += [word for name, value in options.items() for word in (f"--{name}", value)]
    shutil.copytree(checkout.root, tmp_path / "local", symlinks=True)
    jobs: dict[str, str] = {}  # id -> what Snakemake calls it
    cancelled = ""
    with (checkout.root / "printed.txt").open("w") as printed:
        run = subprocess.Popen(command, cwd=checkout.root, env=checkout.env, stdout=printed, stderr=printed)
        try:
            end = time.monotonic() + 1200
            while run.poll() is None and time.monotonic() < end:
                running = dict(line.split("|", 1) for line in said("squeue", "-ht", "R", "-o", "%i|%k").splitlines())
                jobs |= running
                training = [job for job, rule in running.items() if "finetune" in rule]
                if training and not cancelled:
                    cancelled = training[0]
                    said("scancel", cancelled)
                time.sleep(1)
        finally:
            run.kill()  # it waits for ever where it cannot learn what became of a job
            run.wait()
    told = (checkout.root / "printed.txt").read_text()
    assert run.returncode == 0, f"{told}\n{checkout.logs()}"
    rules = [rule for job, rule in jobs.items() if job != cancelled]
    assert (len(rules), sum("finetune" in rule for rule in rules)) == (4, 2), rules
    local = Checkout(tmp_path / "local")
    local("snakemake", "--cores", "2", *cells)
    for cell in cells:
        assert pl.read_parquet(checkout.root / cell).equals(pl.read_parquet(local.root / cell))
