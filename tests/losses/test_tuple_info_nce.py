"""The objective against published-formula vectors, a slow reference, closed forms and numerical gradients.

The vectors come from a numpy program without random numbers: B = 4, K = 3, widths 2, 3, 2, fused width 3; row j of the
k-disturbed batch takes modality k from row (j + k + 1) mod 4.
"""

import itertools
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from mmcontrast.methods.tuple_infonce.loss import (
    Block,
    counts,
    own_row_logits,
    tuple_info_nce_terms,
    weighted_cross_entropy,
    weights_from_alpha,
)

B, K = 4, 3
WIDTHS = (2, 3, 2)


def wave(shape, a, b, c, dtype=torch.float64):
    i, j = torch.meshgrid(*(torch.arange(n, dtype=dtype) for n in shape), indexing="ij")
    return torch.sin(a * i + b * j + c)


def vectors(dtype=torch.float64):
    anchor = [wave((B, WIDTHS[m]), 1.3 + 0.7 * m, 0.9 - 0.2 * m, 0.4 * m) for m in range(K)]
    positive = [anchor[m] + 0.1 * wave((B, WIDTHS[m]), 2.1, 1.7, 0.3 + m) for m in range(K)]
    weights = [wave((3, WIDTHS[m]), 0.8, 1.1, 0.5 + 0.6 * m) for m in range(K)]
    return [[t.to(dtype) for t in ts] for ts in (anchor, positive, weights)]


def fuse(xs, weights):
    return F.normalize(sum(x @ w.T for x, w in zip(xs, weights, strict=True)), dim=1)


def disturb(xs, weights, sources=None):
    out = []
    for k in range(len(xs)):
        source = torch.arange(B).roll(-(k + 1)) if sources is None else sources[k]
        out.append(fuse([x[source] if m == k else x for m, x in enumerate(xs)], weights))
    return out


def evaluate(w, tau, rows="all", dtype=torch.float64, **kwargs):
    anchor, positive, weights = vectors(dtype)
    return tuple_info_nce_terms(
        fuse(anchor, weights), fuse(positive, weights), disturb(positive, weights), w, tau, rows, **kwargs
    )


def slow(anchor_BD, positive_BD, disturbed, w, tau, rows, scenes=None):
    """The definition, one exponential at a time."""
    a, p = anchor_BD.tolist(), positive_BD.tolist()
    d = [z.view(-1, len(a), z.shape[1]).tolist() for z in disturbed]

    def f(x, y):
        return math.exp(sum(u * v for u, v in zip(x, y, strict=True)) / tau)

    out = []
    for i in range(len(a)):
        positive = f(a[i], p[i])
        total = positive
        for j in range(len(a)):
            mate = j != i and scenes is not None and scenes[i] == scenes[j]
            if j != i and not mate:
                total += f(a[i], p[j])
            for k, copies in enumerate(d):
                wanted = {"all": not mate, "own": j == i, "others": j != i and not mate}[rows]
                total += sum(w[k] * f(a[i], copy[j]) for copy in copies) if wanted else 0.0
        out.append(-math.log(positive / total))
    return out


TABLE = [
    ((0, 0, 0), "all", 0.2947311837, 0.0002062362),
    ((1, 1, 1), "all", 1.6081490644, 0.8060462133),
    ((0.5, 1, 2), "all", 1.7385939101, 1.0013061603),
    ((1, 0, 0), "all", 0.9277710268, 0.2319920936),
    ((1, 1, 1), "own", 1.1878682070, 0.6766927507),
    ((1, 1, 1), "others", 1.1112547109, 0.2511096451),
    ((1, 2, 4), "all", 2.3043203622, 1.4714574606),
]


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-9), (torch.float32, 1e-5)])
@pytest.mark.parametrize(("w", "rows", "warm", "cold"), TABLE)
def test_loss_table(w, rows, warm, cold, dtype, tolerance):
    assert evaluate(w, 0.5, rows, dtype).loss.item() == pytest.approx(warm, abs=tolerance)
    assert evaluate(w, 0.07, rows, dtype).loss.item() == pytest.approx(cold, abs=tolerance)


@pytest.mark.parametrize(
    ("w", "expected"),
    [
        ((0, 0, 0), [0.4002256738, 0.1963022298, 0.2012662907, 0.3811305405]),
        ((1, 1, 1), [1.9719614540, 1.6488641057, 1.3107741020, 1.5009965960]),
        ((0.5, 1, 2), [2.0525891857, 1.7342408870, 1.4843706084, 1.6831749591]),
    ],
)
def test_loss_of_each_row(w, expected):
    np.testing.assert_allclose(evaluate(w, 0.5).per_row.numpy(), expected, atol=1e-9)


def test_cosines_of_the_first_row():
    anchor, positive, weights = vectors()
    a = fuse(anchor, weights)[0]
    blocks = torch.stack([a @ z.T for z in (fuse(positive, weights), *disturb(positive, weights))])
    expected = [
        [0.9919580649, -0.1678617408, -0.8179962491, 0.4908529880],
        [0.8953858522, -0.5929352555, -0.5120736892, 0.9745384706],
        [0.9824752070, 0.4014367053, 0.9600872658, -0.6099694720],
        [0.9430047964, 0.4663331255, -0.9878133123, 0.3349526849],
    ]
    np.testing.assert_allclose(blocks.numpy(), expected, atol=1e-9)


ATTACHED = [[-0.026625233, -0.053865828], [-0.013143053, -0.036019996], [0.008311526, 0.003675081]]
DETACHED = [[0.023189340, 0.009205902], [0.021363799, -0.015556762], [0.006579264, -0.030882903]]


@pytest.mark.parametrize(
    ("detach", "first", "norms"),
    [
        (False, ATTACHED, [0.071855397, 0.060433817, 0.032232306]),
        (True, DETACHED, [0.048145189, 0.096461925, 0.040233047]),
    ],
)
def test_gradient_of_the_fusion_weights(detach, first, norms):
    anchor, positive, weights = vectors()
    weights = [w.requires_grad_() for w in weights]
    keys = fuse(positive, weights), disturb(positive, weights)
    tuple_info_nce_terms(fuse(anchor, weights), *keys, (0.5, 1, 2), 0.5, detach_keys=detach).loss.backward()
    np.testing.assert_allclose(weights[0].grad.numpy(), first, atol=1e-8)
    np.testing.assert_allclose([w.grad.norm().item() for w in weights], norms, atol=1e-8)


@pytest.mark.parametrize("rows", ["all", "own", "others"])
def test_gradcheck(rows):
    g = torch.Generator().manual_seed(0)
    tensors = [torch.randn(n, 3, generator=g, dtype=torch.float64, requires_grad=True) for n in (4, 4, 4, 8)]

    def loss(a, p, d0, d1):
        a, p, d0, d1 = (F.normalize(x, dim=1) for x in (a, p, d0, d1))
        return tuple_info_nce_terms(a, p, [d0, d1], (0.7, 1.3), 0.4, rows).loss

    assert torch.autograd.gradcheck(loss, tensors)


@settings(max_examples=40, deadline=None)
@given(
    n=st.integers(2, 6),
    copies=st.lists(st.integers(1, 3), min_size=0, max_size=4),
    tau=st.sampled_from([0.07, 0.5, 2.0]),
    rows=st.sampled_from(["all", "own", "others"]),
    seed=st.integers(0, 999),
    with_scenes=st.booleans(),
)
def test_agrees_with_the_definition(n, copies, tau, rows, seed, with_scenes):
    g = torch.Generator().manual_seed(seed)
    z = [F.normalize(torch.randn(n * r, 5, generator=g, dtype=torch.float64), dim=1) for r in (1, 1, *copies)]
    w = torch.rand(len(copies), generator=g).mul(3).tolist()
    scenes = torch.randint(0, 3, (n,), generator=g) if with_scenes else None
    fast = tuple_info_nce_terms(z[0], z[1], z[2:], w, tau, rows, scenes=scenes).per_row
    expected = slow(z[0], z[1], z[2:], w, tau, rows, None if scenes is None else scenes.tolist())
    np.testing.assert_allclose(fast.numpy(), expected, rtol=1e-9, atol=1e-11)


def test_weight_zero_is_plain_info_nce():
    anchor, positive, weights = vectors()
    a, p = fuse(anchor, weights), fuse(positive, weights)
    plain = F.cross_entropy(a @ p.T / 0.07, torch.arange(B))
    assert torch.equal(tuple_info_nce_terms(a, p, [], [], 0.07).loss, evaluate((0, 0, 0), 0.07).loss)
    torch.testing.assert_close(evaluate((0, 0, 0), 0.07).loss, plain)


def test_integer_weight_is_a_repeated_block():
    anchor, positive, weights = vectors()
    z = disturb(positive, weights)
    repeated = [torch.cat([block] * times) for block, times in zip(z, (1, 2, 4), strict=True)]
    out = tuple_info_nce_terms(fuse(anchor, weights), fuse(positive, weights), repeated, (1, 1, 1), 0.07)
    torch.testing.assert_close(out.per_row, evaluate((1, 2, 4), 0.07).per_row)


@pytest.mark.parametrize("rows", ["all", "own", "others"])
def test_permuting_the_batch_permutes_the_rows(rows):
    g = torch.Generator().manual_seed(3)
    z = [F.normalize(torch.randn(6, 4, generator=g, dtype=torch.float64), dim=1) for _ in range(4)]
    order = torch.randperm(6, generator=g)
    straight = tuple_info_nce_terms(z[0], z[1], z[2:], (1, 2), 0.2, rows).per_row
    permuted = tuple_info_nce_terms(*(x[order] for x in z[:2]), [x[order] for x in z[2:]], (1, 2), 0.2, rows).per_row
    torch.testing.assert_close(permuted, straight[order])


@pytest.mark.parametrize(("w1", "least"), [(1, 0.6931471850), (2, 1.0986122916), (4, 1.6094379142)])
def test_a_fusion_that_ignores_a_modality_cannot_get_below_the_floor(w1, least):
    anchor, _, weights = vectors()
    weights[1] = torch.zeros_like(weights[1])
    a = fuse(anchor, weights)
    out = tuple_info_nce_terms(a, a, disturb(anchor, weights), (0, w1, 0), 0.07, "own")
    assert out.per_row.min().item() == pytest.approx(least, abs=1e-9)
    assert out.per_row.min().item() >= math.log1p(w1)
    assert out.stats["own_similarity_1"].item() == pytest.approx(out.stats["positive_similarity"].item(), abs=1e-12)


def test_fixed_points_are_false_negatives():
    anchor, _, weights = vectors()
    a = fuse(anchor, weights)
    same = disturb(anchor, weights, [torch.arange(B)] * K)
    assert tuple_info_nce_terms(a, a, same, (1, 1, 1), 0.07).loss.item() == pytest.approx(1.3863736602, abs=1e-9)


def test_identical_embeddings_have_a_closed_form():
    z = F.normalize(torch.ones(8, 5, dtype=torch.float64), dim=1)
    for rows, n_k in (("all", 8), ("own", 1), ("others", 7)):
        out = tuple_info_nce_terms(z, z, [z, z], (0.5, 3.0), 0.1, rows)
        assert out.loss.item() == pytest.approx(math.log(1 + 7 + 3.5 * n_k))


def test_a_weight_of_zero_and_a_batch_of_one_scene_leave_gradients_finite():
    z = [torch.randn(4, 3, generator=torch.Generator().manual_seed(k)).requires_grad_() for k in range(3)]
    a, p, d = (F.normalize(x, dim=1) for x in z)
    loss = tuple_info_nce_terms(a, p, [d], (0.0,), 0.07).loss
    loss = loss + tuple_info_nce_terms(a, p, [d], (1.0,), 0.07, scenes=torch.zeros(4, dtype=torch.int64)).loss
    loss = loss + tuple_info_nce_terms(a, p, [], [], 0.07, scenes=torch.zeros(4, dtype=torch.int64)).loss
    loss.backward()
    assert z[2].grad is not None
    assert all(torch.isfinite(x.grad).all() for x in z)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_gives_a_finite_float32_loss(dtype):
    out = evaluate((1, 1, 1), 0.07, dtype=dtype)
    assert out.loss.dtype == torch.float32
    assert out.loss.item() == pytest.approx(0.8060462133, abs=0.05)


@pytest.mark.parametrize("w", [(1, 1, 1), (0.5, 1, 2)])
def test_every_own_row_replacement_from_gram_matrices(w):
    anchor, positive, weights = vectors()
    terms = [x @ m.T for x, m in zip(positive, weights, strict=True)]
    a, z = fuse(anchor, weights), sum(terms)
    naive = a @ F.normalize(z, dim=1).T / 0.5
    gram = own_row_logits(a, z, terms, 0.5)
    blocks = [Block("naive", naive.masked_fill(torch.eye(B, dtype=torch.bool), -1e30), 1.0)]
    blocks += [Block(f"disturbed_{k}", g, float(x)) for k, (g, x) in enumerate(zip(gram, w, strict=True))]
    loss = weighted_cross_entropy(naive.diagonal(), blocks).loss
    assert loss.item() == pytest.approx({(1, 1, 1): 1.9533832825, (0.5, 1, 2): 2.1861775640}[w], abs=1e-9)


def test_stats_say_what_each_block_does():
    out = evaluate((1, 0, 2), 0.5, names=("rgb", "depth", "normals"))
    shares = [out.stats[f"share_{k}"].item() for k in ("naive", "rgb", "depth", "normals")]
    assert shares[2] == 0
    assert sum(shares) == pytest.approx(1 - torch.exp(-out.per_row).mean().item())
    assert out.stats["naive"].item() == pytest.approx(evaluate((0, 0, 0), 0.5).loss.item())
    assert out.stats["disturbed_rgb"].item() > 0
    assert out.stats["own_similarity_depth"].item() < out.stats["positive_similarity"].item()
    assert not any(v.requires_grad for v in out.stats.values())


@pytest.mark.parametrize(
    ("rows", "copies", "expected"),
    [("all", 1, (7, 8)), ("all", 2, (7, 16)), ("own", 3, (7, 3)), ("others", 2, (7, 14))],
)
def test_counts(rows, copies, expected):
    assert counts(8, rows, copies) == expected


def test_weights_have_the_effective_number_of_negatives():
    n0, nk = counts(32, "all", copies=2)
    ratio = weights_from_alpha((0.5, 2.0), n0, nk)
    assert [w * nk / n0 for w in ratio] == pytest.approx([0.5, 2.0])
    assert weights_from_alpha((0.5, 2), n0, nk, "weight") == [0.5, 2.0]
    assert weights_from_alpha((0, 0), n0, nk) == [0.0, 0.0]


@pytest.mark.parametrize(
    ("alpha", "form", "message"),
    [
        ((1, -0.5), "ratio", "at least 0"),
        ((1, math.nan), "weight", "finite"),
    ],
)
def test_bad_alpha(alpha, form, message):
    with pytest.raises(ValueError, match=message):
        weights_from_alpha(alpha, 7, 8, form)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"tau": 0.0}, "tau"),
        ({"rows": "mine"}, "all, own or others"),
        ({"weights": (1,)}, "1 weights, one per disturbed block; 2 are needed"),
        ({"weights": (1, -1)}, "disturbed_1"),
        ({"disturbed": [torch.ones(4, 3), torch.ones(5, 3)]}, r"disturbed\[1\]"),
        ({"names": ["a"]}, "1 names"),
        ({"positive": torch.ones(3, 3)}, "must both be"),
    ],
)
def test_bad_arguments(change, message):
    good = {
        "anchor": torch.ones(4, 3),
        "positive": torch.ones(4, 3),
        "disturbed": [torch.ones(4, 3)] * 2,
        "weights": (1, 1),
        "tau": 0.1,
    }
    with pytest.raises(ValueError, match=message):
        tuple_info_nce_terms(**{**good, **change})


def toy_distribution():
    """p(t2 | t1), p(t1) and the two marginals of a pair of discrete modalities (2 and 3 states), by enumeration."""
    joint = np.array([[0.35, 0.05, 0.10], [0.05, 0.25, 0.20]])
    states = list(itertools.product(range(2), range(3)))
    prior = np.array([joint[s] for s in states])
    flip = [0.1, 0.2]
    view = np.array(
        [
            [((1 - flip[0]) * (a == c) + flip[0] / 2) * ((1 - flip[1]) * (b == d) + flip[1] / 3) for c, d in states]
            for a, b in states
        ]
    )
    positive = prior @ view
    grid = positive.reshape(2, 3)
    product = np.array([grid.sum(1)[a] * grid.sum(0)[b] for a, b in states])
    return prior, view, positive, product


@pytest.mark.parametrize(
    ("share", "n", "bound", "divergence", "mixture"),
    [
        (0.0, 2, 0.3895189573, 0.9942522751, 0.9942522751),
        (0.0, 4, 0.6571278310, 0.9942522751, 0.9942522751),
        (0.5, 2, 0.3965279556, 1.0235068412, 1.0480770306),
        (0.5, 4, 0.6746245408, 1.0235068412, 1.0480770306),
        (1.0, 2, 0.4114457543, 1.1019017861, 1.1019017861),
        (1.0, 4, 0.7100300222, 1.1019017861, 1.1019017861),
    ],
)
def test_mutual_information_bound_on_an_enumerable_toy(share, n, bound, divergence, mixture):
    """log N - L* <= I(t1; t2) + KL(p || q) <= I(t1; t2) + alpha I(v1; v2), with the best critic log p(t2|t1)/q(t2)."""
    prior, view, positive, product = toy_distribution()
    q = (1 - share) * positive + share * product
    joint = prior[:, None] * view
    information = (joint * np.log(view / positive)).sum()
    kl = (positive * np.log(positive / q)).sum()
    assert information + kl == pytest.approx(divergence, abs=1e-9)
    assert information + share * (positive * np.log(positive / product)).sum() == pytest.approx(mixture, abs=1e-9)

    critic = torch.log(torch.tensor(view / q))
    loss = 0.0
    for negatives in itertools.product(range(6), repeat=n - 1):
        chance = float(np.prod(q[list(negatives)]))
        block = critic[:, list(negatives)]
        for j in range(6):
            rows = weighted_cross_entropy(critic[:, j], [Block("naive", block, 1.0)]).per_row
            loss += chance * float((torch.tensor(joint[:, j]) * rows).sum())
    assert math.log(n) - loss == pytest.approx(bound, abs=1e-9)
    assert math.log(n) - loss <= divergence <= mixture + 1e-9
