"""Trifeature: the published counts, templates, textures and map; rendering, labels, files, refusals."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from mmcontrast.config import Dataset
from mmcontrast.data.loading import load_split
from mmcontrast.data.outside import preparer
from mmcontrast.data.prepare import prepare
from mmcontrast.data.prepare import trifeature as tri
from mmcontrast.data.prepare import trifeature_images as images
from mmcontrast.errors import ConfigError, DataError
from tests.grids import grid_of

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
        "combinations": {"train": 32, "val": 16, "test": 16},
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
    assert [len(s) for s in seen] == [32, 16, 16]
    assert len(set.union(*seen)) == 64
    flags = tri.split_flags(params).reshape(4, 4, 4)
    for split, each in enumerate((2, 1, 1)):
        assert {*(flags == split).sum(1).ravel().tolist(), *(flags == split).sum(2).ravel().tolist()} == {each}
    assert (tri.split_flags(small(seed=1)) != tri.split_flags(params)).any()


def parts(params: tri.Generate, split: str) -> list[bool]:
    """Whether the pairs are of combinations that train has, of each part of the split."""
    return [True, False] if params.seen and split != "train" else [False]


def dataset(params: tri.Generate, **changes) -> Dataset:
    """What a file in params/datasets says of these parameters."""
    classes = tri.task_classes(params)
    image = {"kind": "image", "shape": [3, params.size, params.size]}
    pairs = {s: sum(len(tri.draw_pairs(params, s, False, seen).rows) for seen in parts(params, s)) for s in tri.SPLITS}
    values = {
        **dict.fromkeys(("title", "description", "licence", "citation"), "made up"),
        "redistribute": True,
        "modalities": {"image1": image, "image2": image},
        "classes": classes.pop("share"),
        "tasks": classes,
        "rows": sum(pairs.values()),
        "split": {"kind": "published", **pairs},
        "scaling": "none",
        "metrics": ["balanced_acc"],
        "generate": params.model_dump(),
        "reader": "trifeature",
        "probe_from": "tri" if params.biased else None,
        "case_weights": params.seen is not None,
    }
    return Dataset.model_validate(values | changes)


@pytest.fixture
def prepared(tmp_path: Path) -> Callable[..., tuple[dict, Path]]:
    """prepared(params): datasheet and folder of a dataset written from them."""

    def prepare_(params: tri.Generate, folder: str = "out", **changes) -> tuple[dict, Path]:
        return prepare("tri", dataset(params, **changes), tmp_path / "raw", tmp_path / folder), tmp_path / folder

    return prepare_


@pytest.mark.parametrize("biased", [False, True])
def test_files(prepared, biased: bool) -> None:
    params = small(biased=biased)
    sheet, folder = prepared(params)
    assert {k: v["rows"] for k, v in sheet["splits"].items()} == {"train": 200, "val": 60, "test": 100}
    for split in tri.SPLITS:
        table = load_split(folder / f"{split}.parquet")
        assert list(table.inputs) == ["image1", "image2"]
        assert all(x.shape == (len(table), 3, 32, 32) and x.dtype == torch.uint8 for x in table.inputs.values())
        listed, pairs = tri.list_images(params, split), tri.draw_pairs(params, split, biased and split == "train")
        want = tri.task_labels(params, listed, pairs)
        assert {"share": table.labels.tolist(), **{t: y.tolist() for t, y in table.tasks.items()}} == {
            t: y.tolist() for t, y in want.items()
        }
        assert len(set(table.ids)) == len(table)
        assert (int(table.tasks["synergy"].min()) == 1) == (biased and split == "train")
    rendered = tri.render_images(params, listed)
    for column, row in zip(table.inputs.values(), pairs.rows[5], strict=True):
        assert np.array_equal(column[5].numpy(), rendered[row])


def test_the_data_sheet_counts_images_and_candidates_and_says_how_they_were_split(prepared) -> None:
    sheet, _ = prepared(small())
    candidates = tri.draw_pairs(small(), "test", False).candidates
    assert sheet["report"]["counts"]["test"] == {
        "combinations": 16,
        "images": 32,
        "candidate pairs": candidates,
        "pairs": 100,
    }
    assert "each texture and each colour of each shape equally often (seed 42)" in sheet["split"]["rule"]
    assert sheet["licence"] == "made up"
    assert "respect M" not in sheet["split"]["rule"]
    assert "train pairs respect M" in prepared(small(biased=True), "biased")[0]["split"]["rule"]


def test_biased_and_unbiased_share_what_is_scored(prepared) -> None:
    _, one = prepared(small())
    _, other = prepared(small(biased=True), "biased")
    for split in ("val", "test"):
        assert load_split(one / f"{split}.parquet").ids == load_split(other / f"{split}.parquet").ids
    assert load_split(one / "train.parquet").ids != load_split(other / "train.parquet").ids


def test_same_seed_same_bytes(prepared) -> None:
    def digest(folder: str, params: tri.Generate) -> list[str]:
        _, out = prepared(params, folder)
        return [hashlib.sha256((out / f"{s}.parquet").read_bytes()).hexdigest() for s in tri.SPLITS]

    first = digest("a", small())
    assert digest("b", small()) == first
    assert digest("c", small(seed=7)) != first


def test_no_validation_split_is_a_file_without_rows(prepared) -> None:
    none = {"train": 32, "val": 0, "test": 32}
    _, folder = prepared(small(combinations=none, renders={"train": 1, "test": 1}, pairs={"train": 20, "test": 20}))
    assert len(load_split(folder / "val.parquet")) == 0


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"classes": ["square", "triangle", "plus", "circle"]},
            r"params/datasets/tri\.yaml: classes: `generate` makes",
        ),
        ({"tasks": {}}, r"params/datasets/tri\.yaml: tasks: `generate` makes"),
        ({"modalities": {"image1": {"kind": "image", "shape": [3, 32, 32]}}}, "modalities: .*two, each of kind image"),
        ({"probe_from": None}, "probe_from: required where `generate.biased` is true"),
        ({"generate": {"sise": 3}}, "generate.sise: unknown key; did you mean 'size'"),
        ({"case_weights": True}, r"params/datasets/tri\.yaml: case_weights: goes with `generate.seen`; give both"),
    ],
    ids=["classes", "tasks", "modalities", "probe_from", "generate", "case_weights"],
)
def test_a_file_that_says_otherwise(prepared, tmp_path: Path, changes: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        prepared(small(biased=True), **changes)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", ["trifeature", "trifeature_biased", "trifeature_mid", "trifeature_mid_biased"])
def test_the_datasets_of_the_study_are_what_their_files_say(name: str) -> None:
    known = grid_of().datasets[name]
    params = tri.Generate.model_validate(known.generate)
    tri._check(known, params, name)
    drawn = {
        s: {seen: tri.draw_pairs(params, s, params.biased and s == "train", seen) for seen in parts(params, s)}
        for s in tri.SPLITS
    }
    found = {s: sum(len(p.rows) for p in of.values()) for s, of in drawn.items()}
    assert found == {s: getattr(known.split, s) for s in tri.SPLITS}
    assert preparer(name, known) == "trifeature"
    for split, seen in [
        (s, seen) for s, of in drawn.items() for seen in of if s != "train" and getattr(known.split, s)
    ]:
        labels = tri.task_labels(params, tri.list_images(params, split, seen), drawn[split][seen])
        assert all(set(of) == set(range(len(tri.task_classes(params)[t]))) for t, of in labels.items())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"shapes": ["triangel", "square"]}, "did you mean 'triangle'"),
        ({"colours": ["red", "red", "blue", "green"]}, "different names"),
        ({"colours": ["red", "blue"]}, "one to one, and there are 4 and 2"),
        ({"combinations": {"train": 32, "val": 16, "test": 8}}, "must be all 64"),
        ({"combinations": {"train": 36, "val": 12, "test": 16}}, "multiples of 16, the textures of all shapes"),
        (
            {"seen": {"renders": 1, "pairs": 9}, "stratify": False},
            "seen: needs `stratify: true` and combinations of val",
        ),
        ({"renders": {"train": 1, "val": 0, "test": 1}}, "all be given or all be 0"),
        ({"sise": 3}, "Extra inputs"),
    ],
)
def test_refusals(changes: dict, message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        small(**changes)


SEEN = {"seen": {"renders": 6, "pairs": 1500}, "pairs": {"train": 2000, "val": 900, "test": 900}}
SEEN |= {"renders": {"train": 4, "val": 10, "test": 10}}


def test_what_train_has_seen_is_scored_on_fresh_renders_and_what_it_has_not_apart(prepared) -> None:
    params = small(**SEEN)
    sheet, folder = prepared(params)
    names = {"unique1", "unique2", "colour2", "synergy", "shape_new", "unique1_new", "unique2_new", "synergy_new"}
    own = {tuple(of) for of in tri.list_images(params, "train").attributes.tolist()}
    for split in tri.SPLITS:
        table = load_split(folder / f"{split}.parquet")
        assert set(table.weights) == {"", *table.tasks} == {"", *names}
        images = [[name.split("_") for name in identity.split("+")] for identity in table.ids]
        where = [params.shapes.index(a[0][0]) for a in images]
        assert where == table.labels.tolist() == table.tasks["shape_new"].tolist()
        seen = torch.tensor([len(a[0]) == 5 for a in images])  # shape, texture, colour, split, number
        combinations = [
            (params.shapes.index(s), params.textures.index(t), params.colours.index(c))
            for a in images
            for s, t, c, *_ in a
        ]
        assert [c in own for c in combinations[::2]] == [c in own for c in combinations[1::2]]
        if split == "train":
            assert not seen.any()
            assert all((w > 0).all() for w in table.weights.values())
            continue
        assert [c in own for c in combinations[::2]] == seen.tolist()
        for task, weights in table.weights.items():
            assert torch.equal(weights > 0, ~seen if task.endswith(tri.NEW) else seen)
            assert float(weights[weights > 0].mean()) == pytest.approx(1)
            assert torch.equal(
                table.tasks.get(task, table.labels), table.tasks.get(task.removesuffix(tri.NEW), table.labels)
            )
        assert sheet["report"]["counts"][split]["pairs"] == 2400
    for one, other in ((a, b) for a in tri.SPLITS for b in tri.SPLITS if a < b):
        assert not set(load_split(folder / f"{one}.parquet").ids) & set(load_split(folder / f"{other}.parquet").ids)


def test_fresh_renders_are_images_of_their_own() -> None:
    params = small(**SEEN)
    found = {(s, seen): tri.list_images(params, s, seen) for s in tri.SPLITS for seen in parts(params, s)}
    serials = np.concatenate([listed.serial for listed in found.values()])
    assert len(np.unique(serials)) == len(serials)
    assert (
        found["train", False].serial.tolist()
        == tri.list_images(small(**SEEN | {"seen": None}), "train").serial.tolist()
    )
    one, other = (tri.render_images(params, found[s, True]) for s in ("val", "test"))
    assert not any((a == b).all() for a, b in zip(one, other, strict=True))


def test_weights_leave_synergy_to_no_single_attribute() -> None:
    """Means of both classes are equal for every function of shape and texture1, shape and colour2, or one attribute."""
    params = small(**SEEN)
    for split, seen in (("train", False), ("test", True), ("test", False)):
        listed, pairs = tri.list_images(params, split, seen), tri.draw_pairs(params, split, False, seen)
        weights, fits = tri.balanced(params, listed, pairs), tri.task_labels(params, listed, pairs)["synergy"] == 1
        (shape, texture1, colour1), (_, texture2, colour2) = (listed.attributes[of].T for of in pairs.rows.T)
        assert fits.mean() < 0.4
        assert [weights[own].sum() for own in (fits, ~fits)] == pytest.approx([len(fits) / 2] * 2)
        for codes in (4 * shape + texture1, 4 * shape + colour2, texture2, colour1):
            both = [np.bincount(codes[own], weights[own], 16) for own in (fits, ~fits)]
            np.testing.assert_allclose(*both, atol=1e-9 * len(fits))
    few = small(**SEEN | {"pairs": {"train": 60, "val": 60, "test": 60}})
    with pytest.raises(
        DataError, match=r"of 16 \(shape, texture1, colour2\) that are in M only \d+ have a pair; raise"
    ):
        tri.balanced(few, tri.list_images(few, "train"), tri.draw_pairs(few, "train", False))
