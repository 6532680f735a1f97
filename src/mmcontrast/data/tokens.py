"""The texts of a dataset's splits as word pieces.

The vocabulary is of the training texts alone, or, under a pretrained CLIP, the one that comes with it.
"""

from __future__ import annotations

import importlib
import logging
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial

import torch

from mmcontrast.config import CellConfig
from mmcontrast.data.loading import Observations, Table
from mmcontrast.data.word_pieces import Encoded, WordPieces, learn
from mmcontrast.errors import ConfigError

log = logging.getLogger(__name__)


def tokenised(tables: Mapping[str, Table], cell: CellConfig) -> tuple[dict[str, Table], dict[str, WordPieces]]:
    """The tables with (O, T) int64 word pieces in place of O texts, and each text modality's vocabulary.

    A pretrained CLIP brings its own vocabulary, and none is returned. Says in the log how many texts of a split were
    longer than the encoder takes, and cut.

    Raises:
        ConfigError: there are texts, and neither `model.text` nor `model.clip` is given.
        DataError: the training texts have no word, or more characters than the vocabulary has places; or the CLIP's
            files are not what they should be.
    """
    texts = [m for m, spec in cell.modalities.items() if spec.kind == "text"]
    if not texts:
        return dict(tables), {}
    vocabularies: dict[str, WordPieces] = {}
    encode: dict[str, Callable[[list[str]], Encoded]]
    if cell.model.clip is not None:
        # by name: it concerns no cell without a CLIP
        files = importlib.import_module("mmcontrast.data.clip_files")
        clip = files.read_clip(cell.model.clip)
        limit = f"the CLIP's {clip.longest}"
        encode = {m: partial(files.encode_texts, clip) for m in texts}
    elif (spec := cell.model.text) is not None:
        vocabularies = {m: learn(_texts(tables["train"], m), spec.vocabulary) for m in texts}
        limit = f"model.text.tokens = {spec.tokens}"
        encode = {m: partial(pieces.encode, length=spec.tokens) for m, pieces in vocabularies.items()}
    else:
        raise ConfigError(
            f"params/methods/{cell.method}.yaml ({cell.name}): model.text: required for modality '{texts[0]}', "
            "which holds texts"
        )
    out = {}
    for split, table in tables.items():
        observations = dict(table.observations)
        for m, encoder in encode.items():
            found = _texts(table, m)
            encoded = encoder(found)
            if encoded.cut:
                log.warning(
                    "%s, %s: %d of %d texts of '%s' have more than %s word pieces and were cut",
                    *(cell.dataset, split, encoded.cut, len(found), m, limit),
                )
            if encoded.empty:
                log.warning("%s, %s: %d texts of '%s' have no word", cell.dataset, split, len(encoded.empty), m)
            observations[m] = Observations(torch.from_numpy(encoded.pieces), observations[m].offsets)
        out[split] = replace(table, observations=observations)
    return out, vocabularies


def _texts(table: Table, modality: str) -> list[str]:
    flat = table.observations[modality].flat
    return flat if isinstance(flat, list) else []
