import math

import pytest
import torch
import torch.nn.functional as F

from mmcontrast.errors import TrainingError
from mmcontrast.methods.tuple_infonce.loss import own_row_logits, tuple_info_nce_terms
from mmcontrast.methods.tuple_infonce.negatives import check_disturbable

N, D = 7, 4


@pytest.fixture
def features():
    g = torch.Generator().manual_seed(0)
    return [torch.randn(N, d, generator=g, dtype=torch.float64) for d in (3, 2, 5)]


def test_gram_form_equals_building_every_tuple(features):
    g = torch.Generator().manual_seed(2)
    terms = [torch.randn(N, D, generator=g, dtype=torch.float64, requires_grad=True) for _ in range(3)]
    bias = torch.randn(D, generator=g, dtype=torch.float64)
    anchor = F.normalize(torch.randn(N, D, generator=g, dtype=torch.float64), dim=1)
    fused = sum(terms) + bias
    off_diagonal = ~torch.eye(N, dtype=torch.bool)
    same = torch.zeros(N, N, dtype=torch.bool)
    same[0, 1] = same[1, 0] = True
    for k, gram in enumerate(own_row_logits(anchor, fused, terms, 0.3, same)):
        tuples = (fused - terms[k])[:, None] + terms[k][None]
        built = (anchor[:, None] * F.normalize(tuples, dim=-1)).sum(-1) / 0.3
        used = off_diagonal & ~same
        torch.testing.assert_close(gram[used], built[used])
        assert (gram[~used] < -1e29).all()
        ours, theirs = (torch.autograd.grad(x[used].logsumexp(0), terms, retain_graph=True) for x in (gram, built))
        for a, b in zip(ours, theirs, strict=True):
            torch.testing.assert_close(a, b)


def test_gram_form_survives_terms_that_cancel():
    term = torch.randn(5, 3, generator=torch.Generator().manual_seed(0)).requires_grad_()
    logits = own_row_logits(F.normalize(term, dim=1), torch.zeros(5, 3), [term, -term], 0.1)
    total = sum(x.logsumexp(1).sum() for x in logits)
    total.backward()
    assert torch.isfinite(total)
    assert torch.isfinite(term.grad).all()


def test_a_constant_modality_is_refused_by_name():
    good = {"rgb": torch.rand(3, 2), "depth": torch.rand(3, 1)}
    check_disturbable(good)
    with pytest.raises(TrainingError, match="'depth' is the same in all 3 training rows"):
        check_disturbable({**good, "depth": torch.ones(3, 1, 4)})


def test_a_constant_modality_would_keep_the_loss_above_its_floor():
    g = torch.Generator().manual_seed(0)
    z = F.normalize(torch.randn(6, 3, generator=g, dtype=torch.float64), dim=1)
    out = tuple_info_nce_terms(z, z, [z], [3.0], 0.01, "own")
    assert out.per_row.min().item() >= math.log(4)
