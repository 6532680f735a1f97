"""Batches of multifold data: which instances, and which observations of each.

A batch is a pure function of (seed, epoch, step), so a run resumes anywhere without any state of the sampler, and every
rank knows all ranks' batches. I instances of the split, N of a batch, P rows of a modality in a batch, O observations.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from mmcontrast.errors import DataError

Int = npt.NDArray[np.int64]

_ORDER, _DRAW = 0, 1


@dataclass(frozen=True)
class Rows:
    """Rows of one modality in a batch: `instance` (P,), 0 .. I - 1 in the split, the id that the losses take;
    `observation` (P,), which of that instance's, 0 .. O_i - 1.
    """

    instance: Int
    observation: Int


class _Sampler:
    """What both samplers share: the counts of observations, and their checks."""

    def __init__(self, counts: Mapping[str, Int], ids: Sequence[str], seed: int) -> None:
        """See the subclasses. Raises DataError: an instance has no observation of a modality."""
        for modality, count_I in counts.items():
            if (empty := np.flatnonzero(np.asarray(count_I) < 1)).size:
                named = ", ".join(repr(ids[i]) for i in empty[:5])
                raise DataError(
                    f"{modality}: {empty.size} instance(s) without an observation: {named}; leave them out of the split"
                )
        self.counts = {m: np.asarray(c, dtype=np.int64) for m, c in counts.items()}
        self.seed = seed

    def _of(self, rows: int, what: str, batch_size: int) -> None:
        if not 2 <= batch_size <= rows:
            raise ValueError(f"batch_size: {batch_size} is not in [2, {rows}]; the split has {rows} {what}")
        self.rows, self.batch_size = rows, batch_size

    def __len__(self) -> int:
        """Batches an epoch."""
        return self.rows // self.batch_size

    def _drawn(self, epoch: int, step: int) -> tuple[Int, np.random.Generator]:
        """The rows of a batch, and a generator for the rest of it. IndexError: there is no such step in an epoch."""
        if not 0 <= step < len(self):
            raise IndexError(f"step {step}: an epoch has steps 0 to {len(self) - 1}")
        order = np.random.default_rng([self.seed, epoch, 0, _ORDER]).permutation(self.rows)
        generator = np.random.default_rng([self.seed, epoch, step, _DRAW])
        return order[step * self.batch_size : (step + 1) * self.batch_size], generator


class InstanceSampler(_Sampler):
    """N different instances per batch, and several observations of each, none drawn twice while others are left.

    No two rows of one instance can meet as negatives, which is the point of sampling by instance.

    Args:
        counts: modality -> (I,) number of observations of each instance. ids: (I,) their names, for messages.
        batch_size: N; the last, smaller batch of an epoch is left out.
        per_instance: modality -> observations drawn from each instance.
        short: an instance with fewer gives all it has (ragged), or repeats them evenly (repeat).
    """

    def __init__(
        self,
        counts: Mapping[str, Int],
        ids: Sequence[str],
        *,
        batch_size: int,
        per_instance: Mapping[str, int],
        seed: int,
        short: Literal["ragged", "repeat"] = "ragged",
    ) -> None:
        super().__init__(counts, ids, seed)
        self._of(len(ids), "instances", batch_size)
        self.per_instance, self.short = dict(per_instance), short

    def batch(self, epoch: int, step: int) -> dict[str, Rows]:
        """Rows of each modality, in the same order of instances. Raises IndexError: an epoch has no such step."""
        instance_N, generator = self._drawn(epoch, step)
        return {m: self._draw(instance_N, m, generator) for m in self.counts}

    def _draw(self, instance_N: Int, modality: str, generator: np.random.Generator) -> Rows:
        count_N, wanted = self.counts[modality][instance_N], self.per_instance[modality]
        key_NO = generator.random((len(instance_N), int(count_N.max())))
        key_NO[np.arange(key_NO.shape[1]) >= count_N[:, None]] = np.inf  # what an instance does not have comes last
        shuffled_NO = key_NO.argsort(axis=1)
        position_W = np.arange(wanted)
        observation_NW = np.take_along_axis(shuffled_NO, position_W % count_N[:, None], axis=1)
        keep_NW = np.full(observation_NW.shape, True) if self.short == "repeat" else position_W < count_N[:, None]
        instance_NW = np.broadcast_to(instance_N[:, None], observation_NW.shape)
        return Rows(instance_NW[keep_NW], observation_NW[keep_NW])


class CaptionSampler(_Sampler):
    """The usual way: observations of one modality in random order, each paired with a random one of every other.

    An epoch shows every observation of the modality `anchor`, e.g. the captions, once. Two of one instance may meet in
    a batch, where a loss with one positive a row takes them for negatives. The last batch, with fewer than `batch_size`
    rows, is left out. `counts`, `ids`: as `InstanceSampler`.
    """

    def __init__(
        self, counts: Mapping[str, Int], ids: Sequence[str], *, anchor: str, batch_size: int, seed: int
    ) -> None:
        super().__init__(counts, ids, seed)
        self.anchor, count_I = anchor, self.counts[anchor]
        self._instance_O = np.repeat(np.arange(len(ids)), count_I)
        self._observation_O = np.arange(len(self._instance_O)) - np.repeat(np.cumsum(count_I) - count_I, count_I)
        self._of(len(self._instance_O), f"observations of {anchor}", batch_size)

    def batch(self, epoch: int, step: int) -> dict[str, Rows]:
        """Rows of each modality; row p of all is of the same instance. Raises IndexError: an epoch has no such step."""
        picked_P, generator = self._drawn(epoch, step)
        instance_P = self._instance_O[picked_P]
        drawn = {m: Rows(instance_P, generator.integers(count_I[instance_P])) for m, count_I in self.counts.items()}
        return drawn | {self.anchor: Rows(instance_P, self._observation_O[picked_P])}
