"""HDF5 files: the recordings of Vision & Touch, and MM-IMDb as vectors.

`vision_touch`: a folder of .h5 files of 50 steps each: image (50, 128, 128, 3) uint8, ee_forces_continuous (50, 50, 6),
proprio (50, 8 or more), contact (50, 50). An instance is a step t of a file: `image`, the tanh of the last 32 rows of
force, the first eight numbers of `proprio`; its regression is the first four numbers of proprio one step later, its
class whether there is contact one step later. The split is that of CoMM's code, whose validation files are its test
files: here there are none.

`mmimdb`: multimodal_imdb.hdf5, a row per film in the order of the split: features (N, 300), means of word vectors, as
`text`; vgg_features (N, 4096) as `image`; genres (N, 23) in the order of the attribute `target_names`; imdb_ids.
"""

import io
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import numpy as np
from PIL import Image
from pydantic import Field

from mmcontrast.config import Dataset, Modality, validate
from mmcontrast.config.base import Strict, known
from mmcontrast.data.files import parse_json
from mmcontrast.data.instances import Instance, Stream
from mmcontrast.errors import ConfigError, DataError, nearest, not_installed

try:
    import h5py
except ImportError:
    raise not_installed("hdf5", "h5py") from None

FORCE_ROWS, PROPRIO, NEXT = 32, 8, 4
TEST_SHARE, SPLIT_SEED = 0.2, 42
COLUMNS = {"text": "features", "image": "vgg_features"}
# modality -> array of a file, axes of a step, what is taken of it
VALUES: dict[str, tuple[str, int, Callable[[np.ndarray], np.ndarray]]] = {
    "image": ("image", 3, lambda x: x if x.shape[-1] == 3 else x.transpose(2, 1, 0)),
    "force": ("ee_forces_continuous", 2, lambda x: np.tanh(x[-FORCE_ROWS:])),
    "proprio": ("proprio", 1, lambda x: x[:PROPRIO]),
}


class Hdf5Options(Strict):
    """`prepare` in the dataset's file."""

    layout: Literal["vision_touch", "mmimdb"] = Field(description="Whose files they are.")
    path: str = Field(description="The file, or the folder of files, in data/raw/<dataset>/.")
    repeat_one: bool = Field(
        default=False,
        description="vision_touch: once more a step of each file, drawn by a seed; the released loader draws one anew "
        "whenever it is asked for the last.",
    )


def stream(name: str, dataset: Dataset, raw_dir: Path) -> Stream:
    """All steps, or all films, split by split."""
    where = f"params/datasets/{name}.yaml"
    options = validate(Hdf5Options, dataset.prepare, where, prefix="prepare")
    read, held = {"vision_touch": (_steps, [*VALUES]), "mmimdb": (_films, [*COLUMNS])}[options.layout]
    if unknown := [m for m in dataset.modalities if m not in held]:
        raise ConfigError(f"{where}: modalities: no '{unknown[0]}' in these files; {nearest(unknown[0], held)}")
    return Stream(read(where, dataset, raw_dir / options.path, options))


@contextmanager
def opened(path: Path) -> Iterator[h5py.File]:
    """The file, to be read. Raises DataError where it is missing or damaged."""
    try:
        with h5py.File(path, "r") as file:
            yield file
    except FileNotFoundError:
        raise DataError(f"{path}: no such file; see `mmcontrast data status`") from None
    except (OSError, RuntimeError, KeyError, AttributeError, ValueError, TypeError, MemoryError) as e:
        raise DataError(f"{path}: not readable as HDF5 ({e}); it may have been cut short") from None


def array(file: h5py.File, key: str, shape: tuple[int | None, ...]) -> h5py.Dataset:
    """An array of the file. `shape`: None = any number. Raises DataError where it is another, or not there."""
    known(file.filename, "array", key, file, DataError)
    found = file[key].shape
    if len(found) != len(shape) or any(want not in (None, n) for want, n in zip(shape, found, strict=True)):
        raise DataError(f"{file.filename}: {key} has shape {found}, expected {shape} (None: any)")
    return file[key]


def _steps(where: str, dataset: Dataset, folder: Path, options: Hdf5Options) -> Iterator[Instance]:
    if not (files := sorted(folder.glob("*.h5"))):
        raise DataError(f"{folder}: no .h5 file; see `mmcontrast data status`")
    order, rng = np.arange(len(files)), np.random.default_rng(SPLIT_SEED)
    rng.shuffle(order)
    first_test = len(files) - int(TEST_SHARE * len(files))
    for at, i in enumerate(order.tolist()):
        split = "train" if at < first_test else "test"
        with opened(files[i]) as file:
            contact, proprio = array(file, "contact", (None, None))[:], array(file, "proprio", (None, None))[:]
            rows = list(range(len(proprio) - 2))  # as released
            rows += [int(rng.integers(len(rows)))] if options.repeat_one else []
            keys = {m: VALUES[m][:2] for m in dataset.modalities}
            arrays = {m: array(file, key, (len(proprio), *[None] * axes))[:] for m, (key, axes) in keys.items()}
            if len(contact) != len(proprio) or proprio.shape[1] < PROPRIO:
                raise DataError(f"{files[i]}: contact {contact.shape} and proprio {proprio.shape} do not fit")
        for k, t in enumerate(rows):
            values = {m: _stored(VALUES[m][2](x[t]), dataset.modalities[m]) for m, x in arrays.items()}
            targets = {
                task: proprio[t + 1, :NEXT] if target.kind == "regression" else int(contact[t + 1].sum() > 0)
                for task, target in dataset.targets.items()
            }
            group = files[i].stem if dataset.scenes else None
            yield Instance(f"{files[i].stem}-{k:02d}", values, targets.pop(""), split, targets, group)


def _stored(value: np.ndarray, spec: Modality) -> Any:
    """Of a picture (H, W, C) the pixels in the order they are stored, or a PNG file, which loses nothing."""
    if spec.kind != "image":
        return value
    if not spec.encoded:
        return value.transpose(2, 0, 1)
    file = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(value)).save(file, "PNG")
    return file.getvalue()


def _films(where: str, dataset: Dataset, path: Path, options: Hdf5Options) -> Iterator[Instance]:
    parts = [s for s in ("train", "val", "test") for _ in range(getattr(dataset.split, s))]
    with opened(path) as file:
        genres = array(file, "genres", (len(parts), len(dataset.classes)))
        try:
            names = [str(name).lower() for name in parse_json(genres.attrs.get("target_names"))]
        except (TypeError, ValueError):
            raise DataError(f"{path}: genres: no list of names in its attribute target_names") from None
        if sorted(names) != sorted(dataset.classes):
            other = sorted(set(names) ^ set(dataset.classes))
            raise DataError(f"{path}: genres: other names than `classes` in {where}: {', '.join(other)}")
        order = [names.index(name) for name in dataset.classes]
        arrays = {m: array(file, COLUMNS[m], (len(parts), *s.shape)) for m, s in dataset.modalities.items()}
        ids = array(file, "imdb_ids", (len(parts),))
        for i, part in enumerate(parts):
            identity = ids[i].decode() if isinstance(ids[i], bytes) else str(ids[i])
            yield Instance(identity, {m: x[i] for m, x in arrays.items()}, genres[i][order], part)
