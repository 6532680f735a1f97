"""What the package needs is pinned, and using it tells nobody anything."""

from __future__ import annotations

import configparser
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from mmcontrast.config import Grid
from mmcontrast.pipeline import licences

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


def pinned() -> dict[str, Version]:
    lines = [line.split("#")[0].strip() for line in (ROOT / "constraints.txt").read_text().splitlines()]
    found = [re.fullmatch(r"([A-Za-z0-9._-]+)==([^=\s;]+)", line) for line in lines if line]
    assert all(found), "constraints.txt holds name==version lines alone"
    return {canonicalize_name(m[1]): Version(m[2]) for m in found if m}


def required() -> list[Requirement]:
    extras = PROJECT["optional-dependencies"]
    return [Requirement(r) for r in [*PROJECT["dependencies"], *extras["dev"], *extras["encoders"]]]


@pytest.mark.parametrize("requirement", required(), ids=str)
def test_every_dependency_has_an_exact_version(requirement: Requirement) -> None:
    assert requirement.specifier.contains(pinned()[canonicalize_name(requirement.name)])


def test_set_up_goes_by_the_pinned_versions() -> None:
    install = next(line for line in (ROOT / "Makefile").read_text().splitlines() if "pip install" in line)
    assert "-c constraints.txt" in install


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
    for name, dataset in Grid(ROOT).datasets.items():
        assert f"(`{name}`) | {dataset.licence} |" in page
    for name, version in licences.pins(ROOT):
        row = next(line for line in page.splitlines() if line.startswith(f"| {name} | {version} |"))
        assert licences.NOT_GIVEN not in row, row
        assert "not installed" not in row, row


def test_the_conda_environment_of_the_rules_is_the_projects() -> None:
    """What `dependencies` asks for, in the versions of constraints.txt."""
    environment = yaml.safe_load((ROOT / "workflow/envs/mmcontrast.yaml").read_text())
    (lines,) = (part["pip"] for part in environment["dependencies"] if isinstance(part, dict))
    found = {canonicalize_name(line.split("==")[0]): Version(line.split("==")[1]) for line in lines}
    wanted = {canonicalize_name(Requirement(line).name) for line in PROJECT["dependencies"]}
    assert found == {name: version for name, version in pinned().items() if name in wanted}
