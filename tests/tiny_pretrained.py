"""Encoders of random weights, small enough for a test, as transformers saves them; for tests with the extra."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mmcontrast.config import Modality, Pretrained
from mmcontrast.data.pretrained import encode_texts, load_tokenizer, open_folder
from mmcontrast.models.pretrained import PretrainedTower

SIDE, WIDTH, LONGEST, FRAMES, BANDS = 8, 16, 12, 16, 8
TEXTS = ["a dog", "two dogs and a cat", "", "dog " * 30]
SPECIAL = ["<pad>", "<s>", "</s>", "<unk>", "<mask>"]
LAYERS = {"hidden_size": WIDTH, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2}
CALM = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
VOCABULARY = 300


def _configs(longest: int = LONGEST) -> dict[str, Callable[[Any], Any]]:
    pictures = {"image_size": SIDE, "patch_size": 4}
    texts = LAYERS | CALM | {"vocab_size": VOCABULARY}
    audio = {
        "conv_dim": (8, 8),
        "conv_kernel": (10, 3),
        "conv_stride": (5, 2),
        "num_conv_pos_embeddings": 4,
        "num_conv_pos_embedding_groups": 2,
        "hidden_dropout": 0.0,
        "attention_dropout": 0.0,
        "activation_dropout": 0.0,
        "feat_proj_dropout": 0.0,
    }
    return {
        "bert": lambda t: t.BertConfig(max_position_embeddings=longest, **texts),
        "roberta": lambda t: t.RobertaConfig(max_position_embeddings=LONGEST + 2, pad_token_id=0, **texts),
        "vit": lambda t: t.ViTConfig(**LAYERS, **CALM, **pictures),
        "dinov2": lambda t: t.Dinov2Config(
            hidden_size=WIDTH, num_hidden_layers=2, num_attention_heads=2, mlp_ratio=2, **pictures
        ),
        "resnet": lambda t: t.ResNetConfig(
            embedding_size=8, hidden_sizes=[8, WIDTH], depths=[1, 1], layer_type="basic"
        ),
        "clip": lambda t: t.CLIPConfig(
            text_config=LAYERS
            | {"vocab_size": VOCABULARY, "max_position_embeddings": LONGEST}
            | {"bos_token_id": 1, "eos_token_id": VOCABULARY - 1, "pad_token_id": 0},
            vision_config=LAYERS | pictures,
            projection_dim=WIDTH - 4,
        ),
        "wav2vec2": lambda t: t.Wav2Vec2Config(feat_extract_norm="layer", **LAYERS, **audio),
        "ast": lambda t: t.ASTConfig(
            max_length=FRAMES, num_mel_bins=BANDS, patch_size=4, time_stride=4, frequency_stride=4, **LAYERS, **CALM
        ),
    }


KINDS = {
    "bert": "text",
    "roberta": "text",
    "vit": "image",
    "dinov2": "image",
    "resnet": "image",
    "wav2vec2": "sequence",
    "ast": "sequence",
}

SHAPES: dict[str, list[int]] = {"bert": [], "roberta": [], "clip": [], "wav2vec2": [60, 1], "ast": [FRAMES, BANDS]}


def write_encoder(name: str, folder: Path, longest: int = LONGEST) -> Path:
    """One of `KINDS`, or a CLIP, with the tokenizer and the picture processor that it needs. `longest`: of a BERT."""
    import transformers

    with torch.random.fork_rng():
        torch.manual_seed(0)
        config = _configs(longest)[name](transformers)
        made = transformers.CLIPModel(config) if name == "clip" else transformers.AutoModel.from_config(config)
        for parameter in made.parameters():  # the library's own are so small that little can be told apart
            if parameter.ndim > 1:
                torch.nn.init.normal_(parameter, std=0.2)
        made.save_pretrained(folder)
    if name == "clip" or KINDS.get(name) == "text":
        write_tokenizer(folder, ends="<end>" if name == "clip" else None)
    if name == "clip" or KINDS.get(name) == "image":
        write_pictures(folder)
    return folder


def write_tokenizer(folder: Path, ends: str | None = None, more: int = 0) -> None:
    """Byte pairs of a few words; `ends` is the last number, as a CLIP wants it; `more` pieces than there should be."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    made = Tokenizer(models.BPE(unk_token="<unk>"))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY - bool(ends),
        special_tokens=SPECIAL,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    made.train_from_iterator(["a dog and a cat ran over two dogs and cats"] * 3, trainer)
    while (ends or more) and made.get_vocab_size() < VOCABULARY - bool(ends) + more:
        made.add_tokens([f"filler{made.get_vocab_size()}"])
    if ends:
        made.add_special_tokens([ends])
    end = ends or "</s>"
    pair = [("<s>", made.token_to_id("<s>")), (end, made.token_to_id(end))]
    made.post_processor = processors.TemplateProcessing(single=f"<s> $A {end}", special_tokens=pair)
    PreTrainedTokenizerFast(
        tokenizer_object=made,
        pad_token="<pad>",
        bos_token="<s>",
        eos_token=end,
        unk_token="<unk>",
        model_max_length=LONGEST,
    ).save_pretrained(folder)


def picture_values(**changed: Any) -> dict[str, Any]:
    """The preprocessing of an encoder of pictures of this size."""
    return {
        "image_processor_type": "CLIPImageProcessor",
        "crop_size": {"height": SIDE, "width": SIDE},
        "size": {"shortest_edge": SIDE},
        "resample": 3,
        "do_resize": True,
        "do_center_crop": True,
        "do_rescale": True,
        "do_normalize": True,
        "rescale_factor": 1 / 255,
        "image_mean": [0.5, 0.4, 0.3],
        "image_std": [0.25, 0.3, 0.2],
    } | changed


def write_pictures(folder: Path, **changed: Any) -> None:
    (folder / "preprocessor_config.json").write_text(json.dumps(picture_values(**changed)))


def spec(folder: Path, **values: Any) -> Pretrained:
    return Pretrained.model_validate({"folder": str(folder)} | values)


def tower(folder: Path, name: str, kind: str | None = None, **values: Any) -> PretrainedTower:
    kind = kind or KINDS[name]
    shape = SHAPES.get(name, [3, SIDE, SIDE]) if kind != "image" else [3, SIDE, SIDE]
    given = {"attention": "eager"} if name == "resnet" else {}
    return PretrainedTower(Modality(kind=kind, shape=shape), spec(folder, **(given | values)), "model.pretrained.x")  # type: ignore[arg-type]


def pieces(folder: Path, texts: list[str] = TEXTS, wider: int = 0) -> Tensor:
    opened = open_folder(spec(folder), "here")
    rows = encode_texts(load_tokenizer(opened), texts, LONGEST).rows
    out = torch.full((len(rows), max(map(len, rows)) + wider), -1)
    for i, row in enumerate(rows):
        out[i, : len(row)] = torch.tensor(row)
    return out
