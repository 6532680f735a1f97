"""Tiny HDF5 files in the layouts of Vision & Touch and of MM-IMDb, with what is odd about them."""

from __future__ import annotations

import json
from pathlib import Path

import h5py
import numpy as np

STEPS = 50
FILES = 5


def vision_touch(folder: Path, files: int = FILES, side: int = 8) -> None:
    """File k's picture at step t has the level t + k; the last file has its channels first. Contact at odd steps."""
    folder.mkdir(parents=True, exist_ok=True)
    for k in range(files):
        rng = np.random.default_rng(k)
        t = np.arange(STEPS)
        image = np.broadcast_to((t + k)[:, None, None, None], (STEPS, side, side, 3)).astype(np.uint8).copy()
        image[:, 0, -1, 0] = 255  # one corner, to see which way up it is
        contact = np.zeros((STEPS, 50))
        contact[1::2, 7] = 1
        with h5py.File(folder / f"recording_{k:03d}_1000.h5", "w") as file:
            # channels first has width before height
            file["image"] = image.transpose(0, 3, 2, 1) if k == files - 1 else image
            file["depth_data"] = np.zeros((STEPS, side, side, 1), np.float32)
            file["proprio"] = np.concatenate([t[:, None] + np.zeros((STEPS, 4)), rng.normal(size=(STEPS, 4))], axis=1)
            file["ee_forces_continuous"] = rng.normal(size=(STEPS, 50, 6)) * 3
            file["optical_flow"] = np.zeros((STEPS, side, side, 2), np.float32)
            file["action"] = np.zeros((STEPS, 4))
            file["contact"] = contact


def mmimdb(path: Path, names: list[str], rows: int = 6) -> None:
    """Film i has the genres i % 3 and i % 3 + 1 of `names`, in whose order the columns are."""
    rng = np.random.default_rng(0)
    path.parent.mkdir(parents=True, exist_ok=True)
    genres = np.zeros((rows, len(names)), np.int32)
    for i in range(rows):
        genres[i, [i % 3, i % 3 + 1]] = 1
    with h5py.File(path, "w") as file:
        file["features"] = rng.normal(size=(rows, 4)).astype(np.float32)
        file["vgg_features"] = rng.normal(size=(rows, 5)).astype(np.float32)
        file["genres"] = genres
        file["genres"].attrs["target_names"] = json.dumps([name.title() for name in names])
        file["imdb_ids"] = np.array([f"{i:07d}" for i in range(rows)], "S7")
