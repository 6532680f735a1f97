"""Pretrained encoders: what is said of files, weights and settings that do not fit."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor

from mmcontrast.config import Modality, Pretrained
from mmcontrast.data.pretrained import download, load_tokenizer, longest_text, open_folder
from mmcontrast.errors import ConfigError, DataError, FetchError, MMContrastError
from mmcontrast.models.pretrained import PretrainedTower
from tests import tiny_pretrained as tiny
from tests.tiny_pretrained import KINDS, SIDE, spec, tower, write_pictures

pytest.importorskip("transformers")

HUB = {"hub": "owner/name", "revision": "0" * 40}


def test_low_rank_updates_of_no_layer_are_refused_with_the_layers_there_are(written) -> None:
    pytest.importorskip("peft")
    lora = {"r": 2, "alpha": 4, "dropout": 0.0, "target_modules": ["query"]}
    with pytest.raises(ConfigError, match=r"lora\.target_modules: no layer ends in .*'query'.*: .*q_proj.*v_proj"):
        tower(written("vit"), "vit", tuning="lora", lora=lora)


def test_without_the_extra_for_updates_it_is_said_how_to_install_it(written, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "peft", None)
    lora = {"r": 2, "alpha": 4, "dropout": 0.0, "target_modules": ["query"]}
    with pytest.raises(ConfigError, match=r"lora: needs the library peft, .* `pip install peft`"):
        tower(written("bert"), "bert", tuning="lora", lora=lora)


def test_what_a_model_has_not_is_a_fault_of_the_configuration(written: Callable[[str], Path]) -> None:
    with pytest.raises(ConfigError, match=r"gradient_checkpointing: .*does not support"):
        tower(written("resnet"), "resnet", gradient_checkpointing=True)
    with pytest.raises(ConfigError, match="attention: a model of type 'resnet' has no sdpa; give `eager`"):
        tower(written("resnet"), "resnet", attention="sdpa")
    with pytest.raises(ConfigError, match="no pooled output; set pooling to cls or mean"):
        tower(written("wav2vec2"), "wav2vec2", pooling="pooler")
    with pytest.raises(ConfigError, match=r"sequences of shape \[60, 2\], .* \(wav2vec2\) takes steps of one sample"):
        PretrainedTower(Modality(kind="sequence", shape=[60, 2]), spec(written("wav2vec2")), "here")
    with pytest.raises(ConfigError, match=r"shape \[17, 8\], .* takes at most 16 steps of 8 mel bands"):
        PretrainedTower(Modality(kind="sequence", shape=[17, 8]), spec(written("ast")), "here")
    with pytest.raises(ConfigError, match=r"holds a model of type 'vit', which reads no texts"):
        longest_text(open_folder(spec(written("vit")), "here"), None, spec(written("vit")))
    opened = open_folder(spec(written("roberta")), "here")
    with pytest.raises(ConfigError, match=r"tokens: 99, and .* has positions for 13"):
        longest_text(opened, load_tokenizer(opened), spec(written("roberta"), tokens=99))


def test_weights_of_a_pooler_may_be_missing_where_it_is_not_asked_for(own: Callable[[str], Path]) -> None:
    from safetensors.torch import load_file, save_file

    folder = own("bert")
    weights = {k: v for k, v in load_file(folder / "model.safetensors").items() if "pooler" not in k}
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    state = torch.get_rng_state()
    ours = tower(folder, "bert", pooling="cls")
    assert torch.equal(torch.get_rng_state(), state)
    assert not any("pooler" in name for name, _ in ours.named_parameters())
    with pytest.raises(DataError, match=r"2 weights that .* not there, such as pooler\.dense\.bias"):
        tower(folder, "bert", pooling="pooler")


def changed(name: str, **values: object) -> Callable[[Path], object]:
    def spoil(folder: Path) -> None:
        path = folder / name
        path.write_text(json.dumps(json.loads(path.read_text()) | values))

    return spoil


def weights_changed(key: str, value: Tensor | None) -> Callable[[Path], object]:
    def spoil(folder: Path) -> None:
        from safetensors.torch import load_file, save_file

        weights = load_file(folder / "model.safetensors")
        del weights[key]
        weights |= {} if value is None else {key: value}
        save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})

    return spoil


def no_tokenizer(folder: Path) -> None:
    for path in folder.glob("*token*"):
        path.unlink()


def as_bin(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")


PICTURES, WEIGHT = "preprocessor_config.json", "encoder.layer.1.output.dense.weight"

FAULTS: dict[str, tuple[str, Callable[[Path], object], str]] = {
    "no folder": ("bert", lambda f: f.rename(f.parent / "other"), r"bert: no such folder; .*\.folder names one"),
    "no configuration": ("bert", lambda f: (f / "config.json").unlink(), r"config\.json: no such file"),
    "no json": ("bert", lambda f: (f / "config.json").write_text("{"), r"config\.json: not a configuration"),
    "a list": ("bert", lambda f: (f / "config.json").write_text("[]"), "expected an object"),
    "unknown": ("bert", changed("config.json", model_type="news"), r"config\.json: not a configuration of the library"),
    "own code": ("bert", changed("config.json", auto_map={"AutoModel": "m.M"}), "code of its own, which is never run"),
    "pickled weights": ("bert", as_bin, r"weights are read as safetensors alone; .*save_pretrained\(folder\)"),
    "damaged weights": ("bert", lambda f: (f / "model.safetensors").write_bytes(b"x"), "cannot be read as the weights"),
    "cut weights": (
        "bert",
        lambda f: (f / "model.safetensors").write_bytes((f / "model.safetensors").read_bytes()[:-9]),
        "cannot be read as the weights",
    ),
    "a weight less": ("bert", weights_changed(WEIGHT, None), rf"1 weights that .* not there, such as {WEIGHT}"),
    "another shape": (
        "bert",
        weights_changed(WEIGHT, torch.zeros(3, 4)),
        rf"1 weights of other shapes .*, such as {WEIGHT}: \[3, 4\], expected \[16, 24\]",
    ),
    "no tokenizer": ("bert", no_tokenizer, r"no tokenizer; expected tokenizer\.json, or vocab\.txt"),
    "bad tokenizer": ("bert", lambda f: (f / "tokenizer.json").write_text("{"), "the tokenizer cannot be read"),
    "wide tokenizer": ("bert", lambda f: tiny.write_tokenizer(f, more=40), r"has 340 word pieces, and .* says 300"),
    "another end": ("clip", lambda f: tiny.write_tokenizer(f), "ends a text with number 2, and .* says 299"),
    "no pictures": ("vit", lambda f: (f / PICTURES).unlink(), "it says how a picture is made"),
    "bad pictures": ("vit", lambda f: (f / PICTURES).write_text("{"), "no picture processor can be made"),
    "no square": ("vit", lambda f: write_pictures(f, crop_size={"height": 8, "width": 9}), "accepted: a square"),
    "nearest": ("vit", lambda f: write_pictures(f, resample=0), r"resample is .*; accepted: 2 \(bilinear\)"),
    "another scale": ("vit", lambda f: write_pictures(f, rescale_factor=1), "rescale_factor is 1; accepted: 1/255"),
    "two means": ("vit", lambda f: write_pictures(f, image_mean=[0, 0]), "expected three numbers each"),
    "no spread": ("vit", lambda f: write_pictures(f, image_std=[1, 0, 1]), "spreads above 0"),
    "other pictures": ("vit", changed("config.json", image_size=4 * SIDE), "weights of other shapes"),
}


@pytest.mark.parametrize("what", FAULTS)
def test_files_that_do_not_fit_are_named(own: Callable[[str], Path], what: str) -> None:
    name, spoil, says = FAULTS[what]
    folder = own(name)
    spoil(folder)

    def read() -> None:
        tower(folder, name, KINDS.get(name, "text"))
        load_tokenizer(open_folder(spec(folder), "here"))

    with pytest.raises(MMContrastError, match=says):
        read()


def test_a_job_takes_one_commit_from_the_cache_and_says_where_there_is_none(monkeypatch, written) -> None:
    asked: list[dict[str, Any]] = []

    def snapshot(hub: str, **values: Any) -> str:
        asked.append({"hub": hub} | values)
        return str(written("bert"))

    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot)
    assert open_folder(Pretrained(**HUB), "here").path == written("bert")
    assert asked == [HUB | {"local_files_only": True}]
    assert download([Pretrained(**HUB), Pretrained(**HUB), spec(Path("a"))]) == [written("bert")]
    assert "*.safetensors" in asked[1]["allow_patterns"]
    assert not any("bin" in pattern for pattern in asked[1]["allow_patterns"])

    def none(*args: object, **values: object) -> str:
        raise OSError("no way there\nsecond line")

    monkeypatch.setattr("huggingface_hub.snapshot_download", none)
    with pytest.raises(DataError, match=r"here\.hub: owner/name at 0{40} is not in the cache .*`mmcontrast data enc"):
        open_folder(Pretrained(**HUB), "here")
    with pytest.raises(FetchError, match=r"owner/name at 0{40}: could not be had \(no way there\); put its files into"):
        download([Pretrained(**HUB)])


def test_a_hub_id_without_network_and_without_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(DataError, match=r"not in the cache of this machine .*`mmcontrast data encoders`"):
        open_folder(Pretrained(**HUB), "here")


def test_without_the_extra_it_is_said_how_to_install_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(ConfigError, match=r"here: needs the library transformers, .* `pip install transformers`"):
        open_folder(spec(tmp_path), "here")


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({}, "give `folder`, or `hub`"),
        ({"folder": "a", **HUB}, "one of the two"),
        ({"hub": "a/b"}, "the 40 digits of a commit"),
        ({"folder": "a", "revision": "0" * 40}, "`revision` goes with `hub`"),
        ({"hub": "a", "revision": "0" * 40}, "hub"),
        ({"hub": "a/b", "revision": "0" * 7}, "revision"),
        ({"folder": "a", "tuning": "lora"}, "`lora` goes with `tuning: lora`"),
        ({"folder": "a", "tuning": "frozen", "lr": 0.1}, "nothing of a frozen encoder is trained"),
    ],
)
def test_what_does_not_fit_together_is_refused(values: dict[str, Any], says: str) -> None:
    with pytest.raises(ValidationError, match=says):
        Pretrained.model_validate(values)
