"""Pretrained encoders against the library's own forward pass, and what is said of files that do not fit."""

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

from mmcontrast.config import Grid, Modality, Model, Pretrained
from mmcontrast.data.pretrained import download, open_folder, pictures
from mmcontrast.data.pretrained_texts import encode_texts, load_tokenizer, longest_text
from mmcontrast.errors import ConfigError, DataError, FetchError, MMContrastError
from mmcontrast.models.encoders import ENCODERS, TOKEN_ENCODERS, StepEncoder, build_encoders
from mmcontrast.models.pretrained import PretrainedEncoder, PretrainedTower
from tests import tiny_pretrained as tiny
from tests.tiny_pretrained import BANDS, FRAMES, KINDS, LONGEST, SIDE, TEXTS, WIDTH, write_encoder, write_pictures

pytest.importorskip("transformers")
ROOT = Path(__file__).parents[2]
SHAPES: dict[str, list[int]] = {"bert": [], "roberta": [], "clip": [], "wav2vec2": [60, 1], "ast": [FRAMES, BANDS]}
HUB = {"hub": "owner/name", "revision": "0" * 40}


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    folder = tmp_path_factory.mktemp("encoders")
    return lambda name: folder / name if (folder / name).exists() else write_encoder(name, folder / name)


@pytest.fixture
def own(tmp_path: Path) -> Callable[[str], Path]:
    """A folder that the test may spoil."""
    return lambda name: write_encoder(name, tmp_path / name)


def spec(folder: Path, **values: Any) -> Pretrained:
    return Pretrained.model_validate({"folder": str(folder)} | values)


def tower(folder: Path, name: str, kind: str | None = None, **values: Any) -> PretrainedTower:
    kind = kind or KINDS[name]
    shape = SHAPES.get(name, [3, SIDE, SIDE]) if kind != "image" else [3, SIDE, SIDE]
    given = {"attention": "eager"} if name == "resnet" else {}
    return PretrainedTower(Modality(kind=kind, shape=shape), spec(folder, **(given | values)), "model.pretrained.x")  # type: ignore[arg-type]


def model(width: int = 5) -> Model:
    return Model(width=width, encoder_hidden=[], head_hidden=[])


def pieces(folder: Path, texts: list[str] = TEXTS, wider: int = 0) -> Tensor:
    opened = open_folder(spec(folder), "here")
    rows = encode_texts(load_tokenizer(opened), texts, LONGEST).rows
    out = torch.full((len(rows), max(map(len, rows)) + wider), -1)
    for i, row in enumerate(rows):
        out[i, : len(row)] = torch.tensor(row)
    return out


def inputs(name: str, folder: Path, kind: str | None = None) -> Tensor:
    kind, draws = kind or KINDS[name], torch.Generator().manual_seed(1)
    if kind == "text":
        return pieces(folder)
    if kind == "image":
        return torch.randint(0, 256, (4, 3, SIDE, SIDE), dtype=torch.uint8, generator=draws)
    x = torch.randn(4, *SHAPES[name], generator=draws)
    x[1, SHAPES[name][0] // 2 :] = torch.nan
    x[3, -5:] = torch.nan
    return x


@pytest.mark.parametrize("name", KINDS)
def test_tokens_are_the_librarys(written: Callable[[str], Path], name: str) -> None:
    """Each row alone, without padding or mask, through the model as the library loads it."""
    from transformers import AutoImageProcessor, AutoModel

    folder = written(name)
    theirs, ours = AutoModel.from_pretrained(folder).eval(), tower(folder, name).eval()
    x = inputs(name, folder)
    with torch.no_grad():
        tokens_BTW, padding_BT = ours(x)
        for i, row in enumerate(x):
            if KINDS[name] == "text":
                alone = theirs(input_ids=row[None, row >= 0])
            elif KINDS[name] == "image":
                picture = row.permute(1, 2, 0).numpy()
                alone = theirs(**AutoImageProcessor.from_pretrained(folder)(picture, return_tensors="pt"))
            elif name == "ast":
                alone = theirs(input_values=row.nan_to_num(0)[None])
            else:
                alone = theirs(input_values=row[None, ~row[:, 0].isnan(), 0])
            wanted = alone.last_hidden_state
            wanted = wanted.flatten(2).transpose(1, 2)[0] if wanted.ndim == 4 else wanted[0]
            found = tokens_BTW[i] if padding_BT is None else tokens_BTW[i, ~padding_BT[i]]
            torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("pooling", ["cls", "mean", "pooler"])
@pytest.mark.parametrize("name", ["bert", "vit", "resnet"])
def test_pooling(written: Callable[[str], Path], name: str, pooling: str) -> None:
    from transformers import AutoModel

    folder = written(name)
    ours = tower(folder, name, pooling=pooling).eval()
    x = inputs(name, folder)
    with torch.no_grad():
        found, (tokens_BTW, padding_BT) = ours.pooled(x), ours(x)
        if pooling == "pooler":
            fed, _ = ours.reader(x)
            wanted = AutoModel.from_pretrained(folder).eval()(**fed).pooler_output.flatten(1)
        elif pooling == "cls":
            wanted = tokens_BTW[:, 0]
        else:
            kept = torch.ones(tokens_BTW.shape[:2], dtype=torch.bool) if padding_BT is None else ~padding_BT
            wanted = torch.stack([row[keep].mean(0) for row, keep in zip(tokens_BTW, kept, strict=True)])
    torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-6)


def test_the_halves_of_a_clip_are_encoded_as_the_library_does(written: Callable[[str], Path]) -> None:
    from transformers import CLIPModel

    folder = written("clip")
    theirs = CLIPModel.from_pretrained(folder).eval()
    images = inputs("clip", folder, "image")
    mean, std = (torch.tensor(tiny.picture_values()[k]).view(3, 1, 1) for k in ("image_mean", "image_std"))
    with torch.no_grad():
        ours = tower(folder, "clip", "image").eval()
        wanted = theirs.get_image_features(pixel_values=(images / 255 - mean) / std).pooler_output
        torch.testing.assert_close(ours.pooled(images), wanted, rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(ours.pooled(images / 255), wanted, rtol=1e-5, atol=1e-6)
        text = tower(folder, "clip", "text").eval()
        for row, z in zip(pieces(folder), text.pooled(pieces(folder, wider=2)), strict=True):
            wanted = theirs.get_text_features(input_ids=row[None, row >= 0]).pooler_output[0]
            torch.testing.assert_close(z, wanted, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", KINDS)
def test_a_row_of_nothing_gives_zeros_and_no_rows_give_none(written: Callable[[str], Path], name: str) -> None:
    encoder = PretrainedEncoder(tower(written(name), name), model())
    x = inputs(name, written(name))
    assert encoder(x[:0]).shape == (0, 5)
    assert encoder.steps(x[:0])[0].shape[0] == 0
    if KINDS[name] == "image":
        return
    x[2] = -1 if KINDS[name] == "text" else torch.nan
    z = encoder(x)
    assert z[2].abs().max() == 0
    assert z[[0, 1, 3]].abs().min() > 0
    z.sum().backward()
    gradients = [p.grad for p in encoder.parameters() if p.grad is not None]
    assert len(gradients) > 10
    assert all(torch.isfinite(g).all() for g in gradients)


def test_a_picture_of_another_side_is_resized_and_one_that_is_no_square_is_refused(written) -> None:
    modality = Modality(kind="image", shape=[3, 2 * SIDE, 2 * SIDE])
    ours = PretrainedTower(modality, spec(written("vit")), "here").eval()
    flat = torch.full((1, 3, 2 * SIDE, 2 * SIDE), 0.5)
    torch.testing.assert_close(ours.pooled(flat), tower(written("vit"), "vit").eval().pooled(flat[:, :, :SIDE, :SIDE]))
    for shape in ([3, SIDE, SIDE + 1], [1, SIDE, SIDE]):
        with pytest.raises(ConfigError, match=r"takes squares of 3 channels, best \[3, 8, 8\]; give that shape"):
            PretrainedTower(modality.model_copy(update={"shape": shape}), spec(written("vit")), "here")


def test_fully_tuned_every_weight_is_trained_and_a_layer_stands_on_top_where_widths_differ(written) -> None:
    same, other = (PretrainedEncoder(tower(written("bert"), "bert"), model(width)) for width in (WIDTH, 5))
    assert [n for n, _ in same.named_parameters() if n.startswith("out")] == []
    assert other(pieces(written("bert"))).shape == (4, 5)
    other(pieces(written("bert"))).square().sum().backward()
    assert {n for n, p in other.named_parameters() if p.grad is None} == set()


@pytest.mark.parametrize(("name", "kind"), [("bert", "text"), ("vit", "image"), ("clip", "text"), ("ast", "sequence")])
def test_frozen_only_a_layer_on_top_is_trained(written: Callable[[str], Path], name: str, kind: str) -> None:
    encoder = PretrainedEncoder(tower(written(name), name, kind, tuning="frozen"), model())
    assert sorted(n for n, _ in encoder.named_parameters()) == ["out.bias", "out.weight"]
    z = encoder.train()(inputs(name, written(name), kind))
    assert not encoder.steps.tower.training
    z.sum().backward()
    assert encoder.out.weight.grad is not None


@pytest.mark.parametrize(("name", "targets"), [("bert", ["query", "value"]), ("vit", ["q_proj", "v_proj"])])
def test_low_rank_updates_start_equal_and_are_all_that_is_trained(written, name: str, targets: list[str]) -> None:
    pytest.importorskip("peft")
    lora = {"r": 2, "alpha": 4, "dropout": 0.0, "target_modules": targets}
    encoder = PretrainedEncoder(tower(written(name), name, tuning="lora", lora=lora), model())
    x = inputs(name, written(name))
    before = encoder.steps.pooled(x)
    assert torch.equal(before, tower(written(name), name).pooled(x))
    trained = {n for n, p in encoder.named_parameters() if p.requires_grad}
    assert {n.rsplit(".", 3)[1] if "lora" in n else n for n in trained} == {
        "lora_A",
        "lora_B",
        "out.bias",
        "out.weight",
    }
    assert sum("lora" in n for n in trained) == 2 * 2 * len(targets)
    optimizer = torch.optim.SGD([p for p in encoder.parameters() if p.requires_grad], 0.1)
    for _ in range(2):
        optimizer.zero_grad()
        encoder(x).square().sum().backward()
        optimizer.step()
    assert not torch.allclose(before, encoder.steps.pooled(x))


def test_low_rank_updates_of_no_layer_are_refused_with_the_layers_there_are(written) -> None:
    pytest.importorskip("peft")
    lora = {"r": 2, "alpha": 4, "dropout": 0.0, "target_modules": ["query"]}
    with pytest.raises(ConfigError, match=r"lora\.target_modules: no layer ends in .*'query'.*: .*q_proj.*v_proj"):
        tower(written("vit"), "vit", tuning="lora", lora=lora)


def test_without_the_extra_for_updates_it_is_said_how_to_install_it(written, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "peft", None)
    lora = {"r": 2, "alpha": 4, "dropout": 0.0, "target_modules": ["query"]}
    with pytest.raises(ConfigError, match=r"lora: needs the library peft, .* `make env-all`"):
        tower(written("bert"), "bert", tuning="lora", lora=lora)


@pytest.mark.parametrize("name", ["bert", "vit"])
def test_checkpointing_changes_no_bit(written: Callable[[str], Path], name: str) -> None:
    x, found = inputs(name, written(name)), []
    for on in (False, True):
        ours = tower(written(name), name, gradient_checkpointing=on)
        assert any(getattr(part, "gradient_checkpointing", False) for part in ours.tower.modules()) is on
        ours.pooled(x).square().sum().backward()
        found.append([p.grad for p in ours.parameters()])
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))


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


def test_a_processor_that_does_not_normalise_leaves_values_as_they_are(own: Callable[[str], Path]) -> None:
    folder = own("vit")
    write_pictures(folder, do_normalize=False, resample=2)
    found = pictures(open_folder(spec(folder), "here"))
    assert (found.mean, found.spread, found.resampling) == ((0, 0, 0), (1, 1, 1), "bilinear")
    assert found.processor.startswith("CLIPImageProcessor")


def test_texts_are_cut_at_the_end_of_their_words_and_counted(written: Callable[[str], Path]) -> None:
    opened = open_folder(spec(written("bert")), "here")
    tokenizer = load_tokenizer(opened)
    longest = longest_text(opened, tokenizer, spec(written("bert"), tokens=6))
    encoded = encode_texts(tokenizer, [*TEXTS, "a </s> dog"], longest)
    assert (longest, encoded.cut, encoded.empty) == (6, 3, [2])
    assert all(len(row) <= 6 and (row[0], row[-1]) == (1, 2) for row in encoded.rows)
    assert encoded.rows[4].count(2) == 1
    assert encode_texts(tokenizer, [], longest).rows == []


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
    with pytest.raises(ConfigError, match=r"here: needs the library transformers, .* `make env-all`"):
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


def test_only_a_model_with_one_says_so() -> None:
    plain = {"width": 8, "encoder_hidden": [], "head_hidden": []}
    dumped = Model.model_validate(plain).model_dump(mode="json")
    assert not {"pretrained", "sequence", "image_weights"} & set(dumped)
    given = Model.model_validate(plain | {"pretrained": {"text": {"folder": "a"}}})
    assert given.model_dump(mode="json")["pretrained"]["text"]["folder"] == "a"
    assert Model.model_validate(given.model_dump(mode="json")) == given


def test_an_encoder_is_found_by_modality_and_then_by_kind(written: Callable[[str], Path]) -> None:
    cell = Grid(ROOT).cell("flickr30k", "mxm_clr", "clip_frozen")
    modalities = {"title": Modality(kind="text", shape=[]), "body": Modality(kind="text", shape=[])}
    given = {"text": spec(written("bert")), "title": spec(written("clip"))}
    cell = cell.model_copy(update={"modalities": modalities, "model": model().model_copy(update={"pretrained": given})})
    encoders = build_encoders(cell, cell.modalities, ENCODERS)
    assert [type(e.steps.tower).__name__ for e in encoders.values()] == ["CLIPTextModel", "BertModel"]
    steps = build_encoders(cell, cell.modalities, TOKEN_ENCODERS)
    assert all(isinstance(e, StepEncoder) and e.width == WIDTH for e in steps.values())
    vectors = cell.model_copy(update={"modalities": {"a": Modality(kind="vector", shape=[3])}})
    with pytest.raises(ConfigError, match=r"model\.pretrained: dataset 'flickr30k' has no modality and no kind 'text'"):
        build_encoders(vectors, ["a"])
    given = {"a": spec(written("bert"))}
    vectors = vectors.model_copy(update={"model": model().model_copy(update={"pretrained": given})})
    with pytest.raises(ConfigError, match="of vectors there are no pretrained encoders"):
        build_encoders(vectors, ["a"])


def test_the_study_has_it_fine_tuned_and_frozen() -> None:
    grid = Grid(ROOT)
    found = {v: grid.cell("flickr30k", "mxm_clr", f"clip_{v}").model for v in ("finetuned", "frozen")}
    tuning = {v: {p.tuning for p in m.pretrained.values()} for v, m in found.items()}
    assert tuning == {"finetuned": {"full"}, "frozen": {"frozen"}}
    assert all(m.image is None and m.text is None and set(m.pretrained) == {"image", "text"} for m in found.values())
