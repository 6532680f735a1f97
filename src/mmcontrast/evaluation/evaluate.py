"""Score a cell from its stored predictions or embeddings: no model is loaded, every number can be recomputed.

A protocol says how an epoch is chosen, and so how a number is made. last: the final epoch. selected: the epoch that did
best on validation, one for all metrics; the headline. optimistic: for each metric the epoch that did best ON THE TEST
SPLIT, which is what some released code reports. A cell that is scored by a probe has one epoch, the last, and one
protocol: what validation selects is the strength of the probe's regularisation, so it is `selected`.

Shapes: S seeds, N cases, I instances of a split, U queries.
"""

from collections.abc import Callable, Mapping, Sequence
from itertools import product
from pathlib import Path

import numpy as np
import polars as pl

from mmcontrast.config import CellConfig
from mmcontrast.config.metrics import measure, metric_name
from mmcontrast.data.parquet import write_parquet
from mmcontrast.evaluation import retrieval
from mmcontrast.evaluation.columns import CURVES_SCHEMA, ENCODERS, INTERVALS_SCHEMA, METRICS_SCHEMA, OWN, fitted_on
from mmcontrast.evaluation.probe_predictions import SCORED, few_label_scores, probe_predictions, readouts
from mmcontrast.evaluation.retrieval import QueryScores, parts_of, per_query, ranked, reported
from mmcontrast.evaluation.scores import kind_of, loss, score, selection_key, weighted_scores
from mmcontrast.evaluation.statistics import Floats, case_influence, centred_by_class, over_seeds_and_cases
from mmcontrast.evaluation.stored import Predictions, read_embeddings, read_observations, read_predictions

CROSS_ENTROPY = "cross_entropy"
Chosen = dict[tuple[str, str], list[int]]  # (protocol, metric) -> the epoch of each seed
Frames = tuple[pl.DataFrame, pl.DataFrame, pl.DataFrame]  # metrics, curves, intervals
# (seed, split) -> predictions, and the epochs each protocol scores
Scored = tuple[dict[tuple[int, str], Predictions], Chosen]


def evaluate_cell(
    cell: CellConfig, scored_path: Path, metrics_path: Path, curves_path: Path, intervals_path: Path
) -> None:
    """Write a cell's scores by protocol, its scores by epoch, and its intervals over seeds and test instances.

    Equal inputs give equal bytes. Where a probe is fitted and the dataset has further tasks, each has a probe of its
    own, and its metrics are called <task>/<metric>; those of a further readout of the embedding <metric>@<readout>, and
    those of cell.label_counts <metric>:<count>, which have no intervals.
    scored_path: predictions.parquet; of a cell without classifier embeddings.parquet, which a probe is fitted to, or
    retrieval ranks by.
    Raises DataError: the file is missing, incomplete, or holds what is no probability or not finite.
    """
    frames = FRAMES[cell.scored_by](Path(scored_path), cell)
    for frame, path in zip(frames, (metrics_path, curves_path, intervals_path), strict=True):
        write_frame(frame, Path(path))


def _probed(path: Path, cell: CellConfig) -> Frames:
    embeddings = read_embeddings(path, cell)
    scored: dict[tuple[str, str], Scored] = {}
    losses = []
    for task, readout in product(("", *cell.tasks), readouts(embeddings)):
        if fitted_on(readout) == readout:
            by_readout, of_strengths = probe_predictions(embeddings, cell, task, readout)
            losses.append(_named(of_strengths, task, readout))
            for of, predictions in by_readout.items():
                # the last epoch, whose weights are probed
                last = [predictions[s, "test"].epochs[-1] for s in cell.seeds]
                scored[task, of] = predictions, {("selected", m): last for m in cell.targets[task].metrics}
    metrics, curve, found = _of_tasks(scored, cell)
    few = [few_label_scores(embeddings, cell, r) for r in readouts(embeddings) if r in (OWN, ENCODERS)]
    return pl.concat([metrics, *few]), pl.concat([curve, *losses], how="diagonal"), found


def _classified(path: Path, cell: CellConfig) -> Frames:
    predictions = read_predictions(path, cell)
    return _of_tasks({("", OWN): (predictions, chosen_epochs(predictions, cell.seeds, cell.metrics))}, cell)


def _retrieved(path: Path, cell: CellConfig) -> Frames:
    spec = cell.retrieval
    if spec is None:
        raise TypeError(f"{cell.name} is not scored by retrieval")
    observed = read_observations(path, cell)
    found: dict[tuple[int, int, str], dict[str, QueryScores]] = {}
    for seed, split in product(cell.seeds, SCORED):
        if sides := {m: observed[seed, split, m] for m in cell.modalities if (seed, split, m) in observed}:
            for e, epoch in enumerate(sides[spec.gallery].epochs):
                found[seed, epoch, split] = ranked({m: (o.z[e], o.ids) for m, o in sides.items()}, spec)
    names = reported(cell.metrics, spec)
    epochs = by_protocol(
        cell.seeds,
        names,
        sorted({epoch for _, epoch, _ in found}),
        lambda seed, e: retrieval.selection_key(found[seed, e, "val"]) if (seed, e, "val") in found else None,
        lambda seed, e, m: retrieval.score(found[seed, e, "test"], m, spec),
    )
    rows = [(*key, m, retrieval.score(s, m, spec)) for key, s in found.items() for m in names]
    curve = pl.DataFrame(rows, schema=CURVES_SCHEMA, orient="row")
    instances = {(s, split): len(set(o.ids)) for (s, split, m), o in observed.items() if m == spec.gallery}
    gallery = observed[cell.seeds[0], "test", spec.gallery]
    ids_I, first_I = np.unique(gallery.ids, return_index=True)

    def at(metric: str, chosen: list[int]) -> tuple[Floats, Floats]:
        of_seeds = [found[s, e, "test"] for s, e in zip(cell.seeds, chosen, strict=True)]
        slopes_SI = sum(_slopes(of_seeds, *part, ids_I) for part in parts_of(metric, spec))
        influence_SI = centred_by_class(gallery.labels[first_I], np.arange(len(ids_I)), np.asarray(slopes_SI))
        return np.array([retrieval.score(of, metric, spec) for of in of_seeds]), influence_SI

    metrics = metrics_of(instances, curve, epochs, cell.seeds)
    return metrics, curve, _intervals(epochs, len(cell.seeds), len(ids_I), at)


def _slopes(scores_S: list[dict[str, QueryScores]], direction: str, metric: str, ids_I: np.ndarray) -> Floats:
    """(S, I) derivative of the mean over queries by the weight of an instance, which has all its queries with it."""
    rows = []
    for scores in scores_S:
        of = scores[direction]
        values_U, place_U = per_query(of, metric), np.searchsorted(ids_I, of.query_ids)
        rows.append(np.bincount(place_U, values_U - values_U.mean(), minlength=len(ids_I)) / len(values_U))
    return np.stack(rows)


FRAMES: dict[str, Callable[[Path, CellConfig], Frames]] = {
    "probe": _probed,
    "classifier": _classified,
    "retrieval": _retrieved,
}


def _of_tasks(scored: dict[tuple[str, str], Scored], cell: CellConfig) -> Frames:
    parts: tuple[list[pl.DataFrame], ...] = ([], [], [])
    for (task, readout), (predictions, epochs) in scored.items():
        curve = curves(predictions, cell.targets[task].metrics)
        cases = {key: len(p.ids) for key, p in predictions.items()}
        of_task = metrics_of(cases, curve, epochs, cell.seeds), curve, _of_predictions(predictions, epochs, cell.seeds)
        for kept, frame in zip(parts, of_task, strict=True):
            kept.append(_named(frame, task, readout))
    metrics, curve, found = map(pl.concat, parts)
    return metrics, curve, found


def _named(frame: pl.DataFrame, task: str, readout: str) -> pl.DataFrame:
    names = [metric_name(metric, task, readout) for metric in frame["metric"]]
    return frame.with_columns(pl.Series("metric", names, dtype=pl.String))


def _of_predictions(
    predictions: Mapping[tuple[int, str], Predictions], epochs: Chosen, seeds: list[int]
) -> pl.DataFrame:
    tests = [predictions[s, "test"] for s in seeds]
    order = np.argsort(tests[0].ids)
    labels = tests[0].labels[order]
    weights_N = np.ones(len(labels)) if tests[0].weights is None else tests[0].weights[order]

    def at(metric: str, chosen: list[int]) -> tuple[Floats, Floats]:
        outputs_SNC = np.stack([t.probs[t.epochs.index(e)][order] for t, e in zip(tests, chosen, strict=True)])
        values_S = weighted_scores(metric, labels, outputs_SNC, weights_N[None])[0]
        return values_S, case_influence(metric, labels, outputs_SNC, weights_N)

    return _intervals(epochs, len(seeds), len(labels), at)


def _intervals(
    epochs: Chosen, seeds: int, cases: int, at: Callable[[str, list[int]], tuple[Floats, Floats]]
) -> pl.DataFrame:
    """Mean test score of each protocol and metric, its interval over seeds and test instances (INTERVALS_SCHEMA).

    `at`: metric, epoch of each seed -> the seeds' scores, and the influence of each test instance on them.
    """
    rows = []
    for (protocol, metric), chosen in epochs.items():
        values_S, influence_SN = at(metric, chosen)
        found = over_seeds_and_cases(values_S, influence_SN, share=measure(metric).share)
        kept = influence_SN.astype(np.float32).tolist() if protocol == "selected" else []
        rows.append((protocol, "test", metric, *found, seeds, cases, kept))
    return pl.DataFrame(rows, schema=INTERVALS_SCHEMA, orient="row")


def curves(predictions: dict[tuple[int, str], Predictions], metrics: Sequence[str]) -> pl.DataFrame:
    """Every metric, and of probabilities the cross-entropy in nats, of every seed, split and epoch (CURVES_SCHEMA)."""
    rows = []
    for (seed, split), p in predictions.items():
        kind = kind_of(metrics[0], p.labels)
        for epoch, probs_NC in zip(p.epochs, p.probs, strict=True):
            rows += [(seed, epoch, split, m, score(m, p.labels, probs_NC, p.weights)) for m in metrics]
            if kind != "regression":
                rows.append((seed, epoch, split, CROSS_ENTROPY, loss(kind, p.labels, probs_NC, p.weights)))
    return pl.DataFrame(rows, schema=CURVES_SCHEMA, orient="row")


def by_protocol(
    seeds: Sequence[int],
    metrics: Sequence[str],
    epochs: Sequence[int],
    on_val: Callable[[int, int], tuple[float, float] | None],
    on_test: Callable[[int, int, str], float],
) -> Chosen:
    """(protocol, metric) -> the epoch each seed is scored at, in the order of `seeds`; of equals the earliest.

    epochs: those evaluated, ascending. on_val: (seed, epoch) -> how well it did on validation, larger is better;
    None = there is no validation split, and so nothing is `selected`. on_test: (seed, epoch, metric) -> the same on the
    test split.
    """
    out: Chosen = {}
    if on_val(seeds[0], epochs[0]) is not None:
        best = [max(epochs, key=lambda e: (*(on_val(s, e) or ()), -e)) for s in seeds]
        out |= {("selected", m): best for m in metrics}
    out |= {("last", m): [epochs[-1]] * len(seeds) for m in metrics}
    return out | {
        ("optimistic", m): [max(epochs, key=lambda e: (on_test(s, e, m), -e)) for s in seeds] for m in metrics
    }


def chosen_epochs(
    predictions: Mapping[tuple[int, str], Predictions], seeds: Sequence[int], metrics: Sequence[str]
) -> Chosen:
    """As `by_protocol`. On validation the first metric selects, and of equal scores the lower loss."""
    epochs = predictions[seeds[0], "test"].epochs

    def on_val(seed: int, epoch: int) -> tuple[float, float] | None:
        of = predictions.get((seed, "val"))
        return None if of is None else selection_key(of.labels, of.probs[epochs.index(epoch)], metrics[0])

    def on_test(seed: int, epoch: int, metric: str) -> float:
        of = predictions[seed, "test"]
        return measure(metric).sign * score(metric, of.labels, of.probs[epochs.index(epoch)])

    return by_protocol(seeds, metrics, epochs, on_val, on_test)


def metrics_of(
    cases: Mapping[tuple[int, str], int],
    curve: pl.DataFrame,
    epochs: Chosen,
    seeds: Sequence[int],
) -> pl.DataFrame:
    """Score of every seed under every protocol (METRICS_SCHEMA). `cases`: (seed, split) -> their number."""
    value = {(s, e, split, m): v for s, e, split, m, v in curve.iter_rows()}
    rows = [
        (seed, protocol, split, metric, value[seed, epoch, split, metric], cases[seed, split], epoch)
        for (protocol, metric), chosen in epochs.items()
        for split in (["test", "val"] if (seeds[0], "val") in cases and protocol != "optimistic" else ["test"])
        for seed, epoch in zip(seeds, chosen, strict=True)
    ]
    return pl.DataFrame(rows, schema=METRICS_SCHEMA, orient="row")


def write_frame(frame: pl.DataFrame, path: Path) -> None:
    """Parquet that is there whole or not at all."""
    write_parquet(frame.to_arrow(compat_level=pl.CompatLevel.oldest()), path)
