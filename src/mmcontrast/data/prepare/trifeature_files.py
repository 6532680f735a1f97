"""Trifeature as Parquet: one row a pair, two image columns, and a label for each probe.

The dataset's own label is the shape, which both images share (the probe `share`, redundant information); the other
three probes are its tasks. Of a biased dataset `train` alone is biased: it names in `probe_from` the unbiased dataset
of the same seed, whose train pairs are of the same images, and `val` and `test` are the same in both.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from rich.console import Console
from rich.progress import Progress

from mmcontrast.config import Dataset, validate
from mmcontrast.data import table
from mmcontrast.data.files import replacing
from mmcontrast.data.instances import Written
from mmcontrast.data.prepare import trifeature as tri
from mmcontrast.errors import ConfigError

LABEL = "share"
ROWS_AT_ONCE = 512
Report = Callable[[str, int, int], object]


def write(name: str, dataset: Dataset, raw_dir: Path, out_dir: Path) -> Written:
    """train, val and test of a Trifeature dataset; `raw_dir` is not looked at.

    Raises:
        ConfigError: `generate` is not accepted, or classes, tasks, modalities or split are not those it makes.
    """
    where = f"params/datasets/{name}.yaml"
    params = validate(tri.Generate, dataset.generate, where, prefix="generate")
    _check(dataset, params, where)
    screen = Console(stderr=True)
    with Progress(console=screen, disable=not screen.is_terminal, transient=True) as bars:
        known: dict[str, Any] = {}

        def report(what: str, done: int, total: int) -> None:
            if what not in known:
                known[what] = bars.add_task(what, total=total)
            bars.update(known[what], completed=done)

        return write_all(name, dataset, params, out_dir, report)


def write_all(
    name: str,
    dataset: Dataset,
    params: tri.Generate,
    out_dir: Path,
    progress: Report = lambda what, done, total: None,
) -> Written:
    """train.parquet, val.parquet and test.parquet.

    Args:
        progress: called with what is done, the images rendered or pairs written so far, and their number.
    """
    labels: dict[str, np.ndarray] = {}
    tasks: dict[str, dict[str, np.ndarray]] = {}
    counts: dict[str, dict[str, int]] = {}
    for split in tri.SPLITS:
        listed = tri.list_images(params, split)
        pairs = tri.draw_pairs(params, split, params.biased and split == "train")
        rendered = _render(params, listed, split, progress)
        names = {task: dataset.targets[task].names for task in dataset.tasks}
        layout = table.schema(name, split, dataset.modalities, dataset.classes, dataset.scaling, {}, names)
        known = tri.task_labels(params, listed, pairs)
        labels[split], tasks[split] = known[LABEL], {task: known[task] for task in dataset.tasks}
        columns = {"label": labels[split], **{table.task_column(t): of for t, of in tasks[split].items()}}
        batches = _batches(layout, listed, rendered, pairs, columns)
        _write(out_dir / f"{split}.parquet", layout, batches, len(pairs.rows), progress)
        combinations = getattr(params.combinations, split)
        counts[split] = {
            "combinations": combinations,
            "images": len(listed.names),
            "candidate pairs": pairs.candidates,
            "pairs": len(pairs.rows),
        }
    return Written(labels, tasks, {"counts": counts}, split_rule=split_rule(params))


def split_rule(params: tri.Generate) -> str:
    """How images came into splits, for the datasheet."""
    evenly = ", as many of each shape" if params.stratify else ""
    biased = "; train pairs respect M, those of val and test are drawn without regard to it" if params.biased else ""
    return (
        f"combinations of shape, texture and colour are held out at random{evenly} (seed {params.seed}), so that no "
        f"image of val or test has a combination that train has; pairs are drawn within a split{biased}"
    )


def _check(dataset: Dataset, params: tri.Generate, where: str) -> None:
    """Raise ConfigError where the dataset's file says otherwise than its `generate`."""
    classes = tri.task_classes(params)
    expected: dict[str, Any] = {"classes": classes.pop(LABEL), "tasks": classes}
    for key, value in expected.items():
        if getattr(dataset, key) != value:
            raise ConfigError(f"{where}: {key}: `generate` makes {value}, and the file says {getattr(dataset, key)}")
    shape = [3, params.size, params.size]
    if [(m.kind, m.shape, m.multifold) for m in dataset.modalities.values()] != [("image", shape, False)] * 2:
        raise ConfigError(f"{where}: modalities: `generate` makes two, each of kind image and shape {shape}")
    if params.biased and dataset.probe_from is None:
        raise ConfigError(
            f"{where}: probe_from: required where `generate.biased` is true, since probes are fitted on unbiased "
            "pairs; name the unbiased dataset of the same seed"
        )


def _render(params: tri.Generate, listed: tri.ImageList, split: str, progress: Report) -> np.ndarray:
    done = 0

    def report(finished: int) -> None:
        nonlocal done
        done += finished
        progress(f"{split}: images", done, len(listed.names))

    return tri.render_images(params, listed, report)


def _write(path: Path, layout: pa.Schema, batches: Iterator[pa.RecordBatch], total: int, progress: Report) -> None:
    # bytes are stored as 32-bit integers unless a dictionary holds the 256 of them
    images = [f"{f.name}.list.element" for f in layout if pa.types.is_fixed_size_list(f.type)]
    labels = [f.name for f in layout if f.type == pa.int64()]
    done = 0
    path.parent.mkdir(parents=True, exist_ok=True)
    with (
        replacing(path) as temp,
        pq.ParquetWriter(temp, layout, compression="zstd", use_dictionary=[*images, *labels]) as writer,
    ):
        for batch in batches:
            writer.write_batch(batch)
            done += batch.num_rows
            progress(f"{path.stem}: pairs", done, total)
        if total == 0:
            writer.write_table(layout.empty_table())


def _batches(
    layout: pa.Schema, listed: tri.ImageList, rendered: np.ndarray, pairs: tri.Pairs, labels: dict[str, np.ndarray]
) -> Iterator[pa.RecordBatch]:
    names = [name.removesuffix(".png") for name in listed.names]
    for start in range(0, len(pairs.rows), ROWS_AT_ONCE):
        rows = slice(start, start + ROWS_AT_ONCE)
        of_image = iter(pairs.rows[rows].T)
        first, second = pairs.rows[rows].T
        ids = [f"{names[a]}+{names[b]}" for a, b in zip(first, second, strict=True)]
        columns = [pa.array(ids, pa.string())]
        for field in list(layout)[1:]:
            if field.name in labels:
                columns.append(pa.array(labels[field.name][rows], field.type))
            else:
                flat = pa.array(rendered[next(of_image)].reshape(-1))
                columns.append(pa.FixedSizeListArray.from_arrays(flat, type=field.type))
        yield pa.RecordBatch.from_arrays(columns, schema=layout)
