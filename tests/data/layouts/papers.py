"""Tiny files of every dataset that the papers' suites run, in its official layout, and a folder that runs such a suite.

What a dataset's file says of sizes is what there is in the tiny files; everything else in params/ stays as it is, but
for the engine, the seeds and the `overrides` of a suite.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from tests import flickr_files, tiny_pretrained
from tests.data.layouts import hdf5, levels, multibench, picture_texts, utterances

ROOT = Path(__file__).parents[3]
SPLITS = ("train", "val", "test")
ROWS = (24, 10, 10)  # train, val and test, where a layout leaves the choice
SIDE = tiny_pretrained.SIDE
STEPS = 3  # that every cell is trained for
Raw = dict[str, Any]


def _named(split: str, n: int) -> list[str]:
    return [f"{split}{i}" for i in range(n)]


def _sized(data: Raw, rows: tuple[int, int, int], **shapes: list[int]) -> None:
    data["rows"], data["split"] = sum(rows), {"kind": "published"} | dict(zip(SPLITS, rows, strict=True))
    for m, shape in shapes.items():
        if m in data["modalities"]:
            data["modalities"][m]["shape"] = shape


def _affect(name: str, data: Raw, raw: Path) -> None:
    train, val, test = ROWS
    multibench.write(raw / data["prepare"]["file"], multibench.affect((train + 1, val, test)))  # one without a text
    _sized(data, ROWS, **{m: [multibench.STEPS, width] for m, width in multibench.WIDTHS.items()})


def _mimic(name: str, data: Raw, raw: Path) -> None:
    multibench.write(raw / "im.pk", multibench.mimic(60))
    _sized(data, (48, 6, 6))


def _vision_touch(name: str, data: Raw, raw: Path) -> None:
    hdf5.vision_touch(raw / "triangle_real_data", side=32)
    steps = hdf5.STEPS - 2
    _sized(data, ((hdf5.FILES - 1) * steps, 0, steps), image=[3, 32, 32])


def _food101(name: str, data: Raw, raw: Path) -> None:
    train, _, test = ROWS
    picture_texts.food101(raw, data["classes"], {"train": train + 1, "test": test})  # one without a text
    _sized(data, (train, 0, test), image=[3, SIDE, SIDE])


def _n24news(name: str, data: Raw, raw: Path) -> None:
    picture_texts.n24news(raw, rows=dict(zip(("train", "dev", "test"), ROWS, strict=True)))
    _sized(data, ROWS, image=[3, SIDE, SIDE])


def _mmimdb(name: str, data: Raw, raw: Path) -> None:
    films = {s: _named(s, n) for s, n in zip(("train", "dev", "test"), ROWS, strict=True)}
    picture_texts.mmimdb(raw, films)
    _sized(data, ROWS, image=[3, SIDE, SIDE])


def _flickr30k(name: str, data: Raw, raw: Path) -> None:
    flickr_files.write_flickr(raw, [s for s, n in zip(SPLITS, ROWS, strict=True) for _ in range(n)])
    _sized(data, ROWS, image=[3, 32, 32])


def _text2shape(name: str, data: Raw, raw: Path) -> None:
    gallery = data["prepare"]["layout"]
    rows = ROWS if data["split"]["val"] else (50, 0, ROWS[2])  # a fifth is held out
    picture_texts.text2shape(raw, {gallery: {s: _named(s, n) for s, n in zip(SPLITS, rows, strict=True) if n}})
    _sized(data, rows, image=[3, 32, 32])


def _mogonet(name: str, data: Raw, raw: Path) -> None:
    """The addresses stay, and the mirror holds the files; checksums are of the real ones."""
    train, _, test = ROWS
    folder = raw
    if "url" in data["sources"][0]:
        folder = _mirrored(data, raw).parent
    rng, classes = np.random.default_rng(0), len(data["classes"])
    for part, n in (("tr", train), ("te", test)):
        lines = {"labels": np.arange(n)[:, None] % classes} | {k: rng.random((n, 4)) for k in (1, 2, 3)}
        for key, values in lines.items():
            np.savetxt(folder / f"{key}_{part}.csv", values, delimiter=",")
    for k in (1, 2, 3):
        (folder / f"{k}_featname.csv").write_text("".join(f"m{k}|{j}\n" for j in range(4)))
    _sized(data, (train, 0, test), **{m: [4] for m in data["modalities"]})


def _nyuv2(name: str, data: Raw, raw: Path) -> None:
    from tests.data.prepare.test_nyuv2 import official_file

    train, _, test = ROWS
    rng, n = np.random.default_rng(0), train + test
    content = {
        "rgb": rng.integers(0, 256, (n, 3, 48, 64), dtype=np.uint8),
        "depth": rng.uniform(1, 9, (n, 48, 64)).astype(np.float32),
    }
    # four frames of a video, and no video in two splits
    scenes = [f"{data['classes'][(i // 4) % 3]}_{i // 4:04d}" for i in range(n)]
    made = raw / "made"
    made.mkdir()
    official_file(made, content, scenes, range(1, train + 1), range(train + 1, n + 1))
    for source in data["sources"]:
        file = _mirrored({"sources": [source]}, raw)
        shutil.move(made / file.name, file)
    made.rmdir()
    _sized(data, (train, 0, test))


def _mustard(name: str, data: Raw, raw: Path) -> None:
    train, test = ROWS[0] + ROWS[1], ROWS[2]
    utterances.mustard(raw, ["BBT"] * train + ["FRIENDS"] * test)
    _to_mirror(data, raw)
    _sized(data, (train, 0, test), audio=[32, utterances.VOICE], video=[utterances.PICTURE])


def _ur_funny(name: str, data: Raw, raw: Path) -> None:
    utterances.ur_funny(raw, ROWS)
    _sized(data, ROWS, text=[20, utterances.GLOVE], **{m: [20, width] for m, width in utterances.FUNNY.items()})


def _meld(name: str, data: Raw, raw: Path) -> None:
    utterances.meld(raw, ROWS)
    _to_mirror(data, raw)
    _sized(data, ROWS, **{m: [width] for m, width in utterances.AVERAGE.items()})


def _avmnist(name: str, data: Raw, raw: Path) -> None:
    train, val, test = ROWS
    levels.avmnist(raw, {"train": train + val, "test": test}, {"image": 28, "audio": 32})
    _sized(data, ROWS, audio=[1, 32, 32])


def _sun_rgbd(name: str, data: Raw, raw: Path) -> None:
    train, test = ROWS[0] + ROWS[1], ROWS[2]
    kept = [i for i in range(3 * (train + test) // 2) if i % 3 != 2]  # every third is of another kind
    levels.sun_rgbd(raw, kept[-1] + 1, tuple(kept[:train]))
    _sized(data, (train, 0, test))


def _to_mirror(data: Raw, raw: Path) -> None:
    """The files that are downloaded."""
    for source in data["sources"]:
        if "url" in source:
            file = _mirrored({"sources": [source]}, raw)
            shutil.move(raw / file.name, file)


def _mirrored(data: Raw, raw: Path) -> Path:
    """Where a mirror beside data/ keeps the first source; no checksum is asked for."""
    for source in data["sources"]:
        source.pop("bytes", None)
        source["sha256"] = None
    file = raw.parents[2] / "mirror" / data["sources"][0]["url"].split("://")[1]
    file.parent.mkdir(parents=True, exist_ok=True)
    return file


WRITERS: dict[str, Callable[[str, Raw, Path], None]] = {
    "multibench_": _affect,
    "mimic": _mimic,
    "vision_touch": _vision_touch,
    "food101": _food101,
    "n24news": _n24news,
    "mmimdb": _mmimdb,
    "flickr30k": _flickr30k,
    "text2shape": _text2shape,
    "rosmap": _mogonet,
    "mogonet": _mogonet,
    "nyuv2": _nyuv2,
    "mustard": _mustard,
    "ur_funny": _ur_funny,
    "meld": _meld,
    "avmnist": _avmnist,
    "sun_rgbd": _sun_rgbd,
}


def workspace(folder: Path, suite: str, dataset: str) -> None:
    """A folder with params/ and the tiny files of a dataset where a user puts them.

    MMCONTRAST_MIRROR has to name its folder `mirror` for what is downloaded.
    """
    shutil.copytree(ROOT / "params", folder / "params")
    raw = folder / "data/raw" / dataset
    raw.mkdir(parents=True)
    write = next(make for start, make in WRITERS.items() if dataset.startswith(start))
    data = _edit(folder / f"params/datasets/{dataset}.yaml", lambda data: write(dataset, data, raw))
    stage = {"epochs": 1, "batch_size": data["split"]["train"] // STEPS, "eval_every": 1}

    def shrink(content: Raw) -> None:
        content |= {"seeds": [0], "engine": {"backend": "torch"}, "overrides": {"pretrain": stage, "finetune": stage}}

    _edit(folder / f"params/suites/{suite}.yaml", shrink)


def encoders(folder: Path) -> None:
    """Where params/ name them: a ViT, a BERT and a CLIP, tiny and of random weights."""
    names = {"vit-base-patch16-224": "vit", "bert-base-uncased": "bert", "clip-vit-base-patch32": "clip"}
    for place, name in names.items():
        tiny_pretrained.write_encoder(name, folder / "pretrained" / place, longest=512)


def _edit(file: Path, change: Callable[[Raw], None]) -> Raw:
    content: Raw = yaml.safe_load(file.read_text(encoding="utf-8"))
    change(content)
    file.write_text(yaml.safe_dump(content, sort_keys=False, allow_unicode=True), encoding="utf-8")
    return content
