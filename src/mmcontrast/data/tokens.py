"""The texts of a dataset's splits as word pieces, whose vocabulary is of the training texts alone."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import replace

import torch

from mmcontrast.config import CellConfig
from mmcontrast.data.loading import Observations, Table
from mmcontrast.data.word_pieces import WordPieces, learn
from mmcontrast.errors import ConfigError

log = logging.getLogger(__name__)


def tokenised(tables: Mapping[str, Table], cell: CellConfig) -> tuple[dict[str, Table], dict[str, WordPieces]]:
    """The tables with (O, T) int64 word pieces in place of O texts, and each text modality's vocabulary.

    Says in the log how many texts of a split were longer than the encoder takes, and cut.

    Raises:
        ConfigError: there are texts, and `model.text` is not given.
        DataError: the training texts have no word, or more characters than the vocabulary has places.
    """
    texts = [m for m, spec in cell.modalities.items() if spec.kind == "text"]
    if not texts:
        return dict(tables), {}
    spec = cell.model.text
    if spec is None:
        raise ConfigError(
            f"params/methods/{cell.method}.yaml ({cell.name}): model.text: required for modality '{texts[0]}', "
            "which holds texts"
        )
    vocabularies = {m: learn(_texts(tables["train"], m), spec.vocabulary) for m in texts}
    out = {}
    for split, table in tables.items():
        observations = dict(table.observations)
        for m, pieces in vocabularies.items():
            found = _texts(table, m)
            encoded = pieces.encode(found, spec.tokens)
            if encoded.cut:
                log.warning(
                    "%s, %s: %d of %d texts of '%s' have more than model.text.tokens = %d word pieces and were cut",
                    *(cell.dataset, split, encoded.cut, len(found), m, spec.tokens),
                )
            if encoded.empty:
                log.warning("%s, %s: %d texts of '%s' have no word", cell.dataset, split, len(encoded.empty), m)
            observations[m] = Observations(torch.from_numpy(encoded.pieces), observations[m].offsets)
        out[split] = replace(table, observations=observations)
    return out, vocabularies


def _texts(table: Table, modality: str) -> list[str]:
    flat = table.observations[modality].flat
    return flat if isinstance(flat, list) else []
