"""Word pieces: learned from the texts given alone, deterministic, and able to spell what was never seen."""

import logging
from itertools import pairwise

import pytest
import torch

from mmcontrast.config import Modality
from mmcontrast.config.training import TextModel
from mmcontrast.data.loading import Observations, Table
from mmcontrast.data.tokens import UNKNOWN, learn, tokenised, words
from mmcontrast.errors import ConfigError, DataError

TEXTS = ["low lower lowest", "new newer newest", "wide wider widest", "low new"]


def slow_merges(texts, n):
    """The pairs joined, by counting all pairs anew after each."""
    spelled = [("▁" + w[0], *w[1:]) for text in texts for w in words(text)]
    out = []
    for _ in range(n):
        counts = {}
        for symbols in spelled:
            for pair in pairwise(symbols):
                counts[pair] = counts.get(pair, 0) + 1
        best = min(counts, key=lambda p: (-counts[p], p))
        if counts[best] < 2:
            break
        out.append(best)
        joined = []
        for symbols in spelled:
            new, i = [], 0
            while i < len(symbols):
                hit = symbols[i : i + 2] == best
                new.append("".join(best) if hit else symbols[i])
                i += 2 if hit else 1
            joined.append(tuple(new))
        spelled = joined
    return out


def test_merges_are_those_of_a_slow_count():
    learned = learn(TEXTS, 40)
    assert learned.merges == slow_merges(TEXTS, 100)
    assert learned.merges
    assert len(set(learned.pieces)) == len(learned.pieces)


def test_the_vocabulary_stops_at_its_size_and_repeats_exactly():
    small = learn(TEXTS, 18)
    assert len(small.pieces) == 18
    assert learn(TEXTS, 18) == small
    assert learn(TEXTS, 40).merges[: len(small.merges)] == small.merges


def test_known_words_are_whole_and_new_words_are_spelled_from_pieces():
    learned = learn(TEXTS, 60)
    name = learned.pieces
    assert [name[n] for n in learned.word("low")] == ["▁low"]
    assert "".join(name[n] for n in learned.word("widow")) == "▁widow"
    assert learned.word("z") == [UNKNOWN]


def test_texts_are_cut_and_padded_and_counted():
    learned = learn(TEXTS, 60)
    encoded = learned.encode(["low new low new", "LOW", "", "..."], 3)
    low, new = learned.word("low")[0], learned.word("new")[0]
    assert encoded.rows[:3] == [[low, new, low], [low], [UNKNOWN]]
    assert encoded.cut == 1
    assert encoded.empty == [2]
    assert encoded.rows[3] == [UNKNOWN] * 3


@pytest.mark.parametrize(("texts", "size", "says"), [(["", " "], 10, "no word"), (["abc"], 4, "at least 5")])
def test_what_cannot_be_learned_is_refused(texts, size, says):
    with pytest.raises(DataError, match=says):
        learn(texts, size)


def table(texts):
    spec = {"text": Modality(kind="text", shape=[], multifold=True)}
    offsets = torch.arange(len(texts) + 1)
    observations = {"text": Observations(texts, offsets)}
    return Table([str(i) for i in range(len(texts))], torch.zeros(len(texts), dtype=torch.int64), {}, spec, ["a"],
                 observations=observations)  # fmt: skip


class Cell:
    """What `tokenised` reads of a cell."""

    name, dataset, method = "d/m/base", "d", "m"
    modalities = {"text": Modality(kind="text", shape=[], multifold=True)}  # noqa: RUF012

    def __init__(self, text):
        self.model = type("Model", (), {"text": text, "pretrained": {}})


def test_the_vocabulary_is_of_training_texts_and_cut_texts_are_told(caplog):
    spec = TextModel(vocabulary=40, tokens=2, embedding=4, hidden=4)
    with caplog.at_level(logging.WARNING):
        tables, vocabularies = tokenised({"train": table(["ab ab"]), "test": table(["ab ab ab", "zz"])}, Cell(spec))
    assert set("".join(vocabularies["text"].pieces)) & set("z") == set()
    assert tables["test"].observations["text"].flat.tolist() == [vocabularies["text"].word("ab") * 2, [1, 1]]
    assert "d, test: 1 of 2 texts of 'text' have more than model.text.tokens = 2" in caplog.text
    assert "train: 1 of" not in caplog.text


def test_texts_without_a_text_model_are_refused():
    with pytest.raises(ConfigError, match=r"model\.text: required for modality 'text'"):
        tokenised({"train": table(["a"])}, Cell(None))
