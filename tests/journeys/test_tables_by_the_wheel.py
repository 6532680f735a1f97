"""The wheel in an environment of its own, outside any checkout: three csv files -> trained, compared, reported, and new
rows embedded and predicted."""

from __future__ import annotations

import os
import shutil
import site
import subprocess
import sys
import venv
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from tests.journeys.conftest import ROOT, Journey

SOURCE = ("src", "params", "workflow")
NEW = [f"p{i}" for i in range(10, 20)]


def environment(folder: Path) -> dict[str, str]:
    """One with the wheel, and with what the package depends on taken from the environment of the tests."""
    for name in SOURCE:
        shutil.copytree(ROOT / name, folder / "source" / name, symlinks=True)
    for file in ("pyproject.toml", "README.md", "LICENSE", "Snakefile"):
        shutil.copy(ROOT / file, folder / "source")
    build = ["-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "-q", "-w", str(folder), "."]
    subprocess.run([sys.executable, *build], cwd=folder / "source", check=True)
    shutil.rmtree(folder / "source")
    venv.create(folder / "env", with_pip=False)
    packages = next((folder / "env/lib").glob("python*/site-packages"))
    (wheel,) = folder.glob("mmcontrast-*.whl")
    install = ["-m", "pip", "install", "-q", "--no-deps", "--no-index", "--target", str(packages), str(wheel)]
    subprocess.run([sys.executable, *install], check=True)
    (packages / "shared.pth").write_text("\n".join(site.getsitepackages()))
    path = {"PATH": f"{folder}/env/bin:{os.environ['PATH']}", "HOME": str(folder), "OMP_NUM_THREADS": "1"}
    return path | {"PYTHONPATH": str(packages)}


@pytest.mark.exhaustive
def test_tables_by_the_wheel(tmp_path: Path, capsys: pytest.CaptureFixture[str], table_of: Any) -> None:
    (tmp_path / "outside").mkdir()
    journey = Journey(tmp_path / "outside", environment(tmp_path))
    rng, n = np.random.default_rng(0), 100
    y = np.arange(n) % 2
    code = rng.normal(size=(2, 4))[y] + rng.normal(size=(n, 4))
    names = {"person": [f"p{i}" for i in range(n)]}
    for table, width in (("mrna", 12), ("mirna", 7)):
        values = (code @ rng.normal(size=(4, width)) + rng.normal(size=(n, width))).round(4)
        columns = {f"{table}{j}": values[:, j] for j in range(width)}
        pl.DataFrame(names | columns).sample(fraction=1, shuffle=True, seed=1).write_csv(
            journey.folder / f"files/{table}.csv", separator=";" if table == "mirna" else ","
        )
    state = [["well", "ill"][k] for k in y]
    pl.DataFrame(names | {"state": state}).write_csv(journey.folder / "files/people.csv")
    journey("mmcontrast", "init", "work")
    journey.enter("work")
    files = [f"../files/{name}.csv" for name in ("people", "mrna", "mirna")]
    said = journey("mmcontrast", "new", "dataset", "people", *files, "--label", "state")
    assert "id: column 'person'; the instances are those of people" in said
    journey("snakemake", "--cores", "1", "--config", "suite=people")
    assert "| Concatenation (labels) |" in table_of(journey, "people")
    assert str(ROOT) not in journey.said
    # rows as a new file has them; these were trained on, so that it is known what to expect
    for table in ("mrna", "mirna"):
        old = pl.read_csv(journey.folder.parent / f"files/{table}.csv", separator=";" if table == "mirna" else ",")
        old.filter(pl.col("person").is_in(NEW)).write_csv(journey.folder / f"{table}.csv", separator=";")
    given, select = ("mrna.csv", "mirna.csv", "--id", "person"), ("--suite", "people")
    journey("mmcontrast", "embed", "people/comm/shared", *given, "-o", "z.parquet", *select)
    stage = journey.folder / "build/people/runs/people/comm/shared/pretrain/embeddings.parquet"
    stored, found = (pl.read_parquet(f).sort("id") for f in (stage, journey.folder / "z.parquet"))
    stored = stored.filter(pl.col("id").is_in(NEW), seed=0)
    assert found["id"].to_list() == stored["id"].to_list() == sorted(NEW)
    np.testing.assert_allclose(found["embedding"].to_numpy(), stored["embedding"].to_numpy(), rtol=0, atol=1e-6)
    for cell in ("people/concat/base", "people/comm/shared"):  # by a classifier, and by the probe that scores it
        journey("mmcontrast", "predict", cell, *given, "-o", "p.csv", *select)
        predicted = dict(pl.read_csv(journey.folder / "p.csv").select("id", "predicted").iter_rows())
        assert sum(predicted[person] == state[int(person[1:])] for person in NEW) > len(NEW) / 2
    with capsys.disabled():
        print(f"\ntest_tables_by_the_wheel: {journey.cost()}")
