"""Which scores differ between two versions of the results, paired by seed; and the last results of every suite."""

import io
import shutil
import subprocess
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import polars as pl

from mmcontrast.config.metrics import measure
from mmcontrast.data.files import read_json, replacing, sha256_of, write_json
from mmcontrast.data.parquet import read_parquet
from mmcontrast.errors import MMContrastError
from mmcontrast.evaluation.statistics import Difference, paired_difference
from mmcontrast.paths import Layout
from mmcontrast.report.outputs import reproduce
from mmcontrast.report.results import CELL
from mmcontrast.report.tables.formats import Block, Column, Row, Table, Value
from mmcontrast.report.text.wording import LEVEL_NAME, count, metric_title

MOST = 20
INDEX = "index.json"
WORKSPACE, PREVIOUS = "workspace", "previous"
SCORE = (*CELL, "protocol", "metric")
# below this two means are one number in any table
SAME = 1e-9


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


class CompareError(MMContrastError):
    """The results of a version cannot be had."""


class Moved(NamedTuple):
    """A score in both versions, as stored: means, and the paired difference."""

    key: tuple[str, ...]
    before: float
    after: float
    difference: Difference


class Comparison(NamedTuple):
    """Scores that moved, the number of those that did not, and cells that only one version has."""

    moved: list[Moved]
    unmoved: int
    only_before: list[str]
    only_after: list[str]


def results_of(revision: str, root: Path, layout: Layout | None = None) -> pl.DataFrame:
    """The results of a suite. Raises CompareError, which says what there is. `revision`: `workspace`; `previous`, the
    last that were others; or a git revision: of the default suite from DVC's cache or remote, else of those kept here.
    """
    layout = layout or Layout()
    now = root / layout.report("results.parquet")
    if revision == WORKSPACE:
        if not now.exists():
            raise CompareError(f"{now.relative_to(root)}: not here; run `{reproduce(layout)}` first")
        return _read(now, f"remove it, and run `{reproduce(layout)}`")
    if revision != PREVIOUS and layout.is_default:
        return pl.read_parquet(io.BytesIO(_from_dvc(revision, root, layout)))
    kept = kept_results(layout, root)
    if revision == PREVIOUS:
        ours = sha256_of(now) if now.exists() else ""
        found = [entry for entry in kept if entry["sha256"] != ours]
    else:
        wanted = commit(root, revision)
        found = [entry for entry in kept if wanted is not None and entry["commit"] == wanted]
    if not found:
        known = ", ".join(f"{(e['commit'] or 'no commit')[:10]} ({e['time']})" for e in kept) or "none"
        raise CompareError(f"{revision}: no results of this suite are kept for it; those kept here: {known}")
    return _read(root / layout.kept / f"{found[-1]['sha256']}.parquet", "remove it, and compare with others")


def _read(path: Path, remedy: str) -> pl.DataFrame:
    return pl.DataFrame(pl.from_arrow(read_parquet(path, remedy)))


def _from_dvc(revision: str, root: Path, layout: Layout) -> bytes:
    from dvc.api import read
    from dvc.exceptions import DvcException
    from dvc.scm import SCMError

    file = layout.report("results.parquet")
    try:
        content: bytes = read(file, repo=str(root), rev=revision, mode="rb")
    except (DvcException, SCMError, OSError) as e:
        raise CompareError(
            f"{revision}: {file} cannot be had ({e}); name a git revision whose dvc.lock holds it, after `dvc fetch "
            f"--all-commits` if it is not in the cache, `{PREVIOUS}`, or `{WORKSPACE}`"
        ) from None
    return content


def compare(before: pl.DataFrame, after: pl.DataFrame) -> Comparison:
    """Every test score that both versions have, after minus before, by the seeds that both have."""
    one, two = _scores(before), _scores(after)
    moved, unmoved = [], 0
    for key in sorted(set(one) & set(two)):
        seeds = sorted(set(one[key]) & set(two[key]))
        if not seeds:
            continue
        if all(abs(one[key][s] - two[key][s]) <= SAME for s in seeds):
            unmoved += 1
            continue
        was, now = (sum(scores[s] for s in seeds) / len(seeds) for scores in (one[key], two[key]))
        moved.append(Moved(key, was, now, paired_difference(two[key], one[key])))
    cells_one, cells_two = ({"/".join(key[:3]) for key in scores} for scores in (one, two))
    return Comparison(moved, unmoved, sorted(cells_one - cells_two), sorted(cells_two - cells_one))


def _scores(results: pl.DataFrame) -> dict[tuple[str, ...], dict[int, float]]:
    """(dataset, method, variant, protocol, metric) -> seed -> test score; a cell of two experiments counts once."""
    out: dict[tuple[str, ...], dict[int, float]] = {}
    for *key, seed, value in results.filter(split="test").select(*SCORE, "seed", "value").iter_rows():
        out.setdefault(tuple(key), {})[seed] = value
    return out


def comparison_table(found: Comparison, before: str, after: str) -> Table:
    """The comparison as a table, scores as shown, the largest differences first."""
    columns = [
        Column("before", before, "score"),
        Column("after", after, "score"),
        Column("difference", "Difference", "difference"),
        Column("p", "p (paired t-test)", "p"),
        Column("seeds", "Seeds", "count"),
    ]
    blocks = []
    for protocol in dict.fromkeys(m.key[3] for m in found.moved):
        of_it = [m for m in found.moved if m.key[3] == protocol]
        of_it.sort(key=lambda m: abs(measure(m.key[4]).factor * m.difference.mean), reverse=True)
        in_percent = " (%)" if all(measure(m.key[4]).percent for m in of_it) else ""
        blocks.append(Block(f"Test scores, protocol `{protocol}`{in_percent}", columns, [_row(m) for m in of_it]))
    notes = [
        f"{count(len(found.moved), 'score')} moved, {found.unmoved} did not.",
        f"Difference: after minus before, by seed, with its {LEVEL_NAME} t interval over seeds; p is not "
        "corrected for the number of rows.",
    ]
    for what, cells in ((f"Only in {before}", found.only_before), (f"Only in {after}", found.only_after)):
        if cells:
            notes.append(f"{what}: {', '.join(cells)}.")
    return Table("compare", f"{before} → {after}", "", blocks, [], notes)


def as_rows(found: Comparison) -> list[dict[str, Any]]:
    """The comparison as plain objects: a score that moved, as stored, or a cell that only one version has."""
    rows: list[dict[str, Any]] = []
    for m in found.moved:
        d = m.difference
        rows.append(
            {"state": "moved", "cell": "/".join(m.key[:3]), "protocol": m.key[3], "metric": m.key[4]}
            | {"before": m.before, "after": m.after, "difference": d.mean, "low": d.low, "high": d.high}
            | {"p": d.p, "seeds": d.n}
        )
    for state, cells in (("only before", found.only_before), ("only after", found.only_after)):
        rows += [{"state": state, "cell": cell} for cell in cells]
    return rows


def _row(m: Moved) -> Row:
    of = measure(m.key[4])
    values = {
        "before": Value(of.factor * m.before, digits=of.decimals),
        "after": Value(of.factor * m.after, digits=of.decimals),
        "difference": Value.of(m.difference, of),
        "p": Value(m.difference.p),
        "seeds": Value(float(m.difference.n)),
    }
    return Row(f"{'/'.join(m.key[:3])}: {metric_title(m.key[4])}", values)
