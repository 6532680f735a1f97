"""The search as a whole: a known optimum is found, and a killed search ends with the same bits."""

import json

import pytest
import torch

from mmcontrast.methods.tuple_infonce.objective import GridSearch, ReinforceSearch
from mmcontrast.methods.tuple_infonce.search import Grid, Reinforce, sample_search


class KilledError(Exception):
    pass


def climb(mean, seed=0, **given):
    return Reinforce(ReinforceSearch(kind="reinforce", steps=1, **given), mean, seed)


def grid_of(*values):
    return GridSearch(kind="grid", steps=1, values=values)


def proposers():
    return {
        "alpha": climb((1.0, 1.0, 1.0), sigma=0.5, rounds=6, rate=0.1, seed=3),
        "beta": climb((120.0,), sigma=10.0, rounds=3, trials=2, rate=3.0, high=250.0, seed=4),
    }


class Bowl:
    """A reward with its top at alpha = (2, .5, 1) and beta = 100, plus noise common to a round; dies on demand."""

    def __init__(self, die_at=None):
        self.calls, self.die_at, self.adopted, self.seen, self.saved = 0, die_at, [], [], []

    def evaluate(self, target, values, round_):
        if self.calls == self.die_at:
            raise KilledError
        self.calls += 1
        self.seen.append((round_, target, values))
        noise = torch.randn(1, generator=torch.Generator().manual_seed(round_)).item()
        away = sum((a - b) ** 2 for a, b in zip(values["alpha"], (2.0, 0.5, 1.0), strict=True))
        away += ((values["beta"][0] - 100) / 50) ** 2
        return {"reward": -away + noise, "details": {"accuracy": -away}}

    def adopt(self, index):
        self.adopted.append(index)

    def save(self, outcomes, rounds):
        self.saved.append((json.dumps(outcomes), rounds))


def search(bowl, found=()):
    """What was found, and the rounds that led there."""
    of = proposers()
    rounds = sample_search(of, bowl.evaluate, bowl.adopt, bowl.save, found)
    return {target: proposer.value for target, proposer in of.items()}, json.dumps(rounds)


@pytest.mark.parametrize("die_at", range(30))
def test_killed_at_any_trial_and_resumed_it_ends_with_the_same_bits(die_at):
    whole, killed, again = Bowl(), Bowl(die_at), Bowl()
    expected = search(whole)
    with pytest.raises(KilledError):
        search(killed)
    assert search(again, json.loads(killed.saved[-1][0]) if killed.saved else ()) == expected
    assert killed.seen + again.seen == whole.seen
    assert killed.adopted + again.adopted == whole.adopted
    assert killed.saved + again.saved == whole.saved


def test_targets_take_turns():
    bowl = Bowl()
    rounds = sample_search(proposers(), bowl.evaluate, bowl.adopt, bowl.save)
    assert [of.target for of in rounds] == ["alpha", "beta"] * 3 + ["alpha"] * 3
    assert [len(of.outcomes) for of in rounds] == [4, 2] * 3 + [4] * 3
    assert [len(of.settings) for of in rounds] == [4, 2] * 3 + [4] * 3
    assert rounds[0].outcomes[1]["details"]["accuracy"] < 0
    # a round is over once its last trial is saved
    assert [over for _, over in bowl.saved] == [0] * 3 + [1] * 2 + [2] * 4 + [3] * 2 + [4] * 4 + [5] * 2 + [
        *[6] * 4,
        *[7] * 4,
        *[8] * 4,
        9,
    ]


def test_the_mean_climbs_to_the_top_of_the_reward():
    def evaluate(target, values, round_):
        return {"reward": -sum((a - b) ** 2 for a, b in zip(values["alpha"], (2.5, 0.5), strict=True))}

    policy = climb((1.0, 1.0), sigma=0.3, rounds=150, trials=6, rate=0.05)
    sample_search({"alpha": policy}, evaluate, lambda index: None, lambda outcomes, rounds: None)
    assert policy.value == pytest.approx([2.5, 0.5], abs=0.25)


def test_the_next_round_starts_from_the_clone_nearest_to_the_new_value():
    rewards = {0.0: 1.0, 1.0: 2.0, 3.0: 9.0}

    class Fixed(Grid):
        def tell(self, r):
            super().tell(r)
            self.value = [1.2]

    bowl = Bowl()
    proposer = Fixed(grid_of(0, 1, 3), (1,))
    sample_search({"alpha": proposer}, lambda t, v, r: {"reward": rewards[v["alpha"][0]]}, bowl.adopt, bowl.save)
    assert bowl.adopted == [1]
