"""Image and sequence encoders: shapes, sizes, padding, refusals."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from pydantic import ValidationError
from safetensors.torch import save_file

from mmcontrast.config import Modality, Model
from mmcontrast.errors import ConfigError, DataError
from mmcontrast.models.conv import IMAGE_ENCODERS
from mmcontrast.models.encoders import ImageVector, image_map
from mmcontrast.models.sequence import SequenceEncoder, sequence_steps


@pytest.mark.parametrize(
    ("name", "side", "grid"),
    [("small_conv", 32, (4, 4)), ("small_conv", 48, (6, 6)), ("alexnet", 64, (1, 1)), ("resnet18", 64, (2, 2))],
)
def test_maps(name: str, side: int, grid: tuple[int, int]) -> None:
    encoder = IMAGE_ENCODERS[name]([3, side, side])
    assert encoder.grid == grid
    assert encoder.training
    assert encoder(torch.rand(2, 3, side, side)).shape == (2, encoder.channels, *grid)


@pytest.mark.parametrize("channels", [1, 3])
def test_the_order_in_memory_changes_no_value(channels: int) -> None:
    encoder = IMAGE_ENCODERS["small_conv"]([channels, 32, 32]).double()
    x = torch.rand(4, channels, 32, 32, dtype=torch.float64)
    assert encoder.body(x).is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(encoder.body(x), encoder.layers(x), rtol=1e-12, atol=1e-12)


def test_resnet_has_the_published_size() -> None:
    resnet = IMAGE_ENCODERS["resnet18"]([3, 128, 128])
    # 11,689,512 with the 1000-way classifier of 513,000
    assert sum(p.numel() for p in resnet.parameters()) == 11_689_512 - 513_000
    assert resnet.grid == (4, 4)


def test_grid_does_not_touch_batch_statistics() -> None:
    encoder = IMAGE_ENCODERS["small_conv"]([3, 32, 32])
    before = {k: v.clone() for k, v in encoder.state_dict().items()}
    assert encoder.grid == (4, 4)
    assert all(torch.equal(v, before[k]) for k, v in encoder.state_dict().items())


def test_image_refusals() -> None:
    with pytest.raises(ConfigError, match="too small"):
        _ = IMAGE_ENCODERS["alexnet"]([3, 16, 16]).grid
    for name in IMAGE_ENCODERS:
        with pytest.raises(DataError, match=r"\(3, 40, 40\) came to an encoder for \(3, 64, 64\)"):
            IMAGE_ENCODERS[name]([3, 64, 64])(torch.rand(1, 3, 40, 40))


@pytest.mark.parametrize("name", ["alexnet", "resnet18"])
def test_torchvisions_weights_are_loaded_and_their_pictures_normalised(tmp_path: Path, name: str) -> None:
    torch.manual_seed(0)
    source = IMAGE_ENCODERS[name]([3, 64, 64]).eval()
    weights = {k: torch.randn_like(v) * 0.1 if v.ndim else v for k, v in source.state_dict().items()}
    weights |= {k: v.abs() for k, v in weights.items() if k.endswith("running_var")}
    file = tmp_path / "weights.safetensors"
    save_file(weights | {"classifier.6.weight" if name == "alexnet" else "fc.weight": torch.ones(3)}, file)
    spec = Model(width=8, encoder_hidden=[], head_hidden=[], image=name, image_weights=str(file))
    ours = image_map(Modality(kind="image", shape=[3, 64, 64]), spec).eval()
    source.load_state_dict(weights)
    x = torch.randint(0, 256, (2, 3, 64, 64), dtype=torch.uint8)
    mean, spread = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    wanted = source.body((x / 255 - mean[:, None, None]) / spread[:, None, None])
    torch.testing.assert_close(ours(x), wanted, rtol=1e-5, atol=1e-5)
    conv = next(k for k in weights if weights[k].ndim == 4)
    for changed, says in [
        ({conv: torch.ones(2, 3)}, rf"{conv} has shape \[2, 3\], and \w+ takes \[64, 3"),
        ({"head.weight": torch.ones(1)}, r"1 weights that \w+ has no place for, such as head\.weight"),
        ({conv: None}, rf"1 weights of \w+ are not there, such as {conv}"),
    ]:
        save_file({k: v for k, v in (weights | changed).items() if v is not None}, file)
        with pytest.raises(DataError, match=says):
            image_map(Modality(kind="image", shape=[3, 64, 64]), spec)


def test_layers_have_the_names_that_torchvision_gives_them() -> None:
    resnet, alexnet = (set(IMAGE_ENCODERS[n]([3, 64, 64]).state_dict()) for n in ("resnet18", "alexnet"))
    assert {"conv1.weight", "bn1.running_mean", "layer1.0.conv1.weight", "layer4.1.bn2.bias"} <= resnet
    assert {k for k in resnet if k.startswith("layer2.0.downsample") and k.endswith("weight")} == {
        "layer2.0.downsample.0.weight",
        "layer2.0.downsample.1.weight",
    }
    assert alexnet == {f"features.{i}.{k}" for i in (0, 3, 6, 8, 10) for k in ("weight", "bias")}


def sequence_model(kind: str, **values: object) -> Model:
    given = {"width": 10, "encoder_hidden": [], "head_hidden": [], "sequence": {"kind": kind, "width": 6} | values}
    return Model.model_validate(given)


SEQUENCE = Modality(kind="sequence", shape=[9, 4])


def test_a_flat_image_encoder_knows_where_a_thing_is_and_a_pooled_one_does_not() -> None:
    spec = Model(width=8, encoder_hidden=[], head_hidden=[], image="small_conv")
    drawing = Modality(kind="image", shape=[1, 64, 64])
    here, there = torch.zeros(2, 1, 1, 64, 64)
    here[:, :, 24:32, 24:32] = there[:, :, 32:40, 32:40] = 1
    for flat in (False, True):
        torch.manual_seed(0)
        encoder = ImageVector(drawing, spec.model_copy(update={"image_flat": flat})).eval()
        moved = (encoder(here) - encoder(there)).abs().max() / encoder(here).abs().max()
        assert (moved > 0.05) == flat
    several = drawing.model_copy(update={"multifold": True})
    assert ImageVector(several, spec).flat


@pytest.mark.parametrize("make", [SequenceEncoder, sequence_steps])
@pytest.mark.parametrize("values", [{}, {"layers": 2, "dropout": 0.5}, {"heads": 2, "hidden": 7}])
@pytest.mark.parametrize("kind", ["gru", "transformer"])
def test_padding_changes_no_row_and_a_row_of_nothing_is_zeros(kind: str, values: dict[str, int], make) -> None:
    torch.manual_seed(0)
    encoder = make(SEQUENCE, sequence_model(kind, **values)).eval()
    rows = [torch.randn(n, 4) for n in (3, 5, 1)]
    x = torch.full((4, 7, 4), torch.nan)
    for i, row in enumerate(rows):
        x[i, : len(row)] = row
    for grad in (True, False):  # without gradients torch takes another path
        with torch.set_grad_enabled(grad):
            found = encoder(x)
            alone = [encoder(row[None]) for row in rows]
        if make is SequenceEncoder:
            torch.testing.assert_close(found[:3], torch.cat(alone), rtol=1e-5, atol=1e-6)
            assert found[3].abs().max() == 0
            continue
        tokens_BTW, padding_BT = found
        assert torch.equal(padding_BT, x[:, :, 0].isnan())
        for i, (one, _) in enumerate(alone):
            torch.testing.assert_close(tokens_BTW[i, : len(rows[i])], one[0], rtol=1e-5, atol=1e-6)
        assert tokens_BTW[padding_BT].abs().max() == 0


@pytest.mark.parametrize("values", [{}, {"layers": 3, "width": 12}])
def test_a_conv_reads_each_sequence_at_the_same_places_however_long(values: dict[str, int]) -> None:
    torch.manual_seed(0)
    spec = sequence_model("conv", steps=6, **values)
    encoder, tokens = SequenceEncoder(SEQUENCE, spec).eval(), sequence_steps(SEQUENCE, spec).eval()
    rows = [torch.randn(n, 4) for n in (3, 9, 1)]
    x = torch.full((4, 11, 4), torch.nan)
    for i, row in enumerate(rows):
        x[i, : len(row)] = row
    z_BD, (out_BSW, nothing_BS) = encoder(x), tokens(x)
    assert z_BD.shape == (4, 10)
    assert out_BSW.shape[1] == tokens.places == (3 if not values else 1)
    assert nothing_BS.all(dim=1).tolist() == nothing_BS.any(dim=1).tolist() == [False, False, False, True]
    assert z_BD[3].abs().max() == out_BSW[3].abs().max() == 0
    for i, row in enumerate(rows):
        torch.testing.assert_close(encoder(row[None])[0], z_BD[i], rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(tokens(row[None])[0][0], out_BSW[i], rtol=1e-5, atol=1e-6)
    # a straight line of three points is read as one of five
    line = torch.linspace(0, 1, 9)[:, None] * torch.ones(4)
    torch.testing.assert_close(encoder(line[None, ::4]), encoder(line[None, ::2]), rtol=1e-5, atol=1e-6)


def test_a_conv_tells_the_same_strokes_in_another_order_apart() -> None:
    torch.manual_seed(0)
    encoder = SequenceEncoder(SEQUENCE, sequence_model("conv", steps=64, layers=3, width=16)).eval()
    early, late = torch.zeros(2, 1, 64, 4)
    early[:, 8:16], late[:, 40:48] = 1, 1
    assert (encoder(early) - encoder(late)).abs().max() > 0.1 * encoder(early).abs().max()


@pytest.mark.parametrize("shape", [(0, 5, 4), (0, 0, 4), (3, 0, 4), (3, 2, 4)])
@pytest.mark.parametrize("kind", ["conv", "gru", "transformer"])
def test_rows_of_nothing_alone_have_finite_gradients(kind: str, shape: tuple[int, ...]) -> None:
    encoder = SequenceEncoder(SEQUENCE, sequence_model(kind, **({"steps": 6} if kind == "conv" else {})))
    z = encoder(torch.full(shape, torch.nan))
    assert z.shape == (shape[0], 10)
    assert not z.detach().any()
    z.sum().backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in encoder.parameters())


def test_the_state_after_the_last_step_is_that_of_torchs_packed_gru() -> None:
    torch.manual_seed(0)
    encoder = SequenceEncoder(SEQUENCE, sequence_model("gru", layers=2))
    x, lengths = torch.randn(3, 9, 4), torch.tensor([9, 2, 5])
    packed = torch.nn.utils.rnn.pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
    wanted = encoder.out(encoder.steps.layers(packed)[1][-1])
    padded = x.masked_fill((torch.arange(9) >= lengths[:, None])[:, :, None], torch.nan)
    torch.testing.assert_close(encoder(padded), wanted, rtol=1e-5, atol=1e-6)


def test_sequence_refusals() -> None:
    with pytest.raises(ConfigError, match=r"model\.sequence: not given, and there are sequences"):
        SequenceEncoder(SEQUENCE, Model(width=8, encoder_hidden=[], head_hidden=[]))
    with pytest.raises(ValidationError, match="heads: 4 must divide the width 6"):
        sequence_model("transformer", heads=4)
    with pytest.raises(ValidationError, match="dropout: acts between the layers of a GRU, and there is one"):
        sequence_model("gru", dropout=0.1)
    for kind, values, says in (
        ("conv", {}, "steps: give it with kind conv, e.g. 64, and with no other kind"),
        ("gru", {"steps": 8}, "steps: give it with kind conv, e.g. 64, and with no other kind"),
        ("conv", {"steps": 8, "dropout": 0.1}, "dropout: a conv has none; set it to 0"),
        ("conv", {"steps": 8, "layers": 3}, "width: doubles from layer to layer, so give a multiple of 4"),
    ):
        with pytest.raises(ValidationError, match=says):
            sequence_model(kind, **values)
