"""AV-MNIST as MultiBench gives it out: written digits, each with the spectrogram of a spoken one.

avmnist/image/{train,test}_data.npy (n, 784) and avmnist/audio/{train,test}_data.npy (n, 112, 112), of levels from 0 to
255, and avmnist/{train,test}_labels.npy (n,). As in MultiBench's loader (github pliang279/MultiBench,
datasets/avmnist/get_data.py) validation is the end of train, 5,000 of 60,000. One row at a time is in memory.
"""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from mmcontrast.config import Dataset
from mmcontrast.data.instances import Instance, Stream
from mmcontrast.errors import ConfigError, DataError, first_line


def stream(name: str, dataset: Dataset, raw_dir: Path) -> Stream:
    """All digits, train first, as `<part>-<row of its file>`."""
    for m, spec in dataset.modalities.items():
        if m not in ("image", "audio") or spec.kind != "image" or spec.encoded:
            raise ConfigError(f"params/datasets/{name}.yaml: modalities: '{m}'; known: image and audio, not encoded")
    report: Counter[str] = Counter()
    return Stream(_instances(dataset, raw_dir / "avmnist", report), {}, report)


def _instances(dataset: Dataset, folder: Path, report: Counter[str]) -> Iterator[Instance]:
    for part in ("train", "test"):
        labels = _array(folder / f"{part}_labels.npy")
        paths = {m: folder / m / f"{part}_data.npy" for m in dataset.modalities}
        arrays = {m: _array(path) for m, path in paths.items()}
        for m, x in arrays.items():
            shape = dataset.modalities[m].shape
            if len(x) != len(labels) or x[:1].size != np.prod(shape):
                raise DataError(f"{paths[m]}: shape {x.shape}, expected {len(labels)} rows of {shape}")
            if x[:100].max() <= 1:
                raise DataError(f"{paths[m]}: no level above 1 in its first rows; give levels from 0 to 255")
        for i, label in enumerate(labels):
            values = {}
            for m, x in arrays.items():
                levels = np.round(x[i])
                if not ((levels >= 0) & (levels <= 255)).all():
                    raise DataError(f"{paths[m]}: row {i}: levels beyond 0 to 255")
                report[f"rounded_{m}"] += bool((levels != x[i]).any())
                values[m] = levels.reshape(dataset.modalities[m].shape).astype(np.uint8)
            held_out = part == "train" and i >= len(labels) - getattr(dataset.split, "val", 0)
            yield Instance(f"{part}-{i:05d}", values, label, "val" if held_out else part)


def _array(path: Path) -> np.ndarray:
    try:
        found = np.load(path, mmap_mode="r", allow_pickle=False)
    except FileNotFoundError:
        raise DataError(f"{path}: no such file; see `mmcontrast data status`") from None
    except Exception as e:  # a broken header fails in any way
        raise DataError(f"{path}: not readable as an array of numbers ({first_line(e)})") from None
    if not isinstance(found, np.ndarray) or found.dtype.kind not in "fiu" or not found.size:
        raise DataError(f"{path}: expected an array of numbers, a row per digit")
    return found
