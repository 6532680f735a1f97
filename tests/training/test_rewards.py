import numpy as np
import pytest
import torch
import torch.nn.functional as F

from mmcontrast.methods.tuple_infonce.search import beta_reward, crossmodal_accuracy


def wave(shape, a, b, c):
    i, j = torch.meshgrid(*(torch.arange(n, dtype=torch.float64) for n in shape), indexing="ij")
    return torch.sin(a * i + b * j + c)


def test_crossmodal_accuracy_of_the_published_vectors():
    """Query: modality k of the second view alone; candidates: the first view without it; B = 4, linear fusion."""
    widths = (2, 3, 2)
    anchor = [wave((4, widths[m]), 1.3 + 0.7 * m, 0.9 - 0.2 * m, 0.4 * m) for m in range(3)]
    second = [anchor[m] + 0.1 * wave((4, widths[m]), 2.1, 1.7, 0.3 + m) for m in range(3)]
    weights = [wave((3, widths[m]), 0.8, 1.1, 0.5 + 0.6 * m) for m in range(3)]
    terms = [x @ w.T for x, w in zip(anchor, weights, strict=True)]
    queries = [F.normalize(x @ w.T, dim=1) for x, w in zip(second, weights, strict=True)]
    candidates = [F.normalize(sum(terms) - t, dim=1) for t in terms]
    assert crossmodal_accuracy(queries, candidates) == [0.5, 0.5, 0.25]
    guesses = [(q @ c.T).argmax(1).tolist() for q, c in zip(queries, candidates, strict=True)]
    assert guesses == [[0, 1, 1, 2], [0, 1, 3, 0], [0, 2, 3, 1]]
    p = (queries[0] @ candidates[0].T / 0.07).softmax(1).diagonal()
    np.testing.assert_allclose(p.numpy(), [0.6672637210, 0.9999863464, 0.0001142005, 0.0000021340], atol=1e-9)


def test_a_collapsed_encoder_is_at_chance():
    z = torch.ones(8, 3)
    assert crossmodal_accuracy([z], [z]) == [1 / 8]


def test_beta_reward_of_the_released_form():
    percent = [52, 58, 63, 66, 61, 55, 50, 44]
    reward = beta_reward(112, range(30, 241, 30), [p / 100 for p in percent], 250)
    assert reward == pytest.approx(1.4377260000, abs=1e-9)


def test_beta_reward_is_highest_where_training_noise_is_the_best_noise():
    accuracies = [0.2, 0.6, 0.3]
    rewards = [beta_reward(s, (1, 2, 3), accuracies, 4) for s in (1, 2, 3)]
    assert np.argmax(rewards) == 1
