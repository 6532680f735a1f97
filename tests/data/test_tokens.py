"""Texts as word pieces of our own or of a pretrained tokenizer: one per instance, absent, cut, without a word."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from mmcontrast.config import Modality, Model, Pretrained
from mmcontrast.data.loading import Table
from mmcontrast.data.tokens import tokenised
from mmcontrast.errors import DataError
from tests.grids import grid_of
from tests.tiny_pretrained import LONGEST, TEXTS, write_encoder

TEXT = {"text": Modality(kind="text", shape=[])}
OWN = {"vocabulary": 40, "tokens": 3, "embedding": 4, "hidden": 4}


class Texts:
    """A column of texts, as batches know one: its length, and slices of it."""

    def __init__(self, texts: list[str]) -> None:
        self.texts = texts

    def __len__(self) -> int:
        return len(self.texts)

    def __getitem__(self, rows: slice) -> list[str]:
        return self.texts[rows]


def table(texts: list[str]) -> Table:
    ids = [str(i) for i in range(len(texts))]
    return Table(ids, torch.zeros(len(texts), dtype=torch.int64), {"text": Texts(texts)}, TEXT, ["a"])  # type: ignore[dict-item]


def cell(**model: Any):
    given = Model.model_validate({"width": 4, "encoder_hidden": [], "head_hidden": []} | model)
    whole = grid_of().cell("flickr30k", "mxm_clr", "clip_frozen")
    return whole.model_copy(update={"modalities": TEXT, "model": given})


def test_single_texts_of_our_own_pieces(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        tables, vocabularies = tokenised(
            {"train": table(["ab ab", "ab", ""]), "test": table(["ab ab ab ab"])}, cell(text=OWN)
        )
    ab = vocabularies["text"].word("ab")[0]
    assert tables["train"].inputs["text"][0:3].tolist() == [[ab, ab], [ab, 0], [1, 0]]
    assert tables["test"].inputs["text"][0:1].tolist() == [[ab] * 3]
    assert "flickr30k, test: 1 of 1 texts of 'text' have more than model.text.tokens = 3 word pieces and were cut" in (
        caplog.text
    )
    assert "flickr30k, train: 1 texts of 'text' have no word" in caplog.text


def test_texts_of_a_pretrained_tokenizer(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    pytest.importorskip("transformers")
    folder = write_encoder("bert", tmp_path / "bert")
    given = {"text": Pretrained(folder=str(folder))}
    with caplog.at_level(logging.WARNING):
        tables, vocabularies = tokenised({"train": table(TEXTS), "test": table(["a cat"])}, cell(pretrained=given))
    assert vocabularies == {}
    pieces = tables["train"].inputs["text"][torch.arange(4)]
    assert pieces.shape == (len(TEXTS), LONGEST)
    assert pieces[2].tolist() == [1, 2] + [-1] * (LONGEST - 2)
    assert (pieces[3] >= 0).all()
    assert f"train: 1 of 4 texts of 'text' have more than model.pretrained.text's {LONGEST} word pieces" in caplog.text
    assert "train: 1 texts of 'text' have no word" in caplog.text
    assert tables["test"].inputs["text"][0:1].shape[1] < LONGEST


def test_a_text_that_an_instance_lacks_is_padding_and_not_counted_as_empty(caplog: pytest.LogCaptureFixture) -> None:
    lacking = replace(table(["ab ab", "", ""]), present={"text": torch.tensor([True, False, True])})
    with caplog.at_level(logging.WARNING):
        tables, _ = tokenised({"train": lacking}, cell(text=OWN))
    assert tables["train"].inputs["text"][0:3].tolist()[1:] == [[0, 0], [1, 0]]
    assert "train: 1 texts of 'text' have no word" in caplog.text


def test_a_tokenizer_of_other_texts_is_refused(tmp_path: Path) -> None:
    pytest.importorskip("transformers")
    folder = write_encoder("bert", tmp_path / "bert")
    for file in folder.glob("*token*"):
        file.unlink()
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "dog"]
    (folder / "vocab.txt").write_text("\n".join(words) + "\n")
    with pytest.raises(DataError, match=r"6 of 11 word pieces of the training texts are unknown to the enc"):
        tokenised(
            {"train": table(["six words that it knows not", "dog"])},
            cell(pretrained={"text": Pretrained(folder=str(folder))}),
        )
