"""The search as a whole: a known optimum is found, and a killed search ends with the same bits."""

import json

import pytest
import torch

from mmcontrast.errors import TrainingError
from mmcontrast.methods.tuple_infonce.objective import GridSearch, ReinforceSearch
from mmcontrast.methods.tuple_infonce.search.trials import Grid, Outcome, Reinforce, SampleSearch


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
        self.calls, self.die_at, self.adopted, self.seen = 0, die_at, [], []

    def evaluate(self, trial):
        if self.calls == self.die_at:
            raise KilledError
        self.calls += 1
        self.seen.append((trial.round, trial.index, trial.seed, trial.target))
        noise = torch.randn(1, generator=torch.Generator().manual_seed(trial.seed)).item()
        away = sum((a - b) ** 2 for a, b in zip(trial.values["alpha"], (2.0, 0.5, 1.0), strict=True))
        away += ((trial.values["beta"][0] - 100) / 50) ** 2
        return Outcome(-away + noise, {"accuracy": -away})

    def adopt(self, round_, index):
        self.adopted.append((round_, index))


def search(bowl, **kwargs):
    return SampleSearch(proposers(), bowl.evaluate, bowl.adopt, **kwargs)


@pytest.mark.parametrize("die_at", range(30))
def test_killed_at_any_trial_and_resumed_it_ends_with_the_same_bits(die_at):
    whole = Bowl()
    expected = search(whole)
    final = expected.run(lambda: None)

    saved, bowl = [], Bowl(die_at)
    first = search(bowl)
    with pytest.raises(KilledError):
        first.run(lambda: saved.append(json.dumps(first.found)))
    again = Bowl()
    resumed = search(again)
    if saved:
        resumed.replay(json.loads(saved[-1]))
    assert resumed.run(lambda: None) == final
    assert json.dumps(resumed.log) == json.dumps(expected.log)
    assert bowl.seen + again.seen == whole.seen
    assert bowl.adopted + again.adopted == whole.adopted


def test_targets_take_turns_and_every_trial_of_a_round_shares_its_seed():
    bowl = Bowl()
    run = search(bowl, seed=50)
    run.run(lambda: None)
    assert [entry["target"] for entry in run.log] == ["alpha", "beta"] * 3 + ["alpha"] * 3
    assert {seed for round_, _, seed, _ in bowl.seen if round_ == 4} == {54}
    assert [len(entry["trials"]) for entry in run.log] == [4, 2] * 3 + [4] * 3
    assert run.log[0]["trials"][1]["details"]["accuracy"] < 0


def test_the_mean_climbs_to_the_top_of_the_reward():
    def evaluate(trial):
        return Outcome(-sum((a - b) ** 2 for a, b in zip(trial.values["alpha"], (2.5, 0.5), strict=True)))

    policy = climb((1.0, 1.0), sigma=0.3, rounds=150, trials=6, rate=0.05)
    values = SampleSearch({"alpha": policy}, evaluate, lambda r, i: None).run(lambda: None)
    assert values["alpha"] == pytest.approx([2.5, 0.5], abs=0.25)


def test_the_next_round_starts_from_the_clone_nearest_to_the_new_value():
    rewards = {0.0: 1.0, 1.0: 2.0, 3.0: 9.0}

    class Fixed(Grid):
        def tell(self, r):
            super().tell(r)
            self.value = [1.2]

    bowl = Bowl()
    run = SampleSearch(
        {"alpha": Fixed(grid_of(0, 1, 3), (1,))},
        lambda t: Outcome(rewards[t.values["alpha"][0]]),
        bowl.adopt,
    )
    run.run(lambda: None)
    assert bowl.adopted == [(0, 1)]


def test_a_reward_that_is_not_finite_stops_the_search():
    run = SampleSearch({"alpha": Grid(grid_of(1, 2), (1,))}, lambda t: Outcome(float("nan")), lambda r, i: None)
    with pytest.raises(TrainingError, match="not finite"):
        run.run(lambda: None)
