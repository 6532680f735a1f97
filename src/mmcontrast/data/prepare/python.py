"""A dataset that a function in a file of the user's own reads, from whatever there is."""

import importlib.util
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import Field

from mmcontrast.config import Dataset, validate
from mmcontrast.config.base import Strict
from mmcontrast.data.instances import Instance, Stream
from mmcontrast.errors import DataError, MMContrastError, nearest


class PythonOptions(Strict):
    """`prepare` in the dataset's file."""

    file: str = Field(pattern=r"\.py$", description="The file, from the folder that holds params/.")
    function: str = Field(
        default="read",
        description="Called with the folder data/raw/<dataset>/ and with `options`, it yields a dict per instance: id, "
        "label, a value per modality (docs/inputs.md), and, where there are such, split, group and a label per task.",
    )
    options: dict[str, Any] = Field(default={}, description="Further arguments of the function, by name.")


def stream(name: str, dataset: Dataset, raw_dir: Path) -> Stream:
    """What the function yields."""
    options = validate(PythonOptions, dataset.prepare, f"params/datasets/{name}.yaml", prefix="prepare")
    return Stream(_instances(_function(options), dataset, options, raw_dir))


def _function(options: PythonOptions) -> Callable[..., Any]:
    spec = importlib.util.spec_from_file_location(Path(options.file).stem, options.file)
    assert spec is not None  # the name ends in .py
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except FileNotFoundError:
        raise DataError(f"{options.file}: no such file; it is looked for in {Path.cwd()}") from None
    except Exception as e:
        raise DataError(f"{options.file}: cannot be imported ({type(e).__name__}: {e})") from e
    function = vars(module).get(options.function)
    if not callable(function):
        known = [n for n, of in vars(module).items() if callable(of) and getattr(of, "__module__", "") == spec.name]
        raise DataError(f"{options.file}: no function '{options.function}'; {nearest(options.function, known)}")
    return function


def _instances(read: Callable[..., Any], dataset: Dataset, options: PythonOptions, raw_dir: Path) -> Iterator[Instance]:
    accepted = {"id", "label", "split", "group", *dataset.modalities, *dataset.tasks}
    where, number = f"{options.file}: {options.function}", 0
    try:
        for number, row in enumerate(read(raw_dir, **options.options), start=1):
            if not isinstance(row, Mapping) or {"id", "label"} - set(row):
                raise DataError(f"{where}: instance {number}: expected a dict with `id`, `label` and modalities")
            if unknown := sorted(set(row) - accepted):
                raise DataError(f"{where}: instance {number}: key '{unknown[0]}'; {nearest(unknown[0], accepted)}")
            values = {m: row.get(m) for m in dataset.modalities}
            tasks = {task: row.get(task) for task in dataset.tasks}
            label = row["label"]
            if isinstance(label, str) and label in dataset.classes:
                label = dataset.classes.index(label)
            yield Instance(str(row["id"]), values, label, row.get("split"), tasks, row.get("group"))
    except MMContrastError:
        raise
    except Exception as e:
        raise DataError(f"{where}: failed after {number} instances ({type(e).__name__}: {e})") from e
