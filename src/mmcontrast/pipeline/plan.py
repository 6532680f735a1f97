"""The plan: for every stage of the pipeline one small JSON with everything that decides its result: its merged values,
and the digests of the source files it runs and of the files outside the pipeline that it reads.

Both engines watch a stage's plan and its data alone. A job reads its plan and never params/, so that an edit during a
run changes the next run and not this one. A plan that would not change is not touched.
"""

from __future__ import annotations

import hashlib
import json
import logging
import re
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Any

import yaml
from pydantic import TypeAdapter

from mmcontrast import paths
from mmcontrast.config import BASE_VARIANT, CellConfig, Dataset, Grid, Source, validate
from mmcontrast.config.base import Strict, known
from mmcontrast.config.files import ParamFiles
from mmcontrast.config.grid import subset, whole
from mmcontrast.config.metrics import metrics_for
from mmcontrast.data.files import read_json, replacing, sealed, sha256_of
from mmcontrast.data.outside import encoder_files, outside_files, own_files, preparer, reader_files
from mmcontrast.errors import MMContrastError, nearest
from mmcontrast.methods.registry import training_modules
from mmcontrast.paths import Layout
from mmcontrast.report.outputs import covered
from mmcontrast.sources import SRC, digest, digests

log = logging.getLogger(__name__)

PREPARE = "mmcontrast.data.prepare"
ENCODING = ("mmcontrast.models.pretrained",)  # loaded by name where features are made
INDEX = "index.json"
GRID = "grid.yaml"
GRID_HEAD = "# The cells, datasets and experiments of the default suite, for dvc.yaml. Written by `mmcontrast plan`.\n"


class PlanError(MMContrastError):
    """A stage has no plan or not one that can be carried out here, or what was run does not fit together."""


class PlannedCell(Strict):
    """What the engines need to know of a cell; its probes are fitted on the train split of dataset `probe`."""

    dataset: str
    probe: str
    stages: list[str]
    scored: str
    data: list[str]
    threads: int
    gpus: int


class Plan(Strict):
    """What a suite covers, as the engines see it. `fetched`: datasets with sources; `generated`: made by code;
    `features`: dataset of features -> the one whose they are (it may have sources of its own, such as an encoder);
    `private`: not to be pushed to a remote, by their licence; `experiments`: name -> title; `shown`: files that the
    report shows beside the scores; `digest`: of all files of the plan, so that it changes where any of them does.
    """

    fetched: list[str]
    private: list[str]
    generated: list[str]
    features: dict[str, str]
    cells: dict[str, PlannedCell]
    experiments: dict[str, str]
    shown: list[str]
    digest: str

    def cell(self, name: str) -> PlannedCell:
        """A cell by its name. Raises PlanError where the suite has none of that name."""
        if name not in self.cells:
            raise PlanError(f"{name}: no such cell in this suite; {nearest(name, self.cells)}")
        return self.cells[name]

    @classmethod
    def read(cls, root: Path, layout: Layout) -> Plan:
        """As it was written last. Raises PlanError where there is none."""
        return cls.model_validate(_read(root / layout.plans / INDEX))

    def grid_yaml(self) -> str:
        """The same as dvc.yaml takes it, which makes stages of mappings and of lists."""

        def trained(*stages: str) -> dict[str, dict[str, str]]:
            return {
                name: {"dataset": cell.dataset, "probe": cell.probe}
                for name, cell in self.cells.items()
                if cell.stages[: len(stages)] == list(stages)
            }

        read = [d for d in self.fetched if d not in self.features]
        groups: dict[str, Any] = {}
        for group, datasets in (("fetched", self.fetched), ("prepared", read), ("generated", self.generated)):
            groups[group] = [d for d in datasets if d not in self.private]
            groups[f"{group}_private"] = [d for d in datasets if d in self.private]
        groups |= {
            # beside the base's splits: what is fetched, such as an encoder; or their datasheet, as a stage wants a file
            "features": {
                name: {"base": base, "beside": paths.raw_dir(name) if name in self.fetched else paths.datasheet(base)}
                for name, base in self.features.items()
            },
            "pretrain": trained("pretrain"),
            "finetune": trained("finetune"),
            "finetune_pretrained": trained("pretrain", "finetune"),
            "evaluate": {name: cell.scored for name, cell in self.cells.items()},
            "experiments": list(self.experiments),
        }
        return GRID_HEAD + yaml.safe_dump(groups, sort_keys=False, default_flow_style=None, width=120)


def write_plan(grid: Grid, layout: Layout) -> tuple[Plan, list[str]]:
    """Write the plans of a suite and all datasets, remove those of what is gone; the plan, and files that changed."""
    plan, wanted = planned(grid, layout)
    changed = [file for file, text in wanted.items() if put(grid.root / file, text)]
    for folder in {layout.plans, "plan/data"}:
        for file in (grid.root / folder).rglob("*.json"):
            name = file.relative_to(grid.root).as_posix()
            if name not in wanted:
                file.unlink()
                changed.append(name)
    return plan, changed


def planned(grid: Grid, layout: Layout) -> tuple[Plan, dict[str, str]]:
    """The plan of a suite, and the text of each of its files by path, without touching any."""
    wanted = dict(planned_files(grid, layout))
    said = hashlib.sha256("".join(f"{file}\0{text}\0" for file, text in sorted(wanted.items())).encode()).hexdigest()
    read = {dataset for cell in grid.cells.values() for dataset, _ in cell.data}
    used = sorted(read | {base for name in read if (base := grid.datasets[name].features_of) is not None})
    specs = {name: grid.datasets[name] for name in used}
    features = {name: spec.features_of for name, spec in specs.items() if spec.features_of is not None}
    plan = Plan(
        fetched=[name for name, spec in specs.items() if spec.sources],
        private=[name for name, spec in specs.items() if not spec.redistribute],
        generated=[name for name, spec in specs.items() if spec.generate],
        features=features,
        cells={
            name: PlannedCell(
                dataset=cell.dataset,
                probe=cell.probe_from or cell.dataset,
                stages=cell.stages,
                scored=f"{cell.last_stage}/{paths.SCORED_FILES[cell.scored_by]}",
                # what was fitted goes with the model
                data=[*(paths.prepared(*part) for part in cell.data), paths.fitted(cell.dataset)],
                threads=cell.engine.ranks * cell.engine.threads,
                gpus=cell.engine.ranks if cell.engine.device == "cuda" else 0,
            )
            for name, cell in grid.cells.items()
        },
        experiments={name: grid.experiments[name].title for name in grid.active_experiments},
        shown=sorted(set(chain.from_iterable(covered(grid, layout)["files"].values()))),
        digest=said,
    )
    wanted[f"{layout.plans}/{INDEX}"] = _text(plan.model_dump())
    if layout.is_default:
        wanted[GRID] = plan.grid_yaml()
    return plan, wanted


def outdated(root: Path, wanted: dict[str, str]) -> list[str]:
    """Files of the plan that are not what `planned` says they should be."""
    return [file for file, text in wanted.items() if not _says(root / file, text)]


def planned_files(grid: Grid, layout: Layout) -> Iterator[tuple[str, str]]:
    """Path and text of every plan of the suite, and of all datasets."""
    for name, dataset in grid.datasets.items():
        yield from dataset_plans(name, dataset)
    for cell in grid.cells.values():
        yield from cell_plans(cell, layout)
    code = digests("mmcontrast.report.results")
    yield layout.report_plan("results"), _text({"covered": covered(grid, layout), "code": code})
    code = digests("mmcontrast.report.experiment")
    for name in grid.active_experiments:
        yield layout.report_plan(name), _text({"grid": subset(grid, name), "code": code})
    yield layout.report_plan("page"), _text({"grid": whole(grid), "code": digests("mmcontrast.report.page")})


def dataset_plans(name: str, dataset: Dataset) -> Iterator[tuple[str, str]]:
    """Path and text of the plans of a dataset's fetching, unless it is made by code, and preparation."""
    if dataset.sources:
        sources = dataset.model_dump(mode="json", include={"sources"})
        own = _checksums(own_files(dataset))
        yield paths.data_plan(name, "fetch"), _text(sources | own | {"code": digests("mmcontrast.data.fetch")})
    values = dataset.model_dump(mode="json", exclude={"metrics", "splits"})
    code = digests(PREPARE, f"{PREPARE}.{preparer(name, dataset)}", *(ENCODING if dataset.encoders else ()))
    # what is fetched for the dataset is not there yet, and its checksums stand in the sources
    files = [file for file in encoder_files(dataset.encoders) if not file.is_relative_to(paths.raw_dir(name))]
    outside = _checksums([*files, *reader_files(dataset)])
    yield paths.data_plan(name, "prepare"), _text({"dataset": values, **outside, "code": code})


def _checksums(files: list[Path]) -> dict[str, Any]:
    return {"files": {str(file): sha256_of(file) for file in files}} if files else {}


def cell_plans(cell: CellConfig, layout: Layout) -> Iterator[tuple[str, str]]:
    """Path and text of a cell's plans, in the order of its stages."""
    outside = {str(file): sha256_of(file) for file in outside_files(cell.model)}
    for stage in cell.stages:
        values = cell.of_stage(stage).model_dump(mode="json")
        code = digests(*training_modules(cell))
        yield layout.cell_plan(cell.name, stage), _text({"cell": values, "files": outside, "code": code})
    values = cell.of_stage("evaluate").model_dump(mode="json")
    code = digests("mmcontrast.evaluation.evaluate")
    yield layout.cell_plan(cell.name, "evaluate"), _text({"cell": values, "code": code})


def _text(content: dict[str, Any]) -> str:
    return json.dumps(sealed(content), indent=1, ensure_ascii=False) + "\n"


def _says(path: Path, text: str) -> bool:
    return path.is_file() and path.read_bytes() == text.encode()


def put(path: Path, text: str, sync: bool = False) -> bool:
    """Write a file unless it says so already; whether it was written. `sync` as of `replacing`."""
    if _says(path, text):
        return False
    with replacing(path, sync) as temporary:
        temporary.write_text(text, encoding="utf-8")
    return True


def _read(path: Path) -> dict[str, Any]:
    try:
        content: dict[str, Any] = read_json(path)
    except FileNotFoundError:
        raise PlanError(f"{path}: no such plan; run `{_again(path)}` first") from None
    except ValueError as e:
        raise PlanError(f"{path}: not what was planned ({e}); run `{_again(path)}` again") from None
    return content


def _again(plan: Path) -> str:
    """The command that plans the suite of this plan, as it is told by the folder."""
    found = re.search(r"build/([a-z0-9_+]+)/(?:\.state/)?plan/", plan.as_posix())
    suite, *datasets = found[1].split("+") if found else ["default"]
    return f"mmcontrast plan{Layout(suite, datasets or None).select}"


def carried_out(path: Path) -> dict[str, Any]:
    """A stage's plan. Raises PlanError where there is none or other code than it is for, and names what differs."""
    content = _read(path)
    for file, planned in content["code"].items():
        if not (SRC / file).is_file() or digest(file) != planned:
            raise PlanError(
                f"{path}: planned for another version of {file} than the one in {SRC}, which is running; either it was "
                "edited since, or the package belongs to another checkout. Start the run again, which renews the plan "
                f"(by hand: `{_again(path)}`)"
            )
    for name, planned in content.get("files", {}).items():
        if not Path(name).is_file() or sha256_of(Path(name)) != planned:
            raise PlanError(f"{path}: {name} is not the file that was planned; run `{_again(path)}` again")
    return content


def planned_cell(path: Path) -> CellConfig:
    """The configuration of a stage of a cell. Raises PlanError, see `carried_out`."""
    return CellConfig.model_validate(carried_out(path)["cell"])


def planned_dataset(path: Path) -> Dataset:
    """The dataset that is prepared. Raises PlanError, see `carried_out`."""
    values = carried_out(path)["dataset"]
    # metrics decide nothing here, and a dataset has some
    metrics = metrics_for("retrieval" if values["retrieval"] else values["target"])
    return Dataset.model_validate(values | {"metrics": metrics[:1]})


def planned_sources(path: Path) -> Dataset:
    """A dataset of which there is where it comes from and nothing else. Raises PlanError, see `carried_out`."""
    values: dict[str, Any] = {"sources": TypeAdapter(list[Source]).validate_python(carried_out(path)["sources"])}
    return Dataset.model_construct(None, **values)


def planned_grid(path: Path) -> Grid:
    """What a part of the report shows. Raises PlanError, see `carried_out`."""
    return Grid.from_plain(carried_out(path)["grid"])


def refuse_another_plan(name: str, scored: Path, layout: Layout, plans: Path) -> None:
    """Raise PlanError if what a cell is scored by is not there, or not known to be of the plan that is in `plans`."""
    stage, cost = scored.parent.name, scored.parent / "cost.json"
    plan, again = plans / f"{stage}.json", f"run `mmcontrast {stage} {name}{layout.select}` first"
    if not scored.exists():
        raise PlanError(f"{scored}: no {scored.stem}; {again}")
    try:
        trained_by = read_json(cost)["plan"]
    except FileNotFoundError:
        raise PlanError(f"{cost}: not there, so that nobody knows what {scored} is of; {again}") from None
    except (ValueError, LookupError, TypeError) as e:
        raise PlanError(f"{cost}: damaged ({e}); {again}") from None
    if not plan.exists():
        raise PlanError(f"{plan}: no such plan; run `{_again(plan)}` first")
    if trained_by != sha256_of(plan):
        raise PlanError(f"{scored.parent}: trained by an earlier version of {plan}; {again}")


def cell_name(words: str) -> str:
    """dataset/method/variant, of which the variant may be left out; else raises PlanError."""
    parts = words.split("/")
    if len(parts) not in (2, 3):
        raise PlanError(f"'{words}': a cell is written dataset/method or dataset/method/variant")
    return "/".join([*parts, BASE_VARIANT][:3])


def plan_by_hand(suite: str, datasets: list[str] | None, name: str, stage: str) -> Path:
    """The plan of a stage of any cell, outside the plan of the suite, which the engines watch. Raises ConfigError: no
    such dataset, method or variant; PlanError: the cell has no such stage.
    """
    layout = Layout(suite, datasets)
    cell = Grid(suite=suite, datasets=datasets).cell(*name.split("/"))
    wanted = {f"{layout.prefix}.state/{path}": text for path, text in cell_plans(cell, layout)}
    for path, text in wanted.items():
        put(Path(path), text)
    plan = f"{layout.prefix}.state/{layout.cell_plan(name, stage)}"
    if plan not in wanted:
        raise PlanError(f"{name}: has no stage '{stage}', only {', '.join([*cell.stages, 'evaluate'])}")
    return Path(plan)


def plan_data(name: str) -> None:
    """Plan how a dataset is fetched and prepared. Raises ConfigError where there is no such dataset."""
    files = ParamFiles(Path("."))
    known("params/datasets/", "dataset", name, files.names("datasets"))
    dataset = validate(Dataset, files.raw("datasets", name), files.where("datasets", name))
    for path, text in dataset_plans(name, dataset):
        put(Path(path), text)


def warn_of_edits(layout: Layout) -> None:
    """Say so if params/ was edited since the suite was planned: jobs run what was planned."""
    planned_at = layout.run_lock.stat().st_mtime if layout.run_lock.exists() else 0.0
    newer = sorted(str(p) for p in Path("params").rglob("*.yaml") if p.stat().st_mtime > planned_at)
    if newer and planned_at:
        log.warning("%s was edited after this was planned, and is not used until `mmcontrast plan` is run", newer[0])
