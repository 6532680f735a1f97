"""Texts as word pieces: byte-pair encoding of words (Sennrich et al., ACL 2016), learned from the training texts alone.

A piece is a run of characters inside a word; the first piece of a word starts with a mark, so that `cat` of "cat" and
of "bobcat" differ. A word never seen is made of pieces that were.

"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from heapq import heapify, heappop, heappush
from itertools import pairwise

from mmcontrast.errors import DataError

PADDING, UNKNOWN = 0, 1
SPECIAL = ("<pad>", "<unk>")
START = "▁"
WORD = re.compile(r"\w+|[^\w\s]")
Pair = tuple[str, str]


@dataclass(frozen=True)
class Encoded:
    """Texts as numbers.

    Attributes:
        rows: of each text the indices of its pieces in the vocabulary.
        cut: texts that had more than were asked for. empty: rows of texts without a word.
    """

    rows: list[list[int]]
    cut: int
    empty: list[int]


@dataclass(frozen=True)
class WordPieces:
    """A vocabulary and the merges that lead to it.

    Attributes:
        pieces: names; a piece's number is its place. merges: pairs in the order they were learned.
    """

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

    Of equally frequent pairs the alphabetically first is joined, so that equal texts give an equal vocabulary.

    Args:
        vocabulary: most pieces, the two special ones included.

    Raises:
        DataError: there is no word, or the characters alone are more than `vocabulary`.
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
    for word, symbols in spelled.items():
        for pair in pairwise(symbols):
            pairs[pair] += count[word]
            holders[pair].add(word)
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
            touched |= _recount(word, spelled, best, count[word], pairs, holders)
        for pair in touched:
            if pairs[pair]:
                heappush(queue, (-pairs[pair], pair))
    return WordPieces(list(pieces), merges)


def _recount(
    word: str,
    spelled: dict[str, list[str]],
    best: Pair,
    times: int,
    pairs: Counter[Pair],
    holders: defaultdict[Pair, set[str]],
) -> set[Pair]:
    """Join the pair in one word, and keep the counts of pairs up to date; the pairs whose count has changed."""
    before = set(pairwise(spelled[word]))
    for pair in pairwise(spelled[word]):
        pairs[pair] -= times
        holders[pair].discard(word)
    spelled[word] = _merged(spelled[word], best)
    for pair in pairwise(spelled[word]):
        pairs[pair] += times
        holders[pair].add(word)
    return before | set(pairwise(spelled[word]))


def _characters(word: str) -> list[str]:
    return [START + word[0], *word[1:]]


def _merged(symbols: list[str], pair: Pair) -> list[str]:
    out, i = [], 0
    while i < len(symbols):
        if i + 1 < len(symbols) and (symbols[i], symbols[i + 1]) == pair:
            out.append("".join(pair))
            i += 2
        else:
            out.append(symbols[i])
            i += 1
    return out
