"""Pretrained encoders from folders in the layout of the library transformers.

The library is an optional extra, imported only where a dataset or a cell needs it. It accepts much that is wrong
without an error: random weights where a file lacks some, a vocabulary of five words where there is no tokenizer. The
checks here and in the callers refuse those. Nothing is downloaded, and code in the folder is never run.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mmcontrast.errors import ConfigError, DataError

CONFIG, WEIGHTS = "config.json", "model.safetensors"


def library(needed_by: str) -> Any:
    """The module transformers, which then prints only errors.

    Args:
        needed_by: begins the message, e.g. `model.clip`.

    Raises:
        ConfigError: it is not installed.
    """
    try:
        import transformers
    except ImportError:
        raise ConfigError(
            f"{needed_by}: needs the library transformers, which is not installed; run `pip install -c constraints.txt "
            "-e '.[encoders]'`"
        ) from None
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    return transformers


def load_weights(model: Any, folder: Path, what: str, **options: Any) -> Any:
    """The model in evaluation mode, with all its weights from the folder's safetensors file.

    Args:
        model: a class of the library. what: for messages, e.g. `a CLIP`.
        options: further arguments of its `from_pretrained`, such as dtype.

    Raises:
        DataError: the file is damaged, or does not hold what the configuration asks for.
    """
    path = folder / WEIGHTS
    try:
        loaded, report = model.from_pretrained(
            folder, local_files_only=True, use_safetensors=True, output_loading_info=True, **options
        )
    except Exception as e:  # the library and safetensors have errors of their own
        raise DataError(f"{path}: cannot be read as the weights of {what} ({first_line(e)})") from None
    if absent := sorted(map(str, (*report["missing_keys"], *report["mismatched_keys"]))):
        raise DataError(f"{path}: {len(absent)} weights that {CONFIG} asks for are not there, such as {absent[0]}")
    return loaded


def first_line(error: Exception) -> str:
    """The first line of an error of the library, which may be a page long."""
    return (str(error) or type(error).__name__).strip().splitlines()[0]
