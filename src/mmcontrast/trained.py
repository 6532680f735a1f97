"""A trained model for rows that it has never seen: raw inputs in, NumPy arrays out.

N rows, D width of an embedding, P observations of a modality, C classes, labels or quantities.
"""

from __future__ import annotations

import importlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import ValidationError

from mmcontrast.config import CellConfig
from mmcontrast.config.pretrained import Exported
from mmcontrast.data.files import read_json
from mmcontrast.data.loading import Table
from mmcontrast.data.new_rows import table_of
from mmcontrast.data.scaling import Scaler, read_fitted
from mmcontrast.errors import DataError, nearest
from mmcontrast.exported import CELL, ENCODERS, FITTED, read_weights, sealed, vocabulary_name, weights_name
from mmcontrast.methods.base import Method
from mmcontrast.methods.build import build_method
from mmcontrast.training.loop import embed, predict
from mmcontrast.training.retrieving import embed_observations

Array = NDArray[Any]
Inputs = Mapping[str, Any]


class TrainedModel:
    """What `mmcontrast.load` gives.

    Inputs are a mapping, modality -> N raw values, as they are before anything is scaled, filled, cut into word pieces
    or padded: an array or a list of arrays, a frame with the features by name, a list of texts, a list of pictures
    (pixels, bytes of a file, or paths); None where a row lacks the modality. See `data.new_rows.table_of`.

    Attributes:
        method: the network, in evaluation mode; `method.cell` is what it was trained with.
    """

    def __init__(
        self, method: Method, scalers: Mapping[str, Scaler], texts: Mapping[str, Any], device: str = "cpu"
    ) -> None:
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

        Args:
            readout: another embedding than the method's own, such as `encoders`.

        Raises:
            DataError: the inputs are not what the model takes, or there is no such readout.
        """
        found = embed(self.method, self._table(inputs), self.device)
        if readout not in found:
            raise DataError(f"readout '{readout}': {self.cell.method} has none of that name; {nearest(readout, found)}")
        return found[readout].numpy()

    def observations(self, inputs: Inputs) -> dict[str, tuple[Array, Array]]:
        """modality -> ((P, D) float32 unit rows to compare with those of the other modalities, (P,) row of each).

        Raises:
            ConfigError: the method compares no observations. DataError: as `embed`.
        """
        found = embed_observations(self.method, self._table(inputs), self.device)
        return {m: (z_PD.numpy(), row_P.numpy()) for m, (z_PD, row_P) in found.items()}

    def predict_proba(self, inputs: Inputs) -> Array:
        """(N, C) probabilities of classes or labels.

        Raises:
            DataError: as `embed`; or nothing classifies, or the target is a quantity.
        """
        if self.cell.target == "regression":
            raise DataError(f"{self.cell.name}: predicts quantities, which have no probabilities; use `predict`")
        return self._outputs(inputs)

    def predict(self, inputs: Inputs) -> Array:
        """(N,) names of classes; of several labels at once (N, C) 0 or 1, of a regression (N, C) numbers in its units.

        Raises:
            DataError: as `predict_proba`.
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

    Raises:
        DataError: a file is missing, damaged, changed since, or does not belong to the others; or the method embeds
            labels.
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

    Raises:
        DataError: a file is missing, damaged, or does not belong to the others.
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
    """The cell as it is built from the files beside its weights alone."""
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
