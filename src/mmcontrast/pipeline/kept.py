"""The last results of every suite, so that a change can be compared with what was there before it."""

from __future__ import annotations

import shutil
import subprocess
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from mmcontrast.data.files import read_json, replacing, sha256_of, write_json
from mmcontrast.paths import Layout

MOST = 20
INDEX = "index.json"


def keep_results(layout: Layout, root: Path) -> None:
    """Lay a copy of the suite's results aside, unless they are those that were kept last; the oldest goes."""
    file, folder = root / layout.report("results.parquet"), root / layout.kept
    kept = kept_results(layout, root)
    entry = {"sha256": sha256_of(file), "commit": commit(root, "HEAD"), "time": datetime.now(UTC).isoformat()[:19]}
    if kept and kept[-1]["sha256"] == entry["sha256"]:
        kept[-1] = entry
    else:
        kept.append(entry)
        with replacing(folder / f"{entry['sha256']}.parquet") as temporary:
            shutil.copyfile(file, temporary)
    for old in kept[:-MOST]:
        if old["sha256"] not in {e["sha256"] for e in kept[-MOST:]}:
            (folder / f"{old['sha256']}.parquet").unlink(missing_ok=True)
    write_json(folder / INDEX, kept[-MOST:])


def kept_results(layout: Layout, root: Path) -> list[dict[str, Any]]:
    """sha256, git commit (or null) and time of what was kept, the newest last; nothing where their list is damaged."""
    try:
        listed = read_json(root / layout.kept / INDEX)
        found = [{key: entry[key] for key in ("sha256", "commit", "time")} for entry in listed]
    except (FileNotFoundError, ValueError, LookupError, TypeError):
        return []
    return [entry for entry in found if (root / layout.kept / f"{entry['sha256']}.parquet").exists()]


def commit(root: Path, revision: str) -> str | None:
    """The full name of a git commit; None where there is none, or no git."""
    command = ["git", "rev-parse", "--verify", "--quiet", f"{revision}^{{commit}}"]
    try:
        done = subprocess.run(command, cwd=root, text=True, capture_output=True, check=False)
    except OSError:
        return None
    return done.stdout.strip() or None
