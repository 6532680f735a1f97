"""A pretrained CLIP as files in the layout of the library transformers: where they are, and what they say.

Everything that depends on the checkpoint comes from its own files: the size of a picture, its mean and spread, the
vocabulary, the longest text. transformers is an optional extra and is imported by what needs it alone; a folder is read
without any network, and only a cell that names a hub id makes a download.

Source: Radford et al., "Learning Transferable Visual Models From Natural Language Supervision", ICML 2021.

O texts, T their longest number of word pieces.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmcontrast.config import PretrainedCLIP
from mmcontrast.data.json_text import read_json
from mmcontrast.data.pretrained import CONFIG, WEIGHTS, first_line, library
from mmcontrast.data.word_pieces import Encoded
from mmcontrast.errors import DataError

# an older layout, and a newer one that nests the same values
PICTURES = ("preprocessor_config.json", "processor_config.json")
TOKENIZERS = (("tokenizer.json",), ("vocab.json", "merges.txt"))
FILES = (CONFIG, WEIGHTS, *PICTURES, *(f for group in TOKENIZERS for f in group), "tokenizer_config.json")
NEEDED_BY = "model.clip"
BICUBIC = 3  # Pillow's number
# in older files it stands for the end of a text, whose true number is the vocabulary's last
UNTRUE_END = 2


@dataclass(frozen=True)
class ClipFiles:
    """What a CLIP's files say.

    Attributes:
        folder: where they are. width: of its embeddings. pixels: side of a picture.
        mean, spread: of each of three channels, for values in [0, 1].
        longest: word pieces of a text, its start and end included. vocabulary: number of word pieces.
        end: number of the word piece that ends a text, as the configuration has it.
    """

    folder: Path
    width: int
    pixels: int
    mean: tuple[float, ...]
    spread: tuple[float, ...]
    longest: int
    vocabulary: int
    end: int

    @property
    def files(self) -> list[Path]:
        """Those that decide what it computes, as far as they are there."""
        return [self.folder / name for name in FILES if (self.folder / name).is_file()]


def read_clip(spec: PretrainedCLIP) -> ClipFiles:
    """Find the files, and hold them against what this package can do.

    Raises:
        ConfigError: the extra is not installed.
        DataError: a file is missing or damaged, the folder holds no CLIP, or its pictures are made in another way.
    """
    library(NEEDED_BY)
    folder = Path(spec.folder) if spec.folder is not None else _downloaded(str(spec.hub), str(spec.revision))
    if not folder.is_dir():
        raise DataError(
            f"{folder}: no such folder; model.clip.folder names one, relative to the checkout, with {CONFIG}, "
            f"{WEIGHTS}, {PICTURES[0]} and the tokenizer's files"
        )
    path = folder / CONFIG
    config = _json(path)
    if config.get("model_type") != "clip":
        raise DataError(f"{path}: not a CLIP: model_type is {config.get('model_type')!r}; accepted: 'clip'")
    if not (folder / WEIGHTS).is_file():
        raise DataError(
            f"{folder / WEIGHTS}: no such file, and weights are read as safetensors alone; of a folder with "
            "pytorch_model.bin, CLIPModel.from_pretrained(folder).save_pretrained(folder) of transformers makes it"
        )
    if not any(all((folder / name).is_file() for name in group) for group in TOKENIZERS):
        raise DataError(f"{folder}: no tokenizer; expected tokenizer.json, or vocab.json and merges.txt")
    parsed = _configuration(path)
    pixels, mean, spread = _pictures(folder)
    if pixels != parsed.vision_config.image_size:
        raise DataError(
            f"{path}: pictures of {parsed.vision_config.image_size} pixels, and the folder's own preprocessing makes "
            f"them {pixels}; these files do not belong together"
        )
    text = parsed.text_config
    return ClipFiles(
        folder=folder,
        width=parsed.projection_dim,
        pixels=pixels,
        mean=mean,
        spread=spread,
        longest=text.max_position_embeddings,
        vocabulary=text.vocab_size,
        end=text.vocab_size - 1 if text.eos_token_id == UNTRUE_END else text.eos_token_id,
    )


def encode_texts(clip: ClipFiles, texts: Sequence[str]) -> Encoded:
    """Texts as the CLIP's own tokenizer has them, each from its start to its end, then more ends up to the longest.

    A text longer than the encoder's positions is cut, keeps its end, and is counted in `cut`.

    Raises:
        DataError: the tokenizer cannot be read, or does not belong to the weights.
    """
    try:
        tokenizer = library(NEEDED_BY).CLIPTokenizer.from_pretrained(clip.folder, local_files_only=True)
        rows = tokenizer(list(texts), padding=False, truncation=False, verbose=False)["input_ids"] if texts else []
    except Exception as e:  # tokenizers raises the bare class
        raise DataError(f"{clip.folder}: the tokenizer cannot be read ({first_line(e)})") from None
    if tokenizer.eos_token_id != clip.end or len(tokenizer) > clip.vocabulary:
        raise DataError(
            f"{clip.folder}: the tokenizer has {len(tokenizer)} word pieces and ends a text with number "
            f"{tokenizer.eos_token_id}; {CONFIG} says {clip.vocabulary} and {clip.end}; these files do not belong "
            "together"
        )
    cut = sum(len(row) > clip.longest for row in rows)
    rows = [row if len(row) <= clip.longest else [*row[: clip.longest - 1], clip.end] for row in rows]
    pieces = np.full((len(rows), max(map(len, rows), default=clip.longest)), clip.end, dtype=np.int64)
    for i, row in enumerate(rows):
        pieces[i, : len(row)] = row
    return Encoded(pieces, cut, [i for i, row in enumerate(rows) if len(row) <= 2])


def picture_values(clip: ClipFiles) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """(3, 1, 1) mean and (3, 1, 1) spread of the channels, for values in [0, 1]."""
    mean, spread = (np.array(v, dtype=np.float32).reshape(3, 1, 1) for v in (clip.mean, clip.spread))
    return mean, spread


def _downloaded(hub: str, revision: str) -> Path:
    """The files of one commit of a hub's repository, from the library's cache where they are there."""
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(hub, revision=revision, allow_patterns=list(FILES)))
    except (OSError, ValueError, RuntimeError) as e:
        raise DataError(
            f"model.clip.hub: {hub} at {revision} could not be had ({first_line(e)}); put its files into a folder and "
            "name that as model.clip.folder"
        ) from None


def _configuration(path: Path) -> Any:
    try:
        return library(NEEDED_BY).CLIPConfig.from_pretrained(path.parent, local_files_only=True)
    except Exception as e:  # the library checks values in its own way, with errors of its own
        raise DataError(f"{path}: not the configuration of a CLIP ({first_line(e)})") from None


def _pictures(folder: Path) -> tuple[int, tuple[float, ...], tuple[float, ...]]:
    """Side, mean and spread; only the way in which pictures are prepared here is accepted."""
    path = next((folder / name for name in PICTURES if (folder / name).is_file()), None)
    if path is None:
        raise DataError(f"{folder / PICTURES[0]}: no such file; it says how a picture is made for this CLIP")
    found = _json(path)
    nested = found.get("image_processor")
    found = nested if isinstance(nested, dict) else found
    crop, size = _side(found.get("crop_size")), _side(found.get("size"))
    if crop is None or crop != size:
        raise DataError(
            f"{path}: size is {found.get('size')!r} and crop_size {found.get('crop_size')!r}; accepted: one side for "
            "both, as pictures are cut to their middle and resized to a square"
        )
    wanted = {"resample": BICUBIC, "do_resize": True, "do_center_crop": True, "do_rescale": True, "do_normalize": True}
    for key, only in wanted.items():
        if found.get(key, only) != only:
            raise DataError(f"{path}: {key} is {found[key]!r}; accepted: {only!r}, as pictures are prepared here")
    if abs(found.get("rescale_factor", 1 / 255) * 255 - 1) > 1e-6:
        raise DataError(f"{path}: rescale_factor is {found['rescale_factor']!r}; accepted: 1/255")
    values: list[tuple[float, ...]] = []
    for key in ("image_mean", "image_std"):
        value = found.get(key)
        if not isinstance(value, list) or len(value) != 3 or not all(isinstance(v, int | float) for v in value):
            raise DataError(f"{path}: {key} is {value!r}; expected three numbers")
        values.append(tuple(float(v) for v in value))
    if min(values[1]) <= 0:
        raise DataError(f"{path}: image_std is {list(values[1])}; expected numbers above 0")
    return crop, values[0], values[1]


def _side(value: Any) -> int | None:
    """The side of a square: a number, {shortest_edge} or equal {height, width}."""
    sides = set(value.values()) if isinstance(value, dict) else {value}
    side = next(iter(sides)) if len(sides) == 1 else None
    return side if isinstance(side, int) and side > 0 else None


def _json(path: Path) -> dict[str, Any]:
    try:
        found = read_json(path)
    except FileNotFoundError:
        raise DataError(f"{path}: no such file; a folder with a CLIP has it") from None
    except (OSError, ValueError) as e:
        raise DataError(f"{path}: not a configuration ({e})") from None
    if not isinstance(found, dict):
        raise DataError(f"{path}: not a configuration (expected an object)")
    return found
