"""What the package needs is pinned, and using it tells nobody anything."""

from __future__ import annotations

import configparser
import json
import os
import re
import subprocess
import sys
import tomllib
from importlib import metadata
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from tests.grids import grid_of
from workflow.envs import licences

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]

# run before anything else is imported: any attempt to reach another machine ends the process
NO_NETWORK = """
import socket
def refuse(*args, **kwargs):
    raise SystemExit(f"network: {args}")
socket.socket.connect = socket.socket.connect_ex = refuse
socket.getaddrinfo = socket.create_connection = refuse
"""


LOCKS = {name: (ROOT / f"locks/{name}.txt").read_text() for name in ("base", "all", "slurm", "cuda", "uv")}


def locked(name: str) -> dict[str, Version]:
    found = re.findall(r"^([A-Za-z0-9._-]+)==([^\s;]+)", LOCKS[name], re.MULTILINE)
    return {canonicalize_name(package): Version(version) for package, version in found}


def pinned() -> dict[str, Version]:
    return locked("all") | locked("slurm") | locked("cuda")


def required() -> list[Requirement]:
    of, names = PROJECT["optional-dependencies"], ["dev"]
    for r in of["dev"]:
        names += re.fullmatch(r"mmcontrast\[(.*)\]", r)[1].split(",") if r.startswith("mmcontrast[") else []
    extras = [r for name in names for r in of[name] if not r.startswith("mmcontrast[")]
    return [Requirement(r) for r in [*PROJECT["dependencies"], *extras]]


@pytest.mark.parametrize("requirement", required(), ids=str)
def test_every_dependency_has_an_exact_version(requirement: Requirement) -> None:
    assert requirement.specifier.contains(pinned()[canonicalize_name(requirement.name)])


def test_what_a_run_needs_is_in_one_version_everywhere_and_without_cuda() -> None:
    base, everything, cluster = locked("base"), locked("all"), locked("slurm")
    assert base.items() <= everything.items() & cluster.items()
    assert not (everything | cluster).keys() & locked("cuda").keys()
    wanted = {canonicalize_name(Requirement(line).name) for line in PROJECT["dependencies"]}
    assert wanted <= base.keys() | {"torch"}


def test_no_start_of_snakemake_in_the_tests_imports_pandas() -> None:
    """The cluster's plugin does, a second of each of the tests' hundred starts and jobs; so it is apart."""
    assert "pandas" in locked("slurm")
    assert "pandas" not in locked("all")


@pytest.mark.parametrize("name", LOCKS)
def test_every_package_of_a_lock_has_hashes(name: str) -> None:
    blocks = re.split(r"^(?=[a-zA-Z])", LOCKS[name], flags=re.MULTILINE)[1:]
    assert len(blocks) > (0 if name == "uv" else 10)
    assert [block.split()[0] for block in blocks if "--hash=sha256:" not in block] == []


@pytest.mark.parametrize("python", ["/nonexistent/python3", sys.executable + "-of-another-version"])
def test_a_python_that_does_not_start_is_an_error(python: str, tmp_path: Path) -> None:
    command = [str(ROOT / "workflow/envs/install.sh"), str(tmp_path / "venv"), "base", "cpu"]
    done = subprocess.run(
        command, env={**os.environ, "PYTHON": python}, text=True, capture_output=True, check=False, timeout=60
    )
    assert done.returncode != 0
    assert f"env: PYTHON={python}: no Python of 3.11 to 3.14 with venv and ensurepip" in done.stderr
    assert not (tmp_path / "venv").exists()


@pytest.mark.parametrize(
    ("has_it", "asked", "told"),
    [
        ("pip", [], "for the CPU"),
        ("uv", ["uv"], "for the CPU"),
        ("", ["uv", "locks/cuda.txt"], "PyTorch's own index cannot be used: torch=="),
    ],
)
def test_torch_for_the_cpu_is_looked_for_in_three_places(
    has_it: str, asked: list[str], told: str, tmp_path: Path
) -> None:
    """Where pip is told to look; PyTorch's own index, by uv; and the registry's build, of which the size is said."""
    log = tmp_path / "asked"
    for name, rest in {"venv/bin/python": "", "uv": 'case "$*" in *--help*) echo --torch-backend ;; esac'}.items():
        program = tmp_path / name
        program.parent.mkdir(parents=True, exist_ok=True)
        fails = "" if has_it == {"uv": "uv"}.get(name, "pip") else 'case "$*" in *+cpu) exit 1 ;; esac'
        program.write_text(f"#!/bin/sh\necho {name} $* >>{log}\n{rest}\n{fails}\n")
        program.chmod(0o755)
    env = {key: value for key, value in os.environ.items() if key != "TORCH_INDEX"}
    command = [str(ROOT / "workflow/envs/install.sh"), str(tmp_path / "venv"), "base", "cpu"]
    done = subprocess.run(
        command,
        env=env | {"PATH": f"{tmp_path}:{env['PATH']}"},
        text=True,
        capture_output=True,
        check=True,
        timeout=60,
    )
    lines = log.read_text().splitlines()
    assert any(line.endswith("locks/cuda.txt") for line in lines) == ("locks/cuda.txt" in asked)
    assert any(line.endswith("+cpu") and "--torch-backend cpu" in line for line in lines) == ("uv" in asked)
    assert told in done.stdout
    assert (tmp_path / "venv/.base-cpu").exists()


@pytest.mark.slow
def test_imports_and_params_need_no_network() -> None:
    code = f"""
{NO_NETWORK}
import importlib, pkgutil, warnings
warnings.simplefilter("ignore")
import mmcontrast
for module in pkgutil.walk_packages(mmcontrast.__path__, "mmcontrast."):
    if module.name != "mmcontrast.__main__":
        importlib.import_module(module.name)
from mmcontrast.config import Grid
print(len(Grid().cells))
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, text=True, capture_output=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert int(done.stdout.split()[-1]) > 0


def test_dvc_reports_nothing_and_looks_for_no_update() -> None:
    config = configparser.ConfigParser()
    config.read(ROOT / ".dvc/config")
    assert not config.getboolean("core", "analytics")
    assert not config.getboolean("core", "check_update")


def test_the_page_of_licences_names_every_dataset_and_package() -> None:
    page = (ROOT / licences.FILE).read_text()
    for name, dataset in grid_of().datasets.items():
        assert f"(`{name}`) | {dataset.licence} |" in page
    for name, version in licences.pins(ROOT):
        row = next(line for line in page.splitlines() if line.startswith(f"| {name} | {version} |"))
        assert licences.NOT_GIVEN not in row, row
        assert "not installed" not in row, row


def test_the_bill_of_materials_has_every_package_with_checksums_and_licence(tmp_path: Path) -> None:
    files = [tmp_path / "one/sbom.json", tmp_path / "other.json"]
    for file in files:
        told = subprocess.run(
            [sys.executable, "workflow/envs/sbom.py", file], cwd=ROOT, text=True, capture_output=True, check=True
        ).stdout
        assert str(file) in told
    assert files[0].read_bytes() == files[1].read_bytes()
    bill = json.loads(files[0].read_text())
    assert (bill["bomFormat"], bill["specVersion"]) == ("CycloneDX", "1.6")
    assert bill["metadata"]["component"]["version"] == PROJECT["version"]
    found = {(canonicalize_name(c["name"]), Version(c["version"])): c for c in bill["components"]}
    assert found.keys() >= pinned().items()
    for name, lock in LOCKS.items():
        of_lock = [c for c in found.values() if name in c["properties"][0]["value"].split(", ")]
        assert {h["content"] for c in of_lock for h in c["hashes"]} >= set(re.findall("sha256:([0-9a-f]{64})", lock))
    installed = {canonicalize_name(d.name) for d in metadata.distributions()}
    assert [c["name"] for (name, _), c in found.items() if name in installed and "licenses" not in c] == []
    assert bill["dependencies"][0]["dependsOn"] == [c["bom-ref"] for c in bill["components"]]


def test_the_conda_environment_of_the_rules_is_the_projects() -> None:
    """What `dependencies` asks for, in the versions of locks/."""
    environment = yaml.safe_load((ROOT / "workflow/envs/mmcontrast.yaml").read_text())
    (lines,) = (part["pip"] for part in environment["dependencies"] if isinstance(part, dict))
    found = {canonicalize_name(line.split("==")[0]): Version(line.split("==")[1]) for line in lines}
    wanted = {canonicalize_name(Requirement(line).name) for line in PROJECT["dependencies"]}
    assert found == {name: version for name, version in pinned().items() if name in wanted}
