"""A dataset whose instances are those of another, some modalities as vectors of frozen pretrained encoders.

Everything else is taken over as it is stored. The forward pass runs in float64 and its result is rounded, so that every
machine writes the same bytes; observations of equal length go together, so nothing is padded and a vector depends on
nothing but its own observation.

n rows of a part, O observations, B of them at once, D width of an encoder's vectors.
"""

import importlib
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import Field

from mmcontrast import paths
from mmcontrast.config import Dataset, Modality, Pretrained, validate
from mmcontrast.config.base import Strict
from mmcontrast.data.files import again, check_prepared, parse_json, sha256_of
from mmcontrast.data.instances import Instance, Stream
from mmcontrast.data.parquet import stored_batches
from mmcontrast.data.pictures import decode
from mmcontrast.data.pretrained import encode_texts, library, load_tokenizer, longest_text, open_folder
from mmcontrast.data.table import METADATA_KEY, SCENE, numbers, spans, task_column
from mmcontrast.errors import ConfigError, DataError
from mmcontrast.paths import SPLITS

DIGITS = 6  # float64 sums differ between machines by about 1e-15


class FeatureOptions(Strict):
    """`prepare` in the dataset's file."""

    batch: int = Field(default=32, gt=0, description="Observations at once.")
    precision: Literal["float64", "float32"] = Field(
        default="float64", description="float32 is faster, and its last digits differ between machines."
    )
    device: Literal["cpu", "cuda"] = "cpu"
    unit: bool = Field(default=False, description="Divide each vector by its length, as sentence encoders do.")


class Frozen:
    """An encoder in evaluation mode: `width` is D, `seen` counts observations, `cut` texts longer than it takes.

    Raises ConfigError, DataError: see `models.pretrained.PretrainedTower`; or its vectors are not as wide as `out`.
    """

    def __init__(self, base: Modality, out: Modality, spec: Pretrained, options: FeatureOptions, where: str) -> None:
        import torch

        # by name: data are below models, and no other dataset depends on them
        towers = importlib.import_module("mmcontrast.models.pretrained")
        self.base, self.spec, self.options, self.where = base, spec, options, where
        self.torch, self.dtype = torch, getattr(torch, options.precision)
        self.tower = towers.PretrainedTower(base, spec, where).eval().to(options.device, self.dtype)
        self.width: int = self.tower.pooled_width
        if out.shape != [self.width]:
            raise ConfigError(f"{where}: the encoder's vectors are [{self.width}], and the modality is {out.shape}")
        self.folder = open_folder(spec, where)
        if base.kind == "text":
            self.tokenizer = load_tokenizer(self.folder)
            self.longest = longest_text(self.folder, self.tokenizer, spec)
        self.cut = self.seen = 0

    def __call__(self, values: Sequence[Any]) -> np.ndarray:
        """(O, D) of O observations; pictures as pixels."""
        self.seen += len(values)
        if self.base.kind == "text":
            encoded = encode_texts(self.tokenizer, values, self.longest)
            self.cut += encoded.cut
            values = [np.array(row, np.int64) for row in encoded.rows]
        by_length: dict[int, list[int]] = defaultdict(list)
        for i, value in enumerate(values):
            by_length[len(value)].append(i)
        out_OD, batch = np.empty((len(values), self.width)), self.options.batch
        for rows in (of[a : a + batch] for of in by_length.values() for a in range(0, len(of), batch)):
            x = self.torch.from_numpy(np.stack([values[i] for i in rows])).to(self.options.device)
            if self.base.kind != "text":
                x = x.to(self.dtype) / (255 if self.base.kind == "image" else 1)
            with self.torch.inference_mode():
                out_OD[rows] = self.tower.pooled(x).double().cpu().numpy()
        if self.options.unit:
            out_OD /= np.linalg.norm(out_OD, axis=-1, keepdims=True)
        return np.round(out_OD, DIGITS)

    def identity(self) -> dict[str, Any]:
        """What made the vectors, for the datasheet."""
        asked = {"folder", "hub", "revision", "pooling", "tokens", "attention"}
        said = {
            **self.spec.model_dump(mode="json", include=asked),
            "type": self.folder.kind,
            "files": {p.name: sha256_of(p) for p in sorted(self.folder.path.iterdir()) if p.is_file()},
            "transformers": library(self.where).__version__,
            **self.options.model_dump(include={"precision", "unit"}),
            "observations": self.seen,
        }
        if self.base.kind == "text":
            said |= {"longest": self.longest, "cut": self.cut}
        return said | ({"pictures": vars(self.tower.reader.how)} if self.base.kind == "image" else {})


def stream(name: str, dataset: Dataset, raw_dir: Path) -> Stream:
    """The instances of the base dataset's prepared splits, split by split."""
    where, base = f"params/datasets/{name}.yaml", str(dataset.features_of)
    options = validate(FeatureOptions, dataset.prepare, where, prefix="prepare")
    files = {split: Path(paths.prepared(base, split)) for split in SPLITS}
    for file in files.values():
        check_prepared(file)
    described = {split: _described(file) for split, file in files.items()}["train"]
    modalities = {m: Modality.model_validate(of) for m, of in described["modalities"].items()}
    encoders = {
        m: Frozen(modalities[m], dataset.modalities[m], spec, options, f"{where}: encoders.{m}")
        for m, spec in dataset.encoders.items()
    }
    report: dict[str, Any] = {"features_of": {"dataset": base} | {s: sha256_of(file) for s, file in files.items()}}

    def instances() -> Iterator[Instance]:
        tasks = list(dataset.tasks)
        columns = ["id", "label", *map(task_column, tasks), *([SCENE] if dataset.scenes else []), *modalities]
        for split, file in files.items():
            for part in stored_batches(file, columns):
                ids = part["id"].to_pylist()
                inputs = {m: _values(part[m], spec) for m, spec in modalities.items()}
                for m, encode in encoders.items():
                    inputs[m] = _encoded(_decoded(inputs[m], modalities[m], ids, file, m), modalities[m], encode)
                for i, identity in enumerate(ids):
                    yield Instance(
                        identity,
                        {m: values[i] for m, values in inputs.items()},
                        part["label"][i].as_py(),
                        split,
                        {task: part[task_column(task)][i].as_py() for task in tasks},
                        part[SCENE][i].as_py() if dataset.scenes else None,
                    )
        report["encoders"] = {m: encoder.identity() for m, encoder in encoders.items()}

    return Stream(instances(), report=report)


def _values(column: pa.Array, spec: Modality) -> list[Any]:
    if spec.multifold:
        single = _values(column.flatten(), spec.model_copy(update={"multifold": False}))
        return [single[a:b] for a, b in spans(column)]
    if spec.kind == "text" or spec.encoded:
        texts: list[Any] = column.to_pylist()
        return texts
    there = column.drop_null()
    if spec.kind == "sequence":
        steps_Sd = numbers(there)
        found = [steps_Sd[a:b] for a, b in spans(there)]
    else:
        found = list(numbers(there).reshape(-1, *spec.shape))
    rows = iter(found)
    return [next(rows) if valid else None for valid in column.is_valid().to_pylist()]


def _decoded(values: list[Any], spec: Modality, ids: list[str], file: Path, modality: str) -> list[Any]:
    if not spec.encoded:
        return values
    out = []
    for identity, row in zip(ids, values, strict=True):
        try:
            pixels = [decode(one, spec.shape) for one in (row if spec.multifold else [row]) if one is not None]
        except ValueError as e:
            where = f"{file}: instance '{identity}': modality '{modality}'"
            raise DataError(f"{where}: the picture cannot be decoded ({e}); {again(file)}") from None
        out.append(pixels if spec.multifold else pixels[0] if pixels else None)
    return out


def _encoded(values: list[Any], spec: Modality, encode: Callable[[Sequence[Any]], np.ndarray]) -> list[Any]:
    """A vector, or a list of them, in place of each row's value; None where it lacks it."""
    flat = [one for row in values for one in (row if spec.multifold else [row]) if one is not None]
    vectors = iter(encode(flat) if flat else [])
    if spec.multifold:
        return [[next(vectors) for _ in row] for row in values]
    return [None if row is None else next(vectors) for row in values]


def _described(path: Path) -> dict[str, Any]:
    try:
        described: dict[str, Any] = parse_json((pq.read_schema(path).metadata or {})[METADATA_KEY].decode())
    except (OSError, KeyError, ValueError) as e:
        raise DataError(f"{path}: not a prepared split ({e}); {again(path)}") from None
    return described
