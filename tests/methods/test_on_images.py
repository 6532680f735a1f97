"""Methods on pictures: encoders and tokens by kind of modality, and what is refused."""

from __future__ import annotations

import pytest
import torch

from mmcontrast.config import Modality
from mmcontrast.errors import ConfigError, DataError
from mmcontrast.methods.base import Batch, build_method
from mmcontrast.methods.comm.fusion import PatchTokens
from mmcontrast.models.conv import SmallConv
from mmcontrast.models.encoders import ImageVector

CELLS = [
    ("comm", "base"),
    ("comm", "paper_form"),
    ("comm", "unimodal_terms_only"),
    ("comm", "linear_fusion"),
    ("comm", "no_augmentation"),
    ("cross", "base"),
    ("cmc", "base"),
    ("cross_self", "base"),
    ("simclr", "base"),
    ("tuple_infonce", "early"),
    *(
        (name, "shared")
        for name in ("factorcl", "tuple_infonce", "mxm_clr", "supcon", "concat", "joint_fusion", "m3col")
    ),
]


def build(cell):
    torch.manual_seed(0)
    return build_method(cell)


@pytest.mark.parametrize(("name", "form"), CELLS)
def test_pictures_are_learned_from_and_embedded_row_by_row(
    name, form, make_image_cell, make_image_batch, make_progress
):
    cell = make_image_cell(name, form)
    method, batch = build(cell), make_image_batch(cell)
    terms = method(batch, make_progress(cell.last_stage))
    assert all(t.isfinite() and t.dtype == torch.float32 for t in terms.values())
    terms["loss"].backward()
    for encoder in method.encoders.values():
        assert all(p.grad is not None and p.grad.isfinite().all() for p in encoder.parameters())
    method.eval()
    z_bD = method.embed(batch)
    order = torch.arange(12).roll(5)
    rolled = Batch({m: x[order] for m, x in batch.inputs.items()}, batch.labels[order])
    torch.testing.assert_close(method.embed(rolled), z_bD[order], rtol=1e-4, atol=1e-5)
    assert batch.inputs["image1"].dtype == torch.uint8


@pytest.mark.parametrize("name", ["comm", "cross_self"])
def test_steps_lower_the_loss(name, make_image_cell, make_image_batch, make_progress):
    cell = make_image_cell(name)
    method, batch = build(cell), make_image_batch(cell, 24)
    optimizer = torch.optim.Adam(method.parameters(), lr=3e-3)
    losses = []
    for step in range(15):
        optimizer.zero_grad()
        loss = method(batch, make_progress("pretrain", seed=step))["loss"]
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert sum(losses[-3:]) < 0.9 * sum(losses[:3])


def test_comm_fuses_patches_and_pairs_contrast_a_projected_mean(make_image_cell):
    comm, cross = build(make_image_cell("comm")), build(make_image_cell("cross"))
    assert all(isinstance(e, SmallConv) for e in comm.encoders.values())
    assert all(isinstance(c, PatchTokens) and len(c.position_TD) == 4 for c in comm.converters.values())
    assert all(isinstance(e, ImageVector) and not e.flat for e in cross.encoders.values())
    linear = build(make_image_cell("comm", "linear_fusion"))
    assert all(isinstance(e, ImageVector) for e in linear.encoders.values())


def test_vectors_and_pictures_together(make_image_cell, make_image_batch, make_progress):
    cell = make_image_cell("comm")
    vector = Modality(kind="vector", shape=[5])
    cell = cell.model_copy(
        update={
            "modalities": {"image1": cell.modalities["image1"], "vector": vector},
            "objective": cell.objective | {"augmentations": {"vector": [], **cell.objective["augmentations"]}},
        }
    )
    images = make_image_batch(make_image_cell("comm"))
    batch = Batch({"image1": images.inputs["image1"], "vector": torch.randn(12, 5)}, images.labels)
    method = build(cell)
    assert list(method(batch, make_progress("pretrain"))) == ["loss", "unimodal_image1", "unimodal_vector", "fused"]
    assert method.embed(batch).shape == (12, 32)


def test_an_image_of_another_size_is_refused(make_image_cell, make_image_batch, make_progress):
    cell = make_image_cell("comm")
    batch = make_image_batch(cell)
    wide = Batch({m: x.repeat(1, 1, 1, 2) for m, x in batch.inputs.items()}, batch.labels)
    with pytest.raises(DataError, match=r"shape \(3, 16, 32\) came to an encoder for \(3, 16, 16\)"):
        build(cell)(wide, make_progress("pretrain"))


@pytest.mark.parametrize(
    ("model", "words"),
    [
        ({"image": None}, r"params/methods/comm\.yaml .*'image1': model\.image: not given.*small_conv"),
        ({"image": "alexnet"}, r"'image1': AlexNetFeatures: an image of shape \(3, 16, 16\) is too small"),
    ],
)
def test_refusals_of_encoders(make_image_cell, model, words):
    cell = make_image_cell("comm")
    with pytest.raises(ConfigError, match=words):
        build(cell.model_copy(update={"model": cell.model.model_copy(update=model)}))


def test_the_released_probes_crops_are_random_at_test_time_and_leave_training_as_it_is(
    make_image_cell, make_image_batch, make_progress
):
    cell = make_image_cell("comm")
    switched = cell.model_copy(update={"objective": cell.objective | {"compat": {"probe_crops": True}}})
    plain, cropping, batch = build(cell).eval(), build(switched).eval(), make_image_batch(cell)
    torch.testing.assert_close(plain.embed(batch), plain.embed(batch), rtol=0, atol=0)
    first, second = cropping.embed(batch), cropping.embed(batch)
    assert not torch.allclose(first, second)
    assert not torch.allclose(first, plain.embed(batch))
    torch.testing.assert_close(build(switched).eval().embed(batch), first, rtol=0, atol=0)
    losses = [method(batch, make_progress("pretrain"))["loss"] for method in (plain, cropping)]
    torch.testing.assert_close(*losses, rtol=0, atol=0)
