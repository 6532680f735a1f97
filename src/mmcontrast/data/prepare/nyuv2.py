"""NYU Depth v2, the labelled frames: colour, depth and surface normals computed from depth.

`nyu_depth_v2_labeled.mat` is MATLAB 7.3, i.e. HDF5 with every array's axes in reverse: images (N, 3, W, H) uint8,
depths (N, W, H) float32 in metres, scenes and sceneTypes (1, N) references to arrays of UTF-16 codes. `splits.mat` is
MATLAB 5: trainNdxs and testNdxs, 1-based (795 and 654 frames). Height and width are (480, 640); h, w after shrinking.

The frames are cut from videos, and frames of one scene are near copies: `scene` goes with every row, so that a method
that looks at it never takes them for negatives of each other. The third modality of the released TupleInfoNCE code is
not shipped with it; its channel means are those of surface normals, so normals are what is made here.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mmcontrast.config import Dataset
from mmcontrast.data.instances import Instance, Stream
from mmcontrast.data.prepare.hdf5 import array, opened
from mmcontrast.data.prepare.matlab import numeric, read_mat
from mmcontrast.errors import DataError

FILE = "nyu_depth_v2_labeled.mat"
SPLITS = "splits.mat"
# focal lengths of the Kinect's colour camera, in pixels of the full frame (640 wide, 480 high)
FOCAL_X, FOCAL_Y = 518.857901, 519.469611
FULL_HEIGHT, FULL_WIDTH = 480, 640


def stream(name: str, dataset: Dataset, raw_dir: Path) -> Stream:
    """Labelled frames, the label being the kind of room, and their videos as groups.
    Depth is stored as metres / 10 (the sensor's range) in steps of 1/255, normals as (n + 1) / 2. A kind of room that
    is no class of the dataset counts as the last class.
    """
    wanted = {"rgb": 3, "depth": 1, "normals": 3}
    for m, spec in dataset.modalities.items():
        if wanted.get(m) != spec.shape[0]:
            known = ", ".join(f"{k} ({c} channels)" for k, c in wanted.items())
            raise DataError(f"params/datasets/{name}.yaml: modalities: '{m}' of shape {spec.shape}; known: {known}")
    report: dict[str, Any] = {}
    return Stream(_instances(dataset, raw_dir, report), report=report)


def _instances(dataset: Dataset, raw_dir: Path, report: dict[str, Any]) -> Iterator[Instance]:
    """Every frame, one in memory at a time (the file holds 2.8 GB). `report`: filled with the number of scenes."""
    splits, seen = _splits(raw_dir / SPLITS), set()
    index = {name: i for i, name in enumerate(dataset.classes)}
    with opened(raw_dir / FILE) as file:
        images = array(file, "images", (None, 3, None, None))
        n, _, width, height = images.shape
        depths = array(file, "depths", (n, width, height))
        scenes, types = (array(file, name, (1, n))[0] for name in ("scenes", "sceneTypes"))
        if sorted(splits) != list(range(n)):
            raise DataError(f"{raw_dir / SPLITS}: splits {len(splits)} frames, and {file.filename} holds {n}")
        for i in range(n):
            scene, kind = ("".join(map(chr, file[of[i]][:].ravel())) for of in (scenes, types))
            rgb, depth = images[i].transpose(0, 2, 1), depths[i].T
            made = {"rgb": rgb / 255, "depth": depth[None] / 10, "normals": (normals(depth) + 1) / 2}
            small = {m: shrink(made[m], spec.shape[1:]).clip(0, 1) for m, spec in dataset.modalities.items()}
            values = {m: np.round(x * 255).astype(np.uint8) for m, x in small.items()}
            seen.add(scene)
            yield Instance(f"frame-{i:04d}", values, index.get(kind, len(index) - 1), splits[i], group=scene)
    report["scenes"] = len(seen)


def normals(depth_HW: np.ndarray) -> np.ndarray:
    """(3, H, W) unit surface normals towards the camera (x right, y down, z away: a wall seen head on has z = -1).

    Cross product of central differences of the back-projected points; borders use one-sided differences. The focal
    lengths are those of the full frame, scaled with the given size.
    """
    height, width = depth_HW.shape
    depth = depth_HW.astype(np.float64)
    x = (np.arange(width) - (width - 1) / 2) / (FOCAL_X * width / FULL_WIDTH)
    y = (np.arange(height) - (height - 1) / 2) / (FOCAL_Y * height / FULL_HEIGHT)
    points = np.stack([x[None, :] * depth, y[:, None] * depth, depth])
    across, down = np.gradient(points, axis=2), np.gradient(points, axis=1)
    normal = np.cross(down, across, axis=0)
    length = np.linalg.norm(normal, axis=0)
    return normal / np.where(length > 0, length, 1)


def shrink(image_CHW: np.ndarray, size: Sequence[int]) -> np.ndarray:
    """(C, h, w) means over equal blocks. Raises DataError: h or w does not divide H or W."""
    (C, H, W), (h, w) = image_CHW.shape, size
    if H % h or W % w:
        raise DataError(f"params/datasets/nyuv2.yaml: modalities: {h} x {w} does not divide a frame of {H} x {W}")
    return image_CHW.reshape(C, h, H // h, w, W // w).mean(axis=(2, 4))


def _splits(path: Path) -> dict[int, str]:
    """0-based frame -> train or test."""
    variables = read_mat(path)
    out: dict[int, str] = {}
    for split in ("train", "test"):
        for number in numeric(variables, f"{split}Ndxs", path).astype(int).ravel().tolist():
            if number - 1 in out:
                raise DataError(f"{path}: frame {number} is listed twice")
            out[number - 1] = split
    return out
