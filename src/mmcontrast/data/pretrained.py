"""Pretrained encoders from folders in the layout of the library transformers: found, checked and read.

The library is an optional extra, imported only where it is needed. It accepts much that is wrong without an error:
random weights where a file lacks some, a vocabulary of five words where there is no tokenizer. That is refused here. A
job downloads nothing (`download` is for `mmcontrast data encoders`), and code in a folder is never run.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmcontrast.config import Pretrained
from mmcontrast.data.files import told_json
from mmcontrast.data.tokens import Encoded
from mmcontrast.errors import ConfigError, DataError, FetchError, first_line, not_installed

CONFIG, WEIGHTS, SHARDS = "config.json", "model.safetensors", "model.safetensors.index.json"
PICTURES = ("preprocessor_config.json", "processor_config.json")
DOWNLOADED = ["*.json", "*.safetensors", "*.txt", "*.model"]
LOCAL = {"local_files_only": True, "trust_remote_code": False}
RESAMPLING = {2: "bilinear", 3: "bicubic"}  # Pillow's numbers
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


@dataclass(frozen=True)
class Folder:
    """A folder that was read: the library's `config`, config.json as it stands (`whole`). `where` begins messages."""

    path: Path
    config: Any
    whole: dict[str, Any]
    where: str

    @property
    def kind(self) -> str:
        """The library's name of the architecture, e.g. `bert`."""
        return str(self.whole["model_type"])


@dataclass(frozen=True)
class Pictures:
    """How an encoder's picture is made, by the library's class `processor`: a square, then (value / 255 - mean) /
    spread for each of three channels.
    """

    side: int
    mean: tuple[float, ...]
    spread: tuple[float, ...]
    resampling: str
    processor: str


def library(needed_by: str) -> Any:
    """The module transformers, which then prints only errors. ConfigError, with `needed_by` first: not installed."""
    try:
        import transformers
    except ImportError:
        raise not_installed(needed_by, "transformers") from None
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    return transformers


def download(specs: Iterable[Pretrained]) -> list[Path]:
    """Bring the commits of hub ids to the library's cache. Raises FetchError where one cannot be had."""
    library("model.pretrained")
    from huggingface_hub import snapshot_download

    out = []
    for hub, revision in sorted({(spec.hub, spec.revision) for spec in specs if spec.hub and spec.revision}):
        try:
            out.append(Path(snapshot_download(hub, revision=revision, allow_patterns=DOWNLOADED)))
        except (OSError, ValueError, RuntimeError) as e:
            raise FetchError(
                f"{hub} at {revision}: could not be had ({first_line(e)}); put its files into a folder and name that "
                "as `folder`"
            ) from None
    return out


def open_folder(spec: Pretrained, where: str) -> Folder:
    """Find an encoder's files and read its configuration.

    Raises ConfigError: the extra is not installed; DataError: a file is missing or damaged, or the folder holds code of
    its own or no weights as safetensors.
    """
    transformers = library(where)
    folder = Path(spec.folder) if spec.folder is not None else _cached(str(spec.hub), str(spec.revision), where)
    if not folder.is_dir():
        raise DataError(
            f"{folder}: no such folder; {where}.folder names one, relative to the checkout, with {CONFIG}, {WEIGHTS} "
            "and the tokenizer's or picture processor's files"
        )
    path = folder / CONFIG
    whole = told_json(path, "a configuration", "a folder with an encoder has it")
    if "auto_map" in whole:
        raise DataError(f"{path}: auto_map names code of its own, which is never run; give a folder without")
    if spec.has_weights and not any((folder / name).is_file() for name in (WEIGHTS, SHARDS)):
        raise DataError(
            f"{folder / WEIGHTS}: no such file, and weights are read as safetensors alone; of a folder with "
            "pytorch_model.bin, AutoModel.from_pretrained(folder).save_pretrained(folder) of transformers makes it"
        )
    try:
        config = transformers.AutoConfig.from_pretrained(folder, **LOCAL)
    except Exception as e:  # the library checks values in its own way, with errors of its own
        raise DataError(f"{path}: not a configuration of the library ({first_line(e)})") from None
    return Folder(folder, config, whole | {"model_type": config.model_type}, where)


def described_by(folder: Path) -> list[Path]:
    """Files of an encoder's folder that are no weights: its configuration, tokenizer and picture processor."""
    found = {p for pattern in DOWNLOADED if "safetensors" not in pattern for p in folder.glob(pattern)}
    return sorted(p for p in found if p.is_file() and p.name != SHARDS)


def load_weights(model: Any, folder: Path, unused: tuple[str, ...] = (), **options: Any) -> Any:
    """The model, a class of the library, in evaluation mode with all its weights from the folder's safetensors file.

    `unused`: beginnings of the names of weights that may be missing, as nothing is computed with them. `options`: for
    `from_pretrained`. Raises DataError: the file is damaged, or does not hold what the configuration asks for.
    """
    import torch

    path = folder / WEIGHTS
    try:
        with torch.random.fork_rng(devices=[]):  # what is missing is drawn, before it is refused
            asked = {"use_safetensors": True, "output_loading_info": True, "ignore_mismatched_sizes": True}
            loaded, report = model.from_pretrained(folder, **LOCAL, **asked, **options)
    except Exception as e:  # the library and safetensors have errors of their own
        raise DataError(f"{path}: cannot be read as the weights that {CONFIG} describes ({first_line(e)})") from None
    if other := sorted(report["mismatched_keys"]):
        name, found, wanted = other[0]
        raise DataError(
            f"{path}: {len(other)} weights of other shapes than {CONFIG} asks for, such as {name}: {list(found)}, "
            f"expected {list(wanted)}"
        )
    if absent := sorted(key for key in map(str, report["missing_keys"]) if not key.startswith(unused or ("\0",))):
        raise DataError(f"{path}: {len(absent)} weights that {CONFIG} asks for are not there, such as {absent[0]}")
    return loaded


def pictures(folder: Folder) -> Pictures:
    """What the folder's picture processor does. DataError: there is none, or what it does is not done here."""
    path = next((folder.path / name for name in PICTURES if (folder.path / name).is_file()), None)
    if path is None:
        raise DataError(f"{folder.path / PICTURES[0]}: no such file; it says how a picture is made for this encoder")
    try:
        found = library(folder.where).AutoImageProcessor.from_pretrained(folder.path, **LOCAL)
    except Exception as e:
        raise DataError(f"{path}: no picture processor can be made of it ({first_line(e)})") from None
    cropped = found.crop_size if getattr(found, "do_center_crop", False) else None
    side = _side(cropped or found.size)
    if side is None:
        raise DataError(f"{path}: size is {found.size} and crop_size {cropped}; accepted: a square")
    if not found.do_rescale or abs(found.rescale_factor * 255 - 1) > 1e-6:
        raise DataError(f"{path}: rescale_factor is {found.rescale_factor!r}; accepted: 1/255")
    if found.resample not in RESAMPLING:
        raise DataError(f"{path}: resample is {found.resample!r}; accepted: 2 (bilinear) or 3 (bicubic)")
    mean, spread = [0.0] * 3, [1.0] * 3
    if found.do_normalize:
        mean, spread = list(found.image_mean), list(found.image_std)
    if len(mean) != 3 or len(spread) != 3 or min(spread) <= 0:
        raise DataError(f"{path}: image_mean {mean}, image_std {spread}; expected three numbers each, spreads above 0")
    return Pictures(side, tuple(mean), tuple(spread), RESAMPLING[found.resample], type(found).__name__)


def _cached(hub: str, revision: str, where: str) -> Path:
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(hub, revision=revision, local_files_only=True))
    except (OSError, ValueError, RuntimeError) as e:
        raise DataError(
            f"{where}.hub: {hub} at {revision} is not in the cache of this machine ({first_line(e)}); run `mmcontrast "
            "data encoders` with the --suite of this run where there is a network, or put its files into a folder and "
            f"name that as {where}.folder"
        ) from None


def _side(size: Any) -> int | None:
    """The side of a square: {shortest_edge}, or equal {height, width}."""
    values = {value for value in dict(size).values() if value is not None}
    side = next(iter(values)) if len(values) == 1 else None
    return side if isinstance(side, int) and side > 0 else None


def load_tokenizer(folder: Folder) -> Any:
    """The tokenizer of the weights. Raises DataError: missing, damaged, or of more word pieces than the encoder."""
    if not any(all((folder.path / name).is_file() for name in group) for group in TOKENIZERS):
        wanted = ", or ".join(" and ".join(group) for group in TOKENIZERS)
        raise DataError(f"{folder.path}: no tokenizer; expected {wanted}")
    try:
        tokenizer = library(folder.where).AutoTokenizer.from_pretrained(folder.path, **LOCAL)
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
    """Most tokens of a text, special ones included: `tokens` (ConfigError: too many), or the positions of the model."""
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
