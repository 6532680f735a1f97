from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from mmcontrast.models.heads import mlp


@pytest.mark.parametrize(
    ("widths", "kinds"),
    [
        ([4, 3], [nn.Linear]),
        ([4, 8, 3], [nn.Linear, nn.ReLU, nn.Linear]),
        ([4, 8, 9, 3], [nn.Linear, nn.ReLU, nn.Linear, nn.ReLU, nn.Linear]),
    ],
)
def test_layers_alternate_and_end_without_activation(widths, kinds):
    layers = mlp(widths)
    assert [type(layer) for layer in layers] == kinds
    assert layers(torch.zeros(2, widths[0])).shape == (2, widths[-1])


@pytest.mark.parametrize(
    ("widths", "parameters"),
    [
        ([768, 256, 256, 24], 268_824),
        ([1536, 256, 256, 24], 465_432),
        ([768, 256, 256, 101], 288_613),
        ([1536, 256, 256, 101], 485_221),
    ],
)
def test_parameter_counts_of_the_papers_image_text_heads(widths, parameters):
    assert sum(p.numel() for p in mlp(widths).parameters()) == parameters


def test_weights_are_xavier_normal_and_biases_zero():
    torch.manual_seed(0)
    layers = mlp([400, 600, 5])
    assert layers[0].weight.std().item() == pytest.approx(math.sqrt(2 / (400 + 600)), rel=0.02)
    assert layers[0].weight.mean().item() == pytest.approx(0, abs=1e-3)
    # a uniform distribution would stop at sqrt(3) standard deviations
    assert layers[0].weight.abs().max() > 3 * layers[0].weight.std()
    assert all(not layer.bias.any() for layer in layers if isinstance(layer, nn.Linear))
