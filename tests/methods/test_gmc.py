"""GMC: reference vectors, a slow reference, closed forms, and rows from which modalities are missing."""

from __future__ import annotations

import math

import pytest
import torch

from mmcontrast.errors import ConfigError, ContrastError
from mmcontrast.losses.tuples import gmc_loss
from mmcontrast.methods.base import EVERYTHING, build_method
from tests.losses.further_vectors import rows, unit
from tests.losses.reference_comm import nt_xent as slow_nt_xent


def test_vectors():
    assert gmc_loss(unit(3), [unit(0), unit(1), unit(2)], 0.3).item() == pytest.approx(9.933879506524, abs=1e-9)
    assert gmc_loss(unit(3), [unit(0), unit(1)], 0.1).item() == pytest.approx(18.224224117283, abs=1e-9)
    a = rows(0).requires_grad_()
    gmc_loss(unit(3), [a, unit(1), unit(2)], 0.3).backward()
    assert a.grad[0, :2].tolist() == pytest.approx([-0.1646225092936, 0.1175263059799], abs=1e-9)


def test_slow_reference():
    joint, *own = torch.randn(4, 7, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    expected = sum(slow_nt_xent(joint.numpy(), z.numpy(), 0.2) for z in own)
    assert gmc_loss(joint, own, 0.2).item() == pytest.approx(expected, abs=1e-10)


@pytest.mark.parametrize("n", [2, 5])
def test_embeddings_all_alike(n):
    z = torch.ones(n, 3, dtype=torch.float64)
    assert gmc_loss(z, [z, z, z], 0.4).item() == pytest.approx(3 * math.log(2 * n - 1), abs=1e-12)


def test_a_low_temperature_does_not_overflow():
    z = [unit(m).float() for m in range(3)]
    assert gmc_loss(z[0], z[1:], 0.005).isfinite()


def test_gradients():
    z = [rows(m, 3, 4).requires_grad_() for m in range(3)]
    assert torch.autograd.gradcheck(lambda *z: gmc_loss(z[0], z[1:], 0.5), z)


def test_refusals():
    with pytest.raises(ContrastError, match="none of a modality"):
        gmc_loss(unit(0), [])
    with pytest.raises(ContrastError, match="one shape"):
        gmc_loss(unit(0), [unit(1, 3)], 0.1)


def test_what_stands_for_a_row(make_cell, make_batch, lacking):
    """The joint embedding where all is there; else the mean of what is there, whatever is missing."""
    cell = make_cell("gmc")
    method = build_method(cell)
    whole = make_batch(cell)
    batch = lacking(whole, [(1, (0, 5)), (2, (0, 8))], garbage=7.0)
    a, b, c = cell.modalities
    own = {m: torch.nn.functional.normalize(method.head(method.encoders[m](whole.inputs[m]))) for m in (a, b, c)}
    all_there, found = method.embed(whole), method.embeddings(batch)
    torch.testing.assert_close(found[""][1], all_there[1])
    torch.testing.assert_close(found[""][0], own[a][0])
    torch.testing.assert_close(found[""][5], (own[a] + own[c])[5] / 2)
    torch.testing.assert_close(found[f"without_{a}"][5], own[c][5])
    torch.testing.assert_close(found[f"without_{b}"][1], (own[a] + own[c])[1] / 2)
    assert torch.equal(found[f"without_{a}"][0], torch.zeros_like(found[""][0]))
    torch.testing.assert_close(all_there.norm(dim=1), torch.ones(12))


def test_the_contrast_is_of_rows_that_have_everything(make_cell, make_batch, make_progress, lacking):
    cell = make_cell("gmc")
    batch = lacking(make_batch(cell), [(1, (0, 5)), (2, (0, 8))])
    method = build_method(cell)
    kept = [i for i in range(12) if i not in (0, 5, 8)]
    joint, *own = method._parts({m: x[kept] for m, x in batch.inputs.items()}, EVERYTHING).values()
    expected = gmc_loss(joint, own, 0.1) * 9 / 12
    torch.testing.assert_close(method(batch, make_progress("pretrain"))["loss"], expected)


def test_labels(make_cell, make_batch, make_progress, lacking):
    cell = make_cell("gmc_supervised")
    method, batch = build_method(cell), lacking(make_batch(cell), [(1, (0, 5))])
    terms = method(batch, make_progress())
    expected = torch.nn.functional.cross_entropy(method.logits(batch), batch.labels)
    torch.testing.assert_close(terms["supervised"], expected)
    torch.testing.assert_close(terms["loss"], terms["contrast"] + terms["supervised"])
    assert build_method(make_cell("gmc")).logits(batch) is None


def test_a_head_is_required(make_cell):
    cell = make_cell("gmc")
    cell = cell.model_copy(update={"model": cell.model.model_copy(update={"projection": []})})
    with pytest.raises(ConfigError, match=r"gmc.yaml.*model.projection: this method needs a contrastive head"):
        build_method(cell)
