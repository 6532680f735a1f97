"""Trifeature: the published counts, templates, textures and map; rendering, labels, files, refusals."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from pydantic import ValidationError

from mmcontrast.data.prepare import trifeature as tri
from mmcontrast.data.prepare import trifeature_files as files
from mmcontrast.data.prepare import trifeature_images as images

TEMPLATE_PIXELS = {
    "triangle": 8192,
    "square": 16384,
    "plus": 9159,
    "circle": 12892,
    "tee": 9074,
    "rhombus": 8064,
    "pentagon": 11248,
    "star": 4273,
    "fivesquare": 9074,
    "trapezoid": 11144,
}
TEXTURE_PIXELS = {
    "solid": 200704,
    "stripes": 60480,
    "grid": 102735,
    "hexgrid": 98083,
    "dots": 90675,
    "triangles": 64082,
    "zigzags": 80552,
    "pluses": 93671,
}
PUBLISHED = tri.Generate()


def small(**changes) -> tri.Generate:
    values = {
        "shapes": ["triangle", "square", "plus", "circle"],
        "textures": ["solid", "stripes", "grid", "dots"],
        "colours": ["red", "green", "blue", "yellow"],
        "size": 32,
        "shape_size": 0.8,
        "period": 8,
        "gap": 0.0,
        "combinations": {"train": 40, "val": 8, "test": 16},
        "stratify": True,
        "renders": {"train": 3, "val": 2, "test": 2},
        "pairs": {"train": 200, "val": 60, "test": 100},
    }
    return tri.Generate(**(values | changes))


@pytest.mark.parametrize("name", images.SHAPES)
def test_templates(name: str) -> None:
    assert images.template(name).sum() == TEMPLATE_PIXELS[name]


@pytest.mark.parametrize("name", TEXTURE_PIXELS)
def test_textures(name: str) -> None:
    assert images.texture(name, 0, 0, 448, 10, np.random.default_rng(0)).sum() == TEXTURE_PIXELS[name]


def test_random_textures() -> None:
    rng = np.random.default_rng(0)
    assert images.texture("noise", 0, 0, 448, 10, rng).mean() == pytest.approx(0.5, abs=0.01)
    rain = images.texture("rain", 0, 0, 448, 10, rng)
    assert rain.mean() == pytest.approx(1 - 0.95**7, abs=0.01)
    # a streak that starts under an empty cell goes on for seven rows
    starts = np.argwhere((rain[1:-7] == 1) & (rain[:-8] == 0))
    assert all(rain[i + 1 : i + 8, j].all() for i, j in starts)


def test_first_flags_and_test_images_by_shape() -> None:
    flags = tri.split_flags(PUBLISHED)
    assert "".join(str(f // 2) for f in flags[:20]) == "00001000100000000011"
    assert (flags == 2).reshape(10, 100).sum(axis=1).tolist() == [19, 26, 20, 19, 25, 15, 19, 18, 19, 20]


def test_map_at_seed_42() -> None:
    named = {t: PUBLISHED.colours[c] for t, c in zip(PUBLISHED.textures, tri.texture_to_colour(PUBLISHED), strict=True)}
    want = "solid cyan stripes purple grid red hexgrid ocean dots yellow noise blue triangles pink zigzags white"
    words = (want + " rain green pluses orange").split()
    assert named == dict(zip(words[::2], words[1::2], strict=True))


@pytest.mark.parametrize(
    ("split", "biased", "n_images", "candidates", "used", "in_map", "same_texture", "itself"),
    [
        ("train", False, 2400, 576_846, 10_000, 0.1026, 0.0967, 0.0039),
        ("train", True, 2400, 57_636, 10_000, 1.0, 0.0998, 0.0040),
        ("test", False, 200, 4_094, 4_094, 0.0987, 0.1373, 0.0489),
        ("test", True, 200, 404, 404, 1.0, None, 0.0545),
    ],
)
def test_published_pairs(split, biased, n_images, candidates, used, in_map, same_texture, itself) -> None:
    listed = tri.list_images(PUBLISHED, split)
    pairs = tri.draw_pairs(PUBLISHED, split, biased)
    labels = tri.task_labels(PUBLISHED, listed, pairs)
    assert (len(listed.names), pairs.candidates, len(pairs.rows)) == (n_images, candidates, used)
    assert labels["synergy"].mean() == pytest.approx(in_map, abs=5e-5)
    assert (pairs.rows[:, 0] == pairs.rows[:, 1]).mean() == pytest.approx(itself, abs=5e-5)
    if same_texture is not None:
        assert (labels["unique1"] == labels["unique2"]).mean() == pytest.approx(same_texture, abs=5e-5)
    assert len(np.unique(pairs.rows, axis=0)) == used


def test_labels_by_hand() -> None:
    listed = tri.list_images(PUBLISHED, "test")
    pairs = tri.draw_pairs(PUBLISHED, "test", False)
    labels = tri.task_labels(PUBLISHED, listed, pairs)
    mapping = tri.texture_to_colour(PUBLISHED)
    for p in range(0, len(pairs.rows), 97):
        shape1, texture1, _ = listed.names[pairs.rows[p, 0]].removesuffix(".png").split("_")
        shape2, texture2, colour2 = listed.names[pairs.rows[p, 1]].removesuffix(".png").split("_")
        assert shape1 == shape2 == PUBLISHED.shapes[labels["share"][p]]
        assert (texture1, texture2) == tuple(PUBLISHED.textures[labels[k][p]] for k in ("unique1", "unique2"))
        fits = PUBLISHED.colours[mapping[PUBLISHED.textures.index(texture1)]] == colour2
        assert labels["synergy"][p] == fits


def test_published_rendering() -> None:
    rng = np.random.default_rng(3)
    image = images.render("square", "solid", "red", rng, 224, 128, 10, 0.5)
    again = np.random.default_rng(3)
    angle = again.integers(-45, 45)
    assert (image.shape, image.dtype) == ((3, 224, 224), np.uint8)
    inside = (image[0] == 255) & (image[1] == 0) & (image[2] == 0)
    background = (image == 127).all(axis=0)
    # a rotation keeps the area; only the anti-aliased rim is neither
    assert inside.sum() == pytest.approx(128**2, rel=0.05)
    assert (inside | background).mean() > 0.96
    rows = np.flatnonzero(~background.all(axis=1))
    span = 128 * (abs(np.cos(np.radians(angle))) + abs(np.sin(np.radians(angle))))
    assert rows[-1] - rows[0] == pytest.approx(span, abs=4)


def test_gaps_between_strokes() -> None:
    grey, dark = (images.render("square", "stripes", "red", np.random.default_rng(1), 64, 40, 8, g) for g in (0.5, 0.0))
    assert grey.min(axis=0).max() == 127
    assert (dark.max(axis=0) == 0).sum() > 300
    assert (grey.max(axis=0) == 0).sum() == 0


def test_a_template_of_another_size_keeps_its_share_of_ink() -> None:
    for side in (26, 51, 100):
        for name in images.SHAPES:
            share = images._sized_template(name, side).mean()
            assert share == pytest.approx(TEMPLATE_PIXELS[name] / 128**2, abs=1e-5)


def test_split_owns_its_combinations() -> None:
    params = small()
    seen = [set(map(tuple, tri.list_images(params, s).attributes)) for s in tri.SPLITS]
    assert [len(s) for s in seen] == [40, 8, 16]
    assert len(set.union(*seen)) == 64
    by_shape = (tri.split_flags(params).reshape(4, 16) == 2).sum(axis=1)
    assert by_shape.tolist() == [4, 4, 4, 4]


def test_files(tmp_path: Path) -> None:
    params = small(biased=True)
    counts = files.write_all("tri", params, tmp_path)
    assert {k: v["pairs"] for k, v in counts.items()} == {"train": 200, "probe": 200, "val": 60, "test": 100}
    for split, labels_fit in (("train", True), ("probe", False), ("val", False), ("test", False)):
        table = pq.read_table(tmp_path / f"{split}.parquet")
        assert table.column_names == ["id", "label", "image1", "image2", *(f"label_{t}" for t in tri.TASKS)]
        described = json.loads(table.schema.metadata[b"mmcontrast"])
        assert described["modalities"]["image1"] == {"kind": "image", "shape": [3, 32, 32]}
        assert list(described["tasks"]) == list(tri.TASKS)
        assert table["label"] == table["label_share"]
        assert len(set(table["id"].to_pylist())) == table.num_rows
        assert (min(table["label_synergy"].to_pylist()) == 1) == labels_fit
    listed = tri.list_images(params, "test")
    rendered = tri.render_images(params, listed)
    name1, name2 = table["id"][5].as_py().split("+")
    for name, column in ((name1, "image1"), (name2, "image2")):
        want = rendered[listed.names.index(name + ".png")].reshape(-1)
        assert np.array_equal(table[column][5].values.to_numpy(), want)


def test_same_seed_same_bytes(tmp_path: Path) -> None:
    def digest(folder: str, params: tri.Generate) -> list[str]:
        files.write_all("tri", params, tmp_path / folder)
        return [hashlib.sha256((tmp_path / folder / f"{s}.parquet").read_bytes()).hexdigest() for s in tri.SPLITS]

    first = digest("a", small())
    assert digest("b", small()) == first
    assert digest("c", small(seed=7)) != first


def test_no_validation_split_is_a_file_without_rows(tmp_path: Path) -> None:
    none = {"train": 40, "val": 0, "test": 24}
    params = small(combinations=none, renders={"train": 1, "test": 1}, pairs={"train": 20, "test": 20})
    files.write_all("tri", params, tmp_path)
    assert pq.read_table(tmp_path / "val.parquet").num_rows == 0
    assert not (tmp_path / "probe.parquet").exists()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"shapes": ["triangel", "square"]}, "did you mean 'triangle'"),
        ({"colours": ["red", "red", "blue", "green"]}, "different names"),
        ({"colours": ["red", "blue"]}, "one to one, and there are 4 and 2"),
        ({"combinations": {"train": 40, "val": 8, "test": 8}}, "must be all 64"),
        ({"combinations": {"train": 41, "val": 7, "test": 16}}, "multiples of 4 shapes"),
        ({"renders": {"train": 1, "val": 0, "test": 1}}, "all be given or all be 0"),
        ({"sise": 3}, "Extra inputs"),
    ],
)
def test_refusals(changes: dict, message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        small(**changes)
