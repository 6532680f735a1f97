"""Trained models as files: weights, and beside them all that built them and that was fitted with them.

cell.json                 the cell
seed<k>.safetensors       weights, and the epoch that they are of
seed<k>.<modality>.json   the word pieces of its texts, where they were learned on train
fitted.json               what scales its vectors and sequences and stands for their missing values
encoders/<key>/           of a pretrained encoder all but its weights: tokenizer, picture processor, configuration
checksums.json            of all of these
"""

from __future__ import annotations

import importlib
import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from mmcontrast import __version__
from mmcontrast.config import CellConfig
from mmcontrast.data.files import read_json, replacing, sha256_of, write_json
from mmcontrast.errors import DataError
from mmcontrast.paths import CHECKSUMS

if TYPE_CHECKING:
    from torch import Tensor

CELL, ENCODERS, FITTED = "cell.json", "encoders", "fitted.json"
# a stamp of Snakemake's, which is no file of the model
STAMP = ".snakemake_timestamp"


class SeedExport(NamedTuple):
    """One seed's weights by name, the epoch that they are of, and modality -> the word pieces of its texts."""

    weights: Mapping[str, Tensor]
    epoch: int
    vocabulary: Mapping[str, Any]


def write_models(folder: Path, cell: CellConfig, seeds: Mapping[int, SeedExport], fitted: Path) -> None:
    """Write a stage's models, and remove what else is in their folder. `fitted`: `fitted.json` of its data, if any."""
    from safetensors.torch import save

    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / CELL, cell.model_dump(mode="json"), seal=True)
    copies = {f"{ENCODERS}/{key}/{file.name}": file for key, files in _encoder_files(cell).items() for file in files}
    if fitted.exists():
        copies[FITTED] = fitted
    for name, source in copies.items():
        with replacing(folder / name) as temporary:
            shutil.copyfile(source, temporary)
    written = {CELL, *copies}
    for seed, of in seeds.items():
        for m, pieces in of.vocabulary.items():
            written.add(name := vocabulary_name(seed, m))
            content = {"pieces": pieces.pieces, "merges": [list(pair) for pair in pieces.merges]}
            write_json(folder / name, content, seal=True)
        # one key alone: safetensors writes several in an order that changes from run to run
        metadata = {"mmcontrast": json.dumps({"epoch": of.epoch, "seed": seed, "version": __version__})}
        written.add(name := weights_name(seed))
        with replacing(folder / name) as temporary:
            # not save_file, whose errors do not tell a full disk from anything else
            temporary.write_bytes(save({k: v.contiguous() for k, v in of.weights.items()}, metadata))
    for old in [p for p in folder.rglob("*") if p.is_file() and p.name not in (CHECKSUMS, STAMP)]:
        if old.relative_to(folder).as_posix() not in written:
            old.unlink()
    # last, so that they say all is there
    write_json(folder / CHECKSUMS, {name: sha256_of(folder / name) for name in sorted(written)}, seal=True)


def weights_name(seed: int) -> str:
    """The file of a seed's weights."""
    return f"seed{seed}.safetensors"


def vocabulary_name(seed: int, modality: str) -> str:
    """The file of the word pieces of a seed's texts."""
    return f"seed{seed}.{modality}.json"


def _encoder_files(cell: CellConfig) -> dict[str, list[Path]]:
    if not cell.model.pretrained:
        return {}
    files = importlib.import_module("mmcontrast.data.pretrained")  # by name: it concerns no other cell
    return {
        key: files.described_by(files.open_folder(spec, f"model.pretrained.{key}").path)
        for key, spec in cell.model.pretrained.items()
    }


def sealed(file: Path, remedy: str = "train the cell again") -> Path:
    """A file of an exported model, as it was written; else DataError, whose message ends in `remedy`."""
    folder = next((f for f in file.parents if (f / CHECKSUMS).is_file()), file.parent)
    try:
        as_written = read_json(folder / CHECKSUMS)[file.relative_to(folder).as_posix()] == sha256_of(file)
    except (OSError, ValueError, LookupError, TypeError):
        raise DataError(f"{file}: not there, or without its checksum in {CHECKSUMS}; {remedy}") from None
    if not as_written:
        raise DataError(f"{file}: not what training wrote there; {remedy}")
    return file


def read_weights(file: Path) -> dict[str, Tensor]:
    """The weights in a file, by name, on the CPU. Raises DataError: missing, damaged, or no safetensors file."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(file)
    except FileNotFoundError:
        there = ", ".join(sorted(p.name for p in file.parent.glob("*.safetensors"))) or "none"
        raise DataError(f"{file}: no such file; models in this folder: {there}") from None
    except (SafetensorError, OSError, ValueError, RuntimeError, MemoryError) as e:
        raise DataError(f"{file}: damaged, or not a safetensors file ({e}); train the cell again") from None
