import collections

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mmcontrast.errors import TrainingError
from mmcontrast.methods.tuple_infonce.negatives import derangement


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def test_no_row_is_its_own_source():
    for n in range(2, 258):
        d = derangement(n, generator(n))
        assert sorted(d.tolist()) == list(range(n))
        assert not (d == torch.arange(n)).any()


def test_uniform_over_all_nine_derangements_of_four():
    g = generator()
    seen = collections.Counter(tuple(derangement(4, g).tolist()) for _ in range(9000))
    assert len(seen) == 9
    # 1000 expected each, standard deviation 30: five of them
    assert all(850 < count < 1150 for count in seen.values())


@settings(max_examples=150, deadline=None)
@given(scenes=st.lists(st.integers(0, 5), min_size=2, max_size=24), seed=st.integers(0, 99))
def test_no_row_borrows_from_its_own_scene(scenes, seed):
    s = torch.tensor(scenes)
    if len(set(scenes)) == 1:
        with pytest.raises(TrainingError, match=f"are of scene {scenes[0]}"):
            derangement(len(s), generator(seed), s)
        return
    d = derangement(len(s), generator(seed), s)
    assert not (s[d] == s).any()
    if 2 * max(collections.Counter(scenes).values()) <= len(scenes):
        assert sorted(d.tolist()) == list(range(len(s)))


def test_two_scenes_of_equal_size_swap_all_their_rows():
    s = torch.arange(64) % 2
    d = [derangement(64, generator(seed), s) for seed in range(3)]
    assert all(sorted(x.tolist()) == list(range(64)) and not (s[x] == s).any() for x in d)
    assert len({tuple(x.tolist()) for x in d}) == 3


def test_sources_are_uniform_where_one_scene_holds_most_rows():
    s, g = torch.tensor([7, 7, 7, 7, 1, 2]), generator()
    seen = collections.Counter()
    for _ in range(4000):
        seen.update(enumerate(derangement(6, g, s).tolist()))
    assert {j for i, j in seen if i == 0} == {4, 5}
    assert {j for i, j in seen if i == 4} == {0, 1, 2, 3, 5}
    assert abs(seen[0, 4] - 2000) < 5 * 32
    assert all(abs(seen[4, j] - 800) < 5 * 26 for j in (0, 1, 2, 3, 5))


def test_the_generator_alone_decides():
    torch.manual_seed(1)
    first = derangement(50, generator(5))
    before = torch.get_rng_state()
    assert torch.equal(first, derangement(50, generator(5)))
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize("n", [0, 1])
def test_a_batch_of_fewer_than_two_rows_is_refused(n):
    with pytest.raises(TrainingError, match=f"has {n} row.*batch_size"):
        derangement(n, generator())
