"""The texts of a dataset's splits as word pieces.

The vocabulary is of the training texts alone, or the one that comes with a pretrained encoder.

O texts, T most word pieces of one of them.
"""

from __future__ import annotations

import importlib
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import torch

from mmcontrast.config import CellConfig, Pretrained
from mmcontrast.data.inputs import Ragged
from mmcontrast.data.loading import Observations, Table
from mmcontrast.data.word_pieces import PADDING, Encoded, WordPieces, learn
from mmcontrast.errors import ConfigError, DataError

log = logging.getLogger(__name__)

CHUNK = 4096  # texts at once
NO_PIECE = -1  # pads what a pretrained encoder reads, as 0 is a piece of some of them
EMPTY = np.zeros(0, np.int64)
UNKNOWN_LIMIT = 0.5  # of the pieces of the training texts: above it, the tokenizer is of other texts, or damaged


@dataclass(frozen=True)
class Encoder:
    """What makes numbers of texts.

    Attributes:
        encode: texts -> the pieces of each, no more than are taken.
        padding: after the end of a text. limit: for messages, how many are taken and what says so.
        unknown: the number of a piece that stands for all that the vocabulary lacks, if there is one.
        learned: a vocabulary that was learned here.
    """

    encode: Callable[[Sequence[str]], Encoded]
    padding: int
    limit: str
    unknown: int | None = None
    learned: WordPieces | None = None


def tokenised(tables: Mapping[str, Table], cell: CellConfig) -> tuple[dict[str, Table], dict[str, WordPieces]]:
    """The tables with int64 word pieces in place of O texts, (O, T) where an instance has several, and vocabularies.

    A pretrained encoder brings its own vocabulary, and none is returned. Says in the log how many texts of a split were
    longer than the encoder takes, and cut, and how many have no word. A text that an instance lacks is padding.

    Raises:
        ConfigError: there are texts, and neither `model.text` nor `model.pretrained` says what reads them.
        DataError: the training texts have no word, or more characters than the vocabulary has places; or a pretrained
            encoder's files are not what they should be, or its vocabulary lacks most of what the texts are made of.
    """
    texts = {m: _texts(tables["train"], m) for m, modality in cell.modalities.items() if modality.kind == "text"}
    encoders = {m: text_encoder(m, cell, partial(_learned, of)) for m, of in texts.items()}
    out = {
        split: in_pieces(table, encoders, f"{cell.dataset}, {split}", split == "train")
        for split, table in tables.items()
    }
    return out, {m: encoder.learned for m, encoder in encoders.items() if encoder.learned is not None}


def in_pieces(table: Table, encoders: Mapping[str, Encoder], where: str, known: bool = False) -> Table:
    """The table with the word pieces of its texts.

    Args:
        encoders: modality -> what makes numbers of its texts. where: begins messages. known: refuse texts that are
            mostly unknown to the encoder.
    """
    for m, encoder in encoders.items():
        rows = _encoded(table, m, encoder, where)
        if known:
            _refuse_unknown(rows, encoder, f"{where}: texts of '{m}'")
        pieces = Ragged([np.concatenate([EMPTY, *rows])], [np.cumsum([0, *map(len, rows)])], encoder.padding)
        if m in table.observations:
            flat = pieces[: len(pieces)]
            table = replace(
                table, observations={**table.observations, m: Observations(flat, table.observations[m].offsets)}
            )
        else:
            table = replace(table, inputs={**table.inputs, m: pieces})
    return table


def text_encoder(modality: str, cell: CellConfig, vocabulary: Callable[[int], WordPieces]) -> Encoder:
    """What makes numbers of a modality's texts.

    Args:
        vocabulary: number of pieces -> a vocabulary; asked for where there is no pretrained encoder.

    Raises:
        ConfigError, DataError: see `tokenised`.
    """
    key = next((key for key in (modality, "text") if key in cell.model.pretrained), None)
    if key is not None:
        return _pretrained(cell.model.pretrained[key], f"model.pretrained.{key}")
    if (spec := cell.model.text) is None:
        raise ConfigError(
            f"params/methods/{cell.method}.yaml ({cell.name}): model.text: required for modality '{modality}', which "
            "holds texts; give it, or a pretrained encoder (model.pretrained)"
        )
    learned = vocabulary(spec.vocabulary)
    limit = f"model.text.tokens = {spec.tokens}"
    return Encoder(partial(learned.encode, length=spec.tokens), PADDING, limit, learned=learned)


def _learned(texts: Any, vocabulary: int) -> WordPieces:
    return learn((text for a in range(0, len(texts), CHUNK) for text in texts[a : a + CHUNK]), vocabulary)


def _pretrained(spec: Pretrained, where: str) -> Encoder:
    # by name: they concern no cell without a pretrained encoder
    files, texts = (importlib.import_module(f"mmcontrast.data.{name}") for name in ("pretrained", "pretrained_texts"))
    folder = files.open_folder(spec, where)
    tokenizer = texts.load_tokenizer(folder)
    longest = texts.longest_text(folder, tokenizer, spec)
    encode = partial(texts.encode_texts, tokenizer, longest=longest)
    return Encoder(encode, NO_PIECE, f"{where}'s {longest}", tokenizer.unk_token_id)


def _texts(table: Table, modality: str) -> Any:
    """What has the length O, and of which a slice is a list of texts."""
    return table.observations[modality].flat if modality in table.observations else table.inputs[modality]


def _encoded(table: Table, modality: str, encoder: Encoder, where: str) -> list[np.ndarray]:
    """int64 pieces of each of O texts; of one that an instance lacks, none."""
    texts = _texts(table, modality)
    present = table.present.get(modality)
    absent = set() if present is None else set(torch.nonzero(~present).flatten().tolist())
    rows, cut, empty = list[np.ndarray](), 0, 0
    for a in range(0, len(texts), CHUNK):
        some = encoder.encode(texts[a : a + CHUNK])
        empty += len({a + i for i in some.empty} - absent)
        cut += some.cut
        rows += [np.array([] if a + i in absent else row, np.int64) for i, row in enumerate(some.rows)]
    if cut:
        log.warning(
            "%s: %d of %d texts of '%s' have more than %s word pieces and were cut",
            *(where, cut, len(rows), modality, encoder.limit),
        )
    if empty:
        log.warning("%s: %d texts of '%s' have no word", where, empty, modality)
    return rows


def _refuse_unknown(rows: list[np.ndarray], encoder: Encoder, where: str) -> None:
    if encoder.unknown is None:
        return
    all_of, unknown = sum(map(len, rows)), sum(int((row == encoder.unknown).sum()) for row in rows)
    if unknown > UNKNOWN_LIMIT * all_of:
        raise DataError(
            f"{where}: {unknown} of {all_of} word pieces of the training texts are unknown to the encoder's "
            "tokenizer; it is of another language, or its files do not belong together"
        )
