"""The texts of a dataset's splits as word pieces: O texts, T most word pieces of one of them.

The vocabulary comes with a pretrained encoder, or is byte-pair encoding of words (Sennrich et al., ACL 2016), learned
from the training texts alone. A piece is a run of characters inside a word; the first piece of a word starts with a
mark, so that `cat` of "cat" and of "bobcat" differ. A word never seen is made of pieces that were.
"""

from __future__ import annotations

import importlib
import logging
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from heapq import heapify, heappop, heappush
from itertools import pairwise
from typing import Any

import numpy as np
import torch

from mmcontrast.config import CellConfig, Pretrained
from mmcontrast.data.inputs import Ragged
from mmcontrast.data.loading import Observations, Table
from mmcontrast.errors import ConfigError, DataError

log = logging.getLogger(__name__)

CHUNK = 4096  # texts at once
NO_PIECE = -1  # pads what a pretrained encoder reads, as 0 is a piece of some of them
EMPTY = np.zeros(0, np.int64)
UNKNOWN_LIMIT = 0.5  # of the pieces of the training texts: above it, the tokenizer is of other texts, or damaged
PADDING, UNKNOWN = 0, 1
SPECIAL = ("<pad>", "<unk>")
START = "▁"
WORD = re.compile(r"\w+|[^\w\s]")
Pair = tuple[str, str]


@dataclass(frozen=True)
class Encoder:
    """What makes numbers of texts: `encode` gives the pieces of each, no more than are taken; `padding` follows them.

    `limit`: for messages, how many are taken and what says so. `unknown`: the number of a piece that stands for all
    that the vocabulary lacks, if there is one. `learned`: a vocabulary that was learned here.
    """

    encode: Callable[[Sequence[str]], Encoded]
    padding: int
    limit: str
    unknown: int | None = None
    learned: WordPieces | None = None


def tokenised(tables: Mapping[str, Table], cell: CellConfig) -> tuple[dict[str, Table], dict[str, WordPieces]]:
    """The tables with int64 word pieces in place of O texts, (O, T) where there are several, and learned vocabularies.

    Says in the log how many texts of a split were longer than the encoder takes, and cut, and how many have no word. A
    text that an instance lacks is padding.

    Raises ConfigError: neither `model.text` nor `model.pretrained` says what reads the texts; DataError: the training
    texts have no word, or more characters than the vocabulary has places; or a pretrained encoder's files are not what
    they should be, or its vocabulary lacks most of the texts.
    """
    texts = {m: _texts(tables["train"], m) for m, modality in cell.modalities.items() if modality.kind == "text"}
    encoders = {m: text_encoder(m, cell, partial(_learned, of)) for m, of in texts.items()}
    out = {s: in_pieces(table, encoders, f"{cell.dataset}, {s}", s == "train") for s, table in tables.items()}
    return out, {m: encoder.learned for m, encoder in encoders.items() if encoder.learned is not None}


def in_pieces(table: Table, encoders: Mapping[str, Encoder], where: str, known: bool = False) -> Table:
    """The table with the word pieces of its texts. `where` begins messages; `known`: refuse mostly unknown texts."""
    for m, encoder in encoders.items():
        rows = _encoded(table, m, encoder, where)
        if known:
            _refuse_unknown(rows, encoder, f"{where}: texts of '{m}'")
        pieces = Ragged([np.concatenate([EMPTY, *rows])], [np.cumsum([0, *map(len, rows)])], encoder.padding)
        if m in table.observations:
            found = Observations(pieces[: len(pieces)], table.observations[m].offsets)
            table = replace(table, observations={**table.observations, m: found})
        else:
            table = replace(table, inputs={**table.inputs, m: pieces})
    return table


def text_encoder(modality: str, cell: CellConfig, vocabulary: Callable[[int], WordPieces]) -> Encoder:
    """What makes numbers of a modality's texts: pretrained, else with `vocabulary(pieces)`. Errors: see `tokenised`."""
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
    # by name: it concerns no cell without a pretrained encoder
    files = importlib.import_module("mmcontrast.data.pretrained")
    folder = files.open_folder(spec, where)
    tokenizer = files.load_tokenizer(folder)
    longest = files.longest_text(folder, tokenizer, spec)
    encode = partial(files.encode_texts, tokenizer, longest=longest)
    return Encoder(encode, NO_PIECE, f"{where}'s {longest}", tokenizer.unk_token_id)


def _texts(table: Table, modality: str) -> Any:
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


@dataclass(frozen=True)
class Encoded:
    """Texts as numbers: of each the indices of its pieces; how many were `cut`; `empty`, the rows without a word."""

    rows: list[list[int]]
    cut: int
    empty: list[int]


@dataclass(frozen=True)
class WordPieces:
    """A vocabulary and the merges that lead to it, in the order they were learned; a piece's number is its place."""

    pieces: list[str]
    merges: list[Pair]
    _rank: dict[Pair, int] = field(init=False, repr=False, compare=False)
    _index: dict[str, int] = field(init=False, repr=False, compare=False)
    _known: dict[str, list[int]] = field(init=False, repr=False, compare=False, default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_rank", {pair: i for i, pair in enumerate(self.merges)})
        object.__setattr__(self, "_index", {piece: i for i, piece in enumerate(self.pieces)})

    def word(self, word: str) -> list[int]:
        """Numbers of a word's pieces."""
        if word not in self._known:
            symbols = _characters(word)
            while len(symbols) > 1:
                best = min(pairwise(symbols), key=lambda p: self._rank.get(p, len(self.merges)))
                if best not in self._rank:
                    break
                symbols = _merged(symbols, best)
            self._known[word] = [self._index.get(s, UNKNOWN) for s in symbols]
        return self._known[word]

    def encode(self, texts: Sequence[str], length: int) -> Encoded:
        """Texts cut to `length` pieces; a text without a word is one UNKNOWN."""
        rows = [[n for word in words(text) for n in self.word(word)] for text in texts]
        empty = [i for i, row in enumerate(rows) if not row]
        cut = sum(len(row) > length for row in rows)
        return Encoded([row[:length] or [UNKNOWN] for row in rows], cut, empty)


def words(text: str) -> list[str]:
    """Lower-case words and signs of a text, in Unicode's composed form."""
    return WORD.findall(unicodedata.normalize("NFKC", text).casefold())


def learn(texts: Iterable[str], vocabulary: int) -> WordPieces:
    """Word pieces of the given texts: all their characters, then the most frequent pair joined, again and again.

    Of equally frequent pairs the alphabetically first is joined, so that equal texts give an equal vocabulary, of at
    most `vocabulary` pieces, the two special ones included. Raises DataError: there is no word, or more characters.
    """
    count = Counter(word for text in texts for word in words(text))
    if not count:
        raise DataError("no word in any training text, so there is nothing to learn word pieces from")
    spelled = {word: _characters(word) for word in count}
    alphabet = sorted({s for symbols in spelled.values() for s in symbols})
    if len(alphabet) + len(SPECIAL) > vocabulary:
        raise DataError(
            f"model.text.vocabulary: {vocabulary} pieces, and the training texts have {len(alphabet)} different "
            f"characters; give at least {len(alphabet) + len(SPECIAL)}"
        )
    pairs: Counter[Pair] = Counter()
    holders: defaultdict[Pair, set[str]] = defaultdict(set)

    def counted(word: str, sign: int) -> set[Pair]:
        for pair in pairwise(spelled[word]):
            pairs[pair] += sign * count[word]
            (holders[pair].add if sign > 0 else holders[pair].discard)(word)
        return set(pairwise(spelled[word]))

    for word in spelled:
        counted(word, 1)
    # most frequent first; an entry whose count has changed since is passed over, as the new count has its own
    queue = [(-times, pair) for pair, times in pairs.items()]
    heapify(queue)
    pieces, merges = dict.fromkeys([*SPECIAL, *alphabet]), []
    while len(pieces) < vocabulary and queue:
        times, best = heappop(queue)
        if pairs[best] != -times:
            continue
        if pairs[best] < 2:
            break
        merges.append(best)
        pieces["".join(best)] = None
        touched: set[Pair] = set()
        for word in sorted(holders[best]):
            touched |= counted(word, -1)
            spelled[word] = _merged(spelled[word], best)
            touched |= counted(word, 1)
        for pair in touched:
            if pairs[pair]:
                heappush(queue, (-pairs[pair], pair))
    return WordPieces(list(pieces), merges)


def _characters(word: str) -> list[str]:
    return [START + word[0], *word[1:]]


def _merged(symbols: list[str], pair: Pair) -> list[str]:
    out, i = [], 0
    while i < len(symbols):
        size = 2 if tuple(symbols[i : i + 2]) == pair else 1
        out.append("".join(symbols[i : i + size]))
        i += size
    return out
