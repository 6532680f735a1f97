"""A trained model for rows that it has never seen: raw inputs in, NumPy arrays out; or tables of them in and out.

N rows, D width of an embedding, P observations of a modality, C classes, labels or quantities.

A table is any file that the reader `table` takes; its column `id`, or another that is named, names the rows and joins
several tables. A vector has its features in columns of their names, in a table of the modality's name or as
<modality>/<feature> where two modalities have a feature of one name. Every other modality has the column or array of
its name: a text; the path of a picture or WAV file, from the table's folder; a sequence, or the observations of a
multifold modality, as a list, which in csv is JSON.
"""

import importlib
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

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
from mmcontrast.data.prepare import table_files
from mmcontrast.data.scaling import Scaler, read_fitted
from mmcontrast.errors import DataError, nearest
from mmcontrast.evaluation.probe_predictions import fit_on
from mmcontrast.evaluation.retrieval import grouped_similarity
from mmcontrast.evaluation.scores import THRESHOLD
from mmcontrast.evaluation.stored import read_embeddings
from mmcontrast.exported import CELL, ENCODERS, FITTED, read_weights, sealed, vocabulary_name, weights_name
from mmcontrast.methods.base import Method, build_method
from mmcontrast.training.outputs import embed, embed_observations, predict

Array = NDArray[Any]
Inputs = Mapping[str, Any]
ID = "id"
EMBEDDINGS = "embeddings.parquet"
WRITTEN = (".csv", ".parquet")
# what a value that is missing is called whatever the dataset says: an empty cell, and what arrays have for it
EMPTY = ("", "nan", "NaN")


class TrainedModel:
    """What `mmcontrast.load` gives.

    Inputs are a mapping, modality -> N raw values, before any scaling, filling, tokenising or padding: an array or a
    list of arrays, a frame with the features by name, a list of texts, a list of pictures (pixels, bytes of a file, or
    paths); None where a row lacks the modality. See `data.new_rows.table_of`.

    Attributes:
        method: the network, in evaluation mode; `method.cell` is what it was trained with. seed: of its weights.
        embeddings: what training stored of it, which a probe is fitted to; None = not there.
    """

    def __init__(
        self,
        method: Method,
        scalers: Mapping[str, Scaler],
        texts: Mapping[str, Any],
        device: str,
        seed: int,
        embeddings: Path | None,
    ) -> None:
        self.device, self.seed, self.embeddings = torch.device(device), seed, embeddings
        self.method, self._scalers, self._texts = method.to(self.device), scalers, texts

    @property
    def cell(self) -> CellConfig:
        """What it was trained with."""
        return self.method.cell

    def features(self, modality: str) -> list[str]:
        """Names of a vector's features in their order, where the data have them."""
        return list(self._scalers[modality].features_d) if modality in self._scalers else []

    @property
    def cells(self) -> dict[str, Any]:
        """`missing` and `decimal` of its dataset's tables; see `data.prepare.table_files.TableFile`."""
        scalers = self._scalers.values()
        words = [*EMPTY, *(word for s in scalers for word in s.missing)]
        return {"missing": words, "decimal": "," if any(s.decimal == "," for s in scalers) else "."}

    def embed(self, inputs: Inputs, readout: str = "", as_torch: bool = False) -> Any:
        """(N, D) float32 embeddings, as training stores and the report scores them. `readout`: another embedding than
        the method's own, such as `encoders`. `as_torch`: as a tensor on the CPU.

        Raises DataError: the inputs are not what the model takes, or there is no such readout.
        """
        found = embed(self.method, self._table(inputs), self.device)
        if readout not in found:
            raise DataError(f"readout '{readout}': {self.cell.method} has none of that name; {nearest(readout, found)}")
        return found[readout] if as_torch else found[readout].numpy()

    def observations(self, inputs: Inputs) -> dict[str, tuple[Array, Array]]:
        """modality -> ((P, D) float32 unit rows to compare with those of the other modalities, (P,) row of each).
        Raises ConfigError: the method compares no observations; DataError: as `embed`.
        """
        found = embed_observations(self.method, self._table(inputs), self.device)
        return {m: (z_PD.numpy(), row_P.numpy()) for m, (z_PD, row_P) in found.items()}

    def zero_shot(self, inputs: Inputs, texts: Mapping[str, str]) -> tuple[Array, Array]:
        """(N,) names of classes that are given by a text each, and the (N, C) cosine similarities that say so: of the
        unit mean rows of `observations` of the texts and of the one other modality in `inputs`. `texts`: class -> text,
        such as "a drawing of an animal". Radford et al., ICML 2021, section 3.1.

        Raises ConfigError: as `observations`; DataError: as `embed`, or no modality is text.
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

    def predict_proba(self, inputs: Inputs, as_torch: bool = False) -> Any:
        """(N, C) float32 probabilities of classes or labels, by the classifier or by the probe that scores the cell.
        Raises DataError: as `embed`; or nothing classifies, or the target is a quantity.
        """
        if self.cell.target == "regression":
            raise DataError(f"{self.cell.name}: predicts quantities, which have no probabilities; use `predict`")
        probs_NC = self._outputs(inputs)
        return torch.from_numpy(probs_NC) if as_torch else probs_NC

    def predict(self, inputs: Inputs) -> Array:
        """(N,) names of classes; of several labels at once (N, C) 0 or 1, of a regression (N, C) numbers in its units.
        Raises DataError as `predict_proba`.
        """
        out_NC = self._outputs(inputs)
        if self.cell.target == "classes":
            return np.array(self.cell.classes)[out_NC.argmax(1)]
        return out_NC if self.cell.target == "regression" else (out_NC > THRESHOLD).astype(np.uint8)

    def _outputs(self, inputs: Inputs) -> Array:
        if self.cell.scored_by == "classifier":
            return predict(self.method, self._table(inputs), self.device).numpy()
        if self.cell.scored_by == "retrieval":
            raise DataError(f"{self.cell.name}: is scored by retrieval and has no classifier; use `observations`")
        probed: Array = self._probe.predict(self.embed(inputs)).astype(np.float32)
        return probed

    @cached_property
    def _probe(self) -> Any:
        if self.embeddings is None:
            raise DataError(
                f"{self.cell.name}: has no classifier, and its probe is fitted to {EMBEDDINGS} of its run, which is "
                "not beside its models; load the folder of the trained cell, or use `embed`"
            )
        return fit_on(read_embeddings(self.embeddings, self.cell), self.cell, self.seed)

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
    cell, seed = _built_from(method.cell, folder), int(file.stem.removeprefix("seed"))
    texts = {}
    for m in [m for m, spec in cell.modalities.items() if spec.kind == "text"]:
        tokens = importlib.import_module("mmcontrast.data.tokens")
        words = folder / vocabulary_name(seed, m)
        texts[m] = tokens.text_encoder(m, cell, lambda _, words=words: _vocabulary(words))
    stored = folder.parent / EMBEDDINGS
    probed = folder.parent.name == cell.last_stage and stored.exists()
    return TrainedModel(method, scalers, texts, device, seed, stored if probed else None)


def weights_file(path: Path, seed: int | None = None) -> Path:
    """The file itself, or that of a seed in the folder of a cell, a stage or models; of the last stage there is."""
    if path.suffix == ".safetensors":
        return path
    for folder in (path, path / "models", path / "finetune/models", path / "pretrain/models"):
        if found := sorted(folder.glob("seed*.safetensors"), key=lambda p: (len(p.name), p.name)):
            return found[0] if seed is None else folder / weights_name(seed)
    raise DataError(f"{path}: holds no trained model; name seed<k>.safetensors, or the folder of a trained cell")


def load_method(file: Path) -> Method:
    """The network of an exported model in evaluation mode, on the CPU. Raises DataError: a file is missing or wrong."""
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


def embed_files(
    model: TrainedModel, files: Sequence[Path], out: Path, readout: str = "", names: str | None = None
) -> int:
    """Write `id` and `embedding`, of a cell scored by retrieval a row per observation. Returns the number of rows.
    Raises DataError: a file cannot be read or lacks a column, or its rows are not what the model takes.
    """
    ids, inputs = read_rows(model, files, names)
    if model.cell.scored_by != "retrieval" or readout:
        return _write(pl.DataFrame({ID: ids, "embedding": model.embed(inputs, readout)}), out)
    found = model.observations(inputs)
    parts = [
        pl.DataFrame({ID: [ids[i] for i in row_P], "modality": [m] * len(row_P), "embedding": z_PD})
        for m, (z_PD, row_P) in found.items()
        if len(row_P)
    ]
    return _write(pl.concat(parts), out)


def predict_files(model: TrainedModel, files: Sequence[Path], out: Path, names: str | None = None) -> int:
    """Write `id`, `predicted` and a column per class (its probability), label or quantity. Returns the number of rows.
    Raises DataError: as `embed_files`; or nothing classifies.
    """
    ids, inputs = read_rows(model, files, names)
    cell = model.cell
    values_NC = model.predict(inputs) if cell.target == "regression" else model.predict_proba(inputs)
    predicted = {"predicted": np.array(cell.classes)[values_NC.argmax(1)]} if cell.target == "classes" else {}
    return _write(pl.DataFrame({ID: ids} | predicted | dict(zip(cell.classes, values_NC.T, strict=True))), out)


class _Given(NamedTuple):
    """A table of new rows: the stem of its file, its rows by their ids."""

    stem: str
    table: table_files.Table
    row: dict[str, int]


def read_rows(model: TrainedModel, files: Sequence[Path], names: str | None = None) -> tuple[list[str], dict[str, Any]]:
    """N ids, and the raw inputs of these rows. `names`: the column of ids; default `id`, or of one file without it the
    row numbers from 0. Raises DataError: a file cannot be read, has an id twice or lacks it, or no column is an input.
    """
    modalities, given = model.cell.modalities, [_read(model, file, names, len(files) > 1) for file in files]
    ids = list(dict.fromkeys(i for of in given for i in of.row))
    shared = Counter(f for m in modalities for f in model.features(m))
    inputs: dict[str, Any] = {}
    for m, spec in modalities.items():
        features = model.features(m) if spec.kind == "vector" else []
        if places := {f: at for f in features if (at := _place(m, f, given, shared[f] > 1)) is not None}:
            inputs[m] = _numbers(m, features, places, ids)
        elif (found := _column(m, features, given)) is not None:
            inputs[m] = _values(spec, *found, ids)
    if not inputs:
        wanted = [next((f if shared[f] < 2 else f"{m}/{f}" for f in model.features(m)), m) for m in modalities]
        alike = [m for m in modalities if any(shared[f] > 1 for f in model.features(m))]
        hint = f" (or without {alike[0]}/ in a file {alike[0]}.csv)" if alike else ""
        told = f"no column is an input of the model; expected columns such as {', '.join(wanted)}{hint}"
        raise DataError(f"{files[0]}: {told}")
    return ids, inputs


def _read(model: TrainedModel, file: Path, names: str | None, joined: bool) -> _Given:
    if not file.exists():
        raise DataError(f"{file}: no such file")
    encoding = table_files.encoding_of(file)
    how = {"path": str(file.absolute()), "encoding": encoding} | model.cells
    table = table_files.load(file.stem, table_files.TableFile.model_validate(how), Path())
    column = names or ID
    if column not in table.names:
        if joined or names:
            why = "by which several files are joined" if joined else "which should name its rows"
            raise DataError(f"{file}: no column '{column}', {why}; name another by --id")
        ids: list[str | None] = [str(i) for i in range(len(table))]
    else:
        ids = table.texts(column)
    if None in ids or len(set(ids)) != len(ids):
        raise DataError(f"{file}: column '{column}' has a name twice, or an empty one; a row has its own")
    return _Given(file.stem, table, {str(name): row for row, name in enumerate(ids)})


def _place(m: str, feature: str, given: Sequence[_Given], shared: bool) -> tuple[_Given, str] | None:
    """The table and column of a feature: in the table of its modality, with that before its name, or anywhere."""
    own = [(of, feature) for of in given if of.stem == m]
    named = [(of, f"{m}/{feature}") for of in given]
    anywhere = [(of, feature) for of in given if not shared]
    return next(((of, name) for of, name in (*own, *named, *anywhere) if name in of.table.names), None)


def _numbers(m: str, features: Sequence[str], places: Mapping[str, tuple[_Given, str]], ids: Sequence[str]) -> Array:
    """(N, d) of a vector's features, NaN where a cell is empty or a table lacks the row."""
    first = next(iter(places.values()))[0].table.path
    if absent := [f for f in features if f not in places]:
        raise DataError(
            f"{first}: modality '{m}': {len(absent)} of {len(features)} features are no columns, such as "
            f"'{absent[0]}'; call it so in a file {m}.csv, or {m}/{absent[0]} in any"
        )
    values_Nd = np.full((len(ids), len(features)), np.nan)
    for of in {id(of): of for of, _ in places.values()}.values():
        at = {j: places[f][1] for j, f in enumerate(features) if places[f][0] is of}
        numbers_Nd = of.table.numbers(list(at.values()), "leave it empty where a value is missing", may_be_empty=True)
        rows = [n for n, i in enumerate(ids) if i in of.row]
        values_Nd[np.ix_(rows, list(at))] = numbers_Nd[[of.row[ids[n]] for n in rows]]
    return values_Nd


def _column(m: str, features: Sequence[str], given: Sequence[_Given]) -> tuple[_Given, str] | None:
    """The table, and its column or array, of a modality: that of its name, or whose numbers are a vector's features."""
    for of in given:
        if m in (*of.table.names, *of.table.arrays):
            return of, m
        for name in of.table.arrays:
            if features and [f"{name}_{j}" for j in range(len(features))] == list(features):
                return of, name
    return None


def _values(spec: Modality, of: _Given, name: str, ids: Sequence[str]) -> list[Any]:
    cells: Any = of.table.array(name) if name in of.table.arrays else of.table.cells(name)
    if spec.kind == "text" and of.table.of_text and not spec.optional:  # as the reader of a dataset takes it
        cells = ["" if cell is None else cell for cell in cells]
    return [_value(cells[of.row[i]], spec, of.table, of.row[i], name) if i in of.row else None for i in ids]


def _value(cell: Any, spec: Modality, table: table_files.Table, row: int, name: str) -> Any:
    """A list in JSON as such; the path of a picture or a sound as one that is seen from the table's folder."""
    in_file = spec.kind in ("image", "sequence")
    if isinstance(cell, str) and (spec.multifold or spec.kind == "vector" or (in_file and cell.startswith("["))):
        try:
            cell = json.loads(cell)
        except ValueError as e:
            raise DataError(f"{table.at(row)}: column '{name}': not a list in JSON ({e})") from None
    if spec.multifold and in_file and isinstance(cell, list | np.ndarray):
        return [table.path.parent / one if isinstance(one, str) else one for one in cell]
    return table.path.parent / cell if in_file and isinstance(cell, str) else cell


def _write(frame: pl.DataFrame, out: Path) -> int:
    if out.suffix not in WRITTEN:
        raise DataError(f"{out}: '{out.suffix}' is not written here; give {' or '.join(WRITTEN)}")
    with replacing(out) as temporary:
        if out.suffix == ".parquet":
            frame.write_parquet(temporary)
        else:
            lists = [c for c, kind in frame.schema.items() if kind.is_nested()]
            frame.with_columns(
                pl.col(c).map_elements(lambda z: json.dumps(z.to_list()), pl.String) for c in lists
            ).write_csv(temporary)
    return len(frame)
