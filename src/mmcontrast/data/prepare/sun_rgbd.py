"""SUN RGB-D (Song, Lichtenberg, Xiao, CVPR 2015): colour and depth of frames of four sensors, and the kind of scene.

SUNRGBDtoolbox/Metadata/SUNRGBDMeta.mat: an array of structs of which rgbpath, rgbname and depthname are read;
SUNRGBDtoolbox/traintestSUNRGBD/allsplit.mat: alltrain, the folders of train. A frame lies two levels above its rgbpath,
and is of test where alltrain lacks that folder (github hoi4d/TupleInfoNCE, src/datasets/sunrgbd/prepare_dataset.py). In
SUNRGBD/<folder>/ are image/<rgbname>, depth_bfx/<depthname>, its holes filled, and scene.txt. Depth is PNG of
16 bits, in millimetres with the bits turned by three (the toolbox's read3dPoints.m, which takes at most 8 m).
Frames of another kind of scene than those in `classes` are left out and counted; studies of scenes take 19 kinds.
"""

import io
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from mmcontrast.config import Dataset
from mmcontrast.config.base import known
from mmcontrast.data.files import inside
from mmcontrast.data.instances import Instance, Stream
from mmcontrast.data.pictures import pixels, resized
from mmcontrast.data.prepare.matlab import read_mat
from mmcontrast.errors import ConfigError, DataError, FetchError, nearest

META, SPLIT = "SUNRGBDtoolbox/Metadata/SUNRGBDMeta.mat", "SUNRGBDtoolbox/traintestSUNRGBD/allsplit.mat"
ROOT, FIELDS = "/n/fs/sun3d/data/SUNRGBD/", ("rgbpath", "rgbname", "depthname")
CHANNELS, FARTHEST = {"rgb": 3, "depth": 1}, 8000


def stream(name: str, dataset: Dataset, raw_dir: Path) -> Stream:
    """All frames in the order of the metadata. Depth is stored in steps of 8 m / 255."""
    for m, spec in dataset.modalities.items():
        if spec.kind != "image" or spec.encoded or CHANNELS.get(m) != spec.shape[0]:
            accepted = "images that are not encoded, rgb [3, H, W] and depth [1, H, W]"
            raise ConfigError(f"params/datasets/{name}.yaml: modalities: '{m}'; known: {accepted}")
    report: Counter[str] = Counter()
    return Stream(_instances(dataset, raw_dir, report), {}, report)


def _instances(dataset: Dataset, raw_dir: Path, report: Counter[str]) -> Iterator[Instance]:
    where, cut = raw_dir / META, {"rgb": resized, "depth": _depth}
    meta, train = _cells(where, "SUNRGBDMeta"), {*map(_text, _cells(raw_dir / SPLIT, "alltrain"))}
    if missing := [field for field in FIELDS if field not in (meta.dtype.names or ())]:
        raise DataError(f"{where}: SUNRGBDMeta: no field {missing[0]}; {nearest(missing[0], meta.dtype.names or ())}")
    for number, frame in enumerate(meta, start=1):
        path, colours, deep = (_text(frame[field]) for field in FIELDS)
        whole = path.rsplit("/", 2)[0]
        if not whole.startswith(ROOT):
            raise DataError(f"{where}: frame {number}: rgbpath '{path}' does not begin with {ROOT}")
        try:
            folder = inside(raw_dir / "SUNRGBD", whole.removeprefix(ROOT))
            files = {"rgb": inside(folder, f"image/{colours}"), "depth": inside(folder, f"depth_bfx/{deep}")}
            kind = (folder / "scene.txt").read_text(encoding="utf-8").strip()
        except (FetchError, OSError, UnicodeDecodeError) as e:
            raise DataError(f"{where}: frame {number}: {e}") from None
        if kind not in dataset.classes:
            report["left_out_of_another_kind"] += 1
            continue
        values = {m: pixels(cut[m](files[m], spec.shape)) for m, spec in dataset.modalities.items()}
        split = "train" if whole in train else "test"
        yield Instance(f"frame-{number:05d}", values, dataset.classes.index(kind), split)


def _cells(path: Path, name: str) -> np.ndarray:
    known(path, "variable", name, variables := read_mat(path), DataError)
    return np.asarray(variables[name]).ravel()


def _text(cell: Any) -> str:
    return "".join(np.asarray(cell).ravel().astype(str))


def _depth(path: Path, shape: list[int]) -> Image.Image:
    """Cut and resized as colours are."""
    try:
        with Image.open(path) as image:
            raw: Any = np.asarray(image)
    except (OSError, ValueError, SyntaxError) as e:
        raise DataError(f"{path}: not a picture that can be read ({e})") from None
    if raw.ndim != 2 or raw.dtype == np.uint8:
        raise DataError(f"{path}: {raw.dtype} of shape {raw.shape}, expected one channel of 16 bits")
    file, millimetres = io.BytesIO(), raw.astype(np.uint16) >> 3 | raw.astype(np.uint16) << 13
    Image.fromarray(np.round(millimetres.clip(max=FARTHEST) / FARTHEST * 255).astype(np.uint8)).save(file, "PNG")
    return resized(file, shape)
