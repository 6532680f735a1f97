"""Image and sequence encoders: shapes, sizes, padding, refusals."""

from __future__ import annotations

import pytest
import torch

from mmcontrast.errors import ConfigError, DataError
from mmcontrast.models.conv import IMAGE_ENCODERS, build_image_encoder
from mmcontrast.models.sequence import SequenceTransformer, build_sequence_encoder


@pytest.mark.parametrize(
    ("name", "side", "grid"),
    [("small_conv", 32, (4, 4)), ("small_conv", 48, (6, 6)), ("alexnet", 64, (1, 1)), ("resnet18", 64, (2, 2))],
)
def test_maps(name: str, side: int, grid: tuple[int, int]) -> None:
    encoder = build_image_encoder(name, [3, side, side])
    assert encoder.grid == grid
    assert encoder.training
    assert encoder(torch.rand(2, 3, side, side)).shape == (2, encoder.channels, *grid)


def test_resnet_has_the_published_size() -> None:
    resnet = build_image_encoder("resnet18", [3, 128, 128])
    # 11,689,512 with the 1000-way classifier of 513,000
    assert sum(p.numel() for p in resnet.parameters()) == 11_689_512 - 513_000
    assert resnet.grid == (4, 4)


def test_grid_does_not_touch_batch_statistics() -> None:
    encoder = build_image_encoder("small_conv", [3, 32, 32])
    before = {k: v.clone() for k, v in encoder.state_dict().items()}
    assert encoder.grid == (4, 4)
    assert all(torch.equal(v, before[k]) for k, v in encoder.state_dict().items())


def test_image_refusals() -> None:
    with pytest.raises(ConfigError, match="did you mean 'alexnet'"):
        build_image_encoder("alexnte", [3, 224, 224])
    with pytest.raises(ConfigError, match="too small"):
        _ = build_image_encoder("alexnet", [3, 16, 16]).grid
    for name in IMAGE_ENCODERS:
        with pytest.raises(DataError, match=r"\(3, 40, 40\) came to an encoder for \(3, 64, 64\)"):
            build_image_encoder(name, [3, 64, 64])(torch.rand(1, 3, 40, 40))


@pytest.mark.parametrize("name", ["gru", "transformer"])
def test_padding_does_not_change_the_steps_before_it(name: str) -> None:
    torch.manual_seed(0)
    encoder = build_sequence_encoder(name, 6, 10).eval()
    x = torch.randn(2, 4, 6)
    longer = torch.cat([x, torch.randn(2, 3, 6)], dim=1)
    padding = torch.arange(7).expand(2, 7) >= 4
    torch.testing.assert_close(encoder(longer, padding)[:, :4], encoder(x), rtol=1e-5, atol=1e-5)


def test_an_empty_row_gives_zeros() -> None:
    encoder = SequenceTransformer(6, 10, layers=1).eval()
    padding = torch.tensor([[False, False], [True, True]])
    out = encoder(torch.randn(2, 2, 6), padding)
    assert torch.isfinite(out).all()
    assert out[1].abs().max() == 0


def test_sequence_refusals() -> None:
    with pytest.raises(ConfigError, match="did you mean 'gru'"):
        build_sequence_encoder("gur", 3, 4)
    with pytest.raises(ConfigError, match="5 heads must divide the width 12"):
        SequenceTransformer(3, 12)
