"""Croissant metadata of a prepared dataset (mlcommons.org/croissant/1.1), made from its datasheet and its splits."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from mmcontrast.data.files import write_json

TERMS = ("recordSet", "field", "source", "fileObject", "extract", "column", "isArray", "arrayShape", "citeAs")
CONTEXT = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    "sc": "https://schema.org/",
    "cr": "http://mlcommons.org/croissant/",
    "conformsTo": "http://purl.org/dc/terms/conformsTo",
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    **{term: f"cr:{term}" for term in TERMS},
}
TYPES = {pa.int64(): "sc:Integer", pa.uint8(): "sc:Integer", pa.string(): "sc:Text", pa.binary(): "sc:ImageObject"}


def write_croissant(folder: Path, sheet: dict[str, Any]) -> Path:
    """Write croissant.json beside the datasheet, and say where it is. See `described`."""
    write_json(file := folder / "croissant.json", described(folder, sheet))
    return file


def described(folder: Path, sheet: dict[str, Any]) -> dict[str, Any]:
    """A prepared dataset in Croissant's words: a set of records per split in `folder`, checksums from the datasheet."""
    splits = {split: sha256 for split, sha256 in sheet["prepared"].items() if sheet["splits"][split]["rows"]}
    return {
        "@context": CONTEXT,
        "@type": "sc:Dataset",
        "conformsTo": "http://mlcommons.org/croissant/1.1",
        "name": sheet["name"],
        "alternateName": sheet["title"],
        "description": sheet["description"],
        "license": sheet["licence"],
        "citeAs": sheet["citation"],
        "isBasedOn": [source["source"] for source in sheet["sources"]],
        "distribution": [_file(f"{split}.parquet", sha256) for split, sha256 in splits.items()],
        "recordSet": [_records(folder, split, ", ".join(sheet["classes"])) for split in splits],
    }


def _file(name: str, sha256: str) -> dict[str, str]:
    kind = {"@type": "cr:FileObject", "encodingFormat": "application/x-parquet"}
    return {**kind, "@id": name, "name": name, "contentUrl": name, "sha256": sha256}


def _records(folder: Path, split: str, classes: str) -> dict[str, Any]:
    fields = {of.name: _field(split, of) for of in pq.read_schema(folder / f"{split}.parquet")}
    fields["label"]["description"] = f"Of these, counted from 0: {classes}"
    return {"@type": "cr:RecordSet", "@id": split, "name": split, "field": list(fields.values())}


def _field(split: str, of: pa.Field) -> dict[str, Any]:
    kind, shape = of.type, []
    while pa.types.is_list(kind) or pa.types.is_fixed_size_list(kind):
        shape.append(kind.list_size if pa.types.is_fixed_size_list(kind) else -1)
        kind = kind.value_type
    source = {"fileObject": {"@id": f"{split}.parquet"}, "extract": {"column": of.name}}
    field = {"@type": "cr:Field", "@id": f"{split}/{of.name}", "name": of.name, "source": source}
    array = {"isArray": True, "arrayShape": ",".join(map(str, shape))} if shape else {}
    return field | {"dataType": TYPES.get(kind, "sc:Float")} | array
