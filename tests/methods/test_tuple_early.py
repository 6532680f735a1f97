"""TupleInfoNCE with early fusion: one encoder of all modalities side by side, tuples disturbed at the inputs."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from mmcontrast.config import Modality
from mmcontrast.errors import ConfigError
from mmcontrast.methods.base import Batch, build_method
from mmcontrast.methods.tuple_infonce.negatives import derangement
from mmcontrast.methods.tuple_infonce.network import View, joint_encoder

B = 6
LINEAR = {"fusion_hidden": [], "fusion_width": 5, "tau": 0.2}


def gradient(p):
    """Zeros where the loss does not reach the parameter, as of a modality that a step leaves out."""
    return torch.zeros_like(p) if p.grad is None else p.grad


def linear_pair(make_cell, make_batch, **objective):
    """(early, late, batch): two linear methods in float64 that are the same function of every tuple."""
    built = []
    for fusion in ("early", "late"):
        cell = make_cell("tuple_infonce", **(LINEAR | objective | {"fusion": fusion}))
        cell = cell.model_copy(update={"model": cell.model.model_copy(update={"encoder_hidden": []})})
        torch.manual_seed(0)
        built.append(build_method(cell).double())
    early, late = built
    joint, head = early.encoders["joint"].layers[0], early.fusion[0]
    with torch.no_grad():
        for p in head.bias, late.fusion.first[late.modalities[0]].bias:
            p.copy_(torch.arange(5.0))
        for m in late.modalities:
            late.fusion.first[m].weight.copy_(head.weight)
        joint.weight.copy_(torch.cat([encoder.layers[0].weight for encoder in late.encoders.values()], dim=1))
        for encoder in late.encoders.values():
            nn.init.zeros_(encoder.layers[0].bias)
        nn.init.zeros_(joint.bias)
    return early, late, make_batch(cell, B, torch.float64)


@pytest.mark.parametrize(
    "objective",
    [
        {},
        {"alpha": 0.0, "naive": True},
        {"rows": "others", "copies": 2, "detach_keys": False},
        {"rows": "own", "form": "weight", "alpha": {"mrna": 0.5, "methylation": 0.0, "mirna": 3.0}},
        {"dropping": 0.999999},
    ],
    ids=str,
)
def test_linear_early_fusion_is_the_sum_of_its_parts(make_cell, make_batch, make_progress, objective):
    """W [x_1, ..., x_K] = sum of W_k x_k: the same loss, the same stats and the same gradient as late fusion."""
    early, late, batch = linear_pair(make_cell, make_batch, **objective)
    views = late.embeddings(batch)
    for name, z in early.embeddings(batch).items():
        if name != "encoders":
            torch.testing.assert_close(z, views[name])
    one, two = (method(batch, make_progress("pretrain", seed=3)) for method in (early, late))
    assert one.keys() == two.keys()
    for name, value in one.items():
        torch.testing.assert_close(value, two[name])
    one["loss"].backward()
    two["loss"].backward()
    parts = torch.cat([gradient(encoder.layers[0].weight) for encoder in late.encoders.values()], dim=1)
    torch.testing.assert_close(early.encoders["joint"].layers[0].weight.grad, parts)
    head = sum(gradient(layer.weight) for layer in late.fusion.first.values())
    torch.testing.assert_close(early.fusion[0].weight.grad, head)


def test_the_loss_is_that_of_tuples_built_one_by_one(make_cell, make_batch, make_progress):
    cell = make_cell("tuple_infonce", fusion="early", augmentations={"vector": []}, tau=0.2)
    torch.manual_seed(0)
    method, batch = build_method(cell).double(), make_batch(cell, B, torch.float64)

    def key(x):
        return F.normalize(method.embed(Batch(x, batch.labels)), dim=-1).detach()

    generator = torch.Generator().manual_seed(5)
    keys = [key(batch.inputs)]
    for name in method.modalities:
        source = derangement(B, generator)
        keys.append(key({m: x[source] if m == name else x for m, x in batch.inputs.items()}))
    log_weight = [0.0] + [math.log((B - 1) / B)] * len(method.modalities)
    anchor = F.normalize(method.embed(batch), dim=-1)
    logits = torch.cat([anchor @ k.T / 0.2 + w for k, w in zip(keys, log_weight, strict=True)], dim=1)
    loss = method(batch, make_progress("pretrain", seed=5))["loss"]
    torch.testing.assert_close(loss, F.cross_entropy(logits, torch.arange(B)))


def test_there_is_one_encoder_of_all_channels_and_it_alone_is_seen_by_the_probe(make_image_cell, make_image_batch):
    cell = make_image_cell("tuple_infonce", "early")
    method = build_method(cell).eval()
    assert list(method.encoders) == ["joint"]
    assert method.encoders["joint"].features.shape == (6, 16, 16)
    views = method.embeddings(make_image_batch(cell))
    assert views[""].shape == (12, cell.objective["fusion_width"])
    assert views["encoders"].shape == (12, cell.model.width)


def test_a_removed_picture_is_grey_which_the_encoder_takes_for_zero(make_image_cell, make_image_batch):
    cell = make_image_cell("tuple_infonce", "early")
    method, batch = build_method(cell).eval(), make_image_batch(cell)
    grey = {m: torch.full(x.shape, 0.5) if m == "image2" else x for m, x in batch.inputs.items()}
    lacking = method.embeddings(batch)["without_image2"]
    torch.testing.assert_close(lacking, method.embed(Batch({**grey, "image1": batch.inputs["image1"]}, batch.labels)))
    assert not torch.allclose(lacking, method.embed(batch))


def test_only_intact_tuples_enter_running_statistics(make_image_cell, make_image_batch, make_progress):
    """After a step they are those of one pass of the anchors, whatever was disturbed; keys are normalised by batch."""
    still = {"image": []}
    cell = make_image_cell("tuple_infonce", "early", augmentations=still)
    batch = make_image_batch(cell)
    torch.manual_seed(0)
    stepped, passed = build_method(cell), build_method(cell)
    passed.load_state_dict(stepped.state_dict())
    stepped(batch, make_progress("pretrain"))
    passed.network().anchors(View(batch.inputs, passed.modalities, make_progress("pretrain")))
    after = dict(passed.named_buffers())
    found = {name: x for name, x in stepped.named_buffers() if "running" in name}
    assert found
    for name, running in found.items():
        torch.testing.assert_close(running, after[name])
    assert all(m.momentum == 0.1 for m in stepped.modules() if isinstance(m, nn.BatchNorm2d))


def test_measuring_leaves_naive_keys_as_they_are(make_image_cell, make_image_batch, make_progress):
    """Naive contrast with an encoder that normalises over the batch: disturbed tuples do not enter its statistics."""
    cell = make_image_cell("tuple_infonce", "naive_early", augmentations={"image": []})
    batch = make_image_batch(cell)
    torch.manual_seed(0)
    method = build_method(cell)
    terms = method(batch, make_progress("pretrain"))
    z = F.normalize(method.embed(batch), dim=-1)
    torch.testing.assert_close(terms["loss"], F.cross_entropy(z @ z.detach().T / 0.07, torch.arange(12)))
    assert all(terms[f"own_similarity_{m}"] < terms["positive_similarity"] for m in method.modalities)


def test_a_step_costs_a_pass_for_each_kind_of_disturbed_tuple(make_cell, make_batch, make_progress):
    """2 + K R passes of the network in rows, as documented."""
    cell = make_cell("tuple_infonce", fusion="early", copies=2)
    method, batch = build_method(cell), make_batch(cell, B)
    rows = []
    method.encoders["joint"].register_forward_hook(lambda module, inputs, out: rows.append(len(out)))
    method(batch, make_progress("pretrain"))
    assert sum(rows) == (2 + 3 * 2) * B


@pytest.mark.parametrize(
    ("shapes", "found"),
    [
        ({"image": [3, 16, 8]}, r"image1 image \[3, 16, 16\], image2 image \[3, 16, 8\]"),
        ({"vector": [7]}, r"image1 image \[3, 16, 16\], image2 vector \[7\]"),
    ],
)
def test_modalities_that_do_not_fit_side_by_side_are_refused(make_image_cell, shapes, found):
    ((kind, shape),) = shapes.items()
    cell = make_image_cell("tuple_infonce", "early")
    other = Modality(kind=kind, shape=shape)
    cell = cell.model_copy(update={"modalities": cell.modalities | {"image2": other}})
    with pytest.raises(
        ConfigError,
        match=rf"objective\.fusion: early .* modalities says {found}\. Use fusion: late, or prepare images of one size",
    ):
        build_method(cell)


def test_depth_beside_colour_beside_normals(make_image_cell):
    cell = make_image_cell("tuple_infonce", "early")
    shapes = {"rgb": 3, "depth": 1, "normals": 3}
    modalities = {m: Modality(kind="image", shape=[c, 48, 64]) for m, c in shapes.items()}
    assert joint_encoder(cell.model_copy(update={"modalities": modalities}))["joint"].features.shape == (7, 48, 64)


def test_one_modality_is_refused_as_in_late_fusion(make_cell):
    with pytest.raises(ConfigError, match="at least two"):
        build_method(make_cell("tuple_infonce", n_modalities=1, fusion="early"))
