# Table of contents. What is run comes from params/ by way of the plan (mmcontrast.pipeline.plan), where it lands from
# mmcontrast.paths. Every rule depends on its plan and its data, and on nothing else; its command reads the same plan.
import os
import sys
from pathlib import Path

from snakemake.utils import min_version

min_version("9.27")

# this checkout's own package, in this process and in its jobs, also where another one is installed
if Path("src/mmcontrast").is_dir():
    sys.path.insert(0, os.path.abspath("src"))
    given = os.environ.get("PYTHONPATH")
    os.environ.update(PYTHONPATH=os.pathsep.join(filter(None, [sys.path[0], given])))


report: "workflow/report/workflow.rst"


include: "workflow/rules/common.smk"


wildcard_constraints:
    dataset="[a-z0-9_]+",
    cell="[a-z0-9_]+/[a-z0-9_]+/[a-z0-9_]+",


include: "workflow/rules/data.smk"
include: "workflow/rules/train.smk"
include: "workflow/rules/evaluate.smk"
include: "workflow/rules/report.smk"


# where Snakemake runs, also with a cluster: what needs the network, and what takes seconds
localrules:
    fetch,
    results,
    page,
    dvc,


rule reproduce:
    default_target: True
    input:
        get_final_output(),


# With a limit of jobs per second Snakemake comes to look at all jobs once more each second for every job that has ended: half
# a core at the end of a run of 300. Its default of 100 a second is none that anybody asked for.
onstart:
    limit = workflow.scheduling_settings.max_jobs_per_timespan
    if limit and (limit.max_jobs, limit.timespan) == (100, 1):
        workflow.scheduler.job_rate_limiter = None


# a cell failed: the others are reported all the same, and the exit status stays what it is
onerror:
    shell("python -m mmcontrast report partial{LAYOUT.select} || true")
