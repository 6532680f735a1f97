# What is run: the plan of the suite that --config names. The process that schedules writes it; a job on a cluster, which
# reads this file again, takes it as it is, whatever has become of params/ since.
from snakemake.exceptions import WorkflowError

from mmcontrast import paths
from mmcontrast.errors import MMContrastError, disk_problem, nearest
from mmcontrast.pipeline.workflow import planned_selection, refuse_unknown_profile
from mmcontrast.training.gpus import visible

# Jobs keep the memory that a step frees for the next step, where glibc would give it back: 4 to 8 % less CPU time on
# images, the same bits and the same peak.
os.environ.setdefault("MALLOC_MMAP_THRESHOLD_", str(32 * 1024**2))
os.environ.setdefault("MALLOC_TRIM_THRESHOLD_", str(2 * 1024**3))

try:
    refuse_unknown_profile(sys.argv[1:], Path(workflow.basedir))
    PLAN, LAYOUT = planned_selection(config, write=workflow.is_main_process)
except MMContrastError as e:
    raise WorkflowError(str(e)) from None
except OSError as e:
    raise WorkflowError(disk_problem(e) or str(e)) from None

# without a limit, jobs would share the GPUs of this machine; where a cluster has them, it knows better
if (
    any(cell.gpus for cell in PLAN.cells.values())
    and workflow.global_resources["_nodes"].value is None
):
    if "gpu" not in workflow.global_resources and (found := len(visible())):
        workflow.register_resource("gpu", found)


def planned(wc):
    """The cell that a job is of.

    Raises:
        WorkflowError: the plan has no such cell; names the nearest.
    """
    try:
        return PLAN.cell(wc.cell)
    except MMContrastError as e:
        raise WorkflowError(str(e)) from None


def raw_input(wc):
    """A generated dataset has nothing to fetch.

    Raises:
        WorkflowError: there is no such dataset; names the nearest.
    """
    if not Path(paths.data_plan(wc.dataset, "prepare")).exists():
        known = [*PLAN.fetched, *PLAN.generated]
        raise WorkflowError(
            f"{wc.dataset}: no such dataset in this suite; {nearest(wc.dataset, known)}"
        )
    return [paths.raw_manifest(wc.dataset)] if wc.dataset in PLAN.fetched else []


def base_input(wc):
    """Features are made of another dataset's prepared files."""
    base = PLAN.features.get(wc.dataset)
    return [paths.prepared(base, split) for split in paths.SPLITS] if base else []


def cell_data(wc):
    return planned(wc).data


def pretrained(wc):
    """What finetuning starts from, where the cell is pretrained."""
    stages = planned(wc).stages
    models = LAYOUT.stage(wc.cell, "pretrain", f"models/{paths.CHECKSUMS}")
    return [models] if "pretrain" in stages else []


def scored(wc):
    """What the cell's last stage leaves to be scored."""
    return LAYOUT.run(wc.cell, planned(wc).scored)


def get_final_output():
    """The report, and, of the default suite, DVC's records of all that led to it."""
    page = [LAYOUT.report("index.html")]
    return page + ([paths.DVC_MARK] if LAYOUT.is_default else [])
