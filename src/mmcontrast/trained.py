"""A trained model for rows that it has never seen: raw inputs in, NumPy arrays out; or tables of them in and out.

N rows, D width of an embedding, P observations of a modality, C classes, labels or quantities.

A table is csv or Parquet; the column `id` names its rows, and several tables are joined by it. A vector has its
features in columns of their names, in a table of the modality's name or as <modality>/<feature> where two modalities
have a feature of one name. Every other modality has the column of its name: a text; the path of a picture, from the
table's folder; a sequence, or the observations of a multifold modality, as a list, which in csv is JSON.
"""

import importlib
import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import reduce
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray
from pydantic import ValidationError

from mmcontrast.config import CellConfig, Modality
from mmcontrast.config.training import Exported
from mmcontrast.data.files import read_json, replacing
from mmcontrast.data.loading import Table
from mmcontrast.data.new_rows import table_of
from mmcontrast.data.scaling import Scaler, read_fitted
from mmcontrast.errors import DataError, nearest
from mmcontrast.evaluation.retrieval import grouped_similarity
from mmcontrast.exported import CELL, ENCODERS, FITTED, read_weights, sealed, vocabulary_name, weights_name
from mmcontrast.methods.base import Method, build_method
from mmcontrast.training.outputs import embed, embed_observations, predict

Array = NDArray[Any]
Inputs = Mapping[str, Any]
ID = "id"
READERS: dict[str, Callable[[Path], pl.DataFrame]] = {".csv": pl.read_csv, ".parquet": pl.read_parquet}


class TrainedModel:
    """What `mmcontrast.load` gives.

    Inputs are a mapping, modality -> N raw values, as they are before anything is scaled, filled, cut into word pieces
    or padded: an array or a list of arrays, a frame with the features by name, a list of texts, a list of pictures
    (pixels, bytes of a file, or paths); None where a row lacks the modality. See `data.new_rows.table_of`.

    Attributes:
        method: the network, in evaluation mode; `method.cell` is what it was trained with.
    """

    def __init__(self, method: Method, scalers: Mapping[str, Scaler], texts: Mapping[str, Any], device: str) -> None:
        self.device = torch.device(device)
        self.method, self._scalers, self._texts = method.to(self.device), scalers, texts

    @property
    def cell(self) -> CellConfig:
        """What it was trained with."""
        return self.method.cell

    def features(self, modality: str) -> list[str]:
        """Names of a vector's features in their order, where the data have them."""
        return list(self._scalers[modality].features_d) if modality in self._scalers else []

    def embed(self, inputs: Inputs, readout: str = "") -> Array:
        """(N, D) float32 embeddings, as training stores and the report scores them.

        `readout`: another embedding than the method's own, such as `encoders`.

        Raises DataError: the inputs are not what the model takes, or there is no such readout.
        """
        found = embed(self.method, self._table(inputs), self.device)
        if readout not in found:
            raise DataError(f"readout '{readout}': {self.cell.method} has none of that name; {nearest(readout, found)}")
        return found[readout].numpy()

    def observations(self, inputs: Inputs) -> dict[str, tuple[Array, Array]]:
        """modality -> ((P, D) float32 unit rows to compare with those of the other modalities, (P,) row of each).

        Raises ConfigError: the method compares no observations. DataError: as `embed`.
        """
        found = embed_observations(self.method, self._table(inputs), self.device)
        return {m: (z_PD.numpy(), row_P.numpy()) for m, (z_PD, row_P) in found.items()}

    def zero_shot(self, inputs: Inputs, texts: Mapping[str, str]) -> tuple[Array, Array]:
        """(N,) names of classes that are given by a text each, and the (N, C) cosine similarities that say so.

        What is compared are the unit mean rows of `observations`: of the texts, and of the one other modality in
        `inputs`. texts: class -> text, such as "a drawing of an animal". Radford et al., ICML 2021, section 3.1.

        Raises ConfigError: as `observations`. DataError: as `embed`; or no modality is text.
        """
        text = next((m for m, spec in self.cell.modalities.items() if spec.kind == "text"), None)
        if text is None or len(inputs) != 1 or text in inputs:
            raise DataError(
                f"{self.cell.name}: zero-shot classification takes one modality, and has classes in another, which is "
                f"text; its modalities are {', '.join(self.cell.modalities)}, and {', '.join(inputs)} came as inputs"
            )
        several = self.cell.modalities[text].multifold
        of_classes = {text: [[words] if several else words for words in texts.values()]}
        rows, classes = self.observations(inputs)[next(iter(inputs))], self.observations(of_classes)[text]
        similarity_NC, *_ = grouped_similarity(*rows, *classes)
        return np.array(list(texts))[similarity_NC.argmax(1)], similarity_NC

    def predict_proba(self, inputs: Inputs) -> Array:
        """(N, C) probabilities of classes or labels.

        Raises DataError: as `embed`; or nothing classifies, or the target is a quantity.
        """
        if self.cell.target == "regression":
            raise DataError(f"{self.cell.name}: predicts quantities, which have no probabilities; use `predict`")
        return self._outputs(inputs)

    def predict(self, inputs: Inputs) -> Array:
        """(N,) names of classes; of several labels at once (N, C) 0 or 1, of a regression (N, C) numbers in its units.

        Raises DataError: as `predict_proba`.
        """
        out_NC = self._outputs(inputs)
        if self.cell.target == "classes":
            return np.array(self.cell.classes)[out_NC.argmax(1)]
        return out_NC if self.cell.target == "regression" else (out_NC >= 0.5).astype(np.uint8)

    def _outputs(self, inputs: Inputs) -> Array:
        if self.cell.scored_by != "classifier":
            raise DataError(f"{self.cell.name}: has no classifier; use `embed`")
        return predict(self.method, self._table(inputs), self.device).numpy()

    def _table(self, inputs: Inputs) -> Table:
        table = table_of(inputs, self.cell, self._scalers, self.method.takes_partial_rows)
        if not self._texts:
            return table
        in_pieces: Any = importlib.import_module("mmcontrast.data.tokens").in_pieces
        made: Table = in_pieces(table, self._texts, "inputs")
        return made


def load(path: str | Path, device: str = "cpu", seed: int | None = None) -> TrainedModel:
    """A trained model with all that was fitted with it.

    Args:
        path: seed<k>.safetensors of an exported model, or the folder of a cell, runs/<dataset>/<method>/<variant>.
        device: where it computes, as torch names it. seed: of a folder's models; None = the first.

    Raises DataError: a file is missing, damaged, changed since, or does not belong; or the method embeds labels.
    """
    file = weights_file(Path(path), seed)
    method, folder = load_method(file), file.parent
    if method.reads_labels:
        raise DataError(f"{file}: {method.cell.method} embeds labels, which new rows do not have; load another method")
    scalers = read_fitted(sealed(folder / FITTED)) if (folder / FITTED).exists() else {}
    cell = _built_from(method.cell, folder)
    texts = {}
    for m in [m for m, spec in cell.modalities.items() if spec.kind == "text"]:
        tokens = importlib.import_module("mmcontrast.data.tokens")
        words = folder / vocabulary_name(int(file.stem.removeprefix("seed")), m)
        texts[m] = tokens.text_encoder(m, cell, lambda _, words=words: _vocabulary(words))
    return TrainedModel(method, scalers, texts, device)


def weights_file(path: Path, seed: int | None = None) -> Path:
    """The file itself, or that of a seed in the folder of a cell, a stage or models; of the last stage there is."""
    if path.suffix == ".safetensors":
        return path
    for folder in (path, path / "models", path / "finetune/models", path / "pretrain/models"):
        if found := sorted(folder.glob("seed*.safetensors"), key=lambda p: (len(p.name), p.name)):
            return found[0] if seed is None else folder / weights_name(seed)
    raise DataError(f"{path}: holds no trained model; name seed<k>.safetensors, or the folder of a trained cell")


def load_method(file: Path) -> Method:
    """The network of an exported model in evaluation mode, on the CPU; `.cell` is what it was trained with.

    Raises DataError: a file is missing, damaged, or does not belong to the others.
    """
    cell, weights = read_cell(file.parent / CELL), read_weights(file)
    sealed(file)
    method = build_method(_built_from(cell, file.parent))
    method.cell = cell
    if cell.model.image_weights is not None:
        importlib.import_module("mmcontrast.models.image_weights").normalise_pictures(method)
    try:
        method.load_state_dict(weights)
    except RuntimeError as e:
        reason = str(e).splitlines()[-1].strip()
        raise DataError(f"{file}: does not belong to {file.parent / CELL} ({reason})") from None
    return method.eval()


def _built_from(cell: CellConfig, folder: Path) -> CellConfig:
    own = {}
    for key, spec in cell.model.pretrained.items():
        for file in (folder / ENCODERS / key).glob("*"):
            sealed(file)
        place = {"folder": str(folder / ENCODERS / key), "hub": None, "revision": None}
        own[key] = Exported.model_validate(spec.model_dump() | place)
    return cell.model_copy(update={"model": cell.model.model_copy(update={"pretrained": own, "image_weights": None})})


def exported_epoch(path: str | Path) -> int:
    """The epoch that the weights in a safetensors file are of, 0-based."""
    from safetensors import safe_open

    with safe_open(path, framework="numpy") as handle:
        return int(json.loads(handle.metadata()["mmcontrast"])["epoch"])


def _vocabulary(file: Path) -> Any:
    content = read_json(sealed(file))
    pieces = importlib.import_module("mmcontrast.data.tokens").WordPieces
    return pieces(content["pieces"], [(a, b) for a, b in content["merges"]])


def read_cell(path: Path) -> CellConfig:
    """The configuration beside weights. Raises DataError: missing, not JSON, or of a version with other parameters."""
    try:
        return CellConfig.model_validate(read_json(path))
    except FileNotFoundError:
        raise DataError(f"{path}: no such file; it is written beside the weights when a cell is trained") from None
    except ValidationError as e:
        fault = e.errors()[0]
        where = ".".join(map(str, fault["loc"]))
        reason = f"{where}: {fault['msg']}"
        raise DataError(f"{path}: not what this version writes ({reason}); train the cell again") from None
    except ValueError as e:
        raise DataError(f"{path}: damaged ({e}); train the cell again") from None


def embed_files(model: TrainedModel, files: Sequence[Path], out: Path, readout: str = "") -> int:
    """Write `id` and `embedding`; of a cell scored by retrieval a row per observation. Returns the number of rows.

    Raises DataError: a file cannot be read or lacks a column, or its rows are not what the model takes.
    """
    ids, inputs = read_rows(model, files)
    if model.cell.scored_by != "retrieval" or readout:
        return _write(pl.DataFrame({ID: ids, "embedding": model.embed(inputs, readout)}), out)
    found = model.observations(inputs)
    parts = [
        pl.DataFrame({ID: [ids[i] for i in row_P], "modality": [m] * len(row_P), "embedding": z_PD})
        for m, (z_PD, row_P) in found.items()
        if len(row_P)
    ]
    return _write(pl.concat(parts), out)


def predict_files(model: TrainedModel, files: Sequence[Path], out: Path) -> int:
    """Write `id`, `predicted` and the probability of each class; of other targets a column per label or quantity.

    Raises DataError: as `embed_files`; or nothing classifies.
    """
    ids, inputs = read_rows(model, files)
    cell = model.cell
    values_NC = model.predict(inputs) if cell.target == "regression" else model.predict_proba(inputs)
    predicted = {"predicted": np.array(cell.classes)[values_NC.argmax(1)]} if cell.target == "classes" else {}
    return _write(pl.DataFrame({ID: ids} | predicted | dict(zip(cell.classes, values_NC.T, strict=True))), out)


def read_rows(model: TrainedModel, files: Sequence[Path]) -> tuple[list[str], dict[str, Any]]:
    """N ids, and the raw inputs of these rows.

    Raises DataError: a file cannot be read, has an id twice or lacks it, or no column is an input.
    """
    modalities = model.cell.modalities
    frame = reduce(
        lambda one, other: one.join(other, on=ID, how="full", coalesce=True, maintain_order="left_right"),
        [_read(file, modalities, len(files) > 1) for file in files],
    )
    inputs: dict[str, Any] = {}
    shared = Counter(f for m in modalities for f in model.features(m))
    for m, spec in modalities.items():
        names = {f: f"{m}/{f}" if f"{m}/{f}" in frame.columns or shared[f] > 1 else f for f in model.features(m)}
        if any(name in frame.columns for name in names.values()):
            there = {name: f for f, name in names.items() if name in frame.columns}
            inputs[m] = frame.select(pl.col(name).alias(f) for name, f in there.items())
        elif m in frame.columns:
            inputs[m] = [_value(cell, spec, f"column '{m}', row {i}") for i, cell in enumerate(frame[m])]
    if not inputs:
        wanted = [next(iter(model.features(m)), m) for m in modalities]
        raise DataError(f"{files[0]}: no column is an input of the model; expected columns such as {', '.join(wanted)}")
    return frame[ID].to_list(), inputs


def _read(file: Path, modalities: dict[str, Modality], joined: bool) -> pl.DataFrame:
    if file.suffix not in READERS:
        raise DataError(f"{file}: '{file.suffix}' is not read here; give {' or '.join(READERS)}")
    try:
        frame = READERS[file.suffix](file)
    except FileNotFoundError:
        raise DataError(f"{file}: no such file") from None
    except (pl.exceptions.PolarsError, OSError) as e:
        raise DataError(f"{file}: not a table that can be read ({str(e).splitlines()[0]})") from None
    if ID not in frame.columns:
        if joined:
            raise DataError(f"{file}: no column '{ID}', by which several files are joined; name the column of ids so")
        frame = frame.with_columns(pl.int_range(pl.len()).alias(ID))
    frame = frame.with_columns(pl.col(ID).cast(pl.String))
    if (frame[ID].is_duplicated() | frame[ID].is_null()).any():
        raise DataError(f"{file}: column '{ID}' has a name twice, or an empty one; a row has its own")
    for m, spec in modalities.items():
        if spec.kind == "image" and m in frame.columns and frame[m].dtype == pl.String:
            frame = frame.with_columns(pl.col(m).map_elements(lambda cell: _beside(cell, file), pl.String))
    own = file.stem in modalities and modalities[file.stem].kind == "vector"
    return frame.rename({c: f"{file.stem}/{c}" for c in frame.columns if c != ID and own})


def _beside(cell: str, table: Path) -> str:
    if cell.startswith("["):
        return json.dumps([str(table.parent / path) for path in json.loads(cell)])
    return str(table.parent / cell)


def _value(cell: Any, spec: Modality, where: str) -> Any:
    if isinstance(cell, str) and (spec.multifold or spec.kind in ("sequence", "vector")):
        try:
            return json.loads(cell)
        except ValueError as e:
            raise DataError(f"{where} (from 0): not a list in JSON ({e})") from None
    return cell.to_list() if isinstance(cell, pl.Series) else cell


def _write(frame: pl.DataFrame, out: Path) -> int:
    if out.suffix not in READERS:
        raise DataError(f"{out}: '{out.suffix}' is not written here; give {' or '.join(READERS)}")
    with replacing(out) as temporary:
        if out.suffix == ".parquet":
            frame.write_parquet(temporary)
        else:
            lists = [c for c, kind in frame.schema.items() if kind.is_nested()]
            frame.with_columns(
                pl.col(c).map_elements(lambda z: json.dumps(z.to_list()), pl.String) for c in lists
            ).write_csv(temporary)
    return len(frame)
