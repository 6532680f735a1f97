"""All formats of the corpus: a small valid file of each, how it is read, and what is sent in its place."""

from __future__ import annotations

import pickle
import pickletools
from pathlib import Path

from mmcontrast.config import read_yaml
from mmcontrast.data.files import told_json
from mmcontrast.data.unpickle import read_pickle
from tests.hostile import parquet_files, pickle_files, raw_files, text_files
from tests.hostile.corpus import Format

FORMATS: dict[str, Format] = {
    "Parquet, prepared": Format(parquet_files.write_sealed_split, parquet_files.read_split),
    "Parquet, another table": Format(
        parquet_files.write_bare_split, parquet_files.read_split, parquet_files.crafted_splits, sealed=False
    ),
    "Parquet, predictions": Format(
        lambda f: parquet_files.write_outputs("predictions", f),
        lambda p, o: parquet_files.read_outputs("predictions", p, o),
        lambda raw: parquet_files.crafted_outputs("predictions", raw),
    ),
    "Parquet, embeddings": Format(
        lambda f: parquet_files.write_outputs("embeddings", f),
        lambda p, o: parquet_files.read_outputs("embeddings", p, o),
        lambda raw: parquet_files.crafted_outputs("embeddings", raw),
    ),
    "Parquet, metrics": Format(parquet_files.write_metrics, parquet_files.read_metrics),
    "csv, fetched": Format(
        lambda f: raw_files.write_raw(f / "x.csv", raw_files.CSV.encode()),
        lambda p, o: raw_files.read_csv(raw_files.verified(p), o),
    ),
    "csv, as published": Format(
        lambda f: _bytes(f / "x.csv", raw_files.CSV.encode()), raw_files.read_csv, raw_files.crafted_csv, sealed=False
    ),
    "MATLAB, fetched": Format(
        lambda f: raw_files.write_raw(f / "x.mat", raw_files.mat_bytes()),
        lambda p, o: raw_files.read_matlab(raw_files.verified(p), o),
    ),
    "MATLAB": Format(
        lambda f: _bytes(f / "x.mat", raw_files.mat_bytes()), raw_files.read_matlab, raw_files.crafted_mat, sealed=False
    ),
    "pickle, fetched": Format(
        lambda f: raw_files.write_raw(f / "x.pkl", pickle.dumps(pickle_files.PICKLED, 4)),
        lambda p, o: read_pickle(raw_files.verified(p)),
    ),
    "pickle": Format(
        lambda f: _bytes(f / "x.pkl", pickletools.optimize(pickle.dumps(pickle_files.PICKLED, 4))),
        lambda p, o: read_pickle(p),
        pickle_files.crafted_pickles,
        sealed=False,
    ),
    "JSON, manifest": Format(raw_files.write_manifest, raw_files.read_manifest, text_files.crafted_manifests),
    "JSON, cost and datasheets": Format(
        text_files.write_cost,
        lambda p, o: told_json(p, "a cost record", "run `mmcontrast finetune toy`"),
        lambda raw: {name: (data, True) for name, data in text_files.BAD_JSON.items()},
        sealed=False,
    ),
    "JSON, first use": Format(
        text_files.write_first_use,
        text_files.read_first_use,
        lambda raw: (
            {name: (data, True) for name, data in text_files.BAD_JSON.items()}
            | {"a short checksum": (b'{"sha256": "00"}', True), "a path": (b'{"sha256": "../../evil"}', True)}
        ),
        sealed=False,
    ),
    "YAML": Format(
        lambda f: _bytes(f / "x.yaml", text_files.YAML),
        lambda p, o: read_yaml(p),
        text_files.crafted_yaml,
        sealed=False,
    ),
}


def _bytes(path: Path, raw: bytes) -> Path:
    path.write_bytes(raw)
    return path
