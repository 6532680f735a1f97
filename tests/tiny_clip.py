"""A CLIP of random weights, small enough for a test, as transformers saves one. Only tests with the extra call it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch

SIDE, WIDTH, LONGEST = 8, 12, 16
START, END = "<|startoftext|>", "<|endoftext|>"


def pictures() -> dict[str, Any]:
    """The preprocessing of a CLIP of this size."""
    return {
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
    }


def vocabulary() -> dict[str, int]:
    """Letters, digits and marks, each alone and at a word's end, one merged pair, start and end."""
    marks = [chr(c) for c in range(33, 127)]
    pieces = [*marks, *(f"{c}</w>" for c in marks), "of</w>", START, END]
    return {piece: i for i, piece in enumerate(pieces)}


def write_clip(folder: Path) -> None:
    from transformers import CLIPConfig, CLIPModel

    pieces = vocabulary()
    tower = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2}
    config = CLIPConfig(
        text_config=tower
        | {
            "vocab_size": len(pieces),
            "max_position_embeddings": LONGEST,
            "bos_token_id": pieces[START],
            "eos_token_id": pieces[END],
            "pad_token_id": pieces[END],
        },
        vision_config=tower | {"image_size": SIDE, "patch_size": 4},
        projection_dim=WIDTH,
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        CLIPModel(config).save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(json.dumps(pictures()))
    (folder / "vocab.json").write_text(json.dumps(pieces))
    (folder / "merges.txt").write_text("#version: 0.2\no f</w>\n")
