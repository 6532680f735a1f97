"""The multifold loss against printed vectors, a slow reference, and closed forms."""

import itertools
import math

import pytest
import torch
import torch.nn.functional as F

from mmcontrast.errors import ContrastError
from mmcontrast.methods.mxm_clr.loss import RELATIONS, multifold_pairs_terms, multifold_terms
from tests.losses.multifold_vectors import IDS_A, IDS_B, SIX, TEN, A, B

HARD_GRADIENT = [
    [0.057410, -0.014130, 0.003650, 0.000103, 0.000001, 0.001199],
    [-0.060008, 0.066898, -0.079356, 0.000169, 0.000063, 0.048283],
    [0.000672, 0.000069, 0.003125, 0.064515, -0.028834, -0.047021],
    [0.000005, 0.000646, 0.000075, -0.083226, 0.059410, 0.006281],
]
SOFT = {  # relation: soft a->b, soft b->a, soft, gap a->b, gap b->a, loss
    "block": (2.5110564863, 1.8692824475, 2.1901694669, 1.1657262697, 0.9266737462, 2.0128885984),
    "intra": (2.2142488527, 1.6811073886, 1.9476781206, 0.9573977497, 0.8162887283, 1.8916429253),
    "pair": (1.3194124473, 0.9502619659, 1.1348372066, 0.1472000818, 0.1458710401, 1.4852224683),
}


def rows(counts, width=5, seed=0, dtype=torch.float64):
    """Unit rows and ids of instances with the given numbers of observations, ids neither dense nor sorted."""
    generator = torch.Generator().manual_seed(seed)
    ids = torch.cat([torch.full((c,), 7 * (len(counts) - i)) for i, c in enumerate(counts)])
    return F.normalize(torch.randn(len(ids), width, generator=generator, dtype=dtype), dim=1), ids


def slow(a, b, ids_a, ids_b, tau, tau_soft, hard, relation, w, combine):
    """The loss by loops over plain numbers."""
    p_range, q_range = range(len(a)), range(len(b))
    sim = [[float(a[p] @ b[q]) for q in q_range] for p in p_range]

    def mates(ids, i):
        return [k for k in range(len(ids)) if ids[k] == i]

    def unit_mean(z, ids, i):
        return F.normalize(z[mates(ids, i)].mean(0), dim=0)

    def r(p, q):
        i, j = ids_a[p], ids_b[q]
        if relation == "pair":
            return sim[p][q]
        if relation == "block":
            pairs = [sim[x][y] for x in mates(ids_a, i) for y in mates(ids_b, j)]
            return sum(pairs) / len(pairs)
        return (float(a[p] @ unit_mean(a, ids_a, j)) + float(unit_mean(b, ids_b, i) @ b[q])) / 2

    def direction(n_query, n_gallery, ids_query, ids_gallery, at):
        hard_terms, soft_terms = [], []
        for x in range(n_query):
            logits = [sim[at(x, y)[0]][at(x, y)[1]] / tau for y in range(n_gallery)]
            z = sum(math.exp(v) for v in logits)
            log_p = [v - math.log(z) for v in logits]
            own = [y for y in range(n_gallery) if ids_gallery[y] == ids_query[x]]
            h = [1 / len(own) if y in own else 0 for y in range(n_gallery)]
            if hard == "mean":
                hard_terms.append(-sum(h[y] * log_p[y] for y in range(n_gallery)))
            else:
                hard_terms.append(-math.log(sum(math.exp(log_p[y]) for y in own)))
            e = [math.exp(r(*at(x, y)) / tau_soft) for y in range(n_gallery)]
            t = [v / sum(e) for v in e]
            soft_terms.append(-sum(t[y] * log_p[y] for y in range(n_gallery)))
        return sum(hard_terms) / n_query, sum(soft_terms) / n_query

    ab = direction(len(a), len(b), ids_a, ids_b, lambda x, y: (x, y))
    ba = direction(len(b), len(a), ids_b, ids_a, lambda x, y: (y, x))
    hard_term, soft_term = (ab[0] + ba[0]) / 2, (ab[1] + ba[1]) / 2
    return (1 - w if combine == "convex" else 1) * hard_term + w * soft_term


def test_hard_part_on_the_vectors():
    out = multifold_terms(A, B, IDS_A, IDS_B, soft_weight=0.0)
    assert float(out["hard_ab"]) == pytest.approx(2.1570645884, **TEN)
    assert float(out["hard_ba"]) == pytest.approx(1.5141508714, **TEN)
    assert float(out["loss"]) == pytest.approx(1.8356077299, **TEN)


def test_hard_gradient_on_the_vectors():
    # with b the identity, a IS the similarity matrix, and its gradient is that of the logits over tau
    sim = (A @ B.T).clone().requires_grad_()
    multifold_terms(sim, torch.eye(6, dtype=torch.float64), IDS_A, IDS_B, tau=0.1, soft_weight=0.0)["loss"].backward()
    torch.testing.assert_close(sim.grad * 0.1, torch.tensor(HARD_GRADIENT, dtype=torch.float64), atol=6e-7, rtol=0)


@pytest.mark.parametrize("relation", SOFT)
def test_soft_part_on_the_vectors(relation):
    out = multifold_terms(A, B, IDS_A, IDS_B, relation=relation)
    names = ("soft_ab", "soft_ba", "soft", "soft_gap_ab", "soft_gap_ba", "loss")
    assert [float(out[n]) for n in names] == pytest.approx(SOFT[relation], **TEN)


def test_relations_on_the_vectors():
    block = RELATIONS["block"](A, B, IDS_A, IDS_B, 2)
    assert block[[0, 2, 0, 2], [0, 3, 3, 0]].tolist() == pytest.approx([0.757183, 0.702642, 0.229560, 0.178976], **SIX)
    intra = RELATIONS["intra"](A, B, IDS_A, IDS_B, 2)
    assert intra[0].tolist() == pytest.approx([0.940714, 0.876827, 0.899348, 0.181105, -0.042787, 0.278628], **SIX)
    assert (block / 0.2).softmax(1)[0].tolist() == pytest.approx([0.311092] * 3 + [0.022242] * 3, **SIX)
    assert (block.T / 0.2).softmax(1)[3].tolist() == pytest.approx([0.042924] * 2 + [0.457076] * 2, **SIX)


def test_ragged_on_the_vectors():
    out = multifold_terms(A[[0, 2, 3]], B[[0, 1, 3]], torch.tensor([0, 1, 1]), torch.tensor([0, 0, 1]))
    names = ("hard_ab", "hard_ba", "soft_ab", "soft_ba", "loss")
    want = (1.1107742156, 1.1784603464, 1.7563731213, 1.5339258785, 1.3948833905)
    assert [float(out[n]) for n in names] == pytest.approx(want, **TEN)


@pytest.mark.parametrize(
    ("hard", "relation", "combine"),
    [
        *itertools.product(["mean", "logsum"], RELATIONS, ["convex"]),
        ("mean", "block", "additive"),
        ("logsum", "intra", "additive"),
    ],
)
def test_against_a_slow_reference(hard, relation, combine):
    a, ids_a = rows([2, 1, 3], seed=1)
    b, ids_b = rows([1, 4, 2], seed=2)
    out = multifold_terms(
        a, b, ids_a, ids_b, tau=0.3, tau_soft=0.5, hard=hard, relation=relation, soft_weight=0.4,
        combine=combine,
    )  # fmt: skip
    want = slow(a, b, ids_a, ids_b, 0.3, 0.5, hard, relation, 0.4, combine)
    assert float(out["loss"]) == pytest.approx(want, abs=1e-12)


@pytest.mark.parametrize("hard", ["mean", "logsum"])
def test_gradient_is_the_numeric_one(hard):
    a, ids_a = rows([2, 1, 3], seed=1)
    b, ids_b = rows([1, 4, 2], seed=2)
    # a teacher of its own: with the rows as their own teacher a finite difference would move the detached targets too
    teacher = (rows([2, 1, 3], seed=3)[0], rows([1, 4, 2], seed=4)[0])

    def loss(x, y, tau):
        return multifold_terms(x, y, ids_a, ids_b, tau=tau, hard=hard, teacher=teacher)["loss"]

    tau = torch.tensor(0.4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(loss, (a.requires_grad_(), b.requires_grad_(), tau))


@pytest.mark.parametrize("relation", RELATIONS)
def test_targets_carry_no_gradient(relation):
    a, b = A.clone().requires_grad_(), B.clone().requires_grad_()
    own = torch.autograd.grad(multifold_terms(a, b, IDS_A, IDS_B, relation=relation)["loss"], (a, b))
    frozen = multifold_terms(a, b, IDS_A, IDS_B, relation=relation, teacher=(A.clone(), B.clone()))["loss"]
    for x, y in zip(own, torch.autograd.grad(frozen, (a, b)), strict=True):
        assert torch.equal(x, y)


def test_a_teacher_moves_the_targets():
    noise = F.normalize(A.flip(0), dim=1)
    own, taught = multifold_terms(A, B, IDS_A, IDS_B), multifold_terms(A, B, IDS_A, IDS_B, teacher=(noise, B))
    assert abs(float(own["soft"] - taught["soft"])) > 0.1
    assert float(own["hard"]) == float(taught["hard"])


@pytest.mark.parametrize("hard", ["mean", "logsum"])
def test_one_observation_a_side_is_clip(hard):
    a, ids = rows([1] * 6, seed=1)
    b, _ = rows([1] * 6, seed=2)
    labels = torch.arange(6)
    clip = (F.cross_entropy(a @ b.T / 0.1, labels) + F.cross_entropy(b @ a.T / 0.1, labels)) / 2
    assert float(multifold_terms(a, b, ids, ids, hard=hard, soft_weight=0.0)["loss"]) == pytest.approx(float(clip))
    first = multifold_terms(A[[0, 2]], B[[0, 3]], torch.arange(2), torch.arange(2), soft_weight=0.0)
    assert float(first["loss"]) == pytest.approx(0.0028374351, **TEN)


@pytest.mark.parametrize(("hard", "floor"), [("mean", (math.log(2) + math.log(3)) / 2), ("logsum", 0.0)])
def test_the_hard_part_reaches_its_lower_bound_and_the_gap_reaches_zero(hard, floor):
    corner = torch.eye(4, dtype=torch.float64)
    ids_a, ids_b = torch.arange(4).repeat_interleave(2), torch.arange(4).repeat_interleave(3)
    out = multifold_terms(corner[ids_a], corner[ids_b], ids_a, ids_b, tau=0.01, hard=hard, soft_weight=0.0)
    assert float(out["loss"]) == pytest.approx(floor, abs=1e-9)
    assert float(out["gap"]) == pytest.approx(0.0, abs=1e-9)
    assert float(multifold_terms(A, B, IDS_A, IDS_B, hard=hard)["hard"]) > floor


def test_one_image_and_five_captions():
    """As in Flickr30K: a caption has one right image, an image five right captions, so that the bound is ln 5 / 2."""
    image, caption = torch.eye(6, dtype=torch.float64), torch.eye(6, dtype=torch.float64).repeat_interleave(5, 0)
    ids, of = torch.arange(6), torch.arange(6).repeat_interleave(5)
    out = multifold_terms(image, caption, ids, of, tau=0.01, soft_weight=0.0)
    assert [float(out[n]) for n in ("hard_ab", "hard_ba")] == pytest.approx([math.log(5), 0.0], abs=1e-9)
    random, _ = rows([1] * 6, seed=5)
    a, b = random[ids], rows([5] * 6, seed=6)[0]
    want = slow(a, b, ids, of, 0.3, 0.5, "mean", "block", 0.4, "convex")
    got = multifold_terms(a, b, ids, of, tau=0.3, tau_soft=0.5, soft_weight=0.4)["loss"]
    assert float(got) == pytest.approx(want, abs=1e-12)


def test_the_soft_gap_is_zero_where_prediction_and_target_agree():
    out = multifold_terms(A, B, IDS_A, IDS_B, relation="pair", tau=0.2, tau_soft=0.2, soft_weight=1.0)
    assert float(out["gap"]) == pytest.approx(0.0, abs=1e-12)
    assert float(out["loss"]) > 0.5


def test_identical_rows_give_the_logarithm_of_their_number():
    a, b = torch.ones(4, 1, dtype=torch.float64), torch.ones(6, 1, dtype=torch.float64)
    out = multifold_terms(a, b, IDS_A, IDS_B)
    assert float(out["loss"]) == pytest.approx((math.log(6) + math.log(4)) / 2)


def test_order_of_rows_names_of_instances_and_order_of_modalities_do_not_matter():
    want = float(multifold_terms(A, B, IDS_A, IDS_B)["loss"])
    pa, pb = torch.tensor([2, 0, 3, 1]), torch.tensor([5, 1, 3, 0, 4, 2])
    assert float(multifold_terms(A[pa], B[pb], IDS_A[pa], IDS_B[pb])["loss"]) == pytest.approx(want, abs=1e-13)
    assert float(multifold_terms(A, B, 9 - 4 * IDS_A, 9 - 4 * IDS_B)["loss"]) == pytest.approx(want, abs=1e-13)
    assert float(multifold_terms(B, A, IDS_B, IDS_A)["loss"]) == pytest.approx(want, abs=1e-13)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_rows_are_worked_on_in_float32(dtype):
    a, b = A.to(dtype), B.to(dtype)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        out = multifold_terms(a, b, IDS_A, IDS_B)
    assert out["loss"].dtype == torch.float32
    exact = multifold_terms(a.double(), b.double(), IDS_A, IDS_B)
    assert float(out["loss"]) == pytest.approx(float(exact["loss"]), abs=1e-5)
    if dtype == torch.float16:
        assert float(out["loss"]) == pytest.approx(SOFT["block"][-1], abs=1e-3)


def test_duplicated_rows_and_extreme_temperatures_stay_finite():
    a, b = A[[0, 0, 2, 2]].float().requires_grad_(), B[[0, 0, 0, 3, 3, 3]].float().requires_grad_()
    for hard in ("mean", "logsum"):
        out = multifold_terms(a, b, IDS_A, IDS_B, tau=1e-3, tau_soft=1e-3, hard=hard)
        grads = torch.autograd.grad(out["loss"], (a, b))
        assert all(torch.isfinite(v).all() for v in (*out.values(), *grads))


def test_three_modalities_by_pairs():
    c, ids_c = rows([2, 2], width=4, seed=3)
    ids_c = ids_c // 7 % 2
    z, ids = {"image": A, "text": B, "voxel": c}, {"image": IDS_A, "text": IDS_B, "voxel": ids_c}
    got = multifold_pairs_terms(z, ids, tau=0.2)
    want = [multifold_terms(z[x], z[y], ids[x], ids[y], tau=0.2) for x, y in itertools.combinations(z, 2)]
    assert float(got["loss"]) == pytest.approx(float(sum(w["loss"] for w in want)))
    assert float(got["gap"]) == pytest.approx(float(sum(w["gap"] for w in want)))
    taught = multifold_pairs_terms(z, ids, tau=0.2, teacher={k: v.flip(0) for k, v in z.items()})
    assert float(taught["loss"]) != pytest.approx(float(got["loss"]))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"relation": "blok"}, "did you mean 'block'"),
        ({"hard": "max"}, "hard: 'max'"),
        ({"combine": "convex", "soft_weight": 1.5}, r"soft_weight: 1.5 is not in \[0, 1\]"),
        ({"soft_weight": -0.1, "combine": "additive"}, "soft_weight"),
        ({"tau": 0.0}, "positive"),
        ({"tau_soft": -1.0}, "positive"),
        ({"teacher": (A, A)}, "teacher"),
    ],
)
def test_options_out_of_range_are_refused(change, says):
    with pytest.raises(ContrastError, match=says):
        multifold_terms(A, B, IDS_A, IDS_B, **change)


def test_bad_rows_are_refused():
    with pytest.raises(ContrastError, match=r"1 instance\(s\) have rows in one modality only.*ids 5"):
        multifold_terms(A, B, torch.tensor([0, 0, 1, 5]), IDS_B)
    with pytest.raises(ContrastError, match=r"ids are torch\.float64"):
        multifold_terms(A, B, IDS_A.double(), IDS_B)
    with pytest.raises(ContrastError, match=r"rows \[4, 4\] and ids \[6\]"):
        multifold_terms(A, B, IDS_B, IDS_B)
    with pytest.raises(ContrastError, match="widths differ"):
        multifold_terms(A[:, :3], B, IDS_A, IDS_B)
    with pytest.raises(ContrastError, match="two modalities"):
        multifold_pairs_terms({"image": A}, {"image": IDS_A})
