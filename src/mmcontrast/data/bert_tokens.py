"""Word pieces of a BERT vocabulary, as its uncased tokenizer makes them.

Source: Devlin et al., "BERT", NAACL 2019; the normalisation and the greedy search are those of its released tokenizer.
What differs from it: a text that spells out a special token, such as [CLS], is read as text.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from mmcontrast.errors import DataError

UNKNOWN, START, END = "[UNK]", "[CLS]", "[SEP]"
CONTINUED = "##"
LONGEST_WORD = 100  # characters; a longer word is unknown as a whole
IDEOGRAPHS = (
    (0x4E00, 0x9FFF),
    (0x3400, 0x4DBF),
    (0x20000, 0x2A6DF),
    (0x2A700, 0x2B73F),
    (0x2B740, 0x2B81F),
    (0x2B820, 0x2CEAF),
    (0xF900, 0xFAFF),
    (0x2F800, 0x2FA1F),
)


@dataclass(frozen=True)
class BertTokens:
    """A vocabulary.

    Attributes:
        ids: word piece -> its row in the table of embeddings.
    """

    ids: dict[str, int]

    @classmethod
    def read(cls, path: Path) -> BertTokens:
        """From a vocab.txt, a word piece a line.

        Raises:
            DataError: no such file, not UTF-8, a piece twice, or none of [UNK], [CLS] and [SEP].
        """
        try:
            pieces = path.read_text(encoding="utf-8").removesuffix("\n").split("\n")
        except (OSError, UnicodeDecodeError) as e:
            raise DataError(f"{path}: not a vocabulary ({e})") from None
        ids = {piece: i for i, piece in enumerate(pieces)}
        if len(ids) != len(pieces):
            raise DataError(f"{path}: {len(pieces) - len(ids)} of {len(pieces)} word pieces are there twice")
        if absent := [special for special in (UNKNOWN, START, END) if special not in ids]:
            raise DataError(f"{path}: not a BERT vocabulary: {', '.join(absent)} is missing")
        return cls(ids)

    def __call__(self, text: str) -> list[int]:
        """Rows of the text's word pieces, between [CLS] and [SEP]."""
        pieces = [piece for word in words(text) for piece in self._pieces(word)]
        return [self.ids[piece] for piece in (START, *pieces, END)]

    def _pieces(self, word: str) -> list[str]:
        """The longest piece first, again and again; [UNK] where a rest is in no piece."""
        if len(word) > LONGEST_WORD:
            return [UNKNOWN]
        found: list[str] = []
        start = 0
        while start < len(word):
            prefix = CONTINUED if start else ""
            ends = (end for end in range(len(word), start, -1) if prefix + word[start:end] in self.ids)
            end = next(ends, None)
            if end is None:
                return [UNKNOWN]
            found.append(prefix + word[start:end])
            start = end
        return found


def words(text: str) -> list[str]:
    """Lower-case words without accents; every punctuation mark and every ideograph is a word of its own."""
    spaced = "".join(_cleaned(text))
    bare = "".join(c for c in unicodedata.normalize("NFD", spaced) if unicodedata.category(c) != "Mn").lower()
    return "".join(f" {c} " if _is_punctuation(c) else c for c in bare).split()


def _cleaned(text: str) -> Iterator[str]:
    """Without control characters, every white space as a blank, and blanks around ideographs."""
    for c in text:
        if c in "\t\n\r" or unicodedata.category(c) == "Zs":
            yield " "
        elif c == "\ufffd" or unicodedata.category(c).startswith("C"):
            continue
        elif any(low <= ord(c) <= high for low, high in IDEOGRAPHS):
            yield f" {c} "
        else:
            yield c


def _is_punctuation(c: str) -> bool:
    """Of Unicode's classes P, and every ASCII sign that is neither letter, digit nor blank."""
    return unicodedata.category(c).startswith("P") or (c.isascii() and c.isprintable() and not c.isalnum() and c != " ")
