"""Emoji as multifold data: one emoji is an instance, drawn by up to four vendors and worded in several ways.

Drawings come as SVG paths from Iconify's packages of Noto, Twemoji, OpenMoji and Fluent; texts are the CLDR name, the
keywords of CLDR (or Emojibase) and of emojilib, and the short codes of chat programs. Skin tones are left out:
their drawings differ in one colour and their texts in one word.

Variants of one base (woman / man / person, families, facing right) share a family, and a family is never split.
"""

import io
import re
import sys
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple
from xml.etree import ElementTree

import numpy as np
import numpy.typing as npt
import resvg_py
from PIL import Image
from pydantic import Field
from rich.console import Console
from rich.progress import track

from mmcontrast.config import Dataset, RandomSplit
from mmcontrast.config.base import Strict, validate
from mmcontrast.data.files import told_json
from mmcontrast.data.instances import Instance, Stream
from mmcontrast.data.pictures import check_modalities, pixels
from mmcontrast.errors import ConfigError, DataError

VENDORS = {
    "noto": "@iconify-json/noto",
    "twemoji": "@iconify-json/twemoji",
    "openmoji": "@iconify-json/openmoji",
    "fluent": "@iconify-json/fluent-emoji-flat",
}
SHORT_CODES = ("github", "emojibase", "iamcal", "joypixels")
EMOJIBASE = "emojibase-data/en/data.json"
GROUPS = "emojibase-data/meta/groups.json"
CLDR = "cldr-annotations-full/annotations/en/annotations.json"
EMOJILIB = "emojilib/dist/emoji-en-US.json"
ZWJ, VARIATION = "200D", "FE0F"
SKIN_TONES = {f"1F3F{c}" for c in "BCDEF"}
SIGNS = {"2640", "2642", "27A1"}  # female, male, facing right
PEOPLE = {"1F468", "1F469", "1F9D1", "1F466", "1F467", "1F9D2"}
# variants that Unicode gives a code of their own, and the code that stands for all of them here
ALIASES = {
    **dict.fromkeys(("1F468", "1F469"), "1F9D1"),
    **dict.fromkeys(("1F466", "1F467"), "1F9D2"),
    **dict.fromkeys(("1F474", "1F475"), "1F9D3"),
    **dict.fromkeys(("1F934", "1F478"), "1FAC5"),
    **dict.fromkeys(("1F385", "1F936", "1F9D1-200D-1F384"), "1F384-PERSON"),
    **dict.fromkeys(("1F57A",), "1F483"),
    **dict.fromkeys(("1F930", "1FAC3"), "1FAC4"),
    **dict.fromkeys(("1F931", "1F9D1-200D-1F37C"), "1F37C-PERSON"),
    **dict.fromkeys(("1F46B", "1F46C", "1F46D"), "1F9D1-200D-1F91D-200D-1F9D1"),
    **dict.fromkeys(("1F9D1-200D-2764-200D-1F9D1",), "1F491"),
    **dict.fromkeys(("1F9D1-200D-2764-200D-1F48B-200D-1F9D1",), "1F48F"),
}
FAMILY = "1F46A"
# of a drawing, what it refers to counted where it does so; real ones are 6 deep
MAX_DEPTH, MAX_ELEMENTS = 64, 100_000
REFERENCE = re.compile(r"url\(\s*['\"]?([^'\")]*)")


class EmojiOptions(Strict):
    """`prepare` in the dataset's file: an emoji with fewer is left out and counted in the datasheet."""

    min_drawings: int = Field(default=1, ge=1)
    min_texts: int = Field(default=1, ge=1)


def stream(name: str, dataset: Dataset, raw_dir: Path) -> Stream:
    """The emoji of the dataset's classes, by family, drawn in the size of its modality `image`; they are in memory."""
    where = f"params/datasets/{name}.yaml"
    options = validate(EmojiOptions, dataset.prepare, where, prefix="prepare")
    check_modalities(name, dataset)
    shape = dataset.modalities["image"].shape
    if shape[1] != shape[2]:
        raise ConfigError(f"{where}: modalities.image.shape: {shape}; drawings are square")
    if not isinstance(dataset.split, RandomSplit):
        raise ConfigError(f"{where}: split: give `kind: random`; nobody publishes a split")
    emoji_read = read_emoji(raw_dir, dataset.classes)
    kept, skipped, short = [], [], []
    shown = track(emoji_read, "drawing emoji", console=Console(file=sys.stderr), disable=not sys.stderr.isatty())
    for emoji in shown:
        # in the order of VENDORS, a missing vendor left out
        drawn = []
        for vendor, svg in emoji.drawings.items():
            try:
                drawn.append(draw(svg, shape[1]))
            except DataError as e:
                skipped.append({"id": emoji.id, "name": emoji.name, "vendor": vendor, "reason": str(e)})
        if len(drawn) < options.min_drawings or len(emoji.texts) < options.min_texts:
            short.append(f"{emoji.id} ({emoji.name}: {len(drawn)} drawings, {len(emoji.texts)} texts)")
            continue
        kept.append(Instance(emoji.id, {"image": drawn, "text": emoji.texts}, emoji.label, group=emoji.family))
    # letter for letter: as a query such a text has no one answer
    counts = Counter(text.casefold() for one in kept for text in one.values["text"])
    images, texts = ([one.values[m] for one in kept] for m in ("image", "text"))
    report: dict[str, Any] = {
        "drawings": sum(map(len, images)),
        "texts": sum(map(len, texts)),
        "drawings_per_instance": _histogram(map(len, images)),
        "texts_per_instance": _histogram(map(len, texts)),
        "texts_shared_by_instances": sum(n for n in counts.values() if n > 1),
        "families": len({one.group for one in kept}),
        "svg_not_drawn": skipped,
        "left_out": {"count": len(short), **options.model_dump(), "which": short},
    }
    return Stream(kept, report=report)


def _refuse_unsafe(svg: str) -> None:
    """Raise DataError for a drawing that would end the process that draws it, or show files of this machine."""
    try:
        root = ElementTree.fromstring(svg)
    except ElementTree.ParseError as e:
        raise DataError(f"cannot be drawn ({e})") from None
    named = {element.get("id"): element for element in root.iter()}
    met, ahead = 0, [(root, 1)]
    while ahead:
        element, depth = ahead.pop()
        met += 1
        if depth > MAX_DEPTH or met > MAX_ELEMENTS:
            raise DataError(f"more than {MAX_DEPTH} elements within one another, or {MAX_ELEMENTS} in all")
        inner = list(element)
        for key, value in element.items():
            for target in [value] if key.endswith("href") else REFERENCE.findall(value):
                if not target.startswith("#"):
                    raise DataError(f"refers to {target[:60]!r}, which is outside of it")
                inner += [named[target[1:]]] if target[1:] in named else []
        ahead += [(other, depth + 1) for other in inner]


def draw(svg: str, size: int) -> npt.NDArray[np.uint8]:
    """(3, size, size) pixels of a square SVG on white. Raises DataError: it cannot or must not be drawn, is blank."""
    _refuse_unsafe(svg)
    try:
        png = resvg_py.svg_to_bytes(
            svg_string=svg, width=size, height=size, background="#ffffff", skip_system_fonts=True
        )
    except ValueError as e:
        raise DataError(f"cannot be drawn ({e})") from None
    drawn = pixels(Image.open(io.BytesIO(bytes(png))).convert("RGB"))
    if drawn.min() == drawn.max():
        raise DataError("came out blank")
    return drawn


def _histogram(numbers: Iterable[int]) -> dict[str, int]:
    return {str(n): count for n, count in sorted(Counter(numbers).items())}


class Emoji(NamedTuple):
    """One instance: its code points without variation selectors, e.g. `1F44B`, its CLDR short name, the index of its
    group in the dataset's classes, the id of all variants of one base, texts of which no two are alike, vendor -> SVG.
    """

    id: str
    name: str
    label: int
    family: str
    texts: list[str]
    drawings: dict[str, str]


def read_emoji(raw_dir: Path, groups: list[str]) -> list[Emoji]:
    """All emoji of the groups that any vendor draws, in Unicode's order. Raises ConfigError: no such group."""
    group_names = list(_json(raw_dir / GROUPS)["groups"].values())
    if unknown := [g for g in groups if g not in group_names]:
        raise ConfigError(f"emoji: classes: no group {unknown}; known: {', '.join(group_names)}")
    cldr = {_id_of_text(k): v["default"] for k, v in _json(raw_dir / CLDR)["annotations"]["annotations"].items()}
    emojilib = {_id_of_text(k): v for k, v in _json(raw_dir / EMOJILIB).items()}
    codes = {}
    for name in SHORT_CODES:
        table = _json(raw_dir / f"emojibase-data/en/shortcodes/{name}.json")
        codes[name] = {_plain(k): [v] if isinstance(v, str) else v for k, v in table.items()}
    vendors = {vendor: _Icons(raw_dir / package) for vendor, package in VENDORS.items()}
    out = []
    entries = [e for e in _json(raw_dir / EMOJIBASE, list) if e.get("group") is not None]
    for entry in sorted(entries, key=lambda e: e["order"]):
        group, key = group_names[entry["group"]], _plain(entry["hexcode"])
        if group not in groups:
            continue
        # Emojibase's tags are CLDR's, but also there where CLDR has none; emojilib opens with the name itself
        keywords = [cldr.get(key) or entry.get("tags", []), emojilib.get(key, [])[1:]]
        short_codes = [code for name in SHORT_CODES for code in codes[name].get(key, [])]
        drawings = {v: svg for v, icons in vendors.items() if (svg := icons.svg(key)) is not None}
        if drawings:
            texts = wordings(entry["label"], keywords, short_codes)
            out.append(Emoji(key, entry["label"], groups.index(group), family_of(key), texts, drawings))
    return out


def wordings(name: str, keyword_lists: Iterable[list[str]], short_codes: Iterable[str]) -> list[str]:
    """The name, each list of keywords as one text, each short code in words; no two with the same words."""
    texts = [name, *(", ".join(keywords).replace("_", " ") for keywords in keyword_lists)]
    texts += [re.sub(r"[_-]+", " ", code).strip() for code in short_codes]
    first: dict[frozenset[str], str] = {}
    for text in texts:
        first.setdefault(frozenset(re.findall(r"\w+", text.casefold())), text)
    return [text for words, text in first.items() if words]


def family_of(key: str) -> str:
    """What all variants of one base share: no skin tone, gender, direction. `key`: as `1F469-1F3FD-200D-1F680`."""
    parts = [p for p in _plain(key).split("-") if p not in SKIN_TONES]
    first, *rest = "-".join(parts).split(f"-{ZWJ}-")
    joined = [first, *(p for p in rest if p not in SIGNS)]
    if len(joined) > 1 and all(p in PEOPLE for p in joined):
        return FAMILY
    people = [("1F9D1" if p in PEOPLE else p) if len(joined) > 1 else p for p in joined]
    base = f"-{ZWJ}-".join(people)
    return ALIASES.get(base, base)


class _Icons:
    """One vendor's package: `chars.json` names the icon of a code, `icons.json` holds its paths."""

    def __init__(self, folder: Path) -> None:
        icons = _json(folder / "icons.json")
        self._icons, self._aliases = icons["icons"], icons.get("aliases", {})
        self._size = {"width": icons.get("width", 16), "height": icons.get("height", 16)}
        self._names = {_plain(k): v for k, v in _json(folder / "chars.json").items()}

    def svg(self, key: str) -> str | None:
        """A square SVG with the icon in its middle; None if the vendor has none."""
        name = self._names.get(key)
        flip = False
        while name in self._aliases:
            flip ^= bool(self._aliases[name].get("hFlip", False))
            name = self._aliases[name]["parent"]
        if name not in self._icons:
            return None
        icon = self._size | self._icons[name]
        width, height = icon["width"], icon["height"]
        side = max(width, height)
        box = f"{(width - side) / 2} {(height - side) / 2} {side} {side}"
        body = f'<g transform="translate({width} 0) scale(-1 1)">{icon["body"]}</g>' if flip else icon["body"]
        return (
            '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
            f'viewBox="{box}">{body}</svg>'
        )


def _json(path: Path, kind: type = dict) -> Any:
    return told_json(path, "JSON", "run `mmcontrast data fetch emoji` again", kind)


def _plain(key: str) -> str:
    """Code points in upper case without variation selectors, which packages use each in their own way."""
    return "-".join(p for p in key.upper().split("-") if p != VARIATION)


def _id_of_text(text: str) -> str:
    return _plain("-".join(f"{ord(c):04X}" for c in text))
