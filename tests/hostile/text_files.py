"""JSON and YAML of the corpus."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from mmcontrast.data.fetch import Cache
from mmcontrast.data.files import write_json
from tests.hostile.corpus import Crafted

BAD_JSON = {
    "a list": b"[]",
    "a number": b"1",
    "null": b"null",
    "nested lists": b"[" * 200_000,
    "nested mappings": b'{"a":' * 200_000,
    "not UTF-8": b'{"files": "\xff"}',
    "UTF-16": '{"files": {}}'.encode("utf-16"),
    "NaN": b'{"files": NaN, "sources": []}',
    "infinity": b'{"seconds": Infinity}',
    "a NUL": b'{"files": {"a\x00": ""}}',
    "a key twice": b'{"files": {}, "files": {}, "sources": []}',
    "a number of many digits": b'{"files": ' + b"9" * 10_000 + b"}",
    "a comma too many": b'{"files": {},}',
    "a web page": b"<!doctype html>",
}


def crafted_manifests(raw: bytes) -> Crafted:
    manifest = json.loads(raw)
    (name, sha256), *_ = manifest["files"].items()

    def told(**over: Any) -> bytes:
        return json.dumps(manifest | over).encode()

    source = manifest["sources"][0]
    out = {
        **BAD_JSON,
        "files a list": told(files=[name]),
        "files a list of pairs": told(files=[[1, 2]]),
        "checksums numbers": told(files={name: 1}),
        "no files": told(files={}),
        "files that lead out": told(files={name: sha256, "../../evil": sha256}),
        "an absolute file": told(files={name: sha256, "/etc/passwd": sha256}),
        "a NUL in a name": told(files={name: sha256, "a\0b": sha256}),
        "sources a mapping": told(sources={"source": "x"}),
        "sources of words": told(sources=["source"]),
        "another source": told(sources=[source | {"source": "http://127.0.0.1:9/raw/other.csv"}]),
        "another checksum": told(sources=[source | {"sha256": "0" * 64}]),
        "pinned a word": told(sources=[source | {"pinned": "yes"}]),
        "no pinned": told(sources=[{k: v for k, v in source.items() if k != "pinned"}]),
        "a list as source": told(sources=[source | {"source": ["x"]}]),
    }
    return {what: (data, True) for what, data in out.items()}


def write_cost(folder: Path) -> Path:
    write_json(folder / "cost.json", {"seconds": 1.5, "seeds": 2})
    return folder / "cost.json"


def write_first_use(folder: Path) -> Path:
    cache = Cache(folder)
    cache.remember("toy", "0" * 64)
    return cache.record("toy")


def read_first_use(path: Path, out: Path) -> Any:
    return Cache(path.parents[1]).first_use("toy")


YAML = b"title: Toy\nrows: 3\nlist: [1, 2.5, x]\nnested: {a: {b: null}}\n"


def crafted_yaml(raw: bytes) -> Crafted:
    laughs = "\n".join(f"l{i}: &l{i} [{', '.join([f'*l{i - 1}' if i else 'x'] * 9)}]" for i in range(9))
    out = {
        "aliases of aliases": laughs.encode(),
        "an alias of itself": b"a: &x [*x]\n",
        "merged mappings": b"a: &x {b: 1}\nc: {<<: *x}\n",
        "nested lists": b"a: " + b"[" * 20_000,
        "nested mappings": b"a: " + b"{a: " * 20_000,
        "nested blocks": "".join(" " * i + "a:\n" for i in range(600)).encode(),
        "an object of Python": b"a: !!python/object/apply:os.system ['touch hostile-was-here']\n",
        "a name of Python": b"a: !!python/name:os.system\n",
        "an unknown tag": b"a: !thing 1\n",
        "not UTF-8": b"title: \xff\n",
        "UTF-16": "title: a\n".encode("utf-16"),
        "a NUL": b"title: a\x00b\n",
        "an escape": b"title: \x1b[2J\n",
        "a tab": b"a:\n\tb: 1\n",
        "a key twice": b"a: 1\na: 2\n",
        "a key twice, below": b"a: {b: 1, b: 2}\n",
        "a list as key": b"? [a, b]\n: 1\n",
        "a mapping as key": b"{a: 1}: 2\n",
        "NaN": b"a: .nan\n",
        "infinity": b"a: -.inf\n",
        "beyond float64": b"a: 1.0e+999\n",
        "no date": b"a: 2024-13-45\n",
        "no number": b"a: !!int x\n",
        "no boolean": b"a: !!bool x\n",
        "no date by its tag": b"a: !!timestamp x\n",
        "nested dashes": b"a: " + b"- " * 50_000 + b"\n",
        "nested questions": b"? " * 50_000 + b"\n",
        "a number of many digits": b"a: " + b"9" * 10_000 + b"\n",
        "two documents": b"a: 1\n---\nb: 2\n",
        "a list": b"- a\n",
        "a word": b"words\n",
        "comments alone": b"# nothing\n",
        "too large": b"a: " + b"x" * 300_000 + b"\n",
        "a bracket open": b"a: [1, 2\n",
    }
    return {name: (data, True) for name, data in out.items()}
