"""Pages of reference that are made from the code each time: commands, keys of params/, losses, methods."""

from __future__ import annotations

import argparse
import fnmatch
import inspect
import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar

import yaml
from sphinx.application import Sphinx
from written import Written

from mmcontrast import losses
from mmcontrast.cli import _parser
from mmcontrast.methods.base import method_class
from mmcontrast.pipeline.documents import MODELS

ROOT = Path(__file__).parents[2]
PLACES = {
    "suite": "params/suites/NAME.yaml",
    "dataset": "params/datasets/NAME.yaml",
    "method": "params/methods/NAME.yaml",
    "experiment": "params/experiments/*/NAME.yaml",
    "recipe": "params/recipes/NAME.yaml",
    "tuning": "params/tuning/NAME.yaml, written by `mmcontrast tune`",
}
LIMITS = {
    "minimum": "≥ {}",
    "exclusiveMinimum": "> {}",
    "maximum": "≤ {}",
    "exclusiveMaximum": "< {}",
    "minItems": "at least {} of them",
    "minLength": "not empty",
}


def commands() -> Iterator[str]:
    """Every command with its usage, arguments and options."""
    yield from _command(_parser())


def _command(parser: argparse.ArgumentParser) -> Iterator[str]:
    subs = [a for a in parser._actions if isinstance(a, argparse._SubParsersAction)]
    own = [a for a in parser._actions if a not in subs and a.dest != "help"]
    if parser.prog != "mmcontrast":
        yield f"## {parser.prog}\n"
        yield f"{parser.description or ''}\n"
        usage = " ".join(parser.format_usage().removeprefix("usage: ").split())
        yield f"```text\n{usage}\n```\n"
    if own:
        yield "| argument | meaning |\n|---|---|"
        yield from (f"| {_spelling(a)} | {_cell(_help(parser, a))} |" for a in own)
        yield ""
    for sub in subs:
        texts = {choice.dest: choice.help for choice in sub._choices_actions}
        for name, below in sub.choices.items():
            below.description = below.description or (texts[name] or "").capitalize() + "."
            yield from _command(below)


def _spelling(action: argparse.Action) -> str:
    value = "" if action.nargs == 0 else action.metavar or action.dest.upper()
    if not action.option_strings:
        return f"`{action.metavar or action.dest}`"
    return ", ".join(f"`{name} {value}`".replace(" `", "`") for name in action.option_strings)


def _help(parser: argparse.ArgumentParser, action: argparse.Action) -> str:
    text = parser._get_formatter()._expand_help(action) if action.help else ""
    return f"{text} One of {', '.join(map(str, action.choices))}." if action.choices else text


def keys(names: list[str]) -> Iterator[str]:
    """The keys of these kinds of file, and of the tables inside them; `objective_*` is every one that begins so."""
    for name in (kind for asked in names for kind in fnmatch.filter(sorted(MODELS), asked)):
        schema = MODELS[name].model_json_schema()
        within = schema.get("$defs", {})
        objective = name.removeprefix("objective_")
        yield f"## {objective if objective != name else name.capitalize()}\n"
        if name in PLACES:
            yield f"{PLACES[name] if ',' in PLACES[name] else f'`{PLACES[name]}`'}. {_first(schema)}\n"
        else:
            yield f"`objective` of a method whose code is `{objective}`. {_first(schema)}\n"
        yield from _table(schema)
        for inner, what in within.items():
            if "properties" in what:
                yield f"### {name.removeprefix('objective_')}: {inner}\n\n{_first(what)}\n"
                yield from _table(what)


def _first(schema: Mapping[str, Any]) -> str:
    return " ".join(str(schema.get("description", "")).split("\n\n")[0].split())


def _table(schema: Mapping[str, Any]) -> Iterator[str]:
    yield "| key | value | default | meaning |\n|---|---|---|---|"
    required = schema.get("required", [])
    for key, what in sorted(schema["properties"].items()):
        default = "required" if key in required else f"`{json.dumps(what.get('default'), ensure_ascii=False)}`"
        yield f"| `{key}` | {_cell(_kind(what))} | {default} | {_cell(what.get('description', ''))} |"
    yield ""


def _kind(what: Mapping[str, Any]) -> str:
    """What a key accepts, in words."""
    if "anyOf" in what or "oneOf" in what:
        kinds = dict.fromkeys(_kind(choice) for choice in what.get("anyOf", what.get("oneOf", [])))
        return " or ".join(kinds)
    if "$ref" in what:
        return what["$ref"].rpartition("/")[2]
    if "enum" in what or "const" in what:
        return " or ".join(f"`{json.dumps(v)}`" for v in what.get("enum", [what.get("const")]))
    kind = {"array": "list", "object": "table", "null": "null"}.get(str(what.get("type")), str(what.get("type", "any")))
    limits = [text.format(what[limit]) for limit, text in LIMITS.items() if limit in what]
    of = what.get("items") or (what.get("additionalProperties") if what.get("type") == "object" else None)
    inner = f" of {_kind(of)}" if isinstance(of, Mapping) and of else ""
    return f"{kind}{inner}{', ' if limits else ''}{', '.join(limits)}"


def _cell(text: str) -> str:
    return " ".join(text.replace("|", "\\|").replace("*", "\\*").replace("<", "&lt;").split())


def loss_functions() -> Iterator[str]:
    """Every public loss under the file it lies in."""
    files: dict[str, list[str]] = {}
    for name in losses.__all__:
        files.setdefault(getattr(losses, name).__module__, []).append(name)
    papers = sorted(files, key=lambda module: (".losses." in module, module))
    for module in papers:
        parts = module.split(".")
        title = f"{parts[-2]}" if parts[-1] == "loss" else parts[-1]
        yield f"## {title.replace('_', ' ')}\n"
        yield f"```{{eval-rst}}\n.. automodule:: {module}\n   :no-index:\n"
        yield from (f".. autofunction:: mmcontrast.losses.{name}" for name in files[module])
        yield "```\n"


def methods() -> Iterator[str]:
    """Every file in params/methods with the code it runs and what that says of itself."""
    groups: dict[str, dict[str, str]] = {}
    for file in sorted((ROOT / "params/methods").glob("*.yaml")):
        given = yaml.safe_load(file.read_text(encoding="utf-8"))
        groups.setdefault(given.get("implementation", file.stem), {})[file.stem] = given["title"]
    for implementation, files in sorted(groups.items()):
        yield f"## {implementation}\n"
        yield ", ".join(f"**{title}** (`params/methods/{name}.yaml`)" for name, title in files.items()) + "\n"
        found = method_class(implementation)
        yield f"```{{eval-rst}}\n.. autoclass:: {found.__module__}.{found.__qualname__}\n   :no-index:\n```\n"
        assert inspect.getdoc(found), found


class Generated(Written):
    """Contents from one of the functions above; the argument, if there is one, says of what."""

    optional_arguments = 30
    made_by: ClassVar[dict[str, Callable[[list[str]], Iterator[str]]]] = {
        "commands": lambda _: commands(),
        "keys": keys,
        "losses": lambda _: loss_functions(),
        "methods": lambda _: methods(),
    }

    def markdown(self) -> Iterator[str]:
        return self.made_by[self.name](list(self.arguments))


def setup(app: Sphinx) -> dict[str, bool]:
    for name in Generated.made_by:
        app.add_directive(name, Generated)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
