"""All that a reader of vectors gives, as arrays."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np

from mmcontrast.data.instances import Stream


def arrays(stream: Stream) -> SimpleNamespace:
    """ids, labels, splits, inputs and tasks of N instances in their order, and feature_names."""
    given = list(stream.instances)
    return SimpleNamespace(
        ids=[one.id for one in given],
        labels=np.array([one.label for one in given]),
        splits=[one.split for one in given],
        inputs={m: np.stack([one.values[m] for one in given]) for m in given[0].values},
        tasks={task: np.array([one.tasks[task] for one in given]) for task in given[0].tasks},
        feature_names=stream.feature_names,
    )
