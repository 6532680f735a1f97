"""Pretrained encoders against the library's own forward pass."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from mmcontrast.config import Modality, Model
from mmcontrast.data.pretrained import encode_texts, load_tokenizer, longest_text, open_folder, pictures
from mmcontrast.errors import ConfigError
from mmcontrast.models.encoders import ENCODERS, TOKEN_ENCODERS, StepEncoder, build_encoders
from mmcontrast.models.pretrained import PretrainedEncoder, PretrainedTower
from tests import tiny_pretrained as tiny
from tests.grids import grid_of
from tests.tiny_pretrained import KINDS, SHAPES, SIDE, TEXTS, WIDTH, pieces, spec, tower, write_pictures

pytest.importorskip("transformers")


def model(width: int = 5) -> Model:
    return Model(width=width, encoder_hidden=[], head_hidden=[])


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


@pytest.mark.parametrize("name", ["bert", "vit"])
def test_checkpointing_changes_no_bit(written: Callable[[str], Path], name: str) -> None:
    x, found = inputs(name, written(name)), []
    for on in (False, True):
        ours = tower(written(name), name, gradient_checkpointing=on)
        assert any(getattr(part, "gradient_checkpointing", False) for part in ours.tower.modules()) is on
        ours.pooled(x).square().sum().backward()
        found.append([p.grad for p in ours.parameters()])
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))


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


def test_only_a_model_with_one_says_so() -> None:
    plain = {"width": 8, "encoder_hidden": [], "head_hidden": []}
    dumped = Model.model_validate(plain).model_dump(mode="json")
    assert not {"pretrained", "sequence", "image_weights"} & set(dumped)
    given = Model.model_validate(plain | {"pretrained": {"text": {"folder": "a"}}})
    assert given.model_dump(mode="json")["pretrained"]["text"]["folder"] == "a"
    assert Model.model_validate(given.model_dump(mode="json")) == given


def test_an_encoder_is_found_by_modality_and_then_by_kind(written: Callable[[str], Path]) -> None:
    cell = grid_of().cell("flickr30k", "mxm_clr", "clip_frozen")
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
    grid = grid_of()
    found = {v: grid.cell("flickr30k", "mxm_clr", f"clip_{v}").model for v in ("finetuned", "frozen")}
    tuning = {v: {p.tuning for p in m.pretrained.values()} for v, m in found.items()}
    assert tuning == {"finetuned": {"full"}, "frozen": {"frozen"}}
    assert all(m.image is None and m.text is None and set(m.pretrained) == {"image", "text"} for m in found.values())
