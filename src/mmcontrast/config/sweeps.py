"""`sweep:` and `panels:` of an experiment: one list of values as variants of a method, rows of a table and an axis."""

import re
from collections.abc import Mapping
from typing import Any

from mmcontrast.config.base import known, validate
from mmcontrast.config.datasets import Dataset
from mmcontrast.config.experiments import Sweep, SweepLine
from mmcontrast.config.merging import Layers, merge, objective_model
from mmcontrast.config.methods import BASE_VARIANT, Variant, known_variant
from mmcontrast.errors import ConfigError

Variants = dict[str, dict[str, Any]]


class Expansion:
    """Sweeps of all experiments written out. `variants`: what they add to the methods' files, by method and name."""

    def __init__(self, layers: Layers, datasets: Mapping[str, Dataset]) -> None:
        self._layers = layers
        self._datasets = datasets
        self.variants: dict[str, Variants] = {}

    def experiment(self, raw: dict[str, Any], where: str) -> dict[str, Any]:
        """An experiment's file with the rows and series of its sweeps written out. Raises ConfigError where a sweep is
        wrong; what else is wrong is left for the model of an experiment to say.
        """
        panels: list[Any] = raw["panels"] if isinstance(raw.get("panels"), list) else []
        places = [("sweep", raw.get("sweep")), *((f"panels[{i}]", panel) for i, panel in enumerate(panels))]
        asked = {at: validate(Sweep, given, where, prefix=at) for at, given in places if isinstance(given, dict)}
        if not any(sweep.lines for sweep in asked.values()):
            return raw
        datasets, cells = raw.get("datasets"), raw.get("cells", [])
        if not isinstance(datasets, list) or not all(isinstance(d, str) for d in datasets):
            raise ConfigError(f"{where}: datasets: a sweep is run on the experiment's datasets; give a list of names")
        if not isinstance(cells, list):
            raise ConfigError(f"{where}: cells: a list is accepted (given: {cells!r})")
        rows, written = list(cells), {}
        for at, sweep in asked.items():
            added, written[at] = self._write_out(sweep, datasets, f"{where}: {at}")
            there = {(r.get("method"), r.get("variant", BASE_VARIANT)) for r in rows if isinstance(r, dict)}
            rows += [row for row in added if (row["method"], row["variant"]) not in there]
        out = raw | {"cells": rows}
        if "sweep" in written:
            out["sweep"] = written.pop("sweep")
        if written:
            out["panels"] = [written.get(f"panels[{i}]", panel) for i, panel in enumerate(panels)]
        return out

    def _write_out(self, sweep: Sweep, datasets: list[str], where: str) -> tuple[list[dict[str, Any]], dict[str, Any]]:
        if sweep.dataset is not None and sweep.dataset not in datasets:
            raise ConfigError(f"{where}: dataset: '{sweep.dataset}' is not among the experiment's datasets, {datasets}")
        on = [sweep.dataset] if sweep.dataset is not None else datasets
        series = {name: dict(line) for name, line in sweep.series.items()}
        rows = []
        for start, line in sweep.lines:
            method, _, variant = start.partition("/")
            known(where, "method", method, self._layers.methods)
            spec = self._layers.methods[method]
            known_variant(f"{where}: {method}", spec, variant or BASE_VARIANT)
            title = line.title or spec.title
            if title in series:
                raise ConfigError(f"{where}: {start}: there is a line '{title}' already; give it another `title`")
            label = line.label or ("{title}, " if len(sweep.lines) > 1 else "") + f"{line.short} = {{value}}"
            series[title] = {}
            for i, given in enumerate(line.values):
                name, value = self._variant(method, variant or BASE_VARIANT, line, given, on, f"{where}: {start}")
                place = line.places[i] if line.places else self._place(value, on, f"{where}: {start}")
                series[title][f"{method}/{name}"] = place
                shown = f"{value if isinstance(value, int | float) else place:g}"
                said = label.replace("{title}", title).replace("{value}", shown).replace("{place}", f"{place:g}")
                row = {"method": method, "variant": name, "label": said}
                rows.append(row | ({"only": on} if on != datasets else {}))
        axis = sweep.axis or (sweep.lines[0][1].key.rpartition(".")[2].replace("_", " ") if sweep.lines else "")
        return rows, sweep.model_dump(include={"scale", "dataset"}) | {"axis": axis, "series": series}

    def _variant(
        self, method: str, start: str, line: SweepLine, value: Any, datasets: list[str], where: str
    ) -> tuple[str, Any]:
        """The variant with the value, and the value: the start itself, a variant of the method's file, or a new one."""
        declared = self._layers.methods[method].variants
        given = self._layers.methods[method].variant(start) or Variant()
        merged, section = [self._layers.values(method, d, given) for d in datasets], line.key.partition(".")[0]
        if not all(values.get(section) for values in merged):
            raise ConfigError(f"{where} has no `{section}`, so there is no {line.key} to vary")
        if value == BASE_VARIANT:
            # what the method's file has wrong is that file's fault, and not the sweep's
            file = f"params/methods/{method}.yaml"
            model = objective_model(self._layers.methods[method].implementation, file)
            validate(model, merged[0].get("objective", {}), file, prefix="objective")
            value = _at(merged[0], line.key)
        equal = [_at(values, line.key) == value for values in merged]
        if all(equal):
            return start, value
        if any(equal):
            raise ConfigError(f"{where}: {value!r} is what it has on some of {datasets}; give `dataset`, a single one")
        overrides = merge(given.model_dump(exclude_unset=True), _nested(line.key, value))
        for name, other in declared.items():
            if other.model_dump(exclude_unset=True) == overrides:
                return name, value
        name = f"{'' if start == BASE_VARIANT else start + '_'}{line.short}_{spelled(value)}"
        if self.variants.setdefault(method, {}).setdefault(name, overrides) != overrides or name in declared:
            raise ConfigError(f"{where}: {method} has another variant '{name}' already; rename that one")
        return name, value

    def _place(self, value: Any, datasets: list[str], where: str) -> float:
        if isinstance(value, int | float) and not isinstance(value, bool):
            return value
        if value == "full" and len(datasets) == 1 and datasets[0] in self._datasets:
            return self._datasets[datasets[0]].train_rows
        raise ConfigError(f"{where}: {value!r} has no place on an axis; give `places`, a number for each value")


def spelled(value: Any) -> str:
    """A value as part of a variant's name: 0.05 is 0_05, {image: 2, text: 1} is 2_1."""
    if isinstance(value, dict | list):
        return "_".join(spelled(v) for v in (value.values() if isinstance(value, dict) else value))
    text = f"{value:g}" if isinstance(value, float) else str(value).lower()
    return re.sub("[^a-z0-9]", "_", text)


def _nested(key: str, value: Any) -> dict[str, Any]:
    first, _, rest = key.partition(".")
    return {first: _nested(rest, value) if rest else value}


def _at(values: Any, key: str) -> Any:
    for part in key.split("."):
        values = values.get(part) if isinstance(values, dict) else None
    return values
