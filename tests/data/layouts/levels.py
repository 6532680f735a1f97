"""Tiny files in the layouts of AV-MNIST and of SUN RGB-D, with what is odd about them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image
from scipy.io import savemat

SIDES = {"image": 4, "audio": 6}
ROOT = "/n/fs/sun3d/data/SUNRGBD"
KINDS = ("bedroom", "office", "idk")
SIZES = ((12, 16), (10, 18), (14, 14))  # height and width of the frames of three sensors


def avmnist(raw: Path, rows: dict[str, int], sides: dict[str, int] = SIDES) -> None:
    """Digit i % 10; level j of row i is i + j, in test 100 more.

    Pictures are flat and of floats, spectrograms are neither.
    """
    for part, n in rows.items():
        (raw / "avmnist").mkdir(parents=True, exist_ok=True)
        np.save(raw / "avmnist" / f"{part}_labels.npy", np.arange(n) % 10)
        for m, side in sides.items():
            levels = np.add.outer(np.arange(n) + 100 * (part == "test"), np.arange(side * side)) % 256
            (raw / "avmnist" / m).mkdir(exist_ok=True)
            found = levels.astype(np.float64) if m == "image" else levels.reshape(n, side, side).astype(np.uint8)
            np.save(raw / "avmnist" / m / f"{part}_data.npy", found)


def turned(millimetres: np.ndarray) -> np.ndarray:
    """As the toolbox stores them: the bits of a number of 16 turned by three."""
    value = millimetres.astype(np.uint16)
    return value << 3 | value >> 13


def sun_rgbd(raw: Path, frames: int = 6, train: tuple[int, ...] = (0, 1, 3)) -> None:
    """Frame i is of KINDS in turn, grey of 20 i, and 1 m + i / 10 m deep; its upper half is 9 m deep.

    `train`: the frames that alltrain lists, by number from 0.
    """
    fields = ("rgbpath", "rgbname", "depthname", "sequenceName")
    meta = np.zeros((1, frames), dtype=[(field, object) for field in fields])
    folders = [f"kv{1 + i % 2}/sub/{i:06d}_2014" for i in range(frames)]
    for i, folder in enumerate(folders):
        path = raw / "SUNRGBD" / folder
        for part in ("image", "depth_bfx", "depth"):
            (path / part).mkdir(parents=True, exist_ok=True)
        height, width = SIZES[i % len(SIZES)]
        Image.new("RGB", (width, height), (20 * i % 256,) * 3).save(path / "image" / f"{i}.png")
        deep = np.full((height, width), 1000 + 100 * i)
        deep[: height // 2] = 9000
        Image.fromarray(turned(deep)).save(path / "depth_bfx" / f"{i}d.png")
        Image.fromarray(turned(deep * 0)).save(path / "depth" / f"{i}d.png")
        (path / "scene.txt").write_text(KINDS[i % len(KINDS)] + "\n", encoding="utf-8")
        meta[0, i] = (f"{ROOT}/{folder}/image/{i}.png", f"{i}.png", f"{i}d.png", f"SUNRGBD/{folder}")
    for name in ("Metadata", "traintestSUNRGBD"):
        (raw / "SUNRGBDtoolbox" / name).mkdir(parents=True, exist_ok=True)
    savemat(raw / "SUNRGBDtoolbox/Metadata/SUNRGBDMeta.mat", {"SUNRGBDMeta": meta})
    listed = np.empty((1, len(train)), object)
    listed[0, :] = [f"{ROOT}/{folders[i]}" for i in train]
    savemat(raw / "SUNRGBDtoolbox/traintestSUNRGBD/allsplit.mat", {"alltrain": listed, "alltest": np.zeros((1, 0))})
