"""A pretrained CLIP's halves against transformers' own, and what is said of files that do not fit."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import torch
from pydantic import ValidationError

from mmcontrast.config import Grid, Modality, Model, PretrainedCLIP
from mmcontrast.data.clip_files import encode_texts, read_clip
from mmcontrast.errors import ConfigError, DataError
from mmcontrast.models.clip import CLIPImageEncoder, CLIPTextEncoder
from mmcontrast.models.encoders import build_encoders
from mmcontrast.models.observations import OBSERVATION_ENCODERS
from tests.tiny_clip import LONGEST, SIDE, WIDTH, pictures, write_clip

ROOT = Path(__file__).parents[2]
IMAGE = Modality(kind="image", shape=[3, SIDE, SIDE], multifold=True)
TEXT = Modality(kind="text", shape=[], multifold=True)
TEXTS = ["caption 1 of 2.", "", "a dog", "x" * 40]


def model(folder: Path, width: int = WIDTH, **values: object) -> Model:
    clip = {"folder": str(folder)} | values
    return Model.model_validate({"width": width, "encoder_hidden": [], "head_hidden": [], "clip": clip})


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    pytest.importorskip("transformers")
    write_clip(tmp_path / "clip")
    return tmp_path / "clip"


@pytest.fixture
def theirs(folder: Path):
    from transformers import CLIPModel

    return CLIPModel.from_pretrained(folder).eval()


def test_images_are_encoded_as_the_library_does(folder: Path, theirs) -> None:
    images = torch.randint(0, 256, (5, 3, SIDE, SIDE), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    mean, std = (torch.tensor(pictures()[k]).view(3, 1, 1) for k in ("image_mean", "image_std"))
    with torch.no_grad():
        wanted = theirs.get_image_features(pixel_values=(images / 255 - mean) / std).pooler_output
        encoder = CLIPImageEncoder(IMAGE, model(folder)).eval()
        torch.testing.assert_close(encoder(images), wanted, rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(encoder(images / 255), wanted, rtol=1e-5, atol=1e-6)


def test_texts_are_encoded_as_the_library_does_whatever_pads_them(folder: Path, theirs) -> None:
    from transformers import CLIPTokenizer

    encoded = encode_texts(read_clip(PretrainedCLIP(folder=str(folder))), TEXTS)
    assert (encoded.cut, encoded.empty, encoded.pieces.shape) == (1, [1], (4, LONGEST))
    one = CLIPTokenizer.from_pretrained(folder)
    encoder = CLIPTextEncoder(TEXT, model(folder)).eval()
    with torch.no_grad():
        ours = encoder(torch.from_numpy(encoded.pieces))
        for row, text in zip(ours, TEXTS, strict=True):
            alone = one(text, truncation=True, max_length=LONGEST, return_tensors="pt")["input_ids"]
            wanted = theirs.get_text_features(input_ids=alone).pooler_output[0]
            torch.testing.assert_close(row, wanted, rtol=1e-5, atol=1e-6)


def test_no_texts_are_no_rows(folder: Path) -> None:
    assert encode_texts(read_clip(PretrainedCLIP(folder=str(folder))), []).pieces.shape == (0, LONGEST)


def test_fine_tuned_every_weight_is_trained(folder: Path) -> None:
    encoder = CLIPTextEncoder(TEXT, model(folder))
    encoder(torch.from_numpy(encode_texts(encoder.files, TEXTS).pieces)).square().sum().backward()
    assert {n for n, p in encoder.named_parameters() if p.grad is None} == set()


@pytest.mark.parametrize("half", ["image", "text"])
def test_frozen_only_a_layer_on_top_is_trained(folder: Path, half: str) -> None:
    if half == "image":
        encoder, inputs = CLIPImageEncoder(IMAGE, model(folder, width=5, frozen=True)), torch.rand(4, 3, SIDE, SIDE)
    else:
        encoder = CLIPTextEncoder(TEXT, model(folder, width=5, frozen=True))
        inputs = torch.from_numpy(encode_texts(encoder.files, TEXTS).pieces)
    assert sorted(n for n, _ in encoder.named_parameters()) == ["out.bias", "out.weight"]
    z = encoder.train()(inputs)
    assert z.shape == (4, 5)
    assert not encoder.tower.training
    z.sum().backward()
    assert encoder.out.weight.grad is not None


def test_a_folder_without_numbers_of_an_older_layout_has_the_true_end(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    true_end = config["text_config"]["eos_token_id"]
    config["text_config"]["eos_token_id"] = 2
    (folder / "config.json").write_text(json.dumps(config))
    assert read_clip(PretrainedCLIP(folder=str(folder))).end == true_end


def spoil_json(name: str, **values: object):
    def spoil(folder: Path) -> None:
        path = folder / name
        path.write_text(json.dumps(json.loads(path.read_text()) | values))

    return spoil


def spoil_vision(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    config["vision_config"]["image_size"] = 2 * SIDE
    (folder / "config.json").write_text(json.dumps(config))


def more_pieces(folder: Path) -> None:
    pieces = json.loads((folder / "vocab.json").read_text())
    (folder / "vocab.json").write_text(json.dumps(pieces | {"more": len(pieces)}))


def one_weight_less(folder: Path) -> None:
    from safetensors.torch import load_file, save_file

    weights = load_file(folder / "model.safetensors")
    del weights["text_projection.weight"]
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


PICTURES = "preprocessor_config.json"
FAULTS = {
    "no folder": (lambda f: f.rename(f.parent / "other"), "clip: no such folder"),
    "no configuration": (lambda f: (f / "config.json").unlink(), r"config\.json: no such file"),
    "no json": (lambda f: (f / "config.json").write_text("{"), r"config\.json: not a configuration"),
    "a list": (lambda f: (f / "config.json").write_text("[]"), "expected an object"),
    "no CLIP": (spoil_json("config.json", model_type="bert"), "not a CLIP: model_type is 'bert'"),
    "bad value": (spoil_json("config.json", projection_dim="wide"), r"config\.json: not the configuration of a CLIP"),
    "no weights": (lambda f: (f / "model.safetensors").unlink(), r"model\.safetensors: no such file"),
    "no tokenizer": (lambda f: (f / "merges.txt").unlink(), "no tokenizer"),
    "no pictures": (lambda f: (f / PICTURES).unlink(), "it says how a picture is made"),
    "two sides": (spoil_json(PICTURES, size={"shortest_edge": 9}), "one side for both"),
    "another resample": (spoil_json(PICTURES, resample=2), "resample is 2; accepted: 3"),
    "not normalised": (spoil_json(PICTURES, do_normalize=False), "do_normalize is False"),
    "another scale": (spoil_json(PICTURES, rescale_factor=1), "rescale_factor is 1; accepted: 1/255"),
    "two means": (spoil_json(PICTURES, image_mean=[0, 0]), "image_mean is .* expected three numbers"),
    "no spread": (spoil_json(PICTURES, image_std=[1, 0, 1]), "expected numbers above 0"),
    "other pictures": (spoil_vision, "pictures of 16 pixels, and .* makes them 8"),
    "damaged weights": (lambda f: (f / "model.safetensors").write_bytes(b"x"), "cannot be read as the weights"),
    "a weight less": (one_weight_less, r"1 weights that .* not there, such as text_projection\.weight"),
    "another tokenizer": (more_pieces, "these files do not belong together"),
    "bad tokenizer": (lambda f: (f / "vocab.json").write_text("{"), "the tokenizer cannot be read"),
}


@pytest.mark.parametrize("what", FAULTS)
def test_files_that_do_not_fit_are_named(folder: Path, what: str) -> None:
    spoil, says = FAULTS[what]
    spoil(folder)
    with pytest.raises(DataError, match=says):
        encode_texts(CLIPTextEncoder(TEXT, model(folder)).files, TEXTS)


def test_values_that_do_not_fit_the_files_are_named(folder: Path) -> None:
    with pytest.raises(ConfigError, match=r"model\.width: 7, .* embeddings of width 12"):
        CLIPTextEncoder(TEXT, model(folder, width=7))
    with pytest.raises(ConfigError, match=r"shape \[3, 9, 9\], .* takes \[3, 8, 8\]; give that shape"):
        CLIPImageEncoder(IMAGE.model_copy(update={"shape": [3, 9, 9]}), model(folder))


HUB = PretrainedCLIP(hub="owner/name", revision="0" * 40)


def test_a_hub_is_asked_for_one_commit(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = {}

    def download(hub: str, revision: str, allow_patterns: list[str]) -> str:
        asked.update(hub=hub, revision=revision, wanted=allow_patterns)
        return str(folder)

    monkeypatch.setattr("huggingface_hub.snapshot_download", download)
    assert read_clip(HUB).folder == folder
    assert (asked["hub"], asked["revision"]) == ("owner/name", "0" * 40)
    assert {"config.json", "model.safetensors"} <= set(asked["wanted"])


def test_a_hub_out_of_reach_is_said(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def download(*args: object, **kwargs: object) -> str:
        raise OSError("no way there\nsecond line")

    monkeypatch.setattr("huggingface_hub.snapshot_download", download)
    with pytest.raises(DataError, match=r"owner/name at 0{40} could not be had \(no way there\); put its files into"):
        read_clip(HUB)


def test_without_the_extra_it_is_said_how_to_install_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    for make in (lambda m: CLIPTextEncoder(TEXT, m), lambda m: CLIPImageEncoder(IMAGE, m)):
        with pytest.raises(
            ConfigError, match=r"model\.clip: needs .* transformers, .*; run `pip install .*'\.\[encoders\]'"
        ):
            make(model(tmp_path))


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({}, "give `folder`, or `hub`"),
        ({"folder": "a", "hub": "a/b", "revision": "0" * 40}, "one of the two"),
        ({"hub": "a/b"}, "the 40 digits of a commit"),
        ({"folder": "a", "revision": "0" * 40}, "`revision` goes with `hub`"),
        ({"hub": "a", "revision": "0" * 40}, "hub"),
        ({"hub": "a/b", "revision": "main"}, "revision"),
    ],
)
def test_where_it_comes_from_is_said_once(values: dict[str, str], says: str) -> None:
    with pytest.raises(ValidationError, match=says):
        PretrainedCLIP.model_validate(values)


def test_a_clip_stands_alone() -> None:
    values = {"width": 8, "encoder_hidden": [], "head_hidden": [], "image": "small_conv", "clip": {"folder": "a"}}
    with pytest.raises(ValidationError, match="set `image: null` and `text: null`"):
        Model.model_validate(values)


def test_only_a_model_with_a_clip_says_so() -> None:
    plain = {"width": 8, "encoder_hidden": [], "head_hidden": []}
    assert "clip" not in Model.model_validate(plain).model_dump(mode="json")
    given = Model.model_validate(plain | {"clip": {"folder": "a"}})
    assert given.model_dump(mode="json")["clip"]["folder"] == "a"
    assert Model.model_validate(given.model_dump(mode="json")) == given


def test_the_study_has_it_fine_tuned_and_frozen() -> None:
    grid = Grid(ROOT)
    found = {v: grid.cell("flickr30k", "mxm_clr", f"clip_{v}").model for v in ("finetuned", "frozen")}
    assert {v: m.clip and m.clip.frozen for v, m in found.items()} == {"finetuned": False, "frozen": True}
    assert all(m.image is None and m.text is None for m in found.values())


def test_a_clip_over_data_without_images_and_texts_is_refused() -> None:
    cell = Grid(ROOT).cell("flickr30k", "mxm_clr", "clip_frozen")
    vectors = {"a": Modality(kind="vector", shape=[3])}
    with pytest.raises(ConfigError, match=r"model\.clip: encodes images and texts, and dataset 'flickr30k' has none"):
        build_encoders(cell.model_copy(update={"modalities": vectors}), ["a"], OBSERVATION_ENCODERS)
