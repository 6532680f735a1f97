# Every table and figure is a view of one results table, and each experiment has its part of it as a file of its own.


rule results:
    input:
        plan=LAYOUT.report_plan("results"),
        intervals=[LAYOUT.intervals(cell) for cell in PLAN.cells],
        shown=PLAN.shown,
    output:
        results=LAYOUT.report("results.parquet"),
        intervals=LAYOUT.report("intervals.parquet"),
        metrics=LAYOUT.report("metrics.json"),
        scores=LAYOUT.report("plots/scores.csv"),
        curves=LAYOUT.report("plots/curves.csv"),
        evidence=[LAYOUT.evidence(part) for part in [*PLAN.experiments, "page"]],
    log:
        LAYOUT.log("report", "results"),
    conda:
        "../envs/mmcontrast.yaml"
    params:
        select=LAYOUT.select,
    shell:
        "python -m mmcontrast report results{params.select} > {log} 2>&1"


for experiment, title in PLAN.experiments.items():

    rule:
        name:
            f"experiment_{experiment}"
        input:
            plan=LAYOUT.report_plan(experiment),
            evidence=LAYOUT.evidence(experiment),
        output:
            table=report(
                LAYOUT.table(experiment, "md"),
                caption="../report/experiment.rst",
                category=title,
            ),
            figures=report(
                directory(LAYOUT.figures(experiment)),
                patterns=["{name}.png"],
                caption="../report/experiment.rst",
                category=title,
            ),
        log:
            LAYOUT.log("report", experiment),
        conda:
            "../envs/mmcontrast.yaml"
        params:
            experiment=experiment,
            select=LAYOUT.select,
        shell:
            "python -m mmcontrast report {params.experiment}{params.select} > {log} 2>&1"


rule page:
    input:
        plan=LAYOUT.report_plan("page"),
        results=LAYOUT.report("results.parquet"),
        intervals=LAYOUT.report("intervals.parquet"),
        evidence=LAYOUT.evidence("page"),
        tables=[LAYOUT.table(e, "md") for e in PLAN.experiments],
        drawn=[LAYOUT.report_plan(e) for e in PLAN.experiments],
        shown=[LAYOUT.evidence(e) for e in PLAN.experiments],
    output:
        report(
            LAYOUT.report("index.html"),
            caption="../report/page.rst",
            category="The front page of the report",
        ),
        pages=directory(LAYOUT.report("pages")),
        cards=directory(LAYOUT.report("models")),
    log:
        LAYOUT.log("report", "page"),
    conda:
        "../envs/mmcontrast.yaml"
    params:
        select=LAYOUT.select,
    shell:
        "python -m mmcontrast report page{params.select} > {log} 2>&1"


# A target and not a hook, so that what a kill left undone is made good by the next run, where all else is up to date.
rule dvc:
    input:
        LAYOUT.report("index.html"),
    output:
        paths.DVC_MARK,
    log:
        LAYOUT.log("dvc"),
    conda:
        "../envs/mmcontrast.yaml"
    shell:
        "python -m mmcontrast sync dvc > {log} 2>&1"
