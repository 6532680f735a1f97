"""The profile for Slurm, on a Slurm of one machine: Debian's own packages, without systemd and without accounts."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from tests.pipeline.conftest import Checkout

pytestmark = pytest.mark.slow

# the one place where its programs look; SLURM_CONF does not reach the steps of a job
CONF = Path("/etc/slurm/slurm.conf")
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
    missing = [name for name in ("munged", "slurmctld", "slurmd", "sbatch") if shutil.which(name) is None]
    if missing or os.geteuid() != 0 or CONF.exists():
        pytest.skip(f"needs root, Slurm's programs (missing: {missing}) and no {CONF} of another")
    pytest.importorskip("snakemake_executor_plugin_slurm")
    folder = Path("/run/mmcontrast-slurm")  # a socket's path is short
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "state").mkdir(parents=True)
    (folder / "key").write_bytes(os.urandom(1024))
    (folder / "key").chmod(0o600)
    CONF.write_text(SETTINGS.format(host=socket.gethostname().split(".")[0], folder=folder))
    parts = {
        "key-file": "key",
        "socket": "munge.socket",
        "pid-file": "munged.pid",
        "seed-file": "seed",
        "log-file": "log",
    }
    try:
        munge = ["munged", "--force", *(f"--{option}={folder}/{file}" for option, file in parts.items())]
        for command in (munge, ["slurmctld"], ["slurmd"]):
            subprocess.run(command, check=True, timeout=60)
        waiting = time.monotonic() + 120
        while "idle" not in subprocess.run(["sinfo", "-h", "-o", "%t"], capture_output=True, text=True).stdout:
            assert time.monotonic() < waiting, (folder / "slurmctld.log").read_text()[-2000:]
            time.sleep(1)
        yield
    finally:
        for name in ("slurmd", "slurmctld", "munged"):
            if (file := folder / f"{name}.pid").exists():
                os.kill(int(file.read_text()), signal.SIGTERM)
        CONF.unlink()


def queue() -> dict[str, str]:
    """Jobs that run: id -> what Snakemake calls them."""
    shown = subprocess.run(["squeue", "-h", "-t", "R", "-o", "%i|%k"], capture_output=True, text=True, check=True)
    return dict(line.split("|", 1) for line in shown.stdout.splitlines())


def test_a_cancelled_cell_is_tried_again_and_the_scores_are_those_of_one_machine(
    slurm: None, checkout: Checkout, reproduced: Checkout
) -> None:
    """Two cells of one stage each and their scores; a training job is cancelled as soon as it runs."""
    cells = [f"runs/synthetic/{method}/base/metrics.parquet" for method in ("m3col", "concat")]
    # no accounts here, hence squeue; and as little waiting as can be
    options = {"slurm-status-command": "squeue", "seconds-between-status-checks": "5"}
    options |= {"slurm-init-seconds-before-status-checks": "5", "latency-wait": "10", "group-components": "scores=2"}
    command = ["snakemake", *cells, "--workflow-profile", "profiles/slurm"]
    command += [word for name, value in options.items() for word in (f"--{name}", value)]
    with (checkout.root / "printed.txt").open("w") as printed:
        run = subprocess.Popen(command, cwd=checkout.root, env=checkout.env, stdout=printed, stderr=printed)
        try:
            end, cancelled = time.monotonic() + 1200, ""
            while run.poll() is None:
                assert time.monotonic() < end, "did not end"
                for job, rule in queue().items():
                    if not cancelled and "finetune" in rule:
                        subprocess.run(["scancel", job], check=True)
                        cancelled = job
                time.sleep(1)
        finally:
            run.kill()  # it waits for ever where it cannot learn what became of a job
    told = (checkout.root / "printed.txt").read_text()
    assert run.returncode == 0, told
    assert cancelled
    assert "failed" in told
    assert "Trying to restart job" in told
    for cell in cells:
        assert_frame_equal(pl.read_parquet(checkout.root / cell), pl.read_parquet(reproduced.root / cell))
