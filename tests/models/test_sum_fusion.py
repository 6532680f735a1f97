from __future__ import annotations

import pytest
import torch
from torch import nn

from mmcontrast.methods.tuple_infonce.network import SumFusion, add

NAMES, WIDTH, OUT = ["a", "b", "c"], 5, 4


@pytest.fixture(params=[[], [7], [7, 6]], ids=str)
def fusion(request):
    torch.manual_seed(0)
    fusion = SumFusion(NAMES, WIDTH, request.param, OUT).double()
    with torch.no_grad():
        fusion.first["a"].bias.normal_()
    return fusion


@pytest.fixture
def encodings():
    g = torch.Generator().manual_seed(1)
    return {m: torch.randn(6, WIDTH, generator=g, dtype=torch.float64) for m in NAMES}


def test_it_is_an_mlp_on_concatenated_encodings(fusion, encodings):
    weight = torch.cat([fusion.first[m].weight for m in NAMES], dim=1)
    z = torch.cat([encodings[m] for m in NAMES], dim=1) @ weight.T + fusion.first["a"].bias
    later = [layer for layer in fusion.rest.modules() if isinstance(layer, nn.Linear)]
    for layer in later:
        z = layer(z.relu())
    torch.testing.assert_close(fusion(encodings), z)
    assert fusion(encodings).shape == (6, OUT)


def test_exchanging_a_term_exchanges_the_modality(fusion, encodings):
    """The one that carries the bias too."""
    terms, source = fusion.terms(encodings), torch.tensor([1, 2, 3, 4, 5, 0])
    for k, name in enumerate(NAMES):
        swapped = fusion.finish(add(terms) - terms[k] + terms[k][source])
        torch.testing.assert_close(swapped, fusion({**encodings, name: encodings[name][source]}))


def test_first_weights_are_xavier_normal_of_the_whole_layer():
    torch.manual_seed(0)
    fusion = SumFusion(["a", "b"], 300, [200], 4)
    weight = torch.cat([layer.weight for layer in fusion.first.values()], dim=1)
    assert weight.std().item() == pytest.approx((2 / (600 + 200)) ** 0.5, rel=0.02)
    assert not fusion.first["a"].bias.any()
    assert fusion.first["b"].bias is None
