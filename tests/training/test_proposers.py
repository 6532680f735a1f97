import numpy as np
import pytest

from mmcontrast.methods.tuple_infonce.objective import GridSearch, ReinforceSearch
from mmcontrast.methods.tuple_infonce.search import Grid, Reinforce, advantages, reinforce_gradient

DRAWS = np.array([[0.6, -0.2, 0.1], [-0.4, 0.9, 0.3], [0.2, 0.1, -0.8], [-0.1, -0.5, 0.4], [0.3, 0.2, 0.7]])
REWARDS = np.array([41.0, 47.0, 38.0, 44.0, 50.0])
MEAN = np.ones(3)
SIGMA = 0.5**0.5


def climb(mean, sigma, rounds, seed=0, rate=0.1, **given):
    spec = ReinforceSearch(kind="reinforce", steps=1, sigma=sigma, rounds=rounds, rate=rate, **given)
    return Reinforce(spec, mean, seed)


def grid_of(values, start):
    return Grid(GridSearch(kind="grid", steps=1, values=values), start)


def test_reinforce_gradient_of_plain_rewards():
    np.testing.assert_allclose(reinforce_gradient(MEAN + DRAWS, MEAN, SIGMA, REWARDS), [9.6, 10.36, 16.16])


def test_advantages_and_their_gradient():
    signal = advantages(REWARDS, eps=float(np.finfo(np.float32).eps))
    expected = [-0.7071067613, 0.7071067613, -1.4142135226, 0, 1.4142135226]
    np.testing.assert_allclose(signal, expected, atol=1e-10)
    gradient = reinforce_gradient(MEAN + DRAWS, MEAN, SIGMA, signal)
    np.testing.assert_allclose(-5 * gradient, [1.1313708181, -1.8384775794, -4.5254832724], atol=1e-9)
    np.testing.assert_allclose(MEAN + 0.1 * gradient, [0.9773725836, 1.0367695516, 1.0905096654], atol=1e-9)


def test_the_gradient_is_unbiased_for_a_linear_reward():
    g = np.random.default_rng(0)
    raw = MEAN + SIGMA * g.standard_normal((200_000, 3))
    slope = np.array([1.0, -2.0, 0.5])
    np.testing.assert_allclose(reinforce_gradient(raw, MEAN, SIGMA, raw @ slope), slope, atol=0.05)


def test_draws_are_antithetic_and_new_in_each_round():
    policy = climb((1.0, 2.0), 0.5, rounds=2, trials=4, low=0.0, high=4.0, seed=1)
    first = policy.ask()
    np.testing.assert_allclose(np.array(first[0]) + first[1], [2.0, 4.0])
    np.testing.assert_allclose(np.array(first[2]) + first[3], [2.0, 4.0])
    policy.tell([1, 2, 3, 4])
    assert policy.ask() != first


def test_what_is_trained_with_is_clipped_and_the_raw_draw_is_learned_from():
    policy = climb((0.1,), 1.0, rounds=1, trials=2, rate=0.2, low=0.0, high=4.0, seed=0)
    settings = policy.ask()
    low = int(np.argmin(settings))
    assert settings[low] == [0.0]
    raw = policy.raw.copy()
    rewards = [0.0, 0.0]
    rewards[1 - low] = 1.0
    policy.tell(rewards)
    assert policy.value[0] == pytest.approx(0.1 + 0.2 * (raw[1 - low, 0] - raw[low, 0]) / 2, abs=1e-6)


def test_equal_rewards_teach_nothing():
    policy = climb((1.0, 2.0), 0.5, rounds=1)
    policy.ask()
    policy.tell([3.0] * 4)
    assert policy.value == [1.0, 2.0]


def test_shared_grid_takes_the_first_best():
    grid = grid_of((0, 0.5, 1, 2), (1, 1, 1))
    assert grid.ask() == [[0.0] * 3, [0.5] * 3, [1.0] * 3, [2.0] * 3]
    grid.tell([1, 5, 5, 2])
    assert (grid.value, grid.rounds) == ([0.5] * 3, 1)
