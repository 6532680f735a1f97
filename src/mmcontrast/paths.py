"""Where every artifact lives. The only place that knows; nothing here touches the disk.

Paths are relative to the checkout, so that Snakemake, DVC and the command line name a file alike; with `{wildcards}`
for any part they are those of the workflow's rules.
"""

from __future__ import annotations

import copy
import re
from pathlib import Path

from mmcontrast.errors import ConfigError

SPLITS = ("train", "val", "test")
STAGE_FILES = ("history.parquet", "predictions.parquet", "embeddings.parquet", "cost.json")
SCORED_FILES = {"classifier": "predictions.parquet", "probe": "embeddings.parquet", "retrieval": "embeddings.parquet"}
# of a stage's models, what was written beside them
CHECKSUMS = "checksums.json"
# what DVC has recorded of the default suite, as far as `mmcontrast sync` knows
DVC_MARK = ".state/dvc.json"
FIGURE_FORMATS = ("png", "pdf", "svg")
TABLE_FORMATS = ("md", "tex", "csv")


def raw_dir(dataset: str) -> str:
    """Fetched files of a dataset, with a manifest.json of names and checksums."""
    return f"data/raw/{dataset}"


def raw_manifest(dataset: str) -> str:
    """Names and checksums of a dataset's fetched files; written last."""
    return f"{raw_dir(dataset)}/manifest.json"


def prepared(dataset: str, split: str) -> str:
    """Parquet of one split; val has no rows where it is held out of train by seed."""
    return f"data/prepared/{dataset}/{split}.parquet"


def mapped(dataset: str, split: str) -> str:
    """Folder with the copy of a large split that is mapped into memory; `make clean` removes it, a job makes it."""
    return f".state/mapped/{dataset}/{split}"


def data_plan(dataset: str, step: str) -> str:
    """What decides how a dataset is fetched or prepared; the same for every suite."""
    return f"plan/data/{dataset}.{step}.json"


def datasheet(dataset: str) -> str:
    """Counts, splits, checksums, licence and warnings of a prepared dataset."""
    return f"data/prepared/{dataset}/datasheet.json"


def fitted(dataset: str) -> str:
    """What was fitted on the train split: the numbers that scale and fill its inputs."""
    return f"data/prepared/{dataset}/fitted.json"


def croissant(dataset: str) -> str:
    """The datasheet for registries and loaders."""
    return f"data/prepared/{dataset}/croissant.json"


def prepared_files(dataset: str) -> list[str]:
    """All that preparing a dataset writes."""
    return [of(dataset) for of in (datasheet, fitted, croissant)] + [prepared(dataset, split) for split in SPLITS]


class Layout:
    """Paths of a selection (suite and datasets), under build/ but for the default one; `select` repeats it on the
    command line. Data is shared by all: it does not depend on who trains on it.
    """

    def __init__(self, suite: str = "default", datasets: list[str] | None = None) -> None:
        for part in (suite, *(datasets or [])):
            if not re.fullmatch(r"[a-z0-9_]+", part):
                raise ConfigError(f"'{part}': not accepted as a name; names are of a-z, 0-9 and _")
        name = suite + ("" if datasets is None else "+" + "+".join(datasets))
        self.is_default = name == "default"
        self.datasets = datasets
        self.select = ("" if suite == "default" else f" --suite {suite}") + (
            "" if datasets is None else " --datasets " + " ".join(datasets)
        )
        self.prefix = "" if self.is_default else f"build/{name}/"
        self.folder = f"{self.prefix}reports"

    def partial(self) -> Layout:
        """The same, with a report apart from that which the engines know: of a run in which a cell failed."""
        other = copy.copy(self)
        other.folder = f"{self.folder}/partial"
        return other

    @property
    def plans(self) -> str:
        """Folder of this suite's plan; those of the data are not in it but where they are for the default suite."""
        return f"{self.prefix}plan"

    def cell_plan(self, cell: str, stage: str) -> str:
        """What decides a stage of a cell: pretrain, finetune or evaluate."""
        return f"{self.plans}/cells/{cell}/{stage}.json"

    def report_plan(self, part: str) -> str:
        """What decides a part of the report: results, page, or an experiment by name."""
        return f"{self.plans}/report/{part}.json"

    def run(self, cell: str, file: str) -> str:
        """A file of a cell, by its path in the cell's folder."""
        return f"{self.prefix}runs/{cell}/{file}"

    def stage(self, cell: str, stage: str, file: str = "") -> str:
        """An output of a training stage: one of STAGE_FILES, or `models` (a folder of safetensors)."""
        return f"{self.prefix}runs/{cell}/{stage}" + (f"/{file}" if file else "")

    def outputs(self, cell: str, stage: str) -> list[str]:
        """The tables that a training stage writes, and what it cost; no predictions where there is no classifier."""
        files = [f for f in STAGE_FILES if stage == "finetune" or f != SCORED_FILES["classifier"]]
        return [self.stage(cell, stage, f) for f in files]

    def scored(self, cell: str, last_stage: str, scored_by: str) -> str:
        """What evaluation reads: a classifier's predictions, or embeddings, for a probe or for retrieval."""
        return self.stage(cell, last_stage, SCORED_FILES[scored_by])

    def metrics(self, cell: str) -> str:
        """Scores of a cell: seed, protocol, split, metric, value, n."""
        return f"{self.prefix}runs/{cell}/metrics.parquet"

    def curves(self, cell: str) -> str:
        """Scores of a cell at every evaluated epoch: seed, epoch, split, metric, value."""
        return f"{self.prefix}runs/{cell}/curves.parquet"

    def intervals(self, cell: str) -> str:
        """Intervals over seeds and test instances, and the influence of each instance on each seed's score."""
        return f"{self.prefix}runs/{cell}/intervals.parquet"

    def scores(self, cell: str) -> list[str]:
        """All three, which evaluation writes."""
        return [self.metrics(cell), self.curves(cell), self.intervals(cell)]

    def report(self, file: str = "") -> str:
        """Anything a person looks at."""
        return self.folder + (f"/{file}" if file else "")

    def evidence(self, part: str) -> str:
        """What an experiment, or the page, shows: its scores and intervals, and the checksums of files it reads."""
        return self.report(f"evidence/{part}.parquet")

    def tables(self, experiment: str) -> str:
        """Folder of an experiment's table."""
        return self.report(f"tables/{experiment}")

    def table(self, experiment: str, suffix: str) -> str:
        """A table of an experiment, as md, tex or csv."""
        return f"{self.tables(experiment)}/{experiment}.{suffix}"

    def figures(self, experiment: str) -> str:
        """Folder of an experiment's figures; empty where it has none."""
        return self.report(f"figures/{experiment}")

    def figure(self, experiment: str, name: str, suffix: str) -> str:
        """A figure of an experiment, as png, pdf or svg."""
        return f"{self.figures(experiment)}/{name}.{suffix}"

    def card(self, cell: str) -> str:
        """A cell's model card, in the folder `report("models")`."""
        return self.report(f"models/{cell}.md")

    def state(self, cell: str, stage: str) -> Path:
        """Resume state of a running stage. Outside all declared outputs, which a failed job loses."""
        return Path(f"{self.prefix}.state/{cell}/{stage}")

    def log(self, *parts: str) -> str:
        """A job's log, outside all outputs."""
        return f"{self.prefix}logs/" + "/".join(parts) + ".log"

    def tracked(self, cell: str, stage: str) -> Path:
        """What experiment trackers keep of a stage, see `mmcontrast.trackers`."""
        return Path(f"{self.prefix}logs/trackers/{stage}/{cell}")

    @property
    def run_lock(self) -> Path:
        """Held by the process that schedules this suite's jobs, so that nobody plans anew under them."""
        return Path(f"{self.prefix}.state/run.lock")

    @property
    def kept(self) -> str:
        """Folder of the suite's last results."""
        return f"{self.prefix}.state/results"

    @property
    def journal(self) -> Path:
        """One line for every stage that really ran: what, when, how long, how much memory."""
        return Path(f"{self.prefix}logs/journal.jsonl")
