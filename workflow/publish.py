"""Publish a finished report: copy its tables and figures into docs/results/, and show of them in README.md.

python workflow/publish.py [--suite NAME]

A test compares what README.md shows with docs/results/.
"""

from __future__ import annotations

import argparse
import re
import shutil
import sys
from pathlib import Path

from mmcontrast.config import Grid
from mmcontrast.data.files import replacing, write_text
from mmcontrast.errors import DataError, MMContrastError
from mmcontrast.paths import Layout
from mmcontrast.pipeline.workflow import selection
from mmcontrast.report.outputs import experiment_outputs, reproduce

README = Path("README.md")
SHOWN_SUFFIXES = (".md", ".csv", ".png")
BLOCK = re.compile(r"(<!-- table: (?P<file>\S+)#(?P<heading>[^>]+?) -->\n)(?P<body>.*?)(<!-- end -->)", re.DOTALL)


def publish(grid: Grid, layout: Layout) -> list[str]:
    """Copy every table (md, csv), every figure (png) and the results table; then refill the README's blocks.

    The folder is left with these files alone: what the selection no longer makes goes.

    Returns:
        The paths written.

    Raises:
        DataError: a file of the report is missing.
    """
    folder = Path("docs/results") / (Path(layout.prefix).name or "default")
    folders = [Path(f) for e in grid.active_experiments for f in experiment_outputs(layout, e)]
    shown = [file for f in folders for file in sorted(f.glob("*")) if file.suffix in SHOWN_SUFFIXES]
    written = []
    for source in [*shown, Path(layout.report("results.parquet")), *(f for f in folders if not f.is_dir())]:
        if not source.is_file():
            raise DataError(f"{source}: not there; run `{reproduce(layout)}` first")
        target = folder / source.name
        with replacing(target) as temporary:
            shutil.copyfile(source, temporary)
        written.append(str(target))
    for old in set(folder.iterdir()) - {Path(path) for path in written}:
        old.unlink()
    text = README.read_text(encoding="utf-8")
    write_text(README, filled(text, README.parent))
    return [*written, str(README)]


def section(markdown: str, heading: str) -> str:
    """The body of the section with that heading, without blank lines around it.

    Raises:
        DataError: there is no such section.
    """
    lines = markdown.splitlines()
    starts = [i for i, line in enumerate(lines) if line.lstrip("#").strip() == heading and line.startswith("#")]
    if not starts:
        known = [line.lstrip("#").strip() for line in lines if line.startswith("#")]
        raise DataError(f"no section '{heading}'; there are {known}")
    rest = lines[starts[0] + 1 :]
    end = next((i for i, line in enumerate(rest) if line.startswith("#")), len(rest))
    return "\n".join(rest[:end]).strip()


def filled(readme: str, root: Path) -> str:
    """The README with each `<!-- table: FILE#HEADING -->` block refilled from the file's section of that heading."""

    def refill(match: re.Match[str]) -> str:
        source = root / match["file"]
        if not source.is_file():
            raise DataError(f"README.md shows {match['file']}, which is not there; publish that selection first")
        body = section(source.read_text(encoding="utf-8"), match["heading"])
        return f"{match[1]}\n{body}\n\n{match[5]}"

    return BLOCK.sub(refill, readme)


def main() -> str | None:
    """Publish a suite, and say what was written; an error is one message."""
    parser = argparse.ArgumentParser(description="Publish a finished report, to docs/results/ and README.md.")
    parser.add_argument("--suite", default="default", help="name of a suite in params/suites/ (default: default)")
    try:
        for file in publish(*selection(parser.parse_args().suite)):
            print(f"{file}: written")
    except (MMContrastError, OSError) as e:
        return f"error: {e}"
    return None


if __name__ == "__main__":
    sys.exit(main())
