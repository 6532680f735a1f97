"""The tokenizer of a pretrained encoder, held against its weights, and texts as its word pieces."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mmcontrast.config import Pretrained
from mmcontrast.data.pretrained import CONFIG, Folder, first_line, library
from mmcontrast.data.word_pieces import Encoded
from mmcontrast.errors import ConfigError, DataError

TOKENIZERS = (
    ("tokenizer.json",),
    ("vocab.txt",),
    ("vocab.json", "merges.txt"),
    ("spiece.model",),
    ("sentencepiece.bpe.model",),
)
# position 0 belongs to the padding's number in these, so that so many positions more are never used
OFFSET_POSITIONS = ("roberta", "xlm-roberta", "camembert", "xlm-roberta-xl", "mpnet")
# in older files it stands for the end of a text, whose true number is the vocabulary's last
UNTRUE_END = 2


def load_tokenizer(folder: Folder) -> Any:
    """The tokenizer that belongs to the weights.

    Raises:
        DataError: it is missing or damaged, or has more word pieces than the encoder.
    """
    if not any(all((folder.path / name).is_file() for name in group) for group in TOKENIZERS):
        wanted = ", or ".join(" and ".join(group) for group in TOKENIZERS)
        raise DataError(f"{folder.path}: no tokenizer; expected {wanted}")
    try:
        tokenizer = library(folder.where).AutoTokenizer.from_pretrained(
            folder.path, local_files_only=True, trust_remote_code=False
        )
    except Exception as e:  # tokenizers raises the bare class
        raise DataError(f"{folder.path}: the tokenizer cannot be read ({first_line(e)})") from None
    config = text_part(folder)
    if len(tokenizer) > config.vocab_size:
        raise DataError(
            f"{folder.path}: the tokenizer has {len(tokenizer)} word pieces, and {CONFIG} says {config.vocab_size}; "
            "these files do not belong together"
        )
    if folder.kind == "clip":
        end = config.vocab_size - 1 if config.eos_token_id == UNTRUE_END else config.eos_token_id
        if tokenizer.eos_token_id != end:
            raise DataError(
                f"{folder.path}: the tokenizer ends a text with number {tokenizer.eos_token_id}, and {CONFIG} says "
                f"{end}; these files do not belong together"
            )
    return tokenizer


def text_part(folder: Folder) -> Any:
    """The configuration of what encodes texts; ConfigError where it encodes none."""
    config = getattr(folder.config, "text_config", folder.config)
    if getattr(config, "vocab_size", None) is None or getattr(config, "max_position_embeddings", None) is None:
        raise ConfigError(f"{folder.where}: {folder.path} holds a model of type '{folder.kind}', which reads no texts")
    return config


def longest_text(folder: Folder, tokenizer: Any, spec: Pretrained) -> int:
    """Most tokens of a text, special ones included: `tokens`, or as many as the model has positions for.

    Raises:
        ConfigError: `tokens` is more than that.
    """
    config = text_part(folder)
    positions: int = config.max_position_embeddings
    if folder.kind in OFFSET_POSITIONS:
        positions -= config.pad_token_id + 1
    if spec.tokens is not None and spec.tokens > positions:
        raise ConfigError(f"{folder.where}.tokens: {spec.tokens}, and {folder.path} has positions for {positions}")
    return spec.tokens or min(positions, int(tokenizer.model_max_length))


def encode_texts(tokenizer: Any, texts: Sequence[str], longest: int) -> Encoded:
    """Each text's word pieces with the special ones, cut to `longest` where there are more.

    A text that spells out a special token, such as [CLS], is read as text. What ends a text stays where it is cut.
    """
    if not texts:
        return Encoded([], 0, [])  # the library fails on none
    asked = {"split_special_tokens": True, "verbose": False}
    rows: list[list[int]] = tokenizer(list(texts), **asked)["input_ids"]
    long = [i for i, row in enumerate(rows) if len(row) > longest]
    if long:
        shorter = tokenizer([texts[i] for i in long], truncation=True, max_length=longest, **asked)["input_ids"]
        for i, row in zip(long, shorter, strict=True):
            rows[i] = row
    special = tokenizer.num_special_tokens_to_add()
    return Encoded(rows, len(long), [i for i, row in enumerate(rows) if len(row) <= special])
