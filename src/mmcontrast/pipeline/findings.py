"""Findings of `mmcontrast verify`: what is said of one artifact, of all of them, and what is done about it."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field
from itertools import groupby
from pathlib import Path
from typing import Any, Literal

from mmcontrast.errors import MMContrastError


@dataclass(frozen=True)
class Finding:
    """The verdict on one artifact.

    Attributes:
        kind: what was asked, for all artifacts of a kind. name: usually its path.
        spoiled: paths without which the next run makes it again.
        largest: the largest difference that was accepted, where numbers were computed again.
    """

    kind: str
    name: str
    state: Literal["right", "wrong", "missing"]
    reason: str = ""
    spoiled: list[str] = field(default_factory=list)
    largest: float | None = None


def judged(
    kind: str, root: Path, file: str, check: Callable[[Path], object], spoiled: list[str] | None = None
) -> Finding:
    """What a check that raises makes of a file or folder, and the largest difference that it may return.

    No damage ends the examination.
    """
    try:
        if not (root / file).exists():
            return Finding(kind, file, "missing")
        found = check(root / file)
    except Exception as e:
        told = str(e) if isinstance(e, MMContrastError) else f"{file}: {type(e).__name__}: {e}"
        return Finding(kind, file, "wrong", told, [file] if spoiled is None else spoiled)
    return Finding(kind, file, "right", largest=found if isinstance(found, float) else None)


def told(findings: Iterable[Finding], say: Callable[[str], None]) -> list[Finding]:
    """Say what is found as it is found, a line for each fault and one for each kind; all findings."""
    found: list[Finding] = []
    for kind, group in groupby(findings, key=lambda finding: finding.kind):
        of_kind = []
        for finding in group:
            of_kind.append(finding)
            if finding.state == "wrong":
                say(f"  {finding.reason}")
        absent = sum(f.state == "missing" for f in of_kind)
        wrong = sum(f.state == "wrong" for f in of_kind)
        largest = max((f.largest for f in of_kind if f.largest is not None), default=None)
        accepted = "" if largest is None else f" (largest difference {largest:.1g})"
        not_here = f", {absent} not here" if absent else ""
        say(f"{kind}: {len(of_kind) - absent} checked{not_here}, {wrong} wrong{accepted}")
        found += of_kind
    return found


def repair(findings: list[Finding], root: Path, say: Callable[[str], None]) -> None:
    """Remove what is wrong, so that the next run makes it again.

    Nothing is made again for its own sake, only for what is made from it: so a cell's scores and the page go with it.
    """
    spoiled = {path for f in findings if f.state == "wrong" for path in f.spoiled}
    for path in list(spoiled):
        parts = Path(path).parts
        if "runs" in parts:
            at = parts.index("runs")
            cell = Path(*parts[: at + 4])
            spoiled |= {str(f.relative_to(root)) for f in (root / cell).glob("*.parquet")}
            spoiled.add(str(Path(*parts[:at], "reports", "index.html")))
        elif "reports" in parts:
            spoiled.add(str(Path(*parts[: parts.index("reports")], "reports", "index.html")))
    for path in sorted(spoiled):
        target = root / path
        if not target.exists():
            continue
        if target.is_dir():
            shutil.rmtree(target)
        else:
            target.unlink(missing_ok=True)
        say(f"removed {path}")


def as_json(findings: list[Finding]) -> dict[str, Any]:
    """How many there are of each state, and all but the right ones."""
    states = [f.state for f in findings]
    counts = {state: states.count(state) for state in ("right", "wrong", "missing")}
    return counts | {"findings": [asdict(f) for f in findings if f.state != "right"]}
