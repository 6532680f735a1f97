# Every table and figure is a view of one results table.
from mmcontrast.report.outputs import experiment_outputs


rule results:
    input:
        code=sources("mmcontrast.report.results"),
        metrics=[LAYOUT.metrics(cell) for cell in CELLS],
        curves=[LAYOUT.curves(cell) for cell in CELLS],
        intervals=[LAYOUT.intervals(cell) for cell in CELLS],
        experiments=[
            GRID.files.where("experiments", e) for e in GRID.active_experiments
        ],
    output:
        results=LAYOUT.report("results.parquet"),
        intervals=LAYOUT.report("intervals.parquet"),
        metrics=LAYOUT.report("metrics.json"),
        scores=LAYOUT.report("plots/scores.csv"),
        curves=LAYOUT.report("plots/curves.csv"),
    log:
        LAYOUT.log("report", "results"),
    shell:
        "python -m mmcontrast report results{SELECT} > {log} 2>&1"


def experiment_inputs(experiment):
    cells = [
        f"{d}/{ref.method}/{ref.variant}"
        for d, ref in GRID.experiment_cells(experiment)
    ]
    cells = list(dict.fromkeys(cells))
    files = ["history.parquet", "embeddings.parquet"]
    datasets = sorted({c.split("/")[0] for c in cells})
    return (
        [LAYOUT.report("results.parquet"), LAYOUT.report("intervals.parquet")]
        + [LAYOUT.curves(c) for c in cells]
        + [LAYOUT.stage(c, CELLS[c].last_stage, f) for c in cells for f in files]
        + [LAYOUT.metrics(c) for c in cells]
        + [paths.datasheet(d) for d in datasets]
        + [
            paths.prepared(d, "test")
            for d in datasets
            if GRID.datasets[d].retrieval is not None
        ]
        + [
            LAYOUT.stage(c, stage, "cost.json")
            for c in cells
            for stage in CELLS[c].stages
            if "cost" in (GRID.experiments[experiment].figures or [])
        ]
        + [GRID.files.where("experiments", experiment)]
    )


for experiment in GRID.active_experiments:

    rule:
        name:
            f"experiment_{experiment}"
        input:
            code=sources("mmcontrast.report.experiment"),
            data=experiment_inputs(experiment),
        output:
            report(
                experiment_outputs(GRID, LAYOUT, experiment),
                caption="../report/experiment.rst",
                category=GRID.experiments[experiment].title,
            ),
        log:
            LAYOUT.log("report", experiment),
        params:
            experiment=experiment,
        shell:
            "python -m mmcontrast report {params.experiment}{SELECT} > {log} 2>&1"


rule page:
    input:
        code=sources("mmcontrast.report.page"),
        templates=sorted(map(str, Path("src/mmcontrast/report/templates").glob("*"))),
        results=rules.results.output,
        experiments=[
            f
            for e in GRID.active_experiments
            for f in experiment_outputs(GRID, LAYOUT, e)
        ],
        costs=[
            LAYOUT.stage(cell.name, stage, "cost.json")
            for cell in CELLS.values()
            for stage in cell.stages
        ],
        datasheets=[
            paths.datasheet(d) for d in sorted({c.dataset for c in CELLS.values()})
        ],
        papers=sorted(map(str, Path("params/papers").glob("*.yaml"))),
        # what is not run is on the page too, with the reason
        listed=sorted(map(str, Path("params/experiments").rglob("*.yaml"))),
        suite=f"params/suites/{GRID.suite_name}.yaml",
    output:
        report(
            LAYOUT.report("index.html"),
            caption="../report/page.rst",
            category="The report as one page",
        ),
        cards=directory(LAYOUT.report("models")),
    log:
        LAYOUT.log("report", "page"),
    shell:
        "python -m mmcontrast report page{SELECT} > {log} 2>&1"
