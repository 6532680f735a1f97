# Table of contents. What is run comes from params/ (see mmcontrast.config), where it lands from mmcontrast.paths.
import os
from pathlib import Path

from snakemake.exceptions import WorkflowError
from snakemake.utils import min_version

from mmcontrast import paths
from mmcontrast.errors import MMContrastError
from mmcontrast.pipeline.selection import selection_from_config
from mmcontrast.sources import sources

min_version("9.27")

# Jobs keep the memory that a step frees for the next step, where glibc would give it back: 4 to 8 % less CPU time on
# images, the same bits and the same peak.
os.environ.setdefault("MALLOC_MMAP_THRESHOLD_", str(32 * 1024**2))
os.environ.setdefault("MALLOC_TRIM_THRESHOLD_", str(2 * 1024**3))


report: "workflow/report/workflow.rst"


try:
    GRID, LAYOUT, SELECT = selection_from_config(config)
    CELLS = GRID.cells
except MMContrastError as e:
    raise WorkflowError(str(e)) from None


wildcard_constraints:
    dataset="[a-z0-9_]+",
    method="[a-z0-9_]+",
    variant="[a-z0-9_]+",
    cell="[a-z0-9_]+/[a-z0-9_]+/[a-z0-9_]+",


include: "workflow/rules/data.smk"
include: "workflow/rules/train.smk"
include: "workflow/rules/evaluate.smk"
include: "workflow/rules/report.smk"


rule reproduce:
    default_target: True
    input:
        LAYOUT.report("index.html"),


# A limit on jobs a second, which Snakemake has by default, wakes its scheduler again for every time it woke, and each
# time it looks at every input of all that is ready: 5 to 7 CPU minutes of a default run. Cores limit what runs on this
# machine; what is sent to a cluster keeps its limit. No option takes it away, and the scheduler is made after this file
# has been read.
onstart:
    if workflow.local_exec:
        workflow.scheduler.job_rate_limiter = None


# a cell failed: the others are reported all the same, and the exit status stays what it is
onerror:
    shell("python -m mmcontrast report partial{SELECT} || true")


if LAYOUT.is_default:

    onsuccess:
        shell("python -m mmcontrast sync dvc")
