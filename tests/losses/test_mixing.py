"""Draws, mixtures and targets. Vectors: 10-digit values computed once with NumPy in float64 from the formulas."""

from __future__ import annotations

from functools import partial

import pytest
import scipy.stats
import torch

from mmcontrast.errors import ContrastError
from mmcontrast.losses.mixing import apply_mix, mix_targets, sample_beta, sample_mix

A = torch.tensor([[1.0, 0.0, 0.5], [0.2, 1.0, -0.3], [-0.4, 0.6, 1.0], [0.9, -0.7, 0.1]], dtype=torch.float64)
LAMBDA = torch.tensor([0.7, 1.0, 0.25, 0.9], dtype=torch.float64)
PERM = torch.tensor([2, 0, 3, 1])
LAMBDA_FIXED = torch.tensor([0.7, 0.35, 0.25, 1.0], dtype=torch.float64)
PERM_FIXED = torch.tensor([2, 1, 0, 3])


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("alpha", [0.15, 0.2, 1.0, 4.0])
def test_beta_draws_have_the_moments_and_shape_of_the_distribution(alpha):
    draws = sample_beta(100_000, alpha, generator())
    assert draws.dtype == torch.float64
    assert draws.mean().item() == pytest.approx(0.5, abs=0.006)
    assert draws.var().item() == pytest.approx(1 / (4 * (2 * alpha + 1)), rel=0.02)
    assert scipy.stats.kstest(draws.numpy(), "beta", args=(alpha, alpha)).pvalue > 1e-3


def test_the_papers_alpha_gives_variance_0_1923():
    assert sample_beta(100_000, 0.15, generator(1)).var().item() == pytest.approx(0.1923, abs=0.002)


@pytest.mark.parametrize("alpha", [1e-6, 1e-3, 1e3])
def test_beta_draws_stay_in_range_for_extreme_alpha(alpha):
    draws = sample_beta(5_000, alpha, generator())
    assert ((draws >= 0) & (draws <= 1)).all()
    assert draws.mean().item() == pytest.approx(0.5, abs=0.03)


def test_half_of_the_rows_are_left_alone():
    lambda_B, _ = sample_mix(40_000, alpha=1.0, p_select=0.5, generator=generator())
    assert (lambda_B == 1).double().mean().item() == pytest.approx(0.5, abs=0.01)


def test_coefficients_are_not_folded_to_the_larger_half():
    lambda_B, _ = sample_mix(10_000, alpha=0.15, p_select=1.0, generator=generator())
    assert (lambda_B < 0.5).double().mean().item() == pytest.approx(0.5, abs=0.02)


@pytest.mark.parametrize(("p_select", "share"), [(0.0, 1.0), (1.0, 0.0)])
def test_none_or_all_are_mixed_at_the_ends(p_select, share):
    lambda_B, _ = sample_mix(1_000, alpha=1.0, p_select=p_select, generator=generator())
    assert (lambda_B == 1).double().mean().item() == share


def test_draws_are_a_permutation_and_repeat_with_the_generator_alone():
    torch.manual_seed(1)
    lambda_B, perm_B = sample_mix(50, 0.15, 0.5, generator(7))
    state = torch.get_rng_state()
    again = sample_mix(50, 0.15, 0.5, generator(7))
    assert torch.equal(lambda_B, again[0])
    assert torch.equal(perm_B, again[1])
    assert perm_B.sort().values.tolist() == list(range(50))
    assert torch.equal(torch.get_rng_state(), state)
    assert not torch.equal(lambda_B, sample_mix(50, 0.15, 0.5, generator(8))[0])


def test_every_permutation_is_drawn_fixed_points_included():
    g = generator()
    seen = {tuple(sample_mix(3, 1.0, 1.0, g)[1].tolist()) for _ in range(200)}
    assert len(seen) == 6


@pytest.mark.parametrize(("alpha", "p_select"), [(0.0, 0.5), (-1.0, 0.5), (0.1, 1.5)])
def test_impossible_draws_are_refused(alpha, p_select):
    with pytest.raises(ContrastError):
        sample_mix(4, alpha, p_select, generator())


def test_mix_vector():
    expected = [[0.58, 0.18, 0.65], [0.2, 1.0, -0.3], [0.575, -0.375, 0.325], [0.83, -0.53, 0.06]]
    torch.testing.assert_close(
        apply_mix(A, LAMBDA, PERM), torch.tensor(expected, dtype=torch.float64), rtol=0, atol=1e-12
    )


@pytest.mark.parametrize("shape", [(4,), (4, 3), (4, 2, 3), (4, 1, 5, 6)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_mixing_takes_any_rank_and_keeps_dtype_and_input(shape, dtype):
    x = torch.randn(shape, generator=generator()).to(dtype)
    before = x.clone()
    mixed = apply_mix(x, LAMBDA, PERM)
    assert mixed.dtype == dtype
    assert mixed.data_ptr() != x.data_ptr()
    assert torch.equal(x, before)
    for i in range(4):
        weight = LAMBDA[i].to(dtype)
        torch.testing.assert_close(mixed[i], weight * x[i] + (1 - weight) * x[PERM[i]])


@pytest.mark.parametrize(
    ("lambda_B", "perm_B", "expected"),
    [
        (LAMBDA, PERM, [[0.7, 0, 0.3, 0], [0, 1, 0, 0], [0, 0, 0.25, 0.75], [0, 0.1, 0, 0.9]]),
        (LAMBDA_FIXED, PERM_FIXED, [[0.7, 0, 0.3, 0], [0, 1, 0, 0], [0.75, 0, 0.25, 0], [0, 0, 0, 1]]),
    ],
    ids=["no fixed point", "fixed points"],
)
def test_additive_targets_vectors(lambda_B, perm_B, expected):
    targets_BB = mix_targets(lambda_B, perm_B)
    torch.testing.assert_close(targets_BB, torch.tensor(expected, dtype=torch.float64), rtol=0, atol=1e-12)


def test_overwritten_targets_lose_mass_at_fixed_points():
    expected = [[0.7, 0, 0.3, 0], [0, 0.65, 0, 0], [0.75, 0, 0.25, 0], [0, 0, 0, 0]]
    targets = mix_targets(LAMBDA_FIXED, PERM_FIXED, overwritten=True)
    torch.testing.assert_close(targets, torch.tensor(expected, dtype=torch.float64), rtol=0, atol=1e-12)


@pytest.mark.parametrize("n", [1, 2, 7, 64])
def test_additive_rows_sum_to_one_whatever_the_permutation(n):
    for seed in range(5):
        lambda_B, perm_B = sample_mix(n, 0.15, 0.5, generator(seed))
        targets_BB = mix_targets(lambda_B, perm_B)
        torch.testing.assert_close(targets_BB.sum(dim=1), torch.ones(n, dtype=torch.float64), rtol=0, atol=1e-12)
        assert (targets_BB >= 0).all()


def test_the_two_forms_agree_without_fixed_points():
    assert torch.equal(mix_targets(LAMBDA, PERM), mix_targets(LAMBDA, PERM, overwritten=True))


@pytest.mark.parametrize("function", [mix_targets, partial(mix_targets, overwritten=True)])
def test_targets_of_unequal_lengths_are_refused(function):
    with pytest.raises(ContrastError, match="one coefficient and one partner"):
        function(LAMBDA, PERM[:3])


@pytest.mark.parametrize("rows", [3, 5])
def test_mixing_other_than_the_drawn_rows_is_refused(rows):
    with pytest.raises(ContrastError, match="do not fit"):
        apply_mix(torch.zeros(rows, 2), LAMBDA, PERM)
