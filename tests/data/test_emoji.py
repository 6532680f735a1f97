"""The emoji set, from a few made-up packages in the layout of the real ones."""

import json
from types import SimpleNamespace

import numpy as np
import pyarrow.parquet as pq
import pytest

from mmcontrast.config import Dataset
from mmcontrast.data.loading import load_split
from mmcontrast.data.prepare import emoji
from mmcontrast.data.streaming import write_stream
from mmcontrast.errors import ConfigError, DataError

DISC = '<circle cx="8" cy="8" r="6" fill="#ff0000"/>'
LEFT = '<path fill="#0000ff" d="M0 0h8v16H0z"/>'
NAMES = {
    "1F600": ("grinning face", 0), "1F44B": ("waving hand", 1), "1F9D1-200D-1F680": ("astronaut", 1),
    "1F468-200D-1F680": ("man astronaut", 1), "1F469-200D-1F680": ("woman astronaut", 1), "2764-FE0F": ("red heart", 0),
}  # fmt: skip


TEXT = {"kind": "text", "shape": [], "multifold": True}
IMAGE = {"kind": "image", "multifold": True}


def dataset(**change):
    values = {
        "title": "Emoji", "description": "A few.", "licence": "none", "redistribute": False, "citation": "none",
        "sources": [{"kind": "npm", "package": "emojilib@1.0.0", "sha256": "0" * 64, "members": ["x"]}],
        "modalities": {"image": IMAGE | {"shape": [3, 16, 16]}, "text": TEXT},
        "classes": ["smileys-emotion", "people-body"], "rows": 6, "scaling": "none", "metrics": ["acc"],
        "split": {"kind": "random", "train": 0.5, "val": 0.25, "test": 0.25, "seed": 0},
    }  # fmt: skip
    return Dataset.model_validate(values | change)


def write(path, value):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value), encoding="utf-8")


@pytest.fixture
def raw(tmp_path):
    entries = [
        {"hexcode": h, "label": label, "group": group, "order": i, "tags": ["tag", label.split()[0]]}
        for i, (h, (label, group)) in enumerate(NAMES.items())
    ]
    entries.append({"hexcode": "1F1E6", "label": "regional indicator A"})  # has no group
    entries.append({"hexcode": "1F3FB", "label": "light skin tone", "group": 2, "order": 90})
    write(tmp_path / emoji.EMOJIBASE, entries)
    write(tmp_path / emoji.GROUPS, {"groups": {"0": "smileys-emotion", "1": "people-body", "2": "component"}})
    cldr = {"😀": {"default": ["face", "grin"], "tts": ["grinning face"]}}
    write(tmp_path / emoji.CLDR, {"annotations": {"annotations": cldr}})
    write(tmp_path / emoji.EMOJILIB, {"😀": ["grinning_face", "smile", "happy"], "❤️": ["red_heart", "love"]})
    for name in emoji.SHORT_CODES:
        codes = {"1F600": ["grinning_face", "grinning"], "2764-FE0F": "heart"}
        write(tmp_path / f"emojibase-data/en/shortcodes/{name}.json", codes if name != "iamcal" else {})
    for vendor, package in emoji.VENDORS.items():
        icons = {key.lower().replace("-fe0f", ""): {"body": DISC} for key in NAMES}
        aliases = {}
        if vendor == "twemoji":
            icons["1f600"] = {"body": LEFT}
            aliases = {"mirrored": {"parent": "1f600", "hFlip": True}}
        chars = {key: key for key in icons}
        if vendor == "twemoji":
            chars["1f44b"] = "mirrored"
        if vendor == "fluent":
            del chars["2764"]
        write(tmp_path / package / "icons.json", {"icons": icons, "aliases": aliases, "width": 16, "height": 16})
        write(tmp_path / package / "chars.json", chars)
    return tmp_path


def build(spec, raw, min_drawings=3):
    """What is streamed, by what it is."""
    options = {"min_drawings": min_drawings, "min_texts": 1}
    given = emoji.stream("emoji", spec.model_copy(update={"prepare": options}), raw)
    ids, labels = [one.id for one in given.instances], [one.label for one in given.instances]
    images, texts = ([one.values[m] for one in given.instances] for m in ("image", "text"))
    return SimpleNamespace(ids=ids, labels=labels, images=images, texts=texts, report=given.report)


def write_all(spec, raw, out, name="emoji"):
    given = emoji.stream(name, spec, raw)
    return write_stream(name, spec, given, out), given.report


def edit(path, change):
    value = json.loads(path.read_text(encoding="utf-8"))
    change(value)
    write(path, value)


def test_what_is_built(raw):
    built = build(dataset(), raw)
    by_id = dict(zip(built.ids, zip(built.images, built.texts, built.labels, strict=True), strict=True))
    assert list(by_id) == [k.removesuffix("-FE0F") for k in NAMES]
    images, texts, label = by_id["1F600"]
    assert texts == ["grinning face", "face, grin", "smile, happy", "grinning"]
    assert label == 0
    assert by_id["1F44B"][1:] == (["waving hand", "tag, waving"], 1)
    assert by_id["2764"][1] == ["red heart", "tag, red", "love", "heart"]
    assert {(i.dtype, i.shape) for i in images} == {(np.dtype(np.uint8), (3, 16, 16))}
    assert images[0][:, 8, 8].tolist() == [255, 0, 0]
    assert images[0][:, 0, 0].tolist() == [255, 255, 255]


def test_a_mirrored_alias_is_mirrored(raw):
    built = build(dataset(), raw)
    plain, mirrored = built.images[0][1], built.images[1][1]
    assert plain[:, 8, [1, 10]].T.tolist() == [[0, 0, 255], [255, 255, 255]]
    assert (mirrored == plain[:, :, ::-1]).all()


def test_a_missing_vendor_leaves_fewer_drawings_and_too_few_leave_the_emoji_out(raw):
    built = build(dataset(), raw)
    assert len(built.images[built.ids.index("2764")]) == 3
    assert built.report["drawings_per_instance"] == {"3": 1, "4": 5}
    strict = build(dataset(), raw, min_drawings=4)
    assert "2764" not in strict.ids
    assert strict.report["left_out"]["count"] == 1
    assert strict.report["left_out"]["which"] == ["2764 (red heart: 3 drawings, 4 texts)"]


def of_uses(n, times):
    """A group that refers to the next one so many times, and so on."""
    groups = [f'<g id="a{i}">' + f'<use xlink:href="#a{i + 1}"/>' * times + "</g>" for i in range(n)]
    return f'<defs>{"".join(groups)}<g id="a{n}">{DISC}</g></defs><use xlink:href="#a0"/>'


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("<path d=</g>", "cannot be drawn"),
        ("<g/>", "blank"),
        ('<g fill="&no;"/>', "cannot be drawn"),
        # these crash the library that draws, or take longer than anybody waits
        ('<g opacity="0.9">' * 1000 + DISC + "</g>" * 1000, "more than 64 elements within one another"),
        (of_uses(300, 1), "more than 64 elements within one another"),
        (of_uses(8, 10), "or 100000 in all"),
        ('<image href="/local.png" width="16" height="16"/>', "refers to '/local.png', which is outside of it"),
        ('<image xlink:href="data:image/png;base64,"/>', "refers to 'data:"),
        ('<path fill="url(other.svg#a)" d="M0 0h8v16H0z"/>', "refers to 'other.svg#a'"),
    ],
)
def test_a_drawing_that_cannot_be_drawn_is_named_skipped_and_counted(raw, body, reason):
    edit(raw / emoji.VENDORS["noto"] / "icons.json", lambda v: v["icons"]["1f44b"].update(body=body))
    built = build(dataset(), raw)
    (skipped,) = built.report["svg_not_drawn"]
    assert (skipped["id"], skipped["name"], skipped["vendor"]) == ("1F44B", "waving hand", "noto")
    assert reason in skipped["reason"]
    assert len(built.images[built.ids.index("1F44B")]) == 3
    assert built.report["drawings"] == 22


@pytest.mark.parametrize(
    ("variants", "family"),
    [
        (["1F44B", "1F44B-1F3FB", "1F44B-1F3FF"], "1F44B"),
        (["1F9D1-200D-1F680", "1F469-200D-1F680", "1F468-1F3FD-200D-1F680"], "1F9D1-200D-1F680"),
        (["1F3C3", "1F3C3-200D-2640-FE0F", "1F3C3-1F3FB-200D-2642-FE0F-200D-27A1-FE0F"], "1F3C3"),
        (["1F468", "1F469", "1F9D1-1F3FB"], "1F9D1"),
        (["1F46A", "1F468-200D-1F469-200D-1F466", "1F9D1-200D-1F9D2"], "1F46A"),
        (["1F46B", "1F46D", "1F9D1-1F3FB-200D-1F91D-200D-1F9D1-1F3FC"], "1F9D1-200D-1F91D-200D-1F9D1"),
        (["1F491", "1F469-200D-2764-FE0F-200D-1F468"], "1F491"),
        (["1F48F", "1F468-200D-2764-FE0F-200D-1F48B-200D-1F468"], "1F48F"),
        (["27A1-FE0F"], "27A1"),
        (["2640-FE0F"], "2640"),
        (["1F43B-200D-2744-FE0F"], "1F43B-200D-2744"),
    ],
)
def test_variants_of_one_base_share_a_family(variants, family):
    assert {emoji.family_of(v) for v in variants} == {family}


def test_astronauts_stay_together(raw, tmp_path):
    written, report = write_all(dataset(), raw, tmp_path / "out")
    assert sorted(f for of in written.groups.values() for f in of).count("1F9D1-200D-1F680") == 3
    assert sum("1F9D1-200D-1F680" in of for of in written.groups.values()) == 1
    assert report["families"] == 4


def test_files_hold_lists_of_observations(raw, tmp_path):
    built = build(dataset(), raw)
    write_all(dataset(), raw, tmp_path / "out")
    tables = {split: pq.read_table(tmp_path / "out" / f"{split}.parquet") for split in ("train", "val", "test")}
    assert sum(t.num_rows for t in tables.values()) == 6
    for split, table in tables.items():
        meta = json.loads(table.schema.metadata[b"mmcontrast"])
        assert (meta["split"], meta["modalities"]["image"]) == (split, IMAGE | {"shape": [3, 16, 16]})
        for row in table.to_pylist():
            at = built.ids.index(row["id"])
            assert row["text"] == built.texts[at]
            assert row["label"] == built.labels[at]
            assert np.array_equal(np.array(row["image"], np.uint8).reshape(-1, 3, 16, 16), np.stack(built.images[at]))


def test_the_same_files_give_the_same_bytes(raw, tmp_path):
    for out in ("one", "two"):
        write_all(dataset(), raw, tmp_path / out)
    for split in ("train", "val", "test"):
        one, two = (tmp_path / out / f"{split}.parquet" for out in ("one", "two"))
        assert one.read_bytes() == two.read_bytes()


def test_files_that_are_missing_or_broken_are_named(raw):
    (raw / emoji.CLDR).write_text("{", encoding="utf-8")
    with pytest.raises(DataError, match=r"annotations\.json: not JSON"):
        build(dataset(), raw)
    (raw / emoji.GROUPS).unlink()
    with pytest.raises(DataError, match=r"groups\.json: no such file; run"):
        build(dataset(), raw)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"classes": ["smileys-emotion", "people"]}, r"no group \['people'\]"),
        ({"modalities": {"image": {"kind": "vector", "shape": [4]}, "text": TEXT}}, "give `image` of kind image"),
        ({"modalities": {"image": IMAGE | {"shape": [3, 8, 8], "multifold": False}, "text": TEXT}}, "multifold: true"),
        ({"modalities": {"image": IMAGE | {"shape": [1, 8, 8]}, "text": TEXT}}, "of kind image with 3 channels"),
        ({"modalities": {"image": IMAGE | {"shape": [3, 8, 9]}, "text": TEXT}}, r"\[3, 8, 9\]; .* square"),
        ({"split": {"kind": "published", "train": 4, "test": 2}}, "nobody publishes"),
    ],
)
def test_a_dataset_file_that_does_not_fit_is_refused(raw, change, says):
    with pytest.raises(ConfigError, match=says):
        build(dataset(**change), raw)


def test_written_splits_load_and_the_report_counts_what_was_left_out(raw, tmp_path):
    edit(raw / emoji.VENDORS["noto"] / "icons.json", lambda v: v["icons"]["1f44b"].update(body="<g/>"))
    spec = dataset(prepare={"min_drawings": 4})
    written, report = write_all(spec, raw, tmp_path / "out")
    assert {split: len(labels) for split, labels in written.labels[""].items()} == {"train": 4, "val": 0, "test": 0}
    assert report["left_out"]["count"] == 2
    assert [s["id"] for s in report["svg_not_drawn"]] == ["1F44B"]
    built = build(spec, raw, min_drawings=4)
    train = load_split(tmp_path / "out" / "train.parquet")
    assert train.ids == built.ids
    assert train.observations["image"].counts.tolist() == [4, 4, 4, 4]
    assert train.observations["text"].flat[0] == built.texts[built.ids.index(train.ids[0])][0]


def test_an_option_that_does_not_exist_is_named(raw):
    with pytest.raises(ConfigError, match=r"prepare\.min_drawing: unknown key; did you mean 'min_drawings'"):
        emoji.stream("emoji", dataset(prepare={"min_drawing": 4}), raw)
