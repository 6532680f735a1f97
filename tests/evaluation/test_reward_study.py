import math

import numpy as np
import pytest

from mmcontrast.evaluation.across import study_reward


def test_a_reward_that_ranks_settings_is_told_from_noise():
    g = np.random.default_rng(0)
    noise = g.standard_normal((6, 5))
    level = np.arange(6.0)[:, None]
    good = study_reward(level + 0.3 * noise, 2 * level + 0.1 * g.standard_normal((6, 5)))
    assert good.signal > 50
    assert good.rank_correlation == 1
    shifted = study_reward(level + 0.3 * noise + 10 * np.arange(5), 2 * level + 0.1 * noise)
    assert shifted.signal == pytest.approx(good.signal)
    opposed = study_reward(-level + 0.3 * noise, level + 0 * noise)
    assert opposed.rank_correlation == -1
    noisy = [study_reward(g.standard_normal((6, 5)), level + 0 * noise).signal for _ in range(200)]
    # on noise alone E[between^2] = within^2 / seeds, so that the signal averages to about 0
    assert abs(np.mean(noisy)) < 0.3


def test_a_constant_reward_has_no_ranks():
    grid = study_reward(np.ones((3, 2)), np.arange(6.0).reshape(3, 2))
    assert math.isnan(grid.rank_correlation)
    assert grid.signal == 0
    with pytest.raises(ValueError, match="two or more"):
        study_reward(np.ones((3, 1)), np.ones((3, 1)))
