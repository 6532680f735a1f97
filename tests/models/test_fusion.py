"""Fusion: closed-form vectors, the plain layer, token removal, padding, sizes of CoMM's networks."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from mmcontrast.config import Modality, SequenceModel
from mmcontrast.errors import ConfigError, TrainingError
from mmcontrast.methods.comm.fusion import (
    FeatureTokens,
    FusionLayer,
    FusionTransformer,
    LinearFusion,
    PatchTokens,
    sincos_2d,
)
from mmcontrast.models.conv import AlexNetFeatures
from mmcontrast.models.heads import PairCritic, ProjectionHead
from mmcontrast.models.sequence import RunningSteps

VECTORS = {
    (True, False): "2.29763739 0.88346384 -0.34510735 -0.86818132 -0.72947311 -0.39560359 -0.31442581 -0.52831004",
    (False, True): "1.47617995 0.11705842 -0.92572342 -1.31069144 -1.01114880 -0.27058669 0.58569899 1.33921298",
    (True, True): "2.24873768 0.97876106 -0.16658700 -0.69725287 -0.64767162 -0.44395135 -0.48626364 -0.78577227",
}


def weight(rows: int, cols: int, phase: float) -> torch.Tensor:
    i, j = torch.meshgrid(torch.arange(rows).double(), torch.arange(cols).double(), indexing="ij")
    return 0.3 * torch.cos(phase + 0.5 * i - 0.9 * j)


def tokens(count: int, dim: int, phase: float) -> torch.Tensor:
    i, j = torch.meshgrid(torch.arange(count).double(), torch.arange(dim).double(), indexing="ij")
    return torch.sin(phase + i + 0.4 * j)[None]


def closed_form_fusion(dim: int = 8, heads: int = 2) -> FusionTransformer:
    fusion = FusionTransformer(dim, heads).double()
    layer = fusion.layer
    with torch.no_grad():
        fusion.cls_1D.copy_(weight(1, dim, 5.0))
        layer.qkv.weight.copy_(weight(3 * dim, dim, 1.0))
        layer.out.weight.copy_(weight(dim, dim, 2.0))
        layer.up.weight.copy_(weight(4 * dim, dim, 3.0))
        layer.down.weight.copy_(weight(dim, 4 * dim, 4.0))
        for linear in (layer.qkv, layer.out, layer.up, layer.down):
            linear.bias.zero_()
    return fusion


def plain(layer: FusionLayer, x: torch.Tensor, hidden: torch.Tensor) -> torch.Tensor:
    """All positions, by torch's own attention with the same weights."""
    dim = x.shape[2]
    theirs = nn.MultiheadAttention(dim, layer.heads, batch_first=True).to(x)
    with torch.no_grad():
        theirs.in_proj_weight.copy_(layer.qkv.weight)
        theirs.in_proj_bias.copy_(layer.qkv.bias)
        theirs.out_proj.weight.copy_(layer.out.weight)
        theirs.out_proj.bias.copy_(layer.out.bias)
    y = layer.norm1(x)
    mid = x + theirs(y, y, y, key_padding_mask=hidden)[0]
    wide = layer.up(layer.norm2(mid))
    return mid + layer.down(wide * torch.sigmoid(1.702 * wide))


def test_vectors() -> None:
    t1, t2 = tokens(3, 8, 0.2), tokens(2, 8, 1.7)
    outputs = closed_form_fusion()([t1, t2], list(VECTORS))
    for mask, z_BD in zip(VECTORS, outputs, strict=True):
        assert z_BD[0].tolist() == pytest.approx([float(v) for v in VECTORS[mask].split()], abs=1e-8)


def test_reading_cls_alone_equals_the_plain_layer() -> None:
    torch.manual_seed(0)
    fusion = FusionTransformer(16, 4).double()
    for p in fusion.parameters():
        nn.init.normal_(p, std=0.4)
    parts = [torch.randn(3, 5, 16, dtype=torch.double), torch.randn(3, 2, 16, dtype=torch.double)]
    padding = [torch.rand(3, 5) < 0.4, None]
    x = torch.cat([fusion.cls_1D.expand(3, 1, -1), *parts], dim=1)
    hidden = torch.cat([torch.zeros(3, 1, dtype=torch.bool), padding[0], torch.zeros(3, 2, dtype=torch.bool)], dim=1)
    (ours,) = fusion(parts, padding=padding)
    torch.testing.assert_close(ours, fusion.norm(plain(fusion.layer, x, hidden)[:, 0]), rtol=0, atol=1e-12)


def test_a_removed_modality_leaves_no_trace() -> None:
    torch.manual_seed(0)
    fusion = FusionTransformer(8, 2)
    a, b = torch.randn(4, 3, 8), torch.randn(4, 2, 8)
    alone = fusion([a, b], [[True, False]])[0]
    torch.testing.assert_close(alone, fusion([a, b * 100], [[True, False]])[0], rtol=0, atol=0)
    torch.testing.assert_close(alone, fusion([a])[0])


def test_a_row_that_lacks_a_modality_is_as_if_it_were_removed() -> None:
    torch.manual_seed(0)
    fusion = FusionTransformer(8, 2)
    a, b = torch.randn(3, 3, 8), torch.randn(3, 2, 8)
    missing = torch.tensor([[False, False], [True, True], [False, False]])
    mixed = fusion([a, b], padding=[None, missing])[0]
    alone, both = fusion([a, b], [[True, False], [True, True]])
    torch.testing.assert_close(mixed, torch.where(missing[:, :1], alone, both))


def test_gradients_reach_every_parameter_but_the_keys_bias() -> None:
    torch.manual_seed(0)
    fusion = FusionTransformer(8, 2)
    sum(
        z.square().sum() for z in fusion([torch.randn(4, 3, 8), torch.randn(4, 2, 8)], [[True, False], [True, True]])
    ).backward()
    for name, p in fusion.named_parameters():
        assert p.grad is not None, name
        assert p.grad.abs().sum() > 0, name
    # a shift of all scores of a head changes no softmax
    assert fusion.layer.qkv.bias.grad[8:16].abs().max() == 0


def test_refusals() -> None:
    with pytest.raises(ConfigError, match="3 heads must divide the width 8"):
        FusionTransformer(8, 3)
    with pytest.raises(ConfigError, match="multiple of 4"):
        sincos_2d(2, 2, 6)
    with pytest.raises(TrainingError, match="batch of one"):
        ProjectionHead([4, 8, 2])(torch.ones(1, 4))


def test_linear_fusion() -> None:
    torch.manual_seed(0)
    fusion = LinearFusion([3, 4], 5)
    a, b = torch.randn(2, 3), torch.randn(2, 4)
    one, two, both = fusion([a, b], [[True, False], [False, True], [True, True]])
    torch.testing.assert_close(one, fusion.alone[0](a))
    torch.testing.assert_close(two, fusion.alone[1](b))
    torch.testing.assert_close(both, fusion.together(torch.cat([a, b], 1)))


def test_position_code() -> None:
    want = [[0, 0, 1, 1, 0, 0, 1, 1], [0, 0, 1, 1, 0.841471, 0.01, 0.540302, 0.99995]]
    want += [[0.841471, 0.01, 0.540302, 0.99995, 0, 0, 1, 1], [0.841471, 0.01, 0.540302, 0.99995] * 2]
    torch.testing.assert_close(sincos_2d(2, 2, 8), torch.tensor(want), rtol=0, atol=1e-6)


def test_converters() -> None:
    patch = PatchTokens(3, 8, (4, 4))
    x = torch.randn(2, 3, 4, 4)
    want = patch.project(x)[0, :, 1, 2] + sincos_2d(4, 4, 8)[1 * 4 + 2]
    torch.testing.assert_close(patch(x)[0, 6], want)
    assert "position_TD" not in patch.state_dict()
    features = FeatureTokens(5, 8)
    v = torch.randn(2, 5)
    torch.testing.assert_close(features(v)[1, 3], v[1, 3] * features.weight_FD[3] + features.bias_FD[3])


def test_pair_critic_is_an_mlp_of_the_pair() -> None:
    torch.manual_seed(0)
    critic = PairCritic(3, 2, 16)
    x, y = torch.randn(4, 3), torch.randn(4, 2)
    scores = critic(x, y)
    joint = torch.cat([critic.from_x.weight, critic.from_y.weight], 1) @ torch.cat([x[1], y[3]]) + critic.from_x.bias
    assert scores.shape == (4, 4)
    torch.testing.assert_close(scores[1, 3], critic.rest(joint)[0])


def size(*modules: nn.Module) -> int:
    return sum(p.numel() for m in modules for p in m.parameters())


def steps(features: int, **values: object) -> RunningSteps:
    return RunningSteps(Modality(kind="sequence", shape=[9, features]), SequenceModel.model_validate(values))


def test_published_sizes() -> None:
    assert [size(FusionTransformer(d)) for d in (40, 128, 512, 768)] == [19_840, 198_656, 3_153_920, 7_090_176]
    assert size(ProjectionHead([512, 512, 512, 256])) == 658_688
    assert size(ProjectionHead([40, 512, 512, 256])) == 417_024
    assert size(ProjectionHead([128, 512, 512, 256])) == 462_080
    alexnet = AlexNetFeatures([3, 224, 224])
    assert alexnet.grid == (6, 6)
    assert 2 * size(alexnet, PatchTokens(256, 512, (6, 6))) + size(FusionTransformer(512)) == 8_356_480
    tabular = nn.Sequential(nn.Linear(5, 10), nn.ReLU(), nn.Linear(10, 10))
    assert size(tabular, FeatureTokens(10, 512), steps(12, kind="gru", width=512), FusionTransformer(512)) == 3_972_266
    released = {"kind": "transformer", "width": 40, "layers": 5, "heads": 5, "hidden": 2048, "dropout": 0.1}
    mosi = [steps(f, **released) for f in (20, 300)]
    assert size(*mosi, FusionTransformer(40)) == 1_759_120
    assert size(*mosi, steps(5, **released), FusionTransformer(40)) == 2_622_560
